"""Carrying out a Plan: routes first, then pods, then what may go; only what differs, each write read back at once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from modelrollout.api.base import StatusModel
from modelrollout.api.errors import InvalidSpec
from modelrollout.api.modeldeployment import ModelDeployment, revision_name
from modelrollout.api.modelrevision import ModelRevisionStatus, parse_modelrevision, revision_status_from
from modelrollout.api.status import HISTORY_LIMIT, status_to_dict
from modelrollout.controller.cache import Cache, Key
from modelrollout.ports import (
    Cluster,
    ConflictError,
    Manifest,
    ObjectReference,
    PortError,
    TerminatingError,
    TransientError,
)
from modelrollout.render.names import is_ours, owner_uid
from modelrollout.render.names import observer as observer_name
from modelrollout.render.names import preview as preview_name
from modelrollout.render.readback import differs, observe_traffic
from modelrollout.render.revision import Revision, materials, model_revision
from modelrollout.render.route import ROUTE_KINDS, preview_routes, routes, without_observer
from modelrollout.render.service import disruption_budget, observer_service, service
from modelrollout.render.traffic_service import SERVICE, traffic_service
from modelrollout.render.upgrade import as_made
from modelrollout.render.workload import deployment as render_deployment
from modelrollout.rollout.plan import Plan, RoutePlan
from modelrollout.rollout.record import without_queries
from modelrollout.settings import Settings

_LOGGER = logging.getLogger(__name__)


def status_body(live: Manifest, status: StatusModel) -> Manifest:
    """The status write of a live object, refused by the API server if the object changed since it was read."""
    kept = {name: live["metadata"][name] for name in ("name", "namespace", "resourceVersion")}
    head = {"apiVersion": live["apiVersion"], "kind": live["kind"], "metadata": kept}
    return {**head, "status": status_to_dict(status)}


class Applier:
    """Writes what a Plan asks for. Every method raises the PortErrors of the cluster.

    ``observer`` gives the Service of a namespace's observer, None where it has none.
    """

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        settings: Settings,
        observer: Callable[[str], Manifest | None] = lambda _: None,
    ) -> None:
        self._cluster = cluster
        self._cache = cache
        self._settings = settings
        self._observer = observer

    async def apply(self, key: Key, wish: ModelDeployment, plan: Plan) -> PortError | None:
        """All objects of ``plan``, in the order that is safe when it is cut off anywhere.

        The route goes first: taking traffic off a bad revision must not wait for anything. What loses its pods
        goes last: its weight was read back as zero before the plan was made. Returns what keeps copies from the
        observer until a person removes it.
        """
        late = None
        if plan.route is not None:
            late = await self._direct(key, wish, plan.route)
        if plan.create_revision == revision_name(wish.metadata.name, wish.spec):
            await self._record(key, wish)
        for workload in plan.workloads:
            await self._fleet(key, wish, workload.revision, workload.replicas)
        for revision in plan.retire:
            if self._cache.get(key, "Deployment", revision) is not None:
                await self._fleet(key, wish, revision, 0, addressed=False)
        for name in plan.prune:
            await self._delete(key, wish, "ModelRevision", name)
        if isinstance(late, TransientError | ConflictError):
            raise late
        return late

    async def unobserve(self, key: Key, uid: str) -> None:
        """Take copies for the observer out of the routes of the owner ``uid`` where their Service is gone.

        Somebody deleted it by hand. Envoy Gateway answers all users with 500 meanwhile, so it waits for no decision:
        none may come (a spec that cannot be read), or it may leave the routes alone.
        """
        if self._cache.get(key, SERVICE, observer_name(key.name)) is not None:
            return
        for kind in ROUTE_KINDS:
            live = self._cache.get(key, kind, key.name)
            if live is None or not is_ours(live, uid):
                continue
            body = without_observer(live)
            if body is not None:
                _LOGGER.warning("%s/%s: the Service of the copies is gone, they end", *_names(key))
                self._cache.put(key, await self._change(body, live["metadata"]["uid"]))

    async def revision_status(self, key: Key, name: str, status: ModelRevisionStatus) -> None:
        """Put the newest attempt before the earlier ones in the status of a ModelRevision; absent ones are skipped.

        A contract that was not asked for this time stays: the revision is made of the same as before.
        """
        live = self._cache.get(key, "ModelRevision", name)
        if live is None:
            return
        earlier = revision_status_from(live.get("status"))
        numbers = {attempt.attempt for attempt in status.attempts}
        kept = tuple(without_queries(attempt) for attempt in earlier.attempts if attempt.attempt not in numbers)
        attempts = (*status.attempts, *kept)[:HISTORY_LIMIT]
        merged = status.model_copy(update={"attempts": attempts, "contract": status.contract or earlier.contract})
        body = status_body(live, merged)
        self._cache.put(key, await self._cluster.apply_status(body))

    async def _have(self, key: Key, body: Manifest) -> Manifest:
        live = self._cache.get(key, body["kind"], body["metadata"]["name"])
        if live is None or owner_uid(live) != owner_uid(body):
            # Also for one with our labels that somebody else owns: only create() looks before it touches it.
            stored = await self._cluster.create(body)
        elif differs(body, live):
            stored = await self._change(body, live["metadata"]["uid"])
        else:
            return live
        self._cache.put(key, stored)
        return stored

    async def _change(self, body: Manifest, uid: str) -> Manifest:
        try:
            return await self._cluster.apply({**body, "metadata": {**body["metadata"], "uid": uid}})
        except ConflictError:
            # Deleted while a watch was down (kopf never tells of that), or a mere race: create() finds out which.
            return await self._cluster.create(body)

    async def _record(self, key: Key, wish: ModelDeployment) -> None:
        name = revision_name(wish.metadata.name, wish.spec)
        if self._own_record(key, wish, name) is None:
            self._cache.put(key, await self._cluster.create(model_revision(wish, name)))

    async def _restored(self, key: Key, wish: ModelDeployment, name: str) -> Manifest | None:
        """The record of a revision that shall have pods and was deleted by somebody: made anew as it was last seen.

        The spec does not tell any more what it was made of, and without the record its pods and Service are collected
        and never come back, while users are sent to them.
        """
        last = self._cache.departed(key, "ModelRevision", name)
        if last is None or not is_ours(last, wish.metadata.uid):
            return None
        metadata = {part: last["metadata"][part] for part in ("name", "namespace", "labels", "ownerReferences")}
        body = {part: last[part] for part in ("apiVersion", "kind", "spec")} | {"metadata": metadata}
        self._cache.put(key, await self._cluster.create(body))
        _LOGGER.warning("%s/%s: the record of %s was deleted and is made anew", *_names(key), name)
        return self._own_record(key, wish, name)

    def _own_record(self, key: Key, wish: ModelDeployment, name: str) -> Manifest | None:
        """The ModelRevision, unless it is left over from a deleted ModelDeployment of the same name."""
        record = self._cache.get(key, "ModelRevision", name)
        return record if record is not None and is_ours(record, wish.metadata.uid) else None

    async def _direct(self, key: Key, wish: ModelDeployment, plan: RoutePlan) -> PortError | None:
        """Routes or the Service as ``plan`` has them; then what else of ours leads requests is dropped.

        Returns what kept copies from the observer: users and rollouts do not wait for that.
        """
        if plan.mirror is not None and not self._addressed(key, wish, plan.mirror.revision):
            # Envoy Gateway answers all users with 500 while the Service that gets their copies does not exist.
            plan = replace(plan, mirror=None)
        plan, late = await self._leading_to_observer(key, wish, plan)
        by_gateway = wish.spec.traffic.gateway is not None
        bodies = (*routes(wish, plan), *preview_routes(wish, plan)) if by_gateway else (traffic_service(wish, plan),)
        for body in bodies:
            await self._have(key, body)
        wanted = {(body["kind"], body["metadata"]["name"]) for body in bodies}
        for kind in ROUTE_KINDS:
            for name in (key.name, preview_name(key.name)):
                if (kind, name) not in wanted:
                    await self._delete(key, wish, kind, name)
        if by_gateway:
            await self._drop_service(key, wish, plan)
        if not plan.observe:
            await self._drop_observer(key, wish)
        return late

    async def _leading_to_observer(
        self, key: Key, wish: ModelDeployment, plan: RoutePlan
    ) -> tuple[RoutePlan, PortError | None]:
        """``plan`` with its copies where there is an observer; their Service comes before the route that names it."""
        observer = self._observer(key.namespace) if plan.observe else None
        if observer is None:
            return replace(plan, observe=0), None
        try:
            await self._have(key, observer_service(wish, observer))
        except TerminatingError:
            raise
        except PortError as error:
            _LOGGER.warning("%s/%s: nothing is copied to the observer: %s", *_names(key), error)
            return replace(plan, observe=0), error
        return plan, None

    async def _drop_observer(self, key: Key, wish: ModelDeployment) -> None:
        """The Service of the copies, once routes without any are in force."""
        live = self._cache.get(key, SERVICE, observer_name(key.name))
        if live is None or not is_ours(live, wish.metadata.uid):
            return
        route = observe_traffic(wish, lambda kind, name: self._cache.get(key, kind, name))
        if not route.observe and (route.accepted or not route.token):
            await self._delete(key, wish, SERVICE, observer_name(key.name))

    def _addressed(self, key: Key, wish: ModelDeployment, revision: str) -> bool:
        """Whether the Service of ``revision`` is there and ours."""
        record, live = self._own_record(key, wish, revision), self._cache.get(key, SERVICE, revision)
        return record is not None and live is not None and is_ours(live, record["metadata"]["uid"])

    async def _drop_service(self, key: Key, wish: ModelDeployment, plan: RoutePlan) -> None:
        """The Service of the time before there was a gateway. Its users keep it until the routes are in force."""
        live = self._cache.get(key, SERVICE, key.name)
        if live is None or not is_ours(live, wish.metadata.uid):
            return
        if observe_traffic(wish, lambda kind, name: self._cache.get(key, kind, name)).accepted:
            await self._delete(key, wish, SERVICE, key.name)
        else:
            await self._have(key, traffic_service(wish, plan))

    async def _fleet(
        self, key: Key, wish: ModelDeployment, name: str, replicas: int, *, addressed: bool = True
    ) -> None:
        """The Deployment of a revision; ``addressed`` its Service and PodDisruptionBudget too, also with no pods."""
        record = self._own_record(key, wish, name)
        if record is None and name == revision_name(wish.metadata.name, wish.spec):
            await self._record(key, wish)
            record = self._own_record(key, wish, name)
        if record is None and addressed:
            record = await self._restored(key, wish, name)
        if record is None:
            _LOGGER.warning("%s/%s: the record of %s is gone; its pods are left as they are", *_names(key), name)
            return
        try:
            revision = Revision.of(parse_modelrevision(record))
        except InvalidSpec as error:
            _LOGGER.warning("%s/%s: the record of %s cannot be read: %s", *_names(key), name, error)
            return
        live = self._cache.get(key, "Deployment", name)
        made = materials(revision, self._settings, live)
        if made is None:
            return
        await self._have(key, as_made(render_deployment(revision, replicas, made), live))
        if addressed:
            await self._have(key, service(revision))
            await self._have(key, disruption_budget(revision))

    async def _delete(self, key: Key, wish: ModelDeployment, kind: str, name: str) -> None:
        live = self._cache.get(key, kind, name)
        if live is not None and is_ours(live, wish.metadata.uid):
            uid = live["metadata"]["uid"]
            await self._cluster.delete(ObjectReference(kind, key.namespace, name), uid)
            self._cache.remove(key, kind, name, uid)


def _names(key: Key) -> tuple[str, str]:
    return key.namespace, key.name
