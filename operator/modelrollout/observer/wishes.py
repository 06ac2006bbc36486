"""What the observer does for one ModelDeployment, read out of the object: plain values, no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from modelrollout.api.gates import OutputTolerance
from modelrollout.api.modeldeployment import ModelDeployment, parse_modeldeployment
from modelrollout.api.observation import Profile
from modelrollout.api.status import Phase
from modelrollout.ports import Manifest

_BOTH_ANSWER = frozenset({Phase.ARMING, Phase.PROGRESSING, Phase.AWAITING_APPROVAL, Phase.PROMOTING})
"""Phases in which the candidate's pods are there for certain: an answer that fails is then the candidate's fault."""


@dataclass(frozen=True)
class Arms:
    """Who is asked: ``stable`` always, ``candidate`` while there are two arms whose answers can be compared."""

    stable: str | None = None
    candidate: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Revisions, stable first."""
        return tuple(name for name in (self.stable, self.candidate) if name)


@dataclass(frozen=True)
class Comparing:
    """At most ``per_second`` requests are asked of each arm; ``tolerances`` say when two answers are the same."""

    per_second: float
    tolerances: tuple[OutputTolerance, ...] = ()


@dataclass(frozen=True)
class Labelling:
    """Answers wait ``window`` seconds for their labels, at most ``most`` of them."""

    window: float
    most: int


@dataclass(frozen=True)
class Wish:
    """One ModelDeployment that asks for observation."""

    name: str
    namespace: str
    model: str
    hosts: frozenset[str]
    arms: Arms
    profile: Profile | None = None
    comparing: Comparing | None = None
    labelling: Labelling | None = None


def wish_of(manifest: Manifest) -> Wish | None:
    """The wish of one object; None where it asks for no observation. Raises InvalidSpec."""
    if not (manifest.get("spec") or {}).get("observation"):
        return None
    found = parse_modeldeployment(manifest)
    observation = found.spec.observation
    if observation is None or found.metadata.deletion_timestamp is not None:
        return None
    comparison, labels = observation.comparison, observation.labels
    return Wish(
        name=found.metadata.name,
        namespace=found.metadata.namespace,
        model=found.spec.model.name or found.metadata.name,
        hosts=_hosts(found),
        arms=arms_of(found),
        profile=observation.profile,
        comparing=Comparing(comparison.max_per_second, comparison.tolerances) if comparison else None,
        labelling=Labelling(labels.window.total_seconds(), labels.max_pending) if labels else None,
    )


def arms_of(found: ModelDeployment) -> Arms:
    """Who can be asked now. In the bake the new revision is the candidate, and the last good one stands for stable."""
    revisions = found.status.revisions
    if found.status.phase in _BOTH_ANSWER and revisions.candidate != revisions.stable:
        return Arms(revisions.stable, revisions.candidate)
    if found.status.phase is Phase.BAKING and revisions.last_good not in (None, revisions.stable):
        return Arms(revisions.last_good, revisions.stable)
    return Arms(revisions.stable)


class Directory:
    """Finds the ModelDeployment that a request belongs to: by its host, else by the name of its model."""

    def __init__(self, wishes: Iterable[Wish] = ()) -> None:
        self._hosts: dict[str, Wish] = {}
        self._models: dict[str, list[Wish]] = {}
        for wish in wishes:
            for host in wish.hosts:
                self._hosts[host] = wish
            self._models.setdefault(wish.model, []).append(wish)

    def find(self, host: str, model: str) -> tuple[str | None, bool]:
        """Name of the ModelDeployment, and whether it serves ``model``; (None, False) where none is meant.

        A host that two protocols share belongs to one ModelDeployment; a model name that several have needs the host.
        """
        wish = self._by_host(_host(host)) if host else None
        if wish is not None:
            return wish.name, wish.model == model
        named = self._models.get(model, ())
        return (named[0].name, True) if len(named) == 1 else (None, False)

    def _by_host(self, host: str) -> Wish | None:
        found = self._hosts.get(host)
        while found is None and "." in host:
            host = host.partition(".")[2]
            found = self._hosts.get(f"*.{host}")
        return found


def _host(raw: str) -> str:
    """A Host header without its port and without the ``-shadow`` that Envoy adds to that of a copy."""
    name = raw.rpartition(":")[0] if raw.rpartition(":")[2].isdecimal() and ":" in raw else raw
    return name.lower().removesuffix("-shadow").rstrip(".")


def _hosts(found: ModelDeployment) -> frozenset[str]:
    parts = (found.spec.traffic.http, found.spec.traffic.grpc)
    return frozenset(host for part in parts if part is not None for host in part.hostnames)
