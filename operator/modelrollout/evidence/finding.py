"""What a sequential test makes of a guard: its estimate, its verdict, and what of it rests on one moment only."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from modelrollout.api.guard import DEFAULT_CONFIDENCE, Guard
from modelrollout.api.status import Verdict
from modelrollout.evidence.bounds import enough, threshold
from modelrollout.evidence.counted import Counted
from modelrollout.evidence.statistics.eprocess import Evidence
from modelrollout.evidence.statistics.starts import SHORTEST

LEANING = 0.5
"""Surer than this of a breach, yet not sure enough, is no pass: the step waits for more requests."""

LONGEST_MOMENT = 90.0
"""Seconds without a witness that may be one moment, however long the window: a minute of trouble, told late."""

SPREAD = math.log(10)
"""How loud the evidence of a breach must be without its loudest moment (the logarithm of an e-value)."""


@dataclass(frozen=True)
class Finding:
    """What a test makes of a guard; fields as in GuardResult.

    ``shared`` are the pieces of time in which stable is as bad as the candidate; ``moment`` those that alone
    speak for a breach, where that is why there is no verdict.
    """

    verdict: Verdict
    message: str
    value: float | None = None
    samples: float | None = None
    confidence: float | None = None
    baseline: float | None = None
    both: bool = False
    shared: tuple[int, ...] = ()
    moment: tuple[int, ...] = ()


@dataclass(frozen=True)
class Estimate:
    """What was measured: ``worse`` says that it is beyond what is allowed, ``leans`` that it is so by more than chance.

    ``more`` says that requests to tell by can still come.
    """

    what: str
    value: float
    samples: float
    baseline: float | None
    worse: bool
    leans: bool = False
    more: bool = True
    shared: tuple[int, ...] = ()


def decided(guard: Guard, evidence: Evidence, found: Estimate) -> Finding:
    """Breach: the test is sure and the estimate says so too. What leans that way is no pass, while more can come."""
    sure, needed = evidence.confidence, confidence_of(guard)
    message = f"{found.what}, must be {threshold(guard)}"
    verdict = Verdict.PASS
    moment: tuple[int, ...] = ()
    if found.worse and evidence.refutes(needed) and _lasts(guard, evidence):
        verdict, message = Verdict.BREACH, f"{message}; sure to {_percent(sure)}"
    elif found.worse and evidence.refutes(needed) and found.more:
        verdict, message, moment = Verdict.NO_DATA, f"{message}; of one moment only: does it last?", evidence.moment
    elif found.worse and found.more and (found.leans or sure >= LEANING):
        verdict, message = Verdict.NO_DATA, f"{message}; not sure yet: {_percent(sure)} of {_percent(needed)}"
        moment = evidence.moment if sure >= LEANING and evidence.spread <= 0 else ()
    shared = found.shared if verdict is Verdict.BREACH else ()
    return Finding(verdict, message, found.value, found.samples, sure, found.baseline, shared=shared, moment=moment)


def too_few(guard: Guard, samples: float, stable: float | None = None) -> Finding:
    """Why there is no estimate: of so many requests none can be made."""
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


def confidence_of(guard: Guard) -> float:
    """How sure a breach must be."""
    return DEFAULT_CONFIDENCE if guard.confidence is None else guard.confidence


def first_piece(guard: Guard, counted: Counted, evidence: Evidence, now: datetime) -> int:
    """The first piece that the estimate is made of: all of them, or from where the test is sure that it began.

    But a window at least: a second of trouble may be beyond doubt, and is of no consequence.
    """
    if not evidence.refutes(confidence_of(guard)):
        return 0
    window = counted.cuts.piece((now - guard.window).timestamp())
    return max(min(evidence.start, window), 0)


def shared_pieces(counted: Counted, first: int, as_bad: Callable[[Sequence[int]], bool]) -> tuple[int, ...]:
    """The pieces, from the first on, of the spans in which both arms had traffic and ``as_bad`` says so of theirs.

    Over several spans nothing can be said: where weights changed in between, an arm has more of its requests in the bad
    part of the time than the other.
    """
    spans: dict[int, list[int]] = {}
    for piece in range(first, len(counted.cuts.times)):
        if counted.compared[piece]:
            spans.setdefault(counted.cuts.spans[piece], []).append(piece)
    return tuple(piece for pieces in spans.values() if as_bad(pieces) for piece in pieces)


def one_moment(guard: Guard, counted: Counted) -> Callable[[Sequence[int]], bool]:
    """Which neighbouring pieces may be one moment, for a bound: two, or what a while touches without a witness.

    The while is half a window, but no more than LONGEST_MOMENT. In the bake stable has no traffic: nothing tells a
    world that fails for a minute from a candidate that does.
    """
    times, longest = counted.cuts.times, min(guard.window.total_seconds() / 2, LONGEST_MOMENT)

    def together(pieces: Sequence[int]) -> bool:
        if len(pieces) <= 2:
            return True
        witnessed = all(counted.compared[piece] for piece in pieces)
        return not witnessed and times[pieces[-1]] - times[pieces[0] + 1] < longest

    return together


def _lasts(guard: Guard, evidence: Evidence) -> bool:
    """Whether more than a moment speaks for a breach: a pod that crashes once is no bad model.

    Who looks at windows no longer than a piece wants to know of moments.
    """
    enough_without = evidence.spread >= min(SPREAD, -math.log1p(-confidence_of(guard)))
    return enough_without or guard.window.total_seconds() <= SHORTEST


def _percent(share: float) -> str:
    return f"{100 * min(share, 0.999999):.6g} %"
