"""Names, labels and owner references: the conventions by which the operator finds its own children again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelrollout.api.base import API_VERSION
from modelrollout.ports import Manifest

FIELD_MANAGER = "modelrollout"
MANAGED_BY = "modelrollout"
REVISION_HEADER = "x-model-revision"

LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
LABEL_NAME = "app.kubernetes.io/name"
LABEL_DEPLOYMENT = "modelrollout.io/deployment"
LABEL_REVISION = "modelrollout.io/revision"
ANNOTATION_SPLIT = "modelrollout.io/split"
ANNOTATION_LAYOUT = "modelrollout.io/layout"
SELECTOR = f"{LABEL_MANAGED_BY}={MANAGED_BY}"
"""Label selector that finds every child of every ModelDeployment."""
SERVICE_SELECTOR = LABEL_DEPLOYMENT
"""Label selector that finds the Services among them, and those of observers: Helm takes managed-by for itself."""

HTTP_PORT, GRPC_PORT, METRICS_PORT = 8000, 8001, 8002

OBSERVER = "modelrollout-observer"
"""Name of the Service of a namespace's observer, where it has one."""
_OBSERVER_LABELS = {
    LABEL_NAME: OBSERVER,
    "app.kubernetes.io/component": "observer",
}


def labels(deployment: str, revision: str | None = None) -> dict[str, str]:
    """Labels of a child of ModelDeployment ``deployment``; routes belong to no revision."""
    found = {
        LABEL_NAME: deployment,
        LABEL_MANAGED_BY: MANAGED_BY,
        LABEL_DEPLOYMENT: deployment,
    }
    if revision is not None:
        found[LABEL_REVISION] = revision
    return found


def pod_labels(deployment: str, revision: str) -> dict[str, str]:
    """The labels that tell the pods of one revision from all others; selectors consist of them."""
    return {LABEL_DEPLOYMENT: deployment, LABEL_REVISION: revision}


def preview(deployment: str) -> str:
    """Name of the routes of the preview hostnames.

    Two dashes, because ``<name>-preview`` may well be another ModelDeployment; no dot, because Envoy cuts the names of
    its statistics there.
    """
    return f"{deployment}--preview"


def observer(deployment: str) -> str:
    """Name of the Service by which copies of requests reach the observer.

    Of the operator's own, because Envoy Gateway answers all users with 500 while a Service that gets copies does not
    exist: the platform's may go at any time.
    """
    return f"{deployment}--observer"


def leads_to_observer(service: str) -> bool:
    """Whether a Service of this name is one that copies for the observer go to; no revision's name ends like that."""
    return service.endswith("--observer")


def owner_reference(kind: str, name: str, uid: str) -> dict[str, Any]:
    """The reference by which a ModelDeployment or ModelRevision owns a child.

    It never blocks the owner's deletion: that would need the right to update the owner's finalizers.
    """
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "name": name,
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def owner_uid(manifest: Mapping[str, Any]) -> str | None:
    """The uid of the controller that owns ``manifest``, whoever that is; None where nobody does."""
    for reference in (manifest.get("metadata") or {}).get("ownerReferences") or ():
        if reference.get("controller"):
            return str(reference.get("uid"))
    return None


def is_ours(manifest: Mapping[str, Any], uid: str) -> bool:
    """Whether the object is controlled by the owner with this uid (not merely labelled as if it were)."""
    return bool(uid) and owner_uid(manifest) == uid


def deployment_of(manifest: Mapping[str, Any]) -> str | None:
    """Name of the ModelDeployment that a child's labels name."""
    found = ((manifest.get("metadata") or {}).get("labels") or {}).get(LABEL_DEPLOYMENT)
    return str(found) if found else None


def revision_of(manifest: Mapping[str, Any]) -> str | None:
    """Name of the revision that a child's labels name."""
    found = ((manifest.get("metadata") or {}).get("labels") or {}).get(LABEL_REVISION)
    return str(found) if found else None


def is_observer(manifest: Mapping[str, Any]) -> bool:
    """Whether the object is the Service of a namespace's observer, by its name and labels."""
    metadata = manifest.get("metadata") or {}
    found = metadata.get("labels") or {}
    return metadata.get("name") == OBSERVER and all(found.get(key) == value for key, value in _OBSERVER_LABELS.items())


def child(
    api_version: str,
    kind: str,
    name: str,
    namespace: str,
    child_labels: Mapping[str, str],
    owner: Mapping[str, Any],
) -> Manifest:
    """The head of a child object: identity, labels and owner."""
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": dict(child_labels),
            "ownerReferences": [dict(owner)],
        },
    }
