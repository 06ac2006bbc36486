"""The invariants of the design, each as a check of one write (or of the world between two), with its exact meaning.

I1  After every route write the weights sum to 1,000,000; a backend whose weight rises above the armed weight has a
    ready pod (as far as a watch that is 0.5 s late can tell).
I2  A Deployment is never made smaller than its revision's share of the traffic needs: replicas x weight, rounded up.
I3  The weight of the revision on trial rises above the armed weight only after all its guards passed, in one
    evaluation of this attempt asked since its step began, by a Prometheus that answered since then; its first weight
    only after its pods were warmed since it was being prepared. (A person's approval, or no guards, stand in.)
I4  A revision that was rolled back gets no weight until the spec asks for another revision or retry is commanded.
I5  Only objects owned by this ModelDeployment (or by its ModelRevisions) are written, and of the ModelDeployment
    itself only the status.
I6  Nothing is written by a process that does not hold the lease at that moment.
I7  A Deployment loses its last pods only when no route has weight for it and every gateway accepted that.
I8  Once settled, hours bring no write at all (checked by ``Simulation.settle``).
I9  No request is lost by moving traffic: no backend goes from nothing to users, or from users to nothing, in one
    change of the data plane, and a slot never changes hands under traffic (recorded by ``GatewayModel``).
I10 A revision keeps its slot as long as it has weight.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, inf
from typing import TYPE_CHECKING, Any

from modelrollout.api.modeldeployment import OnBreach, parse_modeldeployment, revision_name
from modelrollout.api.status import Outcome, Verdict, status_from
from modelrollout.render.readback import backends_of, route_state
from modelrollout.rollout.observed import Backend
from modelrollout.rollout.plan import ARMED, WHOLE
from tests.builders import NAME, START
from tests.simulation.store import Write

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

WATCH_LAG = 0.5
ROUTES = ("HTTPRoute", "GRPCRoute")


class Invariants:
    """Checks every write of one run; what is broken is appended to ``violations``."""

    def __init__(self, simulation: Simulation) -> None:
        self._world = simulation
        self.violations: list[str] = []
        self.rolled_back: set[str] = set()
        self.checked = 0
        self._desired: str | None = None

    def check(self, write: Write) -> None:
        self.checked += 1
        for sentence in self._broken(write):
            self.violations.append(f"{sentence} [{write}]")

    def spec_changed(self) -> None:
        """A person wrote the spec: another revision, or a retry, lifts I4."""
        wish = parse_modeldeployment(self._world.wish())
        desired = revision_name(NAME, wish.spec)
        if desired != self._desired:
            self.rolled_back.clear()
        self._desired = desired
        if wish.metadata.annotations.get("modelrollout.io/command", "").startswith("retry/"):
            self.rolled_back.discard(desired)

    def _broken(self, write: Write) -> Iterator[str]:
        if not self._world.holds_lease():
            yield "I6: written without the lease"
        if write.verb == "event":
            return
        yield from self._others(write)
        if write.kind in ROUTES and write.verb != "delete":
            yield from self._route(write)
        if write.kind == "Deployment":
            yield from self._pods(write)
        if write.kind == "ModelDeployment" and write.after is not None:
            status = status_from(write.after.get("status"))
            if status.rollout is not None and status.rollout.outcome is Outcome.ROLLED_BACK:
                self.rolled_back.add(status.rollout.revision)

    def _others(self, write: Write) -> Iterator[str]:
        if write.kind == "ModelDeployment":
            if write.before is None or write.verb != "status":
                yield "I5: more than the status of a ModelDeployment was written"
            elif write.after is not None and write.before["spec"] != write.after["spec"]:
                yield "I5: the spec was written"
            return
        mine = self._world.wish()["metadata"]["uid"]
        records = {
            record["metadata"]["uid"] for record in self._world.store.every("ModelRevision") if _owner(record) == mine
        }
        for manifest in (write.before, write.after):
            if manifest and _owner(manifest) not in {mine, *records}:
                yield "I5: an object of somebody else was written"

    def _route(self, write: Write) -> Iterator[str]:
        new = backends_of(write.after or {})
        if new is None or sum(backend.weight for backend in new) != WHOLE:
            yield f"I1: the weights of {new} do not sum to the whole"
            return
        old = backends_of(write.before) if write.before else None
        before, after = _weights(old), _weights(new)
        if old is None:
            # A route for another protocol beside one that is there: what has weight there is no news.
            others = [route for kind in ROUTES if kind != write.kind for route in self._world.store.every(kind)]
            before = next((_weights(backends_of(route)) for route in others), {})
        if old is not None:
            yield from _moved(old, new)
        for revision, weight in after.items():
            if weight > max(ARMED, before.get(revision, 0)):
                yield from self._risen(revision, weight, before.get(revision, 0))

    def _risen(self, revision: str, weight: int, before: int) -> Iterator[str]:
        status = status_from(self._world.wish().get("status"))
        if self._world.kubelet.ready_since(revision) > WATCH_LAG:
            yield f"I1: {revision} has {weight} ppm and no ready pod"
        if revision in self.rolled_back and revision != status.revisions.stable:
            yield f"I4: {revision} was rolled back and gets {weight} ppm"
        trial = status.rollout
        if trial is not None and trial.outcome is None and trial.revision == revision:
            yield from self._evidence(revision, weight)
        elif status.revisions.stable is None and before >= WHOLE // 2:
            return  # the status was lost: what has the traffic is taken for stable
        elif revision not in (status.revisions.stable, status.revisions.last_good):
            yield f"I3: {revision} gets {weight} ppm and is not on trial"

    def _evidence(self, revision: str, weight: int) -> Iterator[str]:
        raw = self._world.wish()
        status = status_from(raw.get("status"))
        trial = status.rollout
        if trial is None:
            return
        if trial.weight == 0:
            begun = max(moment for moment in (trial.started_at, trial.step_started_at) if moment)
            warmed = self._world.triton.passed_at.get(revision, -inf)
            # Pods are warmed right after the phase began; the phase itself is written a moment later.
            if warmed < (trial.started_at or begun - START + START).timestamp() - START.timestamp():
                yield f"I3: {revision} gets its first {weight} ppm and was not warmed"
            return
        rollout = parse_modeldeployment(raw).spec.rollout
        if not rollout.guards or trial.approved or self._approves(raw, status.handled_command):
            return
        evaluation = self._world.process.measurements.of(self._world.key).evaluation
        since = trial.step_started_at
        if evaluation is None or since is None or evaluation.at < since or evaluation.revision != revision:
            yield f"I3: {revision} rises to {weight} ppm without an evaluation since its step began"
            return
        needed = {guard.name for guard in rollout.guards if guard.on_breach is not OnBreach.WARN}
        good = {result.name for result in evaluation.results if result.verdict is Verdict.PASS}
        if not needed <= good and not self._world.guards_edited_lately():
            yield f"I3: {revision} rises to {weight} ppm, and {', '.join(sorted(needed - good))} did not pass"
        if self._world.metrics.answered_at < (since - START).total_seconds():
            yield f"I3: {revision} rises to {weight} ppm, and Prometheus has not answered since its step began"

    @staticmethod
    def _approves(raw: dict[str, Any], handled: str | None) -> bool:
        command = (raw["metadata"].get("annotations") or {}).get("modelrollout.io/command", "")
        return command.startswith("promote/") and command != handled

    def _pods(self, write: Write) -> Iterator[str]:
        if write.before is None:
            return
        old = write.before["spec"]["replicas"]
        new = write.after["spec"]["replicas"] if write.after else 0
        if new >= old:
            return
        routes = [route for kind in ROUTES for route in self._world.store.every(kind)]
        weight = max((_weights(backends_of(route)).get(write.name, 0) for route in routes), default=0)
        if new < ceil(self._world.wish()["spec"]["replicas"] * weight / WHOLE):
            yield f"I2: {write.name} has {weight} ppm and is scaled to {new}"
        if new == 0 and routes:
            if weight:
                yield f"I7: {write.name} loses its pods with {weight} ppm"
            if not all(route_state(route).accepted for route in routes):
                yield f"I7: {write.name} loses its pods before the route without it was accepted"


def _weights(pair: tuple[Backend, Backend] | None) -> dict[str, int]:
    sums: dict[str, int] = {}
    for backend in pair or ():
        sums[backend.revision] = sums.get(backend.revision, 0) + backend.weight
    return sums


def _moved(old: tuple[Backend, Backend], new: tuple[Backend, Backend]) -> Iterator[str]:
    after = _weights(new)
    for slot in (0, 1):
        name = old[slot].revision
        if old[slot].weight > 0 and after.get(name) and not _in_slot(new, name, slot):
            yield f"I10: {name} left its slot {slot}"


def _in_slot(pair: tuple[Backend, Backend], name: str, slot: int) -> bool:
    return pair[slot].revision == name and pair[slot].weight > 0


def _owner(manifest: dict[str, Any]) -> str | None:
    owners = manifest["metadata"].get("ownerReferences") or ()
    return next((owner["uid"] for owner in owners if owner.get("controller")), None)
