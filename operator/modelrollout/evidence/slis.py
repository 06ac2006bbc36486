"""The SLI catalog: what a name means. Per gateway, which counters make an SLI: data files beside this module."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Annotated, Self

import promql_parser
import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from modelrollout.api.guard import Sli
from modelrollout.api.rolloutpolicy import Direction, SliDefinition
from modelrollout.evidence.context import Context
from modelrollout.evidence.promql import fill, quote
from modelrollout.evidence.queried import CatalogError, QueryIndicator, defined, queried
from modelrollout.ports import Series
from modelrollout.rollout.plan import Source

__all__ = ["Catalog", "CatalogError", "Counters", "Indicator", "Kind", "QueryIndicator", "catalog", "find", "read"]


_NAME_PART = re.compile(r"\$([a-z]+)")


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
UNANSWERED = {"sent", "waiting", "retried"}
"""Roles that a ratio has besides where the gateway can tell the requests that nobody answered; all of them or none."""


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Counters(_Entry):
    """The counters of one SLI and protocol: what to select, and which labels give a series its role.

    ``alive`` is a series that is there whenever the process is scraped, ``sentinel`` the counter that a cluster has
    once it had a request. Of those ``sent`` to an arm some are still ``waiting`` for the end of the answer (a gauge),
    some were ``retried``: who is neither, nor in the ``total`` of answers that began, gave up. ``blind`` says for which
    sources these counters tell nothing, and why.
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
            matcher.op == promql_parser.MatchOp.Re
            and (matcher.value.removesuffix("|") == "a/b|c" or "(?:a/b|c)" in matcher.value)
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
    description: str
    direction: Direction = Direction.HIGHER_IS_WORSE
    scale: Annotated[float, Field(gt=0)] = 1.0
    quantile: Annotated[float, Field(gt=0, lt=1)] | None = None
    http: Counters
    grpc: Counters

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if (self.kind is Kind.QUANTILE) != (self.quantile is not None):
            raise ValueError("quantile belongs to kind quantile, and only there")
        for counters in (self.http, self.grpc):
            more = set(counters.series) - ROLES[self.kind]
            if not ROLES[self.kind] <= set(counters.series) or more not in (set(), UNANSWERED):
                raise ValueError(f"kind {self.kind} needs the roles {', '.join(sorted(ROLES[self.kind]))}")
        return self

    def counters(self, protocol: str) -> Counters:
        """The counters for ``http`` or ``grpc``."""
        return self.http if protocol == "http" else self.grpc

    def needs(self, protocol: str) -> str:
        """The selector of the series that is there whatever the gateway serves."""
        labels = self.counters(protocol).series["alive"]
        return f"{{{','.join(f'{name}=~{quote(pattern)}' for name, pattern in labels.items())}}}"


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
                used = set(_NAME_PART.findall(text))
                own = {"namespace", "name"} <= used or {"namespace", "revision"} <= used
                if not own or not used <= {"namespace", "name", "slot", "pinned", "revision"}:
                    raise ValueError(
                        f"{source} must be made of $namespace, $name or $revision, and of $slot and $pinned"
                    )
                if source in (Source.WEIGHTED, Source.SPLIT) and not used & {"slot", "pinned", "revision"}:
                    raise ValueError(f"{source} must name the arm, by $slot, $pinned or $revision")
        return names


class Catalog(_Entry):
    """All SLIs of one gateway profile.

    ``absent`` says of those that it lacks, why; ``hint`` what to look at where its series are missing.
    """

    profile: str
    hint: str = "are the gateway's proxies scraped?"
    target: Annotated[tuple[str, ...], Field(min_length=1)]
    clusters: Clusters
    slis: dict[Sli, Indicator]
    absent: dict[Sli, str] = {}

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        missing = set(Sli) - set(self.slis) - set(self.absent)
        if missing:
            raise ValueError(f"lacks the SLIs {', '.join(sorted(missing))}")
        both = set(self.slis) & set(self.absent)
        if both:
            raise ValueError(f"has SLIs that are absent: {', '.join(sorted(both))}")
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
            "revision": context.revision,
        }
        return tuple(_NAME_PART.sub(lambda match: values[match[1]], text) for text in texts)

    def indicator(self, sli: Sli, context: Context) -> Indicator:
        """The entry of ``sli``; raises CatalogError where a protocol of the arm cannot be judged by its source.

        Half of the protocols is not enough: the other half of the traffic would pass unseen.
        """
        if sli in self.absent:
            raise CatalogError(f"the gateway profile {self.profile} has no {sli}: {self.absent[sli]}")
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
        raise CatalogError(
            "this sli is measured at the gateway, and there is none: use one of Triton's (triton-...) or give the "
            "guard a query"
        )
    place = files("modelrollout.evidence") / "catalog" / f"{profile}.yaml"
    if not re.fullmatch(r"[a-z0-9-]+", profile) or not place.is_file():
        raise CatalogError(f"there is no SLI catalog for the gateway profile {profile!r}")
    return read(place.read_text("utf-8"), str(place))


def find(name: str, context: Context) -> Indicator | QueryIndicator:
    """What the SLI ``name`` means for the arm and source of ``context``: a policy's goes before a catalog's.

    Raises CatalogError where nothing has that name (with the nearest ones), or this gateway or source cannot show it.
    """
    for definition in context.definitions:
        if definition.name == name:
            return defined(definition)
    if name in queried():
        return queried()[name]
    if name in set(Sli):
        return catalog(context.profile).indicator(Sli(name), context)
    raise CatalogError(unknown(name, context.definitions))


def unknown(name: str, definitions: Iterable[SliDefinition] = ()) -> str:
    """The sentence about a name that no SLI has."""
    known = [*Sli, *queried(), *(definition.name for definition in definitions)]
    near = difflib.get_close_matches(name, known, n=3)
    meant = f"did you mean {' or '.join(near)}?" if near else "`modelrollout slis` lists them"
    return f"there is no SLI {name!r}; {meant}"
