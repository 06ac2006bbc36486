"""The generated files: up to date, deterministic, and within the rules that only a review would find broken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from modelrollout.api import crd, reference
from modelrollout.api.crd import RESOURCES, schema_of
from modelrollout.api.reasons import ConditionType, EventReason
from modelrollout.cli.crds import crds

REPOSITORY = Path(__file__).parents[3]


def test_the_committed_files_are_up_to_date() -> None:
    arguments = ["check", str(REPOSITORY / "crds"), "--docs", str(REPOSITORY / "docs")]
    result = CliRunner().invoke(crds, arguments)
    assert result.exit_code == 0, result.output


def test_write_then_check(tmp_path: Path) -> None:
    folder, docs = tmp_path / "crds", tmp_path / "docs"
    arguments = [str(folder), "--docs", str(docs)]
    assert CliRunner().invoke(crds, ["check", *arguments]).exit_code == 1
    assert CliRunner().invoke(crds, ["write", *arguments]).exit_code == 0
    assert CliRunner().invoke(crds, ["check", *arguments]).exit_code == 0
    assert CliRunner().invoke(crds, ["write", *arguments]).output == ""
    stale = next(folder.iterdir())
    stale.write_text("other")
    result = CliRunner().invoke(crds, ["check", *arguments])
    assert result.exit_code == 1
    assert stale.name in result.output


def test_generation_is_deterministic() -> None:
    assert crd.generate() == crd.generate()
    assert reference.generate() == reference.generate()


def test_the_yaml_is_plain() -> None:
    for text in crd.generate().values():
        assert text.startswith("# Generated")
        assert "&id" not in text
        assert yaml.safe_load(text)["kind"] == "CustomResourceDefinition"


def nodes(path: str, schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from nodes(f"{path}.{name}", part)
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from nodes(f"{path}[]", schema[key])


NODES = [
    (f"{resource.kind}.{part}", path, node)
    for resource in RESOURCES
    for part in ("spec", "status")
    if part in schema_of(resource)["properties"]
    for path, node in nodes(part, schema_of(resource)["properties"][part])
]


def test_everything_is_bounded() -> None:
    unbounded = [
        f"{where}: {path}"
        for where, path, node in NODES
        if (node.get("type") == "string" and not {"maxLength", "enum", "format"} & set(node))
        or (node.get("type") == "array" and "maxItems" not in node)
        or ("additionalProperties" in node and "maxProperties" not in node)
    ]
    assert unbounded == []


def test_the_schema_is_structural() -> None:
    words = {"$ref", "anyOf", "allOf", "oneOf", "const", "title", "definitions", "propertyNames"}
    assert [path for _, path, node in NODES if words & set(node)] == []


def test_a_status_has_no_defaults() -> None:
    assert [path for where, path, node in NODES if where.endswith("status") and "default" in node] == []


@pytest.mark.parametrize("word", [*ConditionType, *EventReason])
def test_every_word_is_explained(word: ConditionType | EventReason) -> None:
    page = reference.conditions_and_events()
    assert f"### {word}\n" in page or f"| `{word}` |" in page
