"""Live objects reduced to what the controller reads, so that its cache stays small."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelrollout.api.annotations import command_writer
from modelrollout.api.base import GROUP
from modelrollout.ports import Manifest

_METADATA = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "labels",
    "ownerReferences",
    "commandedBy",
)
_CONDITION = ("type", "status", "reason", "message", "observedGeneration", "lastTransitionTime")
_CONTAINER = ("name", "ready", "restartCount", "state", "lastState")
_STATE = ("exitCode", "reason", "message", "startedAt")
_MESSAGE_TAIL = 1024


def trim(kind: str, manifest: Mapping[str, Any]) -> Manifest:
    """A live object of ``kind`` with only what rendering, reading back and comparing need; shares its parts.

    ``kind`` is written into it (items of a list come without). Kinds not known here lose only what is never read.
    Of ``managedFields`` one word stays: ``commandedBy``, who wrote the command annotation.
    """
    metadata = manifest.get("metadata") or {}
    kept = {key: metadata[key] for key in _METADATA if metadata.get(key)}
    own = {key: value for key, value in (metadata.get("annotations") or {}).items() if _is_own(key)}
    if own:
        kept["annotations"] = own
        if writer := command_writer(metadata):
            kept["commandedBy"] = writer
    trimmed: Manifest = {"kind": kind, "metadata": kept}
    if "apiVersion" in manifest:
        trimmed["apiVersion"] = manifest["apiVersion"]
    spec, status = manifest.get("spec") or {}, manifest.get("status") or {}
    return trimmed | _parts(kind, spec, status)


def _is_own(annotation: str) -> bool:
    return annotation.startswith(f"{GROUP}/")


def _parts(kind: str, spec: Mapping[str, Any], status: Mapping[str, Any]) -> dict[str, Any]:
    match kind:
        case "Pod":
            return {"spec": _pick(spec, ("nodeName",)), "status": _pod_status(status)}
        case "Deployment":
            return {"spec": spec, "status": _deployment_status(status)}
        case "Service":
            return {"spec": _pick(spec, ("type", "selector", "ports"))}
        case "PodDisruptionBudget":
            return {"spec": spec}
        case "HTTPRoute" | "GRPCRoute":
            return {"spec": spec, "status": {"parents": [_parent(entry) for entry in status.get("parents") or ()]}}
        case _:
            return {"spec": spec, "status": status}


def _pod_status(status: Mapping[str, Any]) -> dict[str, Any]:
    kept = _pick(status, ("phase", "podIP", "reason", "message"))
    kept["conditions"] = _conditions(status)
    for key in ("initContainerStatuses", "containerStatuses"):
        kept[key] = [_container(entry) for entry in status.get(key) or ()]
    return kept


def _container(entry: Mapping[str, Any]) -> dict[str, Any]:
    kept = _pick(entry, _CONTAINER)
    for key in ("state", "lastState"):
        kept[key] = {name: _container_state(value) for name, value in (kept.get(key) or {}).items()}
    return kept


def _container_state(value: Mapping[str, Any]) -> dict[str, Any]:
    kept = _pick(value, _STATE)
    if "message" in kept:
        kept["message"] = str(kept["message"])[-_MESSAGE_TAIL:]
    return kept


def _deployment_status(status: Mapping[str, Any]) -> dict[str, Any]:
    counts = ("observedGeneration", "replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
    return {**_pick(status, counts), "conditions": _conditions(status)}


def _parent(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {**_pick(entry, ("parentRef", "controllerName")), "conditions": _conditions(entry)}


def _conditions(part: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [_pick(condition, _CONDITION) for condition in part.get("conditions") or ()]


def _pick(part: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: part[key] for key in keys if key in part}
