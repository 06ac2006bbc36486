"""While users meet the candidate: holding a step, taking the next, promoting, baking, waiting for a person."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from modelrollout.api.reasons import EventReason
from modelrollout.api.status import Outcome, Phase
from modelrollout.rollout.attempts import begin_step, preparing_message, waiting_for_gateway
from modelrollout.rollout.draft import (
    Draft,
    closed,
    draft,
    evaluation_request,
    event,
    guard_statuses,
    shares_in,
)
from modelrollout.rollout.judgement import Effect, Judgement, judge
from modelrollout.rollout.plan import ARMED, WHOLE
from modelrollout.rollout.rollback import roll_back
from modelrollout.rollout.situation import FULL, SLOW_GATEWAY, Situation, percent, share

SETBACK_LIMIT = 2
"""A candidate that lost all its ready pods more often than this is taken back."""


def step(situation: Situation) -> Draft:
    """One look at a step under way: roll back, hold, or go on."""
    judgement = judge(situation)
    urgent = _urgent(situation, judgement)
    if urgent is not None:
        return urgent
    attempt = situation.attempt
    weight = share(attempt.weight)
    stable = situation.stable or attempt.revision
    state = _watching(situation, judgement, _step_message(situation), weight)
    upcoming = _upcoming(situation)
    held_until = _due(situation)
    target = FULL if upcoming is None else upcoming[1]
    next_route = situation.layout(stable, attempt.revision, target)
    if situation.now < held_until:
        return replace(state, wakes=(held_until,))
    if target != weight and situation.written(next_route):
        # The write of the next step is out but not confirmed: going on is the only way that never loses a request.
        return _confirm(situation, replace(state, route=next_route), upcoming)
    blocked = _blocked(situation, judgement, state, target)
    if blocked is not None:
        return blocked
    if target == weight:
        return _confirm(situation, state, upcoming)
    return replace(
        state,
        phase=Phase.PROGRESSING,
        message=_step_message(situation),
        rollout=attempt,
        route=next_route,
    )


def _due(situation: Situation) -> datetime:
    """When the step (or the bake) under way may end."""
    started = situation.attempt.step_started_at or situation.now
    if situation.baking:
        return started + max(situation.spec.bake, situation.observed.settle)
    return started + _hold(situation)


def _hold(situation: Situation) -> timedelta:
    steps = situation.steps
    number = min(max(situation.attempt.step, 1), len(steps))
    return steps[number - 1].hold


def _upcoming(situation: Situation) -> tuple[int, int] | None:
    """(number, parts per million) of the next step: the first that weighs more than now; None means promotion."""
    now = share(situation.attempt.weight)
    for number, entry in enumerate(situation.steps, start=1):
        if share(entry.weight) > now:
            return number, share(entry.weight)
    return None


def _step_message(situation: Situation) -> str:
    attempt = situation.attempt
    return f"step {attempt.step} of {attempt.steps}: {attempt.weight:g} % on {attempt.revision}"


def _watching(situation: Situation, judgement: Judgement, message: str, weight: int) -> Draft:
    """The state of an attempt that keeps its weight: both fleets, guards on, the route re-asserted."""
    other = situation.last_good if situation.baking else situation.stable
    revision = situation.attempt.revision
    if situation.baking and other:
        route = situation.layout(revision, other, ARMED)
    else:
        route = situation.layout(other or revision, revision, weight)
    return replace(
        draft(situation, situation.status.phase, message),
        fleets=(other, revision) if other else (revision,),
        route=route,
        evaluate=evaluation_request(situation),
        breached=bool(judgement.warned) or judgement.effect in (Effect.PAUSE, Effect.ROLLBACK),
        provider_down=judgement.provider_down,
    )


def _urgent(situation: Situation, judgement: Judgement) -> Draft | None:
    """What cannot wait for the end of a hold: a breach, and a candidate without ready pods."""
    attempt = situation.attempt
    home = situation.observed.workload(situation.last_good if situation.baking else situation.stable)
    if judgement.effect is Effect.ROLLBACK:
        message = f"{judgement.message}: {judgement.evidence}"
        return replace(roll_back(situation, EventReason.GUARD_BREACHED, message), breached=True)
    if situation.subject.ready or not home.ready:
        return _interrupted(situation)
    message = f"{attempt.revision} lost all its ready pods" + (
        f": {situation.subject.trouble}" if situation.subject.trouble else ""
    )
    if situation.baking or attempt.setbacks >= SETBACK_LIMIT:
        return roll_back(situation, EventReason.CANDIDATE_UNAVAILABLE, message)
    return _setback(situation, message)


def _interrupted(situation: Situation) -> Draft | None:
    """Routes without the traffic that the status tells of: a rollback began, and its reason was never stored.

    Giving the weight back would show users a candidate that was found bad before the operator was interrupted.
    """
    revision = situation.attempt.revision
    home = situation.last_good if situation.baking else situation.stable
    if home is None or not situation.observed.route.taken_off(revision, ARMED):
        return None
    message = f"the traffic of {revision} was taken off before, by a rollback whose reason was lost or by somebody else"
    return roll_back(situation, "Interrupted", message)


def _setback(situation: Situation, message: str) -> Draft:
    """Traffic off the candidate in one write; the attempt starts its steps again once its pods are back."""
    stable = situation.stable or situation.attempt.revision
    route = situation.layout(stable, situation.attempt.revision, ARMED)
    attempt = situation.attempt.model_copy(
        update={
            "setbacks": situation.attempt.setbacks + 1,
            "step": 0,
            "step_of": "",
            "weight": 0.0,
            "step_started_at": situation.now,
            "traffic_started_at": None,
            "waiting_since": None,
        }
    )
    status = situation.status.model_copy(update={"rollout": attempt})
    return replace(
        draft(situation, Phase.PREPARING, preparing_message(replace(situation, status=status))),
        rollout=attempt,
        fleets=(stable, situation.attempt.revision),
        route=route,
        shares=shares_in(route),
        events=(event(EventReason.CANDIDATE_UNAVAILABLE, f"{message}; its traffic is back on {stable}", warning=True),),
    )


def _blocked(situation: Situation, judgement: Judgement, state: Draft, target: int) -> Draft | None:
    """Why the next weight is not given now; None when nothing is in the way."""
    attempt = situation.attempt
    if situation.spec.paused:
        return replace(state, message=f"{_step_message(situation)}; paused (spec.rollout.paused), guards stay on")
    needed = situation.capacity_for(target)
    if situation.subject.ready < needed:
        short = f"{situation.subject.ready} ready pods of {needed} that {percent(target):g} % need"
        return replace(state, message=f"{_step_message(situation)}; held: {attempt.revision} has {short}")
    if attempt.approved:
        return None
    last = situation.steps[-1].weight
    if attempt.weight > last:
        # Edited meanwhile to less than users have already: whoever wants less does not want the rest.
        return _await_approval(situation, state, "StepsLowered", f"the last step is {last} % now, less than it has")
    if judgement.effect is Effect.PAUSE:
        return _await_approval(situation, state, "GuardPaused", f"{judgement.message}: {judgement.evidence}")
    if situation.status.phase is Phase.AWAITING_APPROVAL and attempt.reason == "GuardPaused":
        return replace(state, message=situation.status.message)
    if judgement.effect is Effect.HOLD:
        return _held(situation, judgement, state)
    return None


def _held(situation: Situation, judgement: Judgement, state: Draft) -> Draft:
    """Silence holds; after noDataDeadline a person is asked. A provider that is down spends no budget."""
    attempt = situation.attempt
    message = f"{state.message if situation.baking else _step_message(situation)}; held: {judgement.message}"
    if judgement.provider_down:
        waiting = attempt.model_copy(update={"waiting_since": None})
        return replace(state, message=message, rollout=waiting)
    since = attempt.waiting_since or situation.now
    deadline = since + situation.spec.no_data_deadline
    if situation.now >= deadline:
        return _await_approval(situation, state, "NoData", judgement.message)
    grace = _due(situation) + 2 * situation.spec.evaluation_interval
    if attempt.waiting_since is None and situation.now < grace:
        # The evaluation of this very moment is still under way: nothing worth a line in the status.
        return replace(state, wakes=(grace,))
    events = () if attempt.waiting_since else (event(EventReason.STEP_HELD, message),)
    waiting = attempt.model_copy(update={"waiting_since": since, "guards": guard_statuses(situation)})
    return replace(state, message=message, rollout=waiting, wakes=(deadline,), events=events)


def _await_approval(situation: Situation, state: Draft, reason: str, why: str) -> Draft:
    message = f"waiting for a person ({why}): command promote or abort, or apply another spec"
    if situation.status.phase is Phase.AWAITING_APPROVAL:
        return replace(state, message=situation.status.message)
    attempt = situation.attempt.model_copy(update={"reason": reason, "guards": guard_statuses(situation)})
    announced = event(EventReason.AWAITING_APPROVAL, message, warning=True)
    return replace(state, phase=Phase.AWAITING_APPROVAL, message=message, rollout=attempt, events=(announced,))


def _confirm(situation: Situation, state: Draft, upcoming: tuple[int, int] | None) -> Draft:
    """The weight of ``state.route`` is written: begin its step (or the bake) once it was confirmed and seen."""
    revision = situation.attempt.revision
    route = state.route
    if route is not None and situation.confirmed(route) and situation.seen(revision):
        return promoted(situation) if upcoming is None else begin_step(situation, *upcoming)
    slow = situation.now > _due(situation) + SLOW_GATEWAY + 2 * situation.spec.evaluation_interval
    if slow and upcoming is None:
        state = replace(state, phase=Phase.PROMOTING)
    return waiting_for_gateway(situation, state, revision, slow)


def promoted(situation: Situation) -> Draft:
    """All traffic is on the candidate: it is stable now, the last good stays warm, the bake begins."""
    revision, last_good = situation.attempt.revision, situation.stable
    attempt = situation.attempt.model_copy(
        update={
            "weight": 100.0,
            "step_started_at": situation.now,
            "waiting_since": None,
            "approved": False,
            "reason": "",
            "guards": guard_statuses(situation),
        }
    )
    route = situation.layout(revision, last_good, ARMED)
    message = f"{revision} has all traffic; {last_good} stays warm through the bake"
    revisions = situation.status.revisions.model_copy(
        update={"stable": revision, "candidate": None, "last_good": last_good}
    )
    status = situation.status.model_copy(update={"phase": Phase.BAKING, "rollout": attempt, "revisions": revisions})
    return replace(
        draft(replace(situation, status=status), Phase.BAKING, message),
        fleets=(revision, last_good) if last_good else (revision,),
        route=route,
        shares=shares_in(route),
        evaluate=evaluation_request(replace(situation, status=status)),
        events=(event(EventReason.PROMOTED, message),),
        wakes=(situation.now + situation.spec.bake,),
    )


def bake(situation: Situation) -> Draft:
    """One look at the bake: back at full speed on a breach, done when its time is over and the guards pass."""
    judgement = judge(situation)
    attempt = situation.attempt
    final = situation.layout(attempt.revision)
    urgent = _urgent(situation, judgement)
    if urgent is not None:
        return urgent
    message = f"{attempt.revision} has all traffic; {situation.last_good} stays warm through the bake"
    state = _watching(situation, judgement, message, FULL)
    if situation.now < _due(situation):
        return replace(state, wakes=(_due(situation),))
    if situation.written(final):
        return _completed(situation) if situation.confirmed(final) else replace(state, route=final)
    blocked = _bake_blocked(situation, judgement, state)
    return blocked or replace(state, route=final)


def _bake_blocked(situation: Situation, judgement: Judgement, state: Draft) -> Draft | None:
    attempt = situation.attempt
    if situation.observed.problem:
        return replace(
            state,
            message=f"the bake is held: {situation.observed.problem}",
            invalid=situation.observed.problem,
        )
    if situation.spec.paused:
        return replace(state, message=f"{state.message}; paused (spec.rollout.paused), guards stay on")
    if situation.subject.ready < 1:
        return replace(state, message=f"{attempt.revision} and {situation.last_good} have no ready pods")
    if attempt.approved or judgement.effect is Effect.PASS:
        return None
    if judgement.effect is Effect.PAUSE:
        return _await_approval(situation, state, "GuardPaused", f"{judgement.message}: {judgement.evidence}")
    return _held(situation, judgement, state)


def _completed(situation: Situation) -> Draft:
    revision = situation.attempt.revision
    message = f"{revision} serves all traffic"
    state = draft(situation, Phase.IDLE, message)
    ended, history, record = closed(situation, state, Outcome.PROMOTED, "Promoted", "every step and the bake passed")
    return replace(
        state,
        candidate=None,
        rollout=ended,
        history=history,
        revision_status=record,
        fleets=(revision,),
        route=situation.layout(revision),
        shares={revision: WHOLE},
        events=(event(EventReason.ROLLOUT_COMPLETED, f"{message}; the bake is over"),),
    )
