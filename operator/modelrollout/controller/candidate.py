"""Who is put through the gates, by what rules, and beside whom; found in the wish, the plan and the records."""

from __future__ import annotations

from dataclasses import dataclass, field

from modelrollout.api.gates import Gates
from modelrollout.api.modeldeployment import ModelDeployment
from modelrollout.controller.cache import Cache, Key
from modelrollout.ports import PodTarget
from modelrollout.render.names import GRPC_PORT, revision_of
from modelrollout.render.pods import pod_ready
from modelrollout.rollout.plan import Plan
from modelrollout.rollout.strategies import course_of


@dataclass(frozen=True)
class Model:
    """A revision as its pods are asked: the model's name and version there."""

    revision: str
    name: str
    version: str


@dataclass(frozen=True)
class Candidate:
    """All that the gates depend on; as long as it is the same, they go on.

    ``returning``: it goes back to what passed its gates before, by command or because the spec asks for a known good
    revision again. ``alone``: stable was stopped to make room, so nobody answers users. ``slot`` is the place of stable
    in the route, ``replicas`` are the pods of a whole fleet: both as they were when the gates began, since another
    number of pods is no reason to begin again.
    """

    model: Model
    stable: Model | None
    gates: Gates
    returning: bool
    alone: bool
    slot: int = field(compare=False)
    replicas: int = field(compare=False)


def candidate_of(key: Key, wish: ModelDeployment, plan: Plan, cache: Cache) -> Candidate | None:
    """The candidate whose gates ``plan`` wants passed; None where it wants none."""
    if plan.gate is None:
        return None
    attempt, stable = plan.status.rollout, plan.status.revisions.stable
    places = {entry.revision: entry.slot for entry in plan.status.traffic}
    return Candidate(
        model=_model(key, wish, plan.gate, cache),
        stable=None if stable in (None, plan.gate) else _model(key, wish, str(stable), cache),
        gates=wish.spec.rollout.gates,
        returning=attempt is not None and (attempt.fast_track or bool(attempt.instead_of)),
        alone=stable not in (None, plan.gate) and not course_of(wish.spec.rollout).beside,
        slot=places.get(stable or "", 0),
        replicas=wish.spec.replicas,
    )


def pods_of(key: Key, model: Model, cache: Cache) -> list[PodTarget]:
    """The ready pods of a revision, by name."""
    found = [
        PodTarget(pod["metadata"]["name"], pod["status"]["podIP"], GRPC_PORT, model.name)
        for pod in cache.every(key, "Pod")
        if revision_of(pod) == model.revision and pod_ready(pod) and (pod.get("status") or {}).get("podIP")
    ]
    return sorted(found, key=lambda target: target.pod)


def _model(key: Key, wish: ModelDeployment, revision: str, cache: Cache) -> Model:
    """What the record of the revision says; what the spec says where there is none."""
    spec = (cache.get(key, "ModelRevision", revision) or {}).get("spec") or {}
    recorded = spec.get("model") or {}
    name = recorded.get("name") or wish.spec.model.name or wish.metadata.name
    return Model(revision, str(name), str(spec.get("version") or wish.spec.model.version))
