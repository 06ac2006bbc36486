"""What a decision is given, built up in words: every builder changes one thing and returns the same object."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Self

from modelrollout.api.status import (
    Condition,
    ModelDeploymentStatus,
    Phase,
    RevisionsStatus,
    RolloutStatus,
    TrafficStatus,
    Verdict,
)
from modelrollout.rollout.decide import decide
from modelrollout.rollout.observed import (
    Backend,
    Evaluation,
    Gate,
    GateState,
    GuardResult,
    Observed,
    Probe,
    Route,
    Workload,
)
from modelrollout.rollout.plan import ARMED, WHOLE, Plan, RoutePlan, Slot
from modelrollout.rollout.record import guards_digest
from modelrollout.rollout.situation import Situation
from tests.builders import START, modeldeployment, name_of

V1, V2, V3 = (name_of(version) for version in ("1.0.0", "2.0.0", "3.0.0"))
NOW = START + timedelta(hours=1)
FULL = WHOLE - ARMED


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


class Given:
    """The arguments of one decision."""

    def __init__(self, version: str = "2.0.0", **spec: Any) -> None:
        self.wish = modeldeployment(version, **spec)
        self.status = ModelDeploymentStatus()
        self.observed = Observed()
        self.now = NOW

    # -- status -----------------------------------------------------------------------------------------------

    def serving(self, revision: str = V1) -> Self:
        """At rest, ``revision`` in slot 0."""
        self.status = self.status.model_copy(
            update={
                "phase": Phase.IDLE,
                "revisions": RevisionsStatus(desired=revision, stable=revision),
                "traffic": (TrafficStatus(revision=revision, slot=0, weight=100.0),),
                "observed_generation": 1,
            }
        )
        return self.pods(revision, 2).route({revision: WHOLE})

    def trying(self, phase: Phase, revision: str = V2, *, step: int = 0, weight: float = 0.0, **changes: Any) -> Self:
        """An attempt with ``revision`` in slot 1 beside V1, begun ten minutes ago, its step a minute ago."""
        attempt: dict[str, Any] = {
            "attempt": 2,
            "revision": revision,
            "started_at": NOW - seconds(600),
            "step": step,
            "steps": 3,
            "step_of": f"{step}/3" if step else "",
            "weight": weight,
            "step_started_at": NOW - seconds(60),
            "traffic_started_at": NOW - seconds(300) if step else None,
        }
        stable = self.status.revisions.stable
        traffic = [TrafficStatus(revision=revision, slot=1 if stable else 0, weight=weight)]
        if stable:
            traffic.insert(0, TrafficStatus(revision=stable, slot=0, weight=100 - weight))
        self.status = self.status.model_copy(
            update={
                "phase": phase,
                "rollout": RolloutStatus(**{**attempt, **changes}),
                "revisions": RevisionsStatus(stable=self.status.revisions.stable, candidate=revision),
                "traffic": tuple(traffic),
            }
        )
        return self.pods(revision, 2)

    def stepping(self, step: int = 1, **changes: Any) -> Self:
        """V2 in step 1 (10 %), 2 (25 %) or 3 (50 %), whose hold is over, with fresh guards that pass."""
        weight = (10, 25, 50)[step - 1]
        self.serving().trying(Phase.PROGRESSING, step=step, weight=float(weight), **changes)
        return self.route({V1: WHOLE - weight * 10_000, V2: weight * 10_000}).judged(Verdict.PASS)

    def baking(self, **changes: Any) -> Self:
        """V2 promoted 61 seconds ago, V1 kept warm."""
        self.serving().trying(Phase.BAKING, step=3, weight=100.0, **{"step_started_at": NOW - seconds(61), **changes})
        self.status = self.status.model_copy(update={"revisions": RevisionsStatus(stable=V2, last_good=V1)})
        return self.route({V1: ARMED, V2: FULL}).judged(Verdict.PASS)

    def rolling_back(self, reason: str = "GuardBreached", ago: float = 5, **changes: Any) -> Self:
        """V2 being taken back to V1."""
        return self.serving().trying(
            Phase.ROLLING_BACK,
            step=2,
            weight=0.0,
            reason=reason,
            message="why",
            step_started_at=NOW - seconds(ago),
            **changes,
        )

    def having(self, **changes: Any) -> Self:
        """Other fields of the status."""
        self.status = self.status.model_copy(update=changes)
        return self

    def having_attempt(self, **changes: Any) -> Self:
        """Other fields of status.rollout."""
        assert self.status.rollout is not None
        return self.having(rollout=self.status.rollout.model_copy(update=changes))

    # -- observed ---------------------------------------------------------------------------------------------

    def seeing(self, **changes: Any) -> Self:
        """Other parts of what is observed."""
        self.observed = replace(self.observed, **changes)
        return self

    def pods(self, revision: str, ready: int, desired: int | None = 2, **more: Any) -> Self:
        found = Workload(revision, desired, ready, addressed=True, **more)
        return self.seeing(workloads={**self.observed.workloads, revision: found})

    def route(
        self, weights: dict[str, int], *, accepted: bool = True, seen: Iterable[str] | None = None, **more: Any
    ) -> Self:
        """Routes as read back; V1 has slot 0, the others slot 1. Everything with weight was probed, unless told."""
        first = weights.get(V1)
        other = next((name for name in weights if name != V1), V1)
        if first is None:
            backends = (Backend(other, 0), Backend(other, weights[other]))
        else:
            backends = (Backend(V1, first), Backend(other, weights.get(other, 0) if other != V1 else 0))
        token = repr(sorted(weights.items()))
        found = Route(backends, dict(weights), dict(weights), token, accepted, **more)
        known = frozenset(weights if seen is None else seen)
        return self.seeing(route=found, probe=Probe(token, known))

    def differing(self, *sides: dict[str, int]) -> Self:
        """An HTTPRoute and a GRPCRoute with different weights."""
        names = {name for side in sides for name in side}
        highest = {name: max(side.get(name, 0) for side in sides) for name in names}
        lowest = {name: min(side.get(name, 0) for side in sides) for name in names}
        return self.seeing(route=Route(None, highest, lowest, "both", True), probe=None)

    def judged(self, *verdicts: Verdict, at: datetime | None = None, name: str = "errors", **more: Any) -> Self:
        """The newest evaluation of the attempt, one second old; also the trial of the guards as they are."""
        assert self.status.rollout is not None
        when = at or self.now - seconds(1)
        fields: dict[str, Any] = {"value": 0.2, "threshold": "<= 0.05", "samples": 100.0, **more}
        results = tuple(GuardResult(name, verdict, when, **fields) for verdict in verdicts)
        attempt = self.status.rollout
        digest = guards_digest(Situation(self.wish, attempt.revision, self.status, self.observed, self.now))
        return self.seeing(evaluation=Evaluation(attempt.attempt, attempt.revision, when, results, digest=digest))

    def gate(self, state: GateState, revision: str = V2, message: str = "") -> Self:
        return self.seeing(gates={revision: Gate(revision, state, message, self.now - seconds(1))})

    def at(self, later: float) -> Self:
        """The same, seconds later."""
        self.now = NOW + seconds(later)
        return self

    # -- the act ----------------------------------------------------------------------------------------------

    def decide(self) -> Plan:
        """One decision; what every decision must keep is checked here."""
        plan = decide(self.wish, self.status, self.observed, self.now)
        if plan.route is not None:
            assert sum(slot.weight for slot in plan.route.slots) == WHOLE
            assert all(slot.weight == 0 for slot in plan.route.slots if slot.revision is None)
        assert not set(plan.retire) & {workload.revision for workload in plan.workloads}
        again = decide(self.wish, plan.status, self.observed, self.now).status
        if again.phase is plan.status.phase and len(again.conditions) == len(plan.status.conditions):
            assert again == plan.status, "deciding again about the same writes nothing"
        return plan

    def after(self, plan: Plan) -> Self:
        """The same observation with the status that ``plan`` wrote."""
        self.status = plan.status
        return self


def layout(plan: Plan) -> dict[str, int] | None:
    """Weights by revision of the routes that the plan asks for; None leaves them."""
    return None if plan.route is None else {slot.revision: slot.weight for slot in plan.route.slots if slot.revision}


def slots(plan: Plan) -> tuple[Slot, Slot]:
    assert isinstance(plan.route, RoutePlan)
    return plan.route.slots


def reasons(plan: Plan) -> list[str]:
    return [str(event.reason) for event in plan.events]


def fleets(plan: Plan) -> dict[str, int]:
    return {workload.revision: workload.replicas for workload in plan.workloads}


def condition(plan: Plan, kind: str) -> Condition:
    return next(each for each in plan.status.conditions if each.type == kind)
