"""One ModelDeployment with all that belongs to it, as it was read at one time; nothing here ever raises."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from modelrollout.api.base import clean
from modelrollout.api.errors import InvalidSpec
from modelrollout.api.modeldeployment import ModelDeployment, ModelDeploymentSpec, parse_modeldeployment
from modelrollout.api.modelrevision import ModelRevisionStatus, revision_status_from
from modelrollout.api.observation import Retraining
from modelrollout.api.rolloutpolicy import SliDefinition
from modelrollout.api.status import WORD_LIMIT, GuardStatus, ModelDeploymentStatus, RolloutStatus, status_from
from modelrollout.ports import Manifest
from modelrollout.render.names import revision_of
from modelrollout.render.pods import observe_workload
from modelrollout.render.reading import get

COMMAND = "modelrollout.io/command"

DESIRED, STABLE, CANDIDATE, LAST_GOOD, QUARANTINED = "desired", "stable", "candidate", "last good", "quarantined"


@dataclass(frozen=True)
class Pods:
    """The pods of a revision. ``known`` False: they could not be read."""

    ready: int = 0
    desired: int = 0
    trouble: str = ""
    known: bool = True


@dataclass(frozen=True)
class Revision:
    """One revision: its parts, its record, its traffic and its pods. ``weight`` is in percent."""

    name: str
    roles: tuple[str, ...] = ()
    version: str = ""
    weight: float = 0.0
    slot: int | None = None
    pods: Pods = Pods()
    created: datetime | None = None
    source: str = ""
    lineage: Mapping[str, str] = field(default_factory=dict)
    status: ModelRevisionStatus = field(default_factory=ModelRevisionStatus)
    recorded: bool = True

    def plays(self, *roles: str) -> bool:
        """Whether it has one of these roles."""
        return any(role in self.roles for role in roles)


@dataclass(frozen=True)
class Snapshot:
    """What was read. ``wish`` is None and ``problem`` says why where the spec cannot be used.

    ``unreadable`` are sentences about what could not be read. ``definitions`` are SLIs of policies that its guards use.
    """

    namespace: str
    name: str
    generation: int
    wish: ModelDeployment | None
    problem: str
    command: str
    status: ModelDeploymentStatus
    revisions: tuple[Revision, ...]
    now: datetime
    deleting: bool = False
    unreadable: tuple[str, ...] = ()
    definitions: tuple[SliDefinition, ...] = ()

    @property
    def spec(self) -> ModelDeploymentSpec | None:
        """What is wished; None where it cannot be used."""
        return None if self.wish is None else self.wish.spec

    @property
    def retraining(self) -> Retraining | None:
        """Who is asked to train anew; None where the spec names nobody."""
        observation = None if self.spec is None else self.spec.observation
        return None if observation is None else observation.drift.retraining

    @property
    def attempt(self) -> RolloutStatus | None:
        """The attempt that is under way, or the last one."""
        return self.status.rollout

    @property
    def under_way(self) -> RolloutStatus | None:
        """The attempt that is under way."""
        attempt = self.status.rollout
        return attempt if attempt is not None and attempt.outcome is None and attempt.revision else None

    @property
    def seen(self) -> bool:
        """Whether the operator has looked at the spec as it is now."""
        return self.status.observed_generation >= self.generation

    @property
    def pending_command(self) -> str:
        """The command that was given and is not handled yet; empty where there is none."""
        return "" if self.command == (self.status.handled_command or "") else self.command

    @property
    def paused(self) -> bool:
        """Whether the steps are frozen, by the spec or by a command."""
        return self.status.paused or (self.spec is not None and self.spec.rollout.paused)

    def with_guards(self, guards: tuple[GuardStatus, ...]) -> Snapshot:
        """The same with newer values of the guards of the attempt under way."""
        attempt = self.under_way
        if attempt is None or not guards:
            return self
        newer = self.status.model_copy(update={"rollout": attempt.model_copy(update={"guards": guards})})
        return replace(self, status=newer)

    def revision(self, name: str | None) -> Revision | None:
        """The revision of that name."""
        return next((revision for revision in self.revisions if revision.name == name), None)

    def version_of(self, name: str | None) -> str:
        """The version of the model of a revision; empty where it is not known."""
        found = self.revision(name)
        return found.version if found else ""


@dataclass(frozen=True)
class Children:
    """The objects that belong to a ModelDeployment; None is what could not be read."""

    records: Sequence[Manifest] | None = ()
    workloads: Sequence[Manifest] | None = ()
    pods: Sequence[Manifest] | None = ()
    unreadable: tuple[str, ...] = ()


def snapshot(deployment: Manifest, children: Children, now: datetime) -> Snapshot:
    """Put together what was read."""
    metadata = deployment.get("metadata") or {}
    wish, problem = None, ""
    try:
        wish = parse_modeldeployment(deployment)
    except InvalidSpec as error:
        problem = str(error)
    status = status_from(deployment.get("status"))
    annotations = metadata.get("annotations") or {}
    return Snapshot(
        namespace=str(metadata.get("namespace", "")),
        name=str(metadata.get("name", "")),
        generation=int(metadata.get("generation") or 0),
        wish=wish,
        problem=problem,
        command=clean(str(annotations.get(COMMAND) or ""), WORD_LIMIT),
        status=status,
        revisions=_revisions(status, children),
        now=now,
        deleting=bool(metadata.get("deletionTimestamp")),
        unreadable=children.unreadable,
    )


def _revisions(status: ModelDeploymentStatus, children: Children) -> tuple[Revision, ...]:
    """Those that play a part first (stable before candidate), then the others, newest first."""
    records = {str(get(record, "metadata", "name")): record for record in children.records or ()}
    parts = status.revisions
    named = (parts.stable, parts.last_good, parts.candidate, parts.desired)
    first = [name for name in dict.fromkeys(named) if name]
    rest = sorted(
        (name for name in records if name not in first), key=lambda name: _created(records[name]), reverse=True
    )
    return tuple(_revision(name, records.get(name), status, children) for name in [*first, *rest])


def _revision(name: str, record: Manifest | None, status: ModelDeploymentStatus, children: Children) -> Revision:
    traffic = next((entry for entry in status.traffic if entry.revision == name), None)
    attempt = status.rollout
    known = attempt.version if attempt is not None and attempt.revision == name else ""
    before = next((entry.version for entry in status.history if entry.revision == name), "")
    lineage = get(record, "spec", "model", "lineage") if record else None
    return Revision(
        name=name,
        roles=_roles(name, status),
        version=str(get(record, "spec", "version") or "") if record else known or before,
        weight=traffic.weight if traffic else 0.0,
        slot=traffic.slot if traffic else None,
        pods=_pods(name, children),
        created=_instant(_created(record)) if record else None,
        source=str(get(record, "spec", "model", "source", "uri") or "") if record else "",
        lineage={str(key): str(value) for key, value in lineage.items()} if isinstance(lineage, dict) else {},
        status=revision_status_from(record.get("status")) if record else ModelRevisionStatus(),
        recorded=record is not None or children.records is None,
    )


def _roles(name: str, status: ModelDeploymentStatus) -> tuple[str, ...]:
    parts = status.revisions
    roles = [
        role
        for role, holder in (
            (STABLE, parts.stable),
            (CANDIDATE, parts.candidate),
            (LAST_GOOD, parts.last_good),
            (DESIRED, parts.desired),
        )
        if holder == name
    ]
    return (*roles, QUARANTINED) if name in status.quarantined else tuple(roles)


def _pods(name: str, children: Children) -> Pods:
    if children.pods is None or children.workloads is None:
        return Pods(known=False)
    workload = next((found for found in children.workloads if get(found, "metadata", "name") == name), None)
    seen = observe_workload(name, workload, _of(name, children.pods))
    return Pods(seen.ready, seen.desired or 0, seen.trouble or "")


def _of(name: str, pods: Iterable[Manifest]) -> list[Manifest]:
    return [pod for pod in pods if revision_of(pod) == name]


def _created(record: Manifest) -> str:
    return str(get(record, "metadata", "creationTimestamp") or "")


def _instant(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None
