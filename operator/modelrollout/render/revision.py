"""A revision as the renderer sees it, its ModelRevision record, and the settings its pods were made with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from modelrollout.api.base import API_VERSION
from modelrollout.api.modeldeployment import ModelDeployment
from modelrollout.api.modelrevision import (
    ModelRevision,
    ModelRevisionSpec,
    revision_spec,
    revision_spec_to_dict,
)
from modelrollout.ports import Manifest
from modelrollout.render import names
from modelrollout.settings import Pool, Settings

MADE_WITH = "modelrollout.io/made-with"
"""Annotation of a Deployment: the settings its pods were made with, as JSON (see ``Materials``)."""


@dataclass(frozen=True)
class Materials:
    """What the pods of a revision are made with besides its own spec.

    They are fixed when its Deployment is first made. Otherwise a new operator image or a changed pool
    would restart the pods of every model at once, untried: what a canary is there to prevent. New settings
    reach new revisions.
    """

    pool: Pool
    operator_image: str | None
    drain_seconds: int
    exit_timeout_seconds: int

    def to_annotation(self) -> str:
        """Compact JSON, without what is at its default."""
        return json.dumps(
            {
                "pool": self.pool.model_dump(mode="json", by_alias=True, exclude_defaults=True),
                "operatorImage": self.operator_image,
                "drainSeconds": self.drain_seconds,
                "exitTimeoutSeconds": self.exit_timeout_seconds,
            },
            separators=(",", ":"),
            sort_keys=True,
        )

    @classmethod
    def from_annotation(cls, text: str) -> Materials:
        """Read ``to_annotation``; raises ValueError where it is not that."""
        try:
            content = json.loads(text)
            return cls(
                pool=Pool.model_validate(content["pool"]),
                operator_image=None if content["operatorImage"] is None else str(content["operatorImage"]),
                drain_seconds=int(content["drainSeconds"]),
                exit_timeout_seconds=int(content["exitTimeoutSeconds"]),
            )
        except (ValidationError, KeyError, TypeError) as error:
            raise ValueError(f"not the settings of a revision: {error}") from error


@dataclass(frozen=True)
class Revision:
    """One revision to render: its record's identity and spec, and the ModelDeployment it belongs to."""

    name: str
    namespace: str
    uid: str
    deployment: str
    spec: ModelRevisionSpec

    @classmethod
    def of(cls, record: ModelRevision) -> Revision:
        """The revision that a (live) ModelRevision describes."""
        metadata = record.metadata
        return cls(
            name=metadata.name,
            namespace=metadata.namespace,
            uid=metadata.uid,
            deployment=record.spec.model_deployment,
            spec=record.spec,
        )

    @property
    def model_name(self) -> str:
        """What clients call."""
        return self.spec.model.name or self.deployment

    @property
    def labels(self) -> dict[str, str]:
        """Labels of its children and pods."""
        return names.labels(self.deployment, self.name)

    @property
    def owner(self) -> dict[str, Any]:
        """The owner reference of its children."""
        return names.owner_reference("ModelRevision", self.name, self.uid)


def model_revision(deployment: ModelDeployment, name: str) -> Manifest:
    """The record of the desired revision of ``deployment``; ``name`` as ``revision_name`` gives it."""
    metadata = deployment.metadata
    body = names.child(
        API_VERSION,
        "ModelRevision",
        name,
        metadata.namespace,
        names.labels(metadata.name, name),
        names.owner_reference("ModelDeployment", metadata.name, metadata.uid),
    )
    body["spec"] = revision_spec_to_dict(revision_spec(metadata.name, deployment.spec))
    return body


def materials(revision: Revision, settings: Settings, live: Mapping[str, Any] | None = None) -> Materials | None:
    """What the pods of ``revision`` are made with: as its live Deployment says, else as the settings say now.

    None where there is no such Deployment and the settings do not know the pool.
    """
    written = ((live or {}).get("metadata") or {}).get("annotations") or {}
    if MADE_WITH in written:
        try:
            return Materials.from_annotation(written[MADE_WITH])
        except ValueError:
            pass  # edited by hand: the settings are the next best
    pool = settings.pools.get(revision.spec.pool)
    if pool is None:
        return None
    return Materials(
        pool=pool,
        operator_image=settings.operator_image,
        drain_seconds=int(settings.drain.total_seconds()),
        exit_timeout_seconds=int(settings.exit_timeout.total_seconds()),
    )


def settings_problem(deployment: ModelDeployment, settings: Settings) -> str | None:
    """One sentence why these settings cannot carry the spec out (unknown pool, no image, ...), or None."""
    spec = deployment.spec
    pool = settings.pools.get(spec.pool)
    if pool is None:
        return f"spec.pool: this cluster has no pool {spec.pool!r}; it has {_listed(settings.pools)}"
    if not (spec.runtime.image or pool.image):
        return f"spec.runtime.image: the pool {spec.pool!r} names no image, so the ModelDeployment must"
    if spec.model.source.scheme == "s3" and not settings.operator_image:
        return "spec.model.source.uri: s3 sources need operatorImage in the operator's settings"
    asks = spec.rollout.guards or spec.observation is not None
    if asks and spec.rollout.prometheus not in settings.prometheus:
        return (
            f"spec.rollout.prometheus: the operator knows no Prometheus {spec.rollout.prometheus!r}; "
            f"it knows {_listed(settings.prometheus)}"
        )
    retraining = spec.observation.drift.retraining if spec.observation is not None else None
    if retraining is not None and retraining.webhook not in settings.webhooks:
        return (
            f"spec.observation.drift.retraining.webhook: the operator knows no webhook {retraining.webhook!r}; "
            f"it knows {_listed(settings.webhooks)}"
        )
    return None


def _listed(known: Mapping[str, object]) -> str:
    return ", ".join(sorted(known)) or "none"
