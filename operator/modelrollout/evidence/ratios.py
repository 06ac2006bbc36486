"""Ratios with confidence: the share of bad requests against stable's, or against a bound."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime

from modelrollout.api.guard import Guard
from modelrollout.evidence.bounds import enough, least_effect, outside, ratio_as_bad
from modelrollout.evidence.counted import CANDIDATE, STABLE, Counted
from modelrollout.evidence.finding import Estimate, Finding, decided, first_piece, one_moment, shared_pieces, too_few
from modelrollout.evidence.statistics.bound import above
from modelrollout.evidence.statistics.difference import Chunk, rise
from modelrollout.evidence.statistics.eprocess import averaged

LEANING_ERRORS = 1.0
"""A ratio that is more than so many standard errors beyond what is allowed is no pass: what tells a pass from a breach
takes more requests than a step may have, and after the last one there are none to compare with."""


def relative_ratio(guard: Guard, counted: Counted, now: datetime) -> Finding:
    """Test whether the candidate's ratio is above stable's at the same time by more than the least effect."""
    mine, theirs = _compared(counted, CANDIDATE), _compared(counted, STABLE)
    chunks = [Chunk(own, other) for own, other in zip(mine, theirs, strict=True)]
    evidence = rise(chunks, counted.cuts.starts, least_effect(guard))
    first = first_piece(guard, counted, evidence, now)
    samples, stable = _sum(mine[first:]), _sum(theirs[first:])
    if not enough(guard, samples) or stable <= 0:
        return too_few(guard, samples, stable)
    value = math.fsum(bad for _, bad in mine[first:]) / samples
    baseline = _standard(chunks[first:], counted.cuts.spans[first:])
    what = f"{guard.sli} is {value:.4g} against stable's {baseline:.4g} ({samples:.0f} and {stable:.0f} requests)"
    lost = math.fsum(counted.unanswered(CANDIDATE)[first:])
    what += f", {lost:.0f} never answered" if lost >= 1 else ""
    excess = value - baseline - least_effect(guard)
    error = math.sqrt(value * (1 - value) / samples + baseline * (1 - baseline) / stable)
    leans, more = excess > LEANING_ERRORS * error, counted.compared[-1]
    return decided(guard, evidence, Estimate(what, value, samples, baseline, excess > 0, leans, more))


def bounded_ratio(guard: Guard, counted: Counted, now: datetime) -> Finding:
    """Test whether the candidate's ratio is above max or under min."""
    pieces = _bounded(counted)
    theirs = [
        pair if there else (0.0, 0.0) for pair, there in zip(_answered(counted, STABLE), counted.compared, strict=True)
    ]
    tests, together = [], one_moment(guard, counted)
    if guard.max is not None:
        tests.append(above(pieces, counted.cuts.starts, guard.max, together))
    if guard.min is not None:
        tests.append(above([(bad, good) for good, bad in pieces], counted.cuts.starts, 1 - guard.min, together))
    evidence = averaged(tests)
    first = first_piece(guard, counted, evidence, now)
    samples, stable = _sum(pieces[first:]), _sum(theirs[first:])
    if not enough(guard, samples):
        return too_few(guard, samples)
    value = _share(pieces[first:])
    baseline = _share(theirs[first:]) if stable > 0 else None

    def as_bad(places: Sequence[int]) -> bool:
        return _both(guard, [pieces[place] for place in places], [theirs[place] for place in places])

    excess = max(
        value - guard.max if guard.max is not None else -math.inf,
        guard.min - value if guard.min is not None else -math.inf,
    )
    leans = excess > LEANING_ERRORS * math.sqrt(value * (1 - value) / samples)
    what = f"{guard.sli} is {value:.4g} ({samples:.0f} requests)"
    shared = shared_pieces(counted, first, as_bad)
    return decided(guard, evidence, Estimate(what, value, samples, baseline, excess > 0, leans, shared=shared))


def _both(guard: Guard, mine: Sequence[tuple[float, float]], theirs: Sequence[tuple[float, float]]) -> bool:
    """Whether the candidate breaks the bound here, and stable is as bad."""
    samples, stable = _sum(mine), _sum(theirs)
    if samples <= 0 or stable <= 0 or not enough(guard, stable):
        return False
    value = _share(mine)
    return outside(guard, value) and ratio_as_bad(guard, value, samples, _share(theirs), stable)


def _compared(counted: Counted, arm: int) -> list[tuple[float, float]]:
    """Good and bad requests by piece, those that nobody answered among the bad; nothing where no arms are compared."""
    return [
        (good, bad + lost) if there else (0.0, 0.0)
        for (good, bad), lost, there in zip(
            _answered(counted, arm), counted.unanswered(arm), counted.compared, strict=True
        )
    ]


def _bounded(counted: Counted) -> list[tuple[float, float]]:
    """Good and bad requests of the candidate by piece.

    Clients may give up as often as they like, as a bound is about answers; but where stable has no traffic, no more
    often than they gave up on stable: a model that hangs would pass for one without errors. Where stable never had
    requests beside the candidate nobody knows how often that is, and none count.
    """
    known = _sum(_compared(counted, STABLE))
    if known <= 0:
        return _answered(counted, CANDIDATE)
    lost = zip(counted.unanswered(STABLE), counted.compared, strict=True)
    usual = math.fsum(one for one, there in lost if there) / known
    return [
        (good, bad if there else bad + max(lost - usual * (good + bad + lost), 0.0))
        for (good, bad), lost, there in zip(
            _answered(counted, CANDIDATE), counted.unanswered(CANDIDATE), counted.compared, strict=True
        )
    ]


def _answered(counted: Counted, arm: int) -> list[tuple[float, float]]:
    pairs = zip(counted.of(arm, "total"), counted.of(arm, "errors"), strict=True)
    return [(total - min(bad, total), min(bad, total)) for total, bad in pairs]


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


def _sum(pairs: Sequence[tuple[float, float]]) -> float:
    return math.fsum(good + bad for good, bad in pairs)


def _share(pairs: Sequence[tuple[float, float]]) -> float:
    return math.fsum(bad for _, bad in pairs) / _sum(pairs)
