"""Steady requests to the gateway with the echo model behind it: open loop, no retries, every answer kept."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncIterator

import aiohttp
from deploy.demo.recording import Answer
from deploy.demo.traffic import LOOK, REVISION_HEADER, TIMEOUT, Traffic

from tests.bench.manifests import MODEL

_BODY = json.dumps({"inputs": [{"name": "IN", "shape": [1], "datatype": "FP32", "data": [1.0]}]}).encode()


class EchoSender:
    """One request to ``address`` (``host:port``) with ``hostname`` as its Host; a ``deploy.demo.traffic.Sender``."""

    def __init__(self, address: str, hostname: str) -> None:
        self._url = f"http://{address}/v2/models/{MODEL}/infer"
        self._headers = {"Host": hostname, "Content-Type": "application/json"}
        self._session: aiohttp.ClientSession | None = None

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Hold a pool of kept-alive connections."""
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, trust_env=False) as session:
            self._session = session
            yield

    async def send(self, _: int) -> Answer:
        """Send it; nothing is tried twice, and whatever is not a 200 is a failure."""
        assert self._session is not None, "send() outside of opened()"
        sent = time.time()
        limit = aiohttp.ClientTimeout(total=TIMEOUT)
        try:
            async with self._session.post(self._url, data=_BODY, headers=self._headers, timeout=limit) as response:
                content = await response.read()
        except TimeoutError:
            return Answer(sent, time.time(), "timeout", None, 0, None, f"no answer in {TIMEOUT} s")
        except aiohttp.ClientError as error:
            return Answer(sent, time.time(), "connection", None, 0, None, repr(error)[:LOOK])
        text = "" if response.status == 200 else content[:LOOK].decode(errors="replace")
        return Answer(sent, time.time(), str(response.status), response.headers.get(REVISION_HEADER), 0, None, text)


def echo_traffic(address: str, hostname: str, rate: float) -> Traffic:
    """Requests at ``rate`` a second."""
    return Traffic(EchoSender(address, hostname), 1, rate)
