"""Is the mean outcome of one arm above a bound? Bets against it, chunk by chunk."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from modelrollout.evidence.statistics.eprocess import Evidence, Together, mixed, two

SMALLEST_BOUND = 1e-6
"""A bound of 0 is tested as this: no number of good requests could make an e-value out of a division by 0."""

FIRST_ALTERNATIVE = 1.25
"""The first alternative in bounds; the distance to the bound doubles from one to the next..."""

LAST_ALTERNATIVE = 0.97
"""... up to so much of what lies above the bound."""


def above(
    counts: Sequence[tuple[float, float]], starts: Sequence[float], bound: float, together: Together = two
) -> Evidence:
    """Evidence against: the mean outcome is at most ``bound`` at all times.

    ``counts`` are (requests that are good, requests that are bad) by chunk, bad being outcome 1. For each alternative
    q the likelihood ratio of q to the bound, (q/b)^bad ((1-q)/(1-b))^good, is a test martingale at b and shrinks
    under any smaller mean; they are mixed in equal shares. ``together`` as in ``mixed``.
    """
    if bound >= 1:
        return Evidence()
    bets = _bets(max(bound, SMALLEST_BOUND))
    return mixed([[good * kept + bad * lost for kept, lost in bets] for good, bad in counts], starts, together)


@lru_cache(maxsize=256)
def _bets(bound: float) -> tuple[tuple[float, float], ...]:
    """The logarithms of the factors at a good and at a bad request for each alternative."""
    odds = []
    beyond, most = bound * (FIRST_ALTERNATIVE - 1), LAST_ALTERNATIVE * (1 - bound)
    while True:
        alternative = bound + min(beyond, most)
        odds.append((math.log((1 - alternative) / (1 - bound)), math.log(alternative / bound)))
        if beyond >= most:
            return tuple(odds)
        beyond *= 2
