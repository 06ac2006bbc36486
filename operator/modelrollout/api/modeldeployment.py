"""ModelDeployment: the wish. Its spec, how an object is read, and the name of the revision it asks for."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError

from modelrollout.api.base import API_VERSION, ApiModel, SpecModel, StatusModel, StrictInt
from modelrollout.api.errors import InvalidSpec, Problem, explain
from modelrollout.api.rolloutspec import GUARDS_NEEDED, Canary, Guard, OnBreach, Rollout, Sli, Step, Strategy
from modelrollout.api.rules import ListKey, Rule
from modelrollout.api.scalars import NAME_RULE, Hostname, Label, ObjectName
from modelrollout.api.status import ModelDeploymentStatus, status_from
from modelrollout.api.workload import EnvVar, Model, Resources, Runtime, SecretReference, Source

__all__ = [
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
    "Sli",
    "Source",
    "Step",
    "Strategy",
    "Traffic",
    "parse_modeldeployment",
    "revision_name",
]

HASH_LENGTH = 10


class GatewayReference(SpecModel):
    """The Gateway that the routes attach to."""

    name: ObjectName
    """Name of the Gateway."""
    namespace: Label | None = None
    """Namespace of the Gateway. Default: that of the ModelDeployment."""


class Hosts(SpecModel):
    """The names under which one protocol is served."""

    hostnames: Annotated[tuple[Hostname, ...], Field(min_length=1, max_length=16), ListKey()]
    """1 to 16 lower-case DNS names, like ``digits.example.com`` or ``*.digits.example.com``."""


def _meet(one: str, other: str) -> bool:
    """Whether two hostnames, each perhaps with a wildcard, can mean the same host."""
    return (
        one == other
        or (one.startswith("*.") and other.endswith(one[1:]))
        or (other.startswith("*.") and one.endswith(other[1:]))
    )


class Traffic(SpecModel):
    """Through which gateway and under which names the model is reached."""

    gateway: GatewayReference
    """The Gateway that the routes attach to."""
    http: Hosts | None = None
    """Names for REST. At least one of http and grpc."""
    grpc: Hosts | None = None
    """Names for gRPC, different from those of http. At least one of http and grpc."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.http) || has(self.grpc)",
            "set http, grpc or both: without hostnames nothing can reach the model",
            lambda self: self.http is not None or self.grpc is not None,
        ),
        Rule(
            "!has(self.http) || !has(self.grpc) || !self.http.hostnames.exists(one, "
            "self.grpc.hostnames.exists(other, one == other || (one.startsWith('*.') && "
            "other.endsWith(one.substring(1))) || (other.startsWith('*.') && "
            "one.endsWith(other.substring(1)))))",
            "http and grpc must not share a hostname (wildcards included): gateways refuse it; give grpc a "
            "name of its own",
            lambda self: (
                self.http is None
                or self.grpc is None
                or not any(_meet(one, other) for one in self.http.hostnames for other in self.grpc.hostnames)
            ),
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
    replicas: Annotated[StrictInt, Field(ge=1, le=1000)] = 1
    """Pods of each revision, 1 to 1000: of the one that serves, and of the other one while it is tried or
    kept warm."""
    traffic: Traffic
    """Gateway and hostnames."""
    # A rollout that is left out is checked like an empty one: it needs guards too.
    rollout: Annotated[Rollout, Field(validate_default=True)] = {}  # type: ignore[assignment]  # noqa: RUF012
    """How a change moves: steps, guards, deadlines. Required, because a canary needs guards."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("has(self.rollout)", f"rollout is missing: {GUARDS_NEEDED}", lambda self: self.rollout is not None),
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
