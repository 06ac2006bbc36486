"""The SLIs there are, described for people and programs: what each is, asks, and needs to exist."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from modelrollout.api.guard import Sli
from modelrollout.api.rolloutpolicy import SliDefinition
from modelrollout.evidence.queried import QueryIndicator, Scope, defined, queried
from modelrollout.evidence.slis import Catalog, Indicator, Kind, catalog

FORMULAS = {
    Kind.RATIO: "growth of errors / growth of total",
    Kind.RATE: "growth of total / seconds between the first and the last scrape in the window",
    Kind.QUANTILE: "quantile {quantile:g} of the growth of buckets, linear inside a bucket, times {scale:g}",
}


@dataclass(frozen=True)
class Described:
    """One SLI.

    ``worse`` is ``higher`` or ``lower``, ``scope`` is arm, candidate or inputs. ``origin`` names the catalog.
    ``absent`` is why this gateway does not have it; nothing else is known of it then. ``queries`` are templates by
    name, ``series`` says of a gateway's counters which labels give them their role, ``clusters`` what $cluster stands
    for by source, ``blind`` what they cannot show.
    """

    name: str
    origin: str
    kind: str = ""
    unit: str = ""
    worse: str = ""
    description: str = ""
    formula: str = ""
    scope: str = "arm"
    subject: str = ""
    where: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    queries: dict[str, str] = field(default_factory=dict)
    series: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)
    clusters: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)
    blind: dict[str, dict[str, str]] = field(default_factory=dict)
    absent: str = ""


def listed(profile: str) -> tuple[Described, ...]:
    """The SLIs at a gateway of this profile, those of Triton and of the observer; raises CatalogError."""
    known = catalog(profile)
    gateway = [
        _of_counters(name, known.slis[name], known)
        if name in known.slis
        else Described(str(name), profile, absent=known.absent[name])
        for name in Sli
    ]
    return (*gateway, *(_computed(name, entry) for name, entry in queried().items()))


def overridden(found: Sequence[Described], definitions: Sequence[tuple[str, SliDefinition]]) -> tuple[Described, ...]:
    """``found`` after the SLIs of policies (title and definition), which take the place of those of their name."""
    ours: dict[str, Described] = {}
    for origin, definition in definitions:
        ours[definition.name] = replace(_computed(definition.name, defined(definition)), origin=origin)
    mine = sorted(ours.values(), key=lambda one: one.origin)
    return (*mine, *(one for one in found if one.name not in ours))


def _of_counters(name: Sli, entry: Indicator, known: Catalog) -> Described:
    protocols = {"http": entry.http, "grpc": entry.grpc}
    names = {"http": known.clusters.http, "grpc": known.clusters.grpc}
    return Described(
        name=str(name),
        origin=known.profile,
        kind=str(entry.kind),
        unit=entry.unit,
        worse=_worse(entry.direction),
        description=entry.description,
        formula=FORMULAS[entry.kind].format(quantile=entry.quantile or 0, scale=entry.scale),
        needs=tuple(dict.fromkeys(entry.needs(protocol) for protocol in protocols)),
        queries={protocol: f"{counters.select}[range]" for protocol, counters in protocols.items()},
        series={protocol: counters.series for protocol, counters in protocols.items()},
        clusters={
            protocol: {str(source): texts for source, texts in sources.items()} for protocol, sources in names.items()
        },
        blind={
            protocol: {str(source): why for source, why in counters.blind.items()}
            for protocol, counters in protocols.items()
            if counters.blind
        },
    )


def _computed(name: str, entry: QueryIndicator) -> Described:
    samples = {} if entry.samples is None else {"samples": entry.samples}
    return Described(
        name=name,
        origin=entry.origin,
        kind=entry.kind,
        unit=entry.unit,
        worse=_worse(entry.direction),
        description=entry.description,
        scope=_scope(entry),
        subject="" if entry.whole else entry.subject_name,
        where=tuple(entry.where or ()),
        requires=tuple(f"spec.observation.{part}" for part in entry.requires),
        needs=entry.needs,
        queries={"value": entry.query, **samples},
    )


def _scope(entry: QueryIndicator) -> str:
    """What compares with stable is about the candidate alone."""
    compares = entry.scope is Scope.ARM and any("$stable" in text for text in entry.texts())
    return "candidate" if compares else str(entry.scope)


def _worse(direction: str) -> str:
    return direction.removesuffix("IsWorse").lower()
