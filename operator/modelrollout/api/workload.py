"""The parts of a spec that shape the pods and therefore make a revision: model, source and runtime."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar

from pydantic import Field

from modelrollout.api.base import SpecModel
from modelrollout.api.rules import ListKey, Rule, matches
from modelrollout.api.scalars import (
    Amounts,
    Endpoint,
    Image,
    ModelName,
    ObjectName,
    Region,
    SemVer,
    SourceUri,
    quantity,
)

LINEAGE_KEY = "^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$"
RESERVED_ENV = ("MODELROLLOUT_", "AWS_")
RESERVED_ARGS = (
    "model-repository",
    "model-store",
    "model-control-mode",
    "http-port",
    "http-address",
    "grpc-port",
    "grpc-address",
    "metrics-port",
    "metrics-address",
    "allow-http",
    "allow-grpc",
    "allow-metrics",
    "strict-readiness",
    "exit-on-error",
    "exit-timeout-secs",
)


class SecretReference(SpecModel):
    """A Secret of the same namespace."""

    name: ObjectName
    """Name of the Secret. Its keys: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, optionally,
    AWS_SESSION_TOKEN."""


class Source(SpecModel):
    """Where the model repository is."""

    uri: SourceUri
    """A Triton model repository (the folder that holds one folder a model): ``pvc://<claim>/<path>``, mounted
    read-only, or ``s3://<bucket>/<prefix>``, fetched by an init container. Use a new path for each version: a
    changed content under the same path is no new revision."""
    endpoint: Endpoint | None = None
    """Address of an S3-compatible store, like ``https://s3.example.com:9000``. Only with s3. Without it:
    AWS."""
    region: Region | None = None
    """Region of the bucket, like ``eu-central-1``. Only with s3. Default: us-east-1."""
    secret_ref: SecretReference | None = None
    """The Secret that holds the credentials; the pods read it, the operator never does. Only with s3.
    Without it the bucket is read anonymously."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.uri.startsWith('s3://') || (!has(self.endpoint) && !has(self.region) && !has(self.secretRef))",
            "endpoint, region and secretRef do something with an s3:// uri only: remove them",
            lambda self: (
                self.scheme == "s3" or (self.endpoint is None and self.region is None and self.secret_ref is None)
            ),
        ),
    )

    @property
    def scheme(self) -> str:
        """``pvc`` or ``s3``."""
        return self.uri.partition("://")[0]

    @property
    def container(self) -> str:
        """Name of the claim or bucket."""
        return self.uri.partition("://")[2].partition("/")[0]

    @property
    def path(self) -> str:
        """Path or prefix in it, without slashes at its ends; empty for the root of a claim."""
        return self.uri.partition("://")[2].partition("/")[2].strip("/")


class Model(SpecModel):
    """What is served."""

    name: ModelName | None = None
    """What clients call (``/v2/models/<name>``), and the folder in the repository. Default: metadata.name."""
    version: SemVer
    """Semantic version of the model, like 1.4.0. A new MAJOR means a new contract (inputs and outputs)."""
    source: Source
    """Where the model repository is."""
    lineage: Annotated[
        dict[str, Annotated[str, Field(max_length=253)]],
        Field(max_length=16),
        Rule(
            f"self.all(key, key.matches(r'{LINEAGE_KEY}'))",
            "keys must be 1 to 63 letters, digits, dots, dashes, underscores and slashes, and start and "
            "end with a letter or digit",
            lambda self: all(re.fullmatch(LINEAGE_KEY, key) for key in self),
        ),
    ] = Field(default_factory=dict)
    """Free text on where the model comes from (commit, data set, training run), kept in the revision. At
    most 16 entries. A changed entry makes a new revision."""


class EnvVar(SpecModel):
    """One environment variable."""

    name: Annotated[
        str,
        Field(min_length=1, max_length=128),
        matches(
            "^[A-Za-z_][A-Za-z0-9_]*$",
            "must hold only letters, digits and underscores, and not start with a digit",
        ),
        Rule(
            "!self.startsWith('MODELROLLOUT_') && !self.startsWith('AWS_')",
            "names that start with MODELROLLOUT_ or AWS_ are reserved: the operator sets the first, and "
            "credentials belong in the Secret that spec.model.source.secretRef names",
            lambda self: not self.startswith(RESERVED_ENV),
        ),
    ]
    """Name of the variable."""
    value: Annotated[str, Field(max_length=4096)] = ""
    """Value of the variable, readable by everyone who can read this object: no secrets."""


class Resources(SpecModel):
    """What each pod asks for and may use at most."""

    requests: Amounts = Field(default_factory=dict)
    """What the scheduler sets aside for each pod, like ``{cpu: 500m, memory: 1Gi}``. At most 16 entries."""
    limits: Amounts = Field(default_factory=dict)
    """What each pod may use at most, like ``{memory: 2Gi}``. The pool adds its accelerator. At most 16
    entries."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.requests) || !has(self.limits) || self.requests.all(key, !(key in self.limits) || "
            "quantity(string(self.requests[key])).compareTo(quantity(string(self.limits[key]))) <= 0)",
            "a request must not be greater than the limit of the same resource: raise the limit or lower the request",
            lambda self: all(
                key not in self.limits or quantity(amount) <= quantity(self.limits[key])
                for key, amount in self.requests.items()
            ),
        ),
    )


class Runtime(SpecModel):
    """How Triton runs in the pods."""

    image: Image | None = None
    """Container image of Triton, best pinned by digest (a moved tag is no new revision). Default: the
    pool's."""
    args: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=1024)], ...],
        Field(max_length=64),
        Rule(
            f"self.all(arg, !arg.matches('^--({'|'.join(RESERVED_ARGS)})(=|$)'))",
            "the operator sets the repository, ports, control mode, readiness and exit of Triton itself: "
            "remove the arguments for them, like --model-repository or --http-port",
            lambda self: not any(re.match(f"--({'|'.join(RESERVED_ARGS)})(=|$)", arg) for arg in self),
        ),
    ] = ()
    """More arguments for tritonserver, like ``--log-verbose=1``. At most 64."""
    env: Annotated[tuple[EnvVar, ...], Field(max_length=64), ListKey("name")] = ()
    """Environment of Triton. At most 64 variables."""
    resources: Resources = Resources()
    """CPU, memory and other resources of each pod."""
