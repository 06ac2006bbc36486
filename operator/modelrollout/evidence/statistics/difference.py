"""Is the candidate's mean outcome more than a given rise above stable's? Bets on both arms, chunk by chunk.

The null hypothesis lets both means move with time in any way, as long as the candidate's stays within the rise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from modelrollout.evidence.statistics.eprocess import Evidence, mixed

BASELINES = (0.001, 0.006, 0.03, 0.12, 0.4)
"""Means of stable that the bets are made for; any other is covered too, with a little less power."""

STAKES = tuple(0.9 / 2.6**step for step in range(5))
"""How much is staked, as a share of what can be lost."""


@dataclass(frozen=True)
class Chunk:
    """Requests of both arms in one piece of a span, counted by outcome; ``span`` is the index of the span.

    ``candidate`` and ``stable`` have one count for each outcome that the test names.
    """

    span: int
    candidate: tuple[float, ...]
    stable: tuple[float, ...]


def rise(
    chunks: Sequence[Chunk],
    starts: Sequence[float],
    least: float,
    candidate: tuple[float, ...] = (0.0, 1.0),
    stable: tuple[float, ...] = (0.0, 1.0),
) -> Evidence:
    """Evidence against: in every span, mean of the candidate's outcomes <= mean of stable's + ``least``.

    ``candidate`` and ``stable`` are the values of the outcomes (from 0; failed is 1), lowest first. A bet for the
    baseline u with stake l multiplies by 1 + l (y - u - least) at each request of the candidate and by
    1 - l r (y - u) at each of stable, where r is the candidate's requests over stable's in the span. Given the counts
    of requests the expectation of the product is at most exp(l n (mean_c - mean_s - least)) <= 1, whatever u is.
    """
    totals: dict[int, tuple[float, float]] = {}
    for chunk in chunks:
        mine, theirs = totals.get(chunk.span, (0.0, 0.0))
        totals[chunk.span] = mine + math.fsum(chunk.candidate), theirs + math.fsum(chunk.stable)
    bets = {
        span: _bets(mine / theirs, least, candidate, stable)
        for span, (mine, theirs) in totals.items()
        if mine > 0 and theirs > 0
    }
    nothing = [0.0] * (len(BASELINES) * len(STAKES))
    growth = [
        _growth(chunk.candidate + chunk.stable, bets[chunk.span]) if chunk.span in bets else nothing for chunk in chunks
    ]
    return mixed(growth, starts)


def _growth(counts: tuple[float, ...], bets: Sequence[tuple[float, ...]]) -> list[float]:
    total = [0.0] * len(bets[0])
    for count, column in zip(counts, bets, strict=True):
        if count:
            total = [before + count * factor for before, factor in zip(total, column, strict=True)]
    return total


@lru_cache(maxsize=512)
def _bets(
    ratio: float, least: float, candidate: tuple[float, ...], stable: tuple[float, ...]
) -> tuple[tuple[float, ...], ...]:
    """The logarithms of the factors of all bets, at every outcome of the candidate and then at every one of stable."""
    bets = []
    for baseline in BASELINES:
        # What keeps every factor above 0, at the candidate's best outcome and at stable's worst.
        most = min(1 / (baseline + least), 1 / (ratio * max(stable[-1] - baseline, baseline)))
        for stake in STAKES:
            amount = stake * most
            bets.append(
                (
                    *(math.log1p(amount * (value - baseline - least)) for value in candidate),
                    *(math.log1p(-amount * ratio * (value - baseline)) for value in stable),
                )
            )
    return tuple(zip(*bets, strict=True))
