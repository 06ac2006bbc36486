"""The Service and the PodDisruptionBudget of one revision, and the Service by which copies reach the observer."""

from __future__ import annotations

from modelrollout.api.modeldeployment import ModelDeployment
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


def observer_service(deployment: ModelDeployment, observer: Manifest) -> Manifest:
    """The Service that the routes name for copies: it finds the pods that ``observer``, the platform's Service, finds.

    It lives as long as the routes copy anything, whatever becomes of the platform's.
    """
    metadata, name = deployment.metadata, deployment.metadata.name
    owner = names.owner_reference("ModelDeployment", name, metadata.uid)
    body = names.child("v1", "Service", names.observer(name), metadata.namespace, names.labels(name), owner)
    kept = ("name", "port", "targetPort", "protocol", "appProtocol")
    found = [{key: port[key] for key in kept if key in port} for port in observer["spec"]["ports"]]
    body["spec"] = {
        "type": "ClusterIP",
        "selector": dict(observer["spec"]["selector"]),
        "ports": [port for port in found if port.get("port") in (names.HTTP_PORT, names.GRPC_PORT)],
    }
    return body


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
