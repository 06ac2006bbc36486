"""Growth of counters where Prometheus was away, is new or lost its data, and where what counts began anew."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from modelrollout.evidence.context import Context
from modelrollout.evidence.growth import expanded
from tests.component.observed import Labels, Life, Numbers, psi
from tests.component.prometheus import Prometheus
from tests.component.test_catalog_in_prometheus import (
    BINS,
    HOUR,
    NOW,
    SHARES,
    bins_seen,
    compared,
    context_of,
    counter,
    evaluate,
    features,
    guard,
    life,
    references,
)

END = NOW.timestamp()
MINUTE = 60.0


@pytest.fixture
def where() -> Context:
    return context_of("growth")


def growth_of(server: Prometheus, where: Context, name: str, window: timedelta = HOUR) -> float | None:
    """Summed growth of one counter of the observer; None where there is none."""
    selector = f'modelrollout_observer_{name}{{modeldeployment="{where.name}"}}'
    return asked(server, f"sum(growth({selector}))", window)


def asked(server: Prometheus, text: str, window: timedelta = HOUR) -> float | None:
    query = expanded(text, window).replace("$window", f"{window.total_seconds():.0f}s")
    found = server.query(query, NOW).series
    assert len(found) <= 1
    return found[0].samples[0][1] if found else None


def counts(one: Life, after: float, name: str = "age") -> Numbers:
    """What its scrapes saw of a feature after the scrape at or before this time."""
    times = one.scrapes
    base = times[np.searchsorted(times, after, "right") - 1]
    return bins_seen([one], name, BINS, float(base), END)


def drifted_long_ago(where: Context, start: float) -> Life:
    """Counts from ``start`` seconds before now; until 30 minutes ago another distribution than since then."""
    one = life(where, "observer-a", "a1", start, -1, 15)
    features([one], 3000, shift=3.0, seed=5)
    one.counted = [each for each in one.counted if each[0] < END - 30 * MINUTE]
    late = Life(one.place, END - 30 * MINUTE, END, 15)
    features([late], 700, shift=0.0, seed=6)
    one.counted += late.counted
    return one


def test_what_a_prometheus_without_memory_cannot_date_is_not_counted(server: Prometheus, where: Context) -> None:
    one = drifted_long_ago(where, 10 * 3600)
    one.missed = [(one.start, END - 20 * MINUTE)]
    flips = compared(where, "label_flips_total", **{"from": "cat", "to": "dog"})
    for at in np.arange(one.start + 1, END, 2.0):
        one.count(float(at), compared(where))
        if at < END - 2 * 3600:
            one.count(float(at), flips)
    server.write(one.series())
    server.write(references(where, 15, 1200).series())
    first = float(one.scrapes[0])
    exact, ever = counts(one, first), bins_seen([one], "age", BINS, 0, END)
    for window in (timedelta(minutes=30), HOUR, timedelta(hours=6)):
        (reading,) = evaluate(server, guard("input-psi", window, where={"feature": "age"}), where)
        assert reading.value == pytest.approx(psi(exact, SHARES["age"]), abs=1e-9)
        assert reading.samples == exact.sum()
    (flipped,) = evaluate(server, guard("label-flips"), where)
    since = [what for what, _ in one.seen(first, END)].count(compared(where))
    assert (flipped.value, flipped.samples) == (0.0, since)
    # As if all that was ever counted were of now: an old drift. It is, in a window in which the process began.
    (reading,) = evaluate(server, guard("input-psi", timedelta(hours=12), where={"feature": "age"}), where)
    assert reading.value == pytest.approx(psi(ever, SHARES["age"]), abs=1e-9)
    assert (reading.value or 0) > 1 > 0.2 > psi(exact, SHARES["age"])
    # A window that began after the loss has all of it again.
    (reading,) = evaluate(server, guard("input-psi", timedelta(minutes=15), where={"feature": "age"}), where)
    assert reading.samples == counts(one, END - 15 * MINUTE).sum()


def test_over_a_long_window_it_is_known_from_one_of_some_points(server: Prometheus, where: Context) -> None:
    """Data of the last 5 of 24 hours: looked for 18, 12, 6 and 3 hours ago, the last time successfully."""
    one = drifted_long_ago(where, 40 * 3600)
    one.every = 60
    one.missed = [(one.start, END - 5 * 3600)]
    server.write(one.series())
    server.write(references(where, 60, 3600).series())
    exact = counts(one, END - 3 * 3600)
    day = timedelta(hours=24)
    (reading,) = evaluate(server, guard("input-psi", day, where={"feature": "age"}), where)
    assert reading.samples == exact.sum() > 700
    assert reading.value == pytest.approx(psi(exact, SHARES["age"]), abs=1e-9)


def test_a_process_that_ended_long_ago_counts_no_more_than_it_did_in_the_window(
    server: Prometheus, where: Context
) -> None:
    """It began 60 and ended 20 hours ago; Prometheus was away when the window of a day began, and an hour more."""
    hour = 3600.0
    one = life(where, "observer-a", "a1", 60 * hour, 20 * hour, 60)
    one.missed = [(END - 24 * hour - 600, END - 23 * hour)]
    for at in np.arange(one.start + 1, one.end - 1, 10.0):
        one.count(float(at), compared(where))
    server.write(one.series())
    grown = growth_of(server, where, "compared_total", timedelta(hours=24))
    assert 0 <= (grown or 0) <= sum(amount for _, amount in one.seen(END - 24 * hour, END))


@pytest.mark.parametrize(
    ("what", "begins", "lasts", "from_behind"),
    [
        # Prometheus away: its last sample before is at most 5 minutes old, or the first one behind counts.
        ("missed", 62, 3, False),
        ("missed", 80, 40, True),
        ("missed", 40, 3, False),
        ("missed", 50, 40, False),
        # A target that cannot be scraped has no sample at once.
        ("failed", 62, 3, True),
        ("failed", 80, 40, True),
        ("failed", 50, 40, False),
    ],
)
def test_a_gap_loses_at_most_what_nobody_can_date(
    server: Prometheus, where: Context, what: str, begins: float, lasts: float, from_behind: bool
) -> None:
    """Of a window of an hour; gaps begin so many minutes before now."""
    one = drifted_long_ago(where, 5 * 3600)
    gap = (END - begins * MINUTE, END - (begins - lasts) * MINUTE)
    getattr(one, what).append(gap)
    server.write(one.series())
    server.write(references(where, 15, 3600).series())
    times = one.scrapes
    base = float(times[np.searchsorted(times, gap[1])]) if from_behind else END - 3600
    exact = counts(one, base)
    (reading,) = evaluate(server, guard("input-psi", HOUR, where={"feature": "age"}), where)
    assert reading.samples == exact.sum()
    assert reading.value == pytest.approx(psi(exact, SHARES["age"]), abs=1e-9)


@pytest.mark.parametrize("window", [HOUR, timedelta(hours=24)])
def test_what_began_in_the_window_counts_from_0(server: Prometheus, where: Context, window: timedelta) -> None:
    """A restart in place, also while Prometheus was away, and a series that an old process has only now."""
    span = window.total_seconds()
    every = span / 240
    old = life(where, "observer-a", "a1", 3 * span, 0.6 * span, every)
    new = life(where, "observer-a", "a2", 0.5 * span, -1, every)
    new.missed = [(new.start, new.start + span / 8)]
    other = life(where, "observer-b", "b1", 3 * span, -1, every)
    for one in (old, new, other):
        one.from_zero = [compared(where)]
        for at in np.linspace(one.start + 1, one.end - 1, 1000):
            one.count(float(at), compared(where))
        server.write(one.series())
    flips = compared(where, "label_flips_total", **{"from": "cat", "to": "dog"})
    late = life(where, "observer-b", "b1", 3 * span, -1, every)
    late.count(END - 0.4 * span, flips, 7)
    server.write(late.series())
    seen = [sum(amount for _, amount in one.seen(END - span, END)) for one in (old, new, other)]
    assert all(seen)
    if span <= 6 * 3600:
        assert seen[1] > 900
    assert growth_of(server, where, "compared_total", window) == sum(seen)
    assert growth_of(server, where, "label_flips_total", window) == 7


def test_an_observer_that_does_not_tell_its_start_gives_a_lower_bound(server: Prometheus, where: Context) -> None:
    """Of an older version: what began in the window cannot be told from what Prometheus had forgotten."""
    old, new = life(where, "observer-a", "a1", 7200, 1800, 15), life(where, "observer-a", "a2", 1700, -1, 15)
    for one in (old, new):
        one.tells_start = False
        for at in np.arange(one.start + 1, one.end, 5.0):
            one.count(float(at), compared(where))
        server.write(one.series())
    whole = sum(amount for one in (old, new) for _, amount in one.seen(END - 3600, END))
    assert whole - 5 <= (growth_of(server, where, "compared_total") or 0) < whole


def target(pod: str, name: str, values: list[float]) -> tuple[Labels, list[tuple[float, float]]]:
    """A series of a target that was scraped every 15 s, the last time 5 s ago."""
    place = {"namespace": "demo", "pod": pod, "instance": f"{pod}:8002", "job": "triton"}
    times = [END - 5 - 15 * age for age in reversed(range(len(values)))]
    return {"__name__": name, **place}, list(zip(times, values, strict=True))


@pytest.mark.parametrize(
    ("values", "up", "expected"),
    [
        # The window of 2 minutes has the last eight scrapes.
        ([100, 101, 102, 103, 104, 105, 106, 107, 108, 109], 10, 8),
        # Began anew, with more than it had.
        ([3, 3, 1, 2, 3, 4, 5, 6, 7, 8], 10, 8),
        ([3, 3, 1, 2, 3, 4, 5, 6, 7, 8], 0, 8),
        # Nothing was known before: a bound where the target was not scraped, all of it where it was.
        ([None, None, 500, 501, 502, 503, 504, 505, 506, 507], 8, 7),
        ([None, None, None, None, None, 4, 5, 6, 7, 9], 10, 9),
        ([None, None, None, None, None, 4, 5, 6, 7, 9], 0, 5),
    ],
)
def test_counters_that_no_observer_made(
    server: Prometheus, where: Context, values: list[float | None], up: int, expected: float
) -> None:
    name = f"errors_of_{where.name}_total"
    server.write([target(where.name, name, [float(value) for value in values if value is not None])])
    if up:
        server.write([target(where.name, "up", [1.0] * up)])
    assert asked(server, f"sum(growth({name}))", timedelta(minutes=2)) == expected


def test_a_few_rows_by_a_new_profile_are_no_evidence(server: Prometheus, where: Context) -> None:
    """While Prometheus still shows the shares of both, thousands of rows by the old one are none by the new one."""
    old = life(where, "observer-a", "a1", 3600, -1, 15)
    new = life(where, "observer-a", "a1-2", 40, -1, 15)
    names = ["approve", "decline"]
    for one, profile, amounts in ((old, "p0", [3000, 3000]), (new, "p1", [0, 3])):
        for name, amount in zip(names, amounts, strict=True):
            labels = {"revision": where.revision, "output": "DECISION", "bin": name}
            one.from_zero.append(counter("output_total", profile, **labels))
            one.count(one.start + 10, counter("output_total", profile, **labels), amount)
            one.count(one.start, counter("output_reference", profile, output="DECISION", bin=name), 0.5)
        server.write(one.series())
    (reading,) = evaluate(server, guard("output-psi", minSamples=1), where)
    assert (reading.value or 0) > 1
    assert reading.samples == 3
    (reading,) = evaluate(server, guard("output-psi", minSamples=100), where)
    assert reading.value is None
