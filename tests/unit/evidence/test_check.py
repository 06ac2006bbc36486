"""What is found wrong with guards before anything is asked."""

from __future__ import annotations

from typing import Any

import pytest

from modelrollout.api.modeldeployment import ModelDeployment, parse_modeldeployment
from modelrollout.evidence.check import guards_problem
from tests.builders import DRIFT, manifest


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


def mirrored(*guards: dict[str, Any], traffic: str, **rollout: Any) -> ModelDeployment:
    raw = manifest(guards=guards, grpc=traffic != "http", **rollout)
    if traffic == "grpc":
        del raw["spec"]["traffic"]["http"]
    return parse_modeldeployment(raw)


SHADOW = {"strategy": "Shadow", "shadow": {"then": "Canary"}}
MIRROR = {"strategy": "BlueGreen", "blueGreen": {"prePromotion": {"source": "Mirror"}}}
PREVIEW = {"strategy": "BlueGreen", "blueGreen": {"prePromotion": {"source": "Preview"}}}
ERRORS = {"name": "errors", "sli": "error-ratio", "max": 0.01}
LATENCY = {"name": "latency", "sli": "latency-p99", "max": 0.5}


@pytest.mark.parametrize("rollout", [SHADOW, MIRROR])
@pytest.mark.parametrize("traffic", ["grpc", "both"])
def test_copies_of_grpc_requests_show_no_errors(rollout: dict[str, Any], traffic: str) -> None:
    problem = guards_problem(mirrored(ERRORS, traffic=traffic, **rollout))
    assert problem is not None
    assert problem.startswith(
        "guard errors: error-ratio of grpc cannot be measured by the source Mirror: Envoy does not"
    )


@pytest.mark.parametrize(
    ("guard", "traffic", "rollout"),
    [
        (ERRORS, "http", SHADOW),
        (LATENCY, "grpc", SHADOW),
        ({**ERRORS, "fromStep": 1}, "grpc", SHADOW),
        (ERRORS, "both", PREVIEW),
        (ERRORS, "grpc", {"strategy": "ABTest"}),
        (ERRORS, "grpc", {"strategy": "BlueGreen"}),
    ],
)
def test_what_is_never_judged_by_such_copies_is_good(
    guard: dict[str, Any], traffic: str, rollout: dict[str, Any]
) -> None:
    assert guards_problem(mirrored(guard, traffic=traffic, **rollout)) is None


def test_an_unknown_gateway_has_no_slis() -> None:
    problem = guards_problem(mirrored(ERRORS, traffic="http"), profile="haproxy")
    assert problem == "guard errors: there is no SLI catalog for the gateway profile 'haproxy'"


def test_without_a_gateway_queries_are_checked_as_ever() -> None:
    service: dict[str, Any] = {"guards": [DRIFT], "service": True, "strategy": "BlueGreen"}
    assert guards_problem(parse_modeldeployment(manifest(**service))) is None
    bad = {**DRIFT, "query": "psi[5m]"}
    assert "range of samples" in (guards_problem(parse_modeldeployment(manifest(**{**service, "guards": [bad]}))) or "")
