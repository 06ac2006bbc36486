"""Guards that ask for confidence: the counts of both arms weighed by a sequential test, and what it makes of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from modelrollout.api.guard import DEFAULT_CONFIDENCE, Guard
from modelrollout.api.status import Verdict
from modelrollout.evidence.bounds import (
    begin_of,
    enough,
    is_sequential,
    latency_as_bad,
    least_effect,
    outside,
    ratio_as_bad,
    threshold,
)
from modelrollout.evidence.context import Context
from modelrollout.evidence.counted import CANDIDATE, STABLE, Counted, counted_queries, read_counted
from modelrollout.evidence.question import Query
from modelrollout.evidence.slis import CatalogError, Indicator, Kind, catalog
from modelrollout.evidence.statistics.bound import above
from modelrollout.evidence.statistics.difference import Chunk, rise
from modelrollout.evidence.statistics.eprocess import Evidence, averaged
from modelrollout.evidence.statistics.tails import Histogram, slower, tail_quantile
from modelrollout.ports import Answer

LEANING = 0.5
"""Surer than this of a breach, yet not sure enough, is no pass: the step waits for more requests..."""

LEANING_ERRORS = 1.0
"""... and so is a ratio that is more than so many standard errors beyond what is allowed: what tells a pass from a
breach takes more requests than a step may have, and after the last one there are none to compare with."""


SPREAD = math.log(10)
"""How loud the evidence of a breach must be without its loudest piece of time (the logarithm of an e-value)."""


@dataclass(frozen=True)
class Finding:
    """What a test makes of a guard; fields as in GuardResult."""

    verdict: Verdict
    message: str
    value: float | None = None
    samples: float | None = None
    confidence: float | None = None
    baseline: float | None = None
    both: bool = False


def sequential_queries(guard: Guard, entry: Indicator, context: Context, now: datetime) -> tuple[Query, ...]:
    """What the test of ``guard`` needs to know at ``now``; raises CatalogError where there are no counts to test."""
    check_testable(guard, entry)
    return counted_queries(entry, context, catalog(context.profile), now)


def check_testable(guard: Guard, entry: Indicator) -> None:
    """Refuse a test of what has no share of requests to be sure of; raises CatalogError."""
    if is_sequential(guard) and entry.kind is Kind.RATE:
        raise CatalogError(f"{guard.sli} follows the weight and has no share to be sure of: remove confidence")


def judge_sequential(
    guard: Guard, entry: Indicator, context: Context, answers: Mapping[str, Answer], now: datetime
) -> Finding:
    """The finding on ``guard`` at ``now`` from what both arms counted since its warm-up."""
    counted = read_counted(entry, answers, context, catalog(context.profile), now, begin_of(guard, context))
    if isinstance(counted, str):
        return Finding(Verdict.NO_DATA, counted)
    if guard.relative_to is None:
        return (
            _bounded_ratio(guard, counted, now)
            if entry.kind is Kind.RATIO
            else _bounded_latency(guard, entry, counted, now)
        )
    if context.revision == context.stable:
        return Finding(Verdict.PASS, "there is no other revision to compare with")
    if context.stable_is_out and not any(_total(entry, counted, STABLE)):
        return Finding(Verdict.PASS, "stable has no traffic any more: nothing to compare with")
    return (
        _relative_ratio(guard, counted, now)
        if entry.kind is Kind.RATIO
        else _relative_latency(guard, entry, counted, now)
    )


def _total(entry: Indicator, counted: Counted, arm: int) -> list[float]:
    """Requests by piece, in those where both arms are compared."""
    role = "total" if entry.kind is Kind.RATIO else "le +Inf"
    return [n if there else 0.0 for n, there in zip(counted.of(arm, role), counted.compared, strict=True)]


# Ratios


def _outcomes(counted: Counted, arm: int, *, compared: bool = True) -> list[tuple[float, float]]:
    """Good and bad requests by piece; nothing where the arms are not compared."""
    pairs = zip(counted.of(arm, "total"), counted.of(arm, "errors"), counted.compared, strict=True)
    return [
        (total - min(bad, total), min(bad, total)) if there or not compared else (0.0, 0.0)
        for total, bad, there in pairs
    ]


def _relative_ratio(guard: Guard, counted: Counted, now: datetime) -> Finding:
    mine, theirs = _outcomes(counted, CANDIDATE), _outcomes(counted, STABLE)
    chunks = [Chunk(own, other) for own, other in zip(mine, theirs, strict=True)]
    evidence = rise(chunks, counted.cuts.starts, least_effect(guard))
    first = _first(guard, counted, evidence, now)
    samples, stable = _sum(mine[first:]), _sum(theirs[first:])
    if not enough(guard, samples) or stable <= 0:
        return _too_few(guard, samples, stable)
    value = math.fsum(bad for _, bad in mine[first:]) / samples
    baseline = _standard(chunks[first:], counted.cuts.spans[first:])
    what = f"{guard.sli} is {value:.4g} against stable's {baseline:.4g} ({samples:.0f} and {stable:.0f} requests)"
    excess = value - baseline - least_effect(guard)
    error = math.sqrt(value * (1 - value) / samples + baseline * (1 - baseline) / stable)
    leans = excess > LEANING_ERRORS * error
    return _decided(
        guard,
        evidence,
        excess > 0,
        what,
        value,
        samples,
        baseline,
        leans=leans,
        more=counted.compared[-1],
        lasts=_lasts(guard, counted, evidence, now),
    )


def _standard(chunks: Sequence[Chunk], spans_of: Sequence[int]) -> float:
    """Stable's mean, each span weighed as the candidate's requests are: weights that changed are no difference."""
    spans: dict[int, list[float]] = {}
    for chunk, span in zip(chunks, spans_of, strict=True):
        sums = spans.setdefault(span, [0.0, 0.0, 0.0])
        for place, more in enumerate((math.fsum(chunk.candidate), math.fsum(chunk.stable), chunk.stable[1])):
            sums[place] += more
    known = [(mine, bad / theirs) for mine, theirs, bad in spans.values() if theirs > 0]
    weight = math.fsum(mine for mine, _ in known)
    if weight <= 0:
        return math.fsum(share for _, share in known) / max(len(known), 1)
    return math.fsum(mine * share for mine, share in known) / weight


def _bounded_ratio(guard: Guard, counted: Counted, now: datetime) -> Finding:
    pieces = _outcomes(counted, CANDIDATE, compared=False)
    tests = []
    if guard.max is not None:
        tests.append(above(pieces, counted.cuts.starts, guard.max))
    if guard.min is not None:
        tests.append(above([(bad, good) for good, bad in pieces], counted.cuts.starts, 1 - guard.min))
    evidence = averaged(tests)
    first = _first(guard, counted, evidence, now)
    samples = _sum(pieces[first:])
    if not enough(guard, samples):
        return _too_few(guard, samples)
    value = math.fsum(bad for _, bad in pieces[first:]) / samples
    theirs = _outcomes(counted, STABLE)
    stable = _sum(theirs[first:])
    baseline = math.fsum(bad for _, bad in theirs[first:]) / stable if stable > 0 else None
    both = counted.compared[-1] and _ratio_of_both(
        guard, pieces[_lately(counted, first) :], theirs[_lately(counted, first) :]
    )
    what = f"{guard.sli} is {value:.4g} ({samples:.0f} requests)"
    excess = max(
        value - guard.max if guard.max is not None else -math.inf,
        guard.min - value if guard.min is not None else -math.inf,
    )
    leans = excess > LEANING_ERRORS * math.sqrt(value * (1 - value) / samples)
    return _decided(
        guard,
        evidence,
        excess > 0,
        what,
        value,
        samples,
        baseline,
        both,
        leans=leans,
        lasts=_lasts(guard, counted, evidence, now),
    )


def _ratio_of_both(guard: Guard, mine: Sequence[tuple[float, float]], theirs: Sequence[tuple[float, float]]) -> bool:
    samples, stable = _sum(mine), _sum(theirs)
    if samples <= 0 or not enough(guard, stable):
        return False
    value, baseline = (math.fsum(bad for _, bad in arm) / n for arm, n in ((mine, samples), (theirs, stable)))
    return ratio_as_bad(guard, value, samples, baseline, stable)


def _first(guard: Guard, counted: Counted, evidence: Evidence, now: datetime) -> int:
    """The first piece that the estimate is made of: all of them, or from where the test is sure that it began.

    But a window at least: a second of trouble may be beyond doubt, and is of no consequence.
    """
    if not evidence.refutes(_confidence(guard)):
        return 0
    window = counted.cuts.piece((now - guard.window).timestamp())
    return max(min(evidence.start, window), 0)


def _lately(counted: Counted, first: int) -> int:
    """The first piece of the newest span, not before ``first``.

    Where weights changed in between, an arm has more of its requests in the bad part of the time than the other.
    """
    return max(first, counted.cuts.spans.index(counted.cuts.spans[-1]))


# Latencies


def _relative_latency(guard: Guard, entry: Indicator, counted: Counted, now: datetime) -> Finding:
    bounds = [bound for bound in counted.bounds if not math.isinf(float(bound))]
    quantile, factor = entry.quantile or 0.0, 1 + least_effect(guard)
    pieces = [
        Histogram(own, other)
        for own, other in zip(
            _cumulative(counted, CANDIDATE, bounds), _cumulative(counted, STABLE, bounds), strict=True
        )
    ]
    edges = [float(bound) * entry.scale for bound in bounds]
    evidence = slower(pieces, counted.cuts.starts, edges, quantile, factor)
    first = _first(guard, counted, evidence, now)
    mine = [math.fsum(column) for column in zip(*(piece.candidate for piece in pieces[first:]), strict=True)]
    theirs = _standard_counts(pieces[first:], counted.cuts.spans[first:])
    samples, stable = mine[-1], math.fsum(piece.stable[-1] for piece in pieces[first:])
    value, baseline = tail_quantile(quantile, edges, mine), tail_quantile(quantile, edges, theirs)
    if not enough(guard, samples) or stable <= 0 or value is None or baseline is None:
        return _too_few(guard, samples, stable)
    what = f"{guard.sli} is {value:.4g} s against stable's {baseline:.4g} s ({samples:.0f} and {stable:.0f} requests)"
    return _decided(
        guard,
        evidence,
        value > factor * baseline,
        what,
        value,
        samples,
        baseline,
        more=counted.compared[-1],
        lasts=_lasts(guard, counted, evidence, now),
    )


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


def _bounded_latency(guard: Guard, entry: Indicator, counted: Counted, now: datetime) -> Finding:
    """Test whether more than 1 - quantile of the requests are slower than max, or more than quantile faster than min.

    The bound is moved to the next edge on the sure side: a histogram knows no more.
    """
    bounds = [bound for bound in counted.bounds if not math.isinf(float(bound))]
    edges = [float(bound) * entry.scale for bound in bounds]
    quantile = entry.quantile or 0.0
    totals = counted.of(CANDIDATE, "le +Inf")
    tests = []
    if guard.max is not None:
        bound = next((text for text, edge in zip(bounds, edges, strict=True) if edge >= guard.max), None)
        if bound is not None:
            within = counted.of(CANDIDATE, f"le {bound}")
            pairs = [(min(fast, n), max(n - fast, 0.0)) for n, fast in zip(totals, within, strict=True)]
            tests.append(above(pairs, counted.cuts.starts, 1 - quantile))
    if guard.min is not None:
        bound = next(
            (text for text, edge in zip(reversed(bounds), reversed(edges), strict=True) if edge <= guard.min), None
        )
        if bound is not None:
            within = counted.of(CANDIDATE, f"le {bound}")
            pairs = [(max(n - fast, 0.0), min(fast, n)) for n, fast in zip(totals, within, strict=True)]
            tests.append(above(pairs, counted.cuts.starts, quantile))
    evidence = averaged(tests)
    first = _first(guard, counted, evidence, now)
    samples = math.fsum(totals[first:])
    value = _quantile_of(counted, CANDIDATE, bounds, edges, quantile, first)
    if not enough(guard, samples) or value is None:
        return _too_few(guard, samples)
    baseline = _quantile_of(counted, STABLE, bounds, edges, quantile, first)
    lately = _lately(counted, first)
    mine, theirs = (_quantile_of(counted, arm, bounds, edges, quantile, lately) for arm in (CANDIDATE, STABLE))
    known = mine is not None and enough(guard, math.fsum(_total(entry, counted, STABLE)[lately:]))
    both = counted.compared[-1] and known and latency_as_bad(guard, mine or 0.0, theirs)
    what = f"{guard.sli} is {value:.4g} s ({samples:.0f} requests)"
    return _decided(
        guard,
        evidence,
        outside(guard, value),
        what,
        value,
        samples,
        baseline,
        both,
        lasts=_lasts(guard, counted, evidence, now),
    )


def _quantile_of(
    counted: Counted, arm: int, bounds: Sequence[str], edges: Sequence[float], quantile: float, first: int
) -> float | None:
    counts = [math.fsum(counted.of(arm, f"le {bound}")[first:]) for bound in (*bounds, "+Inf")]
    return tail_quantile(quantile, edges, list(_rising(counts)))


# What all have in common


def _sum(pairs: Sequence[tuple[float, float]]) -> float:
    return math.fsum(good + bad for good, bad in pairs)


def _confidence(guard: Guard) -> float:
    return DEFAULT_CONFIDENCE if guard.confidence is None else guard.confidence


def _too_few(guard: Guard, samples: float, stable: float | None = None) -> Finding:
    if enough(guard, samples) and stable is not None:
        return Finding(Verdict.NO_DATA, "stable answered no request to compare with yet", samples=samples)
    if samples <= 0:
        return Finding(Verdict.NO_DATA, "no request was answered yet", samples=0.0)
    return Finding(
        Verdict.NO_DATA,
        f"{samples:.0f} of at least {guard.min_samples} requests since the first traffic",
        None,
        samples,
    )


def _decided(
    guard: Guard,
    evidence: Evidence,
    worse: bool,
    what: str,
    value: float,
    samples: float,
    baseline: float | None = None,
    both: bool = False,
    *,
    lasts: bool,
    leans: bool = False,
    more: bool = True,
) -> Finding:
    """Breach: the test is sure and the estimate says so too. What leans that way is no pass, while more can come."""
    sure = evidence.confidence
    message = f"{what}, must be {threshold(guard)}"
    if evidence.refutes(_confidence(guard)) and worse and lasts:
        message = f"{message}; sure to {_percent(sure)}" + ("; stable is as bad" if both else "")
        return Finding(Verdict.BREACH, message, value, samples, sure, baseline, both)
    if evidence.refutes(_confidence(guard)) and worse and more:
        return Finding(Verdict.NO_DATA, f"{message}; of one moment only: does it last?", value, samples, sure, baseline)
    if worse and more and (leans or sure >= LEANING):
        message = f"{message}; not sure yet: {_percent(sure)} of {_percent(_confidence(guard))}"
        return Finding(Verdict.NO_DATA, message, value, samples, sure, baseline)
    return Finding(Verdict.PASS, message, value, samples, sure, baseline)


def _lasts(guard: Guard, counted: Counted, evidence: Evidence, now: datetime) -> bool:
    """Whether more than a moment speaks for a breach: a pod that crashes once is no bad model.

    Either the piece that says most is a window long, or the others are loud enough without it.
    """
    times = (*counted.cuts.times, now.timestamp())
    length = times[evidence.loudest + 1] - times[evidence.loudest]
    enough_without = evidence.spread >= min(SPREAD, -math.log1p(-_confidence(guard)))
    return length >= guard.window.total_seconds() or enough_without


def _percent(share: float) -> str:
    return f"{100 * min(share, 0.999999):.6g} %"
