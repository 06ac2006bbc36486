"""What all resources share: group and version, the base models for spec and status, and the scalar types."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    Strict,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema
from typing_extensions import override

from modelrollout.api.durations import Duration, format_duration, parse_duration
from modelrollout.api.rules import Rule, add_validations

__all__ = [
    "API_VERSION",
    "GROUP",
    "VERSION",
    "ApiModel",
    "Duration",
    "First",
    "Instant",
    "Line",
    "Number",
    "SpecModel",
    "StatusModel",
    "StrictBool",
    "StrictFloat",
    "StrictInt",
    "clean",
    "format_duration",
    "format_instant",
    "parse_duration",
]

GROUP = "modelrollout.io"
VERSION = "v1alpha1"
API_VERSION: Literal["modelrollout.io/v1alpha1"] = "modelrollout.io/v1alpha1"

# Without Strict, Python would take "5" and true as numbers where the API server refuses them.
StrictInt = Annotated[int, Strict()]
StrictBool = Annotated[bool, Strict()]
StrictFloat = Annotated[float, Strict(), Field(allow_inf_nan=False)]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


def clean(text: str, limit: int) -> str:
    """One line of at most ``limit`` characters, without control characters; a cut one ends in ``...``."""
    # Nearly every text is printable, and looking that up takes a tenth of what replacing takes.
    line = (text if text.isprintable() else _CONTROL.sub(" ", text)).strip()
    return line if len(line) <= limit else line[: limit - 3] + "..."


def format_instant(value: datetime) -> str:
    """RFC 3339 in UTC with microseconds and ``Z``."""
    return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _countable(value: datetime) -> datetime:
    # Times are added to and moved between zones: at either end of the calendar that is an error.
    if not 1970 <= value.year < 9000:
        raise ValueError("must be a year from 1970 to 8999")
    return value


Instant = Annotated[
    AwareDatetime,
    AfterValidator(_countable),
    PlainSerializer(format_instant, return_type=str, when_used="json-unless-none"),
    Field(json_schema_extra={"type": "string", "format": "date-time", "maxLength": 40}),
]
"""A timezone-aware ``datetime`` in Python, RFC 3339 in UTC with microseconds in JSON."""


@dataclass(frozen=True)
class Line:
    """Marks a status text: one line, cut on reading and writing, so no status is refused for its length."""

    limit: int

    def _cut(self, value: Any) -> Any:
        return clean(value, self.limit) if isinstance(value, str) else value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(
            self._cut,
            handler(source),
            serialization=core_schema.plain_serializer_function_ser_schema(self._cut),
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(schema) | {"maxLength": self.limit}


@dataclass(frozen=True)
class First:
    """Marks a status list: only its first ``limit`` items are read and written."""

    limit: int

    def _cut(self, value: Any) -> Any:
        return value[: self.limit] if isinstance(value, list | tuple) else value

    def _write(self, value: Any, handler: SerializerFunctionWrapHandler) -> Any:
        return handler(self._cut(value))

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(
            self._cut,
            handler(source),
            serialization=core_schema.wrap_serializer_function_ser_schema(self._write),
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(schema) | {"maxItems": self.limit}


def _finite_or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


Number = Annotated[
    float | None,
    BeforeValidator(_finite_or_none),
    PlainSerializer(_finite_or_none, return_type=float | None),
]
"""A measured value; NaN and infinities have no JSON form and become None."""


class ApiModel(BaseModel):
    """A frozen part of a resource: snake_case in Python, camelCase in YAML, each field documented below it.

    ``rules`` hold for the whole part; they run here and, as CEL, in the API server.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )

    rules: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="after")
    def _check_rules(self) -> Self:
        wrong = [rule.sentence for rule in self.rules if not rule.holds(self)]
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    @classmethod
    @override
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        found = handler(schema)
        if cls.rules:
            add_validations(handler.resolve_ref_schema(found), cls.rules)
        return found


class SpecModel(ApiModel):
    """A part that a user writes: unknown fields are errors."""

    model_config = ConfigDict(extra="forbid")


class StatusModel(ApiModel):
    """A part that the operator writes: unknown fields (of another operator version) are passed over."""

    model_config = ConfigDict(extra="ignore")
