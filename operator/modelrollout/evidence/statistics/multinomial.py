"""Counts in bins against shares: the e-process of Lindon and Malek, closed form with log-gamma.

M. Lindon, A. Malek: Anytime-Valid Inference for Multinomial Count Data, NeurIPS 2022, theorem of section 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from modelrollout.evidence.statistics.eprocess import Evidence, log_sum

PRIOR = 0.5
"""Parameter of the Dirichlet mixture for each bin (Jeffreys): no share is favoured."""


def mixture(counts: Sequence[float], prior: Sequence[float] | None = None) -> float:
    """The log probability of any one order of these counts, under a Dirichlet mixture of all multinomials."""
    weights = [PRIOR] * len(counts) if prior is None else list(prior)
    bins = sum(math.lgamma(weight + count) - math.lgamma(weight) for count, weight in zip(counts, weights, strict=True))
    return bins + math.lgamma(sum(weights)) - math.lgamma(sum(weights) + sum(counts))


def likelihood(counts: Sequence[float], shares: Sequence[float]) -> float:
    """The log probability of any one order of these counts, each request falling into its bin with its share."""
    total = 0.0
    for count, share in zip(counts, shares, strict=True):
        if count > 0:
            total += count * math.log(share) if share > 0 else -math.inf
    return total


def against_shares(counts: Sequence[float], shares: Sequence[float], prior: Sequence[float] | None = None) -> float:
    """The log e-value against: the bins have exactly these shares. A bin of share 0 that counted makes it infinite."""
    return mixture(counts, prior) - likelihood(counts, shares)


def against_range(hits: float, others: float, least: float, most: float) -> float:
    """The log e-value against: a bin has some share from ``least`` to ``most``.

    The mixture over the greatest likelihood that the range allows (universal inference: Wasserman, Ramdas,
    Balakrishnan, PNAS 2020); with an empty range it is ``against_shares``.
    """
    total = hits + others
    share = min(max(hits / total, least), most) if total > 0 else least
    return against_shares((hits, others), (share, 1 - share))


def back_in_range(hits: float, others: float, least: float, most: float, off: float) -> float:
    """How much likelier, as a logarithm, the counts are with a share in the range than with one that is still off.

    ``off`` is a share outside the range, 0 to 1; still off is half way from the edge of the range to it, or beyond.
    """
    total = hits + others
    if total <= 0:
        return 0.0
    share = hits / total
    inside = min(max(share, least), most)
    outside = min(share, (least + off) / 2) if off < least else max(share, (most + off) / 2)
    counts = (hits, others)
    return likelihood(counts, (inside, 1 - inside)) - likelihood(counts, (outside, 1 - outside))


def off_weight(counts: Sequence[tuple[float, float]], starts: Sequence[float], least: float, most: float) -> Evidence:
    """Evidence against: under one weight, the candidate's share of the requests lies between ``least`` and ``most``.

    ``counts`` are (requests of the candidate, those of stable) by chunk, oldest first; ``starts`` the logarithms of the
    weights of tests that begin with each chunk.
    """
    hits = others = 0.0
    terms: list[tuple[float, int]] = []
    for index in range(len(counts) - 1, -1, -1):
        hits, others = hits + counts[index][0], others + counts[index][1]
        terms.append((starts[index] + against_range(hits, others, least, most), index))
    if not terms:
        return Evidence()
    return Evidence(log_sum(term for term, _ in terms), max(terms)[1])
