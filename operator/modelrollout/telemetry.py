"""The operator's own metrics and health: a registry of its own, no globals.

Series of a ModelDeployment are made at the scrape from what was last observed of it, so a deleted object, an old
revision and a removed guard leave none behind.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from typing_extensions import override

import modelrollout
from modelrollout.api.guard import Guard
from modelrollout.api.reasons import ConditionType
from modelrollout.api.status import ConditionStatus, GuardStatus, ModelDeploymentStatus, Phase
from modelrollout.exposition import Page, Pages
from modelrollout.ports import Clock
from modelrollout.rollout.observed import Evaluation

_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_ROLLING_BACK = (Phase.ROLLING_BACK, Phase.ROLLED_BACK)
_BEAT = 1.0


@dataclass(frozen=True)
class _Seen:
    """What the series of one ModelDeployment are made of.

    ``bounds`` are (guard, ``max`` or ``min``, value), ``drift`` (subject, SLI, value); ``drifts`` None: nobody looks.
    ``conditions`` are (type, reason, whether it is True); one that is Unknown is left out.
    """

    phase: Phase
    weights: tuple[tuple[str, float], ...]
    guards: tuple[GuardStatus, ...]
    bounds: tuple[tuple[str, str, float], ...] = ()
    drift: tuple[tuple[str, str, float], ...] = ()
    drifts: bool | None = None
    conditions: tuple[tuple[str, str, bool], ...] = ()


class Telemetry:
    """Counts and shows what the operator does.

    Parameters
    ----------
    stuck_after
        Seconds without a heartbeat of the event loop after which ``/healthz`` fails.
    monotonic
        Seconds, for durations and the heartbeat.

    """

    def __init__(self, stuck_after: float = 30.0, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._stuck_after = stuck_after
        self._monotonic = monotonic
        self._beaten_at = monotonic()
        self._ready = False
        self._objects = _Objects()
        self._pages: list[Pages] = []
        self.registry = CollectorRegistry()
        self.registry.register(self._objects)
        ProcessCollector(registry=self.registry)
        self._build = Gauge(
            "modelrollout_build_info", "1 for the version that runs.", ["version"], registry=self.registry
        )
        self._build.labels(version=modelrollout.__version__).set(1)
        self._depth = self._gauge("queue_depth", "ModelDeployments that wait for their turn.")
        self._wait = self._histogram("queue_wait_seconds", "Time a ModelDeployment waited for its turn.")
        self._duration = self._histogram("reconcile_seconds", "Time of one turn.")
        self._last = self._gauge(
            "last_reconcile_timestamp_seconds", "When the last turn ended (Unix time); 0 before the first."
        )
        self._leader = self._gauge("leader", "1 while this process holds the lease.")
        self._failures = self._counter("reconcile_errors", "Turns that failed, by kind of error.", "kind")
        self._providers = self._counter(
            "provider_errors", "Questions to a Prometheus that got no usable answer.", "prometheus"
        )
        self._requests = self._counter(
            "api_requests",
            "Requests to the API server, watches not counted; code is the HTTP status, timeout or error.",
            "verb",
            "kind",
            "code",
        )
        self._rollbacks = self._counter("rollbacks", "Rollbacks begun, by reason.", "reason")

    def observe(
        self,
        namespace: str,
        name: str,
        status: ModelDeploymentStatus,
        evaluation: Evaluation | None = None,
        guards: Sequence[Guard] = (),
    ) -> None:
        """Remember the latest of a ModelDeployment; results are those of ``evaluation``, else of the status.

        ``guards`` are those that it has now: they tell the bounds.
        """
        weights: dict[str, float] = {}
        for entry in status.traffic:
            weights[entry.revision] = weights.get(entry.revision, 0.0) + entry.weight / 100.0
        results: tuple[GuardStatus, ...] = ()
        if evaluation is not None:
            results = evaluation.statuses
        elif status.rollout is not None and status.rollout.outcome is None:
            results = status.rollout.guards
        told = {each.name for each in results}
        bounds = tuple(
            (guard.name, kind, bound)
            for guard in guards
            for kind, bound in (("max", guard.max), ("min", guard.min))
            if bound is not None and guard.name in told
        )
        drift = tuple((each.subject, each.sli, each.value) for each in status.drift if each.value is not None)
        drifts = next((each.status for each in status.conditions if each.type == ConditionType.DRIFT_DETECTED), None)
        seen = _Seen(
            status.phase,
            tuple(weights.items()),
            results,
            bounds,
            drift,
            None if drifts is None else drifts is ConditionStatus.TRUE,
            tuple(
                (each.type, each.reason, each.status is ConditionStatus.TRUE)
                for each in status.conditions
                if each.status is not ConditionStatus.UNKNOWN
            ),
        )
        before = self._objects.put((namespace, name), seen)
        # Not when nothing was known before: a restarted operator would count a rollback again.
        if before is not None and before.phase not in _ROLLING_BACK and status.phase in _ROLLING_BACK:
            reason = status.rollout.reason if status.rollout is not None else ""
            self._rollbacks.labels(reason=reason or "Unknown").inc()

    def forget(self, namespace: str, name: str) -> None:
        """Drop every series of a ModelDeployment that is gone."""
        self._objects.drop((namespace, name))

    @contextmanager
    def reconciling(self) -> Iterator[None]:
        """Measure one turn. An error that leaves it is not counted here: see ``reconcile_failed``."""
        started = self._monotonic()
        try:
            yield
        finally:
            self._duration.observe(self._monotonic() - started)
            self._last.set_to_current_time()

    def reconcile_failed(self, kind: str) -> None:
        """Count a failed turn; ``kind`` is one of few words, such as Conflict."""
        self._failures.labels(kind=kind).inc()

    def provider_failed(self, prometheus: str) -> None:
        """Count a question to the Prometheus of this name that got no usable answer."""
        self._providers.labels(prometheus=prometheus).inc()

    def api_request(self, verb: str, kind: str, code: str) -> None:
        """Count one request to the API server."""
        self._requests.labels(verb=verb, kind=kind, code=code).inc()

    def queue_depth(self, depth: int) -> None:
        """Show how many keys wait for their turn."""
        self._depth.set(depth)

    def queue_wait(self, seconds: float) -> None:
        """Record how long one key waited."""
        self._wait.observe(seconds)

    def leading(self, now: bool = True) -> None:
        """Show whether this process holds the lease."""
        self._leader.set(1 if now else 0)

    def ready(self) -> None:
        """Say that the watches run: ``/readyz`` is 200 from now on, for a standby process too."""
        self._ready = True

    async def beat(self, clock: Clock) -> None:
        """Prove, until cancelled, that the event loop turns."""
        while True:
            self._beaten_at = self._monotonic()
            await clock.sleep(_BEAT)

    def serve(self, bind: str, metrics_port: int, health_port: int) -> None:
        """Serve /metrics on one port, /healthz and /readyz on the other (or all on one); raises OSError."""
        health = {"/healthz": self._healthz, "/readyz": self._readyz}
        metrics = {"/metrics": self._metrics}
        if metrics_port == health_port:
            self._pages.append(Pages(bind, metrics_port, metrics | health))
        else:
            self._pages.append(Pages(bind, metrics_port, metrics))
            self._pages.append(Pages(bind, health_port, health))

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports served, in the order given to ``serve``; a port 0 was replaced by a free one."""
        return tuple(pages.port for pages in self._pages)

    def close(self) -> None:
        """Stop serving."""
        while self._pages:
            self._pages.pop().close()

    def _metrics(self, accept: str) -> Page:
        encode, content_type = choose_encoder(accept)
        return Page(200, encode(self.registry), content_type)

    def _healthz(self, accept: str) -> Page:
        silent = self._monotonic() - self._beaten_at
        if silent > self._stuck_after:
            return Page(503, f"the event loop has not turned for {silent:.0f} s\n".encode())
        return Page(200, b"ok\n")

    def _readyz(self, accept: str) -> Page:
        if not self._ready:
            return Page(503, b"the watches do not run yet\n")
        return self._healthz(accept)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"modelrollout_{name}", text, registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"modelrollout_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(f"modelrollout_{name}", text, buckets=_SECONDS, registry=self.registry)


class _Objects(Collector):
    """Series of all ModelDeployments; written by the event loop, read by the thread that serves a scrape."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, str], _Seen] = {}

    def put(self, key: tuple[str, str], seen: _Seen) -> _Seen | None:
        """Replace; returns what was there before."""
        with self._lock:
            before = self._seen.get(key)
            self._seen[key] = seen
        return before

    def drop(self, key: tuple[str, str]) -> None:
        with self._lock:
            self._seen.pop(key, None)

    @override
    def collect(self) -> Iterator[Metric]:
        with self._lock:
            seen = list(self._seen.items())
        of = ("namespace", "name")
        phase = GaugeMetricFamily("modelrollout_phase", "1 for the phase it is in.", labels=(*of, "phase"))
        weight = GaugeMetricFamily("modelrollout_weight", "Share of the traffic, 0 to 1.", labels=(*of, "revision"))
        value = GaugeMetricFamily(
            "modelrollout_guard_value", "Last value of a guard, in the unit of its SLI.", labels=(*of, "guard")
        )
        verdict = GaugeMetricFamily(
            "modelrollout_guard_verdict", "1 for what a guard says now.", labels=(*of, "guard", "verdict")
        )
        guarded = (*of, "guard")
        threshold = GaugeMetricFamily(
            "modelrollout_guard_threshold", "Bound of a guard, in the unit of its SLI.", labels=(*guarded, "bound")
        )
        samples = GaugeMetricFamily(
            "modelrollout_guard_samples", "Requests that the last value of a guard is made of.", labels=guarded
        )
        confidence = GaugeMetricFamily(
            "modelrollout_guard_confidence", "How sure a breach is by the sequential test, 0 to 1.", labels=guarded
        )
        baseline = GaugeMetricFamily(
            "modelrollout_guard_baseline", "Value of the stable revision at the same time.", labels=guarded
        )
        drift = GaugeMetricFamily(
            "modelrollout_drift", "What drifts, with the value when it was told.", labels=(*of, "subject", "sli")
        )
        drifts = GaugeMetricFamily(
            "modelrollout_drift_detected", "1 while anything is known to drift, 0 while it is looked for.", labels=of
        )
        condition = GaugeMetricFamily(
            "modelrollout_condition", "1 where a condition is True, 0 where False.", labels=(*of, "condition", "reason")
        )
        for key, each in seen:
            for kind, reason, true in each.conditions:
                condition.add_metric((*key, kind, reason), true)
            phase.add_metric((*key, each.phase.value), 1)
            for revision, share in each.weights:
                weight.add_metric((*key, revision), share)
            for guard in each.guards:
                verdict.add_metric((*key, guard.name, guard.verdict.value), 1)
                for family, measured in (
                    (value, guard.value),
                    (samples, guard.samples),
                    (confidence, guard.confidence),
                    (baseline, guard.baseline),
                ):
                    if measured is not None:
                        family.add_metric((*key, guard.name), measured)
            for name, kind, bound in each.bounds:
                threshold.add_metric((*key, name, kind), bound)
            for subject, sli, measured in each.drift:
                drift.add_metric((*key, subject, sli), measured)
            if each.drifts is not None:
                drifts.add_metric(key, each.drifts)
        yield from (phase, condition, weight, value, verdict, threshold, samples, confidence, baseline, drift, drifts)
