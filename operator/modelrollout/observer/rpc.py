"""gRPC: takes copies of ModelInfer as raw bytes, and asks the arms of a ModelDeployment for their own answers."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import grpc
import grpc.aio

from modelrollout.observer.comparing import Answer
from modelrollout.observer.decoding import Inference, grpc_tensors
from modelrollout.observer.intake import Budget, Copy, Intake, Protocol
from modelrollout.observer.limits import MEBI, Limits
from modelrollout.observer.registry import Registry
from modelrollout.observer.tensors import MalformedError, to_bytes
from modelrollout.observer.wishes import Arms
from modelrollout.profile.contract import Contract, Tensor

_LOGGER = logging.getLogger(__name__)

INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
METADATA = "/inference.GRPCInferenceService/ModelMetadata"
CONFIG = "/inference.GRPCInferenceService/ModelConfig"
REQUEST_ID = "modelrollout-observer"
_CHANNELS = 256
_GRACE = 1.0
_LARGEST_ANSWER = 16 * MEBI
_UNKNOWN_ANSWER = 4 * MEBI
"""What the answer of an arm that has not answered yet is taken to be: a few are asked until it is known."""


class RpcServer:
    """Answers every ModelInfer with an empty response and queues it; streams are only counted, others not even."""

    def __init__(
        self,
        intake: Intake,
        registry: Registry,
        bind: str,
        port: int,
        limits: Limits,
        monotonic: Callable[[], float],
    ) -> None:
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", limits.message),
                ("grpc.max_concurrent_streams", limits.streams),
                ("grpc.max_allowed_incoming_connections", limits.connections),
                ("grpc.server_handshake_timeout_ms", int(limits.first * 1000)),
                ("grpc.max_connection_idle_ms", 600_000),
                ("grpc.http2.max_ping_strikes", 10),
                ("grpc.so_reuseport", 0),
            ],
            maximum_concurrent_rpcs=limits.calls,
        )
        self._server.add_generic_rpc_handlers((_Infer(intake, registry, monotonic),))
        self._address = f"{bind}:{port}" if ":" not in bind else f"[{bind}]:{port}"
        self.port = 0

    async def start(self) -> None:
        """Listen. Raises OSError where the address cannot be had."""
        try:
            self.port = self._server.add_insecure_port(self._address)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {self._address}: {error}") from error
        await self._server.start()

    async def close(self) -> None:
        """Stop, giving calls under way a second."""
        await self._server.stop(1.0)


class _Infer(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, intake: Intake, registry: Registry, monotonic: Callable[[], float]) -> None:
        self._intake, self._registry, self._monotonic = intake, registry, monotonic

    def service(self, handler_call_details: Any) -> Any:
        if handler_call_details.method == STREAM:
            return grpc.stream_stream_rpc_method_handler(self._stream)
        if handler_call_details.method != INFER:
            return None
        request_id = ""
        for key, value in handler_call_details.invocation_metadata or ():
            if key == "x-request-id":
                request_id = str(value)[:128]
        call = _Call(self._intake, self._registry, request_id, self._monotonic)
        # Neither side is decoded here: the body is queued as it came.
        return grpc.unary_unary_rpc_method_handler(call.take)

    async def _stream(self, messages: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        """One stream: counted for the model that its first message names, and ended."""
        async for body in messages:
            self._registry.unsupported(body)
            break
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "streams are not counted")
        yield b""


class _Call:
    """One call. gRPC refuses a message that is too large before it tells us of it: then nothing was ever taken."""

    __slots__ = ("_intake", "_monotonic", "_registry", "_request_id", "_taken")

    def __init__(self, intake: Intake, registry: Registry, request_id: str, monotonic: Callable[[], float]) -> None:
        self._intake, self._registry, self._request_id, self._monotonic = intake, registry, request_id, monotonic
        self._taken = False

    async def take(self, body: bytes, context: Any) -> bytes:
        self._taken = True
        copy = Copy(Protocol.GRPC, body, self._monotonic(), request_id=self._request_id)
        if not self._intake.budget.take(len(body)) or not self._intake.put(copy):
            self._registry.outcome(Protocol.GRPC, "dropped")
        return b""

    def __del__(self) -> None:
        if not self._taken:
            self._registry.outcome(Protocol.GRPC, "too_large")


class Askers:
    """Asks arms by gRPC: a channel an arm, so many questions at once, each with a deadline.

    Parameters
    ----------
    address
        host:port of a revision's Service.

    """

    def __init__(self, address: Callable[[str, str], str], limits: Limits) -> None:
        self._address = address
        self._limits = limits
        self._channels: OrderedDict[str, Any] = OrderedDict()
        self._places, self._bytes = Budget(limits.asking), Budget(limits.asking_bytes)
        self._sizes: dict[str, int] = {}

    def reserve(self, namespace: str, arms: Arms, size: int) -> int | None:
        """Take a place for one more question of ``size`` bytes and for its answers, if there is room.

        Returns what to ``release`` when it is over; None where there is no room.
        """
        answers = sum(self._sizes.get(self._address(namespace, name), _UNKNOWN_ANSWER) for name in arms.names)
        amount = min(size + answers, self._limits.asking_bytes)
        if not self._places.take(1):
            return None
        if not self._bytes.take(amount):
            self._places.give_back(1)
            return None
        return amount

    def release(self, amount: int) -> None:
        """A question that took ``amount`` is not under way any more."""
        self._places.give_back(1)
        self._bytes.give_back(amount)

    def answered(self, address: str, size: int) -> None:
        """Keep the greatest size of late: nobody says beforehand how large an answer will be."""
        self._sizes[address] = max(size, self._sizes.get(address, 0) * 9 // 10)

    async def ask(self, namespace: str, arms: Arms, inference: Inference) -> Mapping[str, Answer | None]:
        """What each arm answers, by revision; None for one that fails or is late."""
        body = message(inference).SerializeToString()
        found = await asyncio.gather(*(self._answer(namespace, name, body) for name in arms.names))
        return dict(zip(arms.names, found, strict=True))

    async def contract(self, namespace: str, revision: str, model: str) -> tuple[Contract, dict[str, str]]:
        """The model's inputs and outputs, and its parameters. Raises OSError where the revision does not answer."""
        from tritonclient.grpc import service_pb2 as pb

        channel = self._channel(self._address(namespace, revision))
        try:
            metadata, config = await asyncio.gather(
                self._call(channel, METADATA, pb.ModelMetadataRequest(name=model), pb.ModelMetadataResponse),
                self._call(channel, CONFIG, pb.ModelConfigRequest(name=model), pb.ModelConfigResponse),
            )
        except grpc.aio.AioRpcError as error:
            raise OSError(f"{revision} does not tell what {model} is: {error.code().name}") from error
        return contract_of(metadata, config.config), {
            key: value.string_value for key, value in config.config.parameters.items()
        }

    async def close(self) -> None:
        """Close all channels."""
        channels, self._channels = self._channels, OrderedDict()
        await asyncio.gather(*(channel.close() for channel in channels.values()))

    async def _answer(self, namespace: str, revision: str, body: bytes) -> Answer | None:
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
        from tritonclient.grpc import service_pb2 as pb

        address = self._address(namespace, revision)
        call = self._channel(address).unary_unary(INFER)
        try:
            raw = await call(body, timeout=self._limits.answer)
            self.answered(address, len(raw))
            response = pb.ModelInferResponse.FromString(raw)
            return grpc_tensors(response.outputs, response.raw_output_contents)
        except grpc.aio.AioRpcError as error:
            _LOGGER.debug("%s did not answer: %s", revision, error.code())
            # A question that failed otherwise says nothing of how large the next answer is.
            if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                self.answered(address, _LARGEST_ANSWER)
        except (DecodeError, MalformedError, ValueError):
            _LOGGER.debug("%s gave an answer that is none", revision)
        return None

    async def _call(self, channel: Any, method: str, request: Any, answer: Any) -> Any:
        call = channel.unary_unary(
            method, request_serializer=lambda sent: sent.SerializeToString(), response_deserializer=answer.FromString
        )
        return await call(request, timeout=self._limits.answer)

    def _channel(self, address: str) -> Any:
        channel = self._channels.pop(address, None)
        if channel is None:
            channel = connect(address)
        self._channels[address] = channel
        if len(self._channels) > _CHANNELS:
            gone, old = self._channels.popitem(last=False)
            self._sizes.pop(gone, None)
            # Calls under way end first: a closed channel cancels them.
            closing = asyncio.ensure_future(old.close(self._limits.answer + _GRACE))
            closing.add_done_callback(lambda done: done.exception())
        return channel


def connect(address: str) -> Any:
    """A channel that comes back quickly, and goes nowhere but to ``address``."""
    return grpc.aio.insecure_channel(
        address,
        options=[
            # gRPC obeys http_proxy of the environment, which would send pod traffic elsewhere.
            ("grpc.enable_http_proxy", 0),
            ("grpc.max_receive_message_length", _LARGEST_ANSWER),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 2000),
        ],
    )


def message(inference: Inference) -> Any:
    """The request as every arm is asked it: same tensors, any version, all outputs."""
    from tritonclient.grpc import service_pb2 as pb

    made = pb.ModelInferRequest(model_name=inference.model, id=REQUEST_ID)
    for tensor in inference.inputs.values():
        made.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        made.raw_input_contents.append(to_bytes(tensor))
    return made


def contract_of(metadata: Any, config: Any) -> Contract:
    """Inputs and outputs out of Triton's metadata and config."""
    batched = config.max_batch_size > 0

    def tensors(entries: Any) -> dict[str, Tensor]:
        return {entry.name: Tensor(entry.name, entry.datatype, tuple(entry.shape), batched) for entry in entries}

    return Contract(tensors(metadata.inputs), tensors(metadata.outputs))
