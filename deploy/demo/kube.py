"""A small asynchronous door to the Kubernetes API: plain dicts in and out, apply, watch and wait.

Only the kinds the demo and the tests touch are known; ``KINDS`` says where each lives.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient

Object = dict[str, Any]

KINDS: dict[str, tuple[str, str]] = {
    "Namespace": ("api/v1", "namespaces"),
    "Secret": ("api/v1", "secrets"),
    "ConfigMap": ("api/v1", "configmaps"),
    "Service": ("api/v1", "services"),
    "ServiceAccount": ("api/v1", "serviceaccounts"),
    "Pod": ("api/v1", "pods"),
    "PersistentVolumeClaim": ("api/v1", "persistentvolumeclaims"),
    "PersistentVolume": ("api/v1", "persistentvolumes"),
    "ResourceQuota": ("api/v1", "resourcequotas"),
    "Event": ("apis/events.k8s.io/v1", "events"),
    "Deployment": ("apis/apps/v1", "deployments"),
    "ReplicaSet": ("apis/apps/v1", "replicasets"),
    "NetworkPolicy": ("apis/networking.k8s.io/v1", "networkpolicies"),
    "PodDisruptionBudget": ("apis/policy/v1", "poddisruptionbudgets"),
    "Lease": ("apis/coordination.k8s.io/v1", "leases"),
    "Role": ("apis/rbac.authorization.k8s.io/v1", "roles"),
    "RoleBinding": ("apis/rbac.authorization.k8s.io/v1", "rolebindings"),
    "CustomResourceDefinition": ("apis/apiextensions.k8s.io/v1", "customresourcedefinitions"),
    "GatewayClass": ("apis/gateway.networking.k8s.io/v1", "gatewayclasses"),
    "Gateway": ("apis/gateway.networking.k8s.io/v1", "gateways"),
    "HTTPRoute": ("apis/gateway.networking.k8s.io/v1", "httproutes"),
    "GRPCRoute": ("apis/gateway.networking.k8s.io/v1", "grpcroutes"),
    "EnvoyProxy": ("apis/gateway.envoyproxy.io/v1alpha1", "envoyproxies"),
    "ModelDeployment": ("apis/modelrollout.io/v1alpha1", "modeldeployments"),
    "ModelRevision": ("apis/modelrollout.io/v1alpha1", "modelrevisions"),
    "RolloutPolicy": ("apis/modelrollout.io/v1alpha1", "rolloutpolicies"),
    "ClusterRolloutPolicy": ("apis/modelrollout.io/v1alpha1", "clusterrolloutpolicies"),
}
"""Kind: group and version as in the path, plural."""


AGENT = "modelrollout-demo"
"""Our user agent, told apart from the operator's in the audit log."""


class KubeError(Exception):
    """The API server answered with an error; ``status`` is its HTTP status and the message its own sentence."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


class WaitError(Exception):
    """Something waited for did not come; the message says what was expected and what is."""


class Kube:
    """One API server. Use as ``async with Kube.connect(path) as kube``."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(cls, kubeconfig: Path) -> AsyncIterator[Kube]:
        """Open the cluster that ``kubeconfig`` names (its current context)."""
        client = await config.new_client_from_config(config_file=str(kubeconfig), persist_config=False)
        try:
            yield cls(client)
        finally:
            await client.close()

    async def request(
        self,
        method: str,
        path: str,
        body: object = None,
        content_type: str = "application/json",
        within: float | None = 30.0,
    ) -> Any:
        """One request; the stream of its answer is the caller's. Raises KubeError on an error status."""
        headers = {
            "Content-Type": content_type,
            "Accept": "application/json",
            "User-Agent": "modelrollout-demo",
        }
        await self._client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        response = await self._client.call_api(
            method,
            f"{self._client.configuration.host}/{path}",
            headers,
            body,
            _request_timeout=aiohttp.ClientTimeout(total=within, sock_connect=10.0),
        )
        if response.status >= 400:
            text = (await response.read()).decode(errors="replace")
            with contextlib.suppress(ValueError, AttributeError):
                text = json.loads(text).get("message", text)
            raise KubeError(response.status, text)
        return response.response

    async def _json(self, method: str, path: str, body: object = None, content_type: str = "") -> Object:
        answer = await self.request(method, path, body, content_type or "application/json")
        content: Object = json.loads(await answer.read())
        return content

    async def get(self, kind: str, namespace: str | None, name: str) -> Object | None:
        """The object, or None where there is none."""
        try:
            return await self._json("GET", path_of(kind, namespace, name))
        except KubeError as error:
            if error.status == 404:
                return None
            raise

    async def list(self, kind: str, namespace: str | None = None, labels: str = "") -> list[Object]:
        """All objects of a kind, in one namespace or in all, chosen by a label selector."""
        query = f"?{urlencode({'labelSelector': labels})}" if labels else ""
        answer = await self._json("GET", path_of(kind, namespace) + query)
        return [{"kind": kind, **item} for item in answer["items"]]

    async def apply(self, body: Object, manager: str = "demo") -> Object:
        """Server-side apply, forced, under ``manager``."""
        metadata = body["metadata"]
        path = path_of(body["kind"], metadata.get("namespace"), metadata["name"])
        query = urlencode({"fieldManager": manager, "force": "true", "fieldValidation": "Strict"})
        return await self._json("PATCH", f"{path}?{query}", body, "application/apply-patch+yaml")

    async def patch(self, kind: str, namespace: str | None, name: str, body: Object) -> Object:
        """JSON merge patch."""
        path = path_of(kind, namespace, name)
        return await self._json("PATCH", f"{path}?fieldManager=demo", body, "application/merge-patch+json")

    async def delete(self, kind: str, namespace: str | None, name: str, grace: int | None = None) -> bool:
        """Delete in the background, pods with ``grace`` seconds to end; False where there was nothing."""
        query = f"?gracePeriodSeconds={grace}" if grace is not None else ""
        try:
            await self._json("DELETE", path_of(kind, namespace, name) + query)
        except KubeError as error:
            if error.status == 404:
                return False
            raise
        return True

    async def watch(self, kind: str, namespace: str) -> AsyncIterator[tuple[str, Object]]:
        """Follow a kind in a namespace for ever, as (ADDED | MODIFIED | DELETED, object).

        A broken connection is taken up again from a fresh list, so what changed in the gap arrives as ADDED;
        a refusal (KubeError with a 4xx status) ends it.
        """
        while True:
            try:
                listed = await self._json("GET", path_of(kind, namespace))
                for item in listed["items"]:
                    yield "ADDED", {"kind": kind, **item}
                query = urlencode({"watch": "1", "resourceVersion": listed["metadata"]["resourceVersion"]})
                answer = await self.request("GET", f"{path_of(kind, namespace)}?{query}", within=None)
                async with answer:
                    async for line in answer.content:
                        change = json.loads(line)
                        if change["type"] == "ERROR":
                            break
                        yield change["type"], change["object"]
            except KubeError as error:
                if error.status < 500 and error.status not in (410, 429):
                    raise
            except (aiohttp.ClientError, TimeoutError, ValueError):
                pass
            await asyncio.sleep(0.5)

    async def wait(
        self,
        kind: str,
        namespace: str | None,
        name: str,
        met: Callable[[Object | None], bool],
        expected: str,
        within: float = 60.0,
        interval: float = 0.3,
    ) -> Object | None:
        """Wait until ``met`` holds for the object (None: there is none), and return it.

        Raises WaitError after ``within`` seconds, naming what was ``expected`` and what is.
        """
        end = time.monotonic() + within
        while True:
            found = await self.get(kind, namespace, name)
            if met(found):
                return found
            if time.monotonic() > end:
                raise WaitError(f"expected within {within:.0f} s: {expected}; is: {describe(found)}")
            await asyncio.sleep(interval)

    async def wait_gone(self, kind: str, namespace: str | None, name: str, within: float = 120.0) -> None:
        """Wait until the object is gone."""
        gone = f"{kind} {name} is gone"
        await self.wait(kind, namespace, name, lambda found: found is None, gone, within)


def path_of(kind: str, namespace: str | None = None, name: str | None = None) -> str:
    """The path of an object or a collection, without the leading slash."""
    group, plural = KINDS[kind]
    parts = [group]
    if namespace is not None:
        parts += ["namespaces", namespace]
    parts.append(plural)
    if name is not None:
        parts.append(name)
    return "/".join(parts)


def describe(found: Object | None) -> str:
    """One line about an object: its phase and message, or its conditions, or that it is not there."""
    if found is None:
        return "it does not exist"
    status = found.get("status") or {}
    if "phase" in status:
        return f"phase {status['phase']}: {status.get('message', '')}"
    conditions = [f"{c.get('type')}={c.get('status')}" for c in status.get("conditions", [])]
    return ", ".join(conditions) or "it has no status"
