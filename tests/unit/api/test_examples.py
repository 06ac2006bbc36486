"""Every example is one that the operator takes, and together they show every field of the spec."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from modelrollout.api.crd import RESOURCES, schema_of
from modelrollout.api.modeldeployment import ModelDeployment, Strategy, parse_modeldeployment
from modelrollout.evidence.check import guards_problem

EXAMPLES = sorted((Path(__file__).parents[3] / "deploy" / "examples").glob("*.yaml"))


def deployments(example: Path) -> list[dict[str, Any]]:
    found = [each for each in yaml.safe_load_all(example.read_text()) if each["kind"] == "ModelDeployment"]
    assert found
    return found


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_accepted(example: Path) -> None:
    for manifest in deployments(example):
        parse_modeldeployment(manifest)


def everything() -> list[ModelDeployment]:
    return [parse_modeldeployment(manifest) for example in EXAMPLES for manifest in deployments(example)]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_every_guard_can_be_asked(example: Path) -> None:
    for manifest in deployments(example):
        assert guards_problem(parse_modeldeployment(manifest)) is None


def test_every_strategy_has_an_example() -> None:
    assert {each.spec.rollout.strategy for each in everything()} == {*Strategy}


def test_all_can_be_applied_to_one_namespace() -> None:
    names = [each.metadata.name for each in everything()]
    assert len(set(names)) == len(names)
    hostnames = [
        name
        for each in everything()
        for hosts in (each.spec.traffic.http, each.spec.traffic.grpc)
        if hosts is not None
        for name in hosts.hostnames
    ]
    assert len(set(hostnames)) == len(hostnames)


LOCAL = ("canary-advanced", "blue-green", "blue-green-grpc", "shadow", "ab-test", "recreate", "service-traffic")


@pytest.mark.parametrize("stem", LOCAL)
def test_the_local_cluster_has_what_it_needs(stem: str) -> None:
    (example,) = (path for path in EXAMPLES if path.stem == stem)
    (manifest,) = deployments(example)
    model = parse_modeldeployment(manifest).spec.model
    assert (model.name, model.version) == ("digits", "1.1.0")
    assert model.source.uri == "s3://models/digits/1.1.0"
    assert model.source.endpoint == "http://s3.storage:9000"
    assert model.source.secret_ref is not None
    assert model.source.secret_ref.name == "model-store"


def used(node: Any, path: str = "") -> set[str]:
    if isinstance(node, list):
        return {found for item in node for found in used(item, f"{path}[]")}
    if isinstance(node, dict):
        return {path} | {found for name, item in node.items() for found in used(item, f"{path}.{name}")}
    return {path}


def known(schema: dict[str, Any], path: str = "") -> set[str]:
    if "items" in schema:
        return known(schema["items"], f"{path}[]")
    inner = {found for name, part in schema.get("properties", {}).items() for found in known(part, f"{path}.{name}")}
    return {path} | inner


def test_every_field_is_shown_somewhere() -> None:
    shown = {path for example in EXAMPLES for each in deployments(example) for path in used(each["spec"])}
    assert known(schema_of(RESOURCES[0])["properties"]["spec"]) - shown == set()
