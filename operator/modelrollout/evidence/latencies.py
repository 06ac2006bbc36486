"""Latencies with confidence: a quantile against stable's, or against a bound, from the buckets of histograms."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from modelrollout.api.guard import Guard
from modelrollout.api.status import Verdict
from modelrollout.evidence.bounds import enough, latency_as_bad, least_effect, outside
from modelrollout.evidence.counted import CANDIDATE, STABLE, Counted
from modelrollout.evidence.finding import Estimate, Finding, decided, first_piece, one_moment, shared_pieces, too_few
from modelrollout.evidence.slis import Indicator
from modelrollout.evidence.statistics.bound import above
from modelrollout.evidence.statistics.eprocess import Evidence, Together, averaged
from modelrollout.evidence.statistics.tails import Histogram, slower, tail_quantile

DOUBT = 2.0
"""A breach relative to stable holds even if latencies spread half as wide as the empty buckets beside theirs allow."""


def relative_latency(guard: Guard, entry: Indicator, counted: Counted, now: datetime) -> Finding:
    """Test whether the candidate's quantile is above stable's at the same time by more than the least effect."""
    bounds, edges = _edges(entry, counted)
    quantile, factor = entry.quantile or 0.0, 1 + least_effect(guard)
    pieces = [
        Histogram(own, other)
        for own, other in zip(
            _cumulative(counted, CANDIDATE, bounds), _cumulative(counted, STABLE, bounds), strict=True
        )
    ]
    evidence = slower(pieces, counted.cuts.starts, edges, quantile, factor)
    first = first_piece(guard, counted, evidence, now)
    mine = [math.fsum(column) for column in zip(*(piece.candidate for piece in pieces[first:]), strict=True)]
    theirs = _standard_counts(pieces[first:], counted.cuts.spans[first:])
    samples, stable = mine[-1], math.fsum(piece.stable[-1] for piece in pieces[first:])
    value, baseline = tail_quantile(quantile, edges, mine), tail_quantile(quantile, edges, theirs)
    if not enough(guard, samples) or stable <= 0 or value is None or baseline is None:
        return too_few(guard, samples, stable)
    what = f"{guard.sli} is {value:.4g} s against stable's {baseline:.4g} s ({samples:.0f} and {stable:.0f} requests)"
    # Where nearly all requests take as long, no bucket beside theirs has any, and 5 % slower may look like 11.
    least, most = (tail_quantile(quantile, edges, counts, DOUBT) for counts in (mine, theirs))
    worse = min(value, least or value) > factor * max(baseline, most or baseline)
    return decided(guard, evidence, Estimate(what, value, samples, baseline, worse, more=counted.compared[-1]))


def bounded_latency(guard: Guard, entry: Indicator, counted: Counted, now: datetime) -> Finding:
    """Test whether more than 1 - quantile of the requests are slower than max, or more than quantile faster than min.

    The bound is moved to the next edge on the sure side: a histogram knows no more.
    """
    bounds, edges = _edges(entry, counted)
    quantile = entry.quantile or 0.0
    sides = _sides(guard, edges)
    together = one_moment(guard, counted)
    evidence = averaged(
        [_beyond(counted, bounds[at], quantile, is_max, together) for is_max, at in sides if at is not None]
    )
    first = first_piece(guard, counted, evidence, now)
    samples = math.fsum(counted.of(CANDIDATE, "le +Inf")[first:])
    everything = range(first, len(counted.cuts.times))

    def quantile_of(arm: int, places: Sequence[int]) -> float | None:
        columns = [counted.of(arm, f"le {bound}") for bound in (*bounds, "+Inf")]
        counts = [math.fsum(column[place] for place in places) for column in columns]
        return tail_quantile(quantile, edges, list(_rising(counts)))

    def as_bad(places: Sequence[int]) -> bool:
        mine, theirs = quantile_of(CANDIDATE, places), quantile_of(STABLE, places)
        totals = counted.of(STABLE, "le +Inf")
        known = enough(guard, math.fsum(totals[place] for place in places))
        return known and mine is not None and outside(guard, mine) and latency_as_bad(guard, mine, theirs)

    value = quantile_of(CANDIDATE, everything)
    if not enough(guard, samples) or value is None:
        return too_few(guard, samples)
    worse = outside(guard, value)
    what = f"{guard.sli} is {value:.4g} s ({samples:.0f} requests)"
    shared = shared_pieces(counted, first, as_bad)
    baseline = quantile_of(STABLE, everything)
    found = decided(guard, evidence, Estimate(what, value, samples, baseline, worse, worse, shared=shared))
    blind = _blind(guard, value, edges, sides)
    if blind and found.verdict in (Verdict.PASS, Verdict.NO_DATA):
        return replace(found, verdict=Verdict.NO_DATA, message=f"{found.message}; {blind}")
    return found


def _blind(guard: Guard, value: float, edges: Sequence[float], sides: Sequence[tuple[bool, int | None]]) -> str:
    """Why the buckets cannot tell what the guard asks, if so."""
    for is_max, at in sides:
        side, bound = ("max", guard.max) if is_max else ("min", guard.min)
        if at is None:
            return f"{side} cannot be tested: the buckets have edges from {edges[0]:.4g} to {edges[-1]:.4g} s only"
        if bound is not None and (bound < value <= edges[at] if is_max else edges[at] <= value < bound):
            return f"{side} lies inside a bucket: give an edge of it, {edges[at]:.4g} s is the next"
    return ""


def _edges(entry: Indicator, counted: Counted) -> tuple[list[str], list[float]]:
    """The finite upper bounds of the buckets, as labels and in seconds."""
    bounds = [bound for bound in counted.bounds if not math.isinf(float(bound))]
    return bounds, [float(bound) * entry.scale for bound in bounds]


def _sides(guard: Guard, edges: Sequence[float]) -> list[tuple[bool, int | None]]:
    """For each bound of the guard whether it is max, and the index of the edge it is tested at; None: there is none."""
    found: list[tuple[bool, int | None]] = []
    if guard.max is not None:
        most = guard.max
        found.append((True, next((place for place, edge in enumerate(edges) if edge >= most), None)))
    if guard.min is not None:
        least = guard.min
        found.append((False, next((place for place in reversed(range(len(edges))) if edges[place] <= least), None)))
    return found


def _beyond(counted: Counted, bound: str, quantile: float, is_max: bool, together: Together) -> Evidence:
    counts = zip(counted.of(CANDIDATE, "le +Inf"), counted.of(CANDIDATE, f"le {bound}"), strict=True)
    pairs = [(min(fast, total), max(total - fast, 0.0)) for total, fast in counts]
    if is_max:
        return above(pairs, counted.cuts.starts, 1 - quantile, together)
    return above([(slow, fast) for fast, slow in pairs], counted.cuts.starts, quantile, together)


def _cumulative(counted: Counted, arm: int, bounds: Sequence[str]) -> list[tuple[float, ...]]:
    columns = [counted.of(arm, f"le {bound}") for bound in (*bounds, "+Inf")]
    return [
        tuple(_rising(counts)) if there else (0.0,) * len(columns)
        for there, *counts in zip(counted.compared, *columns, strict=True)
    ]


def _rising(counts: Sequence[float]) -> Iterator[float]:
    # Buckets of one scrape fit together; those of a counter that began anew in between may not.
    greatest = 0.0
    for count in counts:
        greatest = max(greatest, count)
        yield greatest


def _standard_counts(pieces: Sequence[Histogram], spans_of: Sequence[int]) -> list[float]:
    """Stable's cumulative counts, each span weighed as the candidate's requests are."""
    spans: dict[int, tuple[float, list[float]]] = {}
    for piece, span in zip(pieces, spans_of, strict=True):
        mine, theirs = spans.get(span, (0.0, [0.0] * len(piece.stable)))
        spans[span] = (
            mine + piece.candidate[-1],
            [before + more for before, more in zip(theirs, piece.stable, strict=True)],
        )
    total = [0.0] * len(pieces[0].stable)
    for mine, theirs in spans.values():
        if mine > 0 and theirs[-1] > 0:
            total = [before + mine * count / theirs[-1] for before, count in zip(total, theirs, strict=True)]
    return total
