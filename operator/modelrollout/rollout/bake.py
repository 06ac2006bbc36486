"""All traffic on the candidate: it is stable now, its predecessor stays as warm as there is room, guards stay on."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from modelrollout.api.reasons import AttemptReason, EventReason
from modelrollout.api.status import QUARANTINE_LIMIT, Outcome, Phase
from modelrollout.rollout import capacity, holding
from modelrollout.rollout.draft import Draft, closed, draft, evaluation_request, event, shares_in
from modelrollout.rollout.judgement import Effect, Judgement, judge
from modelrollout.rollout.plan import ARMED, WHOLE, RoutePlan, Source
from modelrollout.rollout.record import Kind, decided, evidence
from modelrollout.rollout.rollback import ROLLBACK_COMMANDED, commanded_away
from modelrollout.rollout.situation import Situation

PASSED = "every step and the bake passed"


def promoted(situation: Situation) -> Draft:
    """All traffic is on the candidate: the bake begins."""
    revision, last_good = situation.attempt.revision, situation.stable
    commanded = situation.attempt.reason == ROLLBACK_COMMANDED
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
            "reason": ROLLBACK_COMMANDED if commanded else "",
            **evidence(situation),
        }
    )
    attempt = decided(situation, attempt, Kind.PROMOTE, f"{revision} gets all traffic")
    revisions = situation.status.revisions.model_copy(
        update={"stable": revision, "candidate": None, "last_good": last_good}
    )
    status = situation.status.model_copy(update={"phase": Phase.BAKING, "rollout": attempt, "revisions": revisions})
    baking = replace(situation, status=status)
    message = _message(baking)
    route = situation.layout(revision, last_good, ARMED)
    left = tuple(name for name in (last_good, attempt.instead_of) if name and name != revision) if commanded else ()
    quarantined = tuple(dict.fromkeys((*left, *situation.status.quarantined)))
    return replace(
        draft(baking, Phase.BAKING, message),
        fleets=capacity.baking(baking),
        route=route,
        shares=shares_in(route),
        evaluate=evaluation_request(baking),
        quarantined=quarantined[:QUARANTINE_LIMIT],
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
    if situation.replicas == 0:
        return _asleep(situation)
    situation = _awake(situation)
    judgement = judge(situation)
    if _waking(situation):
        message = f"{situation.attempt.revision} was scaled to zero; the bake begins anew with its pods"
        state = _watching(situation, judgement, capacity.stays_warm(situation))
        return replace(state, message=message, rollout=situation.attempt, evaluate=None)
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
        holding.watched(situation, judgement, _message(situation)),
        fleets=capacity.baking(situation),
        route=route,
        wakes=(*(() if warm else situation.settling(revision)), *_patience(situation)),
    )


def _patience(situation: Situation) -> tuple[datetime, ...]:
    """When pods that were lost are waited for no longer."""
    due = situation.patience(situation.subject)
    waits = not situation.subject.ready and situation.replicas > 0 and situation.now < due
    return (due,) if waits else ()


def _asleep(situation: Situation) -> Draft:
    """No pods by wish: what users miss now is no evidence against the revision, so nothing is judged."""
    state = _watching(situation, Judgement(Effect.HOLD), capacity.stays_warm(situation))
    asleep = situation.attempt.model_copy(update={"traffic_started_at": None, "step_ends_at": None})
    message = f"{situation.attempt.revision} is scaled to zero; the bake begins anew with its pods"
    return replace(state, phase=Phase.BAKING, message=message, rollout=asleep, evaluate=None, breached=None)


def _awake(situation: Situation) -> Situation:
    """Scaled to zero and back: the bake and its evidence begin anew, once there are pods that can answer."""
    attempt = situation.attempt
    if attempt.traffic_started_at is not None:
        return situation
    times: dict[str, datetime] = {}
    if situation.subject.desired == 0:
        times = {"step_started_at": situation.now}
    elif situation.subject.ready:
        began = situation.now + situation.observed.settle
        times = {"step_started_at": began, "step_ends_at": began + situation.spec.bake, "traffic_started_at": began}
    rollout = attempt.model_copy(update=times)
    return replace(situation, status=situation.status.model_copy(update={"rollout": rollout}))


def _waking(situation: Situation) -> bool:
    """Whether the pods of a revision that was scaled to zero are still waited for."""
    asleep = situation.attempt.traffic_started_at is None and not situation.subject.ready
    return asleep and situation.now < situation.patience(situation.subject)


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
    if situation.subject.ready < 1:
        return replace(state, message=f"{attempt.revision} and {situation.last_good} have no ready pods")
    if attempt.approved:
        return None
    return holding.unproven(situation, judgement, state, due)


def _completed(situation: Situation) -> Draft:
    revision, attempt = situation.attempt.revision, situation.attempt
    message = f"{revision} serves all traffic"
    state = draft(situation, Phase.IDLE, message)
    ended, history, record = closed(situation, state, Outcome.PROMOTED, AttemptReason.PROMOTED, PASSED)
    if attempt.reason == ROLLBACK_COMMANDED and situation.last_good:
        record = {**record, **commanded_away(situation, situation.last_good)}
    return replace(
        state,
        candidate=None,
        rollout=ended,
        history=history,
        revision_status=record,
        fleets={revision: situation.replicas},
        route=situation.layout(revision),
        shares={revision: WHOLE},
        breached=(),
        events=(event(EventReason.ROLLOUT_COMPLETED, f"{message}; the bake is over"),),
    )
