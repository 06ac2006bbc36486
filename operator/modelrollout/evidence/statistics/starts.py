"""Where in time a change may have begun: pieces of the evidence, and how much is bet on each as a beginning.

Half is bet on the very beginning, a fifth on the later changes of weight, the rest on a grid of times; a slow leak or
a fault late in a long step is found by the tests that began shortly before it.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from modelrollout.evidence.statistics.eprocess import NOTHING

PIECES = 32
SHORTEST = 30.0
"""The grid has at most PIECES cells; they are at first so many seconds long, and double whenever that is too few."""

AT_FIRST, AT_SPANS, ON_GRID = 0.5, 0.2, 0.3

FINEST = 240
"""Cells are cut into pieces as short as is asked for, as long as the evidence has at most so many of them."""


@dataclass(frozen=True)
class Cuts:
    """Times (unix seconds) at which the pieces begin, oldest first; each with its span and the log of its weight."""

    times: tuple[float, ...]
    spans: tuple[int, ...]
    starts: tuple[float, ...]

    def piece(self, at: float) -> int:
        """The index of the piece that ``at`` lies in; -1 before the first."""
        return bisect_right(self.times, at) - 1


def cuts(since: float, now: float, spans: Sequence[float], finest: float = math.inf) -> Cuts:
    """The pieces of the evidence from ``since`` until ``now``, where spans begin at these times, oldest first.

    Where ``finest`` is finite, cells are halved, and again until no piece is longer than that many seconds, but not to
    less than SHORTEST / 2 nor into more than FINEST. A piece within a cell is no beginning: its weight is 0. As the
    evidence grows pieces are put together, never cut anew.

    The weights of all levels of the grid together, whatever the length that the evidence will have, sum to at most 1:
    level a gets 1/((a+1)(a+2)) of the grid's part, the j-th later span 1/(j(j+1)) of theirs.
    """
    level = max(0, math.ceil(math.log2(max(now - since, 1.0) / (PIECES * SHORTEST))))
    width = SHORTEST * 2**level
    weights = {since: AT_FIRST}
    for order, begin in enumerate((begin for begin in spans if begin > since), start=1):
        weights[begin] = weights.get(begin, 0.0) + AT_SPANS / (order * (order + 1))
    each = ON_GRID / ((level + 1) * (level + 2) * (PIECES - 1))
    for place in range(1, PIECES):
        begin = since + place * width
        if begin < now:
            weights[begin] = weights.get(begin, 0.0) + each
    width = width / 2 if math.isfinite(finest) else width
    while width > max(finest, SHORTEST) and width / 2 >= (now - since) / FINEST:
        width /= 2
    for place in range(1, math.ceil((now - since) / width)):
        weights.setdefault(since + place * width, 0.0)
    times = tuple(sorted(weights))
    return Cuts(
        times,
        tuple(max(bisect_right(spans, time) - 1, 0) for time in times),
        tuple(math.log(weights[time]) if weights[time] > 0 else NOTHING for time in times),
    )
