"""``python -m tests.bench.sequential``: the tables of docs/statistics.md, by seeded simulation (ten minutes).

False alarms of each test while one looks every ten seconds, and the requests that a bad candidate needs to be found.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import norm

from modelrollout.evidence.statistics.bound import above
from modelrollout.evidence.statistics.eprocess import Evidence
from modelrollout.evidence.statistics.multinomial import off_weight
from modelrollout.evidence.statistics.starts import Cuts
from tests.unit.evidence.statistics.test_peeking import (
    EDGES,
    LOOK,
    Draw,
    Rows,
    Test,
    latencies,
    looks,
    rises,
    slower_at,
    two_arms,
)

RUNS = 600
LEVELS = (0.9, 0.99)
HALF = 90.0
"""Half of the window that guards have unless they say otherwise: no piece is longer."""


def alarms(name: str, seed: int, draw: Draw, test: Test, runs: int = RUNS, length: float = 600.0) -> None:
    """Print the shares of runs in which the test was ever sure to each level."""
    rng = np.random.default_rng(seed)
    surest = [max(test(*seen).confidence for seen in looks(rng, draw, length, HALF)) for _ in range(runs)]
    shares = "  ".join(f"{level}: {sum(sure >= level for sure in surest) / runs:.4f}" for level in LEVELS)
    print(f"{name:45} {shares}", flush=True)


def wandering(rng: np.random.Generator, at: float) -> list[float]:
    """Both arms get worse and better by a factor of 20, and the share goes from 10 to 70 percent with it."""
    wave = 0.5 + 0.5 * math.sin(at / 60)
    return two_arms(30, 0.1 + 0.6 * wave, 0.015 + 0.19 * wave, 0.01 + 0.19 * wave)(rng, at)


def failing(share: float) -> Draw:
    """Two hundred requests at each look, of one arm."""

    def draw(rng: np.random.Generator, _: float) -> list[float]:
        bad = rng.binomial(200, share)
        return [200 - bad, bad]

    return draw


def beyond(bound: float) -> Test:
    """The test of a bound on one arm."""

    def test(pieces: Cuts, rows: Rows) -> Evidence:
        return above([(good, bad) for good, bad in rows], pieces.starts, bound)

    return test


def weights(pieces: Cuts, rows: Rows) -> Evidence:
    """The test of a weight of 5 percent, with its tolerance."""
    return off_weight([(mine, theirs) for mine, theirs in rows], pieces.starts, 0.04, 0.06)


def sixth(rng: np.random.Generator, _: float) -> list[float]:
    """Six percent of five hundred requests at each look."""
    own = rng.binomial(500, 0.06)
    return [own, 500 - own]


def spent(draw: Draw, test: Test, outcomes: int, runs: int, length: float = 5000.0) -> list[float]:
    """The requests of the candidate until the test is sure to 0.999; ``outcomes`` are the columns of the candidate."""
    rng = np.random.default_rng(6)
    found = []
    for _ in range(runs):
        used = 0.0
        for pieces, rows in looks(rng, draw, length, HALF):
            used = sum(sum(row[:outcomes]) for row in rows)
            if test(pieces, rows).refutes(0.999):
                break
        found.append(used)
    return found


def power(share: float, mine: float, theirs: float) -> None:
    """Print the requests until a rise is sure, beside the sample that a z-test of 0.9 power must fix before."""
    ratio = share / (1 - share)
    variance = mine * (1 - mine) + ratio * theirs * (1 - theirs)
    fixed = variance * ((norm.isf(0.001) + norm.isf(0.1)) / (mine - theirs - 0.002)) ** 2
    used = spent(two_arms(fixed / 40 / share / LOOK, share, mine, theirs), rises(0.002), 2, 150)
    print(f"{share:.0%} weight, {theirs} -> {mine}: fixed {fixed:.0f}, {_told(used, fixed)}", flush=True)


def _told(used: Sequence[float], fixed: float) -> str:
    mean, tenth = float(np.mean(used)), float(np.quantile(used, 0.9))
    return f"mean {mean:.0f} ({mean / fixed:.2f}), p90 {tenth:.0f} ({tenth / fixed:.2f})"


def main() -> None:
    """Print all tables."""
    print("false alarms, at the edge of what is allowed")
    alarms("rise 0.002 over 0.01, 5 % of 20/s", 11, two_arms(20, 0.05, 0.012, 0.01), rises(0.002))
    alarms("rise 0.002 over 0.1, 50 % of 20/s", 11, two_arms(20, 0.5, 0.102, 0.1), rises(0.002))
    alarms("equal arms, 0.01, 25 % of 20/s", 11, two_arms(20, 0.25, 0.01, 0.01), rises(0.002))
    alarms("rise 0.005, rates and shares wander", 11, wandering, rises(0.005))
    for bound in (0.01, 0.05):
        alarms(f"bound {bound}, just met", 12, failing(bound), beyond(bound))
    alarms("weight 5 %, 6 % is allowed", 13, sixth, weights)
    for quantile in (0.5, 0.95, 0.99):
        for slowdown in (1.0, 1.05, 1.1):
            name = f"p{100 * quantile:.0f}, {slowdown} times as slow, 1.1 is allowed"
            alarms(name, 14, latencies(slowdown, 0.25), slower_at(quantile), 150, 400)
    print("requests of the candidate until it is sure to 0.999")
    for share, mine, theirs in (
        (0.05, 0.01, 0.001),
        (0.25, 0.01, 0.001),
        (0.5, 0.01, 0.001),
        (0.05, 0.03, 0.01),
        (0.25, 0.03, 0.01),
        (0.5, 0.03, 0.01),
        (0.25, 0.1, 0.05),
        (0.5, 0.1, 0.05),
        (0.5, 0.02, 0.0),
        (0.25, 0.006, 0.001),
        (0.25, 0.3, 0.2),
    ):
        power(share, mine, theirs)
    print("the same for latency (log-normal, median 20 ms, sigma 0.5; 25 % of 50/s)")
    for quantile in (0.5, 0.95, 0.99):
        for slowdown in (1.2, 1.5, 2.0):
            used = spent(latencies(slowdown, 0.25), slower_at(quantile), len(EDGES) + 1, 30, 3000)
            print(f"p{100 * quantile:.0f}, {slowdown}: mean {np.mean(used):.0f}, p90 {np.quantile(used, 0.9):.0f}")


if __name__ == "__main__":
    main()
