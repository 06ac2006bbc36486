"""Do the arms get their weights? Requests counted against the shares that the routes ask for, span by span."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime

from modelrollout.api.guard import DEFAULT_CONFIDENCE, Guard, Sli
from modelrollout.evidence.bounds import is_sequential
from modelrollout.evidence.context import Context
from modelrollout.evidence.counted import CANDIDATE, STABLE, counted_queries, read_counted
from modelrollout.evidence.question import Query
from modelrollout.evidence.slis import Indicator, catalog
from modelrollout.evidence.statistics.multinomial import off_weight
from modelrollout.ports import Answer
from modelrollout.rollout.observed import Allocation
from modelrollout.rollout.plan import WHOLE

TOLERANCE = 0.2
"""A share within so much of what the route asks for (of that share) is as asked: gateways round, clients keep arms."""

SMALLEST_SHARE = 1_000
"""Of a million: a weight under it is one that gateways may round to nothing."""


def allocation_queries(guards: Sequence[Guard], context: Context, now: datetime) -> tuple[Query, ...]:
    """The questions, which are those of a guard of both arms' errors if there is one; raises CatalogError."""
    return counted_queries(_entry(guards, context), context, catalog(context.profile), now)


def read_allocation(
    guards: Sequence[Guard], context: Context, answers: Mapping[str, Answer], now: datetime
) -> Allocation | None:
    """The candidate's share of the requests that both arms got, and whether it is surely not what was asked for.

    None where nothing was counted under a weight that is shared.
    """
    entry, known = _entry(guards, context), catalog(context.profile)
    counted = read_counted(entry, answers, context, known, now, context.since, either=True)
    if isinstance(counted, str) or not counted.shares:
        return None
    shares = [share / WHOLE for share in counted.shares]
    rows = [
        (span, mine, theirs, start)
        for span, mine, theirs, start in zip(
            counted.cuts.spans,
            counted.of(CANDIDATE, "total"),
            counted.of(STABLE, "total"),
            counted.cuts.starts,
            strict=True,
        )
        if SMALLEST_SHARE <= counted.shares[span] <= WHOLE - SMALLEST_SHARE
    ]
    samples = math.fsum(mine + theirs for _, mine, theirs, _ in rows)
    if samples <= 0:
        return None
    ranges = [(share * (1 - TOLERANCE), min(share * (1 + TOLERANCE), 1.0)) for share in shares]
    evidence = off_weight([row[:3] for row in rows], [start for *_, start in rows], ranges)
    sure = evidence.refutes(DEFAULT_CONFIDENCE)
    shown = rows[evidence.start :] if sure else rows
    total = math.fsum(mine + theirs for _, mine, theirs, _ in shown)
    observed = math.fsum(mine for _, mine, _, _ in shown) / total
    expected = math.fsum(shares[span] * (mine + theirs) for span, mine, theirs, _ in shown) / total
    message = (
        f"{context.revision} got {observed:.2%} of {total:.0f} requests, its weight asks for {expected:.2%}"
        if sure
        else ""
    )
    return Allocation(expected, observed, total, not sure, message)


def _entry(guards: Sequence[Guard], context: Context) -> Indicator:
    asked = any(guard.sli == Sli.ERROR_RATIO and is_sequential(guard) for guard in guards)
    return catalog(context.profile).indicator(Sli.ERROR_RATIO if asked else Sli.REQUEST_RATE, context)
