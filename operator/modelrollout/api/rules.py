"""Validation rules said once: CEL for the API server, a predicate for the operator, one sentence for both."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

VALIDATIONS = "x-kubernetes-validations"


def add_validations(schema: JsonSchemaValue, rules: Iterable[Rule]) -> JsonSchemaValue:
    """Append the CEL of ``rules`` to a JSON schema, in order."""
    # A new list: the one that is there may belong to the constant of a type that many fields share.
    schema[VALIDATIONS] = [*schema.get(VALIDATIONS, []), *(rule.to_validation() for rule in rules)]
    return schema


@dataclass(frozen=True)
class Rule:
    """One validation of a value.

    ``cel`` is an expression over ``self``; ``holds`` is the same in Python; ``sentence`` says what to change.
    Annotate a scalar with it (``Annotated[str, rule]``) or list it in the ``rules`` of a model.
    """

    cel: str
    sentence: str
    holds: Callable[[Any], object]

    def to_validation(self) -> dict[str, str]:
        """An entry of ``x-kubernetes-validations``."""
        return {"rule": self.cel, "message": self.sentence}

    def check(self, value: Any) -> Any:
        """Return ``value``; raises ValueError with the sentence where the rule does not hold."""
        if not self.holds(value):
            raise ValueError(self.sentence)
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return add_validations(handler(schema), [self])


def matches(pattern: str, sentence: str) -> Rule:
    """A rule on strings: the whole string matches ``pattern`` (RE2 syntax, anchored with ^ and $)."""
    # fullmatch: Python's $ alone would let a trailing newline through, RE2's does not.
    compiled = re.compile(pattern)
    return Rule(f"self.matches(r'{pattern}')", sentence, compiled.fullmatch)


@dataclass(frozen=True)
class ListKey:
    """Marks a list as a Kubernetes list map (``key`` names the field) or, without key, as a set."""

    key: str | None = None

    def _identity(self, item: Any) -> Hashable:
        identity: Hashable = item if self.key is None else getattr(item, self.key)
        return identity

    def _check(self, items: Any) -> Any:
        identities = [self._identity(item) for item in items]
        if len(set(identities)) != len(identities):
            what = "values" if self.key is None else f"{self.key}s"
            raise ValueError(f"Duplicate value: {what} must be unique, remove or rename the repeated one")
        return items

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        found = handler(schema)
        if self.key is None:
            return found | {"x-kubernetes-list-type": "set"}
        return found | {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [self.key]}
