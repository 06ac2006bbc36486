"""Whose traffic is judged: the arm, its place in the route, by which requests, and since when it has had them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from modelrollout.api.modeldeployment import ModelDeployment
from modelrollout.api.rolloutpolicy import SliDefinition
from modelrollout.rollout.plan import WHOLE, EvaluationRequest, Source, Span

LEAST_SHARE = 100
"""Of a million: with less, or with all but less, an arm gets too little to be compared."""


@dataclass(frozen=True)
class Context:
    """The arm that guards are about.

    ``revision`` is the one on trial and ``stable`` the one beside it; ``slot`` is the place of ``revision`` in the
    route and ``source`` says which of its requests count; ``http`` and ``grpc`` say which routes exist; ``profile``
    names the gateway's SLI catalog (None: there is no gateway). ``interval`` is the time between evaluations and
    ``since`` when the arm got its weight: nothing before it is ever counted. ``enforce_namespace`` keeps every selector
    of a user's query inside ``namespace``. ``spans`` are the weights since then, oldest first (empty: not known);
    ``watch`` says that the stable revision is looked at between rollouts, so there is no other arm. ``definitions`` are
    SLIs of policies, which go before those of catalogs.
    """

    namespace: str
    name: str
    revision: str
    stable: str
    http: bool
    grpc: bool
    slot: int
    profile: str | None
    interval: timedelta
    since: datetime
    source: Source = Source.WEIGHTED
    enforce_namespace: bool = True
    spans: tuple[Span, ...] = ()
    watch: bool = False
    definitions: tuple[SliDefinition, ...] = ()

    @classmethod
    def of(
        cls,
        deployment: ModelDeployment,
        request: EvaluationRequest,
        profile: str | None,
        definitions: tuple[SliDefinition, ...] = (),
        enforce_namespace: bool = True,
    ) -> Context:
        """What ``request`` asks about the routes of ``deployment``, at a gateway of this profile."""
        traffic = deployment.spec.traffic
        return cls(
            namespace=deployment.metadata.namespace,
            name=deployment.metadata.name,
            revision=request.revision,
            stable=request.stable,
            http=traffic.http is not None,
            grpc=traffic.grpc is not None,
            slot=request.slot,
            profile=profile if traffic.gateway is not None else None,
            interval=request.interval,
            since=request.since,
            source=request.source,
            spans=request.spans,
            enforce_namespace=enforce_namespace,
            watch=request.watch,
            definitions=definitions,
        )

    @property
    def protocols(self) -> tuple[str, ...]:
        """The protocols that the arm is reached by."""
        return tuple(name for name, there in (("http", self.http), ("grpc", self.grpc)) if there)

    @property
    def other(self) -> Context:
        """The same question about the stable revision, which has the other slot.

        A candidate that is judged by copies or by testers stands beside what users get from stable.
        """
        source = Source.SPLIT if self.source is Source.SPLIT else Source.WEIGHTED
        return replace(self, revision=self.stable, stable=self.revision, slot=1 - self.slot, source=source)

    @property
    def stable_is_out(self) -> bool:
        """Whether all traffic is on the candidate, as in the bake: there is nothing beside it."""
        return self.source is Source.WEIGHTED and bool(self.spans) and self.spans[-1].share >= WHOLE - LEAST_SHARE
