"""Seeded simulation: false alarms while one looks all the time stay under the level; power is that of a fixed sample.

The levels are 0.9, so that a test that is wrong shows with a few hundred runs. Every run looks every ten seconds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from scipy.stats import lognorm, norm

from modelrollout.evidence.statistics.bound import above
from modelrollout.evidence.statistics.difference import Chunk, rise
from modelrollout.evidence.statistics.eprocess import Evidence
from modelrollout.evidence.statistics.multinomial import off_weight
from modelrollout.evidence.statistics.starts import Cuts, cuts
from modelrollout.evidence.statistics.tails import Histogram, slower, tail_quantile

LEVEL = 0.9
RUNS = 120
LOOK = 10.0

Rows = list[list[float]]
Draw = Callable[[np.random.Generator, float], list[float]]
"""The counts of ten seconds that begin at a time: both arms, by outcome."""
Test = Callable[[Cuts, Rows], Evidence]


def looks(rng: np.random.Generator, draw: Draw, length: float, finest: float = math.inf) -> Iterator[tuple[Cuts, Rows]]:
    """The evidence as it is at each look: counts by piece."""
    taken: list[tuple[float, list[float]]] = []
    time = 0.0
    while time < length:
        taken.append((time, draw(rng, time)))
        time += LOOK
        pieces = cuts(0.0, time, [0.0], finest)
        rows = [[0.0] * len(taken[0][1]) for _ in pieces.times]
        for at, counts in taken:
            row = rows[pieces.piece(at)]
            rows[pieces.piece(at)] = [before + more for before, more in zip(row, counts, strict=True)]
        yield pieces, rows


def alarms(
    seed: int, draw: Draw, test: Test, runs: int = RUNS, length: float = 400.0, finest: float = math.inf
) -> float:
    """The share of runs in which the test was ever sure."""
    rng = np.random.default_rng(seed)
    found = sum(any(test(*seen).refutes(LEVEL) for seen in looks(rng, draw, length, finest)) for _ in range(runs))
    return found / runs


def at_most_the_level(share: float, runs: int = RUNS) -> None:
    error = math.sqrt(LEVEL * (1 - LEVEL) / runs)
    assert share <= 1 - LEVEL + 2 * error


def two_arms(requests: float, share: float, mine: float, theirs: float) -> Draw:
    def draw(rng: np.random.Generator, _: float) -> list[float]:
        total = rng.poisson(requests * LOOK)
        own = rng.binomial(total, share)
        bad, other = rng.binomial(own, mine), rng.binomial(total - own, theirs)
        return [own - bad, bad, total - own - other, other]

    return draw


def rises(least: float) -> Test:
    def test(pieces: Cuts, rows: Rows) -> Evidence:
        return rise([Chunk((a, b), (c, d)) for a, b, c, d in rows], pieces.starts, least)

    return test


class TestFalseAlarms:
    @pytest.mark.parametrize(
        ("requests", "share", "baseline"), [(20, 0.05, 0.01), (20, 0.5, 0.1), (2, 0.25, 0.02), (100, 0.25, 0.0)]
    )
    @pytest.mark.parametrize("finest", [math.inf, 90.0], ids=["cells", "pieces of cells"])
    def test_of_a_rise_at_the_edge_of_what_is_allowed(
        self, requests: float, share: float, baseline: float, finest: float
    ) -> None:
        draw = two_arms(requests, share, baseline + 0.01, baseline)
        at_most_the_level(alarms(1, draw, rises(0.01), finest=finest))

    def test_of_a_rise_while_rates_and_shares_wander(self) -> None:
        """Both arms get worse and better by a factor of 20, while the share goes from 10 to 70 percent with it."""

        def draw(rng: np.random.Generator, at: float) -> list[float]:
            wave = 0.5 + 0.5 * math.sin(at / 60)
            return two_arms(30, 0.1 + 0.6 * wave, 0.01 + 0.19 * wave, 0.01 + 0.19 * wave)(rng, at)

        at_most_the_level(alarms(2, draw, rises(0.005)))

    @pytest.mark.parametrize("bound", [0.001, 0.05, 0.5])
    def test_of_a_bound_that_is_just_met(self, bound: float) -> None:
        def draw(rng: np.random.Generator, _: float) -> list[float]:
            bad = rng.binomial(200, bound)
            return [200 - bad, bad]

        found = alarms(3, draw, lambda pieces, rows: above([(a, b) for a, b in rows], pieces.starts, bound))
        at_most_the_level(found)

    @pytest.mark.parametrize("share", [0.04, 0.06])
    def test_of_weights_at_the_edge_of_what_is_allowed(self, share: float) -> None:
        def draw(rng: np.random.Generator, _: float) -> list[float]:
            own = rng.binomial(500, share)
            return [own, 500 - own]

        def test(pieces: Cuts, rows: Rows) -> Evidence:
            return off_weight([(a, b) for a, b in rows], pieces.starts, 0.04, 0.06)

        at_most_the_level(alarms(4, draw, test))

    @pytest.mark.parametrize(("quantile", "slowdown"), [(0.5, 1.0), (0.95, 1.0), (0.99, 1.0), (0.95, 1.05)])
    def test_of_latency(self, quantile: float, slowdown: float) -> None:
        """The candidate is as fast, or slower by half of what is allowed."""
        found = alarms(5, latencies(slowdown, 0.25), slower_at(quantile), runs=40, length=300)
        assert found <= 0.1


EDGES = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0]


def latencies(slowdown: float, share: float, requests: int = 50) -> Draw:
    def shares(median: float) -> list[float]:
        below = [0.0, *lognorm(0.5, scale=median).cdf(EDGES), 1.0]
        return [later - before for before, later in itertools.pairwise(below)]

    slow, same = shares(0.02 * slowdown), shares(0.02)

    def draw(rng: np.random.Generator, _: float) -> list[float]:
        own = rng.binomial(int(requests * LOOK), share)
        mine, theirs = rng.multinomial(own, slow), rng.multinomial(int(requests * LOOK) - own, same)
        return [*map(float, mine), *map(float, theirs)]

    return draw


def slower_at(quantile: float, factor: float = 1.1) -> Test:
    """As the judge does it: the test is sure, and so is the estimate."""

    def test(pieces: Cuts, rows: Rows) -> Evidence:
        half = len(EDGES) + 1
        parts = [
            Histogram(tuple(itertools.accumulate(row[:half])), tuple(itertools.accumulate(row[half:]))) for row in rows
        ]
        mine, theirs = (
            [math.fsum(column) for column in zip(*arms, strict=True)]
            for arms in ([part.candidate for part in parts], [part.stable for part in parts])
        )
        found = [tail_quantile(quantile, EDGES, counts) for counts in (mine, theirs)]
        if found[0] is None or found[1] is None or found[0] <= factor * found[1]:
            return Evidence()
        return slower(parts, pieces.starts, EDGES, quantile, factor)

    return test


class TestPower:
    """Requests of the candidate until the test is sure to 0.999, against the sample that a z-test of the same level
    and 0.9 power would need to be fixed before (and may be looked at once)."""

    @pytest.mark.parametrize(
        ("share", "mine", "theirs", "at_most"),
        [(0.05, 0.01, 0.001, 0.8), (0.25, 0.03, 0.01, 1.1), (0.5, 0.1, 0.05, 1.4), (0.5, 0.02, 0.0, 1.1)],
    )
    def test_requests_until_a_rise_is_sure(self, share: float, mine: float, theirs: float, at_most: float) -> None:
        ratio = share / (1 - share)
        variance = mine * (1 - mine) + ratio * theirs * (1 - theirs)
        fixed = variance * ((norm.isf(0.001) + norm.isf(0.1)) / (mine - theirs - 0.002)) ** 2
        rng = np.random.default_rng(6)
        requests = fixed / 40 / share / LOOK
        spent = []
        for _ in range(25):
            used = 0.0
            for pieces, rows in looks(rng, two_arms(requests, share, mine, theirs), 5000):
                used = sum(row[0] + row[1] for row in rows)
                if rises(0.002)(pieces, rows).refutes(0.999):
                    break
            spent.append(used)
        assert np.mean(spent) <= at_most * fixed

    @pytest.mark.parametrize(("quantile", "slowdown", "most"), [(0.5, 1.2, 4000), (0.95, 1.2, 8000), (0.99, 1.5, 2500)])
    def test_a_slower_candidate_is_found(self, quantile: float, slowdown: float, most: float) -> None:
        rng = np.random.default_rng(8)
        for _ in range(5):
            for pieces, rows in looks(rng, latencies(slowdown, 0.25), 1200):
                if slower_at(quantile)(pieces, rows).refutes(0.999):
                    break
            else:
                pytest.fail("never found")
            assert sum(sum(row[: len(EDGES) + 1]) for row in rows) <= most

    def test_a_late_change_is_not_diluted_by_a_good_past(self) -> None:
        """An hour of good requests, then 3 percent fail: found within two minutes, and where it began is told."""

        def draw(rng: np.random.Generator, at: float) -> list[float]:
            return two_arms(50, 0.25, 0.001 if at < 3600 else 0.03, 0.001)(rng, at)

        rng = np.random.default_rng(9)
        sure = 0.0
        for pieces, rows in looks(rng, draw, 4200):
            if pieces.times[-1] < 3500:
                continue
            found = rises(0.002)(pieces, rows)
            if found.refutes(0.999):
                sure = sum(row[0] + row[1] for row in rows) / 12.5
                break
        assert 3600 < sure < 3720
        assert pieces.times[found.start] == pytest.approx(3600, abs=240)
