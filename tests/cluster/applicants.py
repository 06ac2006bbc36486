"""Traffic of loan applicants by REST, each with an id, from a world that a test may change while it flows."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from deploy.demo.loans import MODEL_NAME, Applicants, population, tensors
from deploy.demo.recording import Answer, Recording
from deploy.demo.traffic import RestPool, Traffic, rest_answer

USUAL = population(2000, seed=11)
OLDER = population(2000, seed=12, older=25.0)
RATE = 50.0


@dataclass(frozen=True)
class Asked:
    """One request that was sent: its id, and what should have been decided."""

    identity: str
    truth: int
    at: float


class ApplicantSender(RestPool):
    """Triton's REST protocol to ``address``; ``world`` is who comes, ``asked`` who came."""

    def __init__(self, address: str, hostname: str, world: Applicants = USUAL) -> None:
        super().__init__(address, hostname, MODEL_NAME)
        self.world = world
        self.asked: list[Asked] = []

    async def send(self, index: int) -> Answer:
        """Send one applicant."""
        truth, sent = int(self.world.decisions[index]), time.time()
        identity = f"{sent:.6f}-{index}"
        body = {"id": identity, "inputs": tensors(self.world, index), "outputs": [{"name": "DECISION"}]}
        self.asked.append(Asked(identity, truth, sent))
        return await self.post(json.dumps(body).encode(), truth, rest_answer)


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
