"""The data plane: a gateway that accepts and programs routes late or refuses them, and what users lose by it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from modelrollout.ports import Manifest, ProbeTarget
from modelrollout.render.names import REVISION_HEADER, is_ours, leads_to_observer
from modelrollout.render.readback import backends_of
from modelrollout.rollout.plan import ARMED, WHOLE
from tests.builders import NAME
from tests.simulation.kubelet import Kubelet, now
from tests.simulation.metrics import PrometheusModel, Rates
from tests.simulation.store import Store

ROUTES = ("HTTPRoute", "GRPCRoute")
RATE = 100.0
"""Requests per second of all users, by each protocol."""
PINNED_RATE = 2.0
"""Requests per second by each rule that is matched by headers, and by the preview hostnames."""

Id = tuple[str, str]


@dataclass
class DataPlane:
    """What the proxies of one route carry out now."""

    backends: tuple[tuple[str, int], ...] = ()
    pinned: frozenset[str] = frozenset()
    mirror: frozenset[str] = frozenset()
    generation: int = 0


@dataclass
class GatewayModel:
    """Accepts routes after a while, programs them a bit later, and can refuse. ``lost`` tells what users lost."""

    store: Store
    kubelet: Kubelet
    metrics: PrometheusModel
    accept_after: float = 0.03
    program_after: float = 0.05
    rejects: bool = False
    deleted: set[str] = field(default_factory=set)
    """Services that somebody deleted by hand: what users lose by that is not the operator's fault."""
    lost: list[str] = field(default_factory=list)
    planes: dict[Id, DataPlane] = field(default_factory=dict)
    _edited_at: float = -1.0

    def plane(self, kind: str = "HTTPRoute") -> DataPlane:
        """The proxies of the route that users come by."""
        return self.planes.get((kind, NAME), DataPlane())

    def changed(self, event: str, manifest: Manifest) -> None:
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        if kind in (*ROUTES, "Service"):
            if event == "ADDED":
                self.deleted.discard(name)
            self._look_for_copies_to_nobody()
        if kind not in ROUTES:
            return
        if event == "DELETED":
            self.planes.pop((kind, name), None)
            self.metrics.serve(f"{kind}/{name}", {})
            return
        generation = manifest["metadata"]["generation"]
        plane = self.planes.setdefault((kind, name), DataPlane())
        if generation > plane.generation:
            plane.generation = generation
            uid = manifest["metadata"]["uid"]
            loop = asyncio.get_running_loop()
            loop.call_later(self.accept_after, self._answer, kind, name, uid, generation)
            if not self.rejects:
                loop.call_later(self.program_after, self._program, kind, name)

    def _look_for_copies_to_nobody(self) -> None:
        """A route that copies to a Service that does not exist answers all its users with 500 (I13)."""
        wish = self.store.get("ModelDeployment", NAME)
        if wish is None:
            return
        for kind in ROUTES:
            for route in self.store.every(kind):
                if not is_ours(route, wish["metadata"]["uid"]):
                    continue  # of a deleted ModelDeployment, about to be collected
                copied = set(observed_by(route)) - self.deleted
                missing = sorted(name for name in copied if self.store.get("Service", name) is None)
                if missing:
                    self.lost.append(f"{now():.3f} I13 {kind}: copies to {missing}, which do not exist")

    def mend(self) -> None:
        """The reason to refuse is gone: look at every route again."""
        self.rejects = False
        for plane in self.planes.values():
            plane.generation = 0
        for kind in ROUTES:
            for route in self.store.every(kind):
                self.changed("MODIFIED", route)

    def forgive(self) -> None:
        """Somebody edited a route by hand: what users lose by that is not the operator's fault."""
        self._edited_at = now()

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

    def _program(self, kind: str, name: str) -> None:
        # Whatever the route says by now: changes that follow each other fast are carried out as one.
        route = self.store.get(kind, name)
        if route is None or (kind, name) not in self.planes:
            return
        plane = self.planes[kind, name]
        pair = backends_of(route) if name == NAME else None
        if pair is not None:
            new = tuple((backend.revision, backend.weight) for backend in pair)
            if now() - self._edited_at > self.program_after + 0.001:
                self._judge(kind, plane.backends, new)
            plane.backends = new
        elif name == NAME:
            return
        plane.pinned = frozenset(_pinned(route))
        plane.mirror = frozenset(revision for rule in route["spec"]["rules"] for revision, _ in _mirrors(rule))
        self.metrics.serve(f"{kind}/{name}", _rates(kind, route))

    def _judge(self, kind: str, old: tuple[tuple[str, int], ...], new: tuple[tuple[str, int], ...]) -> None:
        """What users lose by this change (I9)."""
        if not any(self.kubelet.ready(revision) for revision, weight in old if weight > ARMED):
            return  # nothing could be lost
        before, after = _sums(old), _sums(new)
        for revision in before.keys() | after.keys():
            old_weight, new_weight = before.get(revision, 0), after.get(revision, 0)
            if old_weight == 0 and new_weight > ARMED:
                self.lost.append(f"{now():.3f} {kind}: {revision} from nothing to {new_weight}")
            if old_weight > ARMED and new_weight == 0:
                self.lost.append(f"{now():.3f} {kind}: {revision} from {old_weight} to nothing")
        for slot, (revision, weight) in enumerate(old):
            other_revision, other_weight = new[slot]
            if weight > ARMED and other_weight > ARMED and revision != other_revision:
                self.lost.append(f"{now():.3f} {kind}: slot {slot} changed from {revision} to {other_revision}")

    async def revision_answering(self, target: ProbeTarget, revision: str) -> str | None:
        await asyncio.sleep(0.003)
        plane = self.plane("HTTPRoute" if target.protocol == "http" else "GRPCRoute")
        if revision not in plane.pinned or not self.kubelet.ready(revision):
            return None
        return revision


def _sums(backends: tuple[tuple[str, int], ...]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for revision, weight in backends:
        sums[revision] = sums.get(revision, 0) + weight
    return sums


def _pinned(route: Manifest) -> list[str]:
    return [
        header["value"]
        for rule in route["spec"]["rules"]
        for match in rule.get("matches") or ()
        for header in match.get("headers") or ()
        if header["name"].lower() == REVISION_HEADER
    ]


def _mirrors(rule: dict[str, Any]) -> list[tuple[str, float]]:
    found = []
    for each in rule.get("filters") or ():
        if each["type"] == "RequestMirror":
            mirror = each["requestMirror"]
            fraction = mirror.get("fraction") or {"numerator": mirror.get("percent", 100)}
            share = fraction["numerator"] / fraction.get("denominator", 100)
            found.append((mirror["backendRef"]["name"], share))
    return found


def observed_by(route: Manifest) -> list[str]:
    """The Services of ``route`` that copies for the observer go to."""
    return [name for rule in route["spec"]["rules"] for name, _ in _mirrors(rule) if leads_to_observer(name)]


def _rates(kind: str, route: Manifest) -> Rates:
    """Requests per second by Envoy cluster, named as Envoy Gateway names them."""
    metadata = route["metadata"]
    rates: Rates = {}
    for number, rule in enumerate(route["spec"]["rules"]):
        stem = f"{kind.lower()}/{metadata['namespace']}/{metadata['name']}/rule/{number}"
        rate = RATE if metadata["name"] == NAME and number == 0 else PINNED_RATE
        references = rule.get("backendRefs") or []
        whole = sum(reference.get("weight", 1) for reference in references)
        for place, reference in enumerate(references):
            weight = reference.get("weight", 1)
            if weight:
                rates[f"{stem}/backend/{place}"] = (reference["name"], rate * weight / whole)
        for place, (revision, share) in enumerate(_mirrors(rule)):
            rates[f"{stem}-mirror-{place}"] = (revision, rate * share)
    return rates


def weights_of(route: Manifest | None) -> dict[str, int]:
    """Parts per million by revision of the weighted rule; empty for a rule that is not as the operator writes it."""
    pair = backends_of(route) if route else None
    found: dict[str, int] = {}
    whole = sum(backend.weight for backend in pair or ()) or WHOLE
    for backend in pair or ():
        found[backend.revision] = found.get(backend.revision, 0) + round(backend.weight * WHOLE / whole)
    return found
