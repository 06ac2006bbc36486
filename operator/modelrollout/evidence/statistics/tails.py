"""Latency histograms: is the candidate slower than a factor times stable? Tails above bucket edges, compared.

A histogram does not say where in a bucket its requests lie; for the test a tail between two edges is taken to fall
exponentially (a straight line in its logarithm). A breach needs the quantiles themselves to differ as well, with a
log-normal distribution between the edges.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from modelrollout.evidence.statistics.difference import BASELINES, Chunk, rise
from modelrollout.evidence.statistics.eprocess import Evidence, averaged

EDGES_ABOVE = 2
"""How many edges beyond the bucket of stable's quantile are looked at besides its upper one."""

WIDEST_TAIL = 5.0
"""The lower edge of that bucket counts too, where no more than so many times 1 - quantile lies above it..."""

GREATEST_TAIL = 0.75
"""... and no more than this share."""

NORMAL = NormalDist()

ROUNDED = 8
"""The tangent is taken at a ratio of tails rounded to so many steps a factor of e: chunks are then judged once only."""


@dataclass(frozen=True)
class Histogram:
    """Requests of both arms at about the same time: counts at or below each edge, all of them last."""

    candidate: tuple[float, ...]
    stable: tuple[float, ...]


def tail_quantile(share: float, edges: Sequence[float], counts: Sequence[float], doubt: float = 1.0) -> float | None:
    """The value below which ``share`` lies, log-normal within a bucket; None without requests.

    ``edges`` are the finite ones, ``counts`` cumulative with the total last. Beyond the last edge it is that edge; in a
    bucket that begins at 0 the tail falls exponentially. An edge beyond which no request is may be any number of
    standard deviations away: ``doubt`` is how many times as far as one request would be.
    """
    total = counts[-1]
    if total <= 0 or not edges:
        return None
    rest = 1 - share
    tails = [1 - count / total for count in counts[:-1]]
    place = next((index for index, tail in enumerate(tails) if tail <= rest), None)
    if place is None:
        return edges[-1]
    lower, above = (edges[place - 1], tails[place - 1]) if place else (0.0, 1.0)
    none = 0.5 / total
    far, near = tails[place] < none, lower > 0 and above > 1 - none
    below = min(max(tails[place], none), rest)
    if lower > 0:
        above = min(above, 1 - none)
    if above <= rest or below >= above:
        return edges[place]
    if lower <= 0:
        return edges[place] * math.log(above / rest) / (math.log(above / below) * (doubt if far else 1.0))
    first, at, last = (NORMAL.inv_cdf(tail) for tail in (above, rest, below))
    first, last = first * (doubt if near else 1.0), last * (doubt if far else 1.0)
    return float(lower * (edges[place] / lower) ** ((first - at) / (first - last)))


def slower(
    pieces: Sequence[Histogram], starts: Sequence[float], edges: Sequence[float], quantile: float, factor: float
) -> Evidence:
    """Evidence against: the candidate's latency is at most ``factor`` times stable's, in the tail of ``quantile``.

    ``edges`` are the finite upper bounds of the buckets. For an edge b the null hypothesis is
    P(candidate > b) <= T(b / factor), T being stable's tail between its edges. T is a weighted geometric mean of the
    tails at both ends; a geometric mean is concave, so any tangent plane lies above it, and the tangent is a mean of
    outcomes of stable's requests that ``rise`` can bet on. Both ends are at or below b, so T(b / factor) is never
    under stable's own tail at b: arms that are alike never look different.
    """
    stable = [math.fsum(column) for column in zip(*(piece.stable for piece in pieces), strict=True)]
    if not stable or stable[-1] <= 0:
        return Evidence()
    baselines = _baselines(1 - quantile)
    return averaged(
        [_beyond(pieces, starts, edges, edge, stable, factor, baselines) for edge in _edges(stable, quantile)]
    )


def _baselines(rest: float) -> tuple[float, ...]:
    """The baselines near the tail of the quantile; the others would only cost power."""
    near = sorted(BASELINES, key=lambda baseline: abs(math.log(baseline / rest)))
    return tuple(sorted(near[:3]))


def _edges(stable: Sequence[float], quantile: float) -> list[int]:
    """The indexes of the edges that the quantile is compared at."""
    last = len(stable) - 2
    rest = 1 - quantile
    tails = [1 - count / stable[-1] for count in stable[:-1]]
    upper = next((index for index, tail in enumerate(tails) if tail <= rest), last)
    lower = [upper - 1] if upper and tails[upper - 1] <= min(WIDEST_TAIL * rest, GREATEST_TAIL) else []
    return lower + list(range(upper, min(upper + EDGES_ABOVE, last) + 1))


def _beyond(
    pieces: Sequence[Histogram],
    starts: Sequence[float],
    edges: Sequence[float],
    edge: int,
    stable: Sequence[float],
    factor: float,
    baselines: tuple[float, ...],
) -> Evidence:
    at = edges[edge] / factor
    upper = min(bisect_right(edges, at), edge)
    begin = edges[upper - 1] if upper else 0.0
    part = min(max((at - begin) / (edges[upper] - begin), 0.0), 1.0)
    total = stable[-1]
    above = total - stable[upper - 1] if upper else total
    ratio = math.exp(round(ROUNDED * math.log(max(above, 0.5) / max(total - stable[upper], 0.5))) / ROUNDED)
    inside = (1 - part) * ratio**-part
    chunks = [
        Chunk(
            (piece.candidate[edge], piece.candidate[-1] - piece.candidate[edge]),
            _parted(piece.stable, upper),
        )
        for piece in pieces
    ]
    return rise(chunks, starts, 0.0, (0.0, inside, inside + part * ratio ** (1 - part)), baselines)


def _parted(counts: Sequence[float], upper: int) -> tuple[float, float, float]:
    """Requests below the bucket with this upper edge, in it, and above it."""
    below = counts[upper - 1] if upper else 0.0
    return below, counts[upper] - below, counts[-1] - counts[upper]
