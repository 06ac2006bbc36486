"""Do the arms get their weights? Requests counted against the shares that the routes ask for now."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from modelrollout.api.guard import DEFAULT_CONFIDENCE, Guard, Sli
from modelrollout.evidence.bounds import is_sequential
from modelrollout.evidence.context import Context
from modelrollout.evidence.counted import CANDIDATE, STABLE, Counted, counted_queries, read_counted
from modelrollout.evidence.question import Query
from modelrollout.evidence.slis import Indicator, catalog
from modelrollout.evidence.statistics.eprocess import Evidence
from modelrollout.evidence.statistics.multinomial import back_in_range, off_weight
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
    """The candidate's share of the requests that both arms got, and whether it is surely not what is asked for now.

    Only what was counted under the newest weight says anything about it. None where nothing was, or it is not shared.
    """
    entry, known = _entry(guards, context), catalog(context.profile)
    counted = read_counted(entry, answers, context, known, now, context.since, either=True)
    if isinstance(counted, str) or not counted.shares:
        return None
    newest = len(counted.shares) - 1
    if not SMALLEST_SHARE <= counted.shares[newest] <= WHOLE - SMALLEST_SHARE:
        return None
    first = counted.cuts.spans.index(newest)
    expected = counted.shares[newest] / WHOLE
    look = _Look(
        tuple(zip(_asked(counted, CANDIDATE)[first:], _asked(counted, STABLE)[first:], strict=True)),
        counted.cuts.starts[first:],
        expected * (1 - TOLERANCE),
        min(expected * (1 + TOLERANCE), 1.0),
    )
    if look.requests() <= 0:
        return None
    evidence = look.against()
    sure = evidence.refutes(DEFAULT_CONFIDENCE)
    back = look.since_back(evidence.start) if sure else 0
    effective = not sure or back is not None
    since = evidence.start if back is None else back
    observed, total = look.share(since), look.requests(since)
    message = f"{context.revision} got {observed:.2%} of {total:.0f} requests, its weight asks for {expected:.2%}"
    return Allocation(expected, observed, total, effective, "" if effective else message)


@dataclass(frozen=True)
class _Look:
    """Requests of the candidate and of stable by piece under one weight, and the shares that are as asked."""

    counts: tuple[tuple[float, float], ...]
    starts: tuple[float, ...]
    least: float
    most: float

    def requests(self, begin: int = 0, end: int | None = None) -> float:
        """Of both arms, in these pieces."""
        return math.fsum(mine + theirs for mine, theirs in self.counts[begin:end])

    def share(self, begin: int = 0, end: int | None = None) -> float:
        """The candidate's of these pieces, which have requests."""
        return math.fsum(mine for mine, _ in self.counts[begin:end]) / self.requests(begin, end)

    def against(self, begin: int = 0) -> Evidence:
        """Against: from this piece on the candidate's share is as asked."""
        return off_weight(self.counts[begin:], self.starts[begin:], self.least, self.most)

    def since_back(self, begin: int) -> int | None:
        """The piece since which the share, which was off from piece ``begin`` on, is as asked again; None: it is not.

        What was wrong counts in the mean long after it was put right. The pieces since must say that it is over as
        surely as others said that it was wrong, and nothing else against it.
        """
        hits = others = 0.0
        for place in range(len(self.counts) - 1, begin, -1):
            hits, others = hits + self.counts[place][0], others + self.counts[place][1]
            off = self.share(begin, place) if self.requests(begin, place) > 0 else self.least
            if self.least <= off <= self.most:
                continue
            says = back_in_range(hits, others, self.least, self.most, off)
            if says >= -math.log1p(-DEFAULT_CONFIDENCE) and not self.against(place).refutes(DEFAULT_CONFIDENCE):
                return place
        return None


def _asked(counted: Counted, arm: int) -> list[float]:
    """Requests that an arm got by piece, whether or not it ever answered."""
    columns = (counted.of(arm, role) for role in ("total", "sent", "retried"))
    return [max(total, sent - again) for total, sent, again in zip(*columns, strict=True)]


def _entry(guards: Sequence[Guard], context: Context) -> Indicator:
    asked = any(guard.sli == Sli.ERROR_RATIO and is_sequential(guard) for guard in guards)
    return catalog(context.profile).indicator(Sli.ERROR_RATIO if asked else Sli.REQUEST_RATE, context)
