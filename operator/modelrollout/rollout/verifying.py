"""Before users meet a candidate: its gates, one trial of the guards, its first traffic."""

from __future__ import annotations

from dataclasses import replace

from modelrollout.api.reasons import AttemptReason, EventReason
from modelrollout.api.status import Outcome, Phase, Verdict
from modelrollout.rollout import capacity
from modelrollout.rollout.attempts import AWAITED, in_words, lost_pods, prepare
from modelrollout.rollout.draft import Draft, closed, draft, evaluation_request, event
from modelrollout.rollout.gates import (
    of_candidate,
    passed_at,
    refusal,
    under_load,
    where_pending,
    why_pending,
    with_gates,
)
from modelrollout.rollout.holding import SETBACK_LIMIT, urgent
from modelrollout.rollout.judgement import Effect, Judgement, of_attempt
from modelrollout.rollout.observed import Evaluation, GateState
from modelrollout.rollout.plan import ARMED, WHOLE, EvaluationRequest
from modelrollout.rollout.record import Kind, decided
from modelrollout.rollout.rollback import end, roll_back
from modelrollout.rollout.situation import SLOW_GATEWAY, Situation
from modelrollout.rollout.steps import advance
from modelrollout.rollout.traffic import waiting_for_gateway

QUERY_INVALID = AttemptReason.GUARD_QUERY_INVALID


def verify(situation: Situation) -> Draft:
    """Gates first, then one trial of the guards, then the candidate's place in the route."""
    situation = with_gates(situation)
    attempt, gate = situation.attempt, of_candidate(situation)
    state = replace(
        draft(situation, Phase.VERIFYING, f"checking {attempt.revision} before it gets traffic"),
        fleets=capacity.first_fleets(situation),
        gate=attempt.revision,
        evaluate=evaluation_request(situation, trial=True),
    )
    met = situation.stable is not None and situation.observed.route.weight_of(attempt.revision) > ARMED
    if situation.subject.ready == 0 and met:
        # Users met it already, in the moment before its step began: that counts like any loss of its pods.
        return urgent(situation, Judgement(Effect.HOLD)) or _lost(situation)
    refused = refusal(gate)
    if refused and situation.observed.route.weight_of(attempt.revision) <= ARMED:
        return _refuse(situation, *refused)
    if situation.subject.ready == 0 and under_load(gate):
        return state
    if situation.subject.ready == 0 or not situation.subject.addressed:
        return _lost(situation)
    if situation.observed.route.weight_of(attempt.revision) > ARMED:
        # All was well when its first weight was written. Waiting for anything now would leave users on it unguarded.
        began = gate.finished_at if gate is not None and gate.finished_at else attempt.step_started_at
        return _first_traffic(situation, state, situation.since(began) > SLOW_GATEWAY)
    if gate is None or gate.state is not GateState.PASSED:
        return _gates_pending(situation, state)
    trial = _answer(situation, state.evaluate)
    if situation.spec.guards and trial is None:
        return state
    if trial is not None:
        invalid = next((r for r in trial.results if r.invalid), None)
        if invalid:
            sentence = f"guard {invalid.name} can never be judged: {invalid.invalid}"
            return replace(
                end(situation, Outcome.ABORTED, QUERY_INVALID, sentence),
                phase=Phase.INVALID,
                message=sentence,
                invalid=sentence,
            )
        if trial.with_verdict(Verdict.PROVIDER_DOWN):
            message = f"{attempt.revision} passed its gates; waiting for Prometheus to answer before it gets traffic"
            return replace(state, message=message, provider_down=True)
    if situation.paused and not attempt.instead_of:
        return replace(state, message=f"paused before {attempt.revision} gets traffic ({situation.paused})")
    return _first_traffic(situation, state, situation.since(gate.finished_at) > SLOW_GATEWAY)


def _answer(situation: Situation, request: EvaluationRequest | None) -> Evaluation | None:
    """What the trial of the guards found; that of other guards, which the spec or a policy mended since, is none."""
    found = of_attempt(situation)
    return found if found is not None and request is not None and found.digest == request.digest else None


def _lost(situation: Situation) -> Draft:
    """Its pods are waited for anew; but where all are gone not for ever, since it may be a gate that kills them.

    What took the pods of stable too is not the candidate's doing; a first deployment is tried as long as it is wanted.
    """
    attempt, home = situation.attempt, situation.observed.workload(situation.stable)
    innocent = situation.subject.ready or situation.replicas == 0 or (home.desired and not home.ready)
    if innocent or situation.stable is None:
        return prepare(situation)
    where = where_pending(of_candidate(situation))
    if attempt.setbacks >= SETBACK_LIMIT:
        message = lost_pods(situation, f" {attempt.setbacks + 1} times, last{where}")
        return roll_back(situation, AttemptReason.CANDIDATE_UNAVAILABLE, message)
    message = f"{lost_pods(situation, where)}; {AWAITED}"
    begun = {"setbacks": attempt.setbacks + 1, "step_started_at": situation.now, "waiting_since": None}
    attempt = decided(situation, attempt.model_copy(update=begun), Kind.RESTART, message)
    status = situation.status.model_copy(update={"rollout": attempt})
    told = event(EventReason.CANDIDATE_UNAVAILABLE, message, warning=True)
    return replace(prepare(replace(situation, status=status)), events=(told,))


def _gates_pending(situation: Situation, state: Draft) -> Draft:
    gate = of_candidate(situation)
    why, fails = why_pending(gate)
    if fails:
        state = replace(state, message=f"{situation.attempt.revision} gets no traffic yet, {why}")
    started = max((situation.attempt.step_started_at or situation.now, *passed_at(gate)))
    deadline = started + situation.spec.progress_deadline
    if situation.now < deadline:
        return replace(state, wakes=(deadline,))
    if not fails:
        # A try bounds itself, and may rightly take longer; a new operator has only begun, whenever the last one ended.
        return state
    waited = in_words(situation.spec.progress_deadline)
    message = f"{situation.attempt.revision} did not pass its gates in {waited}: {why}"
    if situation.stable is None:
        return replace(state, message=f"{message}; nothing else can serve, still trying", stuck=message)
    return roll_back(situation, AttemptReason.GATES_FAILED, message)


def _refuse(situation: Situation, reason: AttemptReason, why: str) -> Draft:
    """A gate failed for good: the attempt is over, and nobody met it."""
    if situation.stable is not None:
        return roll_back(situation, reason, why)
    told = event(EventReason.ROLLED_BACK, f"{situation.attempt.revision} is refused: {why}", warning=True)
    return replace(end(situation, Outcome.ROLLED_BACK, reason, why), events=(told,))


def _first_traffic(situation: Situation, state: Draft, slow: bool) -> Draft:
    """One route write a call, one status write in all."""
    if situation.stable is None:
        return _first_deployment(situation, state, slow)
    return advance(situation, state, slow=slow)


def _first_deployment(situation: Situation, state: Draft, slow: bool) -> Draft:
    revision = situation.attempt.revision
    whole = situation.layout(revision)
    before = situation.other_than(revision)
    if before is not None and situation.observed.workload(before).ready:
        return _succeed(situation, state, before, slow)
    if not (situation.confirmed(whole) and situation.seen(revision)):
        return waiting_for_gateway(situation, replace(state, route=whole), revision, slow)
    message = f"{revision} serves all traffic"
    ended, history, record = closed(situation, state, Outcome.PROMOTED, AttemptReason.FIRST_DEPLOYMENT, message)
    return replace(
        state,
        phase=Phase.IDLE,
        message=message,
        stable=revision,
        candidate=None,
        rollout=ended,
        history=history,
        revision_status=record,
        fleets={revision: situation.replicas},
        route=whole,
        shares={revision: WHOLE},
        gate=None,
        evaluate=None,
        events=(event(EventReason.ROLLOUT_COMPLETED, message),),
    )


def _succeed(situation: Situation, state: Draft, before: str, slow: bool) -> Draft:
    """Take over from a first deployment that was superseded, but may have users: by way of the armed weight."""
    revision = situation.attempt.revision
    armed = situation.layout(before, revision, ARMED)
    ready_for_users = situation.confirmed(armed) and situation.seen(revision)
    if ready_for_users or situation.observed.route.weight_of(revision) > ARMED:
        return replace(state, route=situation.homeward(revision), wakes=situation.settling(revision))
    return waiting_for_gateway(situation, replace(state, route=armed), revision, slow)
