"""``ports.ModelServer`` on Triton: is the model ready, does it answer, has its latency settled.

The inputs are made up from the model's own metadata, few and bounded. They warm the model; they do not judge it.
"""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from modelrollout.adapters.apierrors import one_line
from modelrollout.ports import WarmReport, WarmTarget

if TYPE_CHECKING:
    import numpy.typing

_WINDOW = 5
_SETTLED = 0.2
# Below this many seconds a difference between two medians is the clock's and the network's, not the model's.
_NOISE = 0.001
_LARGEST_INPUT = 16 * 1024 * 1024
_LARGEST_ANSWER = 256 * 1024 * 1024
_OUR_INPUT_IS_BAD = frozenset({"INVALID_ARGUMENT", "UNIMPLEMENTED", "OUT_OF_RANGE", "FAILED_PRECONDITION"})
_NOT_YET = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED"})


@dataclass(frozen=True)
class WarmLimits:
    """Bounds of one warm-up: inferences, and seconds in total, for one answer, and between looks at readiness."""

    inferences: int = 50
    seconds: float = 30.0
    answer_seconds: float = 20.0
    poll_seconds: float = 0.25


class TritonModelServer:
    """Warms one pod at a time, each over a connection of its own.

    Parameters
    ----------
    limits
        See ``WarmLimits``.
    timer
        Monotonic seconds, to measure latencies.

    """

    def __init__(self, limits: WarmLimits | None = None, timer: Callable[[], float] = time.perf_counter) -> None:
        self._limits = limits or WarmLimits()
        self._timer = timer

    async def warm(self, target: WarmTarget) -> WarmReport:
        """Wait for the model, then infer until the latency settles. Never raises: failure is in the report."""
        progress = _Progress()
        latencies = progress.latencies
        try:
            async with asyncio.timeout(self._limits.seconds):
                message = await self._warm(target, progress)
        except TimeoutError:
            if not latencies:
                why = f"nothing within {self._limits.seconds:g} s, waited for: {progress.waits_for}"
                return self._failed(target, why, latencies)
            message = f"{len(latencies)} inferences in {self._limits.seconds:g} s, {_speed(latencies)}, not settled"
        except _RefusedError as error:
            return self._failed(target, str(error), latencies)
        # The port promises to never raise, and a library's surprise must not stop the rollout of others.
        except Exception as error:  # noqa: BLE001
            return self._failed(target, f"{type(error).__name__}: {error}", latencies)
        return WarmReport(target.pod, True, f"model {target.model}: {message}", tuple(latencies))

    async def _warm(self, target: WarmTarget, progress: _Progress) -> str:
        host = f"[{target.address}]" if ":" in target.address else target.address
        client = _connect(f"{host}:{target.port}")
        try:
            version, metadata = await self._wait_until_ready(client, target.model, progress)
            config = (await _ask(client.get_model_config(target.model, version))).config
            if config.model_transaction_policy.decoupled:
                return f"version {version} is ready; decoupled, so no inference was tried"
            if config.HasField("sequence_batching"):
                return f"version {version} is ready; it serves sequences, so no inference was tried"
            optional = {tensor.name for tensor in config.input if tensor.optional}
            wanted = [tensor for tensor in metadata.inputs if tensor.name not in optional]
            progress.waits_for = f"an answer of version {version}"
            return await self._infer(client, target.model, version, wanted, progress.latencies)
        finally:
            await client.close()

    async def _wait_until_ready(self, client: Any, model: str, progress: _Progress) -> tuple[str, Any]:
        """Return the latest version that is ready and the model's metadata."""
        while True:
            try:
                if await _ask(client.is_server_live()) and await _ask(client.is_model_ready(model)):
                    metadata = await _ask(client.get_model_metadata(model))
                    version = max(metadata.versions, key=_number, default="")
                    if await _ask(client.is_model_ready(model, version)):
                        return version, metadata
            except _RefusedError as error:
                if error.code not in _NOT_YET:
                    raise
                progress.waits_for = f"the server ({error})"
            else:
                progress.waits_for = "the model to be ready"
            await asyncio.sleep(self._limits.poll_seconds)

    async def _infer(self, client: Any, model: str, version: str, tensors: list[Any], latencies: list[float]) -> str:
        """Find an input that the model takes, then repeat it until the latency settles."""
        if any(_size(tensor) > _LARGEST_INPUT for tensor in tensors):
            return f"version {version} is ready; its input is too large to make up"
        refusal = broken = None
        for inputs in _made_up(tensors):
            try:
                latencies.append(await self._once(client, model, version, inputs))
            except _RefusedError as error:
                if error.code in _OUR_INPUT_IS_BAD:
                    refusal = error
                else:
                    broken = error
                continue
            return await self._repeat(client, model, version, inputs, latencies)
        if refusal is not None:
            # A model may well demand more than a type and a shape: that it answers is all that can be asked.
            return f"version {version} is ready and answers, but takes no made-up input ({refusal.said})"
        raise broken or _RefusedError("UNKNOWN", "no input could be made up")

    async def _repeat(self, client: Any, model: str, version: str, inputs: list[Any], latencies: list[float]) -> str:
        while not _settled(latencies):
            if len(latencies) >= self._limits.inferences:
                return f"version {version}: {len(latencies)} inferences, {_speed(latencies)}, not settled"
            latencies.append(await self._once(client, model, version, inputs))
        return f"version {version}: {len(latencies)} inferences, {_speed(latencies)}"

    async def _once(self, client: Any, model: str, version: str, inputs: list[Any]) -> float:
        started = self._timer()
        await _ask(
            client.infer(
                model,
                inputs,
                model_version=version,
                request_id="modelrollout-warm",
                client_timeout=self._limits.answer_seconds,
            )
        )
        return self._timer() - started

    def _failed(self, target: WarmTarget, why: str, latencies: list[float]) -> WarmReport:
        message = one_line(f"model {target.model} on pod {target.pod}: {why}")
        return WarmReport(target.pod, False, message, tuple(latencies))


@dataclass
class _Progress:
    """How far a warm-up is, for the report of one that ran out of time."""

    latencies: list[float] = field(default_factory=list)
    waits_for: str = "the server"


class _RefusedError(Exception):
    """Triton's own answer: ``code`` is the gRPC status' name, ``said`` its sentence, made safe."""

    def __init__(self, code: str, said: str) -> None:
        self.code = code
        self.said = one_line(said)
        super().__init__(f"{self.code}: {self.said}")


def _connect(address: str) -> Any:
    # Imported at the first use: numpy and tritonclient are 17 MiB that an idle operator does not need.
    from tritonclient.grpc.aio import InferenceServerClient

    return InferenceServerClient(
        address,
        channel_args=[
            # gRPC obeys http_proxy of the environment, which would send pod traffic elsewhere.
            ("grpc.enable_http_proxy", 0),
            ("grpc.max_send_message_length", 2 * _LARGEST_INPUT),
            ("grpc.max_receive_message_length", _LARGEST_ANSWER),
            # Without it a pod that came back on the same address would be met with the old one's back-off.
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 1000),
        ],
    )


async def _ask(answer: Any) -> Any:
    from tritonclient.utils import InferenceServerException

    try:
        return await answer
    except InferenceServerException as error:
        code = str(error.status() or "UNKNOWN").removeprefix("StatusCode.")
        raise _RefusedError(code, str(error.message() or "")) from error


def _made_up(tensors: list[Any]) -> Iterator[list[Any]]:
    """Yield sets of inputs of the right types and shapes: zeros, ones, and a ramp from 0 to 1 (or words)."""
    import numpy as np
    from tritonclient.grpc import InferInput
    from tritonclient.utils import triton_to_np_dtype

    def fill(kind: str, tensor: Any) -> numpy.typing.NDArray[Any]:
        shape = _shape(tensor)
        if tensor.datatype == "BYTES":
            return np.full(shape, {"zeros": b"", "ones": b"1", "ramp": b"warm"}[kind], dtype=np.object_)
        dtype = triton_to_np_dtype(tensor.datatype)
        if dtype is None:
            raise _RefusedError("UNIMPLEMENTED", f"unknown type {tensor.datatype} of input {tensor.name}")
        if kind == "ramp":
            return np.linspace(0.0, 1.0, math.prod(shape)).reshape(shape).astype(dtype)
        return np.full(shape, 0 if kind == "zeros" else 1, dtype=dtype)

    for kind in ("zeros", "ones", "ramp"):
        inputs = []
        for tensor in tensors:
            made = InferInput(tensor.name, _shape(tensor), tensor.datatype)
            inputs.append(made.set_data_from_numpy(fill(kind, tensor)))
        yield inputs


def _shape(tensor: Any) -> list[int]:
    """Every dimension that is open, the batch too, is 1."""
    return [dimension if dimension >= 0 else 1 for dimension in tensor.shape]


def _size(tensor: Any) -> int:
    return math.prod(_shape(tensor)) * 8


def _number(version: str) -> tuple[int, str]:
    return (int(version) if version.isdecimal() else -1, version)


def _settled(latencies: list[float]) -> bool:
    """Compare the median of the last five with that of the five before."""
    if len(latencies) < 2 * _WINDOW:
        return False
    last = statistics.median(latencies[-_WINDOW:])
    before = statistics.median(latencies[-2 * _WINDOW : -_WINDOW])
    return abs(last - before) <= max(_SETTLED * before, _NOISE)


def _speed(latencies: list[float]) -> str:
    first, last = latencies[0], statistics.median(latencies[-_WINDOW:])
    return f"first {first * 1000:.1f} ms, now {last * 1000:.1f} ms"
