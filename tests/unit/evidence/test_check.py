"""What is found wrong with guards before anything is asked."""

from __future__ import annotations

from typing import Any

import pytest

from modelrollout.api.guard import INDEXES, SHARES
from modelrollout.api.modeldeployment import ModelDeployment, parse_modeldeployment
from modelrollout.api.observation import Comparison, Labels, Observation
from modelrollout.api.rolloutpolicy import SliDefinition
from modelrollout.evidence.check import guards_problem
from modelrollout.evidence.queried import queried
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


def observed(*guards: dict[str, Any], **observation: Any) -> ModelDeployment:
    raw = manifest(guards=guards)
    if observation:
        raw["spec"]["observation"] = observation
    return parse_modeldeployment(raw)


PROFILE = {"configMap": {"name": "digits-profile", "key": "profile.json"}}
INPUTS = {"name": "inputs", "sli": "input-psi", "max": 0.2}
FLIPS = {"name": "flips", "sli": "label-flips", "max": 0.02}
RIGHT = {"name": "right", "sli": "accuracy", "min": 0.9, "window": "24h", "labelDelay": "12h"}


@pytest.mark.parametrize(
    ("guard", "observation"),
    [
        (INPUTS, {"profile": PROFILE}),
        ({**INPUTS, "where": {"feature": "age"}, "window": "720h", "minSamples": 500}, {"profile": PROFILE}),
        (FLIPS, {"comparison": {}}),
        (RIGHT, {"comparison": {}, "labels": {"window": "12h"}}),
        ({"name": "failures", "sli": "triton-failure-ratio", "max": 0.01, "where": {"reason": "BACKEND"}}, {}),
    ],
)
def test_slis_that_prometheus_computes(guard: dict[str, Any], observation: dict[str, Any]) -> None:
    assert guards_problem(observed(guard, **observation)) is None


@pytest.mark.parametrize(
    ("guard", "observation", "sentence"),
    [
        ({**INPUTS, "sli": "input-psy"}, {"profile": PROFILE}, "there is no SLI 'input-psy'; did you mean input-psi"),
        (INPUTS, {}, "input-psi needs spec.observation.profile: without it the observer counts nothing of it"),
        (INPUTS, {"comparison": {}}, "input-psi needs spec.observation.profile"),
        (
            {"name": "outputs", "sli": "output-psi", "max": 0.2},
            {},
            "output-psi needs spec.observation.profile and spec.observation.comparison",
        ),
        (FLIPS, {"profile": PROFILE}, "label-flips needs spec.observation.comparison"),
        (RIGHT, {"comparison": {}}, "accuracy needs spec.observation.labels"),
        ({**INPUTS, "labelDelay": "1h"}, {"profile": PROFILE}, "labelDelay is for SLIs of labels"),
        ({**ERRORS, "labelDelay": "1h"}, {}, "labelDelay is for SLIs of labels"),
        ({**ERRORS, "where": {"code": "500"}}, {}, "where means nothing to error-ratio, which counts all requests"),
        ({**INPUTS, "where": {"slice": "eu"}}, {"profile": PROFILE}, "'slice' means nothing to this SLI"),
        ({**FLIPS, "confidence": 0.99}, {"comparison": {}}, "relativeTo and confidence weigh the counts"),
        (
            {"name": "flips", "sli": "label-flips", "relativeTo": "stable"},
            {"comparison": {}},
            "there are none of label-flips: remove them and give max or min",
        ),
    ],
)
def test_an_sli_that_cannot_be_judged_so(guard: dict[str, Any], observation: dict[str, Any], sentence: str) -> None:
    problem = guards_problem(observed(guard, **observation)) or ""
    assert problem.startswith(f"guard {guard['name']}: ")
    assert sentence in problem


def test_the_label_delay_of_a_policys_guard_is_within_the_time_that_answers_wait() -> None:
    late = parse_modeldeployment(manifest(guards=[RIGHT]))
    spec = late.spec.model_copy(update={"observation": Observation(comparison=Comparison(), labels=Labels())})
    problem = guards_problem(late.model_copy(update={"spec": spec})) or ""
    assert problem.startswith("guard right: labelDelay must not be longer than spec.observation.labels.window")


def test_the_api_server_knows_which_slis_are_shares_and_indexes() -> None:
    units = {name: entry.unit for name, entry in queried().items()}
    assert sorted(name for name, unit in units.items() if unit in ("ratio", "distance")) == SHARES
    assert sorted(name for name, unit in units.items() if unit == "index") == INDEXES


def test_the_sli_of_a_policy_needs_samples_for_min_samples() -> None:
    own = SliDefinition(name="depth", unit="requests", query='max(depth{pod=~"$pods"})')
    guard = {"name": "depth", "sli": "depth", "max": 5, "minSamples": 10}
    assert "minSamples needs the query `samples`" in (guards_problem(observed(guard), definitions=(own,)) or "")
    counted = own.model_copy(update={"samples": 'sum(depth_count{pod=~"$pods"})'})
    assert guards_problem(observed(guard), definitions=(counted,)) is None
    assert "there is no SLI 'depth'" in (guards_problem(observed(guard)) or "")


def test_without_a_gateway_triton_and_policies_are_measured() -> None:
    own = SliDefinition(name="depth", unit="requests", query='max(depth{pod=~"$pods"})')
    guards = [{"name": "failures", "sli": "triton-failure-ratio", "max": 0.01}, {"name": "d", "sli": "depth", "max": 5}]
    service = parse_modeldeployment(manifest(guards=guards, service=True, strategy="BlueGreen"))
    assert guards_problem(service, definitions=(own,)) is None
    assert "there is no SLI 'depth'" in (guards_problem(service) or "")


@pytest.mark.parametrize("profile", ["istio", "traefik", "nginx-gateway-fabric"])
def test_the_profile_of_the_gateway_decides(profile: str) -> None:
    problem = guards_problem(mirrored(LATENCY, traffic="http"), profile=profile)
    if profile == "nginx-gateway-fabric":
        assert problem == (
            "guard latency: the gateway profile nginx-gateway-fabric has no latency-p99: NGINX exports an average time "
            "of each peer and no histogram; use triton-compute-time, or a query"
        )
    else:
        assert problem is None
    problem = guards_problem(mirrored(ERRORS, traffic="http", **SHADOW), profile=profile) or ""
    assert problem.startswith("guard errors: error-ratio of http cannot be measured by the source Mirror")


def test_a_rate_has_no_confidence() -> None:
    problem = guards_problem(deployment({"name": "rate", "sli": "request-rate", "min": 5, "confidence": 0.99}))
    assert problem == ("guard rate: request-rate follows the weight and has no share to be sure of: remove confidence")
