"""Warming one pod: is the model ready, does it answer, has its latency settled.

The inputs are made up from the model's own metadata, few and bounded. They warm the model; they do not judge it.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from modelrollout.adapters.apierrors import one_line
from modelrollout.adapters.triton_connection import LARGEST_INPUT, NOT_YET, ask, connect
from modelrollout.adapters.triton_tensors import made_up, size_of, to_inputs
from modelrollout.ports import ModelError, PodTarget, WarmReport

_WINDOW = 5
_SETTLED = 0.2
# Below this many seconds a difference between two medians is the clock's and the network's, not the model's.
_NOISE = 0.001
OUR_INPUT_IS_BAD = frozenset({"INVALID_ARGUMENT", "UNIMPLEMENTED", "OUT_OF_RANGE", "FAILED_PRECONDITION"})
"""gRPC codes by which a model refuses what was made up for it."""


@dataclass(frozen=True)
class WarmLimits:
    """Bounds of one warm-up: inferences, and seconds in total, for one answer, and between looks at readiness."""

    inferences: int = 50
    seconds: float = 30.0
    answer_seconds: float = 20.0
    poll_seconds: float = 0.25


class Warming:
    """One warm-up of one pod; ``timer`` tells monotonic seconds, to measure latencies."""

    def __init__(self, target: PodTarget, limits: WarmLimits, timer: Callable[[], float]) -> None:
        self._target = target
        self._limits = limits
        self._timer = timer

    async def run(self) -> WarmReport:
        """Wait for the model, then infer until the latency settles. Never raises: failure is in the report."""
        progress = _Progress()
        latencies = progress.latencies
        try:
            async with asyncio.timeout(self._limits.seconds):
                message = await self._warm(progress)
        except TimeoutError:
            if not latencies:
                why = f"nothing within {self._limits.seconds:g} s, waited for: {progress.waits_for}"
                return self._failed(why, latencies)
            message = f"{len(latencies)} inferences in {self._limits.seconds:g} s, {_speed(latencies)}, not settled"
        except ModelError as error:
            return self._failed(str(error), latencies)
        # The port promises to never raise, and a library's surprise must not stop the rollout of others.
        except Exception as error:  # noqa: BLE001
            return self._failed(f"{type(error).__name__}: {error}", latencies)
        return WarmReport(self._target.pod, True, f"model {self._target.model}: {message}", tuple(latencies))

    async def _warm(self, progress: _Progress) -> str:
        model = self._target.model
        client = connect(self._target)
        try:
            version, metadata = await self._wait_until_ready(client, progress)
            config = (await ask(client.get_model_config(model, version))).config
            if config.model_transaction_policy.decoupled:
                return f"version {version} is ready; decoupled, so no inference was tried"
            if config.HasField("sequence_batching"):
                return f"version {version} is ready; it serves sequences, so no inference was tried"
            optional = {tensor.name for tensor in config.input if tensor.optional}
            wanted = [tensor for tensor in metadata.inputs if tensor.name not in optional]
            progress.waits_for = f"an answer of version {version}"
            return await self._infer(client, version, wanted, progress.latencies)
        finally:
            await client.close()

    async def _wait_until_ready(self, client: Any, progress: _Progress) -> tuple[str, Any]:
        """Return the latest version that is ready and the model's metadata."""
        model = self._target.model
        while True:
            try:
                if await ask(client.is_server_live()) and await ask(client.is_model_ready(model)):
                    metadata = await ask(client.get_model_metadata(model))
                    version = latest(metadata.versions)
                    if await ask(client.is_model_ready(model, version)):
                        return version, metadata
            except ModelError as error:
                if error.code not in NOT_YET:
                    raise
                progress.waits_for = f"the server ({error})"
            else:
                progress.waits_for = "the model to be ready"
            await asyncio.sleep(self._limits.poll_seconds)

    async def _infer(self, client: Any, version: str, tensors: list[Any], latencies: list[float]) -> str:
        """Find an input that the model takes, then repeat it until the latency settles."""
        if any(size_of(tensor) > LARGEST_INPUT for tensor in tensors):
            return f"version {version} is ready; its input is too large to make up"
        refusal = broken = None
        for arrays in made_up(tensors):
            inputs = to_inputs(arrays)
            try:
                latencies.append(await self._once(client, version, inputs))
            except ModelError as error:
                if error.code in OUR_INPUT_IS_BAD:
                    refusal = error
                else:
                    broken = error
                continue
            return await self._repeat(client, version, inputs, latencies)
        if refusal is not None:
            # A model may well demand more than a type and a shape: that it answers is all that can be asked.
            return f"version {version} is ready and answers, but takes no made-up input ({refusal.said})"
        raise broken or ModelError("UNKNOWN", "no input could be made up")

    async def _repeat(self, client: Any, version: str, inputs: list[Any], latencies: list[float]) -> str:
        while not _settled(latencies):
            if len(latencies) >= self._limits.inferences:
                return f"version {version}: {len(latencies)} inferences, {_speed(latencies)}, not settled"
            latencies.append(await self._once(client, version, inputs))
        return f"version {version}: {len(latencies)} inferences, {_speed(latencies)}"

    async def _once(self, client: Any, version: str, inputs: list[Any]) -> float:
        started = self._timer()
        await ask(
            client.infer(
                self._target.model,
                inputs,
                model_version=version,
                request_id="modelrollout-warm",
                client_timeout=self._limits.answer_seconds,
            )
        )
        return self._timer() - started

    def _failed(self, why: str, latencies: list[float]) -> WarmReport:
        message = one_line(f"model {self._target.model} on pod {self._target.pod}: {why}")
        return WarmReport(self._target.pod, False, message, tuple(latencies))


@dataclass
class _Progress:
    """How far a warm-up is, for the report of one that ran out of time."""

    latencies: list[float] = field(default_factory=list)
    waits_for: str = "the server"


def latest(versions: Any) -> str:
    """The version that answers a request that names none."""
    return max(versions, key=_number, default="")


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
