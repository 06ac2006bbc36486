"""One turn when something is in its way: a namespace that goes, an object that is being deleted, conflicts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest

from modelrollout.api.modeldeployment import ModelDeployment
from modelrollout.api.reasons import EventReason
from modelrollout.controller import reconcile
from modelrollout.controller.cache import Cache, Key, namespace_key
from modelrollout.controller.measure import Measurer
from modelrollout.controller.measurements import Measurements
from modelrollout.controller.reconcile import CONFLICT_DELAY, LONGEST_CONFLICT_DELAY, OBSTACLE_DELAY, Reconciler
from modelrollout.ports import (
    ConflictError,
    DeniedError,
    EventRecord,
    ForeignObjectError,
    Manifest,
    ObjectReference,
    PortError,
    TerminatingError,
)
from modelrollout.render.names import OBSERVER
from modelrollout.rollout.observed import Evaluation, Observed
from modelrollout.rollout.plan import WHOLE, EventPlan, Plan, RoutePlan, Slot
from modelrollout.telemetry import Telemetry
from tests.builders import NAME, NAMESPACE, START, manifest, name_of, settings
from tests.simulation.virtualtime import VirtualClock, run

KEY, OTHER = Key(NAMESPACE, NAME), Key("another", "letters")
REVISION = name_of("1.0.0")


class Cluster:
    """Fails every write with ``error``, or answers with what was written."""

    def __init__(self, error: PortError | None = None) -> None:
        self.error = error
        self.written: list[str] = []

    def _answer(self, what: str, body: Manifest) -> Manifest:
        self.written.append(what)
        if self.error is not None:
            raise self.error
        return body

    async def create(self, body: Manifest) -> Manifest:
        return self._answer("create", body)

    async def apply(self, body: Manifest) -> Manifest:
        return self._answer("apply", body)

    async def apply_status(self, body: Manifest) -> Manifest:
        return self._answer("status", body)

    async def delete(self, reference: ObjectReference, uid: str) -> None:
        self._answer("delete", {})

    async def emit(self, event: EventRecord) -> None:
        self._answer("event", {})


class Bench:
    """A reconciler whose decisions are given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cluster: Cluster, make_plan: Callable[..., Plan]) -> None:
        clock, self.woken = VirtualClock(), list[Key]()
        self.cluster, self.cache, self.observed = cluster, Cache(), list[Observed]()
        self.measurements = Measurements(self.woken.append)
        measurer = Measurer(self.measurements, self.cache, clock, settings(), {}, None, None)  # type: ignore[arg-type]
        telemetry = Telemetry(monotonic=clock.monotonic)
        self.reconciler = Reconciler(cluster, clock, self.cache, settings(), self.measurements, measurer, telemetry)

        def decide(wish: ModelDeployment, _: object, observed: Observed, __: object) -> Plan:
            self.observed.append(observed)
            return make_plan(wish)

        monkeypatch.setattr(reconcile, "decide", decide)

    def put(self, version: int = 1, **metadata: Any) -> None:
        body = manifest("1.0.0")
        body["metadata"] |= {"resourceVersion": str(version), **metadata}
        self.cache.put(KEY, body)

    async def turn(self) -> float | None:
        return await self.reconciler.reconcile(KEY)


def with_record(wish: ModelDeployment) -> Plan:
    return Plan(wish.status, create_revision=REVISION)


def with_event(wish: ModelDeployment) -> Plan:
    return Plan(wish.status, events=(EventPlan(EventReason.ROLLOUT_STARTED, "it begins"),))


def play(act: Callable[[], Coroutine[Any, Any, None]]) -> None:
    run(act())


@pytest.mark.parametrize("make_plan", [with_record, with_event], ids=["object", "event"])
def test_in_a_namespace_that_goes_nothing_is_tried_twice(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, make_plan: Callable[..., Plan]
) -> None:
    async def act() -> None:
        bench = Bench(monkeypatch, Cluster(TerminatingError("create: namespace demo is being deleted")), make_plan)
        bench.put()
        bench.measurements.want(KEY, "gate", "a", lambda: asyncio.sleep(1000))
        assert await bench.turn() is None
        assert len(bench.cluster.written) == 1
        bench.put(2)
        assert await bench.turn() is None
        assert len(bench.cluster.written) == 1, "one look is enough: a namespace never comes back"
        assert not bench.measurements.of(KEY).running

    with caplog.at_level(logging.INFO):
        play(act)
    assert [record.levelname for record in caplog.records if "being deleted" in record.message] == ["INFO"]


def test_a_new_one_in_a_new_namespace_of_that_name_gets_its_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act() -> None:
        bench = Bench(monkeypatch, Cluster(TerminatingError("being deleted")), with_record)
        bench.put()
        await bench.turn()
        bench.cluster.error = None
        bench.put(2, uid="another-uid")
        await bench.turn()
        assert bench.cluster.written == ["create", "create"]

    play(act)


def test_one_that_is_being_deleted_is_left_alone_and_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act() -> None:
        bench = Bench(monkeypatch, Cluster(), with_record)
        stopped = asyncio.Event()

        async def measure() -> None:
            try:
                await asyncio.sleep(1000)
            finally:
                stopped.set()

        bench.measurements.of(KEY)
        bench.measurements.want(KEY, "evaluation", "a", measure)
        await asyncio.sleep(0)
        bench.put(deletionTimestamp="2026-01-01T00:00:00Z", finalizers=["of.somebody/else"])
        assert await bench.turn() is None
        await asyncio.sleep(0)
        assert stopped.is_set()
        assert bench.cluster.written == []

    play(act)


def test_conflicts_in_a_row_are_waited_for_longer_and_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """An object that was deleted while its watch hangs answers with a conflict for minutes."""

    async def act() -> None:
        bench = Bench(monkeypatch, Cluster(ConflictError("not there any more")), with_record)
        bench.put()
        delays = [await bench.turn() for _ in range(12)]
        assert delays[:3] == [CONFLICT_DELAY, 2 * CONFLICT_DELAY, 4 * CONFLICT_DELAY]
        assert delays[-1] == LONGEST_CONFLICT_DELAY
        bench.cluster.error = None
        await bench.turn()
        bench.cluster.error = ConflictError("again")
        bench.cache.remove(KEY, "ModelRevision", REVISION, "")
        assert await bench.turn() == CONFLICT_DELAY

    play(act)


def test_the_decision_is_told_of_an_older_one_with_the_same_hostname(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act() -> None:
        bench = Bench(monkeypatch, Cluster(), lambda wish: Plan(wish.status))
        older = manifest("1.0.0")
        older["metadata"] |= {
            "name": OTHER.name,
            "namespace": OTHER.namespace,
            "uid": "uid-other",
            "creationTimestamp": "2026-01-01T00:00:00Z",
        }
        bench.put(creationTimestamp="2026-01-02T00:00:00Z")
        bench.cache.put(OTHER, older)
        assert bench.woken == [KEY]
        await bench.turn()
        bench.cache.remove(OTHER, "ModelDeployment", OTHER.name, "uid-other")
        assert bench.woken == [KEY, KEY]
        await bench.turn()
        first, second = bench.observed
        assert first.claimed is not None
        assert "is served by another/letters, which is older" in first.claimed
        assert second.claimed is None

    play(act)


def test_what_was_known_when_traffic_was_given_is_kept_until_it_is_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act() -> None:
        routes = [RoutePlan((Slot(REVISION, WHOLE), Slot(None, 0)), REVISION)]
        bench = Bench(
            monkeypatch,
            Cluster(),
            lambda wish: Plan(wish.status, route=routes.pop() if routes else None),
        )
        bench.put()
        asked, later = (Evaluation(1, REVISION, START + timedelta(seconds=after), ()) for after in (1, 2))
        for evaluation in (asked, later):
            bench.measurements.report(KEY, evaluation)
            await bench.turn()
        assert bench.measurements.of(KEY).rested is asked

    play(act)


class OneService(Cluster):
    """Refuses one object."""

    def _answer(self, what: str, body: Manifest) -> Manifest:
        name = f"{NAME}--observer"
        self.written.append(what)
        if self.error is not None and (body.get("metadata") or {}).get("name") == name:
            raise self.error
        return {**body, "metadata": {**body["metadata"], "uid": "uid-new", "resourceVersion": "7"}}


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ForeignObjectError("Service demo/digits--observer exists and has no owner"), "delete it or rename it"),
        (DeniedError("create Service demo/digits--observer: forbidden"), "forbidden"),
    ],
)
def test_what_keeps_copies_from_the_observer_is_told_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, error: PortError, said: str
) -> None:
    routes = [RoutePlan((Slot(REVISION, WHOLE), Slot(None, 0)), REVISION, observe=1000), None]
    making = [routes[0]]

    async def act() -> None:
        cluster = OneService(error)
        bench = Bench(monkeypatch, cluster, lambda wish: Plan(wish.status, route=making[0]))
        service = {
            "kind": "Service",
            "metadata": {"name": OBSERVER, "namespace": NAMESPACE, "uid": "u1", "resourceVersion": "1"},
            "spec": {"selector": {"app": "observer"}, "ports": [{"port": 8000}, {"port": 8001}]},
        }
        bench.cache.put(namespace_key(NAMESPACE), service)
        bench.put()
        assert await bench.turn() == CONFLICT_DELAY, "the next turn tells"
        assert await bench.turn() == OBSTACLE_DELAY
        told = bench.observed[-1]
        assert told.observer
        assert told.uncopied is not None
        assert str(error) in told.uncopied
        assert said in told.uncopied
        assert (told.foreign, told.denied) == (None, None), "users and rollouts do not wait for it"
        making[0] = routes[1]
        await bench.turn()
        await bench.turn()
        assert bench.observed[-1].uncopied == told.uncopied, "a turn without a route tried nothing"
        making[0] = routes[0]
        cluster.error = None
        assert await bench.turn() == CONFLICT_DELAY
        await bench.turn()
        assert bench.observed[-1].uncopied is None

    play(act)
