"""What an observer would have counted: rows at given times in processes that begin and end, and their scrapes.

A row is seen by the first scrape of its process at or after it. Rows between the last scrape and the end of a process
are lost, as they are in life.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tests.component.prometheus import STALE, Samples

LONG = 6 * 3600.0
"""Seconds; over a longer window a process that ended is known from one of 8 points."""

Labels = dict[str, str]
Numbers = npt.NDArray[np.float64]


STARTED = "modelrollout_observer_started_timestamp_seconds"


@dataclass
class Life:
    """One process: from ``start`` to ``end`` (unix seconds), scraped every ``every`` seconds from its start on.

    In the spans of ``missed`` no scrape was stored: Prometheus was away, or lost what it had. In those of ``failed`` it
    was there and could not scrape, which ends every series for that time.
    """

    place: Labels
    start: float
    end: float
    every: float
    counted: list[tuple[float, Labels, float]] = field(default_factory=list)
    from_zero: list[Labels] = field(default_factory=list)
    missed: list[tuple[float, float]] = field(default_factory=list)
    failed: list[tuple[float, float]] = field(default_factory=list)
    tells_start: bool = True

    @property
    def scrapes(self) -> Numbers:
        """When it was scraped."""
        times = np.arange(self.start, self.end, self.every)
        for begin, end in (*self.missed, *self.failed):
            times = times[(times < begin) | (times > end)]
        return times

    def count(self, at: float, labels: Labels, amount: float = 1.0) -> None:
        """A counter grows by ``amount``."""
        self.counted.append((at, labels, amount))

    def series(self) -> Iterator[tuple[Labels, Samples]]:
        """Its counters as they were scraped, and that they ended."""
        scrapes = self.scrapes
        stale = [float(scrapes[-1] + self.every), *(begin for begin, _ in self.failed)]
        ends = [(at, STALE) for at in stale]
        grown: dict[tuple[tuple[str, str], ...], Numbers] = {
            tuple(sorted(labels.items())): np.zeros(len(scrapes) + 1) for labels in self.from_zero
        }
        born: dict[tuple[tuple[str, str], ...], int] = dict.fromkeys(grown, 0)
        for at, labels, amount in self.counted:
            key, index = tuple(sorted(labels.items())), int(np.searchsorted(scrapes, at))
            grown.setdefault(key, np.zeros(len(scrapes) + 1))[index] += amount
            born[key] = min(born.get(key, index), index)
        for key, amounts in grown.items():
            values = np.cumsum(amounts)[:-1]
            samples = [(float(at), float(value)) for at, value in zip(scrapes, values, strict=True)][born[key] :]
            if samples:
                own = [(at, value) for at, value in ends if at > samples[0][0]]
                yield {**self.place, **dict(key)}, sorted([*samples, *own])
        if "process" in self.place and self.tells_start:
            yield {**self.place, "__name__": STARTED}, sorted([*((float(at), self.start) for at in scrapes), *ends])

    def last_look(self, end: float, span: float) -> float:
        """Until when its counters are known over a long window, for which they are looked at from 8 points only."""
        gone = self.scrapes[-1] + self.every
        return next((at for at in (end - place * span / 8 for place in range(8)) if self.start <= at < gone), 0.0)

    def seen(self, start: float, end: float) -> Iterator[tuple[Labels, float]]:
        """What was counted and seen by a scrape after ``start`` and until ``end``."""
        if end - start > LONG:
            end = self.last_look(end, end - start)
        scrapes = self.scrapes
        for at, labels, amount in self.counted:
            index = int(np.searchsorted(scrapes, at))
            if index < len(scrapes) and start < scrapes[index] <= end:
                yield labels, amount


def psi(actual: Numbers, expected: Numbers) -> float:
    """Population stability index of counts against shares, by its formula."""
    a = np.maximum(actual / actual.sum(), 1e-4)
    e = np.maximum(expected, 1e-4)
    return float(np.sum((a - e) * np.log(a / e)))
