"""A decision before it is dressed: the phase reached and what it needs; complete.py makes the Plan of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from modelrollout.api.durations import format_duration
from modelrollout.api.modelrevision import ModelRevisionStatus, RevisionAttempt
from modelrollout.api.reasons import AttemptReason, EventReason
from modelrollout.api.status import (
    HISTORY_LIMIT,
    CommandRecord,
    HistoryEntry,
    Outcome,
    Phase,
    RolloutStatus,
)
from modelrollout.rollout.gates import given_up
from modelrollout.rollout.plan import EvaluationRequest, EventPlan, Notification, ProbeRequest, RoutePlan, Source, Span
from modelrollout.rollout.record import ENDINGS, KEPT_AFTER_THE_END, Kind, decided, evidence, guards_digest, spans
from modelrollout.rollout.situation import Situation
from modelrollout.rollout.weights import FULL

_ENDS = {
    Outcome.PROMOTED: Kind.COMPLETE,
    Outcome.CONCLUDED: Kind.COMPLETE,
    Outcome.ROLLED_BACK: Kind.ROLL_BACK,
}


@dataclass(frozen=True)
class Draft:
    """The next state. ``fleets`` are pods by revision; ``route`` None leaves routes alone.

    ``shares`` are parts per million by revision for the status, None keeps what it says: a weight that is only asked
    for is not told. ``wakes`` are the moments to look again at. ``breached`` names the guards in breach, None keeps
    what is told of them; ``moved`` names those that both arms break.
    """

    phase: Phase
    message: str
    stable: str | None
    candidate: str | None
    last_good: str | None
    rollout: RolloutStatus | None
    quarantined: tuple[str, ...]
    history: tuple[HistoryEntry, ...]
    fleets: Mapping[str, int] = field(default_factory=dict)
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
    breached: tuple[str, ...] | None = None
    moved: tuple[str, ...] = ()
    provider_down: bool | None = None
    paused: bool = False
    command: CommandRecord | None = None
    notify: Notification | None = None


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
        paused=situation.status.paused,
    )


def shares_in(route: RoutePlan) -> dict[str, int]:
    """Parts per million by revision that ``route`` asks for."""
    return {slot.revision: slot.weight for slot in route.slots if slot.revision}


def evaluation_request(situation: Situation, *, trial: bool = False) -> EvaluationRequest | None:
    """What to evaluate for the attempt under way; None when nothing is to be asked.

    The trial before the first request of a user asks all guards of the spec: a query that can never work shall be
    found before it is needed.
    """
    guards = situation.spec.guards if trial else situation.guards
    source = Source.WEIGHTED if trial else situation.source
    compare = not trial and _both_answer(situation)
    if not guards and source is not Source.SPLIT and not compare:
        return None
    attempt = situation.attempt
    started = attempt.traffic_started_at or attempt.started_at or situation.now
    return EvaluationRequest(
        attempt=attempt.attempt,
        revision=attempt.revision,
        stable=situation.home or attempt.revision,
        slot=situation.slot_of(attempt.revision),
        since=started,
        interval=situation.spec.evaluation_interval,
        trial=trial,
        source=source,
        guards=tuple(guard.name for guard in guards),
        spans=() if trial else _spans(situation, source, started),
        compare=compare,
        digest=guards_digest(situation) if trial else "",
    )


def _both_answer(situation: Situation) -> bool:
    """Whether the observer compares the answers of both arms now."""
    observation = situation.deployment.spec.observation
    asked = observation is not None and observation.comparison is not None and situation.observed.observer
    return asked and situation.subject.ready > 0 and situation.observed.workload(situation.home).ready > 0


def _spans(situation: Situation, source: Source, started: datetime) -> tuple[Span, ...]:
    """The shares of the candidate since ``started``, of the requests that it is judged by."""
    stage = situation.stage
    if source in (Source.MIRROR, Source.PREVIEW):
        return (Span(started, stage.mirror if stage is not None else 0),)
    return spans(situation.attempt, started, FULL if situation.baking else situation.in_force)


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
    ended = attempt.model_copy(
        update={
            "outcome": outcome,
            "reason": reason,
            "message": message,
            "finished_at": situation.now,
            "step_ends_at": None,
            "waiting_since": None,
            "weight": 100.0 if outcome is Outcome.PROMOTED else 0.0,
            "ramp": 0.0,
            "gates": given_up(attempt.gates, outcome),
            "refused_guards": guards_digest(situation) if reason == AttemptReason.GUARD_QUERY_INVALID else "",
            **evidence(situation),
        }
    )
    newest = attempt.decisions[0].decision if attempt.decisions else ""
    if newest not in ENDINGS:
        ended = decided(situation, ended, _ENDS.get(outcome, Kind.ABORT), message)
    entry = HistoryEntry(
        attempt=ended.attempt,
        revision=ended.revision,
        version=ended.version,
        strategy=ended.strategy,
        outcome=outcome,
        reason=reason,
        message=message,
        started_at=ended.started_at,
        finished_at=situation.now,
    )
    record = revision_record(situation, ended)
    ended = ended.model_copy(update={"decisions": ended.decisions[:KEPT_AFTER_THE_END], "contract": None})
    return ended, (entry, *state.history)[:HISTORY_LIMIT], {attempt.revision: record}


def revision_record(situation: Situation, ended: RolloutStatus) -> ModelRevisionStatus:
    """What the ModelRevision keeps of an attempt; the controller puts it before the earlier attempts."""
    started = ended.started_at or situation.now
    attempt = RevisionAttempt(
        attempt=ended.attempt,
        outcome=ended.outcome,
        reason=ended.reason,
        message=ended.message,
        strategy=ended.strategy,
        started_at=ended.started_at,
        finished_at=ended.finished_at,
        duration=format_duration(timedelta(seconds=round(situation.since(started).total_seconds()))),
        guards=ended.guards,
        arms=ended.arms,
        gates=ended.gates,
        comparison=ended.comparison,
        decisions=ended.decisions,
        commands=tuple(each for each in situation.status.commands if each.at is not None and each.at >= started),
    )
    slot = situation.slot_of(ended.revision)
    return ModelRevisionStatus(outcome=ended.outcome, slot=slot, attempts=(attempt,), contract=ended.contract)
