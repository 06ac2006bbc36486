"""The objects of the benchmarks: a namespace, who the operator is in it, a model on a volume, ModelDeployments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench.prometheus import QUERY

Object = dict[str, Any]

MODEL = "echo"
CLAIM = "models"
ACCOUNT = "operator"
MODELS = Path(__file__).resolve().parent / "model"


def account(namespace: str) -> list[Object]:
    """A ServiceAccount that may do everything inside the namespace and nothing outside of it."""
    name = {"name": ACCOUNT, "namespace": namespace}
    rbac = "rbac.authorization.k8s.io"
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": name},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": name,
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "ServiceAccount", **name}],
        },
    ]


def user_of(namespace: str) -> str:
    """The name under which the audit log knows that ServiceAccount."""
    return f"system:serviceaccount:{namespace}:{ACCOUNT}"


def model_volume(namespace: str, path: Path) -> list[Object]:
    """The folder ``path`` of this machine, which is the node, as a claim of the namespace."""
    claim = {"namespace": namespace, "name": CLAIM}
    shape = {"accessModes": ["ReadOnlyMany"], "storageClassName": ""}
    size = {"storage": "1Gi"}
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"{namespace}-models"},
            "spec": {**shape, "capacity": size, "hostPath": {"path": str(path)}, "claimRef": claim},
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": claim,
            "spec": {**shape, "volumeName": f"{namespace}-models", "resources": {"requests": size}},
        },
    ]


def query_guard(maximum: float = 0.5) -> Object:
    """A guard on the value that the stub gives; a breach is one bad evaluation."""
    return {"name": "value", "query": QUERY, "max": maximum}


def model_deployment(
    namespace: str,
    name: str,
    version: str,
    hostname: str,
    *,
    steps: Sequence[tuple[int, str]] | None = ((50, "1s"),),
    bake: str = "1s",
    guards: Sequence[Object] | None = None,
    prometheus: str = "default",
    gateway: tuple[str, str] = ("gateways", "inference"),
    **rollout: Any,
) -> Object:
    """A ModelDeployment whose every ``version`` has the same files: only its name makes a revision another.

    ``steps`` None is for strategies without a canary; ``rollout`` holds their block.
    """
    return {
        "apiVersion": "modelrollout.io/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "model": {"name": MODEL, "version": version, "source": {"uri": f"pvc://{CLAIM}/"}},
            "runtime": {"resources": {"requests": {"cpu": "10m", "memory": "64Mi"}}},
            "replicas": 1,
            "traffic": {
                "gateway": {"namespace": gateway[0], "name": gateway[1]},
                "http": {"hostnames": [hostname]},
            },
            "rollout": {
                **(
                    {}
                    if steps is None
                    else {"canary": {"steps": [{"weight": each, "hold": hold} for each, hold in steps]}}
                ),
                "bake": bake,
                "evaluationInterval": "1s",
                "prometheus": prometheus,
                "guards": list(guards or [query_guard()]),
                **rollout,
            },
        },
    }
