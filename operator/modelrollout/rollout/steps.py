"""The engine of all strategies: holding the stage in force, going to the next, and to all traffic."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from modelrollout.api.reasons import EventReason
from modelrollout.api.status import Phase
from modelrollout.rollout import capacity, holding
from modelrollout.rollout.attempts import in_words
from modelrollout.rollout.bake import promoted
from modelrollout.rollout.draft import Draft, draft, evaluation_request, shares_in
from modelrollout.rollout.judgement import Effect, Judgement, current, judge
from modelrollout.rollout.plan import ARMED, RoutePlan
from modelrollout.rollout.record import Kind, decided, evidence
from modelrollout.rollout.rollback import SHADOW_OVER, roll_back
from modelrollout.rollout.situation import BEFORE_TRAFFIC, SLOW_GATEWAY, Situation
from modelrollout.rollout.strategies import Ending, Stage
from modelrollout.rollout.timing import goes_on
from modelrollout.rollout.traffic import approach, softly
from modelrollout.rollout.weights import FULL, percent

Next = tuple[int, Stage | None]
"""Number and stage that come next; None is all traffic."""


def step(situation: Situation) -> Draft:
    """One look at a stage under way: roll back, hold, or go on."""
    judgement = judge(situation)
    urgent = holding.urgent(situation, judgement)
    if urgent is not None:
        return urgent
    state = _watching(situation, judgement)
    upcoming = _upcoming(situation)
    goal = _goal(situation, upcoming)
    due = _due(situation)
    if _reweighted(situation) and _may_reweigh(situation, judgement, upcoming):
        return advance(situation, state, slow=False)
    if situation.now < due:
        return replace(state, wakes=(due,))
    # The write of what comes next is out but not confirmed: going on is the only way that never loses a request.
    if not (situation.written(goal) and (goal != state.route or _unconfirmed(situation, goal))):
        blocked = _blocked(situation, judgement, state, upcoming, due)
        if blocked is not None:
            return _without_old_wait(situation, judgement, blocked)
        if _concludes(situation, upcoming):
            message = f"the shadow of {situation.attempt.revision} is over; {situation.stable} goes on serving"
            return roll_back(situation, SHADOW_OVER, message, kind=EventReason.ROLLOUT_CONCLUDED)
        # Nothing is in the way any more: a route that is only asked for leaves the status as it was.
        state = replace(state, phase=Phase.PROGRESSING, message=_message(situation), rollout=situation.attempt)
    slow = situation.now > due + SLOW_GATEWAY + 2 * situation.spec.evaluation_interval
    return advance(situation, state, slow=slow)


def _concludes(situation: Situation, upcoming: Next) -> bool:
    ends = upcoming[1] is None and situation.course.ending is Ending.CONCLUDE
    return ends and not situation.attempt.full and situation.home is not None


def advance(situation: Situation, state: Draft, *, slow: bool) -> Draft:
    """One write nearer to the next stage (or all traffic); once it is in force, its time begins."""
    upcoming = _upcoming(situation)
    goal = _goal(situation, upcoming)
    number, stage = upcoming
    revision, target = situation.attempt.revision, _upcoming_weight(upcoming)
    state = replace(state, fleets=_fleets(situation, target, stage))
    if capacity.limited(situation) and target and not situation.written(goal):
        kept = state.fleets.get(revision, 0)
        reached = max(situation.in_force, capacity.carried(situation, revision, target, kept))
        if reached < target:
            return _ramp(situation, state, stage, reached, target, slow)
    if stage is None and slow and situation.written(goal):
        state = replace(state, phase=Phase.PROMOTING if state.phase is not Phase.VERIFYING else state.phase)
    moving = approach(situation, state, goal, slow=slow, enough=not _short(situation, stage, target))
    if moving is not None:
        return _met(situation, moving, goal)
    return promoted(situation) if stage is None else _begin(situation, number, stage)


def _ramp(situation: Situation, state: Draft, stage: Stage | None, reached: int, target: int, slow: bool) -> Draft:
    """Less room than for two fleets: traffic follows the pods that are ready, and room follows the traffic."""
    if reached <= max(situation.in_force, ARMED):
        ready, wanted = situation.subject.ready, situation.capacity_for(target)
        making = f"making room: {ready} of {wanted} pods of {situation.attempt.revision} are ready"
        return _waiting_for_pods(situation, state, f"{_message(situation)}; {making}" if situation.stage else making)
    # A write that is out already is told before the next one: its users are guarded by what the status says.
    live = situation.observed.route.weight_of(situation.attempt.revision)
    goal = situation.trial(stage, live if max(situation.in_force, ARMED) < live < reached else reached)
    moving = approach(situation, state, goal, slow=slow)
    if moving is not None:
        return _met(situation, moving, goal)
    counted = situation.attempt.traffic_started_at if situation.in_force else None
    weight = percent(goal.weight_of(situation.attempt.revision))
    ramped = situation.attempt.model_copy(
        update={"ramp": weight, "traffic_started_at": counted or situation.now},
    )
    if not situation.attempt.ramp:
        ramped = decided(situation, ramped, Kind.RAMP, f"on the way to {percent(target):g} %, as pods get ready")
    return replace(state, phase=Phase.PROGRESSING, rollout=ramped, route=goal, shares=shares_in(goal))


def _met(situation: Situation, state: Draft, goal: RoutePlan) -> Draft:
    """``state`` with the first weight told though no gateway has confirmed it, so that guards judge who meets it.

    A gateway that carries out a route and is slow to say so would leave users on a bad candidate unguarded.
    """
    attempt, asked = situation.attempt, percent(goal.weight_of(situation.attempt.revision))
    # The arms of an A/B test are judged from its beginning, and a weight that is not the spec's is one that was edited.
    guarded = situation.in_force or (situation.stage is not None and situation.stage.split)
    if guarded or not (situation.written(goal) and goal.weight_of(attempt.revision) > ARMED):
        return state
    route = situation.observed.route
    due = situation.heard_by or (situation.settled_at + SLOW_GATEWAY if route.accepted else None)
    if due is None or situation.now < due:
        return replace(state, wakes=(*state.wakes, due))
    # Whatever was counted before, of copies or a preview, was counted of others.
    told = attempt.model_copy(update={"ramp": asked, "traffic_started_at": situation.now})
    told = decided(situation, told, Kind.RAMP, f"{asked:g} % is not confirmed by the gateway: guards judge from now on")
    phase = Phase.PROGRESSING if state.phase in BEFORE_TRAFFIC else state.phase
    return replace(state, phase=phase, rollout=told)


def _unconfirmed(situation: Situation, goal: RoutePlan) -> bool:
    """Whether the weight of ``goal`` is told already, as one that no gateway has confirmed."""
    return situation.attempt.weight < percent(goal.weight_of(situation.attempt.revision)) <= situation.attempt.ramp


def _fleets(situation: Situation, target: int, stage: Stage | None) -> dict[str, int]:
    target = max(target, stage.load) if stage else target
    return capacity.fleets(situation, target, stage.replicas if stage else None)


def _upcoming(situation: Situation) -> Next:
    stages, number = situation.course.stages, situation.position
    if situation.attempt.full:
        return number, None
    if _reweighted(situation):
        return number, stages[number - 1]
    return (number + 1, stages[number]) if number < len(stages) else (number, None)


def _reweighted(situation: Situation) -> bool:
    """Whether the weight of an A/B test was edited while it is under way."""
    stage = situation.stage
    return stage is not None and stage.split and stage.weight != situation.in_force


def _may_reweigh(situation: Situation, judgement: Judgement, upcoming: Next) -> bool:
    """Less weight comes at once; more of it like a step: guards pass, pods are ready, nobody froze the steps."""
    target = _upcoming_weight(upcoming)
    if target < situation.in_force:
        return True
    return judgement.effect is Effect.PASS and not situation.paused and not _short(situation, upcoming[1], target)


def _upcoming_weight(upcoming: Next) -> int:
    """Parts per million of what comes next."""
    return FULL if upcoming[1] is None else upcoming[1].weight


def _goal(situation: Situation, upcoming: Next) -> RoutePlan:
    return situation.trial(upcoming[1], _upcoming_weight(upcoming))


def _due(situation: Situation) -> datetime:
    """When the stage under way may end."""
    attempt, stage = situation.attempt, situation.stage
    started = attempt.step_started_at or situation.now
    if stage is None or attempt.skip or attempt.full:
        return min(started, situation.now)
    return started + stage.hold


def _message(situation: Situation) -> str:
    attempt, stage = situation.attempt, situation.stage
    if stage is None or (0 < stage.weight != situation.in_force and not attempt.ramp):
        return f"{percent(situation.in_force):g} % on {attempt.revision}"
    told = stage_message(situation.position, len(situation.course.stages), stage, attempt.revision)
    return f"{told}, {percent(situation.in_force):g} % on the way to the next" if attempt.ramp else told


def stage_message(number: int, stages: int, stage: Stage, revision: str) -> str:
    """A stage in one line."""
    return f"step {number} of {stages}: {stage.words} {revision}"


def _watching(situation: Situation, judgement: Judgement) -> Draft:
    """The state of an attempt that keeps its weight: both fleets, guards on, the route re-asserted."""
    stage = situation.stage
    target = max(situation.in_force, 0 if stage is None else stage.load)
    sized = stage
    if situation.attempt.ramp:
        # On the way to the next weight: the room that was made for it stays.
        upcoming = _upcoming(situation)
        sized, target = upcoming[1], max(target, _upcoming_weight(upcoming))
    state = replace(
        holding.watched(situation, judgement, _message(situation)),
        fleets=_fleets(situation, target, sized),
        route=situation.trial(stage, situation.in_force),
    )
    live = situation.observed.route
    taken = live.backends is not None and ARMED < live.lowest.get(situation.attempt.revision, 0) < situation.in_force
    if taken and judgement.effect is not Effect.PASS:
        # Somebody took some of it off, perhaps a rollback that was cut off: giving it back needs evidence of its own.
        return replace(state, route=None)
    return softly(situation, state)


def _blocked(situation: Situation, judgement: Judgement, state: Draft, upcoming: Next, due: datetime) -> Draft | None:
    """Why what comes next does not come now; None when nothing is in the way."""
    attempt, stage = situation.attempt, situation.stage
    if situation.paused:
        return replace(state, message=f"{_message(situation)}; paused ({situation.paused}), guards stay on")
    if stage is not None and stage.approval and not (attempt.skip or attempt.approved or attempt.full):
        return holding.await_approval(situation, state, holding.APPROVAL_STEP, stage.approval)
    target = _upcoming_weight(upcoming)
    short = _short(situation, upcoming[1], target)
    if short:
        fuller = replace(state, fleets=_fleets(situation, target, upcoming[1]))
        return _waiting_for_pods(situation, fuller, f"{_message(situation)}; held: {attempt.revision} has {short}")
    if attempt.approved or attempt.full:
        return None
    if _lowered(situation):
        why = f"the last step is {percent(_heaviest(situation)):g} % now, less than it has"
        return holding.await_approval(situation, state, holding.STEPS_LOWERED, why)
    return holding.unproven(situation, judgement, state, due) or _too_few_samples(situation, state)


def _waiting_for_pods(situation: Situation, state: Draft, message: str) -> Draft:
    """Held until pods are ready. A healthy candidate is not taken back for a pool without room, but people are told."""
    moments = (_due(situation), situation.attempt.step_started_at, situation.subject.progressed_at)
    deadline = max(moment for moment in moments if moment) + situation.spec.progress_deadline
    if situation.now < deadline:
        return replace(state, message=message, wakes=(*state.wakes, deadline))
    trouble = situation.subject.trouble
    message = f"{message}, without progress for {in_words(situation.spec.progress_deadline)}"
    message = f"{message}: {trouble}" if trouble else message
    return replace(state, message=message, stuck=message)


def _without_old_wait(situation: Situation, judgement: Judgement, state: Draft) -> Draft:
    """Data that came back end the wait for them, also where something else is in the way."""
    if judgement.effect is not Effect.PASS or situation.attempt.waiting_since is None or state.rollout is None:
        return state
    phase = state.phase
    if any(holding.waits_for(situation, hold) and state.rollout.reason == hold for hold in holding.HOLDS):
        phase = Phase.PROGRESSING
    return replace(state, phase=phase, rollout=state.rollout.model_copy(update={"waiting_since": None}))


def _short(situation: Situation, stage: Stage | None, target: int) -> str:
    """What is missing of the pods that the next stage needs; empty where traffic follows the pods by itself."""
    if capacity.limited(situation) and (target or stage is None):
        return ""
    needed = situation.capacity_for(target) if target else 1
    if stage is not None and stage.replicas is not None:
        room = _fleets(situation, target, stage).get(situation.attempt.revision, 1)
        needed = min(max(needed, stage.replicas), max(room, 1))
    ready = situation.subject.ready
    words = f"{percent(target):g} % need" if target else "the next step needs"
    return "" if ready >= needed else f"{ready} ready pods of {needed} that {words}"


def _heaviest(situation: Situation) -> int:
    return max((stage.weight for stage in situation.course.stages), default=0)


def _lowered(situation: Situation) -> bool:
    """Edited meanwhile to less than users have already: whoever wants less does not want the rest."""
    return (
        situation.course.ending is Ending.PROMOTE
        and bool(situation.course.stages)
        and situation.attempt.weight > percent(_heaviest(situation))
    )


def _too_few_samples(situation: Situation, state: Draft) -> Draft | None:
    stage = situation.stage
    if stage is None or stage.samples is None or situation.attempt.skip:
        return None
    evaluation = current(situation)
    counts = {} if evaluation is None else {arm.revision: arm.requests or 0 for arm in evaluation.arms}
    if len(counts) == 2 and min(counts.values()) >= stage.samples:
        return None
    return replace(state, message=f"{_message(situation)}; until each arm has answered {stage.samples} requests")


def _begin(situation: Situation, number: int, stage: Stage) -> Draft:
    """The stage is in force everywhere: its time starts now."""
    attempt, stages = situation.attempt, situation.course.stages
    counted = attempt.traffic_started_at if goes_on(situation.stage, stage) else None
    begun = attempt.model_copy(
        update={
            "step": number,
            "steps": len(stages),
            "step_of": f"{number}/{len(stages)}",
            "weight": percent(stage.weight),
            "ramp": 0.0,
            "step_started_at": situation.now,
            "step_ends_at": situation.now + stage.hold,
            "traffic_started_at": (counted or situation.now) if stage.guarded else None,
            "waiting_since": None,
            "approved": False,
            "skip": False,
            "reason": "",
            "arms": evidence(situation)["arms"],
            "comparison": evidence(situation)["comparison"],
        }
    )
    words = stage_message(number, len(stages), stage, attempt.revision)
    begun = decided(situation, begun, Kind.STEP, words)
    status = situation.status.model_copy(update={"rollout": begun, "phase": Phase.PROGRESSING})
    started = replace(situation, status=status)
    route = situation.trial(stage, stage.weight)
    state = replace(
        draft(started, Phase.PROGRESSING, words),
        fleets=_fleets(started, stage.load, stage),
        route=route,
        shares=shares_in(route),
        evaluate=evaluation_request(started),
        # The trial before the first weight got answers; said here, it costs no write of its own.
        provider_down=False if situation.spec.guards and number == 1 else None,
        wakes=(situation.now + stage.hold,),
    )
    if stage.approval:
        return holding.await_approval(started, state, holding.APPROVAL_STEP, stage.approval)
    return state
