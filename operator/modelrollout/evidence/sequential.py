"""Guards that ask for confidence: the counts of both arms weighed by a sequential test, and what it makes of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from modelrollout.api.guard import Guard
from modelrollout.api.status import Verdict
from modelrollout.evidence.bounds import begin_of, is_sequential
from modelrollout.evidence.context import Context
from modelrollout.evidence.counted import STABLE, Counted, counted_queries, read_counted
from modelrollout.evidence.finding import Finding
from modelrollout.evidence.latencies import bounded_latency, relative_latency
from modelrollout.evidence.question import Query
from modelrollout.evidence.ratios import bounded_ratio, relative_ratio
from modelrollout.evidence.slis import CatalogError, Indicator, Kind, catalog
from modelrollout.ports import Answer

OVER = 2
"""A moment that was so many windows ago, and that nothing followed, did not last."""


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
    known, begin = catalog(context.profile), begin_of(guard, context)
    half = guard.window.total_seconds() / 2  # a moment may lie across the border of two pieces
    counted = read_counted(entry, answers, context, known, now, begin, finest=half)
    if isinstance(counted, str):
        return Finding(Verdict.NO_DATA, counted)
    if guard.relative_to is None:
        return _settled(guard, entry, counted, now)
    if context.revision == context.stable:
        return Finding(Verdict.PASS, "there is no other revision to compare with")
    if context.stable_is_out and not any(_total(entry, counted, STABLE)):
        return Finding(Verdict.PASS, "stable has no traffic any more: nothing to compare with")
    found = _settled(guard, entry, counted, now)
    if found.verdict is Verdict.NO_DATA and found.value is None and not counted.compared[-1]:
        # On the way to a weight, and after the last, no request can be waited for that would be compared.
        what = "the arms share no traffic by a known weight now: nothing to compare"
        return Finding(Verdict.PASS, what, samples=found.samples)
    return found


def _settled(guard: Guard, entry: Indicator, counted: Counted, now: datetime) -> Finding:
    """The finding, once it is known whether a moment lasted, and whose breach it is.

    Neither makes a breach that the whole evidence does not make: requests are left out only of what speaks for one.
    """
    found = _weighed(guard, entry, counted, now)
    if found.moment and _is_over(guard, counted, found.moment, now):
        rest = _weighed(guard, entry, counted.without(found.moment), now)
        since = math.floor(counted.cuts.times[found.moment[0]] - counted.cuts.times[0])
        found = replace(rest, message=f"{rest.message}; without a moment {timedelta(seconds=since)} after the first")
    if found.shared:
        rest = _weighed(guard, entry, counted.without(found.shared), now)
        if rest.verdict is not Verdict.BREACH:
            return replace(found, both=True, message=f"{found.message}; stable is as bad")
    return found


def _weighed(guard: Guard, entry: Indicator, counted: Counted, now: datetime) -> Finding:
    if guard.relative_to is None:
        if entry.kind is Kind.RATIO:
            return bounded_ratio(guard, counted, now)
        return bounded_latency(guard, entry, counted, now)
    if entry.kind is Kind.RATIO:
        return relative_ratio(guard, counted, now)
    return relative_latency(guard, entry, counted, now)


def _is_over(guard: Guard, counted: Counted, moment: tuple[int, ...], now: datetime) -> bool:
    end = (*counted.cuts.times, now.timestamp())[moment[-1] + 1]
    return now.timestamp() - end >= OVER * guard.window.total_seconds()


def _total(entry: Indicator, counted: Counted, arm: int) -> list[float]:
    """Requests by piece, in those where both arms are compared."""
    role = "total" if entry.kind is Kind.RATIO else "le +Inf"
    return [n if there else 0.0 for n, there in zip(counted.of(arm, role), counted.compared, strict=True)]
