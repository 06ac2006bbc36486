"""The whole rollout logic as one pure function: what is wished, what was, what is seen, what time it is -> a Plan."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from modelrollout.api.modeldeployment import ModelDeployment, revision_name
from modelrollout.api.reasons import EventReason
from modelrollout.api.status import ModelDeploymentStatus, Outcome, Phase
from modelrollout.rollout.attempts import QUERY_INVALID, prepare, start, verify
from modelrollout.rollout.commands import obey
from modelrollout.rollout.complete import complete
from modelrollout.rollout.draft import Draft, draft, event
from modelrollout.rollout.observed import Backend, Observed
from modelrollout.rollout.plan import WHOLE, Plan
from modelrollout.rollout.rollback import (
    ABORTED,
    SPEC_INVALID,
    SUPERSEDED,
    end,
    quarantine_message,
    returning,
    roll_back,
)
from modelrollout.rollout.situation import BEFORE_TRAFFIC, WITH_TRAFFIC, Situation
from modelrollout.rollout.steps import bake, step


def decide(deployment: ModelDeployment, status: ModelDeploymentStatus, observed: Observed, now: datetime) -> Plan:
    """What to do now. Total: it raises for no input that the API server can hold."""
    desired = revision_name(deployment.metadata.name, deployment.spec)
    before = Situation(deployment, desired, status, observed, now)
    situation = _recovered(before)
    obeyed = obey(situation)
    state = obeyed.state or _next(obeyed.situation)
    return complete(before, replace(state, events=(*obeyed.events, *state.events), command_done=obeyed.done))


def _recovered(situation: Situation) -> Situation:
    """A status that was lost is read off the routes: what has the weight is what serves."""
    backends = situation.observed.route.backends
    if backends is None:
        return situation
    if situation.stable is not None:
        return _corrected(situation, backends)
    if situation.status.phase is not Phase.PENDING:
        return situation
    serving = max(backends, key=lambda backend: backend.weight)
    revisions = situation.status.revisions.model_copy(update={"stable": serving.revision})
    return replace(situation, status=situation.status.model_copy(update={"revisions": revisions, "phase": Phase.IDLE}))


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
    """The spec asks for something else than this attempt: traffic home first, whatever comes then."""
    revision, desired = situation.attempt.revision, situation.desired
    home = situation.last_good if situation.baking else situation.stable
    if home is None and situation.observed.route.weight_of(revision) and situation.subject.ready:
        # Users may be on it already: it is left to become stable, and the next one is tried beside it.
        return None
    problem = situation.observed.problem
    if problem and not situation.baking:
        reason, outcome, message = SPEC_INVALID, Outcome.ABORTED, f"the spec became unusable: {problem}"
        kind = EventReason.ROLLOUT_ABORTED
    elif desired == revision or problem:
        return None
    elif desired == home:
        reason, outcome, message = ABORTED, Outcome.ABORTED, f"the spec went back to {home}"
        kind = EventReason.ROLLOUT_ABORTED
    else:
        reason, outcome, message = (
            SUPERSEDED,
            Outcome.SUPERSEDED,
            f"{desired} is asked for instead of {revision}",
        )
        kind = EventReason.ROLLOUT_SUPERSEDED
    if home is not None and situation.status.phase in WITH_TRAFFIC:
        return roll_back(situation, reason, message, kind=kind)
    if home is not None and situation.observed.route.weight_of(revision):
        return roll_back(situation, reason, message, kind=kind)
    ended = end(situation, outcome, reason, message)
    return replace(ended, events=(*ended.events, event(kind, message)))


def rest(situation: Situation) -> Draft:
    """No attempt is under way: keep what serves as it is, or begin the next attempt."""
    stable, desired = situation.stable, situation.desired
    problem = situation.observed.problem
    if problem:
        return _resting(situation, Phase.INVALID, problem, invalid=problem)
    if desired == stable:
        return _resting(situation, Phase.IDLE, f"{stable} serves all traffic")
    if desired in situation.status.quarantined:
        why = situation.attempt.message if situation.attempt.revision == desired else "it was rolled back before"
        message = quarantine_message(desired, why, stable)
        return _resting(situation, Phase.ROLLED_BACK, message)
    last = situation.status.rollout
    if (
        situation.status.phase is Phase.INVALID
        and last is not None
        and (last.reason, last.revision) == (QUERY_INVALID, desired)
        and situation.status.observed_generation == situation.deployment.metadata.generation
    ):
        return _resting(situation, Phase.INVALID, last.message, invalid=last.message)
    return start(situation)


def _resting(situation: Situation, phase: Phase, message: str, invalid: str | None = None) -> Draft:
    stable = situation.stable
    if stable is None:
        return replace(draft(situation, phase, message), invalid=invalid, candidate=None)
    return replace(
        draft(situation, phase, message),
        candidate=None,
        fleets=(stable,),
        route=situation.homeward(stable),
        wakes=situation.settling(stable),
        shares={stable: WHOLE},
        invalid=invalid,
    )
