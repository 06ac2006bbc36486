"""The observer on one core under 1,000 mirrored requests a second of 64 features: dropped, lag, CPU, memory."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import grpc.aio
import numpy as np
from tritonclient.grpc import service_pb2

from modelrollout.observer.process import Observer, Ports
from modelrollout.observer.rpc import INFER
from modelrollout.observer.wishes import Arms, Wish
from modelrollout.profile.making import Column, make
from modelrollout.profile.model import Profile
from tests.bench.result import Result

RATE, FEATURES = 1000, 64
SECONDS, QUICK_SECONDS = 20, 4
CONNECTIONS = 128
CPU_LIMIT = 80.0
LAG_LIMIT = 0.25
MEMORY_LIMIT = 256.0
BOMBS, BOMB_LIMIT = 40, 512.0
METRICS = "modelrollout_observer_"

Send = Callable[[int], Awaitable[None]]


@dataclass(frozen=True)
class Place:
    """Where the observer under test listens, and its process."""

    pid: int
    http: int
    grpc: int
    metrics: int


def run(result: Result, quick: bool) -> None:
    """Measure each protocol in a fresh process."""
    seconds = QUICK_SECONDS if quick else SECONDS
    for name, sender in (("REST JSON", _json_sender), ("REST binary", _binary_sender), ("gRPC", _grpc_sender)):
        asyncio.run(_measure(result, name, sender, seconds))
    asyncio.run(_bombs(result))
    result.note("cores of the observer", 1, "cores")


async def _bombs(result: Result) -> None:
    """The costliest bodies there are, many at once: resident memory meanwhile, and whether it counts afterwards."""
    unit = 4 * 1024 * 1024
    rows = 15 * unit // 4 // (4 * FEATURES)
    entry = {"name": "X", "shape": [rows, FEATURES], "datatype": "FP32"}
    data = bytes(rows * FEATURES * 4)
    head = json.dumps({"inputs": [{**entry, "parameters": {"binary_data_size": len(data)}}]}).encode()
    bodies = [(head + data, {"Inference-Header-Content-Length": str(len(head))})]
    words = (b"{},", b"[],", b"1.5,", b'"a",')
    bodies += [(b'{"inputs":[' + word * (unit // len(word) - 20) + b"1]}", {}) for word in words]
    bodies += [(b"[" * (unit - 1), {})]
    async with _observer() as place:
        seen = [_resident(place.pid)]

        async def watch() -> None:
            while True:
                seen.append(_resident(place.pid))
                await asyncio.sleep(0.05)

        watching = asyncio.create_task(watch())
        for body, headers in bodies:
            async with _posting(place, body, headers) as send:
                await asyncio.gather(*(send(number) for number in range(BOMBS)), return_exceptions=True)
            await _settled(place)
        watching.cancel()
        before = (await _counted(place)).get("counted", 0)
        async with _json_sender(place) as send:
            await asyncio.gather(*(send(number) for number in range(10)))
        await _settled(place)
        after = (await _counted(place)).get("counted", 0)
    result.note("bombs: resident before them", seen[0], "MiB")
    result.at_most(f"bombs: resident, {BOMBS} of each kind at once", max(seen), "MiB", BOMB_LIMIT)
    result.at_most("bombs: requests after them that are not counted", abs(10 - (after - before)), "requests", 0)


async def _measure(result: Result, name: str, sender: Any, seconds: int) -> None:
    async with _observer() as place, sender(place) as send:
        await _load(send, 1)
        await _settled(place)
        counted = await _counted(place)
        before, begun = _cpu(place.pid), time.monotonic()
        lags: list[float] = []
        watching = asyncio.create_task(_watch_lag(place, lags))
        sent, failed = await _load(send, seconds)
        took = time.monotonic() - begun
        watching.cancel()
        used = 100.0 * (_cpu(place.pid) - before) / took
        await _settled(place)
        outcomes = await _counted(place)
        there = outcomes.get("counted", 0) - counted.get("counted", 0)
        resident = _resident(place.pid)
    result.at_least(f"{name}: sent", sent / took, "requests/s", 0.97 * RATE)
    result.at_most(f"{name}: not answered", failed, "requests", 0)
    result.at_most(f"{name}: dropped or not counted", abs(sent - there), "requests", 0)
    result.at_most(f"{name}: CPU of the one core", used, "%", CPU_LIMIT)
    result.at_most(f"{name}: longest wait before counting", max(lags, default=0.0), "s", LAG_LIMIT)
    result.at_most(f"{name}: resident", resident, "MiB", MEMORY_LIMIT)


async def _load(send: Send, seconds: int) -> tuple[int, int]:
    """Send ``RATE`` a second in an open loop, in ticks of ten milliseconds; returns how many were sent and failed."""
    tick, begun = 0.01, time.monotonic()
    tasks: set[asyncio.Task[None]] = set()
    sent = failed = 0

    def done(task: asyncio.Task[None]) -> None:
        nonlocal failed
        tasks.discard(task)
        failed += task.exception() is not None

    for number in range(int(seconds / tick)):
        for _ in range(int(RATE * tick)):
            task = asyncio.create_task(send(sent))  # type: ignore[arg-type]
            tasks.add(task)
            task.add_done_callback(done)
            sent += 1
        await asyncio.sleep(max(0.0, begun + (number + 1) * tick - time.monotonic()))
    if tasks:
        await asyncio.wait(tasks, timeout=10)
    return sent, failed


async def _watch_lag(place: Place, lags: list[float]) -> None:
    while True:
        text = await _metrics(place)
        lags += [value for name, _, value in text if name == f"{METRICS}lag_seconds"]
        await asyncio.sleep(1.0)


async def _settled(place: Place) -> None:
    """Wait until the queue is empty and two looks in a row say the same."""
    before = None
    while True:
        samples = await _metrics(place)
        waiting = sum(value for name, _, value in samples if name == f"{METRICS}queue_length")
        now = sum(value for name, _, value in samples if name == f"{METRICS}requests_total")
        if waiting == 0 and now == before:
            return
        before = now
        await asyncio.sleep(0.1)


async def _counted(place: Place) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, labels, value in await _metrics(place):
        if name == f"{METRICS}requests_total":
            outcome = labels.split('outcome="')[1].split('"')[0]
            found[outcome] = found.get(outcome, 0.0) + value
    return found


async def _metrics(place: Place) -> list[tuple[str, str, float]]:
    url = f"http://127.0.0.1:{place.metrics}/metrics"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        lines = (await response.text()).splitlines()
    samples = []
    for line in lines:
        if line and not line.startswith("#"):
            series, _, value = line.rpartition(" ")
            name, _, labels = series.partition("{")
            samples.append((name, labels, float(value)))
    return samples


def _row() -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.random.default_rng(1).normal(size=(1, FEATURES))


@contextlib.asynccontextmanager
async def _json_sender(place: Place) -> AsyncIterator[Send]:
    entry = {"name": "X", "shape": [1, FEATURES], "datatype": "FP32", "data": _row().ravel().tolist()}
    async with _posting(place, json.dumps({"id": "1", "inputs": [entry]}).encode(), {}) as send:
        yield send


@contextlib.asynccontextmanager
async def _binary_sender(place: Place) -> AsyncIterator[Send]:
    data = _row().astype("<f4").tobytes()
    entry = {"name": "X", "shape": [1, FEATURES], "datatype": "FP32", "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"id": "1", "inputs": [entry]}).encode()
    async with _posting(place, head + data, {"Inference-Header-Content-Length": str(len(head))}) as send:
        yield send


@contextlib.asynccontextmanager
async def _posting(place: Place, body: bytes, headers: dict[str, str]) -> AsyncIterator[Send]:
    """Kept-alive connections as a proxy has them: one request at a time each, more (to a bound) where all are busy.

    Written on a bare protocol: an HTTP client would need a core of its own.
    """
    lines = {"Host": "digits.example.com-shadow", "Content-Length": str(len(body)), **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    request = f"POST /v2/models/digits/infer HTTP/1.1\r\n{head}\r\n".encode() + body
    loop, free = asyncio.get_running_loop(), list[_Connection]()
    opened: list[_Connection] = []
    room = asyncio.Semaphore(CONNECTIONS)

    async def send(_: int) -> None:
        async with room:
            if free:
                connection = free.pop()
            else:
                _, connection = await loop.create_connection(_Connection, "127.0.0.1", place.http)
                opened.append(connection)
            answer = await connection.ask(request)
            free.append(connection)
        if not answer.startswith(b"HTTP/1.1 202"):
            raise RuntimeError(answer[:40].decode())

    try:
        yield send
    finally:
        for connection in opened:
            connection.transport.close()


class _Connection(asyncio.Protocol):
    transport: asyncio.Transport
    _answer: asyncio.Future[bytes]
    _read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._read += data
        if b"\r\n\r\n" in self._read and not self._answer.done():
            self._answer.set_result(self._read)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._answer.done():
            self._answer.set_exception(exc or ConnectionError("closed"))

    async def ask(self, request: bytes) -> bytes:
        self._answer, self._read = asyncio.get_running_loop().create_future(), b""
        self.transport.write(request)
        return await self._answer


@contextlib.asynccontextmanager
async def _grpc_sender(place: Place) -> AsyncIterator[Send]:
    request = service_pb2.ModelInferRequest(model_name="digits", id="1")
    request.inputs.add(name="X", datatype="FP32", shape=[1, FEATURES])
    request.raw_input_contents.append(_row().astype("<f4").tobytes())
    body = request.SerializeToString()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{place.grpc}") as channel:
        call = channel.unary_unary(INFER)

        async def send(_: int) -> None:
            await call(body, timeout=10)

        yield send


@contextlib.asynccontextmanager
async def _observer() -> AsyncIterator[Place]:
    """The observer in a process of its own on the last core, the load on the others."""
    cores = sorted(os.sched_getaffinity(0))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.observer", str(cores[-1]), stdout=asyncio.subprocess.PIPE
    )
    os.sched_setaffinity(0, set(cores[:-1]) or set(cores))
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 30)
        yield Place(process.pid, *json.loads(line))
    finally:
        os.sched_setaffinity(0, set(cores))
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


def profile(features: int = FEATURES) -> Profile:
    """A profile of normal numbers, ten bins each."""
    data = np.random.default_rng(0).normal(size=(5000, features))
    return make("digits", [Column(f"x{place}", "X", (place,), data[:, place]) for place in range(features)], {})


async def _serve() -> None:
    observer = Observer(None, time.time, "127.0.0.1", Ports(0, 0, 0, 0))
    wish = Wish("digits", "demo", "digits", frozenset({"digits.example.com"}), Arms())
    observer.registry.follow({"digits": wish})
    observer.registry.targets["digits"].use(profile())
    running = asyncio.create_task(observer.run())
    await observer.listening.wait()
    print(json.dumps([observer.http.port, observer.grpc.port, observer.metrics_port]), flush=True)
    await running


if __name__ == "__main__":
    os.sched_setaffinity(0, {int(sys.argv[1])})
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve())
