"""Steady requests to the gateway with the echo model behind it: open loop, no retries, every answer kept."""

from __future__ import annotations

import json

from deploy.demo.recording import Answer
from deploy.demo.traffic import LOOK, RestPool, Traffic

from tests.bench.manifests import MODEL

_BODY = json.dumps({"inputs": [{"name": "IN", "shape": [1], "datatype": "FP32", "data": [1.0]}]}).encode()


class EchoSender(RestPool):
    """One request to ``address`` (``host:port``) with ``hostname`` as its Host; a ``deploy.demo.traffic.Sender``."""

    def __init__(self, address: str, hostname: str) -> None:
        super().__init__(address, hostname, MODEL)

    async def send(self, _: int) -> Answer:
        """Send it; whatever is not a 200 is a failure."""
        return await self.post(_BODY, 0, _answer)


def _answer(sent: float, at: float, status: int, revision: str | None, truth: int, content: bytes) -> Answer:
    text = "" if status == 200 else content[:LOOK].decode(errors="replace")
    return Answer(sent, at, str(status), revision, truth, None, text)


def echo_traffic(address: str, hostname: str, rate: float) -> Traffic:
    """Requests at ``rate`` a second."""
    return Traffic(EchoSender(address, hostname), 1, rate)
