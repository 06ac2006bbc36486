"""States to put into a decision: A serves in slot 0, B is on trial in slot 1, two pods each."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from modelrollout.api.modeldeployment import ModelDeployment
from modelrollout.api.status import (
    Condition,
    ConditionStatus,
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
from modelrollout.rollout.plan import ARMED, WHOLE, Plan
from tests.builders import START, modeldeployment, name_of

A, B, C = name_of("1.0.0"), name_of("1.1.0"), name_of("1.2.0")
VERSIONS = {A: "1.0.0", B: "1.1.0", C: "1.2.0"}
FULL = WHOLE - ARMED
TOKEN = "route@1"


def after(seconds: float) -> datetime:
    """A moment, in seconds since the attempt began."""
    return START + timedelta(seconds=seconds)


def wish(version: str = "1.1.0", **changes: Any) -> ModelDeployment:
    """The spec; B's unless another version is given."""
    return modeldeployment(version, **changes)


def route(b: int, *, accepted: bool = True, other: str = B, main: str = A) -> Route:
    """``main`` in slot 0, ``other`` in slot 1 with ``b`` parts per million; 0 is an empty slot."""
    second = Backend(other, b) if b else Backend(main, 0)
    backends = (Backend(main, WHOLE - b), second)
    weights = {main: WHOLE - b} | ({other: b} if b else {})
    return Route(backends, weights, weights, TOKEN, accepted, None)


def verdicts(at: float, *each: Verdict, revision: str = B, **changes: Any) -> Evaluation:
    """An evaluation of the guards errors, drift, ... in this order."""
    names = ("errors", "drift")
    values = {Verdict.PASS: 0.01, Verdict.BREACH: 0.5}
    results = tuple(
        GuardResult(name, verdict, after(at), values.get(verdict), "<= 0.05", 100.0, **changes)
        for name, verdict in zip(names, each, strict=False)
    )
    return Evaluation(1, revision, after(at), results)


def seen(
    b: int = 0,
    *,
    ready_a: int = 2,
    ready_b: int = 2,
    evaluation: Evaluation | None = None,
    gate: GateState | None = GateState.PASSED,
    probed: bool = True,
    **changes: Any,
) -> Observed:
    """What is there: the routes with ``b`` parts per million for B, the pods, the newest measurements."""
    workloads = {A: Workload(A, 2, ready_a), B: Workload(B, 2, ready_b)}
    observed = Observed(
        workloads=workloads,
        route=route(b),
        probe=Probe(TOKEN, frozenset({A, B})) if probed else None,
        gates={B: Gate(B, gate, "model not ready", after(0))} if gate else {},
        evaluation=evaluation,
        records=(A, B),
    )
    return replace(observed, **changes)


def status(
    phase: Phase, *, step: int = 0, weight: float = 0.0, since: float = 0.0, **rollout: Any
) -> ModelDeploymentStatus:
    """The status of an attempt of B beside A, in ``phase`` since ``since``."""
    baking = phase is Phase.BAKING
    attempt = RolloutStatus(
        attempt=1,
        revision=B,
        version="1.1.0",
        started_at=after(0),
        step=step,
        steps=3,
        step_of=f"{step}/3" if step else "",
        weight=100.0 if baking else weight,
        step_started_at=after(since),
        traffic_started_at=after(0) if step or baking else None,
    ).model_copy(update=rollout)
    revisions = (
        RevisionsStatus(desired=B, stable=B, last_good=A)
        if baking
        else RevisionsStatus(desired=B, stable=A, candidate=B)
    )
    traffic = (
        TrafficStatus(revision=A, slot=0, weight=0.0 if baking else 100.0 - weight),
        TrafficStatus(revision=B, slot=1, weight=100.0 if baking else weight),
    )
    conditions = tuple(
        Condition(type=kind, status=ConditionStatus.TRUE, reason=reason, message=message, observed_generation=1)
        for kind, reason, message in (
            ("MetricsReachable", "Answering", "Prometheus answers"),
            ("GuardsPassing", "NoBreach", "no guard is in breach"),
        )
    )
    return ModelDeploymentStatus(
        observed_generation=1, phase=phase, revisions=revisions, traffic=traffic, rollout=attempt, conditions=conditions
    )


def serving(version: str = "1.0.0") -> ModelDeploymentStatus:
    """One revision serves, nothing is under way."""
    name = name_of(version)
    return ModelDeploymentStatus(
        observed_generation=1,
        phase=Phase.IDLE,
        revisions=RevisionsStatus(desired=name, stable=name),
        traffic=(TrafficStatus(revision=name, slot=0, weight=100.0),),
    )


def decided(spec: ModelDeployment, state: ModelDeploymentStatus, observed: Observed, at: float) -> Plan:
    """One decision; what every decision must keep is checked here."""
    plan = decide(spec, state, observed, after(at))
    if plan.route is not None:
        assert sum(slot.weight for slot in plan.route.slots) == WHOLE
        assert all(slot.weight == 0 for slot in plan.route.slots if slot.revision is None)
    assert not set(plan.retire) & {workload.revision for workload in plan.workloads}
    again = decide(spec, plan.status, observed, after(at))
    if again.status.phase is plan.status.phase:
        assert again.status == plan.status, "deciding again about the same writes nothing"
    return plan


def weights(plan: Plan) -> dict[str, int]:
    """Parts per million by revision that the plan asks for."""
    assert plan.route is not None
    return {slot.revision: slot.weight for slot in plan.route.slots if slot.revision}


def reasons(plan: Plan) -> list[str]:
    """The events of the plan."""
    return [str(event.reason) for event in plan.events]


def condition(plan: Plan, kind: str) -> str:
    """The status of a condition; empty where there is none."""
    return next((str(entry.status) for entry in plan.status.conditions if entry.type == kind), "")
