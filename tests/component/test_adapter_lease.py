"""The lease on a real API server: one leader at a time, whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

import pytest

from modelrollout.adapters.apiserver import ApiServer as Connection
from modelrollout.adapters.clock import SystemClock
from modelrollout.adapters.lease import KubernetesLeases
from modelrollout.adapters.login import Login
from modelrollout.controller.leadership import Leadership, LeaseTiming
from modelrollout.ports import ConflictError, LeaseRecord, TransientError
from tests.component.apiserver import ApiServer

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
# The Lease holds whole seconds. Between a leader's own end and the next one's beginning there are some two seconds: a
# busy machine may keep the test from looking for so long.
FAST = LeaseTiming(duration=4.0, renew_deadline=2.0, retry_period=0.1)


class Calls:
    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str]] = []

    def __call__(self, verb: str, kind: str, code: str) -> None:
        self.seen.append((verb, kind, code))


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture
async def connection(api: ApiServer, calls: Calls) -> AsyncIterator[Connection]:
    connection = Connection(Login(api.kubeconfig), observe=calls)
    yield connection
    await connection.close()


@pytest.fixture
def leases(connection: Connection, namespace: str) -> KubernetesLeases:
    return KubernetesLeases(connection, namespace, "modelrollout")


async def until(condition: Callable[[], bool], seconds: float = 90.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - is_leader is the clock's answer, nothing announces it
            await asyncio.sleep(0.005)


async def test_a_lease_is_read_as_it_was_written(leases: KubernetesLeases) -> None:
    assert await leases.read() is None
    wanted = LeaseRecord("one", 15.0, acquired_at=NOW, renewed_at=NOW, transitions=3)
    made = await leases.create(wanted)
    assert made == await leases.read()
    assert LeaseRecord(**{**vars(made), "version": ""}) == wanted


async def test_only_the_version_that_was_read_can_be_replaced(leases: KubernetesLeases) -> None:
    first = await leases.create(LeaseRecord("one", 15.0))
    with pytest.raises(ConflictError):
        await leases.create(LeaseRecord("two", 15.0))
    second = await leases.update(LeaseRecord("one", 15.0, renewed_at=NOW, version=first.version))
    with pytest.raises(ConflictError):
        await leases.update(LeaseRecord("two", 15.0, version=first.version))
    assert await leases.read() == second
    with pytest.raises(ValueError, match="version"):
        await leases.update(LeaseRecord("two", 15.0))


async def test_a_deleted_lease_is_not_revived_by_a_renewal(
    api: ApiServer, namespace: str, leases: KubernetesLeases
) -> None:
    first = await leases.create(LeaseRecord("one", 15.0))
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/modelrollout"
    assert api.request("DELETE", path).code == 200
    with pytest.raises(ConflictError):
        await leases.update(LeaseRecord("one", 15.0, version=first.version))
    assert await leases.read() is None


async def test_a_lease_of_another_program_is_understood(
    api: ApiServer, namespace: str, leases: KubernetesLeases
) -> None:
    bare = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "modelrollout"}}
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    assert api.request("POST", path, bare).code == 201
    found = await leases.read()
    assert found is not None
    assert (found.holder, found.duration, found.transitions) == ("", 0.0, 0)


def process(connection: Connection, namespace: str, name: str) -> Leadership:
    clock = SystemClock()
    leases = KubernetesLeases(connection, namespace, "modelrollout")
    return Leadership(leases, clock, clock.monotonic, name, FAST)


async def test_two_contenders_release_and_takeover(connection: Connection, namespace: str, calls: Calls) -> None:
    members = {name: process(connection, namespace, name) for name in ("one", "two")}
    tasks = {name: asyncio.create_task(member.run()) for name, member in members.items()}

    def leader() -> str | None:
        leading = [name for name, member in members.items() if member.is_leader()]
        assert len(leading) <= 1, f"two leaders: {leading}"
        return leading[0] if leading else None

    led: list[str] = []

    def one_leads() -> bool:
        led.extend(found for found in [leader()] if found is not None)
        return bool(led)

    await until(one_leads)
    first = led[0]
    other = "two" if first == "one" else "one"
    await members[first].release()
    await until(lambda: leader() == other)
    # The new leader dies without a word: nobody else may lead before its lease ran out, and then someone does.
    third = process(connection, namespace, "three")
    members["three"] = third
    tasks["three"] = asyncio.create_task(third.run())
    tasks[other].cancel()
    clock = SystemClock()
    died = clock.monotonic()
    await until(lambda: leader() == "three")
    assert clock.monotonic() - died >= FAST.duration - 2 * FAST.retry_period
    assert {verb for verb, _, _ in calls.seen} == {"get", "create", "update"}
    for task in tasks.values():
        task.cancel()
    await asyncio.gather(*tasks.values(), return_exceptions=True)


class Cut:
    """A way to the Lease that can be cut."""

    def __init__(self, leases: KubernetesLeases) -> None:
        self._leases = leases
        self.cut = False

    async def read(self) -> LeaseRecord | None:
        self._check()
        return await self._leases.read()

    async def create(self, record: LeaseRecord) -> LeaseRecord:
        self._check()
        return await self._leases.create(record)

    async def update(self, record: LeaseRecord) -> LeaseRecord:
        self._check()
        return await self._leases.update(record)

    def _check(self) -> None:
        if self.cut:
            raise TransientError("cut")


async def test_a_leader_cut_off_from_the_lease_stops_before_another_starts(
    connection: Connection, namespace: str
) -> None:
    clock = SystemClock()
    link = Cut(KubernetesLeases(connection, namespace, "modelrollout"))
    lost: list[float] = []
    one = Leadership(link, clock, clock.monotonic, "one", FAST, on_lost=lambda: lost.append(clock.monotonic()))
    two = process(connection, namespace, "two")
    first = asyncio.create_task(one.run())
    await until(one.is_leader)
    second = asyncio.create_task(two.run())
    link.cut = True
    await until(lambda: not one.is_leader())
    assert not two.is_leader()
    await until(two.is_leader)
    assert not one.is_leader()
    await until(first.done)
    assert len(lost) == 1
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
