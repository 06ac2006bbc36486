"""How a model repository gets into the pod: a claim mounted read-only, or an init container."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from modelrollout.api.workload import Source
from modelrollout.render.revision import Materials, Revision

REPOSITORY = "/repository"
"""Where the volume of the repository is mounted; what was fetched has its checksums beside the models."""

MODELS = f"{REPOSITORY}/models"
"""Triton's --model-repository: apart from our checksum file, which Triton could take for a model."""

VOLUME = "repository"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": False,
    "AWS_SECRET_ACCESS_KEY": False,
    "AWS_SESSION_TOKEN": True,
}
"""Keys of the Secret, and whether each may be missing."""

FETCH_RESOURCES = {
    "requests": {"cpu": "100m", "memory": "128Mi"},
    "limits": {"memory": "512Mi"},
}


@dataclass(frozen=True)
class Repository:
    """The parts of a pod that bring the repository in."""

    volume: dict[str, Any]
    mount: dict[str, Any]
    init_containers: list[dict[str, Any]]


def repository(revision: Revision, made_with: Materials, security: dict[str, Any]) -> Repository:
    """Volume, the server's mount, and the init containers for the source of ``revision``.

    ``security`` is the security context of each container. Raises ValueError for a scheme or settings that
    ``settings_problem`` and the API refuse.
    """
    source = revision.spec.model.source
    if source.scheme == "pvc":
        return _claim(source)
    if source.scheme == "s3":
        return _fetched(revision, source, made_with, security)
    raise ValueError(f"no way to mount {source.scheme}://")


def _claim(source: Source) -> Repository:
    mount: dict[str, Any] = {"name": VOLUME, "mountPath": MODELS, "readOnly": True}
    if source.path:
        mount["subPath"] = source.path
    claim = {"claimName": source.container, "readOnly": True}
    volume = {"name": VOLUME, "persistentVolumeClaim": claim}
    return Repository(volume=volume, mount=mount, init_containers=[])


def _fetched(revision: Revision, source: Source, made_with: Materials, security: dict[str, Any]) -> Repository:
    if made_with.operator_image is None:
        raise ValueError("s3 sources need operatorImage in the settings")
    storage = made_with.pool.model_storage
    arguments = ["--uri", source.uri, "--to", MODELS, "--model", revision.model_name, "--limit", storage]
    if source.endpoint:
        arguments += ["--endpoint", source.endpoint]
    if source.region:
        arguments += ["--region", source.region]
    container: dict[str, Any] = {
        "name": "fetch",
        "image": made_with.operator_image,
        "imagePullPolicy": made_with.pool.image_pull_policy.value,
        "command": ["modelrollout", "fetch"],
        "args": arguments,
        "env": [{"name": "HOME", "value": "/tmp"}],  # noqa: S108 - an emptyDir of the pod
        "resources": FETCH_RESOURCES,
        "securityContext": security,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": VOLUME, "mountPath": REPOSITORY},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
        ],
    }
    if source.secret_ref is not None:
        container["env"] += [
            _from_secret(name, source.secret_ref.name, optional) for name, optional in CREDENTIALS.items()
        ]
    return Repository(
        volume={"name": VOLUME, "emptyDir": {"sizeLimit": storage}},
        mount={"name": VOLUME, "mountPath": REPOSITORY, "readOnly": True},
        init_containers=[container],
    )


def _from_secret(key: str, secret: str, optional: bool) -> dict[str, Any]:
    reference: dict[str, Any] = {"name": secret, "key": key}
    if optional:
        reference["optional"] = True
    return {"name": key, "valueFrom": {"secretKeyRef": reference}}
