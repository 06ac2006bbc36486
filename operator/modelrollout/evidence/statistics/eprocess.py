"""Evidence of many bets and many starting points taken together, and how sure it makes: logarithms of e-values."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

NOTHING = -math.inf
"""The logarithm of no weight at all."""


@dataclass(frozen=True)
class Evidence:
    """What a test says: the logarithm of its e-value, and the part of the data that says it loudest.

    ``start`` is the index of the first chunk of that part. ``moment`` are its chunk that says most and the louder ones
    beside it, for what is short may lie across their borders; ``spread`` is the logarithm without them: what one moment
    says alone is an incident.
    """

    log_e: float = 0.0
    start: int = 0
    spread: float = 0.0
    moment: tuple[int, ...] = ()

    @property
    def confidence(self) -> float:
        """1 - 1/e, at least 0: a true null hypothesis is ever refuted so surely with at most the rest's probability."""
        return -math.expm1(-self.log_e) if self.log_e > 0 else 0.0

    def refutes(self, confidence: float) -> bool:
        """Whether the null hypothesis is refuted at this confidence, above 0 and below 1."""
        return self.log_e >= -math.log1p(-confidence)


def log_sum(terms: Iterable[float]) -> float:
    """The logarithm of the sum of exponentials; minus infinity for nothing."""
    known = [term for term in terms if term != NOTHING]
    if not known:
        return NOTHING
    greatest = max(known)
    return greatest + math.log(math.fsum(math.exp(term - greatest) for term in known))


Together = Callable[[Sequence[int]], bool]
"""Whether neighbouring chunks, in order, may be one moment."""


def two(chunks: Sequence[int]) -> bool:
    """Two chunks, and no more, may be one moment."""
    return len(chunks) <= 2


def mixed(growth: Sequence[Sequence[float]], starts: Sequence[float], together: Together = two) -> Evidence:
    """The evidence of equally weighted bets, each placed at every start: the e-value is the weighted mean of theirs.

    ``growth`` has for each chunk of data, oldest first, the logarithm by which each bet multiplies its stake there;
    ``starts`` for each chunk the logarithm of the weight of a bet that begins with it (weights sum to at most 1). A
    mean of e-processes is one, and a late start is not diluted by a good past.
    """
    found = _mixed(growth, starts)
    if found.log_e <= 0:
        return found
    moment = _moment([log_sum(step) - math.log(len(step)) for step in growth], found.start, together)
    silent = (0.0,) * len(growth[0])
    rest = _mixed([silent if index in moment else step for index, step in enumerate(growth)], starts)
    return replace(found, spread=rest.log_e, moment=moment)


def _moment(says: Sequence[float], start: int, together: Together) -> tuple[int, ...]:
    """The loudest chunk from ``start`` on, and the louder ones beside it, as many as belong together.

    ``says`` is what each chunk says alone: one without requests nothing, so it parts none. They may lie before the
    start: bets begin at a few chunks only.
    """
    first = last = max(range(start, len(says)), key=lambda place: says[place])
    while True:
        beside = [place for place in (first - 1, last + 1) if 0 <= place < len(says) and says[place] >= 0]
        for place in sorted(beside, key=lambda place: says[place], reverse=True):
            wider = range(min(first, place), max(last, place) + 1)
            if together(wider):
                first, last = wider[0], wider[-1]
                break
        else:
            return tuple(range(first, last + 1))


def _mixed(growth: Sequence[Sequence[float]], starts: Sequence[float]) -> Evidence:
    if not growth:
        return Evidence()
    bets = len(growth[0])
    share = math.log(bets)
    running = [0.0] * bets
    terms: list[tuple[float, int]] = []
    for index in range(len(growth) - 1, -1, -1):
        running = [total + step for total, step in zip(running, growth[index], strict=True)]
        if starts[index] != NOTHING:
            greatest = max(running)
            total = greatest + math.log(sum([math.exp(term - greatest) for term in running]))
            terms.append((starts[index] - share + total, index))
    total = log_sum(term for term, _ in terms)
    return Evidence(total, max(terms)[1] if terms else 0, total)


def averaged(parts: Sequence[Evidence]) -> Evidence:
    """The mean of e-values about one null hypothesis is one too, however they depend on each other."""
    if not parts:
        return Evidence()
    loudest = max(parts, key=lambda part: part.log_e)
    share = math.log(len(parts))
    return Evidence(
        log_sum(part.log_e for part in parts) - share,
        loudest.start,
        log_sum(part.spread for part in parts) - share,
        loudest.moment,
    )
