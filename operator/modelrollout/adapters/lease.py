"""``ports.Leases`` on one coordination.k8s.io/v1 Lease: plain reads and writes, each guarded and bounded."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

from modelrollout.adapters.apierrors import Call, Failure, convert
from modelrollout.adapters.apiserver import ApiServer
from modelrollout.adapters.kubernetes import KINDS
from modelrollout.ports import LeaseRecord, Manifest

_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"


class KubernetesLeases:
    """The Lease ``namespace/name``. Not fenced by the lease itself: it is how the lease is kept."""

    def __init__(self, server: ApiServer, namespace: str, name: str) -> None:
        self._server = server
        self._namespace = namespace
        self._name = name

    async def read(self) -> LeaseRecord | None:
        """Return the record, None where there is none. Raises TransientError, DeniedError."""
        call = self._call("get")
        answer = await self._server.attempt(call, "GET", self._path(self._name))
        if not isinstance(answer, Failure):
            return _record(answer.body)
        if answer.code == 404:
            return None
        raise convert(call, answer)

    async def create(self, record: LeaseRecord) -> LeaseRecord:
        """Make the Lease; raises ConflictError when another process was first."""
        reply = await self._server.request(self._call("create"), "POST", self._path(""), body=self._manifest(record))
        return _record(reply.body)

    async def update(self, record: LeaseRecord) -> LeaseRecord:
        """Replace the Lease; raises ConflictError unless ``record.version`` is the current one."""
        if not record.version:
            raise ValueError("a lease is only written over a version that was read")
        reply = await self._server.request(
            self._call("update"), "PUT", self._path(self._name), body=self._manifest(record)
        )
        return _record(reply.body)

    def _call(self, verb: str) -> Call:
        return Call(verb, "Lease", self._namespace, self._name)

    def _path(self, name: str) -> str:
        return KINDS["Lease"].path(self._namespace, name)

    def _manifest(self, record: LeaseRecord) -> Manifest:
        metadata = {"name": self._name, "namespace": self._namespace}
        if record.version:
            # Both: by a PUT with the resourceVersion alone the API server would revive a Lease that was deleted.
            metadata["uid"], metadata["resourceVersion"] = record.version.split("/", 1)
        spec: dict[str, Any] = {
            "holderIdentity": record.holder,
            "leaseDurationSeconds": max(1, math.ceil(record.duration)),
            "leaseTransitions": record.transitions,
        }
        if record.acquired_at is not None:
            spec["acquireTime"] = record.acquired_at.astimezone(UTC).strftime(_TIME)
        if record.renewed_at is not None:
            spec["renewTime"] = record.renewed_at.astimezone(UTC).strftime(_TIME)
        return {
            "apiVersion": KINDS["Lease"].api_version,
            "kind": "Lease",
            "metadata": metadata,
            "spec": spec,
        }


def _record(manifest: Manifest) -> LeaseRecord:
    """Read a Lease that any program may have written: only the API server's own schema is relied on."""
    spec = manifest.get("spec") or {}
    metadata = manifest["metadata"]
    return LeaseRecord(
        holder=spec.get("holderIdentity") or "",
        duration=float(spec.get("leaseDurationSeconds") or 0),
        acquired_at=_time(spec.get("acquireTime")),
        renewed_at=_time(spec.get("renewTime")),
        transitions=int(spec.get("leaseTransitions") or 0),
        version=f"{metadata['uid']}/{metadata['resourceVersion']}",
    )


def _time(value: str | None) -> datetime | None:
    return datetime.fromisoformat(value) if value else None
