"""The Service of a ModelDeployment without a gateway: its selector names who serves, an annotation keeps the layout.

A selector knows one revision only. So the whole layout is written beside it, and read back as long as it is true.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from modelrollout.api.modeldeployment import ModelDeployment
from modelrollout.ports import Manifest
from modelrollout.render import names
from modelrollout.render.reading import Live, get
from modelrollout.render.service import ports
from modelrollout.rollout.observed import Backend, Route
from modelrollout.rollout.plan import WHOLE, RoutePlan, Slot

SERVICE = "Service"


def traffic_service(deployment: ModelDeployment, plan: RoutePlan) -> Manifest:
    """The Service with the name of the ModelDeployment, for the revision with the greatest weight of ``plan``."""
    metadata = deployment.metadata
    body = names.child(
        "v1",
        SERVICE,
        metadata.name,
        metadata.namespace,
        names.labels(metadata.name),
        names.owner_reference("ModelDeployment", metadata.name, metadata.uid),
    )
    body["metadata"]["annotations"] = {names.ANNOTATION_LAYOUT: _written(plan)}
    body["spec"] = {
        "type": "ClusterIP",
        "selector": names.pod_labels(metadata.name, _serving(plan)),
        "ports": ports(),
    }
    return body


def observe_service(live: Live | None) -> Route:
    """What the Service says of who serves. Its selector is the truth; the layout counts while it agrees with it."""
    if live is None:
        return Route(probed=False)
    plan, serving = _layout(live), _selected(live)
    pair = _pair(plan, serving)
    weights: dict[str, int] = {} if serving is None else {serving: WHOLE}
    if pair is not None:
        weights = {}
        for backend in pair:
            weights[backend.revision] = weights.get(backend.revision, 0) + backend.weight
    return Route(
        backends=pair, weights=weights, lowest=weights, token=_token(live), accepted=serving is not None, probed=False
    )


def _serving(plan: RoutePlan) -> str:
    heaviest = max(plan.slots, key=lambda slot: (slot.weight, slot.revision == plan.stable))
    return heaviest.revision or plan.stable


def _pair(plan: RoutePlan | None, serving: str | None) -> tuple[Backend, Backend] | None:
    """Both slots; where the selector was changed by hand, all weight is on the one it names. None: no place for it."""
    if plan is None or serving is None:
        return None
    first, second = (Backend(slot.revision or plan.stable, slot.weight) for slot in plan.slots)
    if _serving(plan) == serving:
        return first, second
    if serving not in (first.revision, second.revision):
        return None
    whole = (WHOLE, 0) if serving == first.revision else (0, WHOLE)
    return Backend(first.revision, whole[0]), Backend(second.revision, whole[1])


def _written(plan: RoutePlan) -> str:
    slots = [[slot.revision, slot.weight] for slot in plan.slots]
    return json.dumps({"slots": slots, "stable": plan.stable}, separators=(",", ":"))


def _layout(live: Live) -> RoutePlan | None:
    """The annotation as a plan; None where it is missing or was damaged."""
    try:
        raw: Any = json.loads(get(live, "metadata", "annotations", names.ANNOTATION_LAYOUT) or "null")
        first, second = (Slot(revision, weight) for revision, weight in raw["slots"])
        plan = RoutePlan((first, second), raw["stable"])
    except (ValueError, TypeError, KeyError):
        return None
    named = all(isinstance(name, str) for name in (plan.stable, *(slot.revision or plan.stable for slot in plan.slots)))
    counted = all(type(slot.weight) is int and slot.weight >= 0 for slot in plan.slots)
    return plan if named and counted and sum(slot.weight for slot in plan.slots) == WHOLE else None


def _selected(live: Live) -> str | None:
    """The revision whose pods the selector finds; None where it finds others or none."""
    selector = get(live, "spec", "selector") or {}
    revision = selector.get(names.LABEL_REVISION)
    deployment = str(get(live, "metadata", "name"))
    return str(revision) if revision and selector == names.pod_labels(deployment, str(revision)) else None


def _token(live: Live) -> str:
    state = [get(live, "metadata", "annotations", names.ANNOTATION_LAYOUT), get(live, "spec", "selector")]
    digest = hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()
    return f"{SERVICE}/{get(live, 'metadata', 'uid')}@{digest[:16]}"
