"""The load gate: a burst at stable's rate on the candidate's pods, whose latency is read before users meet it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import timedelta

from modelrollout.api.gates import LoadTest
from modelrollout.api.guard import Guard, Sli
from modelrollout.api.modeldeployment import ModelDeployment
from modelrollout.controller.cache import Cache, Key
from modelrollout.controller.candidate import Candidate, pods_of
from modelrollout.controller.evaluation import evaluate
from modelrollout.evidence.context import Context
from modelrollout.ports import Burst, BurstReport, Clock, Metrics, ModelServer, PodTarget, Tensor
from modelrollout.rollout.observed import Check, GateName, GateState
from modelrollout.rollout.plan import EvaluationRequest
from modelrollout.settings import Settings

BURSTS = 2
"""How many candidates are under load at the same time."""
RATE_IF_UNKNOWN = 5.0
LOWEST_RATE = 0.5
HIGHEST_RATE = 2000.0
LOOKBACK = timedelta(minutes=10)
WINDOW = timedelta(minutes=2)
BESIDE_BURSTS = 40.0
"""Seconds that two bursts may take beyond their durations: each may begin its last request 10 s late, and wait 10 s for
its answer."""


def seconds_of(wanted: LoadTest) -> float:
    """How long the whole gate may take, which must be enough for two bursts."""
    return max(wanted.timeout.total_seconds(), 2 * wanted.duration.total_seconds() + BESIDE_BURSTS)


class LoadGate:
    """Puts candidates under load."""

    def __init__(
        self, cache: Cache, clock: Clock, settings: Settings, servers: ModelServer, metrics: Mapping[str, Metrics]
    ) -> None:
        self._cache = cache
        self._clock = clock
        self._settings = settings
        self._servers = servers
        self._metrics = metrics

    async def check(
        self, key: Key, wish: ModelDeployment, candidate: Candidate, requests: Sequence[tuple[Tensor, ...]]
    ) -> Check:
        """One burst, and a second one where only the latency was bad: a neighbour's noise is no verdict.

        Failed requests are final unless a pod was taken away meanwhile; the caller bounds the time.
        """
        wanted, targets = candidate.gates.load, pods_of(key, candidate.model, self._cache)
        if wanted is None:
            return _check(GateState.SKIPPED, "there is no load test")
        if not targets:
            return _check(GateState.FAILED, "no ready pod to ask")
        rate, origin = await self._rate(key, wish, candidate, wanted, len(targets))
        burst = Burst(rate, wanted.duration.total_seconds(), tuple(requests))
        report = await self._servers.burst(targets, burst)
        if report.unsent:
            return _check(GateState.SKIPPED, f"nothing was sent: {report.unsent}")
        if _too_slow(report, wanted) and not _failing(report, wanted):
            report = await self._servers.burst(targets, burst)
        if report.again:
            return _check(GateState.FAILED, f"the burst could not begin: {report.again}")
        message = f"{_told(report)}, at {rate:.4g}/s for {burst.seconds:g} s on {_pods(targets)} ({origin})"
        if _failing(report, wanted):
            gone = self._gone(key, targets)
            if gone:
                return _check(GateState.FAILED, f"pod {gone} was taken away during the burst")
            limit = f"at most {wanted.max_error_ratio:.4g} of the requests may fail"
            return Check(GateName.LOAD, GateState.FAILED, f"{limit}: {message}", final=True)
        if _too_slow(report, wanted):
            limit = f"too slow twice, p99 must be <= {wanted.max_latency_p99:g} s"
            return Check(GateName.LOAD, GateState.FAILED, f"{limit}: {message}", final=True)
        return _check(GateState.PASSED, message)

    def _gone(self, key: Key, targets: Sequence[PodTarget]) -> str | None:
        """A pod that somebody deleted or evicted: that is not the model's doing. One that crashed is still there."""
        pods = {pod["metadata"]["name"]: pod for pod in self._cache.every(key, "Pod")}
        for target in targets:
            pod = pods.get(target.pod)
            if pod is None or pod["metadata"].get("deletionTimestamp"):
                return target.pod
        return None

    async def _rate(
        self, key: Key, wish: ModelDeployment, candidate: Candidate, wanted: LoadTest, pods: int
    ) -> tuple[float, str]:
        """Requests per second for the pods there are, and where the number is from.

        The candidate may not have its whole fleet yet: it gets the share of the rate that so many pods will get.
        """
        if wanted.rate is not None:
            whole, origin = wanted.rate, "the spec's rate"
        else:
            seen = await self._rate_of_stable(key, wish, candidate)
            if seen is None or not math.isfinite(seen):
                whole, origin = RATE_IF_UNKNOWN, "the rate where stable's is not known"
            else:
                whole, origin = max(seen, LOWEST_RATE), "stable's rate" if seen >= LOWEST_RATE else "the least rate"
        share = min(1.0, pods / max(candidate.replicas, 1))
        if share < 1.0 and whole * share <= HIGHEST_RATE:
            origin = f"{origin} of {whole:.4g}/s, the share of {pods} of {candidate.replicas} pods"
        if whole * share > HIGHEST_RATE:
            return HIGHEST_RATE, f"the most that is sent; {origin} is {whole:.4g}/s"
        return max(whole * share, 0.1), origin

    async def _rate_of_stable(self, key: Key, wish: ModelDeployment, candidate: Candidate) -> float | None:
        """What stable answers at the gateway, in requests per second; None where nobody knows."""
        gateway, metrics = wish.spec.traffic.gateway, self._metrics.get(wish.spec.rollout.prometheus)
        if gateway is None or candidate.stable is None or metrics is None:
            return None
        now = self._clock.now()
        guard = Guard(name="load", sli=Sli.REQUEST_RATE, min=0.0, window=WINDOW)
        request = EvaluationRequest(
            attempt=0,
            revision=candidate.stable.revision,
            stable=candidate.stable.revision,
            slot=candidate.slot,
            since=now - LOOKBACK,
            interval=timedelta(seconds=10),
            guards=(guard.name,),
        )
        profile = str(self._settings.gateway(gateway.namespace or key.namespace, gateway.name).profile)
        found = await evaluate(metrics, (guard,), Context.of(wish, request, profile), request, self._clock)
        return found.results[0].value if found.results else None


def _failing(report: BurstReport, wanted: LoadTest) -> bool:
    return report.sent == 0 or report.failed / report.sent > wanted.max_error_ratio


def _too_slow(report: BurstReport, wanted: LoadTest) -> bool:
    return wanted.max_latency_p99 is not None and (report.p99 is None or report.p99 > wanted.max_latency_p99)


def _told(report: BurstReport) -> str:
    found = (("p50", report.p50), ("p95", report.p95), ("p99", report.p99))
    # Three digits, and never 2.08e+03.
    speed = ", ".join(f"{name} {float(f'{value * 1000:.3g}'):g} ms" for name, value in found if value is not None)
    failures = f", {report.failed} failed ({report.problem})" if report.failed else ", none failed"
    return f"{report.sent} requests{failures}{f', {speed}' if speed else ''}"


def _pods(targets: Sequence[PodTarget]) -> str:
    return f"{len(targets)} pods" if len(targets) > 1 else "1 pod"


def _check(state: GateState, message: str) -> Check:
    return Check(GateName.LOAD, state, message)
