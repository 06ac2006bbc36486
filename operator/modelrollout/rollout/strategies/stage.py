"""What a strategy is made of: stages between the gates and all traffic, and what follows the last one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import NamedTuple

from modelrollout.api.strategies import Canary
from modelrollout.rollout.plan import Source


class Ending(StrEnum):
    """What follows the last stage."""

    PROMOTE = "Promote"
    CONCLUDE = "Conclude"


class Stage(NamedTuple):
    """One stop on the way to all traffic.

    ``words`` describe it, the revision's name follows them. ``weight`` and ``mirror`` are parts per million of the
    users' requests that the candidate answers, and that are copied to it. ``replicas`` None is as many pods as the
    room and the weight allow. ``approval`` is what a person is asked, empty for nothing. ``source`` says which requests
    the guards are judged by, ``canary_step`` counts the steps that guards may start and end at (0: before them).
    ``samples`` is how many requests each arm must have answered. ``split`` and ``preview`` see RoutePlan.

    A tuple, since twenty of them are made at each decision: frozen dataclasses take three times as long.
    """

    words: str
    weight: int = 0
    mirror: int = 0
    hold: timedelta = timedelta(0)
    replicas: int | None = None
    approval: str = ""
    source: Source = Source.WEIGHTED
    canary_step: int = 0
    samples: int | None = None
    split: bool = False
    preview: bool = False

    @property
    def load(self) -> int:
        """Parts per million of the users' requests that the candidate's pods have to carry, copies too."""
        return max(self.weight, self.mirror)

    @property
    def guarded(self) -> bool:
        """Whether the candidate has requests by which guards can judge it."""
        return self.weight > 0 or self.source is not Source.WEIGHTED


@dataclass(frozen=True)
class Course:
    """The way of an attempt after its gates.

    ``room`` is the canary whose maxSurge limits the pods, None for two whole fleets. ``beside`` False: the old pods go
    before the new ones come.
    """

    stages: tuple[Stage, ...] = ()
    ending: Ending = Ending.PROMOTE
    room: Canary | None = None
    beside: bool = True
