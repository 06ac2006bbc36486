"""All traffic on the candidate: it is stable now, its predecessor stays as warm as there is room, guards stay on."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from modelrollout.api.reasons import AttemptReason, EventReason
from modelrollout.api.status import QUARANTINE_LIMIT, Outcome, Phase
from modelrollout.rollout import capacity, holding
from modelrollout.rollout.draft import (
    Draft,
    arm_statuses,
    closed,
    draft,
    evaluation_request,
    event,
    guard_statuses,
    shares_in,
)
from modelrollout.rollout.judgement import Effect, Judgement, judge
from modelrollout.rollout.plan import ARMED, WHOLE, RoutePlan, Source
from modelrollout.rollout.rollback import commanded_away
from modelrollout.rollout.situation import Situation

PASSED = "every step and the bake passed"


def promoted(situation: Situation) -> Draft:
    """All traffic is on the candidate: the bake begins."""
    revision, last_good = situation.attempt.revision, situation.stable
    counted = situation.attempt.traffic_started_at if situation.source is Source.WEIGHTED else None
    attempt = situation.attempt.model_copy(
        update={
            "weight": 100.0,
            "ramp": 0.0,
            "step_started_at": situation.now,
            "step_ends_at": situation.now + situation.spec.bake,
            "traffic_started_at": counted or situation.now,
            "waiting_since": None,
            "approved": False,
            "skip": False,
            "full": False,
            "reason": "",
            "guards": guard_statuses(situation),
            "arms": arm_statuses(situation),
        }
    )
    revisions = situation.status.revisions.model_copy(
        update={"stable": revision, "candidate": None, "last_good": last_good}
    )
    status = situation.status.model_copy(update={"phase": Phase.BAKING, "rollout": attempt, "revisions": revisions})
    baking = replace(situation, status=status)
    message = _message(baking)
    route = situation.layout(revision, last_good, ARMED)
    names = tuple(name for name in situation.status.quarantined if name != attempt.instead_of)
    away = attempt.instead_of if attempt.instead_of != revision else ""
    return replace(
        draft(baking, Phase.BAKING, message),
        fleets=capacity.baking(baking),
        route=route,
        shares=shares_in(route),
        evaluate=evaluation_request(baking),
        quarantined=(away, *names)[:QUARANTINE_LIMIT] if away else situation.status.quarantined,
        provider_down=False if situation.spec.guards and not situation.course.stages else None,
        events=(event(EventReason.PROMOTED, message),),
        wakes=(situation.now + situation.spec.bake,),
    )


def _message(situation: Situation) -> str:
    revision, last_good = situation.attempt.revision, situation.last_good
    if last_good is None:
        return f"{revision} has all traffic"
    if capacity.stays_warm(situation):
        return f"{revision} has all traffic; {last_good} stays warm through the bake"
    return f"{revision} has all traffic; going back to {last_good} would start its pods first"


def bake(situation: Situation) -> Draft:
    """One look at the bake: back at full speed on a breach, done when its time is over and the guards pass."""
    situation = _awake(situation)
    judgement = judge(situation)
    urgent = holding.urgent(situation, judgement)
    if urgent is not None:
        return urgent
    warm, final = capacity.stays_warm(situation), situation.layout(situation.attempt.revision)
    state = _watching(situation, judgement, warm)
    due = _due(situation)
    if situation.now < due:
        return replace(state, wakes=(*state.wakes, due))
    if warm and situation.written(final):
        # The last write of the attempt is out: its predecessor is not armed any more, going on is the only way.
        return _completed(situation) if situation.confirmed(final) else replace(state, route=final)
    blocked = _blocked(situation, judgement, state, due)
    if blocked is not None:
        return blocked
    if situation.confirmed(final):
        return _completed(situation)
    return replace(state, route=final)


def _watching(situation: Situation, judgement: Judgement, warm: bool) -> Draft:
    revision, last_good = situation.attempt.revision, situation.last_good
    route: RoutePlan = situation.homeward(revision)
    if warm:
        route = situation.layout(revision, last_good, ARMED) if last_good else situation.layout(revision)
    return replace(
        draft(situation, situation.status.phase, _message(situation)),
        fleets=capacity.baking(situation),
        route=route,
        evaluate=evaluation_request(situation),
        breached=bool(judgement.warned) or judgement.effect in (Effect.PAUSE, Effect.ROLLBACK),
        provider_down=judgement.provider_down,
        wakes=(*(() if warm else situation.settling(revision)), *_patience(situation)),
    )


def _patience(situation: Situation) -> tuple[datetime, ...]:
    """When pods that were lost are waited for no longer."""
    due = holding.patience(situation)
    waits = not situation.subject.ready and situation.replicas > 0 and situation.now < due
    return (due,) if waits else ()


def _awake(situation: Situation) -> Situation:
    """Scaled to zero meanwhile: the bake begins anew with the pods, which nobody has waited for yet."""
    if situation.replicas == 0 or situation.subject.desired != 0:
        return situation
    times = {"step_started_at": situation.now, "step_ends_at": situation.now + situation.spec.bake}
    rollout = situation.attempt.model_copy(update=times)
    return replace(situation, status=situation.status.model_copy(update={"rollout": rollout}))


def _due(situation: Situation) -> datetime:
    started = situation.attempt.step_started_at or situation.now
    bake = situation.observed.settle if situation.attempt.skip else max(situation.spec.bake, situation.observed.settle)
    return started + bake


def _blocked(situation: Situation, judgement: Judgement, state: Draft, due: datetime) -> Draft | None:
    attempt = situation.attempt
    if situation.problem:
        return replace(state, message=f"the bake is held: {situation.problem}", invalid=situation.problem)
    if situation.paused:
        return replace(state, message=f"{state.message}; paused ({situation.paused}), guards stay on")
    if situation.replicas == 0:
        return replace(state, message=f"{attempt.revision} is scaled to zero; the bake goes on with its pods")
    if situation.subject.ready < 1:
        return replace(state, message=f"{attempt.revision} and {situation.last_good} have no ready pods")
    if attempt.approved:
        return None
    if judgement.effect in (Effect.PAUSE, Effect.ROLLBACK):
        why = f"{judgement.message}: {judgement.evidence}"
        return holding.await_approval(situation, state, holding.GUARD_PAUSED, why)
    if holding.waits_for(situation, holding.GUARD_PAUSED):
        return holding.still_waiting(situation, state)
    if judgement.effect is Effect.PASS:
        return None
    return holding.held(situation, judgement, state, due)


def _completed(situation: Situation) -> Draft:
    revision, attempt = situation.attempt.revision, situation.attempt
    message = f"{revision} serves all traffic"
    state = draft(situation, Phase.IDLE, message)
    ended, history, record = closed(situation, state, Outcome.PROMOTED, AttemptReason.PROMOTED, PASSED)
    if attempt.instead_of:
        record = {**record, **commanded_away(situation, attempt.instead_of)}
    return replace(
        state,
        candidate=None,
        rollout=ended,
        history=history,
        revision_status=record,
        fleets={revision: situation.replicas},
        route=situation.layout(revision),
        shares={revision: WHOLE},
        events=(event(EventReason.ROLLOUT_COMPLETED, f"{message}; the bake is over"),),
    )
