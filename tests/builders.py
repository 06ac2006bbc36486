"""Small builders for ModelDeployments and their parts: every default is one that works."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
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
    steps: Sequence[tuple[int, str]] = STEPS,
    guards: Sequence[Manifest] = (ERRORS,),
    grpc: bool = False,
    command: str | None = None,
    generation: int = 1,
    pool: str = "cpu",
    **rollout: Any,
) -> Manifest:
    """A ModelDeployment as the API server gives it; ``rollout`` holds further keys of spec.rollout."""
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
    return {
        "apiVersion": "modelrollout.io/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": metadata,
        "spec": {
            "model": {"version": version, "source": {"uri": f"pvc://models/digits/{version}"}},
            "pool": pool,
            "replicas": replicas,
            "traffic": traffic,
            "rollout": {
                "canary": {"steps": [{"weight": weight, "hold": hold} for weight, hold in steps]},
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


def modeldeployment(version: str = "1.0.0", **changes: Any) -> ModelDeployment:
    """The same, read."""
    return parse_modeldeployment(manifest(version, **changes))


def name_of(version: str) -> str:
    """The revision that ``version`` makes."""
    return revision_name(NAME, modeldeployment(version).spec)


def settings(**changes: Any) -> Settings:
    """Settings with the pool, Prometheus and Gateway that ``manifest`` names."""
    return Settings.model_validate(
        {
            "pools": {"cpu": {"image": "localhost/triton:1"}},
            "prometheus": {"default": {"url": "http://prometheus.example"}},
            "gateways": [{"namespace": "gateways", "name": "inference", "address": "gateway.example:80"}],
            **changes,
        }
    )
