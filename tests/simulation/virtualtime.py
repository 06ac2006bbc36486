"""An event loop whose time jumps to the next timer, so that hours take milliseconds and every run is the same."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Coroutine
from datetime import datetime, timedelta
from typing import Any, TypeVar

from tests.builders import START

Result = TypeVar("Result")


class DeadlockError(AssertionError):
    """Nothing is ready and nothing sleeps: the run would wait for ever."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs what is ready; when nothing is, the clock moves to the next timer."""

    def __init__(self) -> None:
        self.seconds = 0.0
        super().__init__()

    def time(self) -> float:
        return self.seconds

    def _run_once(self) -> None:
        timers: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        while timers and timers[0].cancelled():
            handle = heapq.heappop(timers)
            handle._scheduled = False  # type: ignore[attr-defined]
            self._timer_cancelled_count -= 1  # type: ignore[attr-defined]
        if not self._ready and not self._stopping:  # type: ignore[attr-defined]
            if not timers:
                raise DeadlockError("nothing is ready and nothing sleeps")
            self.seconds = max(self.seconds, timers[0].when())
        super()._run_once()  # type: ignore[misc]


class VirtualClock:
    """``ports.Clock`` on the loop's time; the host's wall clock may be wrong by ``error`` seconds."""

    def __init__(self) -> None:
        self.error = 0.0

    def now(self) -> datetime:
        return START + timedelta(seconds=self.monotonic() + self.error)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(seconds, 0.0))

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """Run ``main`` in a loop of its own, in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
