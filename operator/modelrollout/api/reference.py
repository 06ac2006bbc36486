"""The reference pages, generated: every field of the resources, every condition and every event reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from modelrollout.api.base import GROUP, VERSION
from modelrollout.api.crd import RESOURCES, Resource, schema_of
from modelrollout.api.reasons import AttemptReason, ConditionType, EventReason
from modelrollout.api.rules import VALIDATIONS
from modelrollout.api.structural import Schema

NOTE = (
    "<!-- Generated from operator/modelrollout/api by"
    " `python -m modelrollout crds write crds/ --docs docs/`. Do not edit. -->\n"
)


def generate() -> dict[str, str]:
    """All generated pages as Markdown, by file name."""
    return {"api-reference.md": api_reference(), "conditions-and-events.md": conditions_and_events()}


def api_reference() -> str:
    """One table for each object, in the order of the fields."""
    introduction = (
        f"Group `{GROUP}`, version `{VERSION}`, namespaced. Durations are written like `90s`, `5m`, "
        "`1h30m` or `500ms`. Fields marked * are required. What is said under *Refused* is checked at "
        "`kubectl apply`, and by the operator again."
    )
    lines = [NOTE, "# API reference", "", introduction, ""]
    for resource in RESOURCES:
        lines += _resource(resource)
    return "\n".join(lines).rstrip() + "\n"


REASONS_ARE = "In `status.rollout.reason`, `status.history[].reason` and `status.attempts[].reason` of a ModelRevision."


def conditions_and_events() -> str:
    """The stable words, what each means and what it asks of a person."""
    introduction = (
        "All conditions of a ModelDeployment but DriftDetected are positive: `True` is the good state. Types and "
        "event reasons are stable words to match on; messages are for people and may change."
    )
    lines = [NOTE, "# Conditions and events", "", introduction, "", "## Conditions", ""]
    for condition in ConditionType:
        lines += [
            f"### {condition}",
            "",
            f"* **True:** {condition.when_true}",
            f"* **False:** {condition.when_false}",
            f"* **What to do:** {condition.action}",
            "",
        ]
    lines += ["## Events", "", "| reason | what it says | what to do |", "|---|---|---|"]
    lines += [f"| `{reason}` | {_cell(reason.meaning)} | {_cell(reason.action)} |" for reason in EventReason]
    lines += [
        "",
        "## Reasons of an attempt",
        "",
        REASONS_ARE,
        "",
        "| reason | what it says | what to do |",
        "|---|---|---|",
    ]
    lines += [f"| `{reason}` | {_cell(reason.meaning)} | {_cell(reason.action)} |" for reason in AttemptReason]
    return "\n".join(lines) + "\n"


def _resource(resource: Resource) -> list[str]:
    schema = schema_of(resource)
    lines = [f"## {resource.kind}", "", f"Short name `{resource.short_name}`. {schema['description']}", ""]
    lines += _refused(schema)
    for part in [name for name in ("spec", "status") if name in schema["properties"]]:
        for path, inner in _objects(part, schema["properties"][part]):
            lines += [f"### {resource.kind} {path}", "", inner.get("description", ""), "", *_table(inner)]
            lines += _refused(inner)
    return lines


def _objects(path: str, schema: Schema) -> Iterator[tuple[str, Schema]]:
    """Every object with fields below ``path``, itself first."""
    yield path, schema
    for name, inner in schema["properties"].items():
        below = f"{path}.{name}"
        while inner.get("type") == "array":
            below, inner = f"{below}[]", inner["items"]
        if "properties" in inner:
            yield from _objects(below, inner)


def _table(schema: Schema) -> list[str]:
    required = schema.get("required", [])
    lines = ["| field | type | default | what it is |", "|---|---|---|---|"]
    for name, field in schema["properties"].items():
        mark = "*" if name in required else ""
        default = f"`{_plain(field['default'])}`" if "default" in field else ""
        lines.append(f"| `{name}`{mark} | {_type(field)} | {default} | {_cell(field.get('description', ''))} |")
    return [*lines, ""]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _type(field: Schema) -> str:
    if "enum" in field:
        return " \\| ".join(f"`{value}`" for value in field["enum"])
    match field.get("type"):
        case "array":
            return f"list of {_type(field['items'])}"
        case "object" if "additionalProperties" in field:
            return f"map of {_type(field['additionalProperties'])}"
        case "string" if field.get("format") == "date-time":
            return "time"
        case None:
            return "integer or string"
        case known:
            return str(known)


def _refused(schema: Schema) -> list[str]:
    """The sentences of the rules on this object and on its fields that are no objects themselves."""
    rows = [rule["message"] for rule in schema.get(VALIDATIONS, [])]
    for name, field in schema.get("properties", {}).items():
        rows += [f"`{name}`: {sentence}" for sentence in _sentences(field)]
    if not rows:
        return []
    return ["*Refused, with these words:*", "", *(f"* {_angle(row)}" for row in rows), ""]


def _sentences(field: Schema) -> list[str]:
    if "properties" in field:
        return []
    own = [rule["message"] for rule in field.get(VALIDATIONS, [])]
    inner = field.get("items") or field.get("additionalProperties")
    return own + (_sentences(inner) if inner else [])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _angle(text: str) -> str:
    """Outside of code, Markdown would take ``<claim>`` for HTML and ``*.`` for emphasis."""
    return text.replace("<", "&lt;").replace("*.", "\\*.")
