"""Leadership on a Lease in memory and a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from typing_extensions import override

from modelrollout.controller.leadership import Leadership, LeaseTiming, Move, Sighting, next_move, sight
from modelrollout.ports import ConflictError, LeaseRecord, TransientError

START = datetime(2026, 1, 1, tzinfo=UTC)


class World:
    """Virtual seconds; ``until`` runs the loop, moving time to the next sleeper when nothing else can go on."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        self.sleepers.append((self.seconds + seconds, future))
        await future

    def pass_by(self, seconds: float) -> None:
        self.seconds += seconds

    async def settle(self) -> None:
        for _ in range(30):
            await asyncio.sleep(0)

    async def until(self, condition: Callable[[], bool], limit: float = 300.0) -> None:
        end = self.seconds + limit
        await self.settle()
        while not condition():
            self.sleepers = [entry for entry in self.sleepers if not entry[1].done()]
            assert self.sleepers, "nothing sleeps, and the condition is not met"
            when, future = min(self.sleepers, key=lambda entry: entry[0])
            self.seconds = max(self.seconds, when)
            assert self.seconds <= end, "the condition was not met in time"
            future.set_result(None)
            await self.settle()


class Memory:
    """A Lease as the API server keeps it; ``down`` and ``lose_answers`` make it fail before or after the write."""

    def __init__(self) -> None:
        self.record: LeaseRecord | None = None
        self.version = 0
        self.calls: list[str] = []
        self.down = False
        self.lose_answers = 0

    async def read(self) -> LeaseRecord | None:
        self._enter("read")
        return self.record

    async def create(self, record: LeaseRecord) -> LeaseRecord:
        self._enter("create")
        if self.record is not None:
            raise ConflictError("exists")
        return self._store(record)

    async def update(self, record: LeaseRecord) -> LeaseRecord:
        self._enter("update")
        if self.record is None or record.version != self.record.version:
            raise ConflictError("changed")
        return self._store(record)

    def _enter(self, what: str) -> None:
        self.calls.append(what)
        if self.down:
            raise TransientError("down")

    def _store(self, record: LeaseRecord) -> LeaseRecord:
        self.version += 1
        self.record = replace(record, version=str(self.version))
        if self.lose_answers > 0:
            self.lose_answers -= 1
            raise TransientError("the answer was lost")
        return self.record


def leadership(world: World, leases: Memory, name: str, lost: list[str] | None = None) -> Leadership:
    return Leadership(leases, world, world.monotonic, name, on_lost=lambda: None if lost is None else lost.append(name))


async def cancel(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_first_process_creates_the_lease_and_leads() -> None:
    world, leases = World(), Memory()
    one = leadership(world, leases, "one")
    task = asyncio.create_task(one.run())
    await asyncio.wait_for(one.wait_until_leader(), 1)
    assert one.is_leader()
    assert leases.record is not None
    assert leases.record.holder == "one"
    assert leases.record.duration == 15.0
    assert leases.calls == ["read", "create"]
    await cancel(task)


async def test_one_put_a_renewal_and_nothing_else_while_leading() -> None:
    world, leases = World(), Memory()
    one = leadership(world, leases, "one")
    task = asyncio.create_task(one.run())
    await world.until(one.is_leader)
    leases.calls.clear()
    await world.until(lambda: world.seconds >= 60)
    assert one.is_leader()
    assert set(leases.calls) == {"update"}
    assert 29 <= len(leases.calls) <= 31
    await cancel(task)


async def test_release_lets_the_next_process_lead_at_its_next_look() -> None:
    world, leases = World(), Memory()
    one, two = leadership(world, leases, "one"), leadership(world, leases, "two")
    first = asyncio.create_task(one.run())
    await world.until(one.is_leader)
    second = asyncio.create_task(two.run())
    await world.until(lambda: world.seconds >= 20)
    assert one.is_leader()
    assert not two.is_leader()
    released_at = world.seconds
    await one.release()
    assert not one.is_leader()
    assert one.write_window() == 0
    assert leases.record is not None
    assert leases.record.holder == ""
    await world.until(two.is_leader)
    assert world.seconds - released_at <= 2.0
    assert leases.record.transitions == 1
    await world.until(first.done)
    await cancel(first, second)


async def test_release_without_the_lease_writes_nothing() -> None:
    world, leases = World(), Memory()
    await leadership(world, leases, "one").release()
    assert leases.calls == []


async def test_lease_api_down_stops_the_leader_at_the_deadline_and_reports_once() -> None:
    world, leases = World(), Memory()
    lost: list[str] = []
    one = leadership(world, leases, "one", lost)
    task = asyncio.create_task(one.run())
    await world.until(one.is_leader)
    leases.down = True
    went_down = world.seconds
    await world.until(lambda: not one.is_leader())
    assert world.seconds - went_down <= 10.0
    await world.until(task.done)
    assert lost == ["one"]


async def test_a_paused_leader_sees_at_its_first_question_that_it_may_not_write() -> None:
    """F38: nothing ran during the pause, so no task could have taken a flag down."""
    world, leases = World(), Memory()
    one = leadership(world, leases, "one")
    task = asyncio.create_task(one.run())
    await world.until(one.is_leader)
    assert one.write_window() == pytest.approx(15.0)
    world.pass_by(60.0)
    assert not one.is_leader()
    assert one.write_window() == 0.0
    await cancel(task)


async def test_a_write_window_ends_when_another_process_could_lead() -> None:
    world, leases = World(), Memory()
    one = leadership(world, leases, "one")
    task = asyncio.create_task(one.run())
    await world.until(one.is_leader)
    world.pass_by(9.9)
    assert one.write_window() == pytest.approx(5.1)
    world.pass_by(0.2)
    assert one.write_window() == 0.0
    await cancel(task)


async def test_a_renewal_whose_answer_was_lost_does_not_cost_the_lease() -> None:
    world, leases = World(), Memory()
    one = leadership(world, leases, "one")
    task = asyncio.create_task(one.run())
    await world.until(one.is_leader)
    leases.lose_answers = 1
    await world.until(lambda: world.seconds >= 30)
    assert one.is_leader()
    await cancel(task)


async def test_a_release_after_a_renewal_whose_answer_was_lost_frees_the_lease() -> None:
    world, leases = World(), Memory()
    one = leadership(world, leases, "one")
    task = asyncio.create_task(one.run())
    await world.until(one.is_leader)
    leases.lose_answers = 1
    await world.until(lambda: leases.lose_answers == 0)
    await cancel(task)
    await one.release()
    assert leases.record is not None
    assert leases.record.holder == ""


async def test_a_lease_taken_or_deleted_by_a_person_ends_leadership_at_the_next_renewal() -> None:
    for replacement in (None, LeaseRecord("a person", 15.0, version="x")):
        world, leases = World(), Memory()
        lost: list[str] = []
        one = leadership(world, leases, "one", lost)
        task = asyncio.create_task(one.run())
        await world.until(one.is_leader)
        leases.record = replacement
        await world.until(task.done, limit=4.1)
        assert lost == ["one"]
        assert leases.record == replacement


async def test_two_processes_that_create_at_once_get_one_leader() -> None:
    world, leases = World(), Memory()
    both = [leadership(world, leases, name) for name in ("one", "two")]
    tasks = [asyncio.create_task(each.run()) for each in both]
    await world.until(lambda: any(each.is_leader() for each in both))
    assert sum(each.is_leader() for each in both) == 1
    await cancel(*tasks)


class Link:
    """One process's own way to the shared Lease: it can be cut, and answers can get lost on it."""

    def __init__(self, shared: Memory) -> None:
        self.shared = shared
        self.cut = False
        self.lose_answers = 0

    async def read(self) -> LeaseRecord | None:
        self._check()
        return await self.shared.read()

    async def create(self, record: LeaseRecord) -> LeaseRecord:
        self._check()
        return self._answer(await self.shared.create(record))

    async def update(self, record: LeaseRecord) -> LeaseRecord:
        self._check()
        return self._answer(await self.shared.update(record))

    def _check(self) -> None:
        if self.cut:
            raise TransientError("cut")

    def _answer(self, record: LeaseRecord) -> LeaseRecord:
        if self.lose_answers > 0:
            self.lose_answers -= 1
            raise TransientError("the answer was lost")
        return record


class Process(World):
    """Shares the world's time; while it is stopped its sleeps do not end."""

    def __init__(self, world: World, name: str, shared: Memory) -> None:
        super().__init__()
        self.world = world
        self.stopped_until = 0.0
        self.link = Link(shared)
        self.leadership = Leadership(self.link, self, world.monotonic, name)

    @override
    async def sleep(self, seconds: float) -> None:
        end = self.world.seconds + seconds
        while self.world.seconds < max(end, self.stopped_until):
            await self.world.sleep(max(end, self.stopped_until) - self.world.seconds)


FAULTS = st.tuples(
    st.sampled_from(["cut", "mend", "lose", "stop", "release"]),
    st.integers(0, 2),
    st.floats(min_value=0.0, max_value=40.0),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(FAULTS, max_size=10))
@example([("cut", 0, 40.0), ("cut", 1, 40.0), ("mend", 0, 40.0)])
async def test_never_two_leaders(faults: list[tuple[str, int, float]]) -> None:
    world, leases = World(), Memory()
    members = [Process(world, f"p{number}", leases) for number in range(3)]
    tasks = [asyncio.create_task(each.leadership.run()) for each in members]

    def later(seconds: float) -> Callable[[], bool]:
        end = world.seconds + seconds

        def condition() -> bool:
            leaders = [each for each in members if each.leadership.is_leader()]
            assert len(leaders) <= 1, f"two leaders at {world.seconds}"
            return world.seconds >= end or all(task.done() for task in tasks)

        return condition

    await world.until(later(5.0))
    assert any(each.leadership.is_leader() for each in members)
    for fault, number, seconds in faults:
        member = members[number]
        match fault:
            case "cut":
                member.link.cut = True
            case "mend":
                member.link.cut = False
            case "lose":
                member.link.lose_answers = 1
            case "stop":
                member.stopped_until = world.seconds + seconds
            case _:
                await member.leadership.release()
        await world.until(later(seconds / 2))
    await cancel(*tasks)


@pytest.mark.parametrize(
    ("record", "age", "move"),
    [
        (None, 0.0, Move.CREATE),
        (LeaseRecord("", 15.0, version="1"), 0.0, Move.TAKE),
        (LeaseRecord("me", 15.0, version="1"), 0.0, Move.TAKE),
        (LeaseRecord("other", 15.0, version="1"), 14.9, Move.WAIT),
        (LeaseRecord("other", 15.0, version="1"), 15.0, Move.TAKE),
        (LeaseRecord("other", 60.0, version="1"), 59.0, Move.WAIT),
        (LeaseRecord("other", 0.0, version="1"), 14.9, Move.WAIT),
        (LeaseRecord("other", 0.0, version="1"), 15.0, Move.TAKE),
    ],
)
def test_next_move(record: LeaseRecord | None, age: float, move: Move) -> None:
    assert next_move(Sighting(record, 100.0), "me", 100.0 + age, 15.0) is move


def test_a_lease_that_moves_is_young_again_and_wall_times_do_not_matter() -> None:
    old = LeaseRecord("other", 15.0, renewed_at=START - timedelta(days=1), version="1")
    seen = sight(None, old, 100.0)
    assert sight(seen, old, 110.0).since == 100.0
    assert sight(seen, replace(old, version="2"), 110.0).since == 110.0


@pytest.mark.parametrize("timing", [(10.0, 10.0, 2.0), (15.0, 10.0, 5.0), (15.0, 10.0, 0.0)])
def test_timing_that_cannot_be_safe_is_refused(timing: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="lease timing"):
        LeaseTiming(*timing)
