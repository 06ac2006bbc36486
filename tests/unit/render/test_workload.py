"""Promises of the pods, beyond what golden files show at a glance."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest

from modelrollout.api.modeldeployment import parse_modeldeployment, revision_name
from modelrollout.render.fetch import MODELS
from modelrollout.render.names import is_ours, labels
from modelrollout.render.revision import MADE_WITH, Materials, materials, settings_problem
from modelrollout.render.workload import deployment
from modelrollout.settings import parse
from tests.unit.render.cases import CASES, RECORD_UID, load_case
from tests.unit.render.restricted import violations

LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")


def pod_of(name: str, **changes: Any) -> dict[str, Any]:
    case = load_case(name, **changes)
    spec: dict[str, Any] = deployment(case.revision, 1, case.materials)["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize("name", CASES)
def test_pods_are_restricted(name: str) -> None:
    assert violations(pod_of(name)) == []


@pytest.mark.parametrize("key", ["runAsNonRoot", "seccompProfile", "runAsUser"])
def test_the_check_itself_finds_what_is_missing(key: str) -> None:
    spec = copy.deepcopy(pod_of("canary-s3"))
    del spec["securityContext"][key]
    assert violations(spec) == [f"fetch: {key}", f"server: {key}"]


def test_the_operator_never_sees_the_credentials() -> None:
    (fetch,) = pod_of("canary-s3")["initContainers"]
    given = {entry["name"]: entry["valueFrom"]["secretKeyRef"] for entry in fetch["env"] if "valueFrom" in entry}
    assert given == {
        "AWS_ACCESS_KEY_ID": {"name": "model-store", "key": "AWS_ACCESS_KEY_ID"},
        "AWS_SECRET_ACCESS_KEY": {"name": "model-store", "key": "AWS_SECRET_ACCESS_KEY"},
        "AWS_SESSION_TOKEN": {"name": "model-store", "key": "AWS_SESSION_TOKEN", "optional": True},
    }
    server = pod_of("canary-s3")["containers"][0]
    assert not any("valueFrom" in entry for entry in server["env"])


def test_ready_means_the_model() -> None:
    server = pod_of("first-pvc-gpu")["containers"][0]
    for probe in ("startupProbe", "readinessProbe"):
        assert server[probe]["httpGet"]["path"] == "/v2/models/llm.chat_v2/ready"
    assert server["livenessProbe"]["httpGet"]["path"] == "/v2/health/live"


def test_the_grace_period_covers_drain_and_exit() -> None:
    spec = pod_of("canary-s3")
    server = spec["containers"][0]
    wait = server["lifecycle"]["preStop"]["sleep"]["seconds"]
    (exit_timeout,) = [int(arg.split("=")[1]) for arg in server["args"] if arg.startswith("--exit-timeout-secs=")]
    assert wait + exit_timeout < spec["terminationGracePeriodSeconds"]


def test_no_drain_is_no_hook() -> None:
    case = load_case("canary-s3")
    made = Materials(case.materials.pool, case.materials.operator_image, 0, 30)
    server = deployment(case.revision, 1, made)["spec"]["template"]["spec"]["containers"][0]
    assert "lifecycle" not in server


def test_every_mount_has_a_volume_and_the_models_are_read_only() -> None:
    for name in CASES:
        spec = pod_of(name)
        volumes = {volume["name"] for volume in spec["volumes"]}
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
        (repository,) = [
            mount
            for mount in spec["containers"][0]["volumeMounts"]
            if MODELS.startswith(mount["mountPath"] + "/") or mount["mountPath"] == MODELS
        ]
        assert repository["readOnly"] is True


def test_the_root_of_a_claim_has_no_sub_path() -> None:
    (mount,) = [m for m in pod_of("first-minimal")["containers"][0]["volumeMounts"] if m["name"] == "repository"]
    assert "subPath" not in mount


def test_own_resources_go_before_the_pools_and_the_accelerator_is_added() -> None:
    resources = pod_of("first-pvc-gpu")["containers"][0]["resources"]
    assert resources == {
        "requests": {"cpu": "4", "memory": "32Gi"},
        "limits": {"memory": "64Gi", "nvidia.com/gpu": "2"},
    }


def test_own_environment_replaces_defaults_without_naming_anything_twice() -> None:
    env = pod_of("first-pvc-gpu")["containers"][0]["env"]
    assert env == [{"name": "HOME", "value": "/tmp/home"}, {"name": "EMPTY", "value": ""}]


def test_names_and_labels_fit_for_the_longest_name() -> None:
    case = load_case("canary-s3")
    raw = case.wish.model_dump(mode="json", by_alias=True, exclude_none=True)
    raw["metadata"]["name"] = "a" * 52
    wish = parse_modeldeployment({key: raw[key] for key in ("apiVersion", "kind", "metadata", "spec")})
    name = revision_name(wish.metadata.name, wish.spec)
    assert len(name) <= 63
    for value in labels(wish.metadata.name, name).values():
        assert len(value) <= 63
        assert LABEL.fullmatch(value)


def test_ownership_is_by_uid() -> None:
    body = load_case("canary-s3").objects()[1]
    assert is_ours(body, RECORD_UID)
    assert not is_ours(body, "another")
    body["metadata"]["ownerReferences"][0]["controller"] = False
    assert not is_ours(body, RECORD_UID)


def test_a_live_deployment_keeps_what_its_pods_were_made_with() -> None:
    case = load_case("canary-s3")
    live = deployment(case.revision, 2, case.materials)
    changed = parse("operatorImage: registry.example.com/modelrollout:9\ndrain: 1s\npools: {}\n")

    kept = materials(case.revision, changed, live)
    assert kept == case.materials
    assert deployment(case.revision, 2, kept) == live
    assert materials(case.revision, changed) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"pool": {"imagee": "x"}, "operatorImage": null}', "null"])
def test_a_spoilt_annotation_falls_back_to_the_settings(text: str) -> None:
    case = load_case("canary-s3")
    live = {"metadata": {"annotations": {MADE_WITH: text}}}
    assert materials(case.revision, case.settings, live) == case.materials


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("pools: {gpu: {image: x}, tpu: {}}", "spec.pool: this cluster has no pool 'cpu'; it has gpu, tpu"),
        ("pools: {}", "it has none"),
        ("{}", "spec.runtime.image: the pool 'cpu' names no image"),
        ("pools: {cpu: {image: x}}", "s3 sources need operatorImage"),
        (
            "{pools: {cpu: {image: x}}, operatorImage: y, prometheus: {other: {url: 'http://p'}}}",
            "spec.rollout.prometheus: the operator knows no Prometheus 'default'; it knows other",
        ),
    ],
)
def test_what_the_settings_cannot_carry_out(settings: str, words: str) -> None:
    problem = settings_problem(load_case("canary-s3").wish, parse(settings))
    assert problem is not None
    assert words in problem


def test_what_they_can() -> None:
    for name in CASES:
        case = load_case(name)
        assert settings_problem(case.wish, case.settings) is None
