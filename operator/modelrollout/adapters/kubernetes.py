"""``ports.Cluster`` by server-side apply on static paths: no discovery, hardly a read, no model classes."""

from __future__ import annotations

import hashlib
import math
import socket
from dataclasses import dataclass
from typing import Any

from modelrollout.adapters.apierrors import Call, Failure, convert, one_line
from modelrollout.adapters.apiserver import APPLY, ApiServer, Window
from modelrollout.ports import (
    Clock,
    ConflictError,
    EventRecord,
    ForeignObjectError,
    Manifest,
    ObjectReference,
)

FIELD_MANAGER = "modelrollout"
REPORTING_CONTROLLER = "modelrollout.io/operator"
_NOTE_BYTES = 1024
_NAME_BYTES = 253

# No stored object is this old: where one exists the precondition always fails, and where none exists the API
# server ignores it. So server-side apply creates and never changes (tests/component/test_adapter_kubernetes).
_MUST_NOT_EXIST = "1"


@dataclass(frozen=True)
class Resource:
    """Where a kind lives: its group and version as in ``apiVersion``, and its plural."""

    api_version: str
    plural: str

    def path(self, namespace: str, name: str, subresource: str = "") -> str:
        """The URL path of one object."""
        root = "/apis" if "/" in self.api_version else "/api"
        path = f"{root}/{self.api_version}/namespaces/{namespace}/{self.plural}"
        return "/".join(part for part in (path, name, subresource) if part)


KINDS = {
    "ModelDeployment": Resource("modelrollout.io/v1alpha1", "modeldeployments"),
    "ModelRevision": Resource("modelrollout.io/v1alpha1", "modelrevisions"),
    "Deployment": Resource("apps/v1", "deployments"),
    "Service": Resource("v1", "services"),
    "PodDisruptionBudget": Resource("policy/v1", "poddisruptionbudgets"),
    "HTTPRoute": Resource("gateway.networking.k8s.io/v1", "httproutes"),
    "GRPCRoute": Resource("gateway.networking.k8s.io/v1", "grpcroutes"),
    "ConfigMap": Resource("v1", "configmaps"),
    "Lease": Resource("coordination.k8s.io/v1", "leases"),
    "Event": Resource("events.k8s.io/v1", "events"),
}


class KubernetesCluster:
    """Writes of one operator process.

    Parameters
    ----------
    server
        The connection; its timeout bounds every call.
    clock
        Gives events their time.
    write_window
        The fence (invariant I6), ``Leadership.write_window``: asked right before every request. Without time
        left nothing is sent, and a request that is sent gets no more time than is left.
    instance
        Who reports events; the host's name unless given.

    """

    def __init__(
        self,
        server: ApiServer,
        clock: Clock,
        *,
        write_window: Window = lambda: math.inf,
        instance: str | None = None,
    ) -> None:
        self._server = server
        self._clock = clock
        self._write_window = write_window
        self._instance = (instance or f"modelrollout-{socket.gethostname()}")[:128]

    async def apply(self, body: Manifest) -> Manifest:
        """Server-side apply with force; returns the stored object.

        Put the ``metadata.uid`` of the object as last seen in the body: without it an object that was deleted
        would be made anew, and one that took its place would be changed. A ``metadata.resourceVersion`` must
        still be the current one. Raises ConflictError, TransientError, DeniedError, RejectedError.
        """
        call = _call("apply", body)
        return await self._patch(call, body, force=True)

    async def create(self, body: Manifest) -> Manifest:
        """Make an object that does not exist; never changes one that does.

        An object of the same name that has our controller owner is one that we made (the answer was lost, or
        the cache is behind): it is applied and returned. Raises ForeignObjectError for any other,
        ConflictError while one of a former owner waits for garbage collection, and what ``apply`` raises.
        """
        call = _call("create", body)
        guarded = {**body, "metadata": {**body["metadata"], "resourceVersion": _MUST_NOT_EXIST}}
        try:
            return await self._patch(call, guarded, force=False)
        except ConflictError as error:
            stored = await self._read(call)
            if stored is None:
                raise error from None
        _refuse_foreign(call, body, stored)
        return await self.apply({**body, "metadata": {**body["metadata"], "uid": stored["metadata"]["uid"]}})

    async def apply_status(self, body: Manifest) -> Manifest:
        """Apply the status subresource with force; returns the stored object.

        ``metadata.resourceVersion`` is required: a status written over a newer one could lose a step. Raises
        what ``apply`` raises; ValueError without a resourceVersion.
        """
        call = _call("apply status of", body)
        if not body["metadata"].get("resourceVersion"):
            raise ValueError(f"{call.what}: metadata.resourceVersion is missing")
        return await self._patch(call, body, force=True, subresource="status")

    async def delete(self, reference: ObjectReference, uid: str) -> None:
        """Delete the object with this uid in the background; one that is gone is success.

        Raises ConflictError when another object has taken the name, TransientError, DeniedError.
        """
        call = Call("delete", reference.kind, reference.namespace, reference.name)
        path = KINDS[reference.kind].path(reference.namespace, reference.name)
        options: Manifest = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": uid},
            "propagationPolicy": "Background",
        }
        answer = await self._server.attempt(call, "DELETE", path, body=options, window=self._write_window)
        if isinstance(answer, Failure) and answer.code != 404:
            raise convert(call, answer)

    async def emit(self, event: EventRecord) -> None:
        """Post an event about ``event.regarding`` in its namespace; the message is cut at 1024 bytes.

        Raises the errors of ``apply``. An event is only news: the caller logs a failure and goes on.
        """
        body = self._event(event)
        call = _call("create", body)
        path = KINDS["Event"].path(call.namespace, "")
        answer = await self._server.attempt(call, "POST", path, body=body, window=self._write_window)
        # The name holds uid, reason and time, so one that exists is this very event whose answer was lost.
        if isinstance(answer, Failure) and answer.reason != "AlreadyExists":
            raise convert(call, answer)

    async def read(self, reference: ObjectReference) -> Manifest | None:
        """One GET; None where there is no such object. Raises TransientError, DeniedError, RejectedError."""
        call = Call("get", reference.kind, reference.namespace, reference.name)
        path = KINDS[reference.kind].path(reference.namespace, reference.name)
        answer = await self._server.attempt(call, "GET", path)
        if isinstance(answer, Failure):
            if answer.code == 404:
                return None
            raise convert(call, answer)
        return answer.body

    async def _patch(self, call: Call, body: Manifest, *, force: bool, subresource: str = "") -> Manifest:
        path = KINDS[call.kind].path(call.namespace, call.name, subresource)
        query = {"fieldManager": FIELD_MANAGER, "force": "true" if force else "false"}
        reply = await self._server.request(
            call, "PATCH", path, query=query, body=body, content_type=APPLY, window=self._write_window
        )
        return reply.body

    async def _read(self, call: Call) -> Manifest | None:
        """After a create met an object: whose is it? None: gone again."""
        return await self.read(ObjectReference(call.kind, call.namespace, call.name))

    def _event(self, event: EventRecord) -> Manifest:
        about = event.regarding
        metadata = about["metadata"]
        at = self._clock.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        identity = "\n".join((str(metadata["uid"]), event.reason, event.message, at))
        suffix = hashlib.blake2s(identity.encode(), digest_size=8).hexdigest()
        name = metadata["name"][: _NAME_BYTES - len(suffix) - 1]
        return {
            "apiVersion": KINDS["Event"].api_version,
            "kind": "Event",
            "metadata": {"name": f"{name}.{suffix}", "namespace": metadata["namespace"]},
            "eventTime": at,
            "reportingController": REPORTING_CONTROLLER,
            "reportingInstance": self._instance,
            "action": "Reconcile",
            "reason": event.reason,
            "type": "Warning" if event.warning else "Normal",
            "note": _bounded(event.message),
            "regarding": {
                "apiVersion": about["apiVersion"],
                "kind": about["kind"],
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
        }


def _call(verb: str, body: Manifest) -> Call:
    """Name a write. Raises ValueError for a kind or apiVersion that this adapter does not know."""
    kind, metadata = body["kind"], body["metadata"]
    resource = KINDS.get(kind)
    if resource is None or resource.api_version != body["apiVersion"]:
        raise ValueError(f"unknown kind {body['apiVersion']} {kind}")
    return Call(verb, kind, metadata["namespace"], metadata["name"])


def _refuse_foreign(call: Call, body: Manifest, stored: Manifest) -> None:
    """Return only if ``stored`` is ours and stays."""
    where = f"{call.kind} {call.namespace}/{call.name}"
    wanted, found = _controller(body), _controller(stored)
    if wanted is None or found is None:
        raise ForeignObjectError(f"{where} exists and has no owner, so it is not ours")
    if found.get("uid") == wanted["uid"]:
        if stored["metadata"].get("deletionTimestamp"):
            raise ConflictError(f"{call.what}: the old one is still being deleted")
        return
    if all(found.get(key) == wanted.get(key) for key in ("apiVersion", "kind", "name")):
        raise ConflictError(f"{call.what}: that of a deleted {found.get('kind')} is not collected yet")
    raise ForeignObjectError(f"{where} exists and belongs to {found.get('kind')} {found.get('name')}")


def _controller(manifest: Manifest) -> dict[str, Any] | None:
    for owner in manifest["metadata"].get("ownerReferences") or ():
        if owner.get("controller"):
            return dict(owner)
    return None


def _bounded(message: str) -> str:
    line = one_line(message, _NOTE_BYTES) or "-"
    return line.encode()[:_NOTE_BYTES].decode("utf-8", "ignore")
