"""A keyed work queue: any number of wakes become one turn, a key never has two turns at once, failures back off."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from modelrollout.controller.cache import Key

_LOGGER = logging.getLogger(__name__)

FIRST_BACKOFF = 0.2
LONGEST_BACKOFF = 30.0

Work = Callable[[Key], Coroutine[Any, Any, float | None]]
"""One turn: returns the seconds after which it wants another, None for none until the next wake."""


class QueueObserver(Protocol):
    """Told how the queue does."""

    def queue_depth(self, depth: int) -> None:
        """How many keys wait for their turn."""

    def queue_wait(self, seconds: float) -> None:
        """How long one key waited."""


class Queue:
    """Runs ``work`` for woken keys in ``workers`` tasks."""

    def __init__(self, work: Work, workers: int, observer: QueueObserver | None = None) -> None:
        self._work = work
        self._workers = workers
        self._observer = observer
        self._waiting: dict[Key, float] = {}
        self._running: set[Key] = set()
        self._again: set[Key] = set()
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._failures: dict[Key, int] = {}
        self._changed = asyncio.Event()

    def wake(self, key: Key) -> None:
        """Give ``key`` a turn soon; one that is having its turn gets another right after it."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        if key in self._running:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting[key] = asyncio.get_running_loop().time()
            self._report()
            self._changed.set()

    def forget(self, key: Key) -> None:
        """The object is gone: no timer, no memory of failures."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        self._failures.pop(key, None)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._workers):
                group.create_task(self._serve())

    async def _serve(self) -> None:
        while True:
            while not self._waiting:
                self._changed.clear()
                await self._changed.wait()
            key = next(iter(self._waiting))
            woken_at = self._waiting.pop(key)
            self._report(asyncio.get_running_loop().time() - woken_at)
            self._running.add(key)
            try:
                delay = await self._turn(key)
            finally:
                self._running.discard(key)
            if key in self._again:
                self._again.discard(key)
                self.wake(key)
            elif delay is not None and key not in self._waiting:
                self._timers[key] = asyncio.get_running_loop().call_later(delay, self.wake, key)

    async def _turn(self, key: Key) -> float | None:
        delay: float | None
        try:
            delay = await self._work(key)
        except Exception:
            failures = self._failures[key] = self._failures.get(key, 0) + 1
            _LOGGER.exception("reconciling %s/%s failed", key.namespace, key.name)
            # Bounded before the power: after a thousand failures it would overflow and end the queue.
            return float(min(FIRST_BACKOFF * 2 ** min(failures - 1, 30), LONGEST_BACKOFF))
        self._failures.pop(key, None)
        return delay

    def _report(self, waited: float | None = None) -> None:
        if self._observer is None:
            return
        self._observer.queue_depth(len(self._waiting))
        if waited is not None:
            self._observer.queue_wait(waited)
