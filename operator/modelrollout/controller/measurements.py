"""What is measured while decisions go on: guards evaluated, gates run, routes probed, each in a task of its own.

A decision says what it wants to know; whoever asks for the same again keeps the running task. Nothing here
decides, and nothing here makes a decision wait: a result wakes the key.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from modelrollout.controller.cache import Key
from modelrollout.ports import PortError
from modelrollout.rollout.observed import Evaluation, Gate, Probe, Route

_LOGGER = logging.getLogger(__name__)


@dataclass
class _Running:
    identity: Hashable
    task: asyncio.Task[None]


@dataclass
class Record:
    """The newest results for one ModelDeployment; what was known when traffic was last given is ``rested``."""

    evaluation: Evaluation | None = None
    rested: Evaluation | None = None
    gates: dict[str, Gate] = field(default_factory=dict)
    probe: Probe | None = None
    silence: tuple[str, datetime] | None = None
    acceptance: tuple[str, datetime] | None = None
    running: dict[str, _Running] = field(default_factory=dict)

    def silent_since(self, route: Route, now: datetime) -> datetime | None:
        """Since when (as this process saw it) the gateways say nothing of ``route`` as it is; None when they did."""
        if not route.token or route.accepted or route.rejection:
            self.silence = None
        elif self.silence is None or self.silence[0] != route.token:
            self.silence = (route.token, now)
        return None if self.silence is None else self.silence[1]

    def accepted_since(self, route: Route, now: datetime) -> datetime | None:
        """Since when (as this process saw it) ``route`` is accepted as it is; a restart forgets it, and only delays."""
        if not route.accepted:
            self.acceptance = None
        elif self.acceptance is None or self.acceptance[0] != route.token:
            self.acceptance = (route.token, now)
        return None if self.acceptance is None else self.acceptance[1]


class Measurements:
    """Results and running tasks by ModelDeployment; ``wake`` is called with the key after each result."""

    def __init__(self, wake: Callable[[Key], None]) -> None:
        self._wake = wake
        self._records: dict[Key, Record] = {}

    def wake(self, key: Key) -> None:
        """Have another look at ``key``."""
        self._wake(key)

    def of(self, key: Key) -> Record:
        """The results for ``key``."""
        return self._records.setdefault(key, Record())

    def want(
        self, key: Key, what: str, identity: Hashable | None, measure: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        """Have ``measure`` running for ``identity``: start it, keep it, or stop what is not wanted (None)."""
        if identity is None and key not in self._records:
            return
        running = self.of(key).running
        now = running.get(what)
        if now is not None:
            if now.identity == identity:
                return
            now.task.cancel()
            del running[what]
        if identity is not None:
            running[what] = _Running(identity, asyncio.create_task(self._guarded(key, what, measure)))

    def drop_gates(self, key: Key) -> None:
        """Forget what the gates said: a later attempt of the same revision passes them again, with new pods."""
        if key in self._records:
            self._records[key].gates = {}

    def report(self, key: Key, result: Evaluation | Gate | Probe) -> None:
        """Keep a result and wake its key."""
        record = self.of(key)
        match result:
            case Evaluation():
                record.evaluation = result
            case Gate():
                record.gates = {result.revision: result}
            case Probe():
                record.probe = result
        self._wake(key)

    def forget(self, key: Key) -> None:
        """Stop everything for ``key`` and drop its results."""
        record = self._records.pop(key, None)
        if record is not None:
            for running in record.running.values():
                running.task.cancel()

    async def close(self) -> None:
        """Stop everything and wait until it has stopped."""
        tasks = [running.task for record in self._records.values() for running in record.running.values()]
        for key in list(self._records):
            self.forget(key)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _guarded(self, key: Key, what: str, measure: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await measure()
        except PortError as error:
            _LOGGER.warning("%s of %s/%s failed: %s", what, key.namespace, key.name, error)
        except Exception:
            _LOGGER.exception("%s of %s/%s failed", what, key.namespace, key.name)
        else:
            return
        # Wanted again at the next look: a measurement that died must not be taken for one that runs.
        record = self._records.get(key)
        if record is not None:
            record.running.pop(what, None)
        await asyncio.sleep(1.0)
        self._wake(key)
