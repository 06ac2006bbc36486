"""Traffic of loan applicants by REST, each with an id, from a world that a test may change while it flows."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
from deploy.demo.loans import MODEL_NAME, Applicants, population, tensors
from deploy.demo.recording import Answer, Recording
from deploy.demo.traffic import LOOK, REVISION_HEADER, TIMEOUT, Traffic, rest_answer

USUAL = population(2000, seed=11)
OLDER = population(2000, seed=12, older=25.0)
RATE = 50.0


@dataclass(frozen=True)
class Asked:
    """One request that was sent: its id, and what should have been decided."""

    identity: str
    truth: int
    at: float


class ApplicantSender:
    """Triton's REST protocol to ``address``; ``world`` is who comes, ``asked`` who came."""

    def __init__(self, address: str, hostname: str, world: Applicants = USUAL) -> None:
        self.world = world
        self.asked: list[Asked] = []
        self._url = f"http://{address}/v2/models/{MODEL_NAME}/infer"
        self._headers = {"Host": hostname, "Content-Type": "application/json"}
        self._session: aiohttp.ClientSession | None = None

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Hold a pool of kept-alive connections."""
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, trust_env=False) as session:
            self._session = session
            yield

    async def send(self, index: int) -> Answer:
        """Send one applicant; nothing is tried twice."""
        assert self._session is not None, "send() outside of opened()"
        truth, sent = int(self.world.decisions[index]), time.time()
        identity = f"{sent:.6f}-{index}"
        body = {"id": identity, "inputs": tensors(self.world, index), "outputs": [{"name": "DECISION"}]}
        self.asked.append(Asked(identity, truth, sent))
        limit = aiohttp.ClientTimeout(total=TIMEOUT)
        try:
            async with self._session.post(
                self._url, data=json.dumps(body), headers=self._headers, timeout=limit
            ) as response:
                content = await response.read()
        except TimeoutError:
            return Answer(sent, time.time(), "timeout", None, truth, None, f"no answer in {TIMEOUT} s")
        except aiohttp.ClientError as error:
            return Answer(sent, time.time(), "connection", None, truth, None, repr(error)[:LOOK])
        revision = response.headers.get(REVISION_HEADER)
        return rest_answer(sent, time.time(), response.status, revision, truth, content)


@dataclass
class Flow:
    """Traffic under way: who comes (``sender.world``), and what came of it."""

    sender: ApplicantSender
    recording: Recording

    def met(self, revision: str) -> int:
        """How many users ``revision`` answered."""
        return sum(answer.revision == revision for answer in self.recording.answers)


@contextlib.asynccontextmanager
async def applicants(address: str, hostname: str, rate: float = RATE) -> AsyncIterator[Flow]:
    """Applicants come inside the block, ``rate`` a second."""
    sender = ApplicantSender(address, hostname)
    async with Traffic(sender, len(USUAL), rate).flowing() as recording:
        yield Flow(sender, recording)
