"""What keeps an attempt where it is: silence, a person who is waited for; and what cannot wait: a breach, lost pods."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from modelrollout.api.reasons import AttemptReason, ConditionType, EventReason
from modelrollout.api.status import Phase, Verdict
from modelrollout.rollout.attempts import again, in_words, lost_pods
from modelrollout.rollout.draft import Draft, draft, evaluation_request, event
from modelrollout.rollout.judgement import Effect, Judgement, answered_by, current, gravity
from modelrollout.rollout.plan import ARMED
from modelrollout.rollout.record import Kind, decided, evidence
from modelrollout.rollout.rollback import roll_back
from modelrollout.rollout.situation import Situation

SETBACK_LIMIT = 2
"""A candidate that lost all its ready pods more often than this is taken back."""

TOLD_FOR = timedelta(minutes=5)
"""A hold that ends and begins again within this time is no news, in the record nor as an event."""

GUARD_PAUSED = AttemptReason.GUARD_PAUSED
HOLDS = (AttemptReason.NO_DATA, AttemptReason.WORLD_MOVED, AttemptReason.WEIGHT_NOT_EFFECTIVE)
"""What a person was asked about after noDataDeadline, and what ends by itself once every guard passes."""
STEPS_LOWERED = AttemptReason.STEPS_LOWERED
APPROVAL_STEP = AttemptReason.APPROVAL_STEP


def urgent(situation: Situation, judgement: Judgement) -> Draft | None:
    """What cannot wait for the end of a hold: a breach, and a candidate without ready pods."""
    attempt = situation.attempt
    if judgement.effect is Effect.ROLLBACK and situation.home is not None:
        message = f"{judgement.message}: {judgement.evidence}"
        return replace(roll_back(situation, AttemptReason.GUARD_BREACHED, message), breached=judgement.own)
    if situation.subject.ready or situation.replicas == 0 or situation.home is None:
        return _interrupted(situation)
    if not situation.observed.workload(situation.home).ready:
        return _given_up(situation) or _interrupted(situation)
    message = lost_pods(situation)
    if situation.baking or attempt.setbacks >= SETBACK_LIMIT:
        return roll_back(situation, AttemptReason.CANDIDATE_UNAVAILABLE, message)
    back = f"{message}; its traffic is back on {situation.stable}" if situation.in_force else message
    return again(situation, EventReason.CANDIDATE_UNAVAILABLE, back, setback=True)


def _given_up(situation: Situation) -> Draft | None:
    """In the bake the last good revision may have no pods by intent: it is waited for no longer than for any pods."""
    if not situation.baking or situation.observed.workload(situation.home).desired:
        return None
    attempt = situation.attempt
    if situation.now < situation.patience(situation.subject):
        return None
    waited = in_words(situation.spec.progress_deadline)
    message = f"{attempt.revision} has had no ready pods for {waited}"
    return roll_back(situation, AttemptReason.CANDIDATE_UNAVAILABLE, message)


def _interrupted(situation: Situation) -> Draft | None:
    """Routes without the traffic that the status tells of: a rollback began, and its reason was never stored.

    Giving the weight back would show users a candidate that was found bad before the operator was interrupted.
    """
    revision, stage = situation.attempt.revision, situation.stage
    # An A/B test may have been edited to give users by its matches only.
    unweighted = stage is not None and stage.split and stage.weight <= ARMED
    given = situation.baking or (situation.in_force > ARMED and not unweighted)
    if situation.home is None or not given or not situation.observed.route.taken_off(revision, ARMED):
        return None
    message = f"the traffic of {revision} was taken off before, by a rollback whose reason was lost or by somebody else"
    return roll_back(situation, AttemptReason.INTERRUPTED, message)


def watched(situation: Situation, judgement: Judgement, message: str) -> Draft:
    """The state as it is, with its guards watched; what it keeps (route, pods) is the caller's."""
    told = next((c for c in situation.status.conditions if c.type == ConditionType.GUARDS_PASSING), None)
    breached: tuple[str, ...] | None = (*judgement.own, *judgement.moved)
    worlds = told is not None and told.reason == EventReason.WORLD_MOVED and not _is_back(situation)
    if not breached and judgement.effect is Effect.HOLD and (worlds or judgement.provider_down is None):
        breached = None  # Silence is no word that the world is back, nor an evaluation that is not there yet.
    return replace(
        draft(situation, situation.status.phase, message),
        evaluate=evaluation_request(situation),
        breached=breached,
        moved=() if judgement.own else judgement.moved,
        provider_down=judgement.provider_down,
    )


def _is_back(situation: Situation) -> bool:
    """Whether every guard that was in breach passes, whatever the others wait for."""
    evaluation = current(situation)
    was = {guard.name for guard in situation.attempt.guards if guard.verdict is Verdict.BREACH}
    passing = () if evaluation is None else evaluation.with_verdict(Verdict.PASS)
    return bool(was) and was <= {result.name for result in passing}


def unproven(situation: Situation, judgement: Judgement, state: Draft, due: datetime) -> Draft | None:
    """What the guards have against going on: a breach asks a person, silence holds; None for nothing."""
    if judgement.effect in (Effect.PAUSE, Effect.ROLLBACK):
        return await_approval(situation, state, GUARD_PAUSED, f"{judgement.message}: {judgement.evidence}")
    if waits_for(situation, GUARD_PAUSED):
        return still_waiting(situation, state)
    return held(situation, judgement, state, due) if judgement.effect is Effect.HOLD else None


def held(situation: Situation, judgement: Judgement, state: Draft, due: datetime) -> Draft:
    """Silence holds; after noDataDeadline a person is asked. A provider that is down spends no budget.

    What was told of the wait stays until there is a graver reason.
    """
    attempt = situation.attempt
    message = f"{state.message}; held: {judgement.message}"
    if judgement.provider_down:
        waiting = attempt.model_copy(update={"waiting_since": None})
        return replace(state, message=message, rollout=waiting)
    if any(waits_for(situation, reason) for reason in HOLDS):
        return still_waiting(situation, state)
    grace = answered_by(situation, due)
    until = judgement.waits_until
    if until is not None:
        waiting = attempt.model_copy(update={"waiting_since": None})
        told = state.message if until <= grace else message
        return replace(state, message=told, rollout=waiting, wakes=(answered_by(situation, until),))
    since = attempt.waiting_since or situation.now
    deadline = since + situation.spec.no_data_deadline
    recently = max(attempt.step_started_at or since, situation.now - TOLD_FOR)
    holds = (each for each in attempt.decisions if each.decision == Kind.HOLD and each.at >= min(since, recently))
    hold = next(holds, None)
    if situation.now >= deadline:
        why = hold.message if hold is not None and not gravity(judgement.message) else judgement.message
        return await_approval(situation, state, judgement.reason, why)
    silence = judgement.reason is AttemptReason.NO_DATA
    if silence and attempt.waiting_since is None and situation.now < grace:
        # The evaluation of this very moment is still under way: nothing worth a line in the status.
        return replace(state, wakes=(grace,))
    known = None if hold is None else gravity(hold.message) - gravity(judgement.message)
    # What held before and ended is not why it is held now, but for what comes and goes: a silence like that one.
    if hold is not None and known is not None and (known == 0 or (known > 0 and attempt.waiting_since is not None)):
        # Which guards are silent may change at each evaluation, as may a Prometheus that flaps: that is no news.
        waiting = attempt.model_copy(update={"waiting_since": since})
        return replace(state, message=f"{state.message}; held: {hold.message}", rollout=waiting, wakes=(deadline,))
    # That the world moved or weights do not arrive was told when it was seen (conditions).
    events = (event(EventReason.STEP_HELD, message),) if silence and attempt.waiting_since is None else ()
    waiting = attempt.model_copy(update={"waiting_since": since, **evidence(situation)})
    waiting = decided(situation, waiting, Kind.HOLD, judgement.message)
    return replace(state, message=message, rollout=waiting, wakes=(deadline,), events=events)


def waits_for(situation: Situation, reason: str) -> bool:
    """Whether a person is waited for because of ``reason`` already."""
    return situation.status.phase is Phase.AWAITING_APPROVAL and situation.attempt.reason == reason


def still_waiting(situation: Situation, state: Draft) -> Draft:
    """The wait as it was told at its beginning: values that change since then are no news."""
    message = situation.attempt.message or situation.status.message
    return replace(state, phase=Phase.AWAITING_APPROVAL, message=message)


def await_approval(situation: Situation, state: Draft, reason: str, why: str) -> Draft:
    """Wait for a person, and say once for what and how to answer."""
    name = situation.deployment.metadata.name
    message = (
        f"waiting for a person ({why}): `kubectl modelrollout promote {name}` or `abort {name}`, or annotate "
        "modelrollout.io/command=promote/<a new word>"
    )
    if waits_for(situation, reason):
        return still_waiting(situation, state)
    attempt = (state.rollout or situation.attempt).model_copy(
        update={
            "reason": reason,
            "message": message,
            **evidence(situation),
        }
    )
    attempt = decided(situation, attempt, Kind.AWAIT_APPROVAL, why)
    announced = event(EventReason.AWAITING_APPROVAL, message, warning=reason != APPROVAL_STEP)
    return replace(
        state, phase=Phase.AWAITING_APPROVAL, message=message, rollout=attempt, events=(*state.events, announced)
    )
