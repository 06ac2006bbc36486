"""The handlers: each keeps the cache and wakes a key.

Only ``index`` and ``on.event`` are used: kopf then writes nothing to the objects, and no event is handled before
every kind has been listed once, so the first decision already sees everything.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container
from dataclasses import dataclass
from typing import Any

import kopf

from modelrollout.controller.cache import Cache, Key, namespace_key
from modelrollout.render.names import SELECTOR, SERVICE_SELECTOR, deployment_of, is_observer


@dataclass(frozen=True)
class Watched:
    """A kind that is watched.

    ``own`` marks the ModelDeployment itself, ``policy`` what concerns many of them; all others are children by label.
    ``cluster``: it lies in no namespace.
    """

    group: str
    version: str
    plural: str
    kind: str
    own: bool = False
    policy: bool = False
    cluster: bool = False

    @property
    def labelled(self) -> bool:
        """Whether only those with our labels are watched."""
        return not (self.own or self.policy)

    @property
    def api_version(self) -> str:
        """As in manifests: list items come without it."""
        return f"{self.group}/{self.version}" if self.group else self.version


KINDS = (
    Watched("modelrollout.io", "v1alpha1", "modeldeployments", "ModelDeployment", own=True),
    Watched("modelrollout.io", "v1alpha1", "modelrevisions", "ModelRevision"),
    Watched("apps", "v1", "deployments", "Deployment"),
    Watched("", "v1", "pods", "Pod"),
    Watched("", "v1", "services", "Service"),
    Watched("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget"),
    Watched("gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute"),
    Watched("gateway.networking.k8s.io", "v1", "grpcroutes", "GRPCRoute"),
    Watched("modelrollout.io", "v1alpha1", "rolloutpolicies", "RolloutPolicy", policy=True),
    Watched("modelrollout.io", "v1alpha1", "clusterrolloutpolicies", "ClusterRolloutPolicy", policy=True, cluster=True),
)


def registry_of(
    cache: Cache,
    wake: Callable[[Key], None],
    login: Callable[[], Awaitable[kopf.ConnectionInfo]],
    without: Container[str] = (),
) -> kopf.OperatorRegistry:
    """All handlers in a registry of their own: no globals. Kinds in ``without`` are not watched."""
    registry = kopf.OperatorRegistry()
    for watched in KINDS:
        if watched.kind not in without:
            _watch(registry, watched, cache, wake)

    @kopf.on.login(registry=registry)
    async def log_in(**_: Any) -> kopf.ConnectionInfo:
        return await login()

    return registry


def _watch(registry: kopf.OperatorRegistry, watched: Watched, cache: Cache, wake: Callable[[Key], None]) -> None:
    resource = (watched.group, watched.version, watched.plural)
    suffix = watched.kind.lower()

    @kopf.index(*resource, id=f"seen-{suffix}", registry=registry)
    async def seen(body: kopf.Body, **_: Any) -> None:
        manifest = {**body, "apiVersion": watched.api_version, "kind": watched.kind}
        key = key_of(watched, manifest)
        if key is not None:
            cache.put(key, manifest)

    @kopf.on.event(*resource, id=f"changed-{suffix}", registry=registry)
    async def changed(event: Any, **_: Any) -> None:
        manifest = event["object"]
        key = key_of(watched, manifest)
        if key is None:
            return
        if event["type"] == "DELETED":
            metadata = manifest["metadata"]
            cache.remove(key, watched.kind, metadata["name"], metadata.get("uid", ""), metadata.get("resourceVersion"))
        wake(key)


def missed(cache: Cache, wake: Callable[[Key], None]) -> Callable[[str, str | None, set[str], str], None]:
    """What to do after each whole list: forget what is not in it any more, and wake those to whom it belonged."""
    kinds = {watched.plural: watched.kind for watched in KINDS}

    def listed(plural: str, namespace: str | None, uids: set[str], version: str) -> None:
        if plural in kinds:
            for key in cache.keep_only(kinds[plural], namespace, uids, version):
                wake(key)

    return listed


def key_of(watched: Watched, manifest: Any) -> Key | None:
    """The ModelDeployment that an object is or belongs to.

    The observer's Service and policies belong to their whole namespace, a ClusterRolloutPolicy to that of no name.
    """
    metadata = manifest["metadata"]
    if watched.policy:
        return namespace_key(metadata.get("namespace") or "")
    if watched.kind == "Service" and is_observer(manifest):
        return namespace_key(metadata["namespace"])
    name = metadata["name"] if watched.own else deployment_of(manifest)
    return Key(metadata["namespace"], name) if name else None


def kopf_settings() -> kopf.OperatorSettings:
    """Watching that notices a dead connection soon, and a kopf that writes and posts nothing by itself."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 310
    settings.watching.connect_timeout = 30
    settings.watching.chunk_size = 500
    settings.watching.initial_streaming = False  # see listing.py
    for watched in KINDS:
        if watched.labelled:
            selector = SERVICE_SELECTOR if watched.kind == "Service" else SELECTOR
            settings.watching.label_selectors[watched.plural] = selector
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 10
    settings.networking.enforce_retry_after = True
    # kopf would otherwise throttle an object for up to ten minutes after errors, a rollback included.
    settings.queueing.error_delays = (1, 2, 5)
    settings.scanning.disabled = True
    settings.execution.max_workers = 2
    return settings
