"""From the cache and the newest measurements to the frozen Observed of one decision. No I/O."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace

from modelrollout.api.modeldeployment import ModelDeployment
from modelrollout.controller.cache import Cache, Key
from modelrollout.controller.measurements import Record
from modelrollout.controller.obstacles import Obstacles
from modelrollout.evidence.check import guards_problem
from modelrollout.ports import Manifest
from modelrollout.render.names import is_ours, owner_uid, revision_of
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
    uid = deployment.metadata.uid
    own = sorted(
        (meta.get("creationTimestamp", ""), meta["name"], meta["uid"])
        for meta in (each["metadata"] for each in cache.every(key, "ModelRevision") if is_ours(each, uid))
    )
    routes = (cache.get(key, kind, key.name) for kind in route_kinds(deployment))
    return Observed(
        workloads=workloads(key, cache, {revision_uid for _, _, revision_uid in own}),
        route=observe_routes([route if route and is_ours(route, uid) else None for route in routes]),
        probe=record.probe,
        gates=dict(record.gates),
        evaluation=record.evaluation,
        problem=settings_problem(deployment, settings) or guards_problem(deployment),
        foreign=obstacles.foreign,
        denied=obstacles.denied,
        settle=profile.settle,
        records=tuple(name for _, name, _ in own),
    )


def workloads(key: Key, cache: Cache, owners: Set[str]) -> dict[str, Workload]:
    """The pods of every revision that has a Deployment, by revision.

    Only Deployments of our own ModelRevisions (their uids are ``owners``): those of a ModelDeployment of the same
    name that was deleted are about to go, and somebody else's only bear our labels.
    """
    pods: dict[str | None, list[Manifest]] = {}
    for pod in cache.every(key, "Pod"):
        pods.setdefault(revision_of(pod), []).append(pod)
    found = {}
    for deployment in cache.every(key, "Deployment"):
        revision = revision_of(deployment)
        if revision is not None and owner_uid(deployment) in owners:
            address = cache.get(key, "Service", revision)
            addressed = address is not None and owner_uid(address) == owner_uid(deployment)
            found[revision] = replace(
                observe_workload(revision, deployment, pods.get(revision, [])), addressed=addressed
            )
    return found
