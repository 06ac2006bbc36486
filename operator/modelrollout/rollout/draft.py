"""A decision before it is dressed: the phase reached and what it needs; complete.py makes the Plan of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from modelrollout.api.modelrevision import ModelRevisionStatus, RevisionAttempt
from modelrollout.api.reasons import EventReason
from modelrollout.api.status import HISTORY_LIMIT, GuardStatus, HistoryEntry, Outcome, Phase, RolloutStatus
from modelrollout.rollout.judgement import current
from modelrollout.rollout.plan import EvaluationRequest, EventPlan, ProbeRequest, RoutePlan
from modelrollout.rollout.situation import Situation


@dataclass(frozen=True)
class Draft:
    """The next state. ``fleets`` are revisions that shall have all their pods; ``route`` None leaves routes alone.

    ``shares`` are parts per million by revision for the status, None keeps what it says: a weight that is only asked
    for is not told. ``wakes`` are the moments to look again at.
    """

    phase: Phase
    message: str
    stable: str | None
    candidate: str | None
    last_good: str | None
    rollout: RolloutStatus | None
    quarantined: tuple[str, ...]
    history: tuple[HistoryEntry, ...]
    fleets: tuple[str, ...] = ()
    route: RoutePlan | None = None
    shares: dict[str, int] | None = None
    events: tuple[EventPlan, ...] = ()
    gate: str | None = None
    evaluate: EvaluationRequest | None = None
    probe: ProbeRequest | None = None
    create_revision: str | None = None
    revision_status: dict[str, ModelRevisionStatus] = field(default_factory=dict)
    wakes: tuple[datetime | None, ...] = ()
    invalid: str | None = None
    stuck: str | None = None
    breached: bool | None = None
    provider_down: bool | None = None
    command_done: bool = False


def draft(situation: Situation, phase: Phase, message: str) -> Draft:
    """The state as the status has it, in ``phase``; everything else by ``dataclasses.replace``."""
    revisions = situation.status.revisions
    return Draft(
        phase=phase,
        message=message,
        stable=revisions.stable,
        candidate=revisions.candidate,
        last_good=revisions.last_good,
        rollout=situation.status.rollout,
        quarantined=tuple(situation.status.quarantined),
        history=tuple(situation.status.history),
    )


def shares_in(route: RoutePlan) -> dict[str, int]:
    """Parts per million by revision that ``route`` asks for."""
    return {slot.revision: slot.weight for slot in route.slots if slot.revision}


def evaluation_request(situation: Situation, *, trial: bool = False) -> EvaluationRequest | None:
    """What to evaluate for the attempt under way; None when it has no guards."""
    if not situation.spec.guards:
        return None
    attempt = situation.attempt
    other = situation.last_good if situation.baking else situation.stable
    started = attempt.traffic_started_at or attempt.started_at or situation.now
    return EvaluationRequest(
        attempt=attempt.attempt,
        revision=attempt.revision,
        stable=other or attempt.revision,
        slot=situation.slot_of(attempt.revision),
        since=started,
        interval=situation.spec.evaluation_interval,
        trial=trial,
    )


def probe_request(situation: Situation, *revisions: str) -> ProbeRequest | None:
    """Ask the data plane for ``revisions``, unless it was seen to know them in this very state of the routes."""
    if not situation.observed.route.token or all(situation.seen(revision) for revision in revisions):
        return None
    return ProbeRequest(frozenset(revisions), situation.observed.route.token)


def event(reason: EventReason, message: str, *, warning: bool = False) -> EventPlan:
    """An event in one line."""
    return EventPlan(reason, message, warning)


def closed(
    situation: Situation, state: Draft, outcome: Outcome, reason: str, message: str
) -> tuple[RolloutStatus, tuple[HistoryEntry, ...], dict[str, ModelRevisionStatus]]:
    """The attempt with its end written down: in the rollout, in the history, and for the ModelRevision."""
    attempt = state.rollout or situation.attempt
    guards = guard_statuses(situation)
    ended = attempt.model_copy(
        update={
            "outcome": outcome,
            "reason": reason,
            "message": message,
            "finished_at": situation.now,
            "waiting_since": None,
            "weight": 100.0 if outcome is Outcome.PROMOTED else 0.0,
            "guards": guards,
        }
    )
    entry = HistoryEntry(
        attempt=attempt.attempt,
        revision=attempt.revision,
        version=attempt.version,
        outcome=outcome,
        reason=reason,
        message=message,
        started_at=attempt.started_at,
        finished_at=situation.now,
    )
    record = revision_record(entry, guards)
    return ended, (entry, *state.history)[:HISTORY_LIMIT], {attempt.revision: record}


def revision_record(entry: HistoryEntry, guards: tuple[GuardStatus, ...]) -> ModelRevisionStatus:
    """What the ModelRevision keeps of an attempt; the controller puts it before the earlier attempts."""
    attempt = RevisionAttempt(
        attempt=entry.attempt,
        outcome=entry.outcome,
        reason=entry.reason,
        message=entry.message,
        started_at=entry.started_at,
        finished_at=entry.finished_at,
        guards=guards,
    )
    return ModelRevisionStatus(outcome=entry.outcome, attempts=(attempt,))


def guard_statuses(situation: Situation) -> tuple[GuardStatus, ...]:
    """The newest evaluation as the status keeps it."""
    evaluation = current(situation)
    if evaluation is None:
        return situation.attempt.guards
    return tuple(
        GuardStatus(
            name=result.name,
            verdict=result.verdict,
            value=result.value,
            threshold=result.threshold,
            samples=result.samples,
            at=result.at,
            message=result.invalid or result.message,
        )
        for result in evaluation.results
    )
