"""HTTPRoute and GRPCRoute: two fixed slots by weight, then one rule a revision for pinned requests."""

from __future__ import annotations

from typing import Any

from modelrollout.api.modeldeployment import ModelDeployment
from modelrollout.ports import Manifest
from modelrollout.render import names
from modelrollout.rollout.plan import WHOLE, RoutePlan, Slot

ROUTE_API = "gateway.networking.k8s.io/v1"
HTTP_ROUTE, GRPC_ROUTE = "HTTPRoute", "GRPCRoute"


def routes(deployment: ModelDeployment, plan: RoutePlan) -> tuple[Manifest, ...]:
    """Every route that ``spec.traffic`` asks for, all with the same weights."""
    makers = {HTTP_ROUTE: http_route, GRPC_ROUTE: grpc_route}
    return tuple(makers[kind](deployment, plan) for kind in route_kinds(deployment))


def route_kinds(deployment: ModelDeployment) -> tuple[str, ...]:
    """The kinds of route that ``spec.traffic`` asks for; one of ours of the other kind is to be deleted."""
    traffic = deployment.spec.traffic
    asked = ((HTTP_ROUTE, traffic.http), (GRPC_ROUTE, traffic.grpc))
    return tuple(kind for kind, part in asked if part is not None)


def http_route(deployment: ModelDeployment, plan: RoutePlan) -> Manifest:
    """The HTTPRoute for ``spec.traffic.http``. Raises ValueError for weights that do not sum to the whole."""
    part = deployment.spec.traffic.http
    if part is None:
        raise ValueError("spec.traffic.http is not given")

    def rule(backends: list[dict[str, Any]], pinned: dict[str, Any] | None) -> dict[str, Any]:
        match: dict[str, Any] = {"path": {"type": "PathPrefix", "value": "/"}}
        if pinned:
            match["headers"] = [pinned]
        # Without this Envoy ends every request after 15 seconds, which a large model needs for one inference.
        return {"matches": [match], "backendRefs": backends, "timeouts": {"request": "0s"}}

    return _route(HTTP_ROUTE, deployment, list(part.hostnames), _rules(plan, names.HTTP_PORT, rule))


def grpc_route(deployment: ModelDeployment, plan: RoutePlan) -> Manifest:
    """The GRPCRoute for ``spec.traffic.grpc``. Raises ValueError for weights that do not sum to the whole.

    Gateway API has no timeouts on a GRPCRoute: the gateway's default (15 s at Envoy) needs its own policy.
    """
    part = deployment.spec.traffic.grpc
    if part is None:
        raise ValueError("spec.traffic.grpc is not given")

    def rule(backends: list[dict[str, Any]], pinned: dict[str, Any] | None) -> dict[str, Any]:
        matches = {"matches": [{"headers": [pinned]}]} if pinned else {}
        return {**matches, "backendRefs": backends}

    return _route(GRPC_ROUTE, deployment, list(part.hostnames), _rules(plan, names.GRPC_PORT, rule))


def _route(kind: str, deployment: ModelDeployment, hostnames: list[str], rules: list[dict[str, Any]]) -> Manifest:
    metadata = deployment.metadata
    body = names.child(
        ROUTE_API,
        kind,
        metadata.name,
        metadata.namespace,
        names.labels(metadata.name),
        names.owner_reference("ModelDeployment", metadata.name, metadata.uid),
    )
    body["spec"] = {"parentRefs": [_parent(deployment)], "hostnames": hostnames, "rules": rules}
    return body


def _parent(deployment: ModelDeployment) -> dict[str, Any]:
    gateway = deployment.spec.traffic.gateway
    return {
        "group": "gateway.networking.k8s.io",
        "kind": "Gateway",
        "namespace": gateway.namespace or deployment.metadata.namespace,
        "name": gateway.name,
    }


def _rules(plan: RoutePlan, port: int, rule: Any) -> list[dict[str, Any]]:
    weights = [slot.weight for slot in plan.slots]
    if sum(weights) != WHOLE or min(weights) < 0:
        raise ValueError(f"weights {weights} do not sum to {WHOLE}")
    if any(slot.revision is None and slot.weight for slot in plan.slots):
        raise ValueError("an empty slot has weight")
    weighted = [_backend(slot.revision or plan.stable, slot.weight, port) for slot in plan.slots]
    rules = [rule(weighted, None)]
    for revision in _occupants(plan.slots):
        header = {"type": "Exact", "name": names.REVISION_HEADER, "value": revision}
        rules.append(rule([_backend(revision, 1, port)], header))
    return rules


def _occupants(slots: tuple[Slot, Slot]) -> list[str]:
    """Revisions of the occupied slots, each once, in slot order."""
    return list(dict.fromkeys(slot.revision for slot in slots if slot.revision is not None))


def _backend(revision: str, weight: int, port: int) -> dict[str, Any]:
    # The filter is what makes Envoy Gateway keep a cluster, and so statistics, for each backend of a rule.
    return {
        "group": "",
        "kind": "Service",
        "name": revision,
        "port": port,
        "weight": weight,
        "filters": [
            {
                "type": "ResponseHeaderModifier",
                "responseHeaderModifier": {"set": [{"name": names.REVISION_HEADER, "value": revision}]},
            }
        ],
    }
