"""The positive conditions of a ModelDeployment, made from a decision; their texts change only when the state does."""

from __future__ import annotations

from modelrollout.api.reasons import AttemptReason, ConditionType, EventReason
from modelrollout.api.status import Condition, ConditionStatus, DriftStatus, Phase, Verdict
from modelrollout.rollout.draft import Draft
from modelrollout.rollout.drift import drift_message, is_used, uncounted, watch_guards
from modelrollout.rollout.gates import GATES, gate_conditions
from modelrollout.rollout.judgement import current, in_breach, of_attempt
from modelrollout.rollout.situation import BEFORE_TRAFFIC, WITH_TRAFFIC, Situation

Judged = tuple[ConditionType, bool | None, str, str]
"""(type, state, reason, message); None keeps what the status says."""

ANSWERING, AGAIN = "Answering", "Prometheus answers again"
"""MetricsReachable while it is True, and after it was False."""
OVER = "no guard is in breach any more"
"""GuardsPassing after it was False."""

STEADY = (ConditionType.WEIGHT_EFFECTIVE,)
"""Conditions whose messages have numbers: they tell those of the moment in which the condition turned. So do gates that
were passed, and are passed again by a new operator; and which guards both arms break changes with each evaluation."""


def conditions(situation: Situation, state: Draft, drift: tuple[DriftStatus, ...]) -> tuple[Condition, ...]:
    """All conditions that apply, each with the time of its last change of status."""
    old = {condition.type: condition for condition in situation.status.conditions}
    generation = situation.deployment.metadata.generation
    result = []
    for kind, truth, reason, message in _judged(situation, state, drift):
        previous = old.get(kind)
        if truth is None:
            if previous is not None:
                result.append(previous)
            continue
        value = ConditionStatus.TRUE if truth else ConditionStatus.FALSE
        moment = situation.now
        if previous is not None and previous.status is value:
            worlds = reason == previous.reason == EventReason.WORLD_MOVED
            # Why it does not answer changes with each question, who is asked with the spec only.
            down = kind is ConditionType.METRICS_REACHABLE and not truth and previous.observed_generation == generation
            down = down and state.provider_down is not None
            steady = kind in STEADY or worlds or down or (truth and (kind in GATES or reason == ANSWERING))
            message = previous.message if steady else message
            if (previous.reason, previous.message, previous.observed_generation) == (reason, message, generation):
                result.append(previous)  # making and checking another one takes long
                continue
            moment = previous.last_transition_time or situation.now
        result.append(
            Condition(
                type=kind,
                status=value,
                reason=reason,
                message=message,
                observed_generation=generation,
                last_transition_time=moment,
            )
        )
    return tuple(result)


def _judged(situation: Situation, state: Draft, drift: tuple[DriftStatus, ...]) -> tuple[Judged, ...]:
    return (
        _spec_valid(state),
        _ready(situation, state),
        _up_to_date(situation, state),
        _route_accepted(situation),
        _metrics_reachable(situation, state),
        _guards_passing(situation, state),
        _progressing(situation, state),
        *gate_conditions(state.rollout),
        *_evidence_available(situation, state),
        *_weight_effective(situation, state),
        *_observed(situation),
        *_drift_detected(situation, drift),
    )


def _spec_valid(state: Draft) -> Judged:
    if state.invalid:
        return ConditionType.SPEC_VALID, False, EventReason.SPEC_INVALID, state.invalid
    return ConditionType.SPEC_VALID, True, "Valid", "the spec can be carried out"


def _ready(situation: Situation, state: Draft) -> Judged:
    if state.stable is None:
        return ConditionType.READY, False, "NothingServes", "no revision serves yet"
    ready, wanted = situation.observed.workload(state.stable).ready, situation.replicas
    if wanted == 0:
        return ConditionType.READY, True, "ScaledToZero", f"{state.stable} is scaled to zero: nobody answers, as asked"
    if ready == 0 and state.candidate and state.fleets.get(state.stable) == 0:
        gap = f"{state.stable} was stopped to make room for {state.candidate}: nobody answers until its pods are ready"
        return ConditionType.READY, False, "Recreating", f"{gap} (strategy Recreate)"
    if ready >= wanted:
        return ConditionType.READY, True, "AllPodsReady", f"{state.stable}: all {wanted} pods are ready"
    if ready:
        return (
            ConditionType.READY,
            True,
            "SomePodsReady",
            f"{state.stable}: {ready} of {wanted} pods are ready",
        )
    return ConditionType.READY, False, "NoPodsReady", f"{state.stable} has no ready pods"


def _up_to_date(situation: Situation, state: Draft) -> Judged:
    if situation.desired == state.stable:
        return ConditionType.UP_TO_DATE, True, "DesiredServes", f"{state.stable} is what the spec asks for"
    serving = state.stable or "nothing"
    return (
        ConditionType.UP_TO_DATE,
        False,
        str(state.phase),
        f"the spec asks for {situation.desired}, {serving} serves",
    )


def _route_accepted(situation: Situation) -> Judged:
    route = situation.observed.route
    if situation.observed.claimed:
        return ConditionType.ROUTE_ACCEPTED, False, EventReason.HOSTNAME_TAKEN, situation.observed.claimed
    if route.rejection:
        return ConditionType.ROUTE_ACCEPTED, False, EventReason.ROUTE_REJECTED, route.rejection
    if situation.silence:
        return ConditionType.ROUTE_ACCEPTED, False, EventReason.ROUTE_UNANSWERED, situation.silence
    if route.backends is not None and route.accepted:
        if not route.probed:
            return ConditionType.ROUTE_ACCEPTED, True, "Switched", "the Service selects the revision that serves"
        return ConditionType.ROUTE_ACCEPTED, True, "Accepted", "the gateway accepted and resolved the routes"
    return ConditionType.ROUTE_ACCEPTED, None, "", ""


def _metrics_reachable(situation: Situation, state: Draft) -> Judged:
    kind = ConditionType.METRICS_REACHABLE
    silent = any(each.type == kind and each.status is ConditionStatus.FALSE for each in situation.status.conditions)
    if state.provider_down is None and silent and state.rollout is not None and state.rollout.outcome is not None:
        message = f"Prometheus {situation.spec.prometheus} did not answer when attempt {state.rollout.attempt} ended"
        return kind, False, EventReason.METRICS_UNREACHABLE, f"{message}; nobody asks for it now"
    if state.provider_down is None:
        return kind, None, "", ""
    if state.provider_down:
        evaluation = of_attempt(situation)
        down = evaluation.with_verdict(Verdict.PROVIDER_DOWN) if evaluation is not None else ()
        why = next((f" ({result.message})" for result in down if result.message), "")
        name = situation.spec.prometheus
        message = f"Prometheus {name} does not answer{why}; the rollout holds its step until it does"
        return kind, False, EventReason.METRICS_UNREACHABLE, message
    return kind, True, ANSWERING, AGAIN if silent else "Prometheus answers"


def _guards_passing(situation: Situation, state: Draft) -> Judged:
    kind = ConditionType.GUARDS_PASSING
    if state.breached is None:
        told = any(each.type == kind and each.status is ConditionStatus.FALSE for each in situation.status.conditions)
        ended = state.rollout is not None and state.rollout.outcome is not None
        if told and ended and state.phase is Phase.IDLE:  # Promoted, or the spec asks for what serves again.
            return kind, True, "NoBreach", "no guard is in breach: the attempt in which one was is over"
        return kind, None, "", ""
    if state.moved:
        message = f"both arms break {', '.join(state.moved)}: the world moved, and the candidate is not blamed"
        return kind, False, EventReason.WORLD_MOVED, message
    if state.breached:
        return kind, False, AttemptReason.GUARD_BREACHED, f"{in_breach(state.breached)}; see status.rollout.guards"
    before = _breached_before(situation, state)
    if before:
        return kind, True, "NoBreach", f"{OVER} ({', '.join(before)} {'were' if len(before) > 1 else 'was'})"
    return kind, True, "NoBreach", "no guard is in breach"


def _breached_before(situation: Situation, state: Draft) -> tuple[str, ...]:
    """The guards of this attempt that were in breach when the status was last written."""
    told = next((each for each in situation.status.conditions if each.type == ConditionType.GUARDS_PASSING), None)
    was, now = situation.status.rollout, state.rollout
    over = told is not None and told.status is ConditionStatus.FALSE
    if not over or was is None or now is None or now.outcome is not None or was.attempt != now.attempt:
        return ()
    return tuple(guard.name for guard in was.guards if guard.verdict is Verdict.BREACH)


def _progressing(situation: Situation, state: Draft) -> Judged:
    kind = ConditionType.PROGRESSING
    obstacle = situation.observed.foreign or situation.observed.denied or state.stuck
    if obstacle:
        return kind, False, "Stuck", obstacle
    match state.phase:
        case Phase.ROLLED_BACK:
            return kind, False, "RolledBack", "the spec's revision was rolled back and is quarantined"
        case Phase.AWAITING_APPROVAL:
            return kind, False, "AwaitingApproval", "the rollout waits for a person"
        case Phase.INVALID:
            return kind, False, "SpecInvalid", "the spec cannot be carried out"
        case Phase.IDLE:
            return kind, True, "Complete", "there is nothing to do"
        case _:
            return kind, True, "RolloutUnderWay", "a rollout is under way"


def _evidence_available(situation: Situation, state: Draft) -> tuple[Judged, ...]:
    """What the trial before the first traffic found, until every guard counts; nothing without guards."""
    kind = ConditionType.EVIDENCE_AVAILABLE
    if not situation.spec.guards:
        return ()
    found = (kind, True, "Found", "every series that SLIs of the catalogs need is there")
    seen, trial = current(situation), of_attempt(situation)
    # Requests that are too few for a value were counted: their series are there.
    if seen is not None and seen.results and all(each.value is not None or each.samples for each in seen.results):
        return (found,)
    if situation.status.phase not in BEFORE_TRAFFIC or state.phase is Phase.PREPARING or trial is None:
        return ((kind, None, "", ""),)
    if trial.missing is None:
        return ((kind, None, "", ""),)
    if trial.missing:
        return ((kind, False, EventReason.SERIES_MISSING, "; ".join(trial.missing)),)
    return (found,)


def _weight_effective(situation: Situation, state: Draft) -> tuple[Judged, ...]:
    """Whether the arms get their shares, while an attempt shares the users with stable."""
    kind = ConditionType.WEIGHT_EFFECTIVE
    if state.phase not in WITH_TRAFFIC or state.phase is Phase.BAKING:
        return ()
    evaluation = current(situation)
    if evaluation is None or evaluation.allocation is None:
        return ((kind, None, "", ""),)
    found = evaluation.allocation
    if found.effective:
        return ((kind, True, "Effective", "the arms get the shares of the requests that the routes ask for"),)
    numbers = f"{found.observed:.2%} of {found.samples:.0f} requests instead of {found.expected:.2%}"
    message = found.message or f"{evaluation.revision} got {numbers}"
    return ((kind, False, EventReason.WEIGHT_NOT_EFFECTIVE, message),)


def _observed(situation: Situation) -> tuple[Judged, ...]:
    observation = situation.deployment.spec.observation
    if observation is None:
        return ()
    if situation.observed.observer and situation.observed.uncopied:
        uncopied = f"nothing is copied: {situation.observed.uncopied}"
        return ((ConditionType.OBSERVED, False, EventReason.NOT_COPIED, uncopied),)
    if situation.observed.observer:
        if blind := _uncounted(situation):
            return ((ConditionType.OBSERVED, False, EventReason.PROFILE_UNUSABLE, blind),)
        return ((ConditionType.OBSERVED, True, "Copied", "requests are copied to the observer of this namespace"),)
    missing = "this namespace has no observer (Helm value observer.namespaces): nothing is copied, drift is not known"
    return ((ConditionType.OBSERVED, False, EventReason.OBSERVER_MISSING, missing),)


def _uncounted(situation: Situation) -> str:
    """Why nothing is counted by the profile, as the watch says.

    As it was told while that says nothing: in an attempt, or while Prometheus does not answer.
    """
    if not watch_guards(situation.deployment.spec.observation):
        return ""
    found = uncounted(situation)
    if found is not None:
        return found
    told = (each for each in situation.status.conditions if each.type == ConditionType.OBSERVED)
    return next((each.message for each in told if each.reason == EventReason.PROFILE_UNUSABLE), "")


def _drift_detected(situation: Situation, drift: tuple[DriftStatus, ...]) -> tuple[Judged, ...]:
    if not is_used(situation):
        return ()
    if drift:
        return (
            (ConditionType.DRIFT_DETECTED, True, "Drift", drift_message(drift, situation.deployment.spec.observation)),
        )
    return ((ConditionType.DRIFT_DETECTED, False, "NoDrift", "nothing is known to drift"),)
