"""What a decision asks for, as data: objects to have, the status to write, what to measure next, when to look again."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from modelrollout.api.modelrevision import ModelRevisionStatus
from modelrollout.api.reasons import EventReason
from modelrollout.api.status import DriftStatus, ModelDeploymentStatus

WHOLE = 1_000_000
"""All weights of a route sum to this: the largest value Gateway API allows."""

ARMED = 1
"""The weight of a backend that the data plane shall know and users shall not meet."""


@dataclass(frozen=True)
class Slot:
    """One of the two fixed places in the route; ``revision`` None is an empty slot (it repeats the stable Service)."""

    revision: str | None
    weight: int


class Source(StrEnum):
    """By which requests a candidate is judged."""

    WEIGHTED = "Weighted"
    """Those that the weighted rule sends it."""
    MIRROR = "Mirror"
    """Copies of the users' requests."""
    PREVIEW = "Preview"
    """Those pinned to it by the header x-model-revision, or sent to the preview hostnames."""
    SPLIT = "Split"
    """Both arms of an A/B test: by weight, by match and by cookie."""


@dataclass(frozen=True)
class Mirror:
    """A copy of ``weight`` parts per million of the users' requests for ``revision``."""

    revision: str
    weight: int


@dataclass(frozen=True)
class RoutePlan:
    """Both slots in order, and the revision whose Service fills an empty one. Weights sum to WHOLE.

    A slot may name a revision with weight 0: it is reached by the pinned header (and preview hostnames) only.
    ``split`` is the revision that the matches and cookies of an A/B test lead to; clients are kept on their arm.
    ``preview`` is the revision that the preview hostnames lead to; None is ``stable``. ``observe`` are parts per
    million of the users' requests that are copied to the observer.
    """

    slots: tuple[Slot, Slot]
    stable: str
    mirror: Mirror | None = None
    split: str | None = None
    preview: str | None = None
    observe: int = 0

    def weight_of(self, revision: str) -> int:
        """Parts per million that the weighted rule gives ``revision``."""
        return max((slot.weight for slot in self.slots if slot.revision == revision), default=0)


@dataclass(frozen=True)
class WorkloadPlan:
    """A revision that shall have a Deployment, Service and PodDisruptionBudget with this many replicas."""

    revision: str
    replicas: int


@dataclass(frozen=True)
class Span:
    """A time in which the routes gave the candidate ``share`` parts per million; the last one is still going on.

    ``share`` 0: the weights were on their way (traffic followed the pods), so nothing is compared there.
    """

    since: datetime
    share: int


@dataclass(frozen=True)
class EvaluationRequest:
    """Guards to evaluate every ``interval``; ``since`` is when the arm got its weight.

    ``slot`` is the candidate's place in the route. ``trial`` asks before any weight: only to find queries that can
    never work and providers that are down. ``source`` says by which requests the candidate is judged, ``guards`` are
    the names of those to evaluate. With source Split the result has both arms. ``spans`` are the weights since then,
    oldest first: evidence of both arms is compared within each, since a world that moves while weights change would
    else look like a difference of the arms. ``compare`` asks for the Comparison too. ``watch`` is about the stable
    revision between rollouts: ``revision`` and ``stable`` are the same, ``guards`` those of ``watch_guards``.
    ``digest`` of a trial is that of the guards asked, with what policies say of them.
    """

    attempt: int
    revision: str
    stable: str
    slot: int
    since: datetime
    interval: timedelta
    trial: bool = False
    source: Source = Source.WEIGHTED
    guards: tuple[str, ...] = ()
    spans: tuple[Span, ...] = ()
    compare: bool = False
    watch: bool = False
    digest: str = ""


@dataclass(frozen=True)
class ProbeRequest:
    """Ask the gateway, by the pinned header, until it answers with each of these revisions (routes as in ``token``)."""

    revisions: frozenset[str]
    token: str


@dataclass(frozen=True)
class EventPlan:
    """An event to emit after the status was written. ``warning`` chooses the type."""

    reason: EventReason
    message: str
    warning: bool = False


@dataclass(frozen=True)
class Notification:
    """A call of the webhook of this name in the settings, to have the model of ``revision`` trained anew.

    ``drift`` is what is known to drift, ``by`` who asked for it: a person, or ``modelrollout`` itself.
    """

    webhook: str
    revision: str
    drift: tuple[DriftStatus, ...]
    by: str


@dataclass(frozen=True)
class Plan:
    """The whole answer of one decision.

    ``route`` None leaves the routes as they are. ``workloads`` lists those that shall exist with these sizes;
    ``retire`` those that shall have no pods (scaled to zero, after the route write was confirmed).
    ``create_revision`` asks for the ModelRevision record of the desired revision, ``prune`` names records to delete
    with all that is left of them. ``revision_status`` are status writes of ModelRevisions, by name. ``notify`` is
    called once the status is written, and never again for it. ``requeue_after`` None waits for the next wake.
    """

    status: ModelDeploymentStatus
    create_revision: str | None = None
    prune: tuple[str, ...] = ()
    workloads: tuple[WorkloadPlan, ...] = ()
    retire: tuple[str, ...] = ()
    route: RoutePlan | None = None
    revision_status: dict[str, ModelRevisionStatus] = field(default_factory=dict)
    events: tuple[EventPlan, ...] = ()
    gate: str | None = None
    evaluate: EvaluationRequest | None = None
    probe: ProbeRequest | None = None
    notify: Notification | None = None
    requeue_after: timedelta | None = None
