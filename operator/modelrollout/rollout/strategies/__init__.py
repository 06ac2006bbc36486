"""The strategies: each compiles its block of the spec to a course of stages; one engine walks them all."""

from __future__ import annotations

from collections.abc import Callable

from modelrollout.api.rolloutspec import Rollout
from modelrollout.api.strategies import Strategy
from modelrollout.rollout.strategies import ab_test, blue_green, canary, recreate, shadow
from modelrollout.rollout.strategies.stage import Course, Ending, Stage

__all__ = ["Course", "Ending", "Stage", "course_of"]

_COURSES: dict[Strategy, Callable[[Rollout], Course]] = {
    Strategy.CANARY: canary.course,
    Strategy.BLUE_GREEN: blue_green.course,
    Strategy.SHADOW: shadow.course,
    Strategy.AB_TEST: ab_test.course,
    Strategy.RECREATE: recreate.course,
}


_last: tuple[Rollout | None, Course] = (None, Course())


def course_of(rollout: Rollout, *, fast_track: bool = False) -> Course:
    """The way of an attempt; on the fast track (a revision that is known good) it has no stages before all traffic."""
    # One turn asks several times for that of the same (frozen) spec, and making twenty stages takes a tenth of it.
    global _last
    known, course = _last
    if known is not rollout:
        course = _COURSES[rollout.strategy](rollout)
        _last = (rollout, course)
    return Course(beside=course.beside, room=course.room) if fast_track else course
