"""The bounded queue between the servers, which answer at once, and the counting behind them; drops when full."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from enum import StrEnum


class Protocol(StrEnum):
    """How a copy came."""

    HTTP = "http"
    GRPC = "grpc"


@dataclass(frozen=True, slots=True)
class Copy:
    """One mirrored request, not decoded. ``host``, ``model`` and ``header_length`` are REST's."""

    protocol: Protocol
    body: bytes
    at: float
    host: str = ""
    model: str = ""
    request_id: str = ""
    header_length: int | None = None


class Budget:
    """Bytes of bodies that are in memory: those being read and those that wait."""

    def __init__(self, most: int) -> None:
        self._left = most

    def take(self, amount: int) -> bool:
        """Take so many bytes, if there are as many."""
        if amount > self._left:
            return False
        self._left -= amount
        return True

    def give_back(self, amount: int) -> None:
        """These bytes are not in memory any more."""
        self._left += amount


class Intake:
    """The queue. Whoever puts a copy has taken its bytes from ``budget``; ``take`` gives them back."""

    def __init__(self, budget: Budget, most: int) -> None:
        self.budget = budget
        self._most = most
        self._waiting: deque[Copy] = deque()
        self._some = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, copy: Copy) -> bool:
        """Queue a copy; False where the queue is full: its bytes are given back."""
        if len(self._waiting) >= self._most:
            self.budget.give_back(len(copy.body))
            return False
        self._waiting.append(copy)
        self._some.set()
        return True

    async def wait(self) -> None:
        """Return once there is something."""
        await self._some.wait()

    def take(self, most: int, most_bytes: int) -> list[Copy]:
        """The oldest copies: at most so many, and so many bytes (one copy at least)."""
        taken: list[Copy] = []
        total = 0
        while self._waiting and len(taken) < most and (not taken or total + len(self._waiting[0].body) <= most_bytes):
            taken.append(self._waiting.popleft())
            total += len(taken[-1].body)
        self.budget.give_back(total)
        if not self._waiting:
            self._some.clear()
        return taken
