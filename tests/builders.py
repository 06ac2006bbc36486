"""Small builders for ModelDeployments and their parts: every default is one that works."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

from modelrollout.api.modeldeployment import ModelDeployment, parse_modeldeployment, revision_name
from modelrollout.settings import Settings

START = datetime(2026, 1, 1, tzinfo=UTC)
NAMESPACE, NAME, UID = "demo", "digits", "uid-mdep"
STEPS: tuple[tuple[int, str], ...] = ((10, "30s"), (25, "30s"), (50, "30s"))

Manifest = dict[str, Any]

ERRORS: Manifest = {"name": "errors", "sli": "error-ratio", "max": 0.05, "window": "30s", "minSamples": 10}
DRIFT: Manifest = {"name": "drift", "query": 'max(feature_psi{revision="$revision"})', "max": 0.2}


def manifest(
    version: str = "1.0.0",
    *,
    replicas: int = 2,
    steps: Sequence[tuple[float, str] | Manifest] = STEPS,
    guards: Sequence[Manifest] = (ERRORS,),
    grpc: bool = False,
    command: str | None = None,
    generation: int = 1,
    pool: str = "cpu",
    service: bool = False,
    model: str | None = None,
    max_surge: str | None = None,
    **rollout: Any,
) -> Manifest:
    """A ModelDeployment as the API server gives it; ``rollout`` holds further keys of spec.rollout.

    ``steps`` is for strategies that have a canary; each step is (percent, hold) or the step itself. ``service`` is
    traffic without a gateway, ``model`` the name that clients call.
    """
    metadata: Manifest = {
        "name": NAME,
        "namespace": NAMESPACE,
        "uid": UID,
        "generation": generation,
        "resourceVersion": "1",
    }
    if command:
        metadata["annotations"] = {"modelrollout.io/command": command}
    traffic: Manifest = {
        "gateway": {"name": "inference", "namespace": "gateways"},
        "http": {"hostnames": ["digits.example.com"]},
    }
    if grpc:
        traffic["grpc"] = {"hostnames": ["digits-grpc.example.com"]}
    if service:
        traffic = {"service": {}}
    strategy, shadow = rollout.get("strategy", "Canary"), rollout.get("shadow") or {}
    canary: Manifest = {"steps": [_step(step) for step in steps]}
    if max_surge is not None:
        canary["maxSurge"] = max_surge
    has_steps = strategy == "Canary" or (strategy == "Shadow" and shadow.get("then") == "Canary")
    return {
        "apiVersion": "modelrollout.io/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": metadata,
        "spec": {
            "model": {
                **({"name": model} if model else {}),
                "version": version,
                "source": {"uri": f"pvc://models/digits/{version}"},
            },
            "pool": pool,
            "replicas": replicas,
            "traffic": traffic,
            "rollout": {
                **({"canary": canary} if has_steps else {}),
                "bake": "60s",
                "progressDeadline": "5m",
                "noDataDeadline": "3m",
                "evaluationInterval": "5s",
                "guards": list(guards),
                **({"unguarded": True} if not guards else {}),
                **rollout,
            },
        },
    }


def _step(step: tuple[float, str] | Manifest) -> Manifest:
    return step if isinstance(step, dict) else {"weight": step[0], "hold": step[1]}


def modeldeployment(version: str = "1.0.0", **changes: Any) -> ModelDeployment:
    """The same, read."""
    return parse_modeldeployment(manifest(version, **changes))


@cache
def name_of(version: str, model: str | None = None) -> str:
    """The revision that ``version`` makes."""
    return revision_name(NAME, modeldeployment(version, model=model).spec)


def settings(**changes: Any) -> Settings:
    """Settings with the pool, Prometheus and Gateway that ``manifest`` names."""
    return Settings.model_validate(
        {
            "pools": {"cpu": {"image": "localhost/triton:1"}},
            "prometheus": {"default": {"url": "http://prometheus.example"}},
            "webhooks": {"pipeline": {"url": "http://pipeline.example"}},
            "gateways": [{"namespace": "gateways", "name": "inference", "address": "gateway.example:80"}],
            **changes,
        }
    )
