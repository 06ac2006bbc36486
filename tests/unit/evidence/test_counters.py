"""Growth of counters: against a count kept beside the scrapes, and case by case where the two may differ."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelrollout.evidence.counters import Scrapes, growth, quantile
from modelrollout.ports import Series


@dataclass
class World:
    """Samples of one process, and for each scrape the true number of errors since the one before."""

    times: list[float] = field(default_factory=list)
    true: list[int] = field(default_factory=list)
    requests: list[tuple[float, float]] = field(default_factory=list)
    errors: list[tuple[float, float]] = field(default_factory=list)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[World, float, float]:
    """Random births, restarts, phases and missed scrapes (two in a row at most), and a span to look at."""
    interval = draw(st.sampled_from([1.0, 5.0, 15.0]))
    phase = draw(st.floats(0, interval, exclude_max=True))
    count = draw(st.integers(3, 40))
    world = World()
    requests, errors, pending, missed = 0, 0, 0, 0
    for index in range(count):
        if missed == 0 and requests >= 60 and draw(st.integers(0, 5)) == 0:
            # Just after a scrape, so that nothing is lost; the error series is gone until its first new error.
            requests, errors = 0, 0
        happened = draw(st.integers(0, 9)) if draw(st.booleans()) else 0
        requests, errors, pending = requests + 10, errors + happened, pending + happened
        if index > 2 and missed < 2 and draw(st.integers(0, 9)) == 0:
            missed += 1
            continue
        missed = 0
        at = phase + index * interval
        world.times.append(at)
        world.true.append(pending)
        world.requests.append((at, float(requests)))
        if errors:
            world.errors.append((at, float(errors)))
        pending = 0
    start = draw(st.floats(0, count * interval))
    return world, start, draw(st.floats(start, (count + 1) * interval))


@given(worlds())
@settings(max_examples=500, deadline=None)
def test_growth_is_the_true_count(drawn: tuple[World, float, float]) -> None:
    world, start, end = drawn
    before = [at for at in world.times if at <= start]
    after = [at for at in world.times if at > start]
    baseline = before[-1] if before else after[0]
    scrapes = Scrapes.of([Series({}, tuple(world.requests))])
    if after and start - baseline <= 2 * (world.times[1] - world.times[0]):
        assert scrapes.until(max(end, after[0])).baseline(start) == baseline
    true = sum(number for at, number in zip(world.times, world.true, strict=True) if baseline < at <= end)
    assert growth(world.errors, baseline, end, scrapes) == true


def regular(first: int, last: int) -> list[float]:
    return [float(at) for at in range(first, last + 1)]


@pytest.mark.parametrize(
    ("times", "start", "baseline"),
    [
        (regular(0, 100), 50.5, 50.0),
        (regular(0, 100), 50.0, 50.0),
        ([*regular(0, 40), *regular(43, 60)], 42.5, 40.0),  # three intervals: two missed scrapes
        ([*regular(0, 40), *regular(60, 90)], 50.0, 60.0),  # a gap: what grew in it cannot be dated
        (regular(60, 90), 50.0, 60.0),  # born later
        (regular(0, 10), 50.0, None),  # nothing since
        ([0.0, 200.0], 150.0, 0.0),  # within the longest pause, as a slow scrape interval would look
        ([0.0, 400.0], 350.0, 400.0),  # two scrapes around an outage are no scrape interval
        ([7.0], 50.0, None),
        ([7.0], 5.0, 7.0),
        ([], 5.0, None),
    ],
)
def test_baseline(times: list[float], start: float, baseline: float | None) -> None:
    assert Scrapes(tuple(times)).baseline(start) == baseline


@pytest.mark.parametrize(
    ("samples", "baseline", "end", "expected"),
    [
        ([(1, 5), (2, 7), (3, 9)], 1, 3, 4),
        ([(1, 5), (2, 7), (3, 9)], 1, 2, 2),
        ([(2, 7), (3, 9)], 1, 3, 9),  # born after the baseline: from 0
        ([(1, 5), (2, 2), (3, 4)], 1, 3, 4),  # restarted: 2 new, then 2 more
        ([(1, 5), (2, 0), (3, 0)], 1, 3, 0),
        ([(1, 5)], 1, 3, 0),
        ([(1, 5), (2, math.nan), (3, 8)], 1, 3, 3),  # a stale marker is no value
        ([], 1, 3, 0),
    ],
)
def test_growth(samples: list[tuple[float, float]], baseline: float, end: float, expected: float) -> None:
    assert growth(samples, baseline, end, Scrapes(())) == expected


def test_a_restart_is_told_by_the_sentinel() -> None:
    """The error series comes back with more than it had: only the total says that it began anew."""
    scrapes = Scrapes.of([Series({}, ((1.0, 100.0), (2.0, 3.0), (3.0, 20.0)))])
    assert scrapes.restarts == (2.0,)
    assert growth([(1.0, 5.0), (3.0, 9.0)], 1.0, 3.0, scrapes) == 9.0


def test_scrapes_of_several_sentinels_are_merged() -> None:
    one, other = Series({}, ((1.0, 0.0), (3.0, 0.0))), Series({}, ((1.0, 0.0), (2.0, 0.0)))
    assert Scrapes.of([one, other]).times == (1.0, 2.0, 3.0)


INF = math.inf


@pytest.mark.parametrize(
    ("share", "buckets", "expected"),
    [
        # Values of Prometheus' own test data (promql/promqltest/testdata/histograms.test).
        (0.5, [(0.1, 5), (0.2, 10), (INF, 10)], 0.1),
        (0.75, [(0.1, 5), (0.2, 10), (INF, 10)], 0.15),
        (0.1, [(0.1, 5), (0.2, 10), (INF, 10)], 0.02),
        (0.5, [(0.1, 1), (0.2, 3), (1e0, 3), (INF, 4)], 0.15),
        (0.99, [(0.1, 1), (INF, 10)], 0.1),  # in the infinite bucket: the highest finite bound
        (0.5, [(-1, 5), (1, 10), (INF, 10)], -1),
        (0.5, [(0.1, 0), (INF, 0)], None),
        (0.5, [(0.1, 5)], None),
        (0.5, [(INF, 5)], None),
        (0.5, [], None),
        (0.9, [(0.1, 10), (0.2, 9), (INF, 10)], 0.09),  # not monotonic by a lost sample
    ],
)
def test_quantile(share: float, buckets: list[tuple[float, float]], expected: float | None) -> None:
    found = quantile(share, buckets)
    assert found == (None if expected is None else pytest.approx(expected))


@given(
    st.lists(st.integers(0, 50), min_size=2, max_size=12),
    st.floats(0.001, 0.999),
)
def test_quantile_lies_where_the_values_lie(counts: list[int], share: float) -> None:
    """Against the definition: the values themselves, each spread evenly over its bucket."""
    bounds = [float(2**index) for index in range(len(counts) - 1)] + [INF]
    cumulative = [sum(counts[: index + 1]) for index in range(len(counts))]
    found = quantile(share, list(zip(bounds, cumulative, strict=True)))
    if not sum(counts):
        assert found is None
        return
    rank, values = share * sum(counts), []
    for index, count in enumerate(counts):
        lower = bounds[index - 1] if index else 0.0
        upper = bounds[index] if bounds[index] < INF else lower
        values += [lower + (upper - lower) * (place + 1) / count for place in range(count)]
    assert found is not None
    above = values[min(math.ceil(rank), len(values)) - 1]
    assert found <= above + 1e-9
    if math.floor(rank) >= 1:
        assert found >= min(values[math.floor(rank) - 1], above) - 1e-9
