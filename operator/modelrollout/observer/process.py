"""The observer, put together: servers, the counting behind them, the cluster they follow, metrics and health."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

from modelrollout.exposition import Page, Pages
from modelrollout.observer.decoding import Inference
from modelrollout.observer.exposition import Exposition
from modelrollout.observer.following import Follower, Profiles, Source
from modelrollout.observer.http import LabelDesk, Mirror, Server
from modelrollout.observer.intake import Budget, Copy, Intake, Protocol
from modelrollout.observer.limits import MEBI, Limits
from modelrollout.observer.registry import Registry
from modelrollout.observer.rpc import Askers, RpcServer
from modelrollout.observer.target import Target

_LOGGER = logging.getLogger(__name__)

BATCH, BATCH_BYTES = 256, MEBI
GATHER = 0.02
"""Seconds in which copies gather: many are counted for the price of few."""
BEAT, STUCK = 1.0, 30.0


def service_address(namespace: str, revision: str) -> str:
    """Where a revision is asked."""
    return f"{revision}.{namespace}.svc:8001"


@dataclass(frozen=True)
class Ports:
    """Where the observer listens; 0 takes any free port."""

    http: int = 8000
    grpc: int = 8001
    labels: int = 8080
    metrics: int = 9100


@dataclass
class Observer:
    """Runs until its task is cancelled.

    ``source`` None follows no cluster: the registry is then filled by whoever made it (tests, benchmarks). ``wall`` is
    the time in unix seconds.
    """

    source: Source | None
    wall: Callable[[], float]
    bind: str = "0.0.0.0"  # noqa: S104 - the gateway and Prometheus come from outside
    ports: Ports = Ports()
    limits: Limits = field(default_factory=Limits)
    address: Callable[[str, str], str] = service_address
    listening: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.registry = Registry(time.monotonic, self.wall)
        self.intake = Intake(Budget(self.limits.buffered), self.limits.queued)
        self.askers = Askers(self.address, self.limits)
        self.lag = 0.0
        self._beaten = time.monotonic()
        self._asking: set[asyncio.Task[None]] = set()
        self._exposition = Exposition(self.registry, secrets.token_hex(4), lambda: (len(self.intake), self.lag))
        self._own = CollectorRegistry()
        ProcessCollector(registry=self._own)
        mirror = Mirror(self.intake, self.registry, self.limits, time.monotonic)
        self.http = Server(mirror.handle, self.bind, self.ports.http, self.limits, self._lost)
        self.labels = Server(LabelDesk(self.registry, self.limits).handle, self.bind, self.ports.labels, self.limits)
        self.grpc = RpcServer(self.intake, self.registry, self.bind, self.ports.grpc, self.limits, time.monotonic)
        self.metrics_port = 0

    async def run(self) -> None:
        """Listen, count and follow. Raises OSError where a port cannot be had."""
        pages = Pages(
            self.bind,
            self.ports.metrics,
            {"/metrics": self._metrics, "/healthz": self._healthz, "/readyz": self._readyz},
        )
        self.metrics_port = pages.port
        servers = (self.http, self.labels, self.grpc)
        try:
            for server in servers:
                await server.start()
            self.listening.set()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._beat())
                group.create_task(self._work())
                if self.source is not None:
                    follower = Follower(self.source, self.registry, asyncio.sleep)
                    group.create_task(follower.run())
                    group.create_task(Profiles(self.source, self.registry, self.askers).run(follower.changed))
        finally:
            self.listening.clear()
            await asyncio.gather(*(server.close() for server in servers), return_exceptions=True)
            await self.askers.close()
            pages.close()

    async def _work(self) -> None:
        while True:
            await self.intake.wait()
            batch = self.intake.take(BATCH, BATCH_BYTES)
            self.lag = time.monotonic() - batch[0].at
            for target, inference in self._digest(batch):
                # Taken before the task begins: a whole batch is looked at before any of them does.
                amount = self.askers.reserve(target.wish.namespace, target.wish.arms, inference.size)
                if amount is not None:
                    task = asyncio.create_task(self._ask(target, inference))
                    self._asking.add(task)
                    task.add_done_callback(partial(self._asked, amount))
            await asyncio.sleep(0 if len(self.intake) >= BATCH else GATHER)

    def _digest(self, batch: list[Copy]) -> list[tuple[Target, Inference]]:
        try:
            return self.registry.digest(batch)
        except Exception as error:  # noqa: BLE001 - a mistake of ours costs this batch, not the process
            _failed("counting", error)
            return []

    async def _ask(self, target: Target, inference: Inference) -> None:
        wish = target.wish
        try:
            answers = await self.askers.ask(wish.namespace, wish.arms, inference)
            target.answered(inference.id, answers, wish.arms.names, time.monotonic())
        except Exception as error:  # noqa: BLE001 - as above
            _failed("comparing", error)

    def _asked(self, amount: int, task: asyncio.Task[None]) -> None:
        self._asking.discard(task)
        self.askers.release(amount)

    def _lost(self, outcome: str) -> None:
        self.registry.outcome(Protocol.HTTP, outcome)

    async def _beat(self) -> None:
        while True:
            self._beaten = time.monotonic()
            now = self._beaten
            for target in self.registry.targets.values():
                if target.joiner is not None:
                    target.joiner.expire(now)
            await asyncio.sleep(BEAT)

    def _metrics(self, accept: str) -> Page:
        text = self._exposition.text().encode() + generate_latest(self._own)
        return Page(200, text, "text/plain; version=0.0.4; charset=utf-8")

    def _healthz(self, accept: str) -> Page:
        late = time.monotonic() - self._beaten
        return Page(200, b"ok\n") if late < STUCK else Page(503, f"stuck for {late:.0f} s\n".encode())

    def _readyz(self, accept: str) -> Page:
        return Page(200, b"ok\n") if self.listening.is_set() else Page(503, b"not listening\n")


def _failed(what: str, error: Exception) -> None:
    """Log where a mistake of ours is; its words and values stay out, they may be a user's."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else "unknown"
    _LOGGER.error("%s failed: %s at %s", what, type(error).__name__, place)
