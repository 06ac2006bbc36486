"""Dressing a decision: status with conditions, what to write only if it tells people something new, what to retire."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from modelrollout.api.base import clean
from modelrollout.api.guard import OnBreach
from modelrollout.api.reasons import ConditionType, EventReason
from modelrollout.api.status import (
    HISTORY_LIMIT,
    SENTENCE_LIMIT,
    WORD_LIMIT,
    CommandRecord,
    Condition,
    ConditionStatus,
    DriftStatus,
    ModelDeploymentStatus,
    Phase,
    RevisionsStatus,
    RolloutStatus,
    TrafficStatus,
)
from modelrollout.rollout import capacity
from modelrollout.rollout.conditions import AGAIN, OVER, conditions
from modelrollout.rollout.draft import Draft, shares_in
from modelrollout.rollout.drift import automatic, drift_message, drifting, ended, is_used, subjects
from modelrollout.rollout.gates import gate_events
from modelrollout.rollout.holding import TOLD_FOR
from modelrollout.rollout.judgement import current, evidence_of_all, in_breach
from modelrollout.rollout.plan import WHOLE, EventPlan, Plan, RoutePlan, WorkloadPlan
from modelrollout.rollout.record import arm_statuses, comparison_status, evidence
from modelrollout.rollout.situation import ACTIVE, Situation
from modelrollout.rollout.weights import percent

ANNOUNCED = (
    ConditionType.SPEC_VALID,
    ConditionType.METRICS_REACHABLE,
    ConditionType.ROUTE_ACCEPTED,
    ConditionType.WEIGHT_EFFECTIVE,
    ConditionType.EVIDENCE_AVAILABLE,
    ConditionType.OBSERVED,
)
"""Conditions whose turning False is an event with their reason, and whose being so for another reason is another."""

_REASONS = {reason.value: reason for reason in EventReason}

QUIET = frozenset(
    (
        ConditionType.WARM,
        ConditionType.CONTRACT_KEPT,
        ConditionType.GOLDEN_SET_PASSED,
        ConditionType.LOAD_TEST_PASSED,
        ConditionType.EVIDENCE_AVAILABLE,
        ConditionType.WEIGHT_EFFECTIVE,
    )
)
"""Conditions that come with the next write where they are good from the beginning: they cost none of their own."""

PPM_PER_PERCENT = WHOLE // 100

GROWTH = 1.25
"""How much an A/B test must have grown to be told anew."""
COMPARED_GROWTH = 2.0
"""The same for the requests whose answers are compared."""


def complete(situation: Situation, state: Draft) -> Plan:
    """The Plan of ``state``. Values of guards alone are no reason to write the status: transitions are."""
    old = situation.status
    status = _status(situation, state)
    same = status == old or _material(status, old) == _material(old, old)
    if same and not _grew(situation, status):
        status = old
    elif status.rollout is not None and status.rollout.outcome is None and state.phase in (*ACTIVE, Phase.ROLLING_BACK):
        found = evidence(replace(situation, status=status))
        status = status.model_copy(update={"rollout": status.rollout.model_copy(update=found)})
    return Plan(
        status=status,
        create_revision=state.create_revision,
        workloads=_workloads(situation, state),
        retire=_retire(situation, state.fleets),
        prune=_prune(situation, state),
        route=_observing(situation, state.route),
        revision_status=state.revision_status,
        events=(
            *state.events,
            *_announcements(old, status),
            *_breaches(situation, old, status, state.breached or ()),
            *gate_events(old, status),
            *_drift_events(situation, old, status),
            *_obstacles(situation, old, status),
        ),
        gate=state.gate,
        evaluate=state.evaluate,
        probe=state.probe,
        notify=state.notify or automatic(situation, status.drift),
        requeue_after=_requeue(situation.now, (*state.wakes, None if situation.silence else situation.heard_by)),
    )


def _observing(situation: Situation, route: RoutePlan | None) -> RoutePlan | None:
    """The route with the copies that the spec asks for; none for an observer that is not there."""
    observation = situation.deployment.spec.observation
    if route is None or observation is None or not situation.observed.observer:
        return route
    return replace(route, observe=min(max(round(observation.percent * PPM_PER_PERCENT), 1), WHOLE))


def _size(situation: Situation, state: Draft, revision: str) -> int:
    """Pods of ``revision``: never less than it has where the route of this very decision needs them.

    Sizes follow the routes as they are; somebody may have edited those, and they are put right in the same turn.
    """
    pods, now = state.fleets[revision], situation.observed.workload(revision).desired or 0
    if state.route is None or pods >= now or not situation.replicas or not capacity.limited(situation):
        return pods
    return max(pods, min(now, capacity.floor(situation, shares_in(state.route).get(revision, 0))))


def _status(situation: Situation, state: Draft) -> ModelDeploymentStatus:
    revisions = RevisionsStatus(
        desired=situation.desired, stable=state.stable, candidate=state.candidate, last_good=state.last_good
    )
    placed = [name for name in dict.fromkeys((state.stable, state.candidate, state.last_good)) if name]
    if state.phase in (Phase.IDLE, Phase.ROLLED_BACK, Phase.INVALID) and state.stable:
        placed = [state.stable]
    traffic = tuple(
        TrafficStatus(revision=name, slot=situation.slot_of(name), weight=_told(situation, state, name))
        for name in placed
    )
    rollout = state.rollout
    drift = drifting(situation, at_rest=state.phase not in (*ACTIVE, Phase.ROLLING_BACK))
    if rollout is not None and rollout.outcome is None and state.phase is Phase.ROLLING_BACK:
        rollout = rollout.model_copy(update={"weight": _told(situation, state, rollout.revision)})
    return situation.status.model_copy(
        update={
            "observed_generation": situation.deployment.metadata.generation,
            "phase": state.phase,
            "message": clean(_obstructed(situation, _message(situation, state, drift)), SENTENCE_LIMIT),
            "conditions": conditions(situation, state, drift),
            "drift": drift,
            "revisions": revisions,
            "weight": next((entry.weight for entry in traffic if entry.revision == situation.desired), 0.0),
            "traffic": tuple(sorted(traffic, key=lambda entry: entry.slot)),
            "rollout": _cut(rollout),
            "quarantined": state.quarantined,
            "history": state.history,
            "handled_command": situation.status.handled_command if state.command is None else situation.command,
            "commands": _commands(situation, state),
            "paused": state.paused,
        }
    )


def _cut(rollout: RolloutStatus | None) -> RolloutStatus | None:
    """Texts as they will be read back: those that are cut on the way would else be written anew at every turn."""
    if rollout is None:
        return None
    words = {"reason": clean(rollout.reason, WORD_LIMIT), "message": clean(rollout.message, SENTENCE_LIMIT)}
    return rollout.model_copy(update=words)


def _message(situation: Situation, state: Draft, drift: tuple[DriftStatus, ...]) -> str:
    """The line of the state, and what drifts at rest."""
    drifts = f"; drift of {subjects(drift)}" if drift and state.phase is Phase.IDLE else ""
    return f"{_of_users(situation, state)}{drifts}"


def _of_users(situation: Situation, state: Draft) -> str:
    """Users who get no answers come first, whatever the rollout does."""
    if state.stable is None or state.phase is Phase.PENDING:
        return state.message
    if situation.observed.workload(state.stable).ready:
        unrouted = situation.observed.route.rejection or situation.silence
        at_rest = state.phase in (Phase.IDLE, Phase.ROLLED_BACK, Phase.INVALID)
        return f"{unrouted}; {state.message}" if unrouted and at_rest else state.message
    if situation.replicas == 0:
        return state.message
    outage = f"{state.stable} has no ready pods"
    trouble = situation.observed.workload(state.stable).trouble
    outage += f" ({trouble})" if trouble else ""
    if state.phase is Phase.IDLE:
        return outage
    return state.message if f"{state.stable} has no ready pods" in state.message else f"{outage}; {state.message}"


def _obstructed(situation: Situation, message: str) -> str:
    """What a person must remove comes first: nobody finds it by waiting for the gateway or the pods."""
    obstacle = situation.observed.foreign or situation.observed.denied
    return f"{obstacle}; {message}" if obstacle and obstacle not in message else message


def _told(situation: Situation, state: Draft, revision: str) -> float:
    """Percent of ``revision`` as people read it: what the decision knows to be so, else what was told before."""
    if state.shares is not None:
        return percent(state.shares.get(revision, 0))
    return next((entry.weight for entry in situation.status.traffic if entry.revision == revision), 0.0)


def _commands(situation: Situation, state: Draft) -> tuple[CommandRecord, ...]:
    old = situation.status.commands
    return old if state.command is None else (state.command, *old)[:HISTORY_LIMIT]


_VALUES: dict[str, object] = {"guards": (), "arms": (), "comparison": None, "gates": (), "contract": None}


def _material(status: ModelDeploymentStatus, old: ModelDeploymentStatus) -> ModelDeploymentStatus:
    """The status without what changes at every evaluation, and without what is good from the beginning."""
    known = {condition.type: condition for condition in old.conditions}
    told = tuple(
        _turned(each, known.get(each.type)) for each in status.conditions if each.type in known or not _is_quiet(each)
    )
    rollout = None if status.rollout is None else status.rollout.model_copy(update=_VALUES)
    return status.model_copy(update={"rollout": rollout, "conditions": told})


def _turned(condition: Condition, old: Condition | None) -> Condition:
    """The condition, but GuardsPassing as it was told while only which guards it names is another."""
    guards = condition.type == ConditionType.GUARDS_PASSING and old is not None and condition != old
    if not guards or old is None or (condition.status, condition.reason) != (old.status, old.reason):
        return condition
    return condition.model_copy(update={"message": old.message})


def _is_quiet(condition: Condition) -> bool:
    return condition.type in QUIET and condition.status is ConditionStatus.TRUE


def _grew(situation: Situation, status: ModelDeploymentStatus) -> bool:
    """Whether an A/B test or a comparison has grown enough to be told: some 70 writes for millions, or 20."""
    attempt = status.rollout
    if attempt is None or status.phase is not Phase.PROGRESSING:
        return False
    told = sum(arm.requests or 0 for arm in attempt.arms)
    if sum(arm.requests or 0 for arm in arm_statuses(situation)) > told * GROWTH:
        return True
    now, before = comparison_status(situation), attempt.comparison
    compared = (before.compared or 0) if before is not None else 0
    return now is not None and (now.compared or 0) > compared * COMPARED_GROWTH


def _workloads(situation: Situation, state: Draft) -> tuple[WorkloadPlan, ...]:
    """Those that shrink come first: where room is short, the others need what they leave."""
    wanted = [WorkloadPlan(name, _size(situation, state, name)) for name in state.fleets]
    return tuple(
        sorted(wanted, key=lambda each: each.replicas >= (situation.observed.workload(each.revision).desired or 0))
    )


def _retire(situation: Situation, fleets: Mapping[str, int]) -> tuple[str, ...]:
    """Revisions that have pods and shall have none: only once routes without weight for them are in force."""
    route = situation.observed.route
    if route.token and not route.accepted:
        return ()
    return tuple(
        name
        for name, workload in sorted(situation.observed.workloads.items())
        if workload.desired and name not in fleets and route.weight_of(name) == 0
    )


def _prune(situation: Situation, state: Draft) -> tuple[str, ...]:
    """The oldest records beyond the limit, at rest only, and none that serves, is wanted or still has pods."""
    if state.phase is not Phase.IDLE:
        return ()
    keep = {*state.fleets, situation.desired}
    old = [
        name
        for name in situation.observed.records
        if name not in keep and not situation.observed.workload(name).desired
    ]
    surplus = len(situation.observed.records) - situation.deployment.spec.revision_history_limit
    return tuple(old[:surplus]) if surplus > 0 else ()


def _announcements(old: ModelDeploymentStatus, new: ModelDeploymentStatus) -> tuple[EventPlan, ...]:
    was, good = _bad(old), {each.type: each for each in old.conditions if each.status is ConditionStatus.TRUE}
    return tuple(
        EventPlan(_REASONS[condition.reason], condition.message, warning=True)
        for kind, condition in _bad(new).items()
        if kind in ANNOUNCED
        and (kind not in was or was[kind].reason != condition.reason)
        and not _flaps(condition, good.get(kind))
    )


def _flaps(condition: Condition, good: Condition | None) -> bool:
    """Whether Prometheus was silent, or a guard in breach, shortly before, too: what comes and goes is told once."""
    if good is None or good.status is not ConditionStatus.TRUE or not good.message.startswith((AGAIN, OVER)):
        return False
    since, now = good.last_transition_time, condition.last_transition_time
    return since is not None and now is not None and now - since < TOLD_FOR


def _bad(status: ModelDeploymentStatus) -> dict[str, Condition]:
    return {each.type: each for each in status.conditions if each.status is ConditionStatus.FALSE}


def _breaches(
    situation: Situation, old: ModelDeploymentStatus, new: ModelDeploymentStatus, breached: tuple[str, ...]
) -> tuple[EventPlan, ...]:
    """That guards begin to be in breach, where nothing else tells it: a rollback and the wait for a person do."""
    told, was = (_bad(status).get(ConditionType.GUARDS_PASSING) for status in (new, old))
    good = next((each for each in old.conditions if each.type == ConditionType.GUARDS_PASSING), None)
    if told is None or (was is not None and was.reason == told.reason) or _flaps(told, good):
        return ()
    if told.reason == EventReason.WORLD_MOVED:
        return (EventPlan(EventReason.WORLD_MOVED, told.message, warning=True),)
    warn = {guard.name for guard in situation.spec.guards if guard.on_breach is OnBreach.WARN}
    evaluation = current(situation)
    if evaluation is None or not warn.issuperset(breached):
        return ()
    found = evidence_of_all([result for result in evaluation.results if result.name in breached])
    message = clean(f"{in_breach(breached)}, and only warns: {found}", SENTENCE_LIMIT)
    return (EventPlan(EventReason.GUARD_WARNED, message, warning=True),)


def _drift_events(
    situation: Situation, old: ModelDeploymentStatus, new: ModelDeploymentStatus
) -> tuple[EventPlan, ...]:
    if new.drift and not old.drift:
        told = drift_message(new.drift, situation.deployment.spec.observation)
        return (EventPlan(EventReason.DRIFT_DETECTED, clean(told, SENTENCE_LIMIT), warning=True),)
    over = ended(situation) if old.drift and not new.drift and is_used(situation) else ()
    if over:
        return (EventPlan(EventReason.DRIFT_ENDED, clean(f"no drift any more of {subjects(over)}", SENTENCE_LIMIT)),)
    return ()


def _obstacles(situation: Situation, old: ModelDeploymentStatus, new: ModelDeploymentStatus) -> tuple[EventPlan, ...]:
    """What a person must remove is announced once, when the condition Progressing begins to tell of it."""
    told = {condition.message for condition in old.conditions if condition.type == ConditionType.PROGRESSING}
    tells = {condition.message for condition in new.conditions if condition.type == ConditionType.PROGRESSING} - told
    found = (
        (EventReason.FOREIGN_OBJECT, situation.observed.foreign),
        (EventReason.PERMISSION_DENIED, situation.observed.denied),
    )
    return tuple(EventPlan(reason, text, warning=True) for reason, text in found if text and text in tells)


def _requeue(now: datetime, wakes: tuple[datetime | None, ...]) -> timedelta | None:
    moments = [moment for moment in wakes if moment is not None]
    if not moments:
        return None
    # Never zero: a decision that asks for now gets the next turn of the queue, not a spinning loop.
    return max(min(moments) - now, timedelta(milliseconds=10))
