"""The record of an attempt: each decision with its evidence, and the weights it gave, read back as spans of time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from hashlib import sha256

from modelrollout.api.modelrevision import RevisionAttempt
from modelrollout.api.status import DECISION_LIMIT, ArmStatus, ComparisonStatus, Decision, RolloutStatus
from modelrollout.rollout.judgement import current, of_attempt
from modelrollout.rollout.observed import Evaluation
from modelrollout.rollout.plan import Span
from modelrollout.rollout.situation import Situation
from modelrollout.rollout.weights import share

KEPT_AFTER_THE_END = 5
"""How many decisions of an attempt that is over the ModelDeployment keeps; its ModelRevision has all."""

QUERIES_KEPT = 20
"""How many queries the decisions of an attempt hold together, the newest; a ModelRevision has ten attempts."""


class Kind(StrEnum):
    """What was decided."""

    STEP = "Step"
    RAMP = "Ramp"
    PROMOTE = "Promote"
    COMPLETE = "Complete"
    ROLL_BACK = "RollBack"
    AWAIT_APPROVAL = "AwaitApproval"
    HOLD = "Hold"
    RESTART = "Restart"
    ABORT = "Abort"


WEIGHING = (Kind.STEP, Kind.RAMP, Kind.PROMOTE)
GIVING = (Kind.STEP, Kind.PROMOTE, Kind.COMPLETE)
ENDINGS = (Kind.COMPLETE, Kind.ROLL_BACK, Kind.ABORT)


def decided(situation: Situation, attempt: RolloutStatus, kind: Kind, message: str) -> RolloutStatus:
    """``attempt`` with this decision before the earlier ones, and what the guards said that it rests on."""
    evaluation = (_rested(situation) if kind in GIVING else None) or current(situation) or of_attempt(situation)
    entry = Decision(
        at=situation.now,
        decision=kind.value,
        step=attempt.step,
        weight=max(attempt.weight, attempt.ramp),
        message=message,
        guards=evaluation.records if evaluation is not None else (),
    )
    return attempt.model_copy(update={"decisions": _bounded(_told_once((entry, *attempt.decisions)))})


def _rested(situation: Situation) -> Evaluation | None:
    """What let traffic go on, which is told once it is in force: Prometheus may be silent by then."""
    found, attempt = situation.observed.rested, situation.attempt
    if found is None or found.watch or (found.attempt, found.revision) != (attempt.attempt, attempt.revision):
        return None
    return found if attempt.step_started_at is not None and found.at >= attempt.step_started_at else None


def without_queries(attempt: RevisionAttempt) -> RevisionAttempt:
    """An attempt as it is kept once there is a newer one: ten with all queries would be too much for one object."""
    decisions = tuple(_with_queries(decision, {}) for decision in attempt.decisions)
    return attempt.model_copy(update={"decisions": decisions})


def _told_once(decisions: tuple[Decision, ...]) -> tuple[Decision, ...]:
    """The decisions, each query in the newest of those that follow one another with it, and QUERIES_KEPT in all."""
    newer: dict[str, str] = {}
    kept, found = 0, []
    for decision in decisions:
        own: dict[str, str] = {}
        for guard in decision.guards:
            if guard.query and guard.query != newer.get(guard.name) and kept < QUERIES_KEPT:
                own[guard.name] = newer[guard.name] = guard.query
                kept += 1
        found.append(_with_queries(decision, own))
    return tuple(found)


def _with_queries(decision: Decision, queries: Mapping[str, str]) -> Decision:
    if all(guard.query == queries.get(guard.name, "") for guard in decision.guards):
        return decision
    guards = (guard.model_copy(update={"query": queries.get(guard.name, "")}) for guard in decision.guards)
    return decision.model_copy(update={"guards": tuple(guards)})


def _bounded(decisions: tuple[Decision, ...]) -> tuple[Decision, ...]:
    """As many as may be kept: those that gave a weight stay longest, for the evidence is told apart by them."""
    if len(decisions) <= DECISION_LIMIT:
        return decisions
    others = (place for place in range(len(decisions) - 1, 0, -1) if decisions[place].decision not in WEIGHING)
    gone = next(others, len(decisions) - 1)
    lost = {guard.name: guard.query for guard in decisions[gone].guards if guard.query}
    older = list(decisions[gone + 1 :])
    for place, decision in enumerate(older):
        # What says nothing of its query had that of the one that goes.
        was = {guard.name: lost.pop(guard.name, "") for guard in decision.guards}
        older[place] = _with_queries(
            decision, {guard.name: guard.query or was[guard.name] for guard in decision.guards}
        )
    return (*decisions[:gone], *older)


def spans(attempt: RolloutStatus, since: datetime, now_given: int) -> tuple[Span, ...]:
    """The weights since ``since``, oldest first.

    ``now_given`` (parts per million) where nothing was written down: what was given before this step is not known then.
    """
    steps: list[tuple[datetime, float]] = []
    for entry in attempt.decisions:
        if entry.decision not in WEIGHING:
            continue
        weight = 0.0 if entry.decision == Kind.RAMP else entry.weight
        if steps and steps[-1][1] == weight:
            steps.pop()  # the same weight began earlier
        steps.append((max(entry.at, since), weight))
        if entry.at <= since:
            break
    if not steps:
        return (Span(max(since, attempt.step_started_at or since), 0 if attempt.ramp else now_given),)
    return tuple(Span(at, share(weight) if weight > 0 else 0) for at, weight in reversed(steps))


def evidence(situation: Situation) -> dict[str, object]:
    """The newest evaluation as the fields of an attempt's status; what was not measured stays as it was told."""
    of_traffic = current(situation)
    return {
        "guards": situation.attempt.guards if of_traffic is None else of_traffic.statuses,
        "arms": arm_statuses(situation),
        "comparison": comparison_status(situation),
    }


def guards_digest(situation: Situation) -> str:
    """What the guards ask, policies included: other guards have another digest."""
    parts = (*situation.spec.guards, *situation.observed.definitions)
    return sha256("\n".join(part.model_dump_json() for part in parts).encode()).hexdigest()[:16]


def arm_statuses(situation: Situation) -> tuple[ArmStatus, ...]:
    """The arms of an A/B test as the status keeps them."""
    evaluation = of_attempt(situation)
    if evaluation is None or not evaluation.arms:
        return situation.attempt.arms
    return tuple(
        ArmStatus(
            revision=arm.revision,
            requests=arm.requests,
            error_ratio=arm.error_ratio,
            latency_p50=arm.latency_p50,
            latency_p99=arm.latency_p99,
            at=evaluation.at,
        )
        for arm in evaluation.arms
    )


def comparison_status(situation: Situation) -> ComparisonStatus | None:
    """How the answers of both arms differ, as the status keeps it."""
    evaluation = of_attempt(situation)
    if evaluation is None or evaluation.comparison is None:
        return situation.attempt.comparison
    found = evaluation.comparison
    return ComparisonStatus(
        compared=found.compared, differing=found.differing, label_flips=found.label_flips, at=evaluation.at
    )
