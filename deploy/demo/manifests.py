"""The objects the demo applies: a namespace, the key of the object store, and one ModelDeployment per version."""

from __future__ import annotations

from deploy.demo.kube import Object
from deploy.demo.place import Place
from deploy.demo.training import MODEL_NAME

SECRET = "model-store"


def namespace(name: str) -> Object:
    """A namespace that refuses pods below the restricted Pod Security Standard."""
    labels = {
        "pod-security.kubernetes.io/enforce": "restricted",
        "modelrollout.io/demo": "true",
    }
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def secret(name: str, place: Place) -> Object:
    """The keys of the object store, for the fetching init container."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": SECRET, "namespace": name},
        "stringData": {
            "AWS_ACCESS_KEY_ID": place.s3_access_key,
            "AWS_SECRET_ACCESS_KEY": place.s3_secret_key,
        },
    }


def default_guards() -> list[Object]:
    """At most 2 % errors, and the 99th percentile under a quarter of a second, over 20 s."""
    return [
        {"name": "errors", "sli": "error-ratio", "max": 0.02, "window": "20s", "minSamples": 50},
        {"name": "latency", "sli": "latency-p99", "max": 0.25, "window": "20s", "minSamples": 50},
    ]


def default_rollout() -> Object:
    """Three steps of 20 s and a bake of 20 s, looked at every 2 s: a story that fits in some minutes."""
    return {
        "strategy": "Canary",
        "canary": {"steps": [{"weight": weight, "hold": "20s"} for weight in (5, 25, 50)]},
        "bake": "20s",
        "evaluationInterval": "2s",
        "progressDeadline": "5m",
        "guards": default_guards(),
    }


def model_deployment(
    place: Place,
    namespace_name: str,
    version: str,
    prefix: str,
    http: str | None,
    grpc: str | None = None,
    name: str = MODEL_NAME,
    replicas: int = 1,
    rollout: Object | None = None,
    model: str = MODEL_NAME,
) -> Object:
    """The wish for one version of ``model``, whose repository lies under ``prefix`` of the bucket."""
    traffic: Object = {"gateway": {"name": place.gateway_name, "namespace": place.gateway_namespace}}
    if http is not None:
        traffic["http"] = {"hostnames": [http]}
    if grpc is not None:
        traffic["grpc"] = {"hostnames": [grpc]}
    return {
        "apiVersion": "modelrollout.io/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name, "namespace": namespace_name},
        "spec": {
            "model": {
                "name": model,
                "version": version,
                "source": {
                    "uri": f"s3://{place.s3_bucket}/{prefix}",
                    "endpoint": place.s3_inside,
                    "region": "us-east-1",
                    "secretRef": {"name": SECRET},
                },
                "lineage": {"data": "scikit-learn digits, one half"},
            },
            "runtime": {
                "resources": {
                    "requests": {"cpu": "50m", "memory": "192Mi"},
                    "limits": {"memory": "768Mi"},
                }
            },
            "replicas": replicas,
            "traffic": traffic,
            "rollout": rollout or default_rollout(),
        },
    }
