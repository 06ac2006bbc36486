"""Two dials, pods and traffic: how many pods each revision shall have, and how much traffic those that are ready carry.

With room for two whole fleets both have all their pods. With less (maxSurge) pods go first and traffic follows them.
"""

from __future__ import annotations

from modelrollout.rollout.plan import ARMED, WHOLE
from modelrollout.rollout.situation import Situation
from modelrollout.rollout.weights import FULL


def limited(situation: Situation) -> bool:
    """Whether there is less room than for two whole fleets."""
    room = situation.course.room
    return room is not None and room.surge(situation.replicas) < situation.replicas


def tight(situation: Situation) -> bool:
    """Whether the attempt has, or began with, less room than for two whole fleets: home may be short of pods."""
    return limited(situation) or (situation.replicas > 0 and bool(situation.attempt.max_surge))


def _surge(situation: Situation) -> int:
    room = situation.course.room
    return situation.replicas if room is None else room.surge(situation.replicas)


def _missing(situation: Situation) -> int:
    """Pods that may be missing of what the weight needs: with no room at all one must go before one comes."""
    return 0 if _surge(situation) else 1


def fleets(situation: Situation, target: int, replicas: int | None = None) -> dict[str, int]:
    """Pods of both revisions while the candidate is on its way to ``target`` parts per million.

    ``replicas`` is what the step asks for, None is all.
    """
    whole, revision, stable = situation.replicas, situation.attempt.revision, situation.stable
    if stable is None or stable == revision:
        return {revision: whole}
    if not situation.course.beside:
        return {stable: 0, revision: whole}
    live = situation.observed.route.weight_of(revision)
    if live > max(target, ARMED) and limited(situation):
        return homeward(situation, stable)
    needed = situation.capacity_for(max(target, live)) if max(target, live) > ARMED else 1
    if not limited(situation):
        wanted = whole if replicas is None or target >= FULL else min(whole, max(replicas, needed))
        return {stable: whole, revision: wanted}
    wanted = max(replicas or 0, needed)
    others = WHOLE - _lightest(situation, revision)
    shrunk, grown = _exchange(situation, others, min(wanted, whole))
    return {stable: shrunk, revision: grown}


def first_fleets(situation: Situation) -> dict[str, int]:
    """Pods of both revisions for the first stage, before users meet the candidate."""
    stages = situation.course.stages
    return fleets(situation, situation.first_target, stages[0].replicas if stages else None)


def homeward(situation: Situation, home: str) -> dict[str, int]:
    """Pods of both revisions while the traffic of the attempt goes back to ``home``, the one that shrinks first."""
    whole, revision = situation.replicas, situation.attempt.revision
    if home == revision:
        return {home: whole}
    if not situation.course.beside:
        return {revision: 0, home: whole}
    if not tight(situation):
        return {home: whole, revision: whole}
    shrunk, grown = _exchange(situation, situation.observed.route.weight_of(revision), whole)
    # It never grows on its way out, however much room an edit gave it meanwhile.
    return {revision: min(shrunk, situation.subject.desired or shrunk), home: grown}


def baking(situation: Situation) -> dict[str, int]:
    """Pods in the bake: the last good revision stays as warm as the room allows."""
    whole, revision, other = situation.replicas, situation.attempt.revision, situation.last_good
    if other is None or other == revision:
        return {revision: whole}
    if whole == 0:
        return {revision: 0, other: 0}
    kept = min(whole, _surge(situation)) if situation.course.beside else 0
    weight = situation.observed.route.weight_of(other)
    if situation.course.beside and kept == 0 and not (weight == 0 and situation.observed.route.accepted):
        return {revision: max(whole - 1, 1), other: 1}
    return {revision: whole, other: kept}


def stays_warm(situation: Situation) -> bool:
    """Whether the last good revision has pods during the bake, so that its place in the route stays armed."""
    return situation.course.beside and (_surge(situation) > 0 or situation.replicas == 0)


def _lightest(situation: Situation, revision: str) -> int:
    """The weight that every route gives ``revision``: what is left of it must be carried by the other."""
    route = situation.observed.route
    return min(route.weight_of(revision), route.lowest.get(revision, 0))


def _exchange(situation: Situation, weight: int, wanted: int) -> tuple[int, int]:
    """Pods of the one that shrinks (it still has ``weight``) and of the one that grows to ``wanted``."""
    whole = situation.replicas
    room = whole + _surge(situation)
    kept = floor(situation, weight)
    grown = max(1, min(wanted, room - kept))
    return max(kept, min(whole, room - grown)), grown


def floor(situation: Situation, weight: int) -> int:
    """The fewest pods that carry ``weight`` parts per million."""
    return max(1, situation.capacity_for(weight) - _missing(situation)) if weight else 0


def carried(situation: Situation, revision: str, target: int, kept: int) -> int:
    """The part of ``target`` parts per million that its ready pods can carry already, of which ``kept`` stay."""
    ready = min(situation.observed.workload(revision).ready, kept)
    needed = situation.capacity_for(target)
    # With no room at all the other keeps its last pod until it has no users: the last pod of this one comes after that.
    last = needed >= situation.replicas + _surge(situation)
    if ready >= needed or (last and ready >= max(needed - _missing(situation), 1)):
        return target
    return min(target, WHOLE * ready // max(situation.replicas, 1))
