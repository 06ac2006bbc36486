"""The pods of a candidate: starting an attempt, waiting for its pods, and starting again when they are lost."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from modelrollout.api.reasons import AttemptReason, EventReason
from modelrollout.api.status import Phase, RolloutStatus
from modelrollout.rollout import capacity
from modelrollout.rollout.draft import Draft, draft, evaluation_request, event, shares_in
from modelrollout.rollout.plan import ARMED
from modelrollout.rollout.record import Kind, decided
from modelrollout.rollout.rollback import roll_back
from modelrollout.rollout.situation import Situation
from modelrollout.rollout.strategies import course_of

AWAITED = "waiting for them to return"
"""What is done about pods that were lost, behind ``lost_pods``."""


def start(
    situation: Situation, revision: str = "", *, fast_track: bool | None = None, instead_of: str = "", reason: str = ""
) -> Draft:
    """Begin the next attempt with the desired revision (or ``revision``); what serves keeps serving."""
    last = situation.status.rollout
    revision = revision or situation.desired
    fast = revision in situation.observed.known_good if fast_track is None else fast_track
    fast = fast and situation.stable is not None
    _, version = situation.observed.models.get(revision, ("", ""))
    attempt = RolloutStatus(
        attempt=1 + max((each.attempt for each in (*situation.status.history, *((last,) if last else ()))), default=0),
        revision=revision,
        version=situation.deployment.spec.model.version if revision == situation.desired else version,
        strategy=situation.spec.strategy,
        fast_track=fast,
        instead_of=instead_of,
        reason=reason,
        max_surge=_room(situation, fast),
        started_at=situation.now,
        steps=len(course_of(situation.spec, fast_track=fast).stages),
    )
    revisions = situation.status.revisions.model_copy(update={"candidate": revision, "last_good": None})
    status = situation.status.model_copy(update={"rollout": attempt, "revisions": revisions})
    begun = replace(situation, status=status)
    origin = f" beside {situation.stable}" if situation.stable else ""
    how = f", {attempt.strategy}" if situation.stable else ""
    how += _contract(situation, revision)
    how = ", known good: all traffic in one step after its gates" if fast else how
    return replace(
        draft(begun, Phase.PREPARING, f"starting the pods of {revision}"),
        create_revision=situation.desired,
        fleets=_fleets(begun),
        route=situation.homeward(situation.stable) if situation.stable else None,
        events=(
            event(
                EventReason.ROLLOUT_STARTED,
                f"attempt {attempt.attempt}: {revision} (version {attempt.version}){origin}{how}",
            ),
        ),
        breached=(),
        wakes=(situation.now + situation.spec.progress_deadline,),
    )


def _room(situation: Situation, fast_track: bool) -> str:
    """The maxSurge of an attempt that begins now; empty where there is room for two fleets."""
    room = course_of(situation.spec, fast_track=fast_track).room
    return room.max_surge if room is not None and room.surge(situation.replicas) < situation.replicas else ""


def _contract(situation: Situation, revision: str) -> str:
    """What clients must change, in a clause; empty where they need not."""
    models = situation.observed.models
    old, new = (models.get(name or "", ("", ""))[0] for name in (situation.stable, revision))
    return f"; clients must call {new} now, those that call {old} get 404 from it" if old and new and old != new else ""


def _fleets(situation: Situation) -> dict[str, int]:
    stable = situation.stable
    before = situation.observed.workload(stable)
    if not situation.course.beside and stable and not situation.subject.ready and (before.desired or before.present):
        # The new pods come once the old ones are gone: the pool has no room, or their volume goes to one pod only.
        return {stable: 0}
    return capacity.first_fleets(situation)


def prepare(situation: Situation) -> Draft:
    """Wait for the candidate's pods; take traffic that it may still have off it."""
    attempt = situation.attempt
    pods = situation.subject
    fleets = _fleets(situation)
    state = replace(
        draft(situation, Phase.PREPARING, preparing_message(situation)),
        create_revision=situation.desired,
        fleets=fleets,
    )
    if situation.stable:
        home = situation.stable
        state = replace(state, route=situation.homeward(home), wakes=situation.settling(home))
    wanted = fleets.get(attempt.revision, situation.replicas)
    if pods.ready >= max(wanted, 1) and pods.addressed:
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
    trouble = obstacle(situation) or f"{pods.ready} of {wanted} pods are ready"
    message = f"{attempt.revision} made no progress for {in_words(situation.spec.progress_deadline)}: {trouble}"
    if situation.stable is None:
        return replace(state, message=f"{message}; nothing else can serve, still waiting", stuck=message)
    return roll_back(situation, AttemptReason.PROGRESS_DEADLINE_EXCEEDED, message)


def preparing_message(situation: Situation) -> str:
    """What the pods of the attempt wait for, in one line."""
    revision = situation.attempt.revision
    trouble = obstacle(situation)
    if situation.attempt.setbacks and not trouble:
        return f"{lost_pods(situation)}; {AWAITED}"
    old = situation.observed.workload(situation.stable)
    gone = "was stopped to make room: nobody answers" if not (old.desired or old.present) else "is stopped to make room"
    gone = "" if situation.course.beside else f" ({situation.stable} {gone})"
    gone = gone if situation.stable else ""
    return f"starting the pods of {revision}{gone}: {trouble}" if trouble else f"starting the pods of {revision}{gone}"


def lost_pods(situation: Situation, behind: str = "") -> str:
    """That the attempt lost its pods, in a clause: ``behind`` says where or how often, then comes what is wrong."""
    trouble = f": {situation.subject.trouble}" if situation.subject.trouble else ""
    return f"{situation.attempt.revision} lost all its ready pods{behind}{trouble}"


def obstacle(situation: Situation) -> str | None:
    """What keeps the pods of the attempt from getting ready, if it is known."""
    return situation.observed.foreign or situation.observed.denied or situation.subject.trouble


def in_words(duration: timedelta) -> str:
    """A duration in minutes if it is whole ones, else in seconds."""
    seconds = int(duration.total_seconds())
    return f"{seconds // 60}m" if seconds >= 60 and seconds % 60 == 0 else f"{seconds}s"


def again(situation: Situation, kind: EventReason, message: str, *, setback: bool) -> Draft:
    """Traffic off the candidate in one write; the attempt begins anew with its pods.

    After a setback (its pods were lost) that is counted; else the way itself changed.
    """
    revision = situation.attempt.revision
    stable = situation.stable or revision
    attempt = situation.attempt.model_copy(
        update={
            "setbacks": situation.attempt.setbacks + setback,
            "strategy": situation.spec.strategy,
            "max_surge": _room(situation, situation.attempt.fast_track),
            "step": 0,
            "steps": len(course_of(situation.spec, fast_track=situation.attempt.fast_track).stages),
            "step_of": "",
            "weight": 0.0,
            "ramp": 0.0,
            "step_started_at": situation.now,
            "step_ends_at": None,
            "traffic_started_at": None,
            "waiting_since": None,
            "approved": False,
            "skip": False,
            "full": False,
            "reason": "",
        }
    )
    attempt = decided(situation, attempt, Kind.RESTART, message)
    users = situation.observed.route.weight_of(revision) > ARMED
    route = situation.layout(stable, revision, ARMED) if users else situation.homeward(stable)
    status = situation.status.model_copy(update={"rollout": attempt, "phase": Phase.PREPARING})
    begun = replace(situation, status=status)
    return replace(
        draft(begun, Phase.PREPARING, preparing_message(begun)),
        fleets=_fleets(begun),
        route=route,
        shares=shares_in(route),
        wakes=situation.settling(stable),
        events=(event(kind, message, warning=setback),),
    )
