"""Is the candidate's mean outcome more than a given rise above stable's? Bets on both arms, chunk by chunk.

The null hypothesis lets both means, and the shares of the traffic, change with time in any way, as long as the
candidate's mean stays within the rise.
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

FAILED = (0.0, 1.0)
"""The values of two outcomes: good and failed."""


@dataclass(frozen=True)
class Chunk:
    """Requests of both arms at about the same time: one count for each outcome that the test names."""

    candidate: tuple[float, ...]
    stable: tuple[float, ...]


def rise(
    chunks: Sequence[Chunk],
    starts: Sequence[float],
    least: float,
    stable: tuple[float, ...] = FAILED,
    baselines: tuple[float, ...] = BASELINES,
) -> Evidence:
    """Evidence against: in every chunk, the share of the candidate that failed <= mean of stable's + ``least``.

    ``stable`` are the values of stable's outcomes, from 0, lowest first. In a chunk with n requests of the candidate
    and n / r of stable, the bet for the baseline u with stake l multiplies by 1 + l (y - u - least) at each request of
    the candidate and by 1 - l r (y - u) at each of stable. Given the chunks before it, n and r the expectation of
    the product is at most exp(l n (mean_c - mean_s - least)) <= 1, whatever u, l and the share of the traffic are.
    """
    growth = [_growth(chunk.candidate, chunk.stable, least, stable, baselines) for chunk in chunks]
    return mixed(growth, starts)


@lru_cache(maxsize=4096)
def _growth(
    candidate: tuple[float, ...],
    stable: tuple[float, ...],
    least: float,
    values: tuple[float, ...],
    baselines: tuple[float, ...],
) -> tuple[float, ...]:
    """The logarithm by which each bet multiplies its stake in one chunk."""
    mine, theirs = math.fsum(candidate), math.fsum(stable)
    if mine <= 0 or theirs <= 0:
        return (0.0,) * (len(baselines) * len(STAKES))
    ratio = mine / theirs
    found = []
    for baseline in baselines:
        # What keeps every factor above 0, at the candidate's best outcome and at stable's worst.
        most = min(1 / (baseline + least), 1 / (ratio * max(values[-1] - baseline, baseline)))
        gains = [(count, value - baseline - least) for count, value in zip(candidate, FAILED, strict=True) if count > 0]
        gains += [
            (count, -ratio * (value - baseline)) for count, value in zip(stable, values, strict=True) if count > 0
        ]
        for stake in STAKES:
            amount = stake * most
            found.append(sum([count * math.log1p(amount * gain) for count, gain in gains]))
    return tuple(found)
