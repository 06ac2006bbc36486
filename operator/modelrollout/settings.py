"""The operator's one settings file: what the platform team decides; an unknown key is an error with its path."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel
from typing_extensions import override

from modelrollout.api.base import Duration
from modelrollout.api.rules import matches
from modelrollout.api.scalars import Label, ObjectName
from modelrollout.api.workload import Resources

Quantity = Annotated[
    str,
    StringConstraints(max_length=32),
    BeforeValidator(lambda value: str(value) if type(value) is int else value),
    matches(r"^[0-9]+(\.[0-9]+)?(m|k|Ki|[MGTPE]i?)?$", "must be a quantity like 512Mi or 2Gi, not negative"),
    WithJsonSchema({"type": ["string", "integer"], "maxLength": 32}),
]
Port = Annotated[int, Field(ge=1, le=65535)]
Address = Annotated[str, StringConstraints(pattern=r"^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}$", max_length=300)]


class SettingsError(ValueError):
    """The settings cannot be used. The message has one line a problem, each with the path of the key."""


class _Section(BaseModel):
    """A part of the settings: camelCase in YAML, snake_case in Python, unknown keys refused."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
    )


class TolerationOperator(StrEnum):
    """How a toleration compares."""

    EXISTS = "Exists"
    EQUAL = "Equal"


class TaintEffect(StrEnum):
    """What a taint does."""

    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class Toleration(_Section):
    """A toleration as in a pod's spec."""

    key: str | None = None
    """Key of the taint; none with operator Exists tolerates every taint."""
    operator: TolerationOperator = TolerationOperator.EQUAL
    """Equal (key and value) or Exists (key alone)."""
    value: str | None = None
    """Value of the taint, for Equal."""
    effect: TaintEffect | None = None
    """Only taints with this effect; none means all."""
    toleration_seconds: Annotated[int, Field(ge=0)] | None = None
    """How long NoExecute is tolerated, in seconds; none means for ever."""


class Accelerator(_Section):
    """The extended resource that every pod of the pool gets."""

    resource: Annotated[str, StringConstraints(pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$")] = "nvidia.com/gpu"
    """Name of the resource as its device plugin announces it."""
    count: Annotated[int, Field(ge=1, le=64)] = 1
    """How many of it one pod gets."""


class PullPolicy(StrEnum):
    """When images are pulled."""

    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class Pool(_Section):
    """A named kind of node that the platform team offers. A ModelDeployment names it in ``spec.pool``."""

    image: str | None = None
    """Triton image of this pool, with `tritonserver` on its PATH; spec.runtime.image goes before it."""
    image_pull_policy: PullPolicy = PullPolicy.IF_NOT_PRESENT
    """When the images of the pods are pulled."""
    image_pull_secrets: tuple[ObjectName, ...] = ()
    """Names of image pull Secrets; they must exist in each namespace that uses the pool."""
    node_selector: dict[str, str] = Field(default_factory=dict)
    """Labels a node must have."""
    tolerations: tuple[Toleration, ...] = ()
    """Taints the pods tolerate."""
    accelerator: Accelerator | None = None
    """Extended resource given to every pod; none for pods without one."""
    resources: Resources = Field(default_factory=Resources)
    """Requests and limits of the server where spec.runtime.resources does not name them."""
    runtime_class_name: ObjectName | None = None
    """RuntimeClass of the pods, for example `nvidia`."""
    priority_class_name: ObjectName | None = None
    """PriorityClass of the pods."""
    shared_memory: Quantity = "256Mi"
    """Size of /dev/shm, through which Triton's Python backend passes tensors; counts as the pod's memory."""
    model_storage: Quantity = "50Gi"
    """Most bytes that a model fetched from an object store may take on the node's disk."""


class BasicAuth(_Section):
    """HTTP basic authentication."""

    username: Annotated[str, Field(min_length=1)]
    """User name."""
    password_file: Path
    """File whose first line is the password."""


class Prometheus(_Section):
    """One Prometheus (or what speaks its API). Its address is written here and never in a ModelDeployment."""

    url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s?#@/]+(/[^\s?#@]*)?$", max_length=2000)]
    """Base address without /api/v1; no user, query or fragment in it."""
    timeout: Duration = timedelta(seconds=5)
    """After how long a query is given up."""
    bearer_token_file: Path | None = None
    """File with a bearer token; read anew for each query, so that rotation works."""
    basic_auth: BasicAuth | None = None
    """User and password file; not together with bearerTokenFile."""
    ca_file: Path | None = None
    """PEM file of the authorities to trust instead of the system's."""

    @model_validator(mode="after")
    def _one_credential(self) -> Self:
        if self.bearer_token_file and self.basic_auth:
            raise ValueError("give bearerTokenFile or basicAuth, not both")
        if self.timeout <= timedelta(0):
            raise ValueError("timeout must be longer than 0s")
        return self


class Webhook(_Section):
    """One HTTP address that is called when a model shall be trained anew; a ModelDeployment names it, never a URL."""

    url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s#@/]+(/[^\s#@]*)?$", max_length=2000)]
    """Address that takes a POST with a JSON body; no user in it."""
    bearer_token_file: Path | None = None
    """File with a bearer token; read anew for each call, so that rotation works."""
    timeout: Duration = timedelta(seconds=10)
    """After how long a call is given up, at most 1m."""

    @field_validator("timeout")
    @classmethod
    def _bounded(cls, value: timedelta) -> timedelta:
        if not timedelta(0) < value <= timedelta(minutes=1):
            raise ValueError("must be longer than 0s and at most 1m")
        return value


class GatewayProfile(StrEnum):
    """Which gateway it is: chooses the SLI catalog and the care that a weight change takes."""

    ENVOY_GATEWAY = "envoy-gateway"
    ISTIO = "istio"
    TRAEFIK = "traefik"
    NGINX_GATEWAY_FABRIC = "nginx-gateway-fabric"


class Gateway(_Section):
    """What the operator must know about a Gateway that ModelDeployments attach to."""

    namespace: Label
    """Namespace of the Gateway."""
    name: ObjectName
    """Name of the Gateway."""
    profile: GatewayProfile = GatewayProfile.ENVOY_GATEWAY
    """Which implementation it is."""
    address: Address | None = None
    """host:port at which the operator sees that a backend is armed; none: the route's conditions must do."""
    grpc_address: Address | None = None
    """The same for gRPC hostnames; none means the address above."""
    settle: Duration = timedelta(seconds=1)
    """Pause after a confirmed change, for data planes of several proxies that learn of it one by one."""

    @property
    def probe_grpc_address(self) -> str | None:
        """Where gRPC hostnames are probed."""
        return self.grpc_address or self.address


class Lease(_Section):
    """The Lease that lets one operator write. Times as in Kubernetes leader election."""

    name: Label = "modelrollout"
    """Name of the Lease."""
    namespace: Label | None = None
    """Namespace of the Lease; none means the operator's own."""
    duration: Duration = timedelta(seconds=15)
    """How long others wait after the last renewal before they take over."""
    renew_deadline: Duration = timedelta(seconds=10)
    """How long the holder tries to renew before it stops all work."""
    retry_period: Duration = timedelta(seconds=2)
    """Pause between tries."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not timedelta(0) < self.retry_period < self.renew_deadline < self.duration:
            raise ValueError("must hold 0s < retryPeriod < renewDeadline < duration")
        return self


class LogFormat(StrEnum):
    """How log lines are written."""

    JSON = "json"
    TEXT = "text"


class LogLevel(StrEnum):
    """The least important line that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Settings(_Section):
    """All settings. Every key has a default, so an empty file is valid."""

    operator_image: str | None = None
    """Image of the operator itself, which also runs in the init container that fetches models from s3."""
    namespaces: tuple[Label, ...] = ()
    """Namespaces to look after; empty means all."""
    pools: dict[Label, Pool] = Field(default_factory=lambda: {"cpu": Pool()})
    """Pools by name. `cpu` is the one a ModelDeployment gets that names none."""
    prometheus: dict[Label, Prometheus] = Field(default_factory=dict)
    """Prometheus servers by name. `default` is the one a rollout asks that names none."""
    webhooks: dict[Label, Webhook] = Field(default_factory=dict)
    """Webhooks for retraining by name, as spec.observation.drift.retraining names them."""
    gateways: tuple[Gateway, ...] = ()
    """Gateways that need more than the defaults; one not listed has profile envoy-gateway and no address."""
    enforce_namespace: bool = True
    """Whether every selector of guards and SLIs gets `namespace="<its own>"`; false where series have no such label."""
    lease: Lease = Field(default_factory=Lease)
    """Leader election."""
    identity: str | None = None
    """Name of this process in the Lease; none means the host name with a random part."""
    metrics_port: Port = 9100
    """Port of the operator's own /metrics."""
    health_port: Port = 8080
    """Port of /healthz and /readyz."""
    drain: Duration = timedelta(seconds=10)
    """How long a pod that ends goes on serving before Triton is told to stop; gateways learn late."""
    exit_timeout: Duration = timedelta(seconds=30)
    """How long Triton may then take to answer what it has accepted."""
    max_concurrent_reconciles: Annotated[int, Field(ge=1, le=256)] = 8
    """How many ModelDeployments are worked on at once."""
    log_format: LogFormat = LogFormat.JSON
    """json or text."""
    log_level: LogLevel = LogLevel.INFO
    """debug, info, warning or error."""

    @field_validator("drain", "exit_timeout")
    @classmethod
    def _whole_seconds(cls, value: timedelta) -> timedelta:
        # Pod specs know whole seconds only; 500ms would silently become no drain at all.
        if value % timedelta(seconds=1) or value > timedelta(hours=1):
            raise ValueError("must be whole seconds, at most 1h")
        return value

    @field_validator("gateways")
    @classmethod
    def _distinct(cls, gateways: tuple[Gateway, ...]) -> tuple[Gateway, ...]:
        keys = [(gateway.namespace, gateway.name) for gateway in gateways]
        for key in keys:
            if keys.count(key) > 1:
                raise ValueError(f"gateway {key[0]}/{key[1]} is listed twice")
        return gateways

    def gateway(self, namespace: str, name: str) -> Gateway:
        """The entry of this Gateway, or the defaults where it is not listed."""
        for gateway in self.gateways:
            if (gateway.namespace, gateway.name) == (namespace, name):
                return gateway
        return Gateway(namespace=namespace, name=name)


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, which also refuses a key written twice (plain YAML keeps the last in silence)."""

    @override
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str | int) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is written twice", key_node.start_mark
                )
            if isinstance(key, str | int):
                seen.add(key)
        return super().construct_mapping(node, deep)


def load(path: Path | str | None) -> Settings:
    """Read the settings file; ``None`` gives the defaults.

    Raises SettingsError where the file cannot be read, is no YAML, or a key is unknown, missing or wrong.
    """
    if path is None:
        return Settings()
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read: {error}") from error
    return parse(text, str(path))


def parse(text: str, name: str = "settings") -> Settings:
    """Read settings from YAML text; ``name`` begins each line of an error. Raises SettingsError."""
    try:
        content = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise SettingsError(f"{name}: is not YAML: {' '.join(str(error).split())}") from error
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise SettingsError(f"{name}: must be a mapping of settings, not {type(content).__name__}")
    try:
        return Settings.model_validate(content)
    except ValidationError as error:
        lines = [f"{name}: {_sentence(problem)}" for problem in error.errors(include_url=False)]
        raise SettingsError("\n".join(lines)) from error


def _sentence(problem: Any) -> str:
    location: tuple[str | int, ...] = problem["loc"]
    path = _path(location)
    if problem["type"] == "extra_forbidden":
        known = _keys_at(location[:-1])
        near = difflib.get_close_matches(str(location[-1]), known, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; known here: {', '.join(known)}" if known else ""
        return f"{path}: unknown key{hint}"
    if problem["type"] == "missing":
        return f"{path}: must be given"
    return f"{path}: {problem['msg'].removeprefix('Value error, ')}"


def _path(location: Iterable[str | int]) -> str:
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part != "[key]":
            path += f".{part}" if path else part
    return path or "(whole file)"


def _keys_at(location: tuple[str | int, ...]) -> list[str]:
    """The keys that the section at ``location`` knows; empty where that is not one of our sections."""
    schema = Settings.model_json_schema(by_alias=True)
    here: dict[str, Any] = schema
    for part in location:
        here = _resolve(here, schema)
        if isinstance(part, int):
            here = here.get("items", {})
        else:
            here = here.get("properties", {}).get(part) or here.get("additionalProperties") or {}
        if not isinstance(here, dict):
            return []
    return sorted(_resolve(here, schema).get("properties", {}))


def _resolve(part: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    for option in [part, *part.get("anyOf", []), *part.get("allOf", [])]:
        if "$ref" in option:
            found: dict[str, Any] = schema["$defs"][option["$ref"].rsplit("/", 1)[-1]]
            return found
    return part
