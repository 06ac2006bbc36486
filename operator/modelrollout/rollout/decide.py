"""The whole rollout logic as one pure function: what is wished, what was, what is seen, what time it is -> a Plan."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from modelrollout.api.modeldeployment import ModelDeployment, revision_name
from modelrollout.api.reasons import EventReason
from modelrollout.api.status import ModelDeploymentStatus, Outcome, Phase
from modelrollout.rollout import capacity
from modelrollout.rollout.attempts import again, prepare, start
from modelrollout.rollout.bake import bake
from modelrollout.rollout.commands import obey
from modelrollout.rollout.complete import complete
from modelrollout.rollout.draft import Draft, draft, event
from modelrollout.rollout.drift import watch_request
from modelrollout.rollout.observed import Backend, Observed
from modelrollout.rollout.plan import ARMED, WHOLE, Plan
from modelrollout.rollout.record import guards_digest
from modelrollout.rollout.rollback import (
    ABORTED,
    SCALED_TO_ZERO,
    SPEC_INVALID,
    SUPERSEDED,
    concluded_message,
    end,
    quarantine_message,
    returning,
    roll_back,
)
from modelrollout.rollout.situation import ACTIVE, BEFORE_TRAFFIC, WITH_TRAFFIC, Situation
from modelrollout.rollout.steps import step
from modelrollout.rollout.strategies import Ending, course_of
from modelrollout.rollout.verifying import QUERY_INVALID, verify


def decide(deployment: ModelDeployment, status: ModelDeploymentStatus, observed: Observed, now: datetime) -> Plan:
    """What to do now. Total: it raises for no input that the API server can hold."""
    desired = revision_name(deployment.metadata.name, deployment.spec)
    before = Situation(deployment, desired, status, observed, now)
    situation = _recovered(_mended(before))
    obeyed = obey(situation)
    state = obeyed.state or _next(obeyed.situation)
    events = (*obeyed.events, *state.events)
    return complete(before, replace(state, events=events, command=obeyed.record, notify=obeyed.notify))


def _mended(situation: Situation) -> Situation:
    """An attempt that contradicts itself (a status edited by hand) is none, or is where it can go on from."""
    status, revisions = situation.status, situation.status.revisions
    if status.phase not in (*ACTIVE, Phase.ROLLING_BACK):
        return situation
    attempt = status.rollout
    nothing = attempt is None or not attempt.revision or attempt.outcome is not None
    if nothing or (revisions.stable == situation.attempt.revision and not situation.baking):
        phase = Phase.IDLE if revisions.stable else Phase.PENDING
        revisions = revisions.model_copy(update={"candidate": None})
        return replace(situation, status=status.model_copy(update={"phase": phase, "revisions": revisions}))
    if attempt is not None and attempt.started_at is None:
        # Evidence and deadlines count from it: "now" would begin anew at every turn.
        attempt = attempt.model_copy(update={"started_at": situation.now})
        status = status.model_copy(update={"rollout": attempt})
        situation = replace(situation, status=status)
    revision = situation.attempt.revision
    if situation.baking and revisions.stable == revision:
        last_good = None if revisions.last_good == revision else revisions.last_good
        phase, revisions = status.phase, revisions.model_copy(update={"last_good": last_good})
    else:
        phase = Phase.PROGRESSING if situation.baking else status.phase
        phase = Phase.PREPARING if revisions.stable is None and phase in WITH_TRAFFIC else phase
        revisions = revisions.model_copy(update={"candidate": revision})
    if (phase, revisions) == (status.phase, status.revisions):
        return situation
    return replace(situation, status=status.model_copy(update={"phase": phase, "revisions": revisions}))


def _recovered(situation: Situation) -> Situation:
    """A status that was lost is read off the routes: what has the weight is what serves."""
    backends, status = situation.observed.route.backends, situation.status
    if backends is None:
        return _unknown(situation)
    if situation.stable is not None:
        return _corrected(situation, backends)
    serving = max(backends, key=lambda backend: backend.weight).revision
    lost = serving in situation.observed.records and situation.observed.workload(serving).ready > 0
    if status.phase is Phase.PENDING or (lost and status.phase in (Phase.IDLE, Phase.ROLLED_BACK, Phase.INVALID)):
        revisions = status.revisions.model_copy(update={"stable": serving})
        return replace(situation, status=status.model_copy(update={"revisions": revisions, "phase": Phase.IDLE}))
    return situation


def _unknown(situation: Situation) -> Situation:
    """Without routes a stable revision that there never was serves nobody, and shall not be sent users."""
    observed, stable = situation.observed, situation.stable
    if stable is None or stable in observed.records or observed.workload(stable).desired is not None:
        return situation
    revisions = situation.status.revisions.model_copy(update={"stable": None})
    return replace(situation, status=situation.status.model_copy(update={"revisions": revisions}))


def _corrected(situation: Situation, backends: tuple[Backend, Backend]) -> Situation:
    """A stable revision that there never was (a status edited by hand) gives way to the one that the routes serve.

    Users would be sent to a Service that does not exist.
    """
    observed, stable = situation.observed, situation.stable
    if stable in observed.records or observed.workload(stable).desired is not None:
        return situation
    known = [each for each in backends if each.revision not in (stable, situation.candidate)]
    serving = max(known, key=lambda backend: backend.weight, default=None)
    if serving is None or observed.workload(serving.revision).ready == 0:
        return situation
    revisions = situation.status.revisions.model_copy(update={"stable": serving.revision})
    return replace(situation, status=situation.status.model_copy(update={"revisions": revisions}))


def _next(situation: Situation) -> Draft:
    phase = situation.status.phase
    if phase is Phase.ROLLING_BACK:
        return returning(situation)
    if phase in (*BEFORE_TRAFFIC, *WITH_TRAFFIC):
        changed = _overtaken(situation)
        if changed is not None:
            return changed
    if phase in BEFORE_TRAFFIC:
        return prepare(situation) if phase is Phase.PREPARING else verify(situation)
    if situation.baking:
        return bake(situation)
    if phase in WITH_TRAFFIC:
        return step(situation)
    return rest(situation)


def _overtaken(situation: Situation) -> Draft | None:
    """People ask for something else than this attempt: traffic home first, whatever comes then."""
    revision, home = situation.attempt.revision, situation.home
    if home is None and situation.observed.route.weight_of(revision) and situation.subject.ready:
        # Users may be on it already: it is left to become stable, and the next one is tried beside it.
        return None
    why = _other_wish(situation)
    if why is None:
        return _other_way(situation)
    reason, outcome, kind, message = why
    live = situation.observed.route
    met = live.weight_of(revision) or live.split is not None
    if home is not None and (situation.status.phase in WITH_TRAFFIC or met):
        return roll_back(situation, reason, message, kind=kind)
    ended = end(situation, outcome, reason, message)
    return replace(ended, events=(*ended.events, event(kind, message)))


def _other_wish(situation: Situation) -> tuple[str, Outcome, EventReason, str] | None:
    """Why the attempt is not wanted any more: reason, outcome, event and sentence; None while it is."""
    revision, home, wanted = situation.attempt.revision, situation.home, situation.wanted
    problem = situation.problem
    if problem and not situation.baking:
        message = f"the spec became unusable: {problem}"
        return SPEC_INVALID, Outcome.ABORTED, EventReason.ROLLOUT_ABORTED, message
    served = home is not None or situation.observed.route.weight_of(revision) > 0
    if situation.replicas == 0 and not situation.baking and (home is not None or not served):
        message = f"replicas is 0: {revision} is tried when there are pods again"
        return SCALED_TO_ZERO, Outcome.SUPERSEDED, EventReason.ROLLOUT_SUPERSEDED, message
    if wanted == revision or problem:
        return None
    if wanted == home:
        return ABORTED, Outcome.ABORTED, EventReason.ROLLOUT_ABORTED, f"the spec went back to {home}"
    message = f"{wanted} is asked for instead of {revision}"
    return SUPERSEDED, Outcome.SUPERSEDED, EventReason.ROLLOUT_SUPERSEDED, message


def _other_way(situation: Situation) -> Draft | None:
    """The strategy was changed during the attempt: it starts anew by the other one."""
    attempt, strategy = situation.attempt, situation.spec.strategy
    if situation.baking or attempt.fast_track or situation.stable is None or attempt.strategy in ("", strategy):
        return None
    message = f"the strategy is {strategy} now instead of {attempt.strategy}: {attempt.revision} starts anew"
    if capacity.tight(situation) and situation.observed.route.weight_of(attempt.revision) > ARMED:
        # Home is short of pods: users go back to it as they get ready, and the next attempt takes the other way.
        return roll_back(situation, SUPERSEDED, message, kind=EventReason.ROLLOUT_SUPERSEDED)
    return again(situation, EventReason.ROLLOUT_SUPERSEDED, message, setback=False)


def rest(situation: Situation) -> Draft:
    """No attempt is under way: keep what serves as it is, or begin the next attempt."""
    stable, desired = situation.stable, situation.desired
    problem = situation.problem
    if problem:
        invalid = _resting(situation, Phase.INVALID, problem, invalid=problem)
        # What serves already goes on under its old names: a route that takes another's hostname is never written.
        return replace(invalid, route=None) if situation.observed.claimed else invalid
    if desired == stable:
        serving = f"{stable} serves all traffic" if situation.replicas else f"{stable} is scaled to zero (replicas: 0)"
        return _resting(situation, Phase.IDLE, serving)
    if desired in situation.status.quarantined:
        message = quarantine_message(desired, _why_quarantined(situation), stable)
        return _resting(situation, Phase.ROLLED_BACK, message)
    last = situation.status.rollout
    if (
        situation.status.phase is Phase.INVALID
        and last is not None
        and (last.reason, last.revision) == (QUERY_INVALID, desired)
        and situation.status.observed_generation == situation.deployment.metadata.generation
        and last.refused_guards in ("", guards_digest(situation))
    ):
        return _resting(situation, Phase.INVALID, last.message, invalid=last.message)
    concludes = course_of(situation.spec).ending is Ending.CONCLUDE
    if concludes and last is not None and (last.outcome, last.revision) == (Outcome.CONCLUDED, desired):
        return _resting(situation, Phase.IDLE, concluded_message(desired, stable))
    if situation.replicas == 0:
        waiting = f"replicas is 0: {desired} is tried when there are pods again"
        return _resting(situation, Phase.IDLE if stable else Phase.PENDING, waiting)
    return start(situation)


def _why_quarantined(situation: Situation) -> str:
    taken_back = (Outcome.ROLLED_BACK, Outcome.ABORTED)
    for entry in situation.status.history:
        if entry.revision == situation.desired and entry.outcome in taken_back:
            return entry.message
    if situation.attempt.instead_of == situation.desired:
        return f"{situation.stable} was asked for by command"
    return "it was rolled back before"


def _resting(situation: Situation, phase: Phase, message: str, invalid: str | None = None) -> Draft:
    stable = situation.stable
    if stable is None:
        return replace(draft(situation, phase, message), invalid=invalid, candidate=None)
    return replace(
        draft(situation, phase, message),
        candidate=None,
        fleets={stable: situation.replicas},
        route=situation.homeward(stable),
        wakes=situation.settling(stable),
        shares={stable: WHOLE},
        invalid=invalid,
        evaluate=watch_request(situation),
    )
