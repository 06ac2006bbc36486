"""What a story looked like over time: weights, pods, phase, guards, events and requests, as JSON to draw pictures of.

The docs' pictures of the strategies are drawn from these files (``.local/timelines/<name>.json``).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from deploy.demo.kube import Kube, Object
from deploy.demo.place import LOCAL
from deploy.demo.recording import Recording

FOLDER = LOCAL / "timelines"
_REVISION = "modelrollout.io/revision"
_OURS = "modelrollout.io/deployment"


class Timeline:
    """Follows one ModelDeployment and its children. Each list holds an entry a change, at seconds since ``began``."""

    def __init__(self, namespace: str, name: str) -> None:
        self.namespace = namespace
        self.name = name
        self.began = time.time()
        self.versions: dict[str, str] = {}
        self.weights: list[Object] = []
        self.pods: list[Object] = []
        self.phases: list[Object] = []
        self.guards: list[Object] = []
        self.arms: list[Object] = []
        self.events: list[Object] = []
        self.marks: list[Object] = []
        self._pods: dict[str, dict[str, int]] = {}
        self._seen: set[str] = set()

    @contextlib.asynccontextmanager
    async def following(self, kube: Kube) -> AsyncIterator[None]:
        """Follow the cluster inside the block."""
        see = {
            "ModelDeployment": self.see_deployment,
            "HTTPRoute": self.see_route,
            "Service": self.see_service,
            "Deployment": self.see_pods,
            "Event": self.see_event,
        }

        async def follow(kind: str) -> None:
            async for change, item in kube.watch(kind, self.namespace):
                if change != "DELETED":
                    see[kind](item)

        tasks = [asyncio.create_task(follow(kind)) for kind in see]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def mark(self, text: str) -> None:
        """What a person did now."""
        self._append(self.marks, {"text": text})

    def see_deployment(self, item: Object) -> None:
        """The status: phase with its line, guards, arms of an A/B test."""
        status = item.get("status") or {}
        if item["metadata"]["name"] != self.name or not status:
            return
        rollout = status.get("rollout") or {}
        if rollout.get("revision"):
            self.versions[rollout["revision"]] = rollout.get("version", "")
        phase = {"phase": status.get("phase", ""), "step": rollout.get("stepOf", "")}
        self._append(self.phases, {**phase, "message": status.get("message", "")})
        for guard in rollout.get("guards", []):
            wanted = {name: guard.get(name) for name in ("name", "verdict", "value", "threshold", "samples")}
            self._append(self.guards, wanted, key="name")
        if rollout.get("arms"):
            self._append(self.arms, {"arms": rollout["arms"]})

    def see_route(self, item: Object) -> None:
        """The weighted rule, the copies, the test; the preview has a route of its own."""
        rules = item.get("spec", {}).get("rules", [])
        if not rules or item["metadata"]["name"] not in (self.name, f"{self.name}--preview"):
            return
        percent: dict[str, float] = {}
        for backend in rules[0]["backendRefs"]:
            percent[backend["name"]] = percent.get(backend["name"], 0.0) + backend.get("weight", 1) / 10_000
        if item["metadata"]["name"] != self.name:
            last = self.weights[-1] if self.weights else {}
            kept = {name: last.get(name) for name in ("percent", "mirror", "split")}
            self._append(self.weights, {**kept, "preview": next(iter(percent))})
            return
        mirrors = [each["requestMirror"] for each in rules[0].get("filters", []) if "requestMirror" in each]
        mirror = {
            each["backendRef"]["name"]: 100 * each["fraction"]["numerator"] / each["fraction"]["denominator"]
            for each in mirrors
        }
        split = (item["metadata"].get("annotations") or {}).get("modelrollout.io/split")
        preview = self.weights[-1].get("preview") if self.weights else None
        self._append(self.weights, {"percent": percent, "mirror": mirror, "split": split, "preview": preview})

    def see_service(self, item: Object) -> None:
        """Without a gateway the Service's selector is the weight."""
        revision = (item["spec"].get("selector") or {}).get(_REVISION)
        if item["metadata"]["name"] == self.name and revision:
            entry = {"percent": {revision: 100.0}, "mirror": {}, "split": None, "preview": None}
            self._append(self.weights, entry)

    def see_pods(self, item: Object) -> None:
        """How many pods each revision shall have and has ready."""
        labels = item["metadata"].get("labels") or {}
        if labels.get(_OURS) == self.name and _REVISION in labels:
            ready = (item.get("status") or {}).get("readyReplicas", 0)
            self._pods[labels[_REVISION]] = {"wanted": item["spec"].get("replicas", 0), "ready": ready}
            self._append(self.pods, {"pods": {name: dict(found) for name, found in self._pods.items()}})

    def see_event(self, item: Object) -> None:
        """What the operator told."""
        regarding = item.get("regarding") or {}
        key = f"{item['metadata']['uid']}/{item['metadata'].get('resourceVersion')}"
        about = (regarding.get("kind"), regarding.get("name"))
        if about == ("ModelDeployment", self.name) and key not in self._seen:
            self._seen.add(key)
            warning = item.get("type") == "Warning"
            self._append(self.events, {"reason": item.get("reason"), "note": item.get("note"), "warning": warning})

    def write(self, name: str, recording: Recording, folder: Path = FOLDER) -> Path:
        """Keep it as ``<folder>/<name>.json``, with what clients saw in each second."""
        ended = time.time()
        # None are the answers that no revision gave: the gateway's own errors, and none at all.
        revisions: list[str | None] = [*recording.revisions(), None]
        requests = [
            {"at": round(one.start - self.began, 3), "revision": each, "requests": one.requests}
            | {"errors": one.errors, "p99": one.p99}
            for each in revisions
            for one in recording.bins(each, self.began, ended)
        ]
        content = {
            "name": name,
            "ended": round(ended - self.began, 3),
            "versions": self.versions,
            "weights": self.weights,
            "pods": self.pods,
            "phases": self.phases,
            "guards": self.guards,
            "arms": self.arms,
            "events": self.events,
            "marks": self.marks,
            "requests": requests,
        }
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.json"
        path.write_text(json.dumps(content, indent=1) + "\n")
        return path

    def _append(self, to: list[Object], entry: dict[str, Any], key: str | None = None) -> None:
        """Add ``entry`` unless it is the same as the last one (with the same ``key``)."""
        last = next((each for each in reversed(to) if key is None or each[key] == entry[key]), None)
        if last is None or {name: value for name, value in last.items() if name != "at"} != entry:
            to.append({"at": round(time.time() - self.began, 3), **entry})
