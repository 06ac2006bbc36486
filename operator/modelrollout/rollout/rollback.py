"""Taking a revision back: the decision, the way of the traffic, and the end of the attempt."""

from __future__ import annotations

from dataclasses import replace

from modelrollout.api.modelrevision import ModelRevisionStatus
from modelrollout.api.reasons import AttemptReason, EventReason
from modelrollout.api.status import QUARANTINE_LIMIT, Outcome, Phase, RolloutStatus
from modelrollout.rollout import capacity
from modelrollout.rollout.draft import (
    Draft,
    closed,
    draft,
    event,
    probe_request,
    revision_record,
    shares_in,
)
from modelrollout.rollout.gates import given_up
from modelrollout.rollout.plan import ARMED, WHOLE, EventPlan, RoutePlan
from modelrollout.rollout.record import Kind, decided, evidence
from modelrollout.rollout.situation import Situation
from modelrollout.rollout.weights import FULL, percent

SUPERSEDED = AttemptReason.SUPERSEDED
ABORTED = AttemptReason.ABORTED
ABORT_COMMANDED = AttemptReason.ABORT_COMMANDED
SPEC_INVALID = AttemptReason.SPEC_INVALID
SCALED_TO_ZERO = AttemptReason.SCALED_TO_ZERO
SHADOW_OVER = AttemptReason.SHADOW_OVER
ROLLBACK_COMMANDED = AttemptReason.ROLLBACK_COMMANDED
OUTCOMES: dict[str, Outcome] = {
    SCALED_TO_ZERO: Outcome.SUPERSEDED,
    SHADOW_OVER: Outcome.CONCLUDED,
    SUPERSEDED: Outcome.SUPERSEDED,
    ABORTED: Outcome.ABORTED,
    ABORT_COMMANDED: Outcome.ABORTED,
    SPEC_INVALID: Outcome.ABORTED,
    ROLLBACK_COMMANDED: Outcome.ROLLED_BACK,
}


_KINDS = {Outcome.ROLLED_BACK: Kind.ROLL_BACK, Outcome.CONCLUDED: Kind.COMPLETE}


def roll_back(situation: Situation, reason: str, message: str, *, kind: EventReason = EventReason.ROLLED_BACK) -> Draft:
    """Decide to go back, and take the first step of it in the same write; only where there is a home.

    From a bake the last good revision becomes stable again. ``reason`` ends up in the status and says whether the
    revision is quarantined: all are but those superseded, or aborted by a change of the spec.
    """
    home = situation.home
    revision = situation.attempt.revision
    attempt = situation.attempt.model_copy(
        update={
            "reason": str(reason),
            "message": message,
            "step_started_at": situation.now,
            "step_ends_at": None,
            "waiting_since": None,
            "gates": given_up(situation.attempt.gates),
            **evidence(situation),
        }
    )
    attempt = decided(situation, attempt, _KINDS.get(OUTCOMES.get(reason, Outcome.ROLLED_BACK), Kind.ABORT), message)
    revisions = situation.status.revisions.model_copy(update={"stable": home, "candidate": revision, "last_good": None})
    status = situation.status.model_copy(
        update={"phase": Phase.ROLLING_BACK, "rollout": attempt, "revisions": revisions}
    )
    bad = kind is EventReason.ROLLED_BACK
    announced = event(kind, f"{revision} is taken back: {message}" if bad else message, warning=bad)
    return _returning(replace(situation, status=status), (announced,))


def returning(situation: Situation) -> Draft:
    """Go on with a rollback from wherever the routes are."""
    return _returning(situation, ())


def _returning(situation: Situation, events: tuple[EventPlan, ...]) -> Draft:
    revision, home = situation.attempt.revision, situation.stable
    if home is None:
        return end(situation, OUTCOMES.get(situation.attempt.reason, Outcome.ROLLED_BACK))
    attempt = situation.attempt
    state = replace(
        draft(situation, Phase.ROLLING_BACK, f"taking {revision} back: {attempt.message}"),
        fleets=capacity.homeward(situation, home),
        events=events,
    )
    route = situation.observed.route
    users = route.weight_of(revision) > 0
    back = situation.layout(home, revision, ARMED if users else 0)
    final = situation.layout(home)
    # Routes that differ (one of two was written) are not routes that are gone: only those need nothing more.
    if not route.token or situation.written(final):
        blocked = None if route.token else _unready(situation, state, home, revision)
        if blocked is not None:
            return blocked
        finished = end(situation, OUTCOMES.get(attempt.reason, Outcome.ROLLED_BACK))
        return replace(finished, events=(*events, *finished.events)) if _off(situation) else replace(state, route=final)
    if not users and route.split is None and not situation.written(back):
        # Nobody was led to it but by its own header, or to copies: there is nothing to settle.
        return replace(state, route=final, shares=shares_in(final))
    if route.weight_of(home) <= ARMED or route.weight_of(revision) > ARMED:
        blocked = _not_yet(situation, state, home, revision)
        if blocked is not None:
            return blocked
    if not situation.confirmed(back):
        back = _as_far_as_pods_carry(situation, home, back)
        due = situation.patience(situation.observed.workload(home))
        lighter = replace(state, route=back, shares=shares_in(back), wakes=(due,) if situation.now < due else ())
        return replace(lighter, rollout=attempt.model_copy(update={"weight": 0.0, "ramp": 0.0}))
    if situation.now < situation.settled_at:
        return replace(state, route=back, shares=shares_in(back), wakes=(situation.settled_at,))
    return replace(state, route=final, shares=shares_in(final))


def _as_far_as_pods_carry(situation: Situation, home: str, back: RoutePlan) -> RoutePlan:
    """Where there is less room than for two fleets, the traffic goes home as fast as pods of home get ready."""
    revision, weight = situation.attempt.revision, situation.observed.route.weight_of(situation.attempt.revision)
    if not capacity.tight(situation) or weight <= ARMED or not situation.subject.ready:
        return back
    reached = capacity.carried(situation, home, FULL, situation.replicas)
    # A pod that never gets ready shall not keep users on what was found bad.
    if reached >= FULL or situation.now >= situation.patience(situation.observed.workload(home)):
        return back
    return situation.layout(home, revision, min(weight, WHOLE - reached))


def _off(situation: Situation) -> bool:
    """Whether the weight was read back as gone, so that pods may go too."""
    return not situation.observed.route.token or situation.observed.route.accepted


def _not_yet(situation: Situation, state: Draft, home: str, revision: str) -> Draft | None:
    """Why the traffic cannot go home in this write: home has no ready pods, or the data plane does not know it."""
    if situation.replicas == 0:
        return None
    unready = _unready(situation, state, home, revision)
    if unready is not None:
        return unready
    weight = situation.observed.route.weight_of(home)
    # Before a promotion home has kept its weight all along: every proxy knows it, whatever the gateway says of the last
    # write, and a gateway that is slow to say so would leave all users on what was found bad.
    kept = weight == ARMED and situation.attempt.weight < percent(FULL)
    if weight <= ARMED and not kept:
        armed = situation.layout(revision, home, ARMED)
        known = situation.seen(home) or situation.now >= situation.settled_at
        if not (situation.confirmed(armed) and known):
            due = (situation.settled_at,) if situation.observed.route.accepted and not known else ()
            return replace(state, route=armed, probe=probe_request(situation, home), wakes=(*state.wakes, *due))
    return None


def _unready(situation: Situation, state: Draft, home: str, revision: str) -> Draft | None:
    """Waiting for pods of home; None where it has some, or shall have none."""
    if situation.replicas == 0 or situation.observed.workload(home).ready:
        return None
    if situation.observed.workload(revision).ready:
        message = f"{revision} must go ({state.message}), but {home} has no ready pods yet: it gets them first"
    else:
        message = f"frozen: neither {revision} nor {home} has ready pods; bring pods of {home} back"
    return replace(state, message=message, stuck=message)


def end(situation: Situation, outcome: Outcome, reason: str = "", message: str = "") -> Draft:
    """The attempt is over and its revision has no weight: quarantine it or not, and give its pods back."""
    attempt = situation.attempt
    reason, message = reason or attempt.reason, message or attempt.message
    quarantine = outcome is Outcome.ROLLED_BACK or reason in (ABORT_COMMANDED, ROLLBACK_COMMANDED)
    stable = situation.stable
    phase = Phase.ROLLED_BACK if quarantine else Phase.IDLE
    serving = f"{stable} serves all traffic" if stable else "nothing serves"
    state = draft(situation, phase, quarantine_message(attempt.revision, message, stable) if quarantine else serving)
    ended, history, record = closed(situation, state, outcome, reason, message)
    if outcome is Outcome.CONCLUDED:
        state = replace(state, message=concluded_message(attempt.revision, stable))
    if not quarantine:
        # The column STEP of what serves undisturbed would otherwise show where an attempt ended that nobody wants.
        ended = ended.model_copy(update={"step_of": ""})
    # A commanded rollback that was itself taken back: what it went away from serves again.
    names = tuple(name for name in state.quarantined if name not in (attempt.revision, stable))
    return replace(
        state,
        candidate=None,
        last_good=None,
        rollout=ended,
        history=history,
        revision_status=record,
        quarantined=(attempt.revision, *names)[:QUARANTINE_LIMIT] if quarantine else names,
        fleets={stable: situation.replicas} if stable else {},
        route=situation.layout(stable) if stable else None,
        shares={stable: WHOLE} if stable else {},
        # Of a revision that is not on trial any more and was not taken back for it, no guard says anything.
        breached=None if reason == AttemptReason.GUARD_BREACHED else (),
        wakes=(situation.now,),
    )


def commanded_away(situation: Situation, revision: str) -> dict[str, ModelRevisionStatus]:
    """The record of the revision that a commanded rollback went away from: it is not known good any more."""
    message = f"taken back to {situation.attempt.revision} by command"
    ended = RolloutStatus(
        attempt=situation.attempt.attempt,
        revision=revision,
        reason=ROLLBACK_COMMANDED,
        message=message,
        outcome=Outcome.ROLLED_BACK,
        started_at=situation.attempt.started_at,
        finished_at=situation.now,
    )
    return {revision: revision_record(situation, ended)}


def concluded_message(revision: str, stable: str | None) -> str:
    """The line of a ModelDeployment whose spec asks for a revision that was shadowed and not promoted."""
    return f"the shadow of {revision} is over, {stable} serves. Apply another spec, or command retry"


def quarantine_message(revision: str, why: str, stable: str | None) -> str:
    """The line of a ModelDeployment whose spec asks for a revision that was taken back."""
    serving = f"{stable} serves" if stable else "nothing serves"
    return f"{revision} is quarantined ({why}); {serving}. Apply another version, or command retry"
