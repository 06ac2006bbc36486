"""``modelrollout run``: puts the parts together and keeps them running until a signal or a lost lease."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import click

from modelrollout.adapters.apiserver import ApiServer
from modelrollout.adapters.clock import SystemClock
from modelrollout.adapters.gateway import DataPlaneGateway
from modelrollout.adapters.kubernetes import KubernetesCluster
from modelrollout.adapters.lease import KubernetesLeases
from modelrollout.adapters.login import Login
from modelrollout.adapters.prometheus import PrometheusMetrics
from modelrollout.adapters.rights import may_watch
from modelrollout.adapters.triton import TritonModelServer
from modelrollout.adapters.webhooks import HttpWebhooks
from modelrollout.api.rolloutspec import PolicyKind
from modelrollout.cli.logs import set_up_logging
from modelrollout.controller.cache import Cache, Key
from modelrollout.controller.gates import GateKeeper
from modelrollout.controller.leadership import Leadership, LeaseTiming
from modelrollout.controller.measure import Measurer
from modelrollout.controller.measurements import Measurements
from modelrollout.controller.queue import Queue
from modelrollout.controller.reconcile import Reconciler
from modelrollout.handlers.serving import watch
from modelrollout.handlers.watching import KINDS
from modelrollout.ports import Metrics, TransientError
from modelrollout.render.trim import trim
from modelrollout.settings import LogFormat, LogLevel, Settings, SettingsError, load
from modelrollout.telemetry import Telemetry

_LOGGER = logging.getLogger(__name__)
START_PAUSE = 2.0
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@click.command()
@click.option(
    "--settings",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="MODELROLLOUT_SETTINGS",
    help="Settings file (YAML); an unknown key is an error. Default: built-in defaults.",
)
@click.option(
    "--kubeconfig",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Kubeconfig to use. Default: $KUBECONFIG, else the pod's service account, else ~/.kube/config.",
)
@click.option("--context", help="Context of the kubeconfig. Default: its current one.")
@click.option("--namespace", "namespaces", multiple=True, help="Look after this namespace only; may be repeated.")
@click.option(
    "--bind",
    default="0.0.0.0",  # noqa: S104 - kubelet and Prometheus come from outside
    show_default=True,
    help="Address of the metrics and health ports.",
)
@click.option("--log-level", type=click.Choice([level.value for level in LogLevel]), help="Overrides the settings.")
@click.option("--log-format", type=click.Choice([kind.value for kind in LogFormat]), help="Overrides the settings.")
def run(
    path: Path | None,
    kubeconfig: Path | None,
    context: str | None,
    namespaces: tuple[str, ...],
    bind: str,
    log_level: str | None,
    log_format: str | None,
) -> None:
    """Run the operator, in a cluster or against a kubeconfig, until SIGTERM."""
    try:
        settings = load(path)
    except SettingsError as error:
        raise click.ClickException(str(error)) from error
    changes: dict[str, object] = {}
    if namespaces:
        changes["namespaces"] = namespaces
    if log_level:
        changes["log_level"] = LogLevel(log_level)
    if log_format:
        changes["log_format"] = LogFormat(log_format)
    settings = settings.model_copy(update=changes)
    set_up_logging(settings)
    sys.exit(asyncio.run(operate(settings, Login(kubeconfig, context), bind)))


async def operate(settings: Settings, login: Login, bind: str) -> int:
    """Run until asked to stop (0), or until nothing may be written any more (1): a supervisor starts us anew."""
    stop = Stop()
    stop.heed_signals()
    parts = Parts(settings, login, on_lost_lease=lambda: stop.give_up("the lease is lost"))
    _listen(parts.telemetry, settings, bind)
    tasks = _start(parts, settings, login, stop)
    stopping = asyncio.create_task(stop.asked.wait())
    await asyncio.wait([stopping, tasks.working, tasks.watches], return_when=asyncio.FIRST_COMPLETED)
    # kopf catches the signals too and returns without an error: that is a stop, not a failure.
    for task in (tasks.working, tasks.watches):
        problem = task.exception() if task.done() and not task.cancelled() else None
        if problem is not None:
            stop.give_up(f"{task.get_name()} ended: {problem}")
    stop.asked.set()
    await _finish(parts, tasks)
    for reason in stop.failed:
        _LOGGER.error("stopping: %s", reason)
    return 1 if stop.failed else 0


class Stop:
    """Whether this process was asked to stop, and what failed."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.failed: list[str] = []

    def give_up(self, reason: str) -> None:
        """Stop because of ``reason``."""
        self.failed.append(reason)
        self.asked.set()

    def heed_signals(self) -> None:
        """Stop at SIGTERM and SIGINT, whoever has put handlers of their own in place of ours."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.asked.set)


class Parts:
    """The operator, put together; nothing runs yet."""

    def __init__(self, settings: Settings, login: Login, on_lost_lease: Callable[[], None]) -> None:
        clock = self.clock = SystemClock()
        self.telemetry = Telemetry()
        self.lease_server = ApiServer(login, timeout=5.0)
        self.leadership = Leadership(
            KubernetesLeases(self.lease_server, _own_namespace(settings), settings.lease.name),
            clock,
            clock.monotonic,
            settings.identity or f"{socket.gethostname()}-{secrets.token_hex(4)}",
            LeaseTiming(
                settings.lease.duration.total_seconds(),
                settings.lease.renew_deadline.total_seconds(),
                settings.lease.retry_period.total_seconds(),
            ),
            on_lost=on_lost_lease,
        )
        self.server = ApiServer(login, timeout=10.0, observe=self.telemetry.api_request)
        self.cache = Cache(trim)
        self.queue = Queue(
            lambda key: self.reconciler.reconcile(key), settings.max_concurrent_reconciles, self.telemetry
        )
        self.measurements = Measurements(self.queue.wake)
        self.providers = {name: PrometheusMetrics(entry) for name, entry in settings.prometheus.items()}
        self.gateway = DataPlaneGateway()
        self.webhooks = HttpWebhooks(settings.webhooks)
        self.reconciler = self._reconciler(settings)
        self.listed = asyncio.Event()

    def _reconciler(self, settings: Settings) -> Reconciler:
        metrics: dict[str, Metrics] = dict(self.providers)
        cluster = KubernetesCluster(self.server, self.clock, write_window=self.leadership.write_window)
        servers = TritonModelServer()
        return Reconciler(
            cluster,
            self.clock,
            self.cache,
            settings,
            self.measurements,
            Measurer(
                self.measurements,
                self.cache,
                self.clock,
                settings,
                metrics,
                GateKeeper(self.measurements, self.cache, self.clock, settings, servers, cluster, metrics),
                self.gateway,
                self.telemetry.provider_failed,
            ),
            self.telemetry,
            may_act=self.leadership.is_leader,
            webhooks=self.webhooks,
        )

    def seen(self, key: Key) -> None:
        """A watch event: kopf gives none before every kind was listed once."""
        self.listed.set()
        self.queue.wake(key)

    async def work(self) -> None:
        """Take turns while leading, and not before everything was listed: half of the objects would be misread.

        What was woken before is looked at when leading begins.
        """
        await self.leadership.wait_until_leader()
        self.telemetry.leading(True)
        await self.listed.wait()
        for key in self.cache.known():
            self.queue.wake(key)
        await self.queue.run()

    async def denied(self, settings: Settings) -> frozenset[str]:
        """The kinds of policy that this operator may not read; raises TransientError."""
        found: set[str] = set()
        for watched in KINDS:
            everywhere = watched.cluster or not settings.namespaces
            places: tuple[str | None, ...] = (None,) if everywhere else settings.namespaces
            if not watched.policy or await may_watch(self.server, watched.group, watched.plural, places):
                continue
            _LOGGER.warning("not allowed to list and watch %s: going on without them", watched.plural)
            self.reconciler.policies.deny(PolicyKind(watched.kind))
            found.add(watched.kind)
        return frozenset(found)

    async def close(self) -> None:
        """Close all connections."""
        await self.reconciler.close()
        await self.webhooks.close()
        await self.gateway.close()
        for provider in self.providers.values():
            await provider.close()
        await self.server.close()
        await self.lease_server.close()
        self.telemetry.close()


@dataclass(frozen=True)
class Tasks:
    """What runs at the same time."""

    leading: asyncio.Task[None]
    working: asyncio.Task[None]
    beating: asyncio.Task[None]
    watches: asyncio.Task[None]


def _listen(telemetry: Telemetry, settings: Settings, bind: str) -> None:
    try:
        telemetry.serve(bind, settings.metrics_port, settings.health_port)
    except OSError as error:
        ports = f"{bind}:{settings.metrics_port} (metricsPort) and :{settings.health_port} (healthPort)"
        raise click.ClickException(f"cannot listen on {ports}: {error.strerror}") from error


def _start(parts: Parts, settings: Settings, login: Login, stop: Stop) -> Tasks:
    def watching() -> None:
        # kopf has put its own in their place: we would hear of a stop only when its watches have ended, seconds later,
        # lead blindly until then, and keep the next one from leading.
        stop.heed_signals()
        parts.telemetry.ready()

    return Tasks(
        leading=asyncio.create_task(parts.leadership.run(), name="leadership"),
        working=asyncio.create_task(parts.work(), name="queue"),
        beating=asyncio.create_task(parts.telemetry.beat(parts.clock), name="heartbeat"),
        watches=asyncio.create_task(_watch(parts, settings, login, stop, watching), name="watches"),
    )


async def _watch(parts: Parts, settings: Settings, login: Login, stop: Stop, ready: Callable[[], None]) -> None:
    """Watch what may be watched: an operator without the right to read policies goes on without them."""
    while not stop.asked.is_set():
        try:
            without = await parts.denied(settings)
        except TransientError as error:
            _LOGGER.warning("%s; trying again", error)
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.asked.wait(), START_PAUSE)
        else:
            await watch(settings, parts.cache, parts.seen, login, stop.asked, ready, without)
            return


async def _finish(parts: Parts, tasks: Tasks) -> None:
    """Writes end first, then the lease is given back, then the watches may take their time."""
    await parts.measurements.close()
    ending = (tasks.working, tasks.beating, tasks.leading)
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)
    await parts.leadership.release()
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.gather(tasks.watches, return_exceptions=True), 10)
    await parts.close()


def _own_namespace(settings: Settings) -> str:
    if settings.lease.namespace:
        return settings.lease.namespace
    if named := os.environ.get("POD_NAMESPACE"):
        return named
    if NAMESPACE_FILE.is_file():
        return NAMESPACE_FILE.read_text("utf-8").strip()
    return "default"
