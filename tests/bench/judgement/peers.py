"""The rules of Argo Rollouts and of Flagger, written from their documented semantics: the same world, the same steps.

Sources: /work/shared/reference/peers.md sections 2.1 and 2.2, which cite their sources, and the pages named at each
configuration. Only what judges metrics and moves weights is here. What is not documented is decided in their favour.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from modelrollout.evidence.counters import quantile
from modelrollout.ports import Series
from tests.bench.judgement.envoy import EPOCH, Fleet
from tests.bench.judgement.traffic import CANDIDATE, World
from tests.bench.judgement.verdicts import BEFORE, LONGEST, STEPS, Ended, Found

XX, BUCKET = "envoy_cluster_upstream_rq_xx", "envoy_cluster_upstream_rq_time_bucket"


class ProviderError(Exception):
    """The provider did not answer, or the expression has nothing to look at."""


Reading = Callable[[Fleet, float], float | None]
"""A value at a time; None is an empty answer. Raises ProviderError."""

# -- PromQL, as far as the two documented queries need it ---------------------------------------------------------


def rate(samples: Sequence[tuple[float, float]], start: float, end: float) -> float | None:
    """Prometheus' ``rate``: growth between the first and last sample, extrapolated to at most half a gap beyond."""
    if len(samples) < 2:
        return None
    first, last = samples[0], samples[-1]
    pairs = pairwise(samples)
    grown = math.fsum(after - before if after >= before else after for (_, before), (_, after) in pairs)
    sampled = last[0] - first[0]
    gap = sampled / (len(samples) - 1)
    before, after = first[0] - start, end - last[0]
    before = gap / 2 if before >= gap * 1.1 else before
    after = gap / 2 if after >= gap * 1.1 else after
    if grown > 0:  # a counter is not extrapolated below zero
        before = min(before, sampled * first[1] / grown)
    return grown * (sampled + before + after) / sampled / (end - start)


def irate(samples: Sequence[tuple[float, float]], start: float, end: float) -> float | None:
    """Prometheus' ``irate``: the growth between the last two samples."""
    if len(samples) < 2:
        return None
    (earlier, before), (later, after) = samples[-2:]
    return (after - before if after >= before else after) / (later - earlier)


Rate = Callable[[Sequence[tuple[float, float]], float, float], float | None]


def _series(fleet: Fleet, now: float, window: float, metric: str) -> Iterable[tuple[str, Series]]:
    mode = fleet.world.outage(now)
    if mode in ("refused", "down", "hung"):
        raise ProviderError("the provider does not answer")
    fleet.scraped(now)
    for key in [key for key in fleet.series if key[1] == CANDIDATE and key[2] == metric]:
        found = fleet.find(key, EPOCH + now - window, EPOCH + now, spoiled=mode == "nan")
        if found is not None and mode != "empty":
            yield key[3], found


def success_rate(window: float, rate: Rate) -> Reading:
    """``sum(rate(requests that are no 5xx)) / sum(rate(requests))`` of the candidate."""

    def read(fleet: Fleet, now: float) -> float | None:
        good: list[float] = []
        every: list[float] = []
        for code, series in _series(fleet, now, window, XX):
            value = rate(series.samples, EPOCH + now - window, EPOCH + now)
            if value is not None:
                every.append(value)
                if code != "5":
                    good.append(value)
        if not good or not every:
            return None
        total = math.fsum(every)
        return math.fsum(good) / total if total else math.nan

    return read


def slowest(window: float, share: float = 0.99) -> Reading:
    """``histogram_quantile(0.99, sum(rate(buckets)) by (le))`` of the candidate, in milliseconds."""

    def read(fleet: Fleet, now: float) -> float | None:
        buckets: dict[float, float] = {}
        for bound, series in _series(fleet, now, window, BUCKET):
            value = rate(series.samples, EPOCH + now - window, EPOCH + now)
            if value is not None:
                edge = math.inf if bound == "+Inf" else float(bound)
                buckets[edge] = buckets.get(edge, 0.0) + value
        if not buckets:
            return None
        if any(math.isnan(value) for value in buckets.values()):
            return math.nan
        found = quantile(share, list(buckets.items()))
        return math.nan if found is None else found

    return read


# -- Argo Rollouts ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Metric:
    """A metric of an AnalysisTemplate. ``good`` is its successCondition; there is no failureCondition."""

    read: Reading
    good: Callable[[float], bool]
    interval: float
    failure_limit: int = 0
    error_limit: int = 4
    initial_delay: float = 0.0


@dataclass
class _Count:
    """What an AnalysisRun keeps of one metric."""

    due: float
    failed: int = 0
    consecutive_errors: int = 0


RETRY = 10.0
"""Seconds until a measurement in error is taken again, whatever the interval."""


@dataclass(frozen=True)
class ArgoRollouts:
    """A canary with a background analysis from its first step on; a run that fails or errs aborts it."""

    metrics: tuple[Metric, ...]

    def roll_out(self, world: World, seed: Sequence[int]) -> Found:
        """Carry out one rollout."""
        fleet = Fleet(world, np.random.default_rng(seed))
        counts = [_Count(BEFORE + metric.initial_delay) for metric in self.metrics]
        now, step = BEFORE, 0
        step_ends = now + STEPS[0][1]
        fleet.shift(now, STEPS[0][0] / 100)
        while True:
            due = min(count.due for count in counts)
            now = min(due, step_ends)
            if due <= step_ends:
                for metric, count in zip(self.metrics, counts, strict=True):
                    if count.due <= now and (why := _measure(metric, count, fleet, now)):
                        fleet.shift(now, 0.0)
                        return Found(Ended.ROLLED_BACK, fleet.answered, None, now - BEFORE, why)
                continue
            step += 1
            if step == len(STEPS):
                # Fully promoted: the run is ended, and what comes after is nobody's business.
                fleet.shift(now, 1.0)
                return Found(Ended.PROMOTED, fleet.answered, fleet.answered, now - BEFORE)
            fleet.shift(now, STEPS[step][0] / 100)
            step_ends = now + STEPS[step][1]


def _measure(metric: Metric, count: _Count, fleet: Fleet, now: float) -> str:
    """One measurement; the sentence that ends the run, empty while it goes on."""
    try:
        value = metric.read(fleet, now)
        if value is None:
            raise ProviderError("result[0] of an empty answer")
    except ProviderError as error:
        count.consecutive_errors += 1
        count.due = now + RETRY
        return f"Error: {error}" if count.consecutive_errors > metric.error_limit else ""
    count.consecutive_errors = 0
    count.due = now + metric.interval
    if metric.good(value):
        return ""
    count.failed += 1
    return f"Failed: {value:.4g}, {count.failed} times" if count.failed > metric.failure_limit else ""


# -- Flagger ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Check:
    """A metric of a Canary and its thresholdRange."""

    read: Reading
    good: Callable[[float], bool]


@dataclass(frozen=True)
class Flagger:
    """One tick an interval; a metric out of range, missing, NaN or not answered is a failed check, for its lifetime.

    A failed check holds the weight; at ``threshold`` of them the next tick takes the candidate back. The weight rises
    with a good tick whose step's time is over, as if its stepWeights named each weight as often as the step has ticks.
    """

    checks: tuple[Check, ...]
    interval: float = 60.0
    threshold: int = 5

    def roll_out(self, world: World, seed: Sequence[int]) -> Found:
        """Carry out one rollout."""
        fleet = Fleet(world, np.random.default_rng(seed))
        now, step, failed = BEFORE, 0, 0
        step_began = now
        fleet.shift(now, STEPS[0][0] / 100)
        while now - BEFORE < LONGEST:
            now += self.interval
            if failed >= self.threshold:
                fleet.shift(now, 0.0)
                return Found(Ended.ROLLED_BACK, fleet.answered, None, now - BEFORE, f"{failed} failed checks")
            if not all(_passes(check, fleet, now) for check in self.checks):
                failed += 1
            elif now - step_began >= STEPS[step][1]:
                step, step_began = step + 1, now
                fleet.shift(now, STEPS[step][0] / 100 if step < len(STEPS) else 1.0)
                if step == len(STEPS):
                    return Found(Ended.PROMOTED, fleet.answered, fleet.answered, now - BEFORE)
        return Found(Ended.HELD, fleet.answered, None, now - BEFORE)


def _passes(check: Check, fleet: Fleet, now: float) -> bool:
    try:
        value = check.read(fleet, now)
    except ProviderError:
        return False
    return value is not None and not math.isnan(value) and check.good(value)


# -- configurations -----------------------------------------------------------------------------------------------

ARGO_DOCUMENTED = ArgoRollouts(
    (Metric(success_rate(300, irate), lambda value: value >= 0.95, interval=300, failure_limit=3),)
)
"""The example of its documentation (docs/features/analysis.md, Background Analysis): interval 5m, successCondition
>= 0.95 of ``irate[5m]``, failureLimit 3; consecutiveErrorLimit is its default."""

ARGO_STRICT = ArgoRollouts(
    (
        Metric(success_rate(60, rate), lambda value: value >= 0.99, 60, failure_limit=3, initial_delay=60),
        Metric(slowest(60), lambda value: value <= 500, 60, failure_limit=3, initial_delay=60),
    )
)
"""The same with the shorter interval of that page (60s), an initialDelay so that there is something to measure, and
Flagger's bounds: what somebody would write who wants it as sharp as Flagger."""

FLAGGER = Flagger(
    (
        Check(success_rate(60, rate), lambda value: value >= 0.99),
        Check(slowest(60), lambda value: value <= 500),
    )
)
"""Its Gateway API tutorial for Envoy (docs/gitbook/tutorials/gatewayapi-progressive-delivery.md): interval 1m,
threshold 5 (its page how-it-works has 10), errors at most 1 percent over 1m, p99 at most 500 ms; the latter over 1m as
in usage/metrics.md, not 30s, which would often hold one sample only."""

RULES = {"Argo Rollouts, documented": ARGO_DOCUMENTED, "Argo Rollouts, strict": ARGO_STRICT, "Flagger": FLAGGER}
