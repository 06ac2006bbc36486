"""Pods: made for Deployments, ready after a while, crashing and coming back, terminated slowly."""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import timedelta

from modelrollout.ports import Manifest
from modelrollout.render.names import LABEL_REVISION
from tests.builders import START
from tests.simulation.store import Store

TERMINATION = 5.0


@dataclass
class Behaviour:
    """How the pods of one revision do. ``ready_after`` None: never ready."""

    ready_after: float | None = 4.0
    errors: float = 0.0
    drift: float = 0.0
    warm: bool = True


class Behaviours(defaultdict[str, Behaviour]):
    """By revision; one that nobody spoke of does well."""

    def __init__(self) -> None:
        super().__init__(Behaviour)


@dataclass
class Kubelet:
    """Makes the pods that Deployments ask for, and lets them become ready, crash and come back."""

    store: Store
    behaviours: Behaviours
    _counts: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    _made: int = 0

    def changed(self, event: str, manifest: Manifest) -> None:
        if manifest["kind"] == "Deployment" and event != "DELETED":
            asyncio.get_running_loop().call_later(0.05, self._scale, manifest["metadata"]["name"])
        elif manifest["kind"] == "Pod":
            revision = manifest["metadata"]["labels"][LABEL_REVISION]
            self._count(revision)
            if event == "DELETED":
                asyncio.get_running_loop().call_later(0.05, self._scale, revision)

    def ready(self, revision: str) -> int:
        return sum(is_ready(pod) for pod in self._pods(revision))

    def ready_lately(self, revision: str, seconds: float) -> int:
        """The most ready pods that the revision had in the last ``seconds``: what a late watch may still say."""
        most = 0
        for since, count in reversed(self._counts.get(revision, ())):
            most = max(most, count)
            if since <= now() - seconds:
                break
        return most

    def crash(self, revision: str, comes_back_after: float | None, pods: int | None = None) -> None:
        """Pods of a revision (all of them by default) lose their container; ``None`` is for ever."""
        for pod in self._pods(revision)[:pods]:
            self._set(pod["metadata"]["name"], ready=False, restarts=1, trouble="CrashLoopBackOff")
            if comes_back_after is not None:
                asyncio.get_running_loop().call_later(comes_back_after, self._come_up, pod["metadata"]["name"])

    def mend(self) -> None:
        """Whatever kept pods down is gone."""
        for behaviour in self.behaviours.values():
            behaviour.ready_after = 4.0
        for pod in self.store.every("Pod"):
            if not is_ready(pod):
                asyncio.get_running_loop().call_later(4.0, self._come_up, pod["metadata"]["name"])

    def _pods(self, revision: str) -> list[Manifest]:
        return [pod for pod in self.store.every("Pod") if pod["metadata"]["labels"].get(LABEL_REVISION) == revision]

    def _count(self, revision: str) -> None:
        self._counts.setdefault(revision, []).append((now(), self.ready(revision)))

    def _scale(self, name: str) -> None:
        deployment = self.store.get("Deployment", name)
        if deployment is None:
            return
        uid = deployment["metadata"]["uid"]
        pods = [
            pod
            for pod in self._pods(name)
            if "deletionTimestamp" not in pod["metadata"] and pod["metadata"]["ownerReferences"][0]["uid"] == uid
        ]
        wanted = deployment["spec"]["replicas"]
        for _ in range(wanted - len(pods)):
            self._make(name, deployment)
        for pod in sorted(pods, key=is_ready)[: max(len(pods) - wanted, 0)]:
            self.store.mark_deleted("Pod", pod["metadata"]["name"])
            asyncio.get_running_loop().call_later(TERMINATION, self.store.remove, "Pod", pod["metadata"]["name"])

    def _make(self, revision: str, deployment: Manifest) -> None:
        self._made += 1
        name = f"{revision}-{self._made}"
        owner = {"kind": "Deployment", "name": revision, "uid": deployment["metadata"]["uid"], "controller": True}
        metadata = {
            "name": name,
            "namespace": deployment["metadata"]["namespace"],
            "labels": deployment["spec"]["template"]["metadata"]["labels"],
            "creationTimestamp": stamp(),
            "ownerReferences": [owner],
        }
        self.store.write({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"nodeName": "node"}})
        self._set(name, ready=False)
        after = self.behaviours[revision].ready_after
        if after is not None:
            asyncio.get_running_loop().call_later(after, self._come_up, name)

    def _come_up(self, name: str) -> None:
        pod = self.store.get("Pod", name)
        if pod is None or "deletionTimestamp" in pod["metadata"]:
            return
        if self.behaviours[pod["metadata"]["labels"][LABEL_REVISION]].ready_after is not None:
            self._set(name, ready=True, restarts=pod["status"]["containerStatuses"][0]["restartCount"])

    def _set(self, name: str, *, ready: bool, restarts: int = 0, trouble: str = "") -> None:
        pod = self.store.objects["Pod", name]
        conditions = [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": pod["metadata"]["creationTimestamp"]},
            {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": stamp()},
        ]
        state = {"waiting": {"reason": trouble}} if trouble else {"running": {"startedAt": stamp()}}
        container = {"name": "server", "ready": ready, "restartCount": restarts, "state": state}
        status = {"phase": "Running", "podIP": "10.0.0.1", "conditions": conditions, "containerStatuses": [container]}
        self.store.write({"kind": "Pod", "metadata": {"name": name}, "status": status}, status=True)


def is_ready(pod: Manifest) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def now() -> float:
    return asyncio.get_running_loop().time()


def stamp() -> str:
    return (START + timedelta(seconds=now())).isoformat().replace("+00:00", "Z")


NEVER = -math.inf
