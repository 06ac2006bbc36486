"""What is found wrong with guards before anything is asked."""

from __future__ import annotations

from typing import Any

from modelrollout.api.modeldeployment import ModelDeployment, parse_modeldeployment
from modelrollout.evidence.check import guards_problem


def deployment(*guards: dict[str, Any]) -> ModelDeployment:
    return parse_modeldeployment(
        {
            "apiVersion": "modelrollout.io/v1alpha1",
            "kind": "ModelDeployment",
            "metadata": {"name": "digits", "namespace": "demo"},
            "spec": {
                "model": {"version": "1.0.0", "source": {"uri": "s3://models/digits"}},
                "traffic": {"gateway": {"name": "inference"}, "http": {"hostnames": ["digits.example.com"]}},
                "rollout": {"guards": list(guards)},
            },
        }
    )


def test_good_guards() -> None:
    good = {"name": "drift", "query": 'max(psi{revision="$revision",namespace="$namespace"})', "max": 0.2}
    assert guards_problem(deployment({"name": "errors", "sli": "error-ratio", "max": 0.01}, good)) is None


def test_the_guard_is_named() -> None:
    bad = {"name": "drift", "query": "psi[5m]", "max": 0.2}
    problem = guards_problem(deployment({"name": "errors", "sli": "error-ratio", "max": 0.01}, bad))
    assert problem is not None
    assert problem.startswith("guard drift: the query answers a range of samples; wrap it")


def test_another_namespace() -> None:
    other = deployment({"name": "drift", "query": 'psi{namespace="kube-system"}', "max": 0.2})
    assert "its own namespace only" in (guards_problem(other) or "")
    assert guards_problem(other, enforce_namespace=False) is None
