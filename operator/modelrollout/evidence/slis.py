"""The SLI catalog: per gateway, which counters make an SLI. Data files beside this module, checked when read."""

from __future__ import annotations

import re
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Annotated, Self

import promql_parser
import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from modelrollout.api.guard import Sli
from modelrollout.evidence.context import Context
from modelrollout.evidence.promql import PLACEHOLDER, fill
from modelrollout.ports import Series


class CatalogError(ValueError):
    """A catalog file is missing or wrong; the message says which key."""


class Kind(StrEnum):
    """How an SLI is made of its counters."""

    RATIO = "ratio"
    RATE = "rate"
    QUANTILE = "quantile"


ROLES = {
    Kind.RATIO: {"alive", "sentinel", "total", "errors"},
    Kind.RATE: {"alive", "sentinel", "total"},
    Kind.QUANTILE: {"alive", "sentinel", "buckets"},
}


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Entry):
    """The counters of one SLI and protocol: what to select, and which labels give a series its role.

    ``alive`` is a series that is there whenever the process is scraped, ``sentinel`` the counter that is there
    whenever the arm is scraped.
    """

    select: str
    series: dict[str, dict[str, str]]

    @field_validator("select")
    @classmethod
    def _is_a_selector(cls, text: str) -> str:
        node = promql_parser.parse(fill(text, {"cluster": "a/b"}))
        if not isinstance(node, promql_parser.VectorSelector):
            raise ValueError("must be one vector selector")
        if "$cluster" not in text:
            raise ValueError("must select by $cluster, or it would count the traffic of others")
        return text

    @field_validator("series")
    @classmethod
    def _are_patterns(cls, roles: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
        for labels in roles.values():
            if not labels:
                raise ValueError("a role without labels would take every series")
            for pattern in labels.values():
                re.compile(pattern)
        return roles

    def query(self, cluster: str) -> str:
        """The selector for one Envoy cluster."""
        return fill(self.select, {"cluster": cluster})

    def roles_of(self, series: Series) -> tuple[str, ...]:
        """The roles of one series of the answer."""
        return tuple(
            role
            for role, labels in self.series.items()
            if all(re.fullmatch(pattern, series.labels.get(name, "")) for name, pattern in labels.items())
        )


class Indicator(_Entry):
    """One SLI: its kind, unit and counters by protocol; values are multiplied by ``scale`` to get the unit."""

    kind: Kind
    unit: str
    scale: Annotated[float, Field(gt=0)] = 1.0
    quantile: Annotated[float, Field(gt=0, lt=1)] | None = None
    http: Source
    grpc: Source

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if (self.kind is Kind.QUANTILE) != (self.quantile is not None):
            raise ValueError("quantile belongs to kind quantile, and only there")
        for source in (self.http, self.grpc):
            if set(source.series) != ROLES[self.kind]:
                raise ValueError(f"kind {self.kind} needs the roles {', '.join(sorted(ROLES[self.kind]))}")
        return self

    def source(self, protocol: str) -> Source:
        """The counters for ``http`` or ``grpc``."""
        return self.http if protocol == "http" else self.grpc


class Clusters(_Entry):
    """The name of the statistics of one arm, by protocol."""

    http: str
    grpc: str

    @field_validator("*")
    @classmethod
    def _is_one_arm(cls, text: str) -> str:
        if set(PLACEHOLDER.findall(text)) != {"namespace", "name", "slot"}:
            raise ValueError("must be made of $namespace, $name and $slot")
        return text


class Catalog(_Entry):
    """All SLIs of one gateway profile."""

    profile: str
    target: Annotated[tuple[str, ...], Field(min_length=1)]
    clusters: Clusters
    slis: dict[Sli, Indicator]

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        missing = set(Sli) - set(self.slis)
        if missing:
            raise ValueError(f"lacks the SLIs {', '.join(sorted(missing))}")
        return self

    def cluster(self, protocol: str, context: Context) -> str:
        """The name under which the gateway counts the traffic of the arm."""
        text = self.clusters.http if protocol == "http" else self.clusters.grpc
        values = {"namespace": context.namespace, "name": context.name, "slot": str(context.slot)}
        return PLACEHOLDER.sub(lambda match: values[match[1]], text)


def read(text: str, origin: str) -> Catalog:
    """Read a catalog from YAML; raises CatalogError naming ``origin``."""
    try:
        return Catalog.model_validate(yaml.safe_load(text))
    except (yaml.YAMLError, ValueError) as error:
        raise CatalogError(f"{origin}: {error}") from error


@cache
def catalog(profile: str) -> Catalog:
    """The catalog of a gateway profile; raises CatalogError where there is none."""
    place = files("modelrollout.evidence") / "catalog" / f"{profile}.yaml"
    if not re.fullmatch(r"[a-z0-9-]+", profile) or not place.is_file():
        raise CatalogError(f"there is no SLI catalog for the gateway profile {profile!r}")
    return read(place.read_text("utf-8"), str(place))
