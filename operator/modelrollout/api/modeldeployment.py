"""ModelDeployment: the wish. Its spec, how an object is read, and the name of the revision it asks for."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from modelrollout.api.annotations import command_writer
from modelrollout.api.base import API_VERSION, ApiModel, SpecModel, StatusModel, StrictInt
from modelrollout.api.durations import PATTERN
from modelrollout.api.errors import InvalidSpec, Problem, explain
from modelrollout.api.guard import Guard, OnBreach, Sli
from modelrollout.api.hosts import Hosts, apart, different, meet, names_of
from modelrollout.api.observation import LABELS_TOO_LATE, Observation
from modelrollout.api.rolloutspec import GUARDS_NEEDED, Rollout
from modelrollout.api.rules import Rule
from modelrollout.api.scalars import NAME_RULE, Label, ObjectName
from modelrollout.api.status import ModelDeploymentStatus, status_from
from modelrollout.api.strategies import ABTest, BlueGreen, Canary, Shadow, Step, Strategy
from modelrollout.api.workload import EnvVar, Model, Resources, Runtime, SecretReference, Source

__all__ = [
    "ABTest",
    "BlueGreen",
    "Canary",
    "EnvVar",
    "GatewayReference",
    "Guard",
    "Hosts",
    "InvalidSpec",
    "Metadata",
    "Model",
    "ModelDeployment",
    "ModelDeploymentSpec",
    "OnBreach",
    "Resources",
    "Rollout",
    "Runtime",
    "SecretReference",
    "ServiceTraffic",
    "Shadow",
    "Sli",
    "Source",
    "Step",
    "Strategy",
    "Traffic",
    "parse_modeldeployment",
    "revision_name",
]

HASH_LENGTH = 10
_PREVIEW_HTTP = "self.rollout.blueGreen.preview.http"
_PREVIEW_GRPC = "self.rollout.blueGreen.preview.grpc"


class GatewayReference(SpecModel):
    """The Gateway that the routes attach to."""

    name: ObjectName
    """Name of the Gateway."""
    namespace: Label | None = None
    """Namespace of the Gateway. Default: that of the ModelDeployment."""


class ServiceTraffic(SpecModel):
    """Without a gateway: a Service with the name of the ModelDeployment, whose selector names who serves."""


class Traffic(SpecModel):
    """How the model is reached: through a gateway under hostnames, or by a Service inside the cluster."""

    gateway: GatewayReference | None = None
    """The Gateway that the routes attach to. Exactly one of gateway and service."""
    service: ServiceTraffic | None = None
    """``{}``: a ClusterIP Service with the name of the ModelDeployment. It switches all requests at once, so only
    BlueGreen and Recreate work. Exactly one of gateway and service."""
    http: Hosts | None = None
    """Names for REST. With gateway at least one of http and grpc."""
    grpc: Hosts | None = None
    """Names for gRPC, different from those of http. With gateway at least one of http and grpc."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.gateway) != has(self.service)",
            "set exactly one of gateway and service",
            lambda self: (self.gateway is None) != (self.service is None),
        ),
        Rule(
            "!has(self.gateway) || has(self.http) || has(self.grpc)",
            "set http, grpc or both: without hostnames nothing can reach the model",
            lambda self: self.gateway is None or self.http is not None or self.grpc is not None,
        ),
        Rule(
            "!has(self.service) || (!has(self.http) && !has(self.grpc))",
            "hostnames belong to a gateway: a Service has the name of the ModelDeployment, remove http and grpc",
            lambda self: self.service is None or (self.http is None and self.grpc is None),
        ),
        Rule(
            apart("self.http", "self.grpc"),
            "http and grpc must not share a hostname (wildcards included): gateways refuse it; give grpc a "
            "name of its own",
            lambda self: not meet(names_of(self.http), names_of(self.grpc)),
        ),
    )


class ModelDeploymentSpec(SpecModel):
    """What to serve, where, behind which names, and how a change moves."""

    model: Model
    """The model. A change makes a new revision."""
    runtime: Runtime = Runtime()
    """How Triton runs. A change makes a new revision."""
    pool: Label = "cpu"
    """The kind of node, by its name in the operator's settings. A change makes a new revision."""
    replicas: Annotated[StrictInt, Field(ge=0, le=1000)] = 1
    """Pods of each revision, 0 to 1000: of the one that serves, and of the other one while it is tried or
    kept warm. 0 stops serving and keeps everything else; a new revision is tried when there are pods again."""
    traffic: Traffic
    """Gateway and hostnames, or a Service."""
    # A rollout that is left out is checked like an empty one: it needs guards too.
    rollout: Annotated[Rollout, Field(validate_default=True)] = {}  # type: ignore[assignment]  # noqa: RUF012
    """How a change moves: strategy, guards, deadlines. Required, because a rollout needs guards."""
    observation: Observation | None = None
    """Copies of requests for the observer: drift, comparison of answers, delayed labels. Only with a gateway. Default:
    nothing is copied."""
    revision_history_limit: Annotated[StrictInt, Field(ge=1, le=50)] = 10
    """How many ModelRevisions are kept, 1 to 50: those one can go back to."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("has(self.rollout)", f"rollout is missing: {GUARDS_NEEDED}", lambda self: self.rollout is not None),
        Rule(
            "!has(self.rollout) || !has(self.traffic.service) || self.rollout.strategy in ['BlueGreen', 'Recreate']",
            "traffic.service switches all requests at once: set rollout.strategy to BlueGreen or Recreate, or use a "
            "gateway",
            lambda self: (
                self.traffic.service is None or self.rollout.strategy in (Strategy.BLUE_GREEN, Strategy.RECREATE)
            ),
        ),
        Rule(
            "!has(self.rollout) || !has(self.traffic.service) || !has(self.rollout.blueGreen) || "
            "(!has(self.rollout.blueGreen.preview) && !has(self.rollout.blueGreen.prePromotion))",
            "preview and prePromotion need a gateway: with traffic.service the candidate is reached by the Service "
            "that has its name",
            lambda self: (
                self.traffic.service is None
                or self.rollout.blue_green is None
                or (self.rollout.blue_green.preview is None and self.rollout.blue_green.pre_promotion is None)
            ),
        ),
        Rule(
            "!has(self.rollout) || !has(self.traffic.service) || !has(self.rollout.guards) || "
            f"self.rollout.guards.all(guard, !has(guard.sli) || !(guard.sli in {[str(each) for each in Sli]}))",
            "error-ratio, request-rate and latencies are measured at the gateway: with traffic.service give the guard "
            "an sli of Triton (triton-failure-ratio), of a policy, or a query",
            lambda self: (
                self.traffic.service is None or all(guard.sli not in set(Sli) for guard in self.rollout.guards)
            ),
        ),
        Rule(
            "!has(self.observation) || has(self.traffic.gateway)",
            "observation copies requests at the gateway: set traffic.gateway, or remove it",
            lambda self: self.observation is None or self.traffic.gateway is not None,
        ),
        Rule(
            "!has(self.observation) || !has(self.observation.labels) || !has(self.rollout) || "
            "!has(self.rollout.guards) || "
            f"!self.observation.labels.window.matches('{PATTERN}') || "
            f"self.rollout.guards.all(guard, !guard.labelDelay.matches('{PATTERN}') || "
            "duration(guard.labelDelay) <= duration(self.observation.labels.window))",
            LABELS_TOO_LATE,
            lambda self: (
                self.observation is None
                or not any(self.observation.label_is_late(guard.label_delay) for guard in self.rollout.guards)
            ),
        ),
        Rule(
            "!has(self.rollout) || !has(self.rollout.canary) || self.replicas != 1 || "
            "!(string(self.rollout.canary.maxSurge) in ['0', '0%'])",
            "maxSurge 0 with one replica leaves nobody to answer: set maxSurge to 1, or strategy: Recreate",
            lambda self: (
                self.rollout.canary is None or self.replicas != 1 or self.rollout.canary.max_surge not in ("0", "0%")
            ),
        ),
        Rule(
            "!has(self.rollout) || !has(self.rollout.blueGreen) || !has(self.rollout.blueGreen.preview) || "
            f"({different(_PREVIEW_HTTP, 'self.traffic.http')} && {different(_PREVIEW_GRPC, 'self.traffic.grpc')} && "
            f"{apart(_PREVIEW_HTTP, 'self.traffic.grpc')} && {apart(_PREVIEW_GRPC, 'self.traffic.http')})",
            "the preview needs hostnames of its own: none of spec.traffic, and none that a wildcard of the other "
            "protocol covers",
            lambda self: self._preview_is_apart(),
        ),
    )

    def _preview_is_apart(self) -> bool:
        preview = self.rollout.blue_green.preview if self.rollout.blue_green is not None else None
        if preview is None:
            return True
        preview_http, preview_grpc = names_of(preview.http), names_of(preview.grpc)
        http, grpc = names_of(self.traffic.http), names_of(self.traffic.grpc)
        return (
            not {*preview_http} & {*http}
            and not {*preview_grpc} & {*grpc}
            # A wildcard of the same protocol is fine: the more specific name wins.
            and not meet(preview_http, grpc)
            and not meet(preview_grpc, http)
        )


class Metadata(StatusModel):
    """The part of ``metadata`` that the operator reads."""

    name: str
    namespace: str = "default"
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    annotations: dict[str, str] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)
    deletion_timestamp: str | None = None
    commanded_by: str = ""
    """The client that wrote the command annotation: from managedFields, or as the cache keeps it of them."""

    @model_validator(mode="before")
    @classmethod
    def _read_writer(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and "managedFields" in raw:
            return {**raw, "commandedBy": command_writer(raw)}
        return raw


class ModelDeployment(ApiModel):
    """Serves a model on Triton behind a gateway, and moves every change of it in steps that metrics guard."""

    model_config = ConfigDict(extra="forbid")

    api_version: Literal["modelrollout.io/v1alpha1"] = API_VERSION
    kind: Literal["ModelDeployment"] = "ModelDeployment"
    metadata: Metadata
    spec: ModelDeploymentSpec
    """What is wished."""
    status: Annotated[ModelDeploymentStatus, BeforeValidator(status_from)] = ModelDeploymentStatus()
    """What is; written by the operator only."""

    rules: ClassVar[tuple[Rule, ...]] = (NAME_RULE,)


def parse_modeldeployment(raw: object) -> ModelDeployment:
    """Read an object as the API server gives it; raises InvalidSpec with all problems (never for status)."""
    if not isinstance(raw, dict):
        raise InvalidSpec((Problem("", "must be an object with metadata and spec"),))
    try:
        return ModelDeployment.model_validate(raw)
    except ValidationError as error:
        raise explain(error) from None


def revision_name(name: str, spec: ModelDeploymentSpec) -> str:
    """``<name>-<hash>``: the hash stands for what shapes the pods (model, runtime, pool) and nothing else.

    Fields at their default are left out, so a new optional field does not rename the revisions that exist.
    """
    model = spec.model.model_copy(update={"name": spec.model.name or name})
    shape = {
        "model": _written(model),
        "pool": spec.pool,
        "runtime": _written(spec.runtime),
    }
    canonical = json.dumps(shape, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return f"{name}-{hashlib.sha256(canonical.encode()).hexdigest()[:HASH_LENGTH]}"


def _written(part: SpecModel) -> Any:
    return _prune(part.model_dump(mode="json", by_alias=True, exclude_defaults=True))


def _prune(value: Any) -> Any:
    """Without empty maps, lists and nulls: ``env: []`` and no env are the same wish."""
    if isinstance(value, dict):
        kept = {key: _prune(item) for key, item in value.items()}
        return {key: item for key, item in kept.items() if item not in (None, {}, [])}
    if isinstance(value, list):
        return [_prune(item) for item in value]
    return value
