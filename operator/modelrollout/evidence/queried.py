"""SLIs that a PromQL query answers: those of Triton and the observer (data files beside this module), and policies'."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from enum import StrEnum
from functools import cache, lru_cache
from importlib.resources import files
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from modelrollout.api.rolloutpolicy import Direction, SliDefinition
from modelrollout.evidence.context import Context
from modelrollout.evidence.growth import expanded
from modelrollout.evidence.promql import QueryError, check_size, compile_query

LONGEST_WINDOW = timedelta(hours=720)

_PART = re.compile(r"<([a-z-]+)>")
_PARTS_DEEP = 5


class CatalogError(ValueError):
    """A catalog file is missing or wrong, or has no such SLI; the message says which key, or what to write instead."""


class Scope(StrEnum):
    """What the value is about."""

    ARM = "arm"
    INPUTS = "inputs"


class Part(StrEnum):
    """A part of spec.observation without which the observer does not count for an SLI."""

    PROFILE = "profile"
    COMPARISON = "comparison"
    LABELS = "labels"


class QueryIndicator(BaseModel):
    """One SLI that Prometheus computes.

    ``query`` answers one number, or with ``subject`` one series a value of that label; ``samples`` likewise how many
    requests each is made of. ``where`` are the labels that guards may choose, with the label of the series each is
    matched with; None takes any. ``requires`` are parts of spec.observation, ``needs`` selectors of series that are
    there before any request, ``faults`` selectors or queries of what must not be above 0,
    with what it means where it is; where one of ``blind`` is, nothing at all is counted.
    ``drift`` says that a breach is drift of its subject, ``quality`` that it is made of true labels. ``whole``: the
    value is that of all subjects together, the series without that label; the others only tell which is worst.
    ``scope`` inputs: both arms get the same. ``origin`` names the catalog, or ``policy``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["query"] = "query"
    unit: str
    description: str
    direction: Direction = Direction.HIGHER_IS_WORSE
    query: str
    samples: str | None = None
    needs: tuple[str, ...] = ()
    faults: dict[str, str] = {}
    blind: dict[str, str] = {}
    scope: Scope = Scope.ARM
    subject: str | None = None
    whole: bool = False
    where: dict[str, str] | None = {}
    requires: tuple[Part, ...] = ()
    drift: bool = False
    quality: bool = False
    origin: str = "policy"

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, raw: Any) -> Any:
        """Put the ``parts`` of a catalog's texts in."""
        if not isinstance(raw, dict) or "parts" not in raw:
            return raw
        parts = raw["parts"]
        rest = {key: value for key, value in raw.items() if key != "parts"}
        for key in ("query", "samples"):
            if key in rest:
                rest[key] = _put_in(rest[key], parts)
        return rest

    @model_validator(mode="after")
    def _works(self) -> Self:
        for text in self.texts():
            try:
                # Whether it stays in a namespace is known where it is asked.
                _compiled(text, "n", "d", "d-0", "d-1", timedelta(hours=1), False, (("a", "b"),))
            except QueryError as error:
                raise ValueError(str(error)) from error
        return self

    @property
    def subject_name(self) -> str:
        """What guards call the label of the subjects in ``where``; empty where there is one value only."""
        return next((name for name, label in (self.where or {}).items() if label == self.subject), self.subject or "")

    def texts(self) -> Iterator[str]:
        """The query and samples."""
        yield self.query
        if self.samples is not None:
            yield self.samples

    def compiled(self, text: str, context: Context, window: timedelta, where: dict[str, str]) -> str:
        """``text`` as it is sent for the arm of ``context``; raises QueryError and CatalogError.

        ``where`` are the labels that the guard chose.
        """
        return _compiled(
            text,
            context.namespace,
            context.name,
            context.revision,
            context.stable,
            window,
            context.enforce_namespace,
            tuple(sorted((self.label_of(name), value) for name, value in where.items())),
        )

    def label_of(self, name: str) -> str:
        """The label of the series that ``name`` in a guard's where is matched with; raises CatalogError."""
        if self.where is None:
            return name
        if name not in self.where:
            known = f"labels of it are {', '.join(self.where)}" if self.where else "it has none: remove where"
            raise CatalogError(f"where: {name!r} means nothing to this SLI; {known}")
        return self.where[name]


def _compiled(
    text: str,
    namespace: str,
    name: str,
    revision: str,
    stable: str,
    window: timedelta,
    enforce_namespace: bool,
    where: tuple[tuple[str, str], ...],
) -> str:
    check_size(text)
    return compile_query(
        expanded(text, window),
        namespace,
        name,
        revision,
        stable,
        window,
        enforce_namespace,
        where,
        LONGEST_WINDOW,
        trusted=True,
    )


def _put_in(text: str, parts: dict[str, str]) -> str:
    for _ in range(_PARTS_DEEP):
        text = _PART.sub(lambda match: parts.get(match[1], match[0]).strip(), text)
    return " ".join(text.split())


@lru_cache(maxsize=512)
def defined(definition: SliDefinition) -> QueryIndicator:
    """The SLI of a policy; raises CatalogError where its query can never be used."""
    try:
        return QueryIndicator(
            unit=definition.unit,
            description=definition.description,
            direction=definition.direction,
            query=definition.query,
            samples=definition.samples,
            where=None if "$where" in definition.query else {},
        )
    except ValueError as error:
        message = str(error.errors()[0]["msg"]) if hasattr(error, "errors") else str(error)
        raise CatalogError(f"the SLI {definition.name} of a policy: {message.removeprefix('Value error, ')}") from error


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    catalog: str
    parts: dict[str, str] = {}
    faults: dict[str, dict[str, str]] = {}
    """Faults that several SLIs have, as anchors of YAML."""
    slis: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]


def read_queried(text: str, origin: str) -> dict[str, QueryIndicator]:
    """Read a catalog of queries from YAML, by name; raises CatalogError naming ``origin``."""
    try:
        content = _File.model_validate(yaml.safe_load(text))
        return {
            name: QueryIndicator.model_validate(
                {**entry, "origin": content.catalog, "parts": {**content.parts, **entry.get("parts", {})}}
            )
            for name, entry in content.slis.items()
        }
    except (yaml.YAMLError, ValueError) as error:
        raise CatalogError(f"{origin}: {error}") from error


@cache
def queried() -> dict[str, QueryIndicator]:
    """The SLIs of Triton and the observer, which need no gateway."""
    found: dict[str, QueryIndicator] = {}
    for name in ("triton", "observer"):
        place = files("modelrollout.evidence") / "catalog" / f"{name}.yaml"
        found.update(read_queried(place.read_text("utf-8"), str(place)))
    return found
