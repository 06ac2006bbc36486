"""The invariants of the design, each as a check of one write (or of the world between two), with its exact meaning.

I1  After every route write the weights sum to 1,000,000; a revision whose weight rises above the armed weight has a
    ready pod (as far as a watch that is 0.5 s late can tell), and the one on trial has enough of them for the weight:
    replicas x weight, rounded up (one less with maxSurge 0; a first deployment serves with what it has). A revision
    that gets copies of requests has a ready pod and no users. With traffic.service the selector has one revision with
    a ready pod.
I2  A Deployment is never made smaller than its revision's share of the traffic needs: replicas x weight, rounded up;
    one pod less with maxSurge 0, nothing with replicas 0, and nothing for the revision that Recreate takes away. A
    route that no proxy ever carried out has no traffic.
I3  The weight of the revision on trial rises above what it was let to have only after all guards of that stage passed,
    in one evaluation of this attempt asked since the stage began, by a Prometheus that answered since then; its first
    weight only after its pods were warmed since the attempt began. (A person, or no guards there, stand in.)
I4  A revision that was rolled back, or gone away from by the command rollback, gets no weight until the spec asks for
    another revision or retry is commanded.
I5  Only objects owned by this ModelDeployment (or by its ModelRevisions) are written, and of the ModelDeployment
    itself only the status.
I6  Nothing is written by a process that does not hold the lease at that moment.
I7  A Deployment loses its last pods only when nothing has weight for it and no proxy has either. Replicas 0 and
    Recreate say otherwise.
I8  Once settled, hours bring no write at all (checked by ``Simulation.settle``).
I9  No request is lost by moving traffic: no backend goes from nothing to users, or from users to nothing, in one
    change of the data plane, and a slot never changes hands under traffic (recorded by ``GatewayModel``).
I10 A revision keeps its slot as long as it has weight.
I11 Nothing happens twice: an attempt has one number and one end, a command acts once; only a revision whose last own
    end was a promotion goes by the fast track.
I13 A route that copies requests for the observer names a Service that exists (recorded by ``GatewayModel``; what a
    person deletes by hand is put right by the next turn).
I14 A rollback for a guard has a breach that the stable revision does not show too.
I15 The webhook for retraining is called at most once each time drift begins or retrain is commanded.
I12 No more than 150 turns in 30 seconds (checked by ``Simulation.check``): nothing spins.

After somebody damaged the status by hand, what is known from it only (I3, I4, I9, I10, I11) is not asked for until the
next attempt began beside a stable revision, nor I2 and I7 while it names no stable one. The same for a first deployment
that is given up while the way changes (gateway to Service, one protocol to another), and for the ready pod of I1 when
the way changes during a Recreate. What a person's edit of a route loses, and the write that takes it back, are not
judged (I9, I10).
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import TYPE_CHECKING, Any

from modelrollout.api.modeldeployment import ModelDeployment
from modelrollout.api.status import status_from
from modelrollout.api.strategies import Canary, Strategy
from modelrollout.render.names import LABEL_REVISION, leads_to_observer
from modelrollout.render.readback import backends_of
from modelrollout.rollout.observed import Backend
from modelrollout.rollout.plan import ARMED, WHOLE
from tests.builders import NAME
from tests.simulation.gateway import ROUTES, weights_of
from tests.simulation.store import Write
from tests.simulation.trial import Trial

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

WATCH_LAG = 0.5


class Invariants:
    """Checks every write of one run; what is broken is appended to ``violations``."""

    def __init__(self, simulation: Simulation) -> None:
        self._world = simulation
        self.trial = Trial(simulation)
        self.violations: list[str] = []
        self.checked = 0
        self._reasons_to_call = 0

    def check(self, write: Write) -> None:
        self.checked += 1
        for sentence in self._broken(write):
            self.violations.append(f"{sentence} [{write}]")

    def look_for_calls(self, calls: int) -> None:
        """I15, between two writes."""
        if calls > self._reasons_to_call:
            self.violations.append(f"I15: {calls} calls of the webhook for {self._reasons_to_call} reasons")
            self._reasons_to_call = calls

    def recreated(self) -> None:
        """Another ModelDeployment of the same name: nothing is known of it."""
        self.trial = Trial(self._world)

    def _broken(self, write: Write) -> Iterator[str]:
        if not self._world.holds_lease():
            yield "I6: written without the lease"
        if write.verb == "event":
            yield from self.trial.told(write)
            return
        yield from self._others(write)
        if write.kind == "ModelDeployment" and write.verb == "status":
            self._reasons_to_call += _asks_for_training(write)
        match write.kind:
            case "HTTPRoute" | "GRPCRoute" if write.verb != "delete" and write.name == NAME:
                yield from self._route(write)
            case "Service" if write.verb != "delete" and write.name == NAME:
                yield from self._service(write)
            case "Deployment":
                yield from self._pods(write)
            case "ModelDeployment" if write.after is not None:
                yield from self.trial.written(write.after)

    def _others(self, write: Write) -> Iterator[str]:
        if write.kind == "ModelDeployment":
            if write.before is None or write.verb != "status":
                yield "I5: more than the status of a ModelDeployment was written"
            elif write.after is not None and write.before["spec"] != write.after["spec"]:
                yield "I5: the spec was written"
            return
        owners = set(self._world.uids)
        owners |= {uid for uid, owner in self._world.records.items() if owner in owners}
        for manifest in (write.before, write.after):
            if manifest and _owner(manifest) not in owners:
                yield "I5: an object of somebody else was written"

    # -- traffic --------------------------------------------------------------------------------------------------

    def _route(self, write: Write) -> Iterator[str]:
        new = backends_of(write.after or {})
        if new is None or sum(backend.weight for backend in new) != WHOLE:
            yield f"I1: the weights of {new} do not sum to the whole"
            return
        old = backends_of(write.before) if write.before else None
        before, after = weights_of(write.before), weights_of(write.after)
        if old is None:
            # Another way beside one that is there (another protocol, a Service): what has weight there is no news.
            for way in self._world.traffic(without=write.kind):
                before = {name: max(weight, before.get(name, 0)) for name, weight in way.items()}
        if old is not None and not self.trial.distrusted and write.kind not in self._world.touched:
            yield from _moved(old, new)
        self._world.touched.discard(write.kind)
        yield from self._copies(write, after)
        for revision, weight in after.items():
            if weight > max(ARMED, before.get(revision, 0)) and before.get(revision, 0) < WHOLE - ARMED:
                yield from self._risen(revision, weight, before.get(revision, 0))
        self.trial.grant(after)

    def _copies(self, write: Write, weights: dict[str, int]) -> Iterator[str]:
        old, new = (_mirrored(route) for route in (write.before, write.after))
        for revision in new:
            if revision not in old and not self._world.kubelet.ready_lately(revision, WATCH_LAG):
                yield f"I1: {revision} gets copies and has no ready pod"
            if weights.get(revision, 0) > ARMED:
                yield f"I1: {revision} gets copies and {weights[revision]} ppm of the users"

    def _service(self, write: Write) -> Iterator[str]:
        old, new = (_selected(service) for service in (write.before, write.after))
        if new is None:
            yield "I1: the Service selects no revision"
        elif new != old:
            if not any(way.get(new, 0) >= WHOLE - ARMED for way in self._world.traffic(without="Service")):
                yield from self._risen(new, WHOLE, 0)
            self.trial.grant({new: WHOLE})

    def _risen(self, revision: str, weight: int, before: int) -> Iterator[str]:
        ready = self._world.kubelet.ready_lately(revision, WATCH_LAG)
        stopped = any(wish.spec.replicas == 0 for wish in self._world.wishes)
        gap = bool(self._world.left_behind()) and self._is_recreated(revision)
        if not ready and not stopped and not gap:
            yield f"I1: {revision} has {weight} ppm and no ready pod"
        beside = self._world.status.revisions.stable is not None
        if beside and self.trial.is_of(revision) and ready < self._need(revision, weight):
            yield f"I1: {revision} rises to {weight} ppm with {ready} ready pods"
        yield from self.trial.risen(revision, weight, before)

    # -- pods -----------------------------------------------------------------------------------------------------

    def _need(self, revision: str, weight: int) -> int:
        """Pods that ``weight`` needs, by any of the specs that a late watch may still show."""
        return min(self._need_by(wish, revision, weight) for wish in self._world.wishes)

    def _need_by(self, wish: ModelDeployment, revision: str, weight: int) -> int:
        rollout, replicas = wish.spec.rollout, wish.spec.replicas
        pods = ceil(replicas * max(weight - ARMED, 0) / WHOLE)
        tight = rollout.strategy in (Strategy.CANARY, Strategy.SHADOW) and not (rollout.canary or Canary()).surge(
            max(replicas, 1)
        )
        return max(pods - 1, 0) if tight else pods

    def _pods(self, write: Write) -> Iterator[str]:
        if write.before is None:
            return
        old = write.before["spec"]["replicas"]
        new = write.after["spec"]["replicas"] if write.after else 0
        if new >= old or self._is_recreated(write.name):
            return
        if self._world.status.revisions.stable is None and (self.trial.distrusted or self._world.left_behind()):
            return
        weight = max((weights.get(write.name, 0) for weights in self._world.traffic(used=True)), default=0)
        if new < self._need(write.name, weight):
            yield f"I2: {write.name} has {weight} ppm and is scaled to {new}"
        if new == 0 and not any(wish.spec.replicas == 0 for wish in self._world.wishes):
            if weight and self._need(write.name, weight):
                yield f"I7: {write.name} loses its pods with {weight} ppm"
            proxies = [dict(self._world.gateway.plane(kind).backends) for kind in ROUTES]
            if any(plane.get(write.name, 0) > ARMED for plane in proxies):
                yield f"I7: {write.name} loses its pods while proxies still send users to it"

    def _is_recreated(self, revision: str) -> bool:
        """Whether Recreate takes this revision's pods away before the other's come."""
        rollout = self._world.status.rollout
        asked = any(wish.spec.rollout.strategy is Strategy.RECREATE for wish in self._world.wishes)
        by_recreate = rollout is not None and rollout.strategy == Strategy.RECREATE
        return asked or by_recreate


def _moved(old: tuple[Backend, Backend], new: tuple[Backend, Backend]) -> Iterator[str]:
    before, after = _places(old), _places(new)
    for name in before.keys() & after.keys():
        if not before[name] & after[name]:
            yield f"I10: {name} left its slot {min(before[name])}"


def _places(pair: tuple[Backend, Backend]) -> dict[str, set[int]]:
    places: dict[str, set[int]] = {}
    for slot, backend in enumerate(pair):
        if backend.weight:
            places.setdefault(backend.revision, set()).add(slot)
    return places


def _mirrored(route: dict[str, Any] | None) -> set[str]:
    return {
        each["requestMirror"]["backendRef"]["name"]
        for rule in (route or {}).get("spec", {}).get("rules") or ()
        for each in rule.get("filters") or ()
        if each["type"] == "RequestMirror" and not leads_to_observer(each["requestMirror"]["backendRef"]["name"])
    }


def _selected(service: dict[str, Any] | None) -> str | None:
    selector = (service or {}).get("spec", {}).get("selector") or {}
    return selector.get(LABEL_REVISION)


def _asks_for_training(write: Write) -> int:
    """How many reasons for a call of the webhook this status tells first."""
    old, new = (status_from((manifest or {}).get("status")) for manifest in (write.before, write.after))
    commanded = new.handled_command != old.handled_command and (new.handled_command or "").startswith("retrain/")
    return int(bool(new.drift) and not old.drift) + int(commanded)


def _owner(manifest: dict[str, Any]) -> str | None:
    owners = manifest["metadata"].get("ownerReferences") or ()
    return next((owner["uid"] for owner in owners if owner.get("controller")), None)
