"""What the watches have seen, by kind and owner: the only place the hot path reads from.

Objects are kept as compact JSON text: a dict of the same object takes five times the memory.
"""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from modelrollout.ports import Manifest

TOMBSTONES = 4096
DEPARTED = 64


@dataclass(frozen=True, order=True)
class Key:
    """Which ModelDeployment."""

    namespace: str
    name: str


@dataclass(frozen=True)
class _Entry:
    uid: str
    version: int
    text: bytes


class Cache:
    """Objects by (owner key, kind, name).

    ``trim(kind, manifest)`` drops what the controller never reads, before anything is kept.
    """

    def __init__(self, trim: Callable[[str, Manifest], Manifest] = lambda _, manifest: manifest) -> None:
        self._trim = trim
        self._objects: dict[Key, dict[tuple[str, str], _Entry]] = defaultdict(dict)
        self._buried: set[str] = set()
        self._burials: deque[str] = deque()
        self._departed: dict[tuple[Key, str, str], _Entry] = {}

    def put(self, key: Key, manifest: Manifest) -> bool:
        """Keep ``manifest`` unless something newer of the same object is known; whether it was kept.

        Both the watches and the answers to our own writes come here, in any order: an old watch event must not
        hide a write that was just made, and a late answer must not bring back what was deleted.
        """
        metadata = manifest["metadata"]
        kind, name, uid = manifest["kind"], metadata["name"], metadata.get("uid", "")
        version = _version(metadata.get("resourceVersion"))
        known = self._objects.get(key, {}).get((kind, name))
        if uid in self._buried or (known is not None and known.version > version):
            return False
        text = json.dumps(self._trim(kind, manifest), separators=(",", ":")).encode()
        self._objects[key][kind, name] = _Entry(uid, version, text)
        return True

    def remove(self, key: Key, kind: str, name: str, uid: str) -> None:
        """Forget an object that was deleted, for good: its uid never comes back."""
        if uid and uid not in self._buried:
            self._buried.add(uid)
            self._burials.append(uid)
            if len(self._burials) > TOMBSTONES:
                self._buried.discard(self._burials.popleft())
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
        if not entries:
            del self._objects[key]

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

    def known(self) -> list[Key]:
        """All ModelDeployments that something is known of."""
        return sorted(self._objects)


def _decoded(entry: _Entry) -> Manifest:
    manifest: Manifest = json.loads(entry.text)
    return manifest


def _version(text: str | None) -> int:
    # Kubernetes has guaranteed since 1.35 that resourceVersions compare as integers.
    return int(text) if text and text.isdigit() else 0
