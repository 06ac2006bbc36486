"""The SLI catalog: per gateway, which counters make an SLI. Data files beside this module, checked when read."""

from __future__ import annotations

import re
from collections.abc import Sequence
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
from modelrollout.rollout.plan import Source


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


class Counters(_Entry):
    """The counters of one SLI and protocol: what to select, and which labels give a series its role.

    ``alive`` is a series that is there whenever the process is scraped, ``sentinel`` the counter that a cluster has
    once it had a request. ``blind`` says for which sources these counters tell nothing, and why.
    """

    select: str
    series: dict[str, dict[str, str]]
    blind: dict[Source, str] = {}

    @field_validator("select")
    @classmethod
    def _is_a_selector(cls, text: str) -> str:
        node = promql_parser.parse(fill(text, {"cluster": ("a/b", "c")}))
        if not isinstance(node, promql_parser.VectorSelector):
            raise ValueError("must be one vector selector")
        if not any(
            matcher.op == promql_parser.MatchOp.Re and matcher.value.removesuffix("|") == "a/b|c"
            for matcher in node.matchers.matchers
        ):
            raise ValueError("must select by =~ $cluster, or it would count the traffic of others")
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

    def query(self, clusters: Sequence[str]) -> str:
        """The selector for these clusters of the proxy together."""
        return fill(self.select, {"cluster": clusters})

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
    http: Counters
    grpc: Counters

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if (self.kind is Kind.QUANTILE) != (self.quantile is not None):
            raise ValueError("quantile belongs to kind quantile, and only there")
        for counters in (self.http, self.grpc):
            if set(counters.series) != ROLES[self.kind]:
                raise ValueError(f"kind {self.kind} needs the roles {', '.join(sorted(ROLES[self.kind]))}")
        return self

    def counters(self, protocol: str) -> Counters:
        """The counters for ``http`` or ``grpc``."""
        return self.http if protocol == "http" else self.grpc


Names = Annotated[tuple[str, ...], Field(min_length=1)]


class Clusters(_Entry):
    """The names of the statistics of one arm by protocol and source, and the label that bears them."""

    label: str
    http: dict[Source, Names]
    grpc: dict[Source, Names]

    @field_validator("http", "grpc")
    @classmethod
    def _are_of_one_arm(cls, names: dict[Source, Names]) -> dict[Source, Names]:
        if Source.WEIGHTED not in names:
            raise ValueError("lacks the source Weighted, which every strategy ends with")
        for source, texts in names.items():
            for text in texts:
                used = set(PLACEHOLDER.findall(text))
                if not {"namespace", "name"} <= used <= {"namespace", "name", "slot", "pinned"}:
                    raise ValueError(f"{source} must be made of $namespace, $name, $slot and $pinned")
                if source in (Source.WEIGHTED, Source.SPLIT) and not used & {"slot", "pinned"}:
                    raise ValueError(f"{source} must name the arm, by $slot or $pinned")
        return names


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

    def names(self, protocol: str, context: Context) -> tuple[str, ...]:
        """The names under which the gateway counts the traffic of the arm; raises CatalogError where it does not."""
        texts = (self.clusters.http if protocol == "http" else self.clusters.grpc).get(context.source)
        if texts is None:
            raise CatalogError(
                f"the gateway profile {self.profile} has no counters for the source {context.source}: "
                "give the guard a query"
            )
        values = {
            "namespace": context.namespace,
            "name": context.name,
            "slot": str(context.slot),
            "pinned": str(1 + context.slot),
        }
        return tuple(PLACEHOLDER.sub(lambda match: values[match[1]], text) for text in texts)

    def indicator(self, sli: Sli, context: Context) -> Indicator:
        """The entry of ``sli``; raises CatalogError where a protocol of the arm cannot be judged by its source.

        Half of the protocols is not enough: the other half of the traffic would pass unseen.
        """
        found = self.slis[sli]
        for protocol in context.protocols:
            reason = found.counters(protocol).blind.get(context.source)
            if reason is not None:
                raise CatalogError(f"{sli} of {protocol} cannot be measured by the source {context.source}: {reason}")
        return found


def read(text: str, origin: str) -> Catalog:
    """Read a catalog from YAML; raises CatalogError naming ``origin``."""
    try:
        return Catalog.model_validate(yaml.safe_load(text))
    except (yaml.YAMLError, ValueError) as error:
        raise CatalogError(f"{origin}: {error}") from error


@cache
def catalog(profile: str | None) -> Catalog:
    """The catalog of a gateway profile; raises CatalogError where there is none."""
    if profile is None:
        raise CatalogError("an sli is measured at the gateway, and there is none: give the guard a query")
    place = files("modelrollout.evidence") / "catalog" / f"{profile}.yaml"
    if not re.fullmatch(r"[a-z0-9-]+", profile) or not place.is_file():
        raise CatalogError(f"there is no SLI catalog for the gateway profile {profile!r}")
    return read(place.read_text("utf-8"), str(place))
