"""HTTPRoute and GRPCRoute: two fixed slots by weight, one rule a revision for pinned requests; routes of previews."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelrollout.api.modeldeployment import ABTest, Hosts, ModelDeployment
from modelrollout.ports import Manifest
from modelrollout.render import names
from modelrollout.render.matches import EVERY_REQUEST, Match, cookie_for, grpc_matches, http_matches, pinned
from modelrollout.rollout.plan import WHOLE, Mirror, RoutePlan, Slot

ROUTE_API = "gateway.networking.k8s.io/v1"
HTTP_ROUTE, GRPC_ROUTE = "HTTPRoute", "GRPCRoute"
ROUTE_KINDS = (HTTP_ROUTE, GRPC_ROUTE)

_PORTS = {HTTP_ROUTE: names.HTTP_PORT, GRPC_ROUTE: names.GRPC_PORT}
Body = dict[str, Any]


def routes(deployment: ModelDeployment, plan: RoutePlan) -> tuple[Manifest, ...]:
    """Every route that ``spec.traffic`` asks for, all with the same weights.

    Raises ValueError for weights that do not sum to the whole, and for a mirror or split that cannot be.
    """
    _check(plan)
    found = []
    for kind, hosts in _asked(deployment.spec.traffic).items():
        route = _route(kind, deployment, deployment.metadata.name, hosts, _rules(kind, deployment, plan))
        if plan.split is not None:
            route["metadata"]["annotations"] = {names.ANNOTATION_SPLIT: plan.split}
        found.append(route)
    return tuple(found)


def without_observer(route: Manifest) -> Manifest | None:
    """A live route as it is to be applied without the copies for the observer; None where it has none."""
    rules = (route.get("spec") or {}).get("rules") or []
    if not any(_is_observers(entry) for rule in rules for entry in rule.get("filters") or ()):
        return None
    metadata = {
        part: route["metadata"][part]
        for part in ("name", "namespace", "labels", "annotations", "ownerReferences")
        if part in route["metadata"]
    }
    kept = []
    for rule in rules:
        filters = [entry for entry in rule.get("filters") or () if not _is_observers(entry)]
        backends = [
            entry for entry in rule.get("backendRefs") or () if not names.leads_to_observer(str(entry.get("name")))
        ]
        rest = {key: value for key, value in rule.items() if key != "filters"} | {"backendRefs": backends}
        kept.append({**rest, "filters": filters} if filters else rest)
    spec = {**route["spec"], "rules": kept}
    return {"apiVersion": ROUTE_API, "kind": route["kind"], "metadata": metadata, "spec": spec}


def _is_observers(entry: Body) -> bool:
    backend = (entry.get("requestMirror") or {}).get("backendRef") or {}
    return names.leads_to_observer(str(backend.get("name") or ""))


def route_kinds(deployment: ModelDeployment) -> tuple[str, ...]:
    """The kinds of route that ``spec.traffic`` asks for; one of ours of another kind is to be deleted."""
    return tuple(_asked(deployment.spec.traffic))


def preview_routes(deployment: ModelDeployment, plan: RoutePlan) -> tuple[Manifest, ...]:
    """The routes of the preview hostnames: all their requests go to ``plan.preview``, else to the stable revision."""
    revision = plan.preview or plan.stable
    return tuple(
        _route(
            kind,
            deployment,
            names.preview(deployment.metadata.name),
            hosts,
            [_rule(kind, (EVERY_REQUEST,), [_backend(revision, 1, _PORTS[kind])])],
        )
        for kind, hosts in _previewed(deployment).items()
    )


def preview_kinds(deployment: ModelDeployment) -> tuple[str, ...]:
    """The kinds of route that the preview asks for."""
    return tuple(_previewed(deployment))


def _previewed(deployment: ModelDeployment) -> dict[str, Hosts]:
    blue_green = deployment.spec.rollout.blue_green
    if deployment.spec.traffic.gateway is None or blue_green is None or blue_green.preview is None:
        return {}
    return _asked(blue_green.preview)


def _asked(part: Any) -> dict[str, Hosts]:
    """The hostnames of each protocol that ``part`` (traffic or preview) has, by kind of route."""
    asked = {HTTP_ROUTE: part.http, GRPC_ROUTE: part.grpc}
    return {kind: hosts for kind, hosts in asked.items() if hosts is not None}


def _route(kind: str, deployment: ModelDeployment, name: str, hosts: Hosts, rules: list[Body]) -> Manifest:
    metadata = deployment.metadata
    body = names.child(
        ROUTE_API,
        kind,
        name,
        metadata.namespace,
        names.labels(metadata.name),
        names.owner_reference("ModelDeployment", metadata.name, metadata.uid),
    )
    body["spec"] = {"parentRefs": [_parent(deployment)], "hostnames": list(hosts.hostnames), "rules": rules}
    return body


def _parent(deployment: ModelDeployment) -> Body:
    gateway = deployment.spec.traffic.gateway
    if gateway is None:
        raise ValueError("spec.traffic.gateway is not given")
    return {
        "group": "gateway.networking.k8s.io",
        "kind": "Gateway",
        "namespace": gateway.namespace or deployment.metadata.namespace,
        "name": gateway.name,
    }


def _rules(kind: str, deployment: ModelDeployment, plan: RoutePlan) -> list[Body]:
    port = _PORTS[kind]
    test = None if plan.split is None else deployment.spec.rollout.ab_test or ABTest()
    weighted = [_backend(slot.revision or plan.stable, slot.weight, port, test) for slot in plan.slots]
    copies = [] if plan.mirror is None else [plan.mirror]
    if plan.observe:
        # The last one: statistics are told apart by the place, and the shadow's place is the first.
        copies.append(Mirror(names.observer(deployment.metadata.name), plan.observe))
    filters = [_mirror(mirror, port) for mirror in copies]
    rules = [_rule(kind, (EVERY_REQUEST,), weighted, filters)]
    for revision in _occupants(plan.slots):
        matches = pinned(revision, test, leads_to=revision == plan.split)
        rules.append(_rule(kind, matches, [_backend(revision, 1, port)]))
    if plan.observe and kind == GRPC_ROUTE:
        # Envoy Gateway (1.8) loads the Services that a GRPCRoute's backends name and not those of its mirrors: with one
        # that no HTTPRoute names either it answers all users with 500. It gets nothing here, by weight 0.
        rules[1]["backendRefs"].append(_backend(names.observer(deployment.metadata.name), 0, port))
    return rules


def _rule(kind: str, matches: Sequence[Match], backends: list[Body], filters: Sequence[Body] = ()) -> Body:
    shared = {**({"filters": list(filters)} if filters else {}), "backendRefs": backends}
    if kind == HTTP_ROUTE:
        # Without this Envoy ends every request after 15 seconds, which a large model needs for one inference.
        return {"matches": http_matches(matches), **shared, "timeouts": {"request": "0s"}}
    # Gateway API has no timeouts on a GRPCRoute: the gateway's default (15 s at Envoy) needs its own policy.
    found = grpc_matches(matches)
    return {**({"matches": found} if found else {}), **shared}


def _check(plan: RoutePlan) -> None:
    weights = [slot.weight for slot in plan.slots]
    if sum(weights) != WHOLE or min(weights) < 0:
        raise ValueError(f"weights {weights} do not sum to {WHOLE}")
    if any(slot.revision is None and slot.weight for slot in plan.slots):
        raise ValueError("an empty slot has weight")
    if plan.mirror is not None and not 0 < plan.mirror.weight <= WHOLE:
        raise ValueError(f"a mirror's weight is {plan.mirror.weight}, not 1 to {WHOLE}")
    if not 0 <= plan.observe <= WHOLE:
        raise ValueError(f"the observer's share is {plan.observe}, not 0 to {WHOLE}")
    if plan.split is not None and plan.split not in _occupants(plan.slots):
        raise ValueError(f"the split leads to {plan.split}, which has no slot")


def _occupants(slots: tuple[Slot, Slot]) -> list[str]:
    """Revisions of the occupied slots, each once, in slot order."""
    return list(dict.fromkeys(slot.revision for slot in slots if slot.revision is not None))


def _mirror(mirror: Mirror, port: int) -> Body:
    return {
        "type": "RequestMirror",
        "requestMirror": {
            "backendRef": {"group": "", "kind": "Service", "name": mirror.revision, "port": port},
            "fraction": {"numerator": mirror.weight, "denominator": WHOLE},
        },
    }


def _backend(revision: str, weight: int, port: int, test: ABTest | None = None) -> Body:
    # The filter is what makes Envoy Gateway keep a cluster, and so statistics, for each backend of a rule.
    header: Body = {"set": [{"name": names.REVISION_HEADER, "value": revision}]}
    if test is not None:
        header["add"] = [{"name": "Set-Cookie", "value": cookie_for(revision, test)}]
    return {
        "group": "",
        "kind": "Service",
        "name": revision,
        "port": port,
        "weight": weight,
        "filters": [{"type": "ResponseHeaderModifier", "responseHeaderModifier": header}],
    }
