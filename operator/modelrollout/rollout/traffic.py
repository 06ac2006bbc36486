"""Moving the traffic of an attempt: one route write nearer to a goal, and what is waited for in between."""

from __future__ import annotations

from dataclasses import replace

from modelrollout.api.status import Phase
from modelrollout.rollout.draft import Draft, probe_request
from modelrollout.rollout.plan import ARMED, RoutePlan
from modelrollout.rollout.situation import SLOW_GATEWAY, Situation


def approach(situation: Situation, state: Draft, goal: RoutePlan, *, slow: bool, enough: bool = True) -> Draft | None:
    """``state`` with the next route on the way to ``goal``; None once ``goal`` is in force and was seen.

    A backend that gets users for the first time goes by way of the armed weight, and waits there for ``enough`` pods.
    """
    revision = situation.attempt.revision
    if situation.written(goal):
        if situation.confirmed(goal) and situation.seen(revision):
            return None
        return waiting_for_gateway(situation, replace(state, route=goal), revision, slow)
    if goal.weight_of(revision) > ARMED >= situation.observed.route.weight_of(revision):
        armed = replace(goal, slots=situation.trial(None, ARMED).slots, mirror=None, split=_kept_split(situation))
        if not (enough and situation.confirmed(armed) and situation.seen(revision)):
            return waiting_for_gateway(situation, replace(state, route=armed), revision, slow)
        if situation.stage is not None and situation.now < situation.settled_at:
            # The pinned rule was there without any weight: an answer by it does not tell that the weight arrived.
            return replace(state, route=armed, wakes=(*state.wakes, situation.settled_at))
    return softly(situation, replace(state, route=goal))


def softly(situation: Situation, state: Draft) -> Draft:
    """``state`` with its route; one that takes all users off the revision on trial comes by way of the armed weight."""
    goal, revision = state.route, situation.attempt.revision
    if goal is None or goal.weight_of(revision) >= ARMED:
        return state
    live = situation.observed.route.weight_of(revision)
    if live < ARMED or (live == ARMED and situation.observed.route.accepted and situation.now >= situation.settled_at):
        return state
    armed = replace(goal, slots=situation.trial(None, ARMED).slots, mirror=None, split=_kept_split(situation))
    wakes = (situation.settled_at,) if situation.now < situation.settled_at else ()
    return replace(state, route=armed, wakes=(*state.wakes, *wakes))


def _kept_split(situation: Situation) -> str | None:
    """Clients that have their arm already keep it while its weight is on its way."""
    return situation.observed.route.split


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
