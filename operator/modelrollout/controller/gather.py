"""From the cache and the newest measurements to the frozen Observed of one decision. No I/O."""

from __future__ import annotations

from modelrollout.api.modeldeployment import ModelDeployment
from modelrollout.controller.cache import Cache, Key
from modelrollout.controller.measurements import Record
from modelrollout.controller.obstacles import Obstacles
from modelrollout.evidence.check import guards_problem
from modelrollout.ports import Manifest
from modelrollout.render.names import revision_of
from modelrollout.render.pods import observe_workload
from modelrollout.render.readback import observe_routes
from modelrollout.render.revision import settings_problem
from modelrollout.render.route import route_kinds
from modelrollout.rollout.observed import Observed, Workload
from modelrollout.settings import Settings


def gather(
    key: Key, deployment: ModelDeployment, cache: Cache, record: Record, obstacles: Obstacles, settings: Settings
) -> Observed:
    """Everything that the decision about ``deployment`` may look at."""
    gateway = deployment.spec.traffic.gateway
    profile = settings.gateway(gateway.namespace or key.namespace, gateway.name)
    return Observed(
        workloads=workloads(key, cache),
        route=observe_routes([cache.get(key, kind, key.name) for kind in route_kinds(deployment)]),
        probe=record.probe,
        gates=dict(record.gates),
        evaluation=record.evaluation,
        problem=settings_problem(deployment, settings) or guards_problem(deployment),
        foreign=obstacles.foreign,
        denied=obstacles.denied,
        settle=profile.settle,
        records=records(key, cache),
    )


def workloads(key: Key, cache: Cache) -> dict[str, Workload]:
    """The pods of every revision that has a Deployment, by revision."""
    pods: dict[str | None, list[Manifest]] = {}
    for pod in cache.every(key, "Pod"):
        pods.setdefault(revision_of(pod), []).append(pod)
    found = {}
    for deployment in cache.every(key, "Deployment"):
        revision = revision_of(deployment)
        if revision is not None:
            found[revision] = observe_workload(revision, deployment, pods.get(revision, []))
    return found


def records(key: Key, cache: Cache) -> tuple[str, ...]:
    """Names of the ModelRevisions, oldest first."""
    found = [record["metadata"] for record in cache.every(key, "ModelRevision")]
    return tuple(
        meta["name"] for meta in sorted(found, key=lambda meta: (meta.get("creationTimestamp", ""), meta["name"]))
    )
