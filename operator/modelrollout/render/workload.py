"""The Deployment of one revision: Triton in a restricted pod, ready when its model is, drained at its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelrollout.ports import Manifest
from modelrollout.render import fetch, names
from modelrollout.render.revision import MADE_WITH, Materials, Revision

USER = 65532
GRACE_MARGIN_SECONDS = 5
NO_DEADLINE = 2147483647
"""The Deployment controller takes this as no deadline: judging progress is the operator's work."""


def deployment(revision: Revision, replicas: int, made_with: Materials) -> Manifest:
    """The apps/v1 Deployment of ``revision`` with ``replicas`` pods (0 keeps it, without pods).

    Raises ValueError where neither revision nor pool names an image (see ``settings_problem``).
    """
    body = names.child("apps/v1", "Deployment", revision.name, revision.namespace, revision.labels, revision.owner)
    body["metadata"]["annotations"] = {MADE_WITH: made_with.to_annotation()}
    body["spec"] = {
        "replicas": replicas,
        "selector": {"matchLabels": selector(revision)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "minReadySeconds": 1,
        "progressDeadlineSeconds": NO_DEADLINE,
        "revisionHistoryLimit": 1,
        "template": {
            "metadata": {"labels": revision.labels, "annotations": _scrape()},
            "spec": pod(revision, made_with),
        },
    }
    return body


def selector(revision: Revision) -> dict[str, str]:
    """The labels by which Deployment, Service and PodDisruptionBudget find the pods."""
    return names.pod_labels(revision.deployment, revision.name)


def pod(revision: Revision, made_with: Materials) -> dict[str, Any]:
    """The pod's spec. It satisfies Pod Security Standard *restricted*, with a read-only root file system."""
    pool = made_with.pool
    repository = fetch.repository(revision, made_with, _container_security())
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": (
            made_with.drain_seconds + made_with.exit_timeout_seconds + GRACE_MARGIN_SECONDS
        ),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_server(revision, made_with, repository.mount)],
        "volumes": [
            repository.volume,
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": pool.shared_memory}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "2Gi"}},
        ],
        "topologySpreadConstraints": [_spread(revision, "kubernetes.io/hostname")],
    }
    optional: dict[str, Any] = {
        "initContainers": repository.init_containers,
        "nodeSelector": dict(pool.node_selector),
        "tolerations": [
            toleration.model_dump(mode="json", by_alias=True, exclude_none=True) for toleration in pool.tolerations
        ],
        "imagePullSecrets": [{"name": name} for name in pool.image_pull_secrets],
        "runtimeClassName": pool.runtime_class_name,
        "priorityClassName": pool.priority_class_name,
    }
    return spec | {key: value for key, value in optional.items() if value}


def _server(revision: Revision, made_with: Materials, repository_mount: dict[str, Any]) -> dict[str, Any]:
    pool, runtime = made_with.pool, revision.spec.runtime
    image = runtime.image or pool.image
    if not image:
        raise ValueError(f"no image for {revision.name}")
    ready = {"path": f"/v2/models/{revision.model_name}/ready", "port": "http"}
    return {
        "name": "server",
        "image": image,
        "imagePullPolicy": pool.image_pull_policy.value,
        "command": ["tritonserver"],
        "args": [*_arguments(made_with), *runtime.args],
        "env": _environment({variable.name: variable.value for variable in runtime.env}),
        "ports": [
            {"name": "http", "containerPort": names.HTTP_PORT, "protocol": "TCP"},
            {"name": "grpc", "containerPort": names.GRPC_PORT, "protocol": "TCP"},
            {"name": "metrics", "containerPort": names.METRICS_PORT, "protocol": "TCP"},
        ],
        "resources": _resources(revision, made_with),
        "securityContext": _container_security(),
        # Loading has no limit of its own here: how long a model may take is spec.rollout.progressDeadline.
        "startupProbe": _probe(ready, period=2, timeout=5, failures=21600),
        "readinessProbe": _probe(ready, period=5, timeout=4, failures=3),
        "livenessProbe": _probe({"path": "/v2/health/live", "port": "http"}, period=10, timeout=5, failures=6),
        **_drain(made_with.drain_seconds),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            repository_mount,
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108 - an emptyDir of the pod
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
        ],
    }


def _drain(seconds: int) -> dict[str, Any]:
    # A pod that ends still gets requests until the gateway has learnt of it: serve on, then stop.
    return {"lifecycle": {"preStop": {"sleep": {"seconds": seconds}}}} if seconds else {}


def _arguments(made_with: Materials) -> list[str]:
    return [
        f"--model-repository={fetch.MODELS}",
        "--model-control-mode=none",
        "--strict-readiness=true",
        "--exit-on-error=true",
        f"--exit-timeout-secs={made_with.exit_timeout_seconds}",
        "--allow-http=true",
        f"--http-port={names.HTTP_PORT}",
        "--allow-grpc=true",
        f"--grpc-port={names.GRPC_PORT}",
        "--allow-metrics=true",
        f"--metrics-port={names.METRICS_PORT}",
    ]


def _environment(given: Mapping[str, str]) -> list[dict[str, str]]:
    # The image's HOME is not writable for our user; Python packages that cache there would fail.
    defaults = {"HOME": "/tmp"}  # noqa: S108
    return [{"name": name, "value": value} for name, value in {**defaults, **given}.items()]


def _resources(revision: Revision, made_with: Materials) -> dict[str, Any]:
    """The revision's own amounts before the pool's; the accelerator in limits, from where requests follow."""
    own, pool = revision.spec.runtime.resources, made_with.pool.resources
    requests = {**pool.requests, **own.requests}
    limits = {**pool.limits, **own.limits}
    if made_with.pool.accelerator is not None:
        limits.setdefault(made_with.pool.accelerator.resource, str(made_with.pool.accelerator.count))
    merged = {"requests": requests, "limits": limits}
    return {key: {name: str(amount) for name, amount in value.items()} for key, value in merged.items() if value}


def _container_security() -> dict[str, Any]:
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def _probe(http_get: dict[str, Any], *, period: int, timeout: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {**http_get, "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
    }


def _spread(revision: Revision, key: str) -> dict[str, Any]:
    return {
        "maxSkew": 1,
        "topologyKey": key,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": selector(revision)},
    }


def _scrape() -> dict[str, str]:
    return {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(names.METRICS_PORT),
        "prometheus.io/path": "/metrics",
    }
