"""Steady traffic of held-out images over REST, as a client of the gateway sends it: open loop, no retries.

A request leaves at its own time whether or not earlier ones were answered, so a slow model cannot hide by
slowing its clients down. Every answer is recorded.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Protocol

import aiohttp
from deploy.demo.recording import Answer, Recording
from deploy.demo.training import MODEL_NAME, Floats, Labels

REVISION_HEADER = "x-model-revision"
TIMEOUT = 10.0
"""Seconds after which a request counts as lost."""

LOOK = 200
"""How many characters of an error are kept."""

Reader = Callable[[float, float, int, str | None, int, bytes], Answer]
"""(sent, answered, HTTP status, revision, truth, body) -> what came of it."""


class Sender(Protocol):
    """One protocol: how one held-out image is sent."""

    def opened(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Hold the connections open while traffic flows."""

    async def send(self, index: int) -> Answer:
        """Send the image ``index`` and return what came of it; never raises for a failed request."""


class Traffic:
    """Sends ``count`` images in turn, ``rate`` a second, at most ``bound`` under way at a time.

    Use as ``async with traffic.flowing():``; ``recording`` fills up as answers come.
    """

    def __init__(self, sender: Sender, count: int, rate: float = 100.0, bound: int = 256) -> None:
        self.rate = rate
        self.recording = Recording()
        self._sender = sender
        self._count = count
        self._bound = bound
        self._under_way: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def flowing(self) -> AsyncIterator[Recording]:
        """Traffic flows inside the block; leaving it waits for the last answers."""
        async with self._sender.opened():
            pump = asyncio.create_task(self._pump())
            try:
                yield self.recording
            finally:
                pump.cancel()
                await asyncio.gather(pump, return_exceptions=True)
                if self._under_way:
                    await asyncio.wait(self._under_way, timeout=TIMEOUT + 1)

    async def _pump(self) -> None:
        begun, sent = time.monotonic(), 0
        while True:
            due = int((time.monotonic() - begun) * self.rate)
            for tick in range(sent, due):
                if len(self._under_way) >= self._bound:
                    self.recording.held_back += 1
                    continue
                task = asyncio.create_task(self._one(tick % self._count))
                self._under_way.add(task)
                task.add_done_callback(self._under_way.discard)
            sent = due
            await asyncio.sleep(max(0.001, (due + 1) / self.rate - (time.monotonic() - begun)))

    async def _one(self, index: int) -> None:
        self.recording.add(await self._sender.send(index))


class RestPool:
    """Kept-alive connections to ``address`` (``host:port``), which post to ``model`` behind ``hostname``."""

    def __init__(self, address: str, hostname: str, model: str, headers: dict[str, str] | None = None) -> None:
        self._url = f"http://{address}/v2/models/{model}/infer"
        self._headers = {"Host": hostname, "Content-Type": "application/json", **(headers or {})}
        self._session: aiohttp.ClientSession | None = None

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Hold the pool."""
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, trust_env=False) as session:
            self._session = session
            yield

    async def post(self, body: bytes, truth: int, read: Reader) -> Answer:
        """Post ``body`` and ``read`` the answer; nothing is tried twice, and no failure raises."""
        if self._session is None:
            raise RuntimeError("post() outside of opened()")
        sent = time.time()
        limit = aiohttp.ClientTimeout(total=TIMEOUT)
        try:
            async with self._session.post(self._url, data=body, headers=self._headers, timeout=limit) as response:
                content = await response.read()
        except TimeoutError:
            return Answer(sent, time.time(), "timeout", None, truth, None, f"no answer in {TIMEOUT} s")
        except aiohttp.ClientError as error:
            return Answer(sent, time.time(), "connection", None, truth, None, repr(error)[:LOOK])
        return read(sent, time.time(), response.status, response.headers.get(REVISION_HEADER), truth, content)


class RestSender(RestPool):
    """Sends images by Triton's REST protocol."""

    def __init__(
        self,
        images: Floats,
        labels: Labels,
        address: str,
        hostname: str,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(address, hostname, MODEL_NAME, headers)
        self._truths = [int(label) for label in labels]
        self._bodies = [rest_body(image) for image in images]

    async def send(self, index: int) -> Answer:
        """Send one image."""
        return await self.post(self._bodies[index], self._truths[index], rest_answer)


def rest_traffic(images: Floats, labels: Labels, address: str, hostname: str, rate: float = 100.0) -> Traffic:
    """Steady REST traffic of these images."""
    return Traffic(RestSender(images, labels, address, hostname), len(images), rate)


def rest_body(image: Floats) -> bytes:
    """The request for one image, by Triton's REST protocol."""
    tensor = {"name": "IMAGE", "shape": [1, 8, 8], "datatype": "FP32", "data": image.reshape(-1).tolist()}
    return json.dumps({"inputs": [tensor], "outputs": [{"name": "LABEL"}]}).encode()


def rest_answer(sent: float, at: float, status: int, revision: str | None, truth: int, content: bytes) -> Answer:
    """Read an answer; a 200 that is not one of Triton's is kept as status ``garbage``."""
    if status != 200:
        return Answer(sent, at, str(status), revision, truth, None, content[:LOOK].decode(errors="replace"))
    try:
        label = int(json.loads(content)["outputs"][0]["data"][0])
    except (ValueError, LookupError, TypeError):
        return Answer(sent, at, "garbage", revision, truth, None, content[:LOOK].decode(errors="replace"))
    return Answer(sent, at, "200", revision, truth, label)
