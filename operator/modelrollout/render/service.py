"""The Service and the PodDisruptionBudget of one revision."""

from __future__ import annotations

from modelrollout.ports import Manifest
from modelrollout.render import names
from modelrollout.render.revision import Revision
from modelrollout.render.workload import selector


def service(revision: Revision) -> Manifest:
    """The Service that the routes name: HTTP, gRPC and metrics of the revision's pods."""
    body = names.child("v1", "Service", revision.name, revision.namespace, revision.labels, revision.owner)
    body["spec"] = {
        "type": "ClusterIP",
        "selector": selector(revision),
        "ports": ports(),
    }
    return body


def ports() -> list[dict[str, object]]:
    """HTTP, gRPC and metrics, by the names that the pods give them."""
    return [
        _port("http", names.HTTP_PORT, "http"),
        _port("grpc", names.GRPC_PORT, "kubernetes.io/h2c"),
        _port("metrics", names.METRICS_PORT, "http"),
    ]


def disruption_budget(revision: Revision) -> Manifest:
    """At most one pod away at a time for node drains; a pod that is not ready never holds a drain up."""
    body = names.child(
        "policy/v1",
        "PodDisruptionBudget",
        revision.name,
        revision.namespace,
        revision.labels,
        revision.owner,
    )
    body["spec"] = {
        "maxUnavailable": 1,
        "selector": {"matchLabels": selector(revision)},
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
    return body


def _port(name: str, number: int, protocol: str) -> dict[str, object]:
    return {
        "name": name,
        "port": number,
        "targetPort": name,
        "protocol": "TCP",
        "appProtocol": protocol,
    }
