"""From the cache and the newest measurements to the frozen Observed of one decision. No I/O."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from modelrollout.api.modeldeployment import ModelDeployment
from modelrollout.api.modelrevision import revision_status_from
from modelrollout.api.status import Outcome
from modelrollout.controller.cache import Cache, Key
from modelrollout.controller.claims import Claims
from modelrollout.controller.measurements import Record
from modelrollout.controller.obstacles import Obstacles
from modelrollout.evidence.check import guards_problem
from modelrollout.evidence.policies import Resolution
from modelrollout.ports import Manifest
from modelrollout.render.names import owner_uid, revision_of
from modelrollout.render.pods import observe_workload
from modelrollout.render.readback import observe_traffic
from modelrollout.render.revision import settings_problem
from modelrollout.rollout.observed import Evaluation, Observed, Workload
from modelrollout.settings import GatewayProfile, Settings

SERVICE_SETTLE = timedelta(seconds=2)
"""How long the nodes may lag behind the selector of a Service."""

_NO_VERDICT = (None, Outcome.SUPERSEDED, Outcome.ABORTED, Outcome.CONCLUDED)
"""Ends of an attempt that say nothing of how good the revision is."""


@dataclass(frozen=True)
class _Revision:
    """What a decision wants to know of a ModelRevision."""

    name: str
    uid: str
    created: str
    owner: str | None
    model: str
    version: str
    known_good: bool


def gather(
    key: Key,
    resolution: Resolution,
    cache: Cache,
    claims: Claims,
    record: Record,
    obstacles: Obstacles,
    settings: Settings,
    now: datetime,
    *,
    observer: bool = False,
) -> Observed:
    """Everything that the decision about the resolved wish may look at; ``observer``: its namespace has one."""
    deployment = resolution.wish
    uid = deployment.metadata.uid
    records = (each for each in cache.read(key, "ModelRevision", _revision) if uid and each.owner == uid)
    own = sorted(records, key=lambda each: (each.created, each.name, each.uid))
    route = observe_traffic(deployment, lambda kind, name: cache.get(key, kind, name))
    return Observed(
        workloads=workloads(key, cache, {each.uid for each in own}),
        route=replace(route, accepted_since=record.accepted_since(route, now)),
        probe=record.probe,
        gates=dict(record.gates),
        evaluation=_explained(_of_these_guards(record.evaluation, resolution), resolution),
        rested=record.rested,
        problem=settings_problem(deployment, settings)
        or resolution.problem
        or _guards_problem(key, resolution, settings),
        foreign=obstacles.foreign,
        denied=obstacles.denied,
        uncopied=obstacles.uncopied,
        settle=_settle(key, deployment, settings),
        records=tuple(each.name for each in own),
        known_good=frozenset(each.name for each in own if each.known_good),
        models={each.name: (each.model, each.version) for each in own},
        claimed=claims.claimed(key),
        silent_since=record.silent_since(route, now),
        definitions=resolution.definitions,
        observer=observer,
    )


def _of_these_guards(evaluation: Evaluation | None, resolution: Resolution) -> Evaluation | None:
    """The evaluation; none where a guard or its SLI was edited since, as after a restart.

    Who broke a bound that is gone would be taken back by the ``onBreach`` that comes with the new one.
    """
    if evaluation is None or evaluation.watch:
        return evaluation
    guards = {guard.name: guard for guard in resolution.wish.spec.rollout.guards}
    before = {each.name: each for each in evaluation.definitions}
    defined = {each.name: each for each in resolution.definitions}
    for asked in evaluation.asked:
        now = guards.get(asked.name, asked)
        if now != asked or (asked.sli is not None and before.get(asked.sli) != defined.get(asked.sli)):
            return None
    return evaluation


def _explained(evaluation: Evaluation | None, resolution: Resolution) -> Evaluation | None:
    """The evaluation; where a guard can never be judged, with the policy that it is of."""
    if evaluation is None or not any(result.invalid for result in evaluation.results):
        return evaluation
    return replace(
        evaluation,
        results=tuple(
            replace(result, invalid=f"{result.invalid}{resolution.whose(result.name)}") if result.invalid else result
            for result in evaluation.results
        ),
    )


def _guards_problem(key: Key, resolution: Resolution, settings: Settings) -> str | None:
    gateway = resolution.wish.spec.traffic.gateway
    profile = (
        settings.gateway(gateway.namespace or key.namespace, gateway.name).profile
        if gateway is not None
        else GatewayProfile.ENVOY_GATEWAY
    )
    problem = guards_problem(resolution.wish, settings.enforce_namespace, str(profile), resolution.definitions)
    return resolution.explained(problem)


def _settle(key: Key, deployment: ModelDeployment, settings: Settings) -> timedelta:
    gateway = deployment.spec.traffic.gateway
    if gateway is None:
        return SERVICE_SETTLE
    return settings.gateway(gateway.namespace or key.namespace, gateway.name).settle


def _revision(record: Manifest) -> _Revision:
    metadata, spec = record["metadata"], record.get("spec") or {}
    model = spec.get("model") or {}
    outcomes = (attempt.outcome for attempt in revision_status_from(record.get("status")).attempts)
    last = next((outcome for outcome in outcomes if outcome not in _NO_VERDICT), None)
    return _Revision(
        name=metadata["name"],
        uid=metadata["uid"],
        created=metadata.get("creationTimestamp", ""),
        owner=owner_uid(record),
        model=str(model.get("name") or spec.get("modelDeployment") or ""),
        version=str(spec.get("version") or ""),
        known_good=last is Outcome.PROMOTED,
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
