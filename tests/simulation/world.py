"""What surrounds the operator: pods that start and crash, a gateway that learns late, Prometheus, Triton.

Each is a small model of what was measured on the real part (shared facts): what matters is order and delay.
"""

from __future__ import annotations

import asyncio
import math
import re
from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from modelrollout.ports import (
    Answer,
    InvalidQueryError,
    Manifest,
    ProbeTarget,
    Series,
    TransientError,
    WarmReport,
    WarmTarget,
)
from modelrollout.render.names import LABEL_REVISION
from modelrollout.render.readback import backends_of
from modelrollout.rollout.plan import ARMED
from tests.builders import START
from tests.simulation.store import Store

RATE = 100.0
"""Requests per second of all users."""
SCRAPE = 5.0


@dataclass
class Behaviour:
    """How the pods of one revision do. ``ready_after`` None: never ready."""

    ready_after: float | None = 4.0
    errors: float = 0.0
    drift: float = 0.0
    warm: bool = True


@dataclass
class Kubelet:
    """Makes the pods that Deployments ask for, and lets them become ready, crash and come back."""

    store: Store
    behaviours: dict[str, Behaviour]
    last_ready: dict[str, float] = field(default_factory=dict)
    _count: int = 0

    def changed(self, event: str, manifest: Manifest) -> None:
        if manifest["kind"] == "Deployment" and event != "DELETED":
            asyncio.get_running_loop().call_later(0.05, self._scale, manifest["metadata"]["name"])

    def ready(self, revision: str) -> int:
        return sum(_is_ready(pod) for pod in self._pods(revision))

    def ready_since(self, revision: str) -> float:
        """Seconds ago when the revision last had a ready pod; infinite for never."""
        if self.ready(revision):
            return 0.0
        return _now() - self.last_ready.get(revision, -math.inf)

    def crash(self, revision: str, comes_back_after: float | None) -> None:
        """All pods of a revision lose their container; ``None`` is for ever."""
        for pod in self._pods(revision):
            self._set(pod["metadata"]["name"], ready=False, restarts=1, trouble="CrashLoopBackOff")
            if comes_back_after is not None:
                asyncio.get_running_loop().call_later(comes_back_after, self._come_up, pod["metadata"]["name"])

    def _pods(self, revision: str) -> list[Manifest]:
        return [pod for pod in self.store.every("Pod") if pod["metadata"]["labels"].get(LABEL_REVISION) == revision]

    def _scale(self, name: str) -> None:
        deployment = self.store.get("Deployment", name)
        if deployment is None:
            return
        pods = [pod for pod in self._pods(name) if "deletionTimestamp" not in pod["metadata"]]
        wanted = deployment["spec"]["replicas"]
        for _ in range(wanted - len(pods)):
            self._make(name, deployment)
        for pod in sorted(pods, key=_is_ready)[: max(len(pods) - wanted, 0)]:
            self._note(name)
            self.store.mark_deleted("Pod", pod["metadata"]["name"])
            asyncio.get_running_loop().call_later(5.0, self.store.remove, "Pod", pod["metadata"]["name"])

    def _make(self, revision: str, deployment: Manifest) -> None:
        self._count += 1
        name = f"{revision}-{self._count}"
        self.store.write(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": name,
                    "namespace": deployment["metadata"]["namespace"],
                    "labels": deployment["spec"]["template"]["metadata"]["labels"],
                    "creationTimestamp": _stamp(),
                    "ownerReferences": [
                        {
                            "kind": "Deployment",
                            "name": revision,
                            "uid": deployment["metadata"]["uid"],
                            "controller": True,
                        }
                    ],
                },
                "spec": {"nodeName": "node"},
            }
        )
        self._set(name, ready=False)
        after = self.behaviours.setdefault(revision, Behaviour()).ready_after
        if after is not None:
            asyncio.get_running_loop().call_later(after, self._come_up, name)

    def _come_up(self, name: str) -> None:
        pod = self.store.get("Pod", name)
        if pod is not None and "deletionTimestamp" not in pod["metadata"]:
            restarts = pod["status"]["containerStatuses"][0]["restartCount"]
            self._set(name, ready=True, restarts=restarts)

    def _set(self, name: str, *, ready: bool, restarts: int = 0, trouble: str = "") -> None:
        pod = self.store.objects["Pod", name]
        self._note(pod["metadata"]["labels"][LABEL_REVISION])
        conditions = [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": pod["metadata"]["creationTimestamp"]},
            {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": _stamp()},
        ]
        state = {"waiting": {"reason": trouble}} if trouble else {"running": {"startedAt": _stamp()}}
        container = {"name": "server", "ready": ready, "restartCount": restarts, "state": state}
        status = {"phase": "Running", "podIP": "10.0.0.1", "conditions": conditions, "containerStatuses": [container]}
        self.store.write({"kind": "Pod", "metadata": {"name": name}, "status": status}, status=True)

    def _note(self, revision: str) -> None:
        if self.ready(revision):
            self.last_ready[revision] = _now()


@dataclass
class DataPlane:
    """What the proxies of one route carry out now, and what users lost by it."""

    backends: tuple[tuple[str, int], ...] = ()
    pinned: frozenset[str] = frozenset()
    generation: int = 0


@dataclass
class GatewayModel:
    """Accepts routes after a while, programs them a bit later, and can refuse."""

    store: Store
    kubelet: Kubelet
    metrics: PrometheusModel
    accept_after: float = 0.03
    program_after: float = 0.05
    rejects: bool = False
    lost: list[str] = field(default_factory=list)
    planes: dict[str, DataPlane] = field(default_factory=dict)

    def changed(self, event: str, manifest: Manifest) -> None:
        kind = manifest["kind"]
        if kind not in ("HTTPRoute", "GRPCRoute"):
            return
        if event == "DELETED":
            self.planes.pop(kind, None)
            self.metrics.weights(kind, ())
            return
        generation = manifest["metadata"]["generation"]
        plane = self.planes.setdefault(kind, DataPlane())
        if generation > plane.generation:
            plane.generation = generation
            uid = manifest["metadata"]["uid"]
            loop = asyncio.get_running_loop()
            loop.call_later(self.accept_after, self._answer, kind, manifest["metadata"]["name"], uid, generation)
            if not self.rejects:
                loop.call_later(self.program_after, self._program, kind)

    def mend(self) -> None:
        """The reason to refuse is gone: look at every route again."""
        self.rejects = False
        for plane in self.planes.values():
            plane.generation = 0
        for kind in ("HTTPRoute", "GRPCRoute"):
            for route in self.store.every(kind):
                self.changed("MODIFIED", route)

    def _answer(self, kind: str, name: str, uid: str, generation: int) -> None:
        route = self.store.get(kind, name)
        if route is None or route["metadata"]["uid"] != uid:
            return
        status = "False" if self.rejects else "True"
        conditions = [
            {"type": each, "status": status, "observedGeneration": generation, "reason": "R", "message": "m"}
            for each in ("Accepted", "ResolvedRefs")
        ]
        parent = {"parentRef": route["spec"]["parentRefs"][0], "controllerName": "g", "conditions": conditions}
        self.store.write({"kind": kind, "metadata": {"name": name}, "status": {"parents": [parent]}}, status=True)

    def _program(self, kind: str) -> None:
        # Whatever the route says by now: changes that follow each other fast are carried out as one.
        route = next(iter(self.store.every(kind)), None)
        pair = backends_of(route) if route else None
        if pair is None or kind not in self.planes:
            return
        plane = self.planes[kind]
        new = tuple((backend.revision, backend.weight) for backend in pair)
        before, after = _sums(plane.backends), _sums(new)
        served = any(self.kubelet.ready(revision) for revision, weight in plane.backends if weight > ARMED)
        if not served:
            before = after  # nothing could be lost
        for revision in before.keys() | after.keys():
            old_weight, new_weight = before.get(revision, 0), after.get(revision, 0)
            if old_weight == 0 and new_weight > ARMED:
                self.lost.append(f"{_now():.3f} {kind}: {revision} from nothing to {new_weight}")
            if old_weight > ARMED and new_weight == 0:
                self.lost.append(f"{_now():.3f} {kind}: {revision} from {old_weight} to nothing")
        for slot, (revision, weight) in enumerate(plane.backends):
            other_revision, other_weight = new[slot]
            if served and weight > ARMED and other_weight > ARMED and revision != other_revision:
                self.lost.append(f"{_now():.3f} {kind}: slot {slot} changed from {revision} to {other_revision}")
        plane.backends = new
        plane.pinned = frozenset(revision for revision, weight in new if weight)
        self.metrics.weights(kind, new)

    async def revision_answering(self, target: ProbeTarget, revision: str) -> str | None:
        await asyncio.sleep(0.003)
        plane = self.planes.get("HTTPRoute" if target.protocol == "http" else "GRPCRoute")
        if plane is None or revision not in plane.pinned or not self.kubelet.ready(revision):
            return None
        return revision


def _sums(backends: tuple[tuple[str, int], ...]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for revision, weight in backends:
        sums[revision] = sums.get(revision, 0) + weight
    return sums


@dataclass
class _Counter:
    """Requests and errors of one Envoy cluster, exact at every moment: linear between changes."""

    times: list[float] = field(default_factory=list)
    totals: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    rates: list[tuple[float, float]] = field(default_factory=list)

    def change(self, now: float, rate: float, errors: float) -> None:
        total, failed = self.at(now)
        self.times.append(now)
        self.totals.append(total)
        self.errors.append(failed)
        self.rates.append((rate, errors))

    def at(self, when: float) -> tuple[float, float]:
        index = bisect_right(self.times, when) - 1
        if index < 0:
            return 0.0, 0.0
        passed = when - self.times[index]
        rate, errors = self.rates[index]
        return math.floor(self.totals[index] + passed * rate), math.floor(self.errors[index] + passed * errors)


@dataclass
class PrometheusModel:
    """``ports.Metrics`` that answers from the counters of the data planes, as Envoy's are scraped."""

    behaviours: dict[str, Behaviour]
    mode: str = "ok"
    asked: int = 0
    answered_at: float = -math.inf
    _counters: dict[str, _Counter] = field(default_factory=dict)
    _weights: dict[str, tuple[tuple[str, int], ...]] = field(default_factory=dict)

    def weights(self, kind: str, backends: tuple[tuple[str, int], ...]) -> None:
        self._weights[kind] = backends
        self.recount()

    def recount(self) -> None:
        """A weight or a behaviour changed: other rates from now on."""
        for kind, backends in self._weights.items():
            for slot, (revision, weight) in enumerate(backends):
                name = f"{kind.lower()}/{slot}"
                if weight == 0 and name not in self._counters:
                    continue
                rate = RATE * weight / 1_000_000
                share = self.behaviours.setdefault(revision, Behaviour()).errors
                self._counters.setdefault(name, _Counter()).change(_now(), rate, rate * share)

    async def query(self, query: str, at: datetime) -> Answer:
        await self._weather()
        found = re.search(r'envoy_cluster_name=~"(http|grpc)route/[^"]*/backend/(\d)\|"', query)
        span = re.search(r"\[(\d+)ms\]$", query)
        if found is None or span is None:
            raise InvalidQueryError(f"this Prometheus does not know {query!r}")
        counter = self._counters.get(f"{found[1]}route/{found[2]}")
        if counter is None or self.mode == "empty":
            return Answer("matrix", ())
        return Answer("matrix", self._series(counter, at, int(span[1]) / 1000))

    async def query_range(self, query: str, start: datetime, end: datetime, step: timedelta) -> Answer:
        await self._weather()
        if self.mode == "empty":
            return Answer("matrix", ())
        found = re.search(r'revision="([^"]+)"', query)
        behaviour = self.behaviours.get(found[1], Behaviour()) if found else Behaviour()
        value = math.nan if self.mode == "nan" else behaviour.drift
        return Answer("matrix", (Series({}, ((end.timestamp(), value),)),))

    async def _weather(self) -> None:
        self.asked += 1
        if self.mode == "hung":
            await asyncio.sleep(3600)
        await asyncio.sleep(0.01)
        if self.mode == "refused":
            raise TransientError("connection refused")
        if self.mode == "ok":
            self.answered_at = _now()

    def _series(self, counter: _Counter, at: datetime, span: float) -> tuple[Series, ...]:
        end = (at - START).total_seconds()
        first = math.ceil(max(end - span, counter.times[0]) / SCRAPE)
        moments = [number * SCRAPE for number in range(first, int(end // SCRAPE) + 1)]
        values = [(START.timestamp() + moment, *counter.at(moment)) for moment in moments]
        if self.mode == "nan":
            values = [(when, math.nan, math.nan) for when, _, _ in values]

        def series(name: str, samples: list[tuple[float, float]], **labels: str) -> Series:
            return Series({"__name__": name, "job": "envoy", "instance": "one", **labels}, tuple(samples))

        totals = [(when, total) for when, total, _ in values]
        found = [series("envoy_cluster_upstream_rq_total", totals)]
        born = [(when, total) for when, total in totals if total]
        if born:
            found.append(series("envoy_cluster_upstream_rq_completed", born))
        failures = [(when, failed) for when, _, failed in values if failed]
        if failures:
            found.append(series("envoy_cluster_upstream_rq_xx", failures, envoy_response_code_class="5"))
        return tuple(found)


@dataclass
class TritonModel:
    """``ports.ModelServer``: warms after a while, or says why not."""

    kubelet: Kubelet
    behaviours: dict[str, Behaviour]
    passed_at: dict[str, float] = field(default_factory=dict)

    async def warm(self, target: WarmTarget) -> WarmReport:
        await asyncio.sleep(0.4)
        pod = self.kubelet.store.get("Pod", target.pod)
        revision = pod["metadata"]["labels"][LABEL_REVISION] if pod else ""
        passed = pod is not None and _is_ready(pod) and self.behaviours[revision].warm
        if passed:
            self.passed_at[revision] = _now()
        return WarmReport(target.pod, passed, "settled at 3 ms" if passed else "the model answers with an error")


def _is_ready(pod: Manifest) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def _now() -> float:
    return asyncio.get_running_loop().time()


def _stamp() -> str:
    return (START + timedelta(seconds=_now())).isoformat().replace("+00:00", "Z")
