"""The narrow doors to the outside: what the controller needs of a cluster, metrics, servers, a gateway, time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

Manifest = dict[str, Any]
"""A Kubernetes object as plain JSON."""


class PortError(Exception):
    """Base of everything an adapter raises; adapters convert each library's errors into one of these."""


class TransientError(PortError):
    """Try again later (timeouts, 5xx, 429, refused). ``retry_after`` is in seconds where the server named it."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ConflictError(PortError):
    """The object changed since it was read (409), or is not there any more (404 on a write)."""


class DeniedError(PortError):
    """Not allowed (401, 403): a person must grant something."""


class RejectedError(PortError):
    """The API server refused the object itself (400, 422, 413): retrying the same bytes is useless."""


class TerminatingError(PortError):
    """The namespace is being deleted: nothing new can be made in it ever again."""


class ForeignObjectError(PortError):
    """An object with our name exists and is not ours."""


class InvalidQueryError(PortError):
    """The metrics provider says the query can never work (HTTP 400, 422)."""


class ModelError(PortError):
    """The model server answered with an error: ``code`` is the gRPC status' name, the text the server's sentence."""

    def __init__(self, code: str, said: str) -> None:
        self.code = code
        self.said = said
        super().__init__(f"{code}: {said}")


@dataclass(frozen=True)
class ObjectReference:
    """Which object: ``kind`` is one of the kinds in ``adapters/kubernetes`` (Deployment, Service, HTTPRoute, ...)."""

    kind: str
    namespace: str
    name: str


@dataclass(frozen=True)
class EventRecord:
    """An event about ``regarding`` (a full object: apiVersion, kind, metadata with uid)."""

    regarding: Manifest
    reason: str
    message: str
    warning: bool


@dataclass(frozen=True)
class Series:
    """One series of an answer: its labels and (unix seconds, value) samples, oldest first. A scalar has no labels."""

    labels: Mapping[str, str]
    samples: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Answer:
    """An answer of Prometheus. ``kind`` is vector, matrix, scalar or string (a string has no series)."""

    kind: str
    series: tuple[Series, ...]


@dataclass(frozen=True)
class PodTarget:
    """One pod to ask: its IP address, Triton's gRPC port, the model's name."""

    pod: str
    address: str
    port: int
    model: str


@dataclass(frozen=True)
class WarmReport:
    """What the warm gate measured on one pod. ``latencies`` are seconds, in order; ``message`` is one sentence."""

    pod: str
    passed: bool
    message: str
    latencies: tuple[float, ...] = ()


Scalar = bool | int | float | str | bytes


@dataclass(frozen=True)
class TensorSpec:
    """An input or output as the KServe v2 metadata has it: ``shape`` with the batch in front, -1 for what is open."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    optional: bool = False


@dataclass(frozen=True)
class Signature:
    """What clients of a model rely on, and the ``parameters`` of its config.pbtxt.

    ``max_batch_size`` 0: the server batches nothing. ``decoupled``: any number of answers to a request; ``sequences``:
    requests belong together.
    """

    version: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch_size: int = 0
    decoupled: bool = False
    sequences: bool = False
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Tensor:
    """A tensor with its numbers, row by row: as many as the product of ``shape``.

    Of BYTES the entries are texts, and bytes only where those are no UTF-8: so each value is written in one way.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: tuple[Scalar, ...]


@dataclass(frozen=True)
class Burst:
    """Requests to send: ``rate`` a second for ``seconds``, whatever the answers do; none given: made-up ones."""

    rate: float
    seconds: float
    requests: tuple[tuple[Tensor, ...], ...] = ()


@dataclass(frozen=True)
class BurstReport:
    """What a burst met. Latencies of good answers in seconds, counted from when each request was due.

    ``problem`` is the first error, one sentence; ``unsent`` says why no request can be made at all, ``again`` why none
    could be made now.
    """

    sent: int = 0
    failed: int = 0
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    problem: str = ""
    unsent: str = ""
    again: str = ""


@dataclass(frozen=True)
class ProbeTarget:
    """How to reach a gateway as a user does: address ``host:port``, authority (Host), protocol http or grpc."""

    address: str
    authority: str
    protocol: str


@dataclass(frozen=True)
class LeaseRecord:
    """What a Lease says. ``holder`` empty: free. ``duration`` in seconds; ``version`` names what was read.

    The times are for people: the clocks of two hosts may differ, so no decision may use them.
    """

    holder: str
    duration: float
    acquired_at: datetime | None = None
    renewed_at: datetime | None = None
    transitions: int = 0
    version: str = ""


class Cluster(Protocol):
    """The Kubernetes API, write side. Reads on the hot path come from the cache that the handlers keep."""

    async def apply(self, body: Manifest) -> Manifest:
        """Server-side apply with our field manager and force; returns the stored object.

        ``metadata.resourceVersion``/``uid`` in the body act as preconditions.
        Raises ConflictError, TransientError, DeniedError, RejectedError.
        """

    async def create(self, body: Manifest) -> Manifest:
        """Create by server-side apply of an object that must not exist: raises ForeignObjectError where one does."""

    async def apply_status(self, body: Manifest) -> Manifest:
        """Write the status subresource (apiVersion, kind, metadata incl. resourceVersion, status)."""

    async def delete(self, reference: ObjectReference, uid: str) -> None:
        """Delete with the uid as a precondition, in the background; an object already gone is success."""

    async def emit(self, event: EventRecord) -> None:
        """Post one events.k8s.io/v1 Event."""

    async def read(self, reference: ObjectReference) -> Manifest | None:
        """One GET, for the few objects that are not watched; None where there is none.

        Raises TransientError, DeniedError.
        """


class Metrics(Protocol):
    """One Prometheus. Raises TransientError (down, timeout, garbage) and InvalidQueryError."""

    async def query(self, query: str, at: datetime) -> Answer:
        """Instant query at a time; a range selector answers a matrix of raw samples."""

    async def query_range(self, query: str, start: datetime, end: datetime, step: timedelta) -> Answer:
        """Range query; always a matrix."""


class ModelServer(Protocol):
    """Triton, asked directly at a pod."""

    async def warm(self, target: PodTarget) -> WarmReport:
        """Model ready, then real inferences until the latency settles. Never raises: failure is in the report."""

    async def signature(self, target: PodTarget) -> Signature:
        """Inputs, outputs and parameters of the version that answers. Raises TransientError, ModelError."""

    async def infer(self, target: PodTarget, inputs: Sequence[Tensor], outputs: Sequence[str]) -> tuple[Tensor, ...]:
        """The named outputs for one request. Raises TransientError (nobody answers in time), ModelError."""

    async def burst(self, targets: Sequence[PodTarget], burst: Burst) -> BurstReport:
        """Send ``burst`` to the pods in turn. Never raises: failure is in the report."""


class Webhooks(Protocol):
    """The webhooks of the settings, by name."""

    async def call(self, name: str, body: Mapping[str, Any]) -> str:
        """POST ``body`` as JSON once; returns what the other side said in a few words. Raises PortError."""


class Gateway(Protocol):
    """The data plane, asked as a user would."""

    async def revision_answering(self, target: ProbeTarget, revision: str) -> str | None:
        """The ``x-model-revision`` of the answer to a request pinned to ``revision``; None when there was none."""


class Clock(Protocol):
    """Time. Simulation has its own."""

    def now(self) -> datetime:
        """Timezone-aware UTC."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""


class Leases(Protocol):
    """One Lease of the API server, by which one operator process at a time may write."""

    async def read(self) -> LeaseRecord | None:
        """Return the record, None where there is none. Raises TransientError, DeniedError."""

    async def create(self, record: LeaseRecord) -> LeaseRecord:
        """Make the Lease; returns it as stored. Raises ConflictError when another process was first."""

    async def update(self, record: LeaseRecord) -> LeaseRecord:
        """Replace it; returns it as stored. Raises ConflictError unless ``record.version`` is current."""
