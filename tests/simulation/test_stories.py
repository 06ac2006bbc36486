"""Named stories: what users and SREs care about, and every failure that was once found, played to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from modelrollout.api.status import Phase
from modelrollout.controller.leadership import Leadership
from modelrollout.ports import ConflictError, LeaseRecord
from modelrollout.rollout.plan import ARMED, WHOLE
from tests.builders import DRIFT, ERRORS, NAME, NAMESPACE, name_of
from tests.simulation.actions import Damage
from tests.simulation.process import Process
from tests.simulation.simulation import End, Simulation
from tests.simulation.store import ApiClient, Write
from tests.simulation.virtualtime import VirtualClock, run

V1, V2, V3 = (name_of(version) for version in ("1.0.0", "2.0.0", "3.0.0"))
LONG = ((10, "60s"), (50, "180s"))


def story(tell: Callable[[Simulation], Awaitable[None]], **options: Any) -> Simulation:
    async def main() -> Simulation:
        simulation = Simulation(**options)
        async with simulation.running():
            await tell(simulation)
        return simulation

    return run(main())


async def served(run: Simulation, version: str = "1.0.0", **changes: Any) -> End:
    run.apply(version, **changes)
    return await run.settle()


@pytest.mark.parametrize("mode", ["refused", "hung", "empty", "nan"])
@pytest.mark.parametrize("after", [20, 70])
def test_an_outage_of_prometheus_neither_rolls_back_nor_promotes(mode: str, after: float) -> None:
    async def tell(run: Simulation) -> None:
        await served(run, steps=LONG)
        run.apply("2.0.0", steps=LONG)
        await run.until(run.at(Phase.PROGRESSING, step=1))
        await run.advance(after)
        weights = run.weights()
        run.metrics.become(mode)
        await run.advance(120)
        assert run.weights() == weights
        run.metrics.become("ok")
        end = await run.settle()
        assert (end.stable, end.quarantined) == (V2, ())

    story(tell)


def test_a_bad_candidate_never_gets_beyond_its_first_step() -> None:
    async def tell(run: Simulation) -> None:
        await served(run)
        run.behave("2.0.0", errors=0.2)
        end = await served(run, "2.0.0")
        assert (end.phase, end.stable, end.quarantined) == (Phase.ROLLED_BACK, V1, (V2,))

    run = story(tell)
    highest = max(dict(_weights(write)).get(V2, 0) for write in run.log if write.kind == "HTTPRoute")
    assert highest == 100_000


def test_a_bad_value_is_acted_upon_with_the_evaluation_that_sees_it() -> None:
    async def tell(run: Simulation) -> None:
        await served(run, guards=(ERRORS, DRIFT), steps=LONG)
        run.apply("2.0.0", guards=(ERRORS, DRIFT), steps=LONG)
        await run.until(run.at(Phase.PROGRESSING, step=2))
        await run.advance(33)
        began = asyncio.get_running_loop().time()
        run.behave("2.0.0", drift=0.9)
        await run.until(lambda: run.weights()[V2] == ARMED)
        assert asyncio.get_running_loop().time() - began < 5 + 0.3

    story(tell)


def test_v3_while_v2_is_at_half_takes_v2_off_in_one_write_and_starts_from_nothing() -> None:
    async def tell(run: Simulation) -> None:
        await served(run)
        run.apply("2.0.0")
        await run.until(run.at(Phase.PROGRESSING, step=3))
        count = len(run.log)
        run.apply("3.0.0")
        await run.until(lambda: len(run.log) > count)
        assert run.weights() == {V1: WHOLE - ARMED, V2: ARMED}
        assert run.store.get("Deployment", V3) is None
        end = await run.settle()
        assert (end.stable, end.quarantined) == (V3, ())

    story(tell)


@pytest.mark.parametrize("phase", [Phase.PREPARING, Phase.VERIFYING, Phase.PROGRESSING, Phase.BAKING])
def test_there_and_back_and_there_again_settles_from_every_phase(phase: Phase) -> None:
    async def tell(run: Simulation) -> None:
        await served(run)
        run.apply("2.0.0")
        await run.until(run.at(phase))
        run.apply("1.0.0")
        await run.advance(0.5)
        run.apply("2.0.0")
        end = await run.settle()
        assert (end.stable, end.quarantined) == (V2, ())

    story(tell)


def test_three_specs_in_a_second_end_with_the_last() -> None:
    async def tell(run: Simulation) -> None:
        for version in ("1.0.0", "2.0.0", "3.0.0"):
            run.apply(version)
            await run.advance(0.3)
        end = await run.settle()
        assert end.stable == V3
        assert dict(end.replicas) == {V1: 0, V2: 0, V3: 2}

    story(tell)


def test_retry_tries_again_and_only_then() -> None:
    async def tell(run: Simulation) -> None:
        await served(run)
        run.behave("2.0.0", errors=0.2)
        await served(run, "2.0.0")
        run.behave("2.0.0", errors=0.0)
        end = await run.settle()
        assert end.stable == V1
        run.command("retry/1")
        end = await run.settle()
        assert (end.stable, end.quarantined) == (V2, ())

    story(tell)


def test_a_gateway_that_refuses_is_waited_for_and_users_stay_where_they_are() -> None:
    async def tell(run: Simulation) -> None:
        await served(run)
        run.gateway.rejects = True
        run.apply("2.0.0")
        await run.advance(600)
        assert {name for name, weight in run.gateway.plane().backends if weight} == {V1}
        assert "refuses" in run.status.message
        run.gateway.mend()
        assert (await run.settle()).stable == V2

    story(tell)


def test_a_rollback_by_a_slow_gateway_loses_nobody() -> None:
    """The settle time counted from the decision, not from when the gateway had taken the route (I9)."""

    async def tell(run: Simulation) -> None:
        await served(run)
        run.behave("2.0.0", errors=0.3)
        assert (await served(run, "2.0.0")).quarantined == (V2,)

    story(tell, accept_after=3.0, program_after=3.02)


@pytest.mark.parametrize("strategy", ["Canary", "BlueGreen"])
@pytest.mark.parametrize("bad", [True, False])
def test_users_of_a_first_weight_that_the_gateway_does_not_confirm_are_guarded(strategy: str, bad: bool) -> None:
    """It carried the weight out and did not say so: no guard was judged until it did."""

    async def tell(run: Simulation) -> None:
        way = {"strategy": strategy} if strategy == "BlueGreen" else {}
        await served(run)
        run.behave("2.0.0", errors=0.5 if bad else 0.0)
        run.apply("2.0.0", **way)
        await run.until(lambda: run.weights().get(V2) == ARMED)
        usual, run.gateway.accept_after = run.gateway.accept_after, 900.0
        await run.until(lambda: run.weights().get(V2, 0) > ARMED)
        await run.advance(60)
        assert (run.weights().get(V2, 0) <= ARMED) is bad
        assert (run.status.phase is Phase.ROLLING_BACK) is bad
        run.gateway.accept_after = usual
        run.gateway.mend()
        end = await run.settle()
        assert (end.stable, end.quarantined) == ((V1, (V2,)) if bad else (V2, ()))

    story(tell)


BUSY = {"name": "rate", "sli": "request-rate", "min": 0.5, "window": "60s", "warmUp": "60s"}


def test_a_switch_after_a_preview_is_judged_by_what_users_sent_since_the_switch() -> None:
    """Warm-up and window counted from the preview's beginning, and nobody had asked then: taken back at once."""

    async def tell(run: Simulation) -> None:
        trial = {"prePromotion": {"source": "Preview", "hold": "20s"}, "approval": True}
        await served(run)
        run.apply("2.0.0", strategy="BlueGreen", blueGreen=trial, guards=(ERRORS, BUSY), bake="300s")
        await run.until(run.at(Phase.AWAITING_APPROVAL))
        await run.advance(600)
        usual, run.gateway.accept_after = run.gateway.accept_after, 30.0
        run.command("promote/1")
        await run.advance(60)
        run.gateway.accept_after = usual
        assert (await run.settle()).stable == V2

    story(tell)


def test_a_gateway_that_confirms_is_not_said_to_be_silent_after_a_wait_of_another_kind() -> None:
    async def tell(run: Simulation) -> None:
        await served(run)
        run.apply("2.0.0", paused=True)
        await run.advance(60)
        run.apply("2.0.0")
        await run.until(run.at(Phase.PROGRESSING, step=1))
        assert run.status.rollout is not None
        assert "Ramp" not in [decision.decision for decision in run.status.rollout.decisions]

    story(tell)


def test_a_guard_that_warned_to_the_end_says_nothing_of_what_was_promoted() -> None:
    async def tell(run: Simulation) -> None:
        warning = ({**ERRORS, "onBreach": "Warn"},)
        await served(run, guards=warning)
        run.behave("2.0.0", errors=0.5)
        run.apply("2.0.0", guards=warning)
        assert (await run.settle()).stable == V2
        (told,) = (each for each in run.status.conditions if each.type == "GuardsPassing")
        assert told.status == "True", told.message

    story(tell)


@pytest.mark.parametrize("crash", [False, True])
def test_a_first_deployment_that_was_superseded_is_left_without_loss(crash: bool) -> None:
    """Its successor took all its traffic in one write (I9)."""

    async def tell(run: Simulation) -> None:
        run.gateway.rejects = crash
        run.apply("1.0.0")
        await run.until(lambda: run.store.get("HTTPRoute", NAME) is not None)
        if crash:
            run.kubelet.crash(V1, comes_back_after=3)
        await run.advance(0.1)
        run.apply("2.0.0")
        await run.advance(1)
        run.gateway.mend()
        assert (await run.settle()).stable == V2

    story(tell, accept_after=0.5, program_after=0.52)


def test_a_conflict_does_not_blind_the_operator() -> None:
    """A 409 on a route buried its uid in the cache: its watch events were ignored until the next restart."""

    def conflict_once() -> Callable[[int], Any]:
        met: list[int] = []

        def plan(number: int) -> Any:
            if met:
                return None, False, 0.0
            met.append(number)
            return ConflictError("injected"), False, 0.0

        return plan

    async def tell(run: Simulation) -> None:
        await served(run)
        run.apply("2.0.0")
        await run.until(run.at(Phase.VERIFYING))
        run.faults.plan = conflict_once()
        assert (await run.settle()).stable == V2

    story(tell)


def test_a_deployment_deleted_and_made_again_takes_nothing_over() -> None:
    """Children of the deleted one, still in the cache, were taken for ours."""

    async def tell(run: Simulation) -> None:
        await served(run)
        run.store.remove("ModelDeployment", NAME)
        run.apply("2.0.0")
        end = await run.settle()
        assert (end.stable, dict(end.replicas)) == (V2, {V2: 2})

    story(tell)


def test_an_object_with_our_name_and_labels_that_is_not_ours_is_left_alone() -> None:
    async def tell(run: Simulation) -> None:
        await served(run)
        service = run.store.get("Service", V1)
        assert service is not None
        labels = {**service["metadata"]["labels"], "modelrollout.io/revision": V2}
        metadata = {"name": V2, "namespace": NAMESPACE, "labels": labels}
        theirs = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"type": "ExternalName"}}
        run.store.write(theirs)
        run.apply("2.0.0")
        await run.advance(120)
        found = run.store.get("Service", V2)
        assert found is not None
        assert found["spec"] == {"type": "ExternalName"}
        assert run.status.revisions.stable == V1
        assert run.weights() == {V1: WHOLE}

    story(tell)


@pytest.mark.parametrize("then", ["2.0.0", "1.0.0", "3.0.0"])
@pytest.mark.parametrize("phase", [Phase.PREPARING, Phase.PROGRESSING, Phase.BAKING])
def test_a_status_that_somebody_wiped_is_no_outage(phase: Phase, then: str) -> None:
    async def tell(run: Simulation) -> None:
        await served(run)
        run.apply("2.0.0")
        await run.until(run.at(phase))
        await run.advance(3)
        Damage("wiped").do(run)
        end = await served(run, then)
        assert end.stable == name_of(then)

    story(tell, program_after=0.02)


class Lease:
    """A Lease in memory, as one process reaches it; ``cut`` ones wait for ever."""

    def __init__(self, shared: dict[str, LeaseRecord]) -> None:
        self._shared = shared
        self.cut = False

    async def read(self) -> LeaseRecord | None:
        await self._travel()
        return self._shared.get("lease")

    async def create(self, record: LeaseRecord) -> LeaseRecord:
        await self._travel()
        if "lease" in self._shared:
            raise ConflictError("exists")
        return self._store(record, 1)

    async def update(self, record: LeaseRecord) -> LeaseRecord:
        await self._travel()
        if self._shared["lease"].version != record.version:
            raise ConflictError("changed")
        return self._store(record, int(record.version) + 1)

    async def _travel(self) -> None:
        await asyncio.sleep(3600 if self.cut else 0.005)

    def _store(self, record: LeaseRecord, version: int) -> LeaseRecord:
        self._shared["lease"] = replace(record, version=str(version))
        return self._shared["lease"]


def test_two_operators_never_write_at_once_and_the_second_ends_the_rollout() -> None:
    """I6: the first loses sight of its Lease in the middle of a canary, but could still reach everything else."""

    async def main() -> None:
        world = Simulation()
        shared: dict[str, LeaseRecord] = {}
        clock = VirtualClock()
        writers: list[tuple[str, str]] = []

        def operator(identity: str) -> tuple[Process, Leadership, Lease, list[asyncio.Task[None]]]:
            lease = Lease(shared)
            leadership = Leadership(lease, clock, clock.monotonic, identity)

            def check(write: Write) -> None:
                writers.append((identity, shared["lease"].holder))
                world.invariants.check(write)

            client = ApiClient(world.store, world.faults, world.log, check, lambda: leadership.write_window() > 0)
            process = Process(
                world.store,
                client,
                world.settings,
                world.metrics,
                world.triton,
                world.gateway,
                may_act=leadership.is_leader,
            )

            async def work() -> None:
                await leadership.wait_until_leader()
                world.process = process
                process.start()

            return process, leadership, lease, [asyncio.create_task(leadership.run()), asyncio.create_task(work())]

        world.apply("1.0.0")
        first, _, lease, tasks = operator("first")
        await asyncio.sleep(5)
        second, _, _, others = operator("second")
        await asyncio.sleep(60)
        assert world.status.revisions.stable == V1
        world.apply("2.0.0")
        await world.until(world.at(Phase.PROGRESSING, step=2))
        lease.cut = True
        end = await world.settle()
        assert end.stable == V2
        assert {identity for identity, _ in writers} == {"first", "second"}
        assert all(identity == holder for identity, holder in writers)
        for task in (*tasks, *others):
            task.cancel()
        await asyncio.gather(*tasks, *others, return_exceptions=True)
        await first.kill()
        await second.kill()

    run(main())


def _weights(write: Write) -> list[tuple[str, int]]:
    references = (write.after or {})["spec"]["rules"][0]["backendRefs"]
    return [(reference["name"], reference["weight"]) for reference in references if reference["weight"]]
