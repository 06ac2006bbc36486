"""An API server in memory: versions, generations, preconditions, owners, garbage collection, late watch events.

Objects are replaced, never changed: whoever holds one holds it as it was, and nothing needs a copy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from modelrollout.ports import (
    ConflictError,
    EventRecord,
    ForeignObjectError,
    Manifest,
    ObjectReference,
    TransientError,
)

Id = tuple[str, str]
"""(kind, name): a run has one namespace."""

Watcher = Callable[[str, Manifest], None]
"""Told ("ADDED" | "MODIFIED" | "DELETED", object)."""

GARBAGE_DELAY = 0.3


@dataclass(frozen=True)
class Write:
    """One request that the operator made: what it asked for, what was there, what is there now."""

    number: int
    at: float
    verb: str
    kind: str
    name: str
    before: Manifest | None = None
    after: Manifest | None = None
    note: str = ""

    def __str__(self) -> str:
        return f"{self.number:3} {self.at:9.3f} {self.verb} {self.kind}/{self.name} {self.note}"


@dataclass
class Store:
    """All objects. ``write`` and ``remove`` are for the models of the world; the operator comes by ``ApiClient``."""

    random: Random
    watch_delay: tuple[float, float] = (0.002, 0.02)
    objects: dict[Id, Manifest] = field(default_factory=dict)
    watchers: list[Watcher] = field(default_factory=list)
    internal: list[Watcher] = field(default_factory=list)
    version: int = 100
    _uids: int = 0
    _due: dict[str, float] = field(default_factory=dict)

    def get(self, kind: str, name: str) -> Manifest | None:
        return self.objects.get((kind, name))

    def every(self, kind: str) -> list[Manifest]:
        return [each for (found, _), each in self.objects.items() if found == kind]

    def write(self, body: Manifest, *, status: bool = False) -> Manifest:
        """Merge ``body`` into what is there (or make it), with the bookkeeping of an API server."""
        key = (body["kind"], body["metadata"]["name"])
        old = self.objects.get(key)
        new = dict(old) if old else _fresh(body, self._next_uid())
        metadata = new["metadata"] = dict(new["metadata"])
        if status:
            new["status"] = body.get("status", {})
        else:
            for part in ("labels", "annotations"):
                if part in body["metadata"]:
                    metadata[part] = {**metadata.get(part, {}), **body["metadata"][part]}
            for part in ("ownerReferences", "creationTimestamp"):
                if part in body["metadata"]:
                    metadata[part] = body["metadata"][part]
            for part in ("spec", "status", "data"):
                if part in body:
                    new[part] = body[part]
        if old is not None and new == old:
            return old
        if old is None:
            metadata["generation"] = 1
            self._orphaned(new)
        elif new.get("spec") != old.get("spec"):
            metadata["generation"] = old["metadata"]["generation"] + 1
        self._put(key, new, "MODIFIED" if old else "ADDED")
        return new

    def annotate(self, kind: str, name: str, annotations: dict[str, str]) -> None:
        found = self.objects[kind, name]
        self.write({"kind": kind, "metadata": {"name": name, "annotations": annotations}, "spec": found["spec"]})

    def mark_deleted(self, kind: str, name: str) -> None:
        """Graceful deletion of a pod: it is still there, but takes no more traffic."""
        found = self.objects[kind, name]
        metadata = {**found["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}
        self._put((kind, name), {**found, "metadata": metadata}, "MODIFIED")

    def remove(self, kind: str, name: str) -> None:
        found = self.objects.get((kind, name))
        if found is None:
            return
        self._put((kind, name), {**found, "metadata": dict(found["metadata"])}, "DELETED")
        asyncio.get_running_loop().call_later(GARBAGE_DELAY, self._collect, found["metadata"]["uid"])

    def _orphaned(self, manifest: Manifest) -> None:
        """An object made for an owner that is gone is collected like those that were there."""
        known = {each["metadata"]["uid"] for each in self.objects.values()}
        for owner in manifest["metadata"].get("ownerReferences") or ():
            if owner["uid"] not in known:
                asyncio.get_running_loop().call_later(GARBAGE_DELAY, self._collect, owner["uid"])

    def _collect(self, uid: str) -> None:
        for kind, name in [
            key
            for key, each in self.objects.items()
            if any(owner["uid"] == uid for owner in each["metadata"].get("ownerReferences") or ())
        ]:
            self.remove(kind, name)

    def _next_uid(self) -> str:
        self._uids += 1
        return f"uid-{self._uids}"

    def _put(self, key: Id, manifest: Manifest, event: str) -> None:
        """Keep (or drop) an object that nobody else holds yet, stamp it, and tell everybody."""
        self.version += 1
        manifest["metadata"]["resourceVersion"] = str(self.version)
        if event == "DELETED":
            del self.objects[key]
        else:
            self.objects[key] = manifest
        self._tell(event, manifest)

    def _tell(self, event: str, manifest: Manifest) -> None:
        for inside in list(self.internal):
            inside(event, manifest)
        # Each kind has a stream of its own, in order; between streams there is none.
        loop = asyncio.get_running_loop()
        kind = manifest["kind"]
        due = max(self._due.get(kind, 0.0), loop.time() + self.random.uniform(*self.watch_delay))
        self._due[kind] = due
        for watcher in list(self.watchers):
            loop.call_at(due, self._deliver, watcher, event, manifest)

    def _deliver(self, watcher: Watcher, event: str, manifest: Manifest) -> None:
        if watcher in self.watchers:
            watcher(event, manifest)


def _fresh(body: Manifest, uid: str) -> Manifest:
    new = {key: value for key, value in body.items() if key in ("apiVersion", "kind", "spec")}
    metadata = body["metadata"]
    new["metadata"] = {
        "name": metadata["name"],
        "namespace": metadata["namespace"],
        "uid": uid,
        **{key: metadata[key] for key in ("labels", "annotations", "ownerReferences") if key in metadata},
    }
    return new


@dataclass
class Faults:
    """What goes wrong with the next requests: asked before each one, for an error and whether it comes after."""

    plan: Callable[[int], tuple[Exception | None, bool, float]] = lambda _: (None, False, 0.0)
    crash_before: int = 0
    crash_after: int = 0
    crash: Callable[[], None] = lambda: None


class ApiClient:
    """``ports.Cluster`` of one operator process."""

    def __init__(
        self,
        store: Store,
        faults: Faults,
        log: list[Write],
        check: Callable[[Write], None],
        may_write: Callable[[], bool] = lambda: True,
    ) -> None:
        self._store = store
        self._faults = faults
        self._log = log
        self._check = check
        self._may_write = may_write
        self.alive = True

    async def apply(self, body: Manifest) -> Manifest:
        return await self._request("apply", body["kind"], body["metadata"]["name"], lambda: self._apply(body))

    async def create(self, body: Manifest) -> Manifest:
        return await self._request("create", body["kind"], body["metadata"]["name"], lambda: self._create(body))

    async def apply_status(self, body: Manifest) -> Manifest:
        return await self._request("status", body["kind"], body["metadata"]["name"], lambda: self._status(body))

    async def delete(self, reference: ObjectReference, uid: str) -> None:
        def act() -> Manifest:
            found = self._store.get(reference.kind, reference.name)
            if found is not None and found["metadata"]["uid"] != uid:
                raise ConflictError("another object has the name")
            self._store.remove(reference.kind, reference.name)
            return {}

        await self._request("delete", reference.kind, reference.name, act)

    async def emit(self, event: EventRecord) -> None:
        await self._request("event", "Event", event.reason, dict, event.message)

    async def read(self, reference: ObjectReference) -> Manifest | None:
        await asyncio.sleep(0.004)
        await self._hang_if_dead()
        return self._store.get(reference.kind, reference.name)

    async def _request(self, verb: str, kind: str, name: str, act: Callable[[], Manifest], note: str = "") -> Manifest:
        await asyncio.sleep(0.004)
        await self._hang_if_dead()
        if not self._may_write():
            raise TransientError("not sent: this process does not lead")  # as the adapter does
        number = len(self._log) + 1
        if self._faults.crash_before == number:
            self._faults.crash_before = 0
            self._faults.crash()
            await self._hang_if_dead()
        error, applied, delay = self._faults.plan(number)
        if error is not None and not applied:
            await asyncio.sleep(delay)
            await self._hang_if_dead()
            raise error
        before = self._store.get(kind, name)
        after = act()
        write = Write(number, asyncio.get_running_loop().time(), verb, kind, name, before, after, note)
        self._log.append(write)
        self._check(write)
        if self._faults.crash_after == number:
            self._faults.crash()
        await asyncio.sleep(0.001 + delay)
        await self._hang_if_dead()
        if error is not None:
            raise error
        return after

    async def _hang_if_dead(self) -> None:
        if not self.alive:
            await asyncio.get_running_loop().create_future()

    def _apply(self, body: Manifest) -> Manifest:
        found = self._store.get(body["kind"], body["metadata"]["name"])
        uid = body["metadata"].get("uid")
        if uid and (found is None or found["metadata"]["uid"] != uid):
            raise ConflictError("precondition failed: uid")
        if found is None:
            return self._store.write(body)
        if not uid:
            raise AssertionError("an apply without uid could change what is not ours")
        return self._store.write(body)

    def _create(self, body: Manifest) -> Manifest:
        found = self._store.get(body["kind"], body["metadata"]["name"])
        if found is None:
            return self._store.write(body)
        wanted, owner = _controller(body), _controller(found)
        if owner is None or wanted is None:
            raise ForeignObjectError(f"{body['kind']} {body['metadata']['name']} exists and has no owner")
        if owner["uid"] == wanted["uid"]:
            return self._store.write(body)
        if all(owner[key] == wanted[key] for key in ("apiVersion", "kind", "name")):
            raise ConflictError("that of a deleted owner is not collected yet")
        raise ForeignObjectError(f"{body['kind']} {body['metadata']['name']} belongs to {owner['name']}")

    def _status(self, body: Manifest) -> Manifest:
        found = self._store.get(body["kind"], body["metadata"]["name"])
        if found is None or found["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
            raise ConflictError("the object has been modified")
        return self._store.write(body, status=True)


def _controller(manifest: Manifest) -> dict[str, Any] | None:
    owners = manifest["metadata"].get("ownerReferences") or ()
    return next((dict(owner) for owner in owners if owner.get("controller")), None)
