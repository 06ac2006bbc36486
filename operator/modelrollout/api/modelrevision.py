"""ModelRevision: the immutable record of one version of the pods, what it was made of and how it did."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError

from modelrollout.api.base import API_VERSION, ApiModel, First, Instant, SpecModel, StatusModel
from modelrollout.api.contract import Contract
from modelrollout.api.errors import InvalidSpec, Problem, explain
from modelrollout.api.modeldeployment import Metadata, ModelDeploymentSpec
from modelrollout.api.rules import ListKey, Rule
from modelrollout.api.scalars import Label, SemVer
from modelrollout.api.status import (
    DECISION_LIMIT,
    GATE_LIMIT,
    GUARD_LIMIT,
    HISTORY_LIMIT,
    ArmStatus,
    CommandRecord,
    ComparisonStatus,
    Decision,
    GateStatus,
    GuardStatus,
    Outcome,
    Sentence,
    Word,
    read_tolerantly,
)
from modelrollout.api.workload import Model, Runtime

IMMUTABLE = "a ModelRevision never changes: change the ModelDeployment, and the operator makes a new revision"


class ModelRevisionSpec(SpecModel):
    """What the pods are made of."""

    model_deployment: Label
    """Name of the ModelDeployment that it belongs to."""
    version: SemVer
    """Version of the model."""
    model: Model
    """The model, with its name filled in."""
    runtime: Runtime = Runtime()
    """How Triton runs."""
    pool: Label = "cpu"
    """The kind of node."""


class RevisionAttempt(StatusModel):
    """One try of this revision, with its evidence."""

    attempt: int
    """Number of the attempt in its ModelDeployment."""
    outcome: Outcome | None = None
    """How it ended; empty while it is under way."""
    reason: Word = ""
    """One word for why."""
    message: Sentence = ""
    """One line for why."""
    started_at: Instant | None = None
    """When it began."""
    finished_at: Instant | None = None
    """When it ended."""
    strategy: Word = ""
    """The strategy by which it moved."""
    duration: Word = ""
    """How long it took, like ``12m30s``."""
    guards: Annotated[tuple[GuardStatus, ...], First(GUARD_LIMIT), ListKey("name")] = ()
    """What each guard said last."""
    arms: Annotated[tuple[ArmStatus, ...], First(2)] = ()
    """The result of an A/B test, by arm."""
    commands: Annotated[tuple[CommandRecord, ...], First(HISTORY_LIMIT)] = ()
    """The commands that people gave during it, newest first."""
    gates: Annotated[tuple[GateStatus, ...], First(GATE_LIMIT), ListKey("name")] = ()
    """What the gates said."""
    comparison: ComparisonStatus | None = None
    """How its answers differed from those of stable."""
    decisions: Annotated[tuple[Decision, ...], First(DECISION_LIMIT)] = ()
    """Every decision with its evidence, newest first."""


class ModelRevisionStatus(StatusModel):
    """How the revision did; written by the operator only."""

    outcome: Outcome | None = None
    """How its last attempt ended."""
    slot: Annotated[int, Field(ge=0, le=1)] | None = None
    """Its fixed place in the route, 0 or 1."""
    attempts: Annotated[tuple[RevisionAttempt, ...], First(HISTORY_LIMIT)] = ()
    """The last attempts, newest first."""
    contract: Contract | None = None
    """Its inputs and outputs as its pods told them: what the next revision is compared with where these pods cannot be
    asked. None where the contract gate was Disabled, or it is too large to keep (more than 128 inputs or outputs)."""


def revision_status_from(raw: object) -> ModelRevisionStatus:
    """Read a stored status; never raises. Parts that cannot be read count as absent."""
    return read_tolerantly(ModelRevisionStatus, raw)


class ModelRevision(ApiModel):
    """The immutable record of one version of the pods of a ModelDeployment; made by the operator."""

    model_config = ConfigDict(extra="forbid")

    api_version: Literal["modelrollout.io/v1alpha1"] = API_VERSION
    kind: Literal["ModelRevision"] = "ModelRevision"
    metadata: Metadata
    spec: Annotated[ModelRevisionSpec, Rule("self == oldSelf", IMMUTABLE, lambda _: True)]
    """What the pods are made of; immutable."""
    status: Annotated[ModelRevisionStatus, BeforeValidator(revision_status_from)] = ModelRevisionStatus()
    """How it did; written by the operator only."""

    rules: ClassVar[tuple[Rule, ...]] = ()


def revision_spec(deployment: str, spec: ModelDeploymentSpec) -> ModelRevisionSpec:
    """The record for what ``spec`` of the ModelDeployment named ``deployment`` asks for."""
    return ModelRevisionSpec(
        model_deployment=deployment,
        version=spec.model.version,
        model=spec.model.model_copy(update={"name": spec.model.name or deployment}),
        runtime=spec.runtime,
        pool=spec.pool,
    )


def revision_spec_to_dict(spec: ModelRevisionSpec) -> dict[str, Any]:
    """Plain JSON in camelCase, without empty optional fields."""
    return spec.model_dump(mode="json", by_alias=True, exclude_none=True)


def parse_modelrevision(raw: object) -> ModelRevision:
    """Read a whole object as the API server gives it; raises InvalidSpec with all problems."""
    if not isinstance(raw, dict):
        raise InvalidSpec((Problem("", "must be an object with metadata and spec"),))
    try:
        return ModelRevision.model_validate(raw)
    except ValidationError as error:
        raise explain(error) from None
