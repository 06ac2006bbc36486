"""Lives of counters: whatever begins to count from 0 is told apart by a number, with the time at which it began.

A counter that began anew under the labels it had cannot be told from one that went on, once it has more than it had.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Life:
    """One beginning from 0: its number in this process, and when that was (unix seconds)."""

    number: int
    began: float


class Lives:
    """Gives each set of counts its own life; ``wall`` is the time in unix seconds."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._numbers = itertools.count()

    def begin(self) -> Life:
        """A life that begins now."""
        return Life(next(self._numbers), round(self._wall(), 3))
