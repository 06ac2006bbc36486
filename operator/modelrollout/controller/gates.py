"""The gates of a candidate, one after the other: warm, contract, golden set, load. Each is reported when it is decided.

A gate that fails but may pass later is tried again after a pause; one that failed for good ends the row. What goes back
to what served before must be warm only: the other gates just tell. Nothing is kept: a new operator passes them again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from modelrollout.api.base import clean
from modelrollout.api.modeldeployment import ModelDeployment
from modelrollout.api.status import SENTENCE_LIMIT
from modelrollout.controller.cache import Cache, Key
from modelrollout.controller.candidate import Candidate, pods_of
from modelrollout.controller.contract import check_contract
from modelrollout.controller.golden import GoldenGate
from modelrollout.controller.load import BURSTS, LoadGate, seconds_of
from modelrollout.controller.measurements import Measurements
from modelrollout.ports import Clock, Cluster, Metrics, ModelServer, Tensor
from modelrollout.rollout.gates import asked
from modelrollout.rollout.observed import Check, Gate, GateName, GateState
from modelrollout.settings import Settings

_LOGGER = logging.getLogger(__name__)

RETRY = 2.0
LONGEST_RETRY = 30.0
LONGEST_WHEN_RETURNING = 10.0
"""Seconds that a gate may take of a candidate that goes back: users have the bad revision meanwhile."""


@dataclass(frozen=True)
class Entry:
    """One gate to pass. ``seconds`` bound one try (None: it bounds itself)."""

    name: GateName
    check: Callable[[], Awaitable[Check]]
    seconds: float | None = None


class GateKeeper:
    """Puts candidates through their gates.

    Parameters
    ----------
    measurements, cache, clock, settings
        Where results are kept, what the watches saw, time, the platform team's settings.
    servers, cluster, metrics
        Triton at its pods, for golden sets in ConfigMaps, for the rate of stable.

    """

    def __init__(
        self,
        measurements: Measurements,
        cache: Cache,
        clock: Clock,
        settings: Settings,
        servers: ModelServer,
        cluster: Cluster,
        metrics: Mapping[str, Metrics],
    ) -> None:
        self._measurements = measurements
        self._cache = cache
        self._clock = clock
        self._servers = servers
        self._golden = GoldenGate(cache, servers, cluster)
        self._load = LoadGate(cache, clock, settings, servers, metrics)
        # Bursts of many candidates at once would measure each other.
        self._bursts = asyncio.Semaphore(BURSTS)

    async def pass_gates(self, key: Key, wish: ModelDeployment, candidate: Candidate) -> None:
        """Go through the gates until all are passed or one failed for good; every result is reported."""
        revision = candidate.model.revision
        checks: tuple[Check, ...] = ()
        for entry in self._entries(key, wish, candidate):
            check = await self._decided(key, revision, checks, entry, returning=candidate.returning)
            checks = (*checks, check)
            if check.state is GateState.FAILED:
                self._report(key, Gate(revision, GateState.FAILED, check.message, checks=checks))
                return
        message = "; ".join(check.message for check in checks)
        self._report(key, Gate(revision, GateState.PASSED, message, self._clock.now(), checks))

    def _entries(self, key: Key, wish: ModelDeployment, candidate: Candidate) -> tuple[Entry, ...]:
        """The gates that the spec asks for, in order."""
        gates = candidate.gates
        sent: list[tuple[Tensor, ...]] = []

        def entry(name: GateName) -> Entry:
            match name:
                case GateName.WARM:
                    return Entry(name, lambda: self._warm(key, candidate))
                case GateName.CONTRACT:
                    check = lambda: check_contract(key, candidate, self._cache, self._servers)  # noqa: E731
                    return Entry(name, check, gates.contract.timeout.total_seconds())
                case GateName.GOLDEN_SET:
                    seconds = None if gates.golden_set is None else gates.golden_set.timeout.total_seconds()
                    return Entry(name, lambda: self._golden.check(key, candidate, sent), seconds)
                case GateName.LOAD:
                    return Entry(name, lambda: self._under_load(key, wish, candidate, sent))

        return tuple(map(entry, asked(gates)))

    async def _decided(
        self, key: Key, revision: str, before: tuple[Check, ...], entry: Entry, *, returning: bool
    ) -> Check:
        """The result of one gate that no further try will change.

        The failure of a gate of a candidate that is ``returning`` is a warning: what changed since it served, and what
        cannot be checked now, must not keep a bad revision in its place. A model that is not warm would serve nobody.
        """
        told_only = returning and entry.name is not GateName.WARM
        if told_only and entry.seconds is not None:
            entry = replace(entry, seconds=min(entry.seconds, LONGEST_WHEN_RETURNING))
        running = (*before, Check(entry.name, GateState.RUNNING))
        pause = RETRY
        self._report(key, Gate(revision, GateState.RUNNING, checks=running))
        while True:
            check = replace(await self._tried(key, entry), at=self._clock.now())
            if told_only and check.state is GateState.FAILED:
                message = f"{check.message}; told only, since it served before"
                check = replace(check, state=GateState.WARNED, message=message, final=False)
            check = replace(check, message=clean(check.message, SENTENCE_LIMIT))
            if check.state is not GateState.FAILED or check.final:
                return check
            self._report(key, Gate(revision, GateState.FAILED, check.message, checks=(*before, check)))
            await self._clock.sleep(pause)
            pause = min(2 * pause, LONGEST_RETRY) if entry.name is not GateName.WARM else RETRY

    async def _tried(self, key: Key, entry: Entry) -> Check:
        try:
            async with asyncio.timeout(entry.seconds):
                return await entry.check()
        except TimeoutError:
            return Check(entry.name, GateState.FAILED, f"not done within its timeout of {entry.seconds:g} s")
        # A fault of our own is told like any other: nobody would find it in a log, and the attempt would hang for ever.
        except Exception as error:
            _LOGGER.exception("gate %s of %s/%s failed", entry.name, key.namespace, key.name)
            return Check(entry.name, GateState.FAILED, f"it could not be tried: {type(error).__name__}: {error}")

    async def _warm(self, key: Key, candidate: Candidate) -> Check:
        """Warm every ready pod of the candidate."""
        targets = pods_of(key, candidate.model, self._cache)
        reports = await asyncio.gather(*(self._servers.warm(target) for target in targets))
        failed = [report for report in reports if not report.passed]
        if reports and not failed:
            message = "; ".join(f"{report.pod}: {report.message}" for report in reports)
            return Check(GateName.WARM, GateState.PASSED, message)
        message = f"{failed[0].pod}: {failed[0].message}" if failed else "no ready pod to ask"
        return Check(GateName.WARM, GateState.FAILED, message)

    async def _under_load(
        self, key: Key, wish: ModelDeployment, candidate: Candidate, requests: Sequence[tuple[Tensor, ...]]
    ) -> Check:
        if candidate.returning:
            return Check(GateName.LOAD, GateState.SKIPPED, "it carried users before: there is no time to lose")
        load = candidate.gates.load
        seconds = None if load is None else seconds_of(load)
        async with self._bursts:
            # Its time counts from here: waiting for the bursts of others is no fault of this one.
            entry = Entry(GateName.LOAD, lambda: self._load.check(key, wish, candidate, requests), seconds)
            return await self._tried(key, entry)

    def _report(self, key: Key, gate: Gate) -> None:
        self._measurements.report(key, gate)
