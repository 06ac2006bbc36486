"""When a stage may end at the soonest: its hold, and what its guards wait for (their warm-up, late labels).

Which guards a stage is watched by, and from when on they count, is said here once, for the engine and for ``plan``.
"""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

from modelrollout.api.guard import Guard, OnBreach
from modelrollout.api.rolloutspec import Rollout
from modelrollout.rollout.plan import Source
from modelrollout.rollout.strategies import Course, Ending, Stage

ABOVE_ALL = 1000
"""A number of a step that no canary has: the guards of the bake are those that end with none."""


class Leg(NamedTuple):
    """A stage (None: the bake) with its soonest beginning and end, counted from the first stage.

    ``waits_for`` is the guard that makes it longer than its hold; None for none.
    """

    stage: Stage | None
    begins: timedelta
    ends: timedelta
    waits_for: Guard | None = None


def watched(rollout: Rollout, course: Course, stage: Stage | None, *, users: bool, baking: bool) -> tuple[Guard, ...]:
    """The guards that are watched in ``stage``; ``users`` says whether the candidate has some."""
    if not (users or baking or (stage is not None and stage.guarded)):
        return ()
    step = stage.canary_step if stage is not None else 0
    # Users on the way to the first step are guarded by what guards that step.
    step = max(step, 1) if users else step
    step = ABOVE_ALL if baking or not course.stages else step
    return tuple(guard for guard in rollout.guards if (guard.from_step or 0) <= step <= (guard.to_step or ABOVE_ALL))


def goes_on(before: Stage | None, stage: Stage) -> bool:
    """Whether the evidence of ``before`` counts in ``stage`` too: the same requests are counted."""
    return before is not None and before.source is stage.source


def holds(guard: Guard) -> bool:
    """Whether silence of the guard holds a stage."""
    return guard.on_breach is not OnBreach.WARN


def timetable(course: Course, rollout: Rollout) -> tuple[Leg, ...]:
    """The stages and the bake, if everything is ready, every guard passes and every person answers at once."""
    legs: list[Leg] = []
    begins, before = timedelta(0), None
    counted: timedelta | None = None
    for stage in course.stages:
        since = begins if counted is None or not goes_on(before, stage) else counted
        guards = () if stage.approval else watched(rollout, course, stage, users=stage.weight > 0, baking=False)
        legs.append(_leg(stage, begins, stage.hold, guards, since))
        counted = since if stage.guarded else None
        begins, before = legs[-1].ends, stage
    if course.ending is Ending.PROMOTE:
        weighted = before is not None and before.source is Source.WEIGHTED
        since = counted if weighted and counted is not None else begins
        guards = watched(rollout, course, None, users=True, baking=True)
        legs.append(_leg(None, begins, rollout.bake, guards, since))
    return tuple(legs)


def _leg(stage: Stage | None, begins: timedelta, hold: timedelta, guards: tuple[Guard, ...], since: timedelta) -> Leg:
    over = begins + hold
    last = max(filter(holds, guards), key=lambda guard: guard.silent_for, default=None)
    if last is None or since + last.silent_for <= over:
        return Leg(stage, begins, over)
    return Leg(stage, begins, since + last.silent_for, last)
