"""What the watches have seen, by kind and owner: the only place the hot path reads from.

Objects are kept as compact JSON text: a dict of the same object takes five times the memory.
"""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from math import inf
from typing import Any, Protocol, TypeVar

from modelrollout.ports import Manifest

Facts = TypeVar("Facts")

TOMBSTONES = 4096
DEPARTED = 64


@dataclass(frozen=True, order=True)
class Key:
    """Which ModelDeployment."""

    namespace: str
    name: str


def namespace_key(namespace: str) -> Key:
    """Under which objects are kept that concern every ModelDeployment of a namespace: none has an empty name."""
    return Key(namespace, "")


class Follower(Protocol):
    """Told of every change, in order."""

    def kept(self, key: Key, manifest: Manifest) -> None:
        """An object is new or changed; ``manifest`` must not be changed or kept."""

    def lost(self, key: Key, kind: str, name: str) -> None:
        """An object is gone."""


@dataclass
class _Entry:
    uid: str
    version: int
    text: bytes
    facts: tuple[Callable[[Manifest], Any], Any] | None = None


class Cache:
    """Objects by (owner key, kind, name).

    ``trim(kind, manifest)`` drops what the controller never reads, before anything is kept.
    """

    def __init__(self, trim: Callable[[str, Manifest], Manifest] = lambda _, manifest: manifest) -> None:
        self._trim = trim
        self._objects: dict[Key, dict[tuple[str, str], _Entry]] = defaultdict(dict)
        self._buried: dict[str, float] = {}
        self._burials: deque[str] = deque()
        self._departed: dict[tuple[Key, str, str], _Entry] = {}
        self._followers: list[Follower] = []

    def follow(self, follower: Follower) -> None:
        """Tell ``follower`` of everything that is known, and of every change from now on."""
        self._followers.append(follower)
        for key, entries in self._objects.items():
            for entry in entries.values():
                follower.kept(key, _decoded(entry))

    def put(self, key: Key, manifest: Manifest) -> bool:
        """Keep ``manifest`` unless something newer of the same object is known; whether it was kept.

        Both the watches and the answers to our own writes come here, in any order: an old watch event must not
        hide a write that was just made, and a late answer must not bring back what was deleted.
        """
        metadata = manifest["metadata"]
        kind, name, uid = manifest["kind"], metadata["name"], metadata.get("uid", "")
        version = _version(metadata.get("resourceVersion"))
        known = self._objects.get(key, {}).get((kind, name))
        if version <= self._buried.get(uid, -1) or (known is not None and known.version > version):
            return False
        trimmed = self._trim(kind, manifest)
        text = json.dumps(trimmed, separators=(",", ":")).encode()
        self._objects[key][kind, name] = _Entry(uid, version, text)
        for follower in self._followers:
            follower.kept(key, trimmed)
        return True

    def remove(self, key: Key, kind: str, name: str, uid: str, version: str | None = None) -> None:
        """Forget an object that was deleted, for good: its uid never comes back.

        With the ``version`` at which a watch lost it, only what is older never comes back: an object that lost the
        labels by which it is watched is still there, and is seen again when it has them again.
        """
        if uid:
            if uid not in self._buried:
                self._burials.append(uid)
                if len(self._burials) > TOMBSTONES:
                    self._buried.pop(self._burials.popleft(), None)
            self._buried[uid] = max(self._buried.get(uid, -1), inf if version is None else _version(version))
        entries = self._objects.get(key)
        if entries is None:
            return
        known = entries.get((kind, name))
        if known is not None and known.uid == uid:
            if kind == "ModelRevision":
                self._departed[key, kind, name] = known
                while len(self._departed) > DEPARTED:
                    del self._departed[next(iter(self._departed))]
            del entries[kind, name]
            for follower in self._followers:
                follower.lost(key, kind, name)
        if not entries:
            del self._objects[key]

    def keep_only(self, kind: str, namespace: str | None, uids: Container[str], version: str) -> set[Key]:
        """Forget what a list of ``kind`` at ``version`` shows to be gone; returns whose it was.

        ``uids`` are all objects of the list, which was of ``namespace`` (None: of all). What is newer than the list
        stays: a write of our own may be ahead of it.
        """
        gone = [
            (key, name, entry.uid)
            for key, entries in self._objects.items()
            if namespace in (None, key.namespace)
            for (found, name), entry in entries.items()
            if found == kind and entry.uid not in uids and entry.version <= _version(version)
        ]
        for key, name, uid in gone:
            self.remove(key, kind, name, uid, version)
        return {key for key, _, _ in gone}

    def get(self, key: Key, kind: str, name: str) -> Manifest | None:
        """A copy of the object, None where there is none."""
        entry = self._objects.get(key, {}).get((kind, name))
        return None if entry is None else _decoded(entry)

    def departed(self, key: Key, kind: str, name: str) -> Manifest | None:
        """The last that was seen of a ModelRevision that was deleted, for some of the last ones; None of others."""
        entry = self._departed.get((key, kind, name))
        return None if entry is None else _decoded(entry)

    def every(self, key: Key, kind: str) -> Iterator[Manifest]:
        """Copies of all objects of ``kind`` that belong to ``key``."""
        for (found, _), entry in list(self._objects.get(key, {}).items()):
            if found == kind:
                yield _decoded(entry)

    def read(self, key: Key, kind: str, reader: Callable[[Manifest], Facts]) -> Iterator[Facts]:
        """What ``reader`` finds in each object of ``kind`` that belongs to ``key``; each version is read once."""
        for (found, _), entry in list(self._objects.get(key, {}).items()):
            if found == kind:
                if entry.facts is None or entry.facts[0] is not reader:
                    entry.facts = (reader, reader(_decoded(entry)))
                facts: Facts = entry.facts[1]
                yield facts

    def known(self) -> list[Key]:
        """All ModelDeployments that something is known of."""
        return sorted(self._objects)


def _decoded(entry: _Entry) -> Manifest:
    manifest: Manifest = json.loads(entry.text)
    return manifest


def _version(text: str | None) -> int:
    # Kubernetes has guaranteed since 1.35 that resourceVersions compare as integers.
    return int(text) if text and text.isdigit() else 0
