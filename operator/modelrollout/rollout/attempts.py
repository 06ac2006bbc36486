"""Before users meet a candidate: starting an attempt, preparing its pods, verifying them, arming its place."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from modelrollout.api.reasons import EventReason
from modelrollout.api.status import Outcome, Phase, RolloutStatus, Verdict
from modelrollout.rollout.draft import (
    Draft,
    closed,
    draft,
    evaluation_request,
    event,
    probe_request,
    shares_in,
)
from modelrollout.rollout.judgement import of_attempt
from modelrollout.rollout.observed import GateState
from modelrollout.rollout.plan import ARMED, WHOLE
from modelrollout.rollout.rollback import end, roll_back
from modelrollout.rollout.situation import SLOW_GATEWAY, Situation, percent, share

QUERY_INVALID = "GuardQueryInvalid"


def start(situation: Situation) -> Draft:
    """Begin the next attempt with the desired revision; what serves keeps serving."""
    last = situation.status.rollout
    attempt = RolloutStatus(
        attempt=(last.attempt if last else 0) + 1,
        revision=situation.desired,
        version=situation.deployment.spec.model.version,
        started_at=situation.now,
        steps=len(situation.steps),
    )
    state = draft(situation, Phase.PREPARING, f"starting the pods of {situation.desired}")
    version = situation.deployment.spec.model.version
    origin = f" beside {situation.stable}" if situation.stable else ""
    return replace(
        state,
        candidate=situation.desired,
        last_good=None,
        rollout=attempt,
        create_revision=situation.desired,
        fleets=_fleets(situation, situation.desired),
        route=situation.homeward(situation.stable) if situation.stable else None,
        events=(
            event(
                EventReason.ROLLOUT_STARTED,
                f"attempt {attempt.attempt}: {situation.desired} (version {version}){origin}",
            ),
        ),
        breached=False,
        wakes=(situation.now + situation.spec.progress_deadline,),
    )


def _fleets(situation: Situation, candidate: str) -> tuple[str, ...]:
    return (situation.stable, candidate) if situation.stable else (candidate,)


def prepare(situation: Situation) -> Draft:
    """Wait for the candidate's pods; take traffic that it may still have off it."""
    attempt = situation.attempt
    pods = situation.subject
    state = replace(
        draft(situation, Phase.PREPARING, preparing_message(situation)),
        create_revision=attempt.revision,
        fleets=_fleets(situation, attempt.revision),
    )
    if situation.stable:
        home = situation.stable
        state = replace(state, route=situation.homeward(home), wakes=situation.settling(home))
    if pods.ready >= situation.replicas and pods.addressed:
        return replace(
            state,
            phase=Phase.VERIFYING,
            message=f"checking {attempt.revision} before it gets traffic",
            rollout=attempt.model_copy(update={"step_started_at": situation.now, "waiting_since": None}),
            gate=attempt.revision,
            evaluate=evaluation_request(situation, trial=True),
        )
    moments = [moment for moment in (attempt.step_started_at, attempt.started_at, pods.progressed_at) if moment]
    deadline = max(moments, default=situation.now) + situation.spec.progress_deadline
    if situation.now < deadline:
        return replace(state, wakes=(*state.wakes, deadline))
    trouble = _obstacle(situation) or f"{pods.ready} of {situation.replicas} pods are ready"
    message = f"{attempt.revision} made no progress for {_words(situation.spec.progress_deadline)}: {trouble}"
    if situation.stable is None:
        return replace(state, message=f"{message}; nothing else can serve, still waiting", stuck=message)
    return roll_back(situation, EventReason.PROGRESS_DEADLINE_EXCEEDED, message)


def preparing_message(situation: Situation) -> str:
    """What the pods of the attempt wait for, in one line."""
    revision = situation.attempt.revision
    obstacle = _obstacle(situation)
    if situation.attempt.setbacks and not obstacle:
        return f"{revision} lost its ready pods and its traffic; waiting for them to return"
    return f"starting the pods of {revision}: {obstacle}" if obstacle else f"starting the pods of {revision}"


def _obstacle(situation: Situation) -> str | None:
    return situation.observed.foreign or situation.observed.denied or situation.subject.trouble


def _words(duration: timedelta) -> str:
    seconds = int(duration.total_seconds())
    return f"{seconds // 60}m" if seconds >= 60 and seconds % 60 == 0 else f"{seconds}s"


def verify(situation: Situation) -> Draft:
    """Gates first, then one trial of the guards, then the arming of the candidate's place in the route."""
    attempt = situation.attempt
    gate = situation.observed.gates.get(attempt.revision)
    state = replace(
        draft(situation, Phase.VERIFYING, f"checking {attempt.revision} before it gets traffic"),
        fleets=_fleets(situation, attempt.revision),
        gate=attempt.revision,
        evaluate=evaluation_request(situation, trial=True),
    )
    if situation.subject.ready == 0 or not situation.subject.addressed:
        return prepare(situation)
    if situation.observed.route.weight_of(attempt.revision) > ARMED:
        # All was well when its first weight was written. Waiting for anything now would leave users on it unguarded.
        return _first_traffic(situation, state, situation.since(attempt.step_started_at) > SLOW_GATEWAY)
    if gate is None or gate.state is not GateState.PASSED:
        return _gates_pending(situation, state)
    trial = of_attempt(situation)
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
    if situation.spec.paused:
        return replace(state, message=f"paused before {attempt.revision} gets traffic (spec.rollout.paused)")
    return _first_traffic(situation, state, situation.since(gate.finished_at) > SLOW_GATEWAY)


def _gates_pending(situation: Situation, state: Draft) -> Draft:
    gate = situation.observed.gates.get(situation.attempt.revision)
    started = situation.attempt.step_started_at or situation.now
    deadline = started + situation.spec.progress_deadline
    if gate is None or gate.state is GateState.RUNNING:
        why = "the warm gate has not finished"
    else:
        why = f"the warm gate fails: {gate.message}"
        state = replace(state, message=f"{situation.attempt.revision} gets no traffic yet, {why}")
    if situation.now < deadline:
        return replace(state, wakes=(deadline,))
    message = (
        f"{situation.attempt.revision} did not pass its gates in {_words(situation.spec.progress_deadline)}: {why}"
    )
    if situation.stable is None:
        return replace(state, message=f"{message}; nothing else can serve, still trying", stuck=message)
    return roll_back(situation, EventReason.GATES_FAILED, message)


def _first_traffic(situation: Situation, state: Draft, slow: bool) -> Draft:
    """Arm, see it armed, give the first weight, see it confirmed: one route write a call, one status write in all."""
    revision, stable = situation.attempt.revision, situation.stable
    if stable is None:
        return _first_deployment(situation, state, slow)
    first = share(situation.steps[0].weight)
    armed, stepped = situation.layout(stable, revision, ARMED), situation.layout(stable, revision, first)
    if situation.written(stepped):
        if situation.confirmed(stepped) and situation.seen(revision):
            return begin_step(situation, 1, first)
        return waiting_for_gateway(situation, replace(state, route=stepped), revision, slow)
    if (
        situation.confirmed(armed)
        and situation.seen(revision)
        and situation.subject.ready >= situation.capacity_for(first)
    ):
        return replace(state, route=stepped)
    return waiting_for_gateway(situation, replace(state, route=armed), revision, slow)


def _first_deployment(situation: Situation, state: Draft, slow: bool) -> Draft:
    revision = situation.attempt.revision
    whole = situation.layout(revision)
    before = situation.other_than(revision)
    if before is not None and situation.observed.workload(before).ready:
        return _succeed(situation, state, before, slow)
    if not (situation.confirmed(whole) and situation.seen(revision)):
        return waiting_for_gateway(situation, replace(state, route=whole), revision, slow)
    message = f"{revision} serves all traffic"
    ended, history, record = closed(situation, state, Outcome.PROMOTED, "FirstDeployment", message)
    return replace(
        state,
        phase=Phase.IDLE,
        message=message,
        stable=revision,
        candidate=None,
        rollout=ended,
        history=history,
        revision_status=record,
        fleets=(revision,),
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


def waiting_for_gateway(situation: Situation, state: Draft, revision: str, slow: bool) -> Draft:
    """A route that is not confirmed yet: probe it, and say so once it takes longer than people expect."""
    rejection = situation.observed.route.rejection
    phase, message = state.phase, state.message
    if slow or rejection:
        phase = Phase.ARMING if state.phase is Phase.VERIFYING else state.phase
        message = rejection or f"waiting for the gateway to answer with {revision}"
    wakes = () if slow else (situation.now + SLOW_GATEWAY,)
    probe = probe_request(situation, revision) if situation.observed.route.accepted else None
    return replace(state, phase=phase, message=message, probe=probe, wakes=(*state.wakes, *wakes))


def begin_step(situation: Situation, step: int, weight: int) -> Draft:
    """The step's weight is in force everywhere: its time starts now."""
    attempt = situation.attempt
    steps = situation.steps
    hold = steps[step - 1].hold
    begun = attempt.model_copy(
        update={
            "step": step,
            "steps": len(steps),
            "step_of": f"{step}/{len(steps)}",
            "weight": percent(weight),
            "step_started_at": situation.now,
            "traffic_started_at": attempt.traffic_started_at or situation.now,
            "waiting_since": None,
            "approved": False,
            "reason": "",
        }
    )
    stable = situation.stable or attempt.revision
    route = situation.layout(stable, attempt.revision, weight)
    started = replace(situation, status=situation.status.model_copy(update={"rollout": begun}))
    return replace(
        draft(
            situation,
            Phase.PROGRESSING,
            f"step {step} of {len(steps)}: {percent(weight):g} % on {attempt.revision}",
        ),
        rollout=begun,
        fleets=_fleets(situation, attempt.revision),
        route=route,
        shares=shares_in(route),
        evaluate=evaluation_request(started),
        # The trial before the first weight got answers; said here, it costs no write of its own.
        provider_down=False if situation.spec.guards and step == 1 else None,
        wakes=(situation.now + hold,),
    )
