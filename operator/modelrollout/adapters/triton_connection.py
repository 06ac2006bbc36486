"""One connection to a Triton server over gRPC, and its errors as those of the ports."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from modelrollout.adapters.apierrors import one_line
from modelrollout.ports import ModelError, PodTarget, TransientError

LARGEST_INPUT = 16 * 1024 * 1024
LARGEST_ANSWER = 64 * 1024 * 1024
NOT_YET = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED"})
"""gRPC codes of a server that may well answer later."""

CHANNEL = [
    # gRPC obeys http_proxy of the environment, which would send pod traffic elsewhere.
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_send_message_length", 2 * LARGEST_INPUT),
    ("grpc.max_receive_message_length", LARGEST_ANSWER),
    # Without it a pod that came back on the same address would be met with the old one's back-off.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1000),
]


def address_of(target: PodTarget) -> str:
    """``host:port``; an IPv6 address in brackets."""
    host = f"[{target.address}]" if ":" in target.address else target.address
    return f"{host}:{target.port}"


def connect(target: PodTarget) -> Any:
    """A client of tritonclient; close it."""
    # Imported at the first use: numpy and tritonclient are 17 MiB that an idle operator does not need.
    from tritonclient.grpc.aio import InferenceServerClient

    return InferenceServerClient(address_of(target), channel_args=CHANNEL)


async def ask(answer: Awaitable[Any]) -> Any:
    """The answer; raises ModelError with Triton's own sentence, made safe."""
    from tritonclient.utils import InferenceServerException

    try:
        return await answer
    except InferenceServerException as error:
        code = str(error.status() or "UNKNOWN").removeprefix("StatusCode.")
        raise ModelError(code, one_line(str(error.message() or ""))) from error


def transient(error: ModelError) -> TransientError | None:
    """The error as one to try again after, if it is."""
    return TransientError(str(error)) if error.code in NOT_YET else None
