"""A burst of requests on a fixed schedule, whatever the answers do, with bounds on rate, time and what is in flight."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from modelrollout.adapters.apierrors import one_line
from modelrollout.adapters.triton_connection import CHANNEL, address_of
from modelrollout.ports import Burst, BurstReport, PodTarget

HIGHEST_RATE = 2000.0
LONGEST = 60.0
AT_ONCE = 128
"""Requests in flight; one that is due later waits, and its latency counts from when it was due."""
ANSWER_SECONDS = 10.0
_HOPELESS = 50
"""After so many failures, when they are more than the answers, the burst ends: it has shown enough."""

Send = Callable[[bytes], Awaitable[bytes]]
_METHOD = "/inference.GRPCInferenceService/ModelInfer"


@dataclass
class _Tally:
    latencies: list[float] = field(default_factory=list)
    sent: int = 0
    failed: int = 0
    problem: str = ""

    @property
    def hopeless(self) -> bool:
        return self.failed >= _HOPELESS and self.failed > len(self.latencies)


async def fire(
    targets: Sequence[PodTarget], messages: Sequence[bytes], burst: Burst, timer: Callable[[], float]
) -> BurstReport:
    """Send ``messages`` in turn to ``targets`` in turn. ``timer`` tells monotonic seconds.

    The connections carry bytes as they are: decoding answers that nobody reads would cost more than sending.
    """
    import grpc.aio

    async with AsyncExitStack() as stack:
        sends: list[Send] = []
        for target in targets:
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(address_of(target), options=CHANNEL))
            call = channel.unary_unary(_METHOD, request_serializer=None, response_deserializer=None)
            sends.append(_sender(call))
        return await _fire(sends, messages, burst, timer)


def _sender(call: Any) -> Send:
    async def send(message: bytes) -> bytes:
        answer: bytes = await call(message, timeout=ANSWER_SECONDS)
        return answer

    return send


async def _fire(
    sends: Sequence[Send], messages: Sequence[bytes], burst: Burst, timer: Callable[[], float]
) -> BurstReport:
    rate, seconds = min(burst.rate, HIGHEST_RATE), min(burst.seconds, LONGEST)
    wanted = max(1, round(rate * seconds))
    tally, places = _Tally(), asyncio.Semaphore(AT_ONCE)
    under_way: set[asyncio.Task[None]] = set()
    began = timer()

    async def one(number: int, due: float) -> None:
        try:
            await sends[number % len(sends)](messages[number % len(messages)])
            tally.latencies.append(timer() - due)
        except Exception as error:  # noqa: BLE001 - whatever it is, users would have met it
            tally.failed += 1
            tally.problem = tally.problem or _sentence(error)
        finally:
            places.release()

    try:
        for number in range(wanted):
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - timer()))
            await places.acquire()
            if tally.hopeless or timer() - began > seconds + ANSWER_SECONDS:
                places.release()
                break
            tally.sent += 1
            task = asyncio.create_task(one(number, due))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        await asyncio.gather(*under_way)
    finally:
        for task in under_way:
            task.cancel()
    return _report(tally, wanted)


def _report(tally: _Tally, wanted: int) -> BurstReport:
    unsent = 0 if tally.hopeless else wanted - tally.sent
    problem = tally.problem or ("too slow: requests could not even be begun in time" if unsent else "")
    found = sorted(tally.latencies)
    return BurstReport(
        sent=tally.sent + unsent,
        failed=tally.failed + unsent,
        p50=quantile(found, 0.5),
        p95=quantile(found, 0.95),
        p99=quantile(found, 0.99),
        problem=problem,
    )


def quantile(ordered: Sequence[float], share: float) -> float | None:
    """The smallest of ``ordered`` that at least ``share`` of them do not exceed (nearest rank)."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def _sentence(error: Exception) -> str:
    code = getattr(error, "code", None)
    details = getattr(error, "details", None)
    if callable(code) and callable(details):
        return one_line(f"{getattr(code(), 'name', code())}: {details()}", 300)
    return one_line(f"{type(error).__name__}: {error}", 300)
