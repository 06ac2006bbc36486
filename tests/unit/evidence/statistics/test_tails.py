"""Latency: arms that are alike never look different, whatever the buckets hide; slower ones do."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import lognorm

from modelrollout.evidence.statistics.tails import Histogram, slower, tail_quantile

EDGES = [0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5]
WHOLE = math.log(1.0)


def cumulative(counts: Sequence[float]) -> tuple[float, ...]:
    return tuple(float(count) for count in itertools.accumulate(counts))


def drawn(rng: np.random.Generator, requests: int, shares: Sequence[float]) -> tuple[float, ...]:
    return cumulative(rng.multinomial(requests, shares))


def lognormal(median: float, width: float) -> list[float]:
    below = [0.0, *lognorm(width, scale=median).cdf(EDGES), 1.0]
    return [later - before for before, later in itertools.pairwise(below)]


@given(
    counts=st.lists(st.integers(0, 10_000), min_size=12, max_size=12).filter(lambda found: sum(found) > 0),
    scale=st.floats(0.05, 20.0),
    quantile=st.sampled_from([0.5, 0.95, 0.99]),
    factor=st.floats(1.0, 3.0),
)
@settings(deadline=None)
def test_the_same_shares_are_never_evidence(counts: list[int], scale: float, quantile: float, factor: float) -> None:
    """Any shape, also all requests just under or above an edge, and any share of the traffic."""
    mine = tuple(scale * count for count in cumulative(counts))
    pieces = [Histogram(mine, cumulative(counts))]
    assert slower(pieces, [WHOLE], EDGES, quantile, factor).log_e <= 1e-6


@pytest.mark.parametrize("quantile", [0.5, 0.95, 0.99])
@pytest.mark.parametrize("width", [0.25, 0.5, 1.0])
def test_much_slower_is_seen(quantile: float, width: float) -> None:
    rng = np.random.default_rng(7)
    same, slow = lognormal(0.02, width), lognormal(0.03, width)
    stable = drawn(rng, 40_000, same)
    assert slower([Histogram(drawn(rng, 10_000, slow), stable)], [WHOLE], EDGES, quantile, 1.1).refutes(0.999)
    assert not slower([Histogram(drawn(rng, 10_000, same), stable)], [WHOLE], EDGES, quantile, 1.1).refutes(0.5)


def test_faster_is_no_breach() -> None:
    rng = np.random.default_rng(7)
    pieces = [Histogram(drawn(rng, 10_000, lognormal(0.01, 0.5)), drawn(rng, 10_000, lognormal(0.02, 0.5)))]
    assert slower(pieces, [WHOLE], EDGES, 0.95, 1.1).confidence == 0


def test_no_requests_of_stable_say_nothing() -> None:
    nothing = (0.0,) * 12
    assert slower([Histogram(cumulative([5] * 12), nothing)], [WHOLE], EDGES, 0.99, 1.1).log_e == 0.0
    assert slower([], [], EDGES, 0.99, 1.1).log_e == 0.0


@pytest.mark.parametrize(("share", "width"), [(0.5, 0.5), (0.95, 0.5), (0.99, 0.5), (0.95, 1.0), (0.99, 1.0)])
def test_quantiles_are_near_the_true_ones(share: float, width: float) -> None:
    """In Envoy's buckets, whose edges lie a factor of two and more apart; a straight line would be 35 % off, and a tail
    that falls exponentially up to 10 %."""
    counts = cumulative([1e6 * part for part in lognormal(0.02, width)])
    true = lognorm(width, scale=0.02).ppf(share)
    found = tail_quantile(share, EDGES, counts)
    assert found is not None
    assert found == pytest.approx(true, rel=0.001)


@pytest.mark.parametrize(("share", "width"), [(0.5, 0.15), (0.5, 0.25), (0.95, 0.25), (0.5, 0.5), (0.95, 0.5)])
def test_a_little_slower_does_not_look_much_slower(share: float, width: float) -> None:
    """Wherever the distribution lies between the edges; with exponential tails it did where it is narrow."""
    for step in range(40):
        median = 0.008 * 10 ** (step / 40)
        found = [
            tail_quantile(share, EDGES, cumulative([2e4 * part for part in lognormal(factor * median, width)]))
            for factor in (1.0, 1.05, 1.2)
        ]
        assert found[0] is not None
        assert found[1] is not None
        assert found[2] is not None
        assert found[1] <= 1.1 * found[0] <= found[2]


@pytest.mark.parametrize("share", [0.5, 0.95])
@pytest.mark.parametrize("width", [0.1, 0.15, 0.2])
def test_few_requests_in_one_bucket_are_doubted(share: float, width: float) -> None:
    """Of 3,000 requests none may be in the buckets beside theirs; 5 % slower looked like more than 10 then."""
    found = 0
    for step in range(40):
        median = 0.008 * 10 ** (step / 40)
        stable, slow, bad = (
            [tail_quantile(share, EDGES, counts, doubt) or 0 for doubt in (1.0, 2.0)]
            for counts in (
                cumulative([round(3000 * part) for part in lognormal(factor * median, width)])
                for factor in (1.0, 1.05, 1.3)
            )
        )
        assert min(slow) <= 1.1 * max(stable)
        found += min(bad) > 1.1 * max(stable)
    assert found >= 24


@pytest.mark.parametrize(
    ("counts", "share", "value"),
    [
        ([0] * 11 + [10], 0.5, 2.5),  # beyond the last edge
        ([10] + [0] * 11, 0.99, 0.0005 * math.log(1 / 0.01) / math.log(1 / 0.01)),
        ([0] * 12, 0.5, None),
    ],
)
def test_quantiles_at_the_ends(counts: list[int], share: float, value: float | None) -> None:
    found = tail_quantile(share, EDGES, cumulative(counts))
    assert found == (None if value is None else pytest.approx(value))


@given(counts=st.lists(st.integers(0, 1000), min_size=12, max_size=12).filter(lambda found: sum(found) > 0))
def test_a_quantile_lies_in_its_bucket(counts: list[int]) -> None:
    level = cumulative(counts)
    for share in (0.5, 0.95, 0.99):
        found = tail_quantile(share, EDGES, level)
        assert found is not None
        place = next((index for index, count in enumerate(level[:-1]) if count >= share * level[-1]), None)
        if place is None:
            assert found == EDGES[-1]
        else:
            lower = EDGES[place - 1] if place else 0.0
            assert lower - 1e-12 <= found <= EDGES[place] + 1e-12
