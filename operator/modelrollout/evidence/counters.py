"""How much counters grew in a span of time, exactly, from raw samples: births, resets and scrape gaps included.

``rate()`` and ``increase()`` would miss the errors that create a series and guess at the edges. All times here are
unix seconds.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from modelrollout.ports import Series

Samples = Sequence[tuple[float, float]]

MISSED_SCRAPES = 3
"""A pause longer than this many scrape intervals is a gap: what lies beyond it cannot be dated."""

LONGEST_PAUSE = 180.0
"""Seconds that are a gap however long the scrape interval seems: two scrapes around an outage look like one."""


@dataclass(frozen=True)
class Scrapes:
    """When one process was scraped and first seen after a restart, told by its sentinels; oldest first."""

    times: tuple[float, ...]
    restarts: tuple[float, ...] = ()

    @classmethod
    def of(cls, sentinels: Sequence[Series]) -> Scrapes:
        """The scrapes that any of these series saw."""
        times = {at for series in sentinels for at, _ in series.samples}
        drops = {at for series in sentinels for (_, before), (at, value) in pairwise(series.samples) if value < before}
        return cls(tuple(sorted(times)), tuple(sorted(drops)))

    def until(self, end: float) -> Scrapes:
        """The scrapes at or before ``end``."""
        return Scrapes(self.times[: bisect_right(self.times, end)], self.restarts)

    def restarted(self, after: float, until: float) -> bool:
        """Whether the process restarted in this span."""
        return bisect_right(self.restarts, until) > bisect_right(self.restarts, after)

    @property
    def gap(self) -> float:
        """How long a pause may be, in seconds, before it is a gap; 0 where too little was seen to tell."""
        steps = sorted(later - before for before, later in pairwise(self.times))
        # The lower quartile: the scrape interval even when scrapes were missed again and again.
        return min(MISSED_SCRAPES * steps[len(steps) // 4], LONGEST_PAUSE) if steps else 0.0

    def newest(self) -> float | None:
        """The last scrape."""
        return self.times[-1] if self.times else None

    def baseline(self, start: float) -> float | None:
        """The scrape that growth since ``start`` is counted from.

        It is the last one at or before ``start``, or after a gap the first one behind it: growth across a gap may be
        older than ``start`` and must not look like a burst.
        """
        index = bisect_right(self.times, start)
        if index and start - self.times[index - 1] <= self.gap:
            return self.times[index - 1]
        return self.times[index] if index < len(self.times) else None

    def first_since(self, start: float) -> float | None:
        """The first scrape at or after ``start``."""
        return next((at for at in self.times if at >= start), None)


def growth(samples: Samples, baseline: float, end: float, scrapes: Scrapes) -> float:
    """How much one counter grew after the scrape at ``baseline`` until ``end``.

    A drop is a restart, and a restart that the sentinel saw counts for every series of the process: the new value
    counts from 0. A series without a sample at or before ``baseline`` was born later, since its process was scraped
    then and did not have it: it counts from 0 too.
    """
    last, seen, total = 0.0, -math.inf, 0.0
    for at, value in samples:
        if at > end:
            break
        if not math.isfinite(value):
            continue
        if at > baseline:
            continues = value >= last and not scrapes.restarted(seen, at)
            total += value - last if continues else value
        last, seen = value, at
    return total


def quantile(share: float, buckets: Sequence[tuple[float, float]]) -> float | None:
    """The value below which ``share`` of a histogram lies, by linear interpolation as Prometheus does it.

    ``buckets`` are (upper bound, cumulative count), the last bound infinite. None without counts or without an
    infinite bucket. A value beyond the highest finite bound is reported as that bound.
    """
    ordered = sorted(buckets)
    if len(ordered) < 2 or not math.isinf(ordered[-1][0]):
        return None
    counts: list[float] = []
    for _, count in ordered:
        counts.append(max(count, counts[-1]) if counts else count)
    if counts[-1] <= 0:
        return None
    rank = share * counts[-1]
    index = next(place for place, count in enumerate(counts) if count >= rank)
    if index == len(ordered) - 1:
        return ordered[-2][0]
    upper = ordered[index][0]
    lower, below = (ordered[index - 1][0], counts[index - 1]) if index else (0.0, 0.0)
    if index == 0 and upper <= 0:
        return upper
    return lower + (upper - lower) * (rank - below) / (counts[index] - below)
