"""What a guard allows: its bounds in words, what lies outside, from when on it counts, and whether stable is as bad."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime

from modelrollout.api.guard import Guard
from modelrollout.evidence.context import Context

LEAST_RISE = 0.002
LEAST_SLOWDOWN = 0.1
"""What counts as a rise over stable where a guard does not say: of a ratio in its unit, of a latency as a share."""

AS_BAD = 2.0
"""Stable is as bad as the candidate where their ratios differ by less than so many standard errors..."""

AS_SLOW = 1.1
"""... or their quantiles by less than this factor."""


def threshold(guard: Guard) -> str:
    """The bounds in words: ``<= 0.01``, ``>= 5``, both, ``<= stable + 0.002`` or ``<= 1.1 x stable``."""
    if guard.relative_to is not None:
        effect = least_effect(guard)
        return f"<= {1 + effect:.12g} x stable" if is_latency(guard) else f"<= stable + {effect:.12g}"
    parts = []
    if guard.min is not None:
        parts.append(f">= {guard.min:.12g}")
    if guard.max is not None:
        parts.append(f"<= {guard.max:.12g}")
    return " and ".join(parts)


def is_sequential(guard: Guard) -> bool:
    """Whether the guard is judged by a test on the counts of the whole attempt."""
    return guard.relative_to is not None or guard.confidence is not None


def is_latency(guard: Guard) -> bool:
    """Whether the guard is about a latency, which is compared by a factor and not by a difference."""
    return (guard.sli or "").startswith("latency-")


def least_effect(guard: Guard) -> float:
    """The smallest rise over stable that the guard cares about."""
    if guard.min_effect is not None:
        return guard.min_effect
    return LEAST_SLOWDOWN if is_latency(guard) else LEAST_RISE


def outside(guard: Guard, value: float | None) -> bool:
    """Whether a value is beyond a bound of the guard; never without a finite value."""
    if value is None or not math.isfinite(value):
        return False
    return (guard.max is not None and value > guard.max) or (guard.min is not None and value < guard.min)


def enough(guard: Guard, samples: float | None) -> bool:
    """Whether a value that is made of so many requests counts; at least one is needed."""
    return samples is not None and samples >= max(guard.min_samples, 1)


def begin_of(guard: Guard, context: Context) -> datetime:
    """From when on the guard counts anything: after its warm-up."""
    return context.since + guard.warm_up


def warmed_up(guard: Guard, context: Context) -> Context:
    """The context without the warm-up of the guard."""
    if not guard.warm_up:
        return context
    begin = begin_of(guard, context)
    spans = {max(span.since, begin): span for span in context.spans}
    return replace(context, since=begin, spans=tuple(replace(span, since=since) for since, span in spans.items()))


def waits_until(guard: Guard, context: Context, now: datetime) -> datetime | None:
    """Until when silence of the guard is as expected (its warm-up, the delay of the labels); None if not any more."""
    due = context.since + guard.silent_for
    return due if now < due else None


def ratio_as_bad(guard: Guard, value: float, samples: float, baseline: float | None, stable: float) -> bool:
    """Whether stable breaks the bound too, or is half way there and not measurably better than the candidate.

    Where the world moves, either arm may be seen beyond the bound first.
    """
    if baseline is None or samples <= 0 or stable <= 0:
        return False
    if outside(guard, baseline):
        return True
    pooled = (value * samples + baseline * stable) / (samples + stable)
    error = math.sqrt(max(pooled * (1 - pooled), 0.0) * (1 / samples + 1 / stable))
    if guard.max is not None and value > guard.max:
        near = baseline >= guard.max / 2
    else:
        near = guard.min is not None and 1 - baseline >= (1 - guard.min) / 2
    return near and abs(value - baseline) < AS_BAD * error


def latency_as_bad(guard: Guard, value: float, baseline: float | None) -> bool:
    """Whether stable breaks the bound too, or is hardly any better than the candidate."""
    if baseline is None:
        return False
    return outside(guard, baseline) or max(value, baseline) <= AS_SLOW * min(value, baseline)
