"""From a pydantic model to a structural schema as CustomResourceDefinitions want it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema
from typing_extensions import override

from modelrollout.api.durations import format_duration
from modelrollout.api.rules import VALIDATIONS

Schema = dict[str, Any]

_DROPPED = {"title", "$defs", "propertyNames"}


def structural(model: type[BaseModel]) -> Schema:
    """The structural schema of ``model``: no references, no null, defaults kept, descriptions as plain text."""
    schema = model.model_json_schema(by_alias=True, schema_generator=_Generator)
    return _convert(schema, schema.get("$defs", {}))


def without_defaults(schema: Schema) -> Schema:
    """The same without any default: a status is what was written, nothing else."""
    kept: Schema = {}
    for key, value in schema.items():
        if key == "properties":
            kept[key] = {name: without_defaults(part) for name, part in value.items()}
        elif key in ("items", "additionalProperties"):
            kept[key] = without_defaults(value)
        elif key != "default":
            kept[key] = value
    return kept


class _Generator(GenerateJsonSchema):
    @override
    def encode_default(self, dft: Any) -> Any:
        # pydantic would write a duration as PT10M where a rule stands between the field and its serializer
        return format_duration(dft) if isinstance(dft, timedelta) else super().encode_default(dft)


def _convert(node: Schema, definitions: dict[str, Schema]) -> Schema:
    node = _flatten(node, definitions)
    result: Schema = {}
    for key, value in node.items():
        if key in _DROPPED or (key == "additionalProperties" and not isinstance(value, dict)):
            continue
        if key == "description":
            result[key] = " ".join(value.replace("``", "`").split())
        elif key == "const":
            result["enum"] = [value]
        elif key == "properties":
            result[key] = {name: _convert(part, definitions) for name, part in value.items()}
        elif key in ("items", "additionalProperties"):
            result[key] = _convert(value, definitions)
        elif key == "default":
            if (default := _without_empty(value)) not in (None, "", {}, []):
                result[key] = default
        else:
            result[key] = value
    return dict(sorted(result.items()))


def _flatten(node: Schema, definitions: dict[str, Schema]) -> Schema:
    """Put references and ``X or null`` in place; what stands beside a reference wins, rules add up."""
    node = dict(node)
    while True:
        if "$ref" in node:
            inner = definitions[node.pop("$ref").removeprefix("#/$defs/")]
        elif "anyOf" in node:
            choices = [choice for choice in node.pop("anyOf") if choice != {"type": "null"}]
            if len(choices) != 1:
                raise ValueError(f"a structural schema knows no choice of types: {choices}")
            inner = choices[0]
        else:
            return node
        rules = [*inner.get(VALIDATIONS, []), *node.get(VALIDATIONS, [])]
        node = {**inner, **node}
        if rules:
            node[VALIDATIONS] = rules


def _without_empty(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_empty(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {key: _without_empty(item) for key, item in value.items()}
    return {key: item for key, item in kept.items() if item not in (None, "", {}, [])}
