"""What one rollout happens in: how many users there are, how each arm answers them, and what breaks meanwhile.

All times are seconds since the world began; the candidate's age counts from its first request.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

STABLE, CANDIDATE = 0, 1

EDGES = (
    *(0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0, 30_000.0, 60_000.0),
    *(300_000.0, 600_000.0, 1_800_000.0, 3_600_000.0, math.inf),
)
"""Upper bounds of Envoy's histograms in milliseconds, as it exposes them unless it is told otherwise."""


@dataclass(frozen=True)
class Part:
    """A share of an arm's requests that all are answered alike: those of one pod, or of one kind.

    ``errors`` is the share that fails; times are lognormal with this ``median`` (milliseconds) and ``sigma`` of the
    logarithm. ``hangs`` is the share that is never answered until the client gives up, after its ``patience`` in
    seconds. An answer that has begun goes on for so many seconds as ``streams`` says.
    """

    share: float = 1.0
    errors: float = 0.003
    median: float = 20.0
    sigma: float = 0.5
    hangs: float = 0.0
    patience: float = 10.0
    streams: float = 0.0

    def like(self, errors: float = 0.0, slower: float = 1.0, share: float = 1.0) -> Part:
        """The same with more errors (added), slower (times), and only this share of the requests."""
        return replace(
            self, share=self.share * share, errors=min(self.errors + errors, 1.0), median=self.median * slower
        )


Parts = tuple[Part, ...]


@dataclass(frozen=True)
class Restart:
    """A proxy begins anew at ``at``: its counters from 0, and under a new address where the ``pod`` was replaced."""

    at: float
    proxy: int
    pod: bool = False


@dataclass(frozen=True)
class Outage:
    """What Prometheus does from ``start`` until ``end``.

    ``refused``, ``hung``, ``empty`` and ``nan`` are how it answers; ``gap`` scrapes nothing, ``down`` is refused and
    a gap.
    """

    start: float
    end: float
    mode: str


@dataclass(frozen=True)
class World:
    """Everything that a rollout meets.

    ``load(now)`` are requests per second of all users; ``answers(arm, now, age)`` says how an arm answers;
    ``breaks`` are moments at which one of them jumps. ``scrape`` is the interval of Prometheus. ``outputs`` are the
    shares of the classes that each arm predicts, and how many answers a second the observer compares.
    """

    load: Callable[[float], float]
    answers: Callable[[int, float, float], Parts]
    proxies: int = 2
    scrape: float = 10.0
    breaks: tuple[float, ...] = ()
    restarts: tuple[Restart, ...] = ()
    outages: tuple[Outage, ...] = ()
    outputs: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    observed: float = 5.0

    def outage(self, now: float) -> str:
        """What Prometheus suffers from at this moment; empty for nothing."""
        return next((each.mode for each in self.outages if each.start <= now < each.end), "")


@lru_cache(maxsize=4096)
def bucket_shares(median: float, sigma: float) -> Floats:
    """The share of a lognormal distribution in each of Envoy's buckets."""
    below = [0.5 * (1 + math.erf(math.log(edge / median) / (sigma * math.sqrt(2)))) for edge in EDGES[:-1]]
    return np.diff(np.array([0.0, *below, 1.0]))
