"""One operator process writes at a time: it holds a Lease, and every write asks the clock if it still does.

A leader counts from *before* it sent its last successful renewal, a contender from *after* it saw that: with
any clock skew, pause or slow answer the leader has stopped before another may start. Only monotonic time decides.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from enum import Enum

from modelrollout.ports import Clock, ConflictError, LeaseRecord, Leases, PortError

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class LeaseTiming:
    """Seconds. ``duration``: others wait so long. ``renew_deadline``: we stop so long after the last renewal.

    ``retry_period``: between two renewals or two looks. ``release_timeout``: for giving the lease back.
    """

    duration: float = 15.0
    renew_deadline: float = 10.0
    retry_period: float = 2.0
    release_timeout: float = 3.0

    def __post_init__(self) -> None:
        if not 0 < 2 * self.retry_period < self.renew_deadline < self.duration:
            raise ValueError("lease timing must satisfy 0 < 2 x retry period < renew deadline < duration")


class Move(Enum):
    """What a process that does not lead does about the lease that it sees."""

    CREATE = "create"
    TAKE = "take"
    WAIT = "wait"


@dataclass(frozen=True)
class Sighting:
    """A lease, and the monotonic time at which this version of it was first seen."""

    record: LeaseRecord | None
    since: float


def sight(before: Sighting | None, record: LeaseRecord | None, now: float) -> Sighting:
    """Remember since when the lease has not changed; ``now`` is taken after the answer came."""
    known = before.record if before is not None else None
    if before is not None and known is not None and record is not None and known.version == record.version:
        return before
    return Sighting(record, now)


def next_move(sighting: Sighting, identity: str, now: float, fallback: float) -> Move:
    """Decide for a process that does not lead; ``fallback`` seconds stand in for a missing duration."""
    record = sighting.record
    if record is None:
        return Move.CREATE
    if not record.holder or record.holder == identity:
        return Move.TAKE
    return Move.TAKE if now - sighting.since >= (record.duration or fallback) else Move.WAIT


class Leadership:
    """Holds the lease for this process.

    Parameters
    ----------
    leases
        The Lease, with time-outs of its own.
    clock
        Wall time for what people read in the Lease, and waiting.
    monotonic
        Seconds that run on while the process is paused (``SystemClock.monotonic``).
    identity
        Unique to this *process*: a restarted one must not believe that it still leads.
    timing
        See ``LeaseTiming``.
    on_lost
        Called once when the lease was held and is lost. Nothing may be written any more: end the process.

    """

    def __init__(
        self,
        leases: Leases,
        clock: Clock,
        monotonic: Callable[[], float],
        identity: str,
        timing: LeaseTiming | None = None,
        on_lost: Callable[[], None] | None = None,
    ) -> None:
        self._leases = leases
        self._clock = clock
        self._monotonic = monotonic
        self._identity = identity
        self._timing = timing or LeaseTiming()
        self._on_lost = on_lost or (lambda: None)
        self._sighting: Sighting | None = None
        self._held: LeaseRecord | None = None
        self._renewed_at = 0.0
        self._leading = asyncio.Event()
        self._writing = asyncio.Lock()
        self._released = False

    def is_leader(self) -> bool:
        """Tell whether this process may act, by the clock at this very moment."""
        if self._held is None or self._released:
            return False
        return self._monotonic() - self._renewed_at < self._timing.renew_deadline

    def write_window(self) -> float:
        """Seconds until another process could lead; 0 when this one may not start a write any more."""
        if not self.is_leader():
            return 0.0
        return self._renewed_at + self._timing.duration - self._monotonic()

    async def wait_until_leader(self) -> None:
        """Return once the lease is held."""
        await self._leading.wait()

    async def run(self) -> None:
        """Get the lease, keep it, and return when it is lost or released. Start it once."""
        while not self.is_leader():
            if self._released:
                return
            await self._try("take the lease", self._contend, self._timing.renew_deadline)
            if not self.is_leader():
                await self._clock.sleep(self._timing.retry_period)
        self._leading.set()
        _LOGGER.info("leading as %s", self._identity)
        try:
            await self._keep()
        finally:
            self._leading.clear()
        if not self._released:
            self._held = None
            _LOGGER.error("the lease is lost: nothing may be written any more")
            self._on_lost()

    async def release(self) -> None:
        """Stop acting, and give the lease back so that the next process need not wait. Raises no PortError.

        Call it when the last write is done. Bounded in time: if it fails, the next process waits it out.
        """
        self._released = True
        try:
            async with asyncio.timeout(self._timing.release_timeout), self._writing:
                await self._give_back()
        except (PortError, TimeoutError) as error:
            _LOGGER.warning("the lease could not be given back, it will run out: %s", error)

    async def _give_back(self) -> None:
        held, self._held = self._held, None
        if held is None:
            return
        free = replace(held, holder="", duration=1.0, renewed_at=self._clock.now())
        try:
            await self._leases.update(free)
        except ConflictError:
            # Our last renewal may have been stored although its answer was lost.
            record = await self._leases.read()
            if record is None or record.holder != self._identity:
                return
            await self._leases.update(replace(free, version=record.version))
        _LOGGER.info("the lease is given back")

    async def _contend(self) -> None:
        record = await self._leases.read()
        self._sighting = sight(self._sighting, record, self._monotonic())
        move = next_move(self._sighting, self._identity, self._monotonic(), self._timing.duration)
        if move is Move.WAIT:
            return
        now, started = self._clock.now(), self._monotonic()
        mine = LeaseRecord(self._identity, self._timing.duration, acquired_at=now, renewed_at=now)
        if record is None:
            stored = await self._leases.create(mine)
        else:
            mine = replace(mine, version=record.version, transitions=record.transitions + 1)
            stored = await self._leases.update(mine)
        self._hold(stored, started)

    async def _keep(self) -> None:
        """Renew every period until the lease is lost or released."""
        while True:
            await self._clock.sleep(self._timing.retry_period)
            if not self.is_leader():
                return
            left = self._renewed_at + self._timing.renew_deadline - self._monotonic()
            # Half the deadline at most, so that one hung connection leaves time for a second try.
            await self._try("renew the lease", self._renew, min(left, self._timing.renew_deadline / 2))

    async def _renew(self) -> None:
        if self._held is None:
            return
        started = self._monotonic()
        try:
            stored = await self._leases.update(replace(self._held, renewed_at=self._clock.now()))
        except ConflictError:
            # Someone wrote the Lease: perhaps we, in a renewal whose answer was lost. A look can tell.
            record = await self._leases.read()
            if record is None or record.holder != self._identity:
                self._held = None
                return
            started = self._monotonic()
            stored = await self._leases.update(replace(record, renewed_at=self._clock.now()))
        self._hold(stored, started)

    def _hold(self, stored: LeaseRecord, started: float) -> None:
        self._held = stored
        self._renewed_at = started

    async def _try(self, what: str, action: Callable[[], Awaitable[None]], seconds: float) -> None:
        """Do it within so many seconds, unless the lease was released; a failure is logged."""
        try:
            async with asyncio.timeout(seconds), self._writing:
                if not self._released:
                    await action()
        except ConflictError:
            _LOGGER.debug("another process wrote the lease first")
        except (PortError, TimeoutError) as error:
            _LOGGER.warning("cannot %s: %s", what, str(error) or "no answer in time")
