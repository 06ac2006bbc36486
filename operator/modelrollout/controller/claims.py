"""Which ModelDeployments want the same hostname at the same gateway: one serves it, the others are told.

An index kept from what the cache is given, so that a turn asks for its own hostnames only. Whoever is concerned by a
change is woken: nobody polls.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from modelrollout.api.hosts import meet
from modelrollout.controller.cache import Key
from modelrollout.ports import Manifest
from modelrollout.render.names import owner_uid
from modelrollout.render.route import GRPC_ROUTE, HTTP_ROUTE

Place = tuple[str, str]
"""A Gateway (``namespace/name``) and a hostname at it."""

Rank = tuple[bool, str, Key]
"""Who goes first at a place: whether it has no route there yet, when it was created, who it is."""


@dataclass(frozen=True)
class _Claimant:
    """A ModelDeployment: ``wanted`` are the places its spec names, ``held`` by route those where it is served."""

    uid: str
    created: str
    wanted: frozenset[Place]
    held: tuple[tuple[str, str, frozenset[Place]], ...] = ()

    def holds(self, place: Place) -> bool:
        return any(owner == self.uid and place in places for _, owner, places in self.held)


class Claims:
    """Follows the cache. ``wake`` is called with those for whom somebody else's change may matter."""

    def __init__(self, wake: Callable[[Key], None] = lambda key: None) -> None:
        self._wake = wake
        self._claimants: dict[Key, _Claimant] = {}
        self._index: dict[Place, set[Key]] = defaultdict(set)

    def kept(self, key: Key, manifest: Manifest) -> None:
        """Follow an object that is new or changed."""
        known = self._claimants.get(key, _Claimant("", "", frozenset()))
        match manifest["kind"]:
            case "ModelDeployment":
                metadata = manifest["metadata"]
                created, uid = metadata.get("creationTimestamp", ""), metadata.get("uid", "")
                self._put(key, replace(known, uid=uid, created=created, wanted=wanted(manifest)))
            case kind if kind in (HTTP_ROUTE, GRPC_ROUTE):
                name = _route_name(manifest["kind"], manifest["metadata"]["name"])
                entry = (name, owner_uid(manifest) or "", _served(manifest))
                others = (other for other in known.held if other[0] != name)
                self._put(key, replace(known, held=tuple(sorted((*others, entry), key=lambda each: each[0]))))

    def lost(self, key: Key, kind: str, name: str) -> None:
        """Follow an object that is gone."""
        known = self._claimants.get(key)
        if known is None:
            return
        if kind == "ModelDeployment":
            self._put(key, replace(known, uid="", created="", wanted=frozenset()))
        elif kind in (HTTP_ROUTE, GRPC_ROUTE):
            gone = _route_name(kind, name)
            self._put(key, replace(known, held=tuple(entry for entry in known.held if entry[0] != gone)))

    def claimed(self, key: Key) -> str | None:
        """One sentence naming who serves one of the hostnames of ``key`` instead of it; None where nobody does.

        Who is served there by a route already goes first, then who is older: nobody loses users to a newcomer, nor
        to an older one that changed its hostnames.
        """
        mine = self._claimants.get(key)
        for place in sorted(mine.wanted if mine else ()):
            rivals = ((self._rank(rival, theirs), theirs) for rival, theirs in self._meeting(key, place))
            first = min(rivals, default=None)
            if first is not None and first[0] < self._rank(key, place):
                return _sentence(self._rank(key, place), place, *first)
        return None

    def _rank(self, key: Key, place: Place) -> Rank:
        known = self._claimants[key]
        return (not known.holds(place), known.created, key)

    def _put(self, key: Key, new: _Claimant) -> None:
        old = self._claimants.get(key)
        if new == old:
            return
        concerned = set(self._concerned(key))
        if old is not None:
            for place in old.wanted - new.wanted:
                for entry in _entries(place):
                    self._index[entry].discard(key)
                    if not self._index[entry]:
                        del self._index[entry]
        if new.uid or new.held:
            self._claimants[key] = new
        else:
            self._claimants.pop(key, None)
        for place in new.wanted:
            for entry in _entries(place):
                self._index[entry].add(key)
        for other in sorted(concerned | set(self._concerned(key))):
            self._wake(other)

    def _concerned(self, key: Key) -> Iterator[Key]:
        known = self._claimants.get(key)
        for place in known.wanted if known else ():
            yield from (rival for rival, _ in self._meeting(key, place))

    def _meeting(self, key: Key, place: Place) -> Iterator[tuple[Key, Place]]:
        """Everybody else who wants a hostname that can mean the same host, and the place they want."""
        gateway, hostname = place
        names = {hostname, *(f"*{suffix}" for suffix in _suffixes(hostname))}
        if hostname.startswith("*."):
            names.add(hostname[1:])  # everything below it
        rivals = {rival for name in names for rival in self._index.get((gateway, name), ())}
        for rival in rivals - {key}:
            for theirs in self._claimants[rival].wanted:
                if theirs[0] == gateway and meet((hostname,), (theirs[1],)):
                    yield rival, theirs


def _sentence(own: Rank, place: Place, serving: Rank, served: Place) -> str:
    (_, created, key), rival = own, serving[2]
    why = "which is older" if serving[1:] < (created, key) else "which has it already"
    as_well = "" if served[1] == place[1] else f" (as {served[1]})"
    return (
        f"hostname {place[1]} at gateway {place[0]} is served by {rival.namespace}/{rival.name}{as_well}, {why}: "
        "choose another hostname"
    )


def wanted(manifest: Mapping[str, Any]) -> frozenset[Place]:
    """The places that the spec of a ModelDeployment names, previews too; none without a gateway. Never raises."""
    spec = _part(manifest, "spec")
    traffic, blue_green = _part(spec, "traffic"), _part(_part(spec, "rollout"), "blueGreen")
    gateway = _part(traffic, "gateway")
    if not gateway.get("name"):
        return frozenset()
    where = f"{gateway.get('namespace') or manifest['metadata'].get('namespace')}/{gateway['name']}"
    return frozenset(
        (where, hostname)
        for hosts in (traffic, _part(blue_green, "preview"))
        for protocol in ("http", "grpc")
        for hostname in _texts(_part(hosts, protocol).get("hostnames"))
    )


def _served(route: Mapping[str, Any]) -> frozenset[Place]:
    spec, namespace = _part(route, "spec"), route["metadata"].get("namespace")
    return frozenset(
        (f"{parent.get('namespace') or namespace}/{parent.get('name')}", hostname)
        for parent in spec.get("parentRefs") or ()
        for hostname in _texts(spec.get("hostnames"))
    )


def _entries(place: Place) -> Iterator[Place]:
    """Under what a place is found: its own name, and each domain that it is below."""
    gateway, hostname = place
    yield place
    for suffix in _suffixes(hostname):
        yield gateway, suffix


def _suffixes(hostname: str) -> list[str]:
    """``.b.c`` and ``.c`` of ``a.b.c``."""
    labels = hostname.split(".")
    return ["." + ".".join(labels[start:]) for start in range(1, len(labels))]


def _route_name(kind: str, name: str) -> str:
    return f"{kind}/{name}"


def _part(whole: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = whole.get(name)
    return found if isinstance(found, dict) else {}


def _texts(values: object) -> Iterable[str]:
    return [value for value in values if isinstance(value, str)] if isinstance(values, list) else []
