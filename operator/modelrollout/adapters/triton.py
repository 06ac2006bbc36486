"""``ports.ModelServer`` on Triton, asked directly at its pods: warm-up, signature, single requests and bursts."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from modelrollout.adapters.apierrors import one_line
from modelrollout.adapters.triton_burst import fire
from modelrollout.adapters.triton_connection import LARGEST_INPUT, ask, connect, transient
from modelrollout.adapters.triton_tensors import (
    Array,
    from_array,
    made_up,
    refuse_large,
    size_of,
    to_array,
    to_inputs,
    to_message,
)
from modelrollout.adapters.triton_warm import OUR_INPUT_IS_BAD, Warming, WarmLimits, latest
from modelrollout.ports import (
    Burst,
    BurstReport,
    ModelError,
    PodTarget,
    PortError,
    Signature,
    Tensor,
    TensorSpec,
    TransientError,
    WarmReport,
)

__all__ = ["TritonModelServer", "WarmLimits"]

Answer = TypeVar("Answer")

ANSWER_SECONDS = 10.0
LONGEST_PARAMETER = 1024 * 1024 + 1
"""Characters of a parameter that are read: one more than a golden set may have."""


class TritonModelServer:
    """Asks one pod at a time, each time over a connection of its own.

    Parameters
    ----------
    limits
        Bounds of a warm-up, see ``WarmLimits``.
    timer
        Monotonic seconds, to measure latencies.

    """

    def __init__(self, limits: WarmLimits | None = None, timer: Callable[[], float] = time.perf_counter) -> None:
        self._limits = limits or WarmLimits()
        self._timer = timer

    async def warm(self, target: PodTarget) -> WarmReport:
        """Wait for the model, then infer until the latency settles. Never raises: failure is in the report."""
        return await Warming(target, self._limits, self._timer).run()

    async def signature(self, target: PodTarget) -> Signature:
        """Inputs, outputs and parameters of the version that answers. Raises TransientError, ModelError."""
        return await _within(ANSWER_SECONDS, target, lambda client: _signature(client, target.model))

    async def infer(self, target: PodTarget, inputs: Sequence[Tensor], outputs: Sequence[str]) -> tuple[Tensor, ...]:
        """The named outputs for one request. Raises TransientError (nobody answers in time), ModelError."""
        return await _within(ANSWER_SECONDS, target, lambda client: _infer(client, target.model, inputs, outputs))

    async def burst(self, targets: Sequence[PodTarget], burst: Burst) -> BurstReport:
        """Send ``burst`` to the pods in turn. Never raises: failure is in the report."""
        try:
            if not targets:
                return BurstReport(unsent="no ready pod to ask")
            if burst.requests:
                messages = [
                    to_message(targets[0].model, [to_array(tensor) for tensor in inputs]) for inputs in burst.requests
                ]
            else:
                invented = await _within(ANSWER_SECONDS, targets[0], lambda client: _invent(client, targets[0].model))
                if isinstance(invented, str):
                    return BurstReport(unsent=invented)
                messages = [to_message(targets[0].model, invented)]
            return await fire(targets, messages, burst, self._timer)
        except TransientError as error:
            return BurstReport(again=one_line(str(error)))
        except PortError as error:
            return BurstReport(sent=1, failed=1, problem=one_line(str(error)))
        # The port promises to never raise.
        except Exception as error:  # noqa: BLE001
            return BurstReport(sent=1, failed=1, problem=one_line(f"{type(error).__name__}: {error}"))


async def _within(seconds: float, target: PodTarget, act: Callable[[Any], Awaitable[Answer]]) -> Answer:
    """``act`` on a connection to ``target``, which answers in time or raises TransientError."""
    client = connect(target)
    try:
        async with asyncio.timeout(seconds):
            return await act(client)
    except ModelError as error:
        raise transient(error) or error from None
    except TimeoutError:
        raise TransientError(f"pod {target.pod} did not answer within {seconds:g} s") from None
    except (ValueError, struct.error) as error:
        # An answer whose bytes do not fit the shape that it claims.
        raise ModelError("DATA_LOSS", one_line(f"the answer of {target.pod} cannot be read: {error}")) from error
    finally:
        await client.close()


async def _signature(client: Any, model: str) -> Signature:
    metadata = await ask(client.get_model_metadata(model))
    version = latest(metadata.versions)
    config = (await ask(client.get_model_config(model, version))).config
    optional = {tensor.name for tensor in config.input if tensor.optional}

    def specs(tensors: Any) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(one_line(each.name, 128), one_line(each.datatype, 32), tuple(each.shape), each.name in optional)
            for each in tensors
        )

    return Signature(
        version=version,
        inputs=specs(metadata.inputs),
        outputs=specs(metadata.outputs),
        max_batch_size=config.max_batch_size,
        decoupled=config.model_transaction_policy.decoupled,
        sequences=config.HasField("sequence_batching"),
        parameters={key: entry.string_value[:LONGEST_PARAMETER] for key, entry in config.parameters.items()},
    )


async def _infer(client: Any, model: str, inputs: Sequence[Tensor], outputs: Sequence[str]) -> tuple[Tensor, ...]:
    from tritonclient.grpc import InferRequestedOutput

    result = await ask(
        client.infer(
            model,
            to_inputs([to_array(tensor) for tensor in inputs]),
            outputs=[InferRequestedOutput(name) for name in outputs],
            request_id="modelrollout-golden",
        )
    )
    response = result.get_response()
    answers = []
    for place, found in enumerate(response.outputs):
        raw = response.raw_output_contents[place] if place < len(response.raw_output_contents) else b""
        refuse_large(found.name, found.datatype, tuple(found.shape), len(raw))
        values = result.as_numpy(found.name)
        if found.name in outputs and values is not None:
            answers.append(from_array(found.name, found.datatype, values))
    return tuple(answers)


async def _invent(client: Any, model: str) -> list[Array] | str:
    """Inputs that the model takes, or why there are none."""
    signature = await _signature(client, model)
    if signature.decoupled or signature.sequences:
        return "it is decoupled or serves sequences, and single requests do not load it"
    tensors = [tensor for tensor in signature.inputs if not tensor.optional]
    if any(size_of(tensor) > LARGEST_INPUT for tensor in tensors):
        return "its input is too large to make up; give it a golden set"
    refusal = ""
    for arrays in made_up(tensors):
        try:
            await ask(client.infer(model, to_inputs(arrays), request_id="modelrollout-load"))
        except ModelError as error:
            if error.code not in OUR_INPUT_IS_BAD:
                raise
            refusal = error.said
            continue
        return arrays
    return f"it takes no made-up input ({refusal}); give it a golden set"
