"""Every example is one that the operator takes, and together they show every field of the spec."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from modelrollout.api.crd import RESOURCES, schema_of
from modelrollout.api.modeldeployment import parse_modeldeployment

EXAMPLES = sorted((Path(__file__).parents[3] / "deploy" / "examples").glob("*.yaml"))


def deployments(example: Path) -> list[dict[str, Any]]:
    found = [each for each in yaml.safe_load_all(example.read_text()) if each["kind"] == "ModelDeployment"]
    assert found
    return found


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_accepted(example: Path) -> None:
    for manifest in deployments(example):
        parse_modeldeployment(manifest)


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
