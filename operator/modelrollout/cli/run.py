"""``modelrollout run``: puts the parts together and keeps them running until a signal or a lost lease."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

import click

from modelrollout.adapters.apiserver import ApiServer
from modelrollout.adapters.clock import SystemClock
from modelrollout.adapters.gateway import DataPlaneGateway
from modelrollout.adapters.kubernetes import KubernetesCluster
from modelrollout.adapters.lease import KubernetesLeases
from modelrollout.adapters.login import Login
from modelrollout.adapters.prometheus import PrometheusMetrics
from modelrollout.adapters.triton import TritonModelServer
from modelrollout.cli.logs import set_up_logging
from modelrollout.controller.cache import Cache
from modelrollout.controller.leadership import Leadership, LeaseTiming
from modelrollout.controller.measure import Measurer
from modelrollout.controller.measurements import Measurements
from modelrollout.controller.queue import Queue
from modelrollout.controller.reconcile import Reconciler
from modelrollout.handlers.serving import watch
from modelrollout.ports import Metrics
from modelrollout.render.trim import trim
from modelrollout.settings import LogFormat, LogLevel, Settings, SettingsError, load
from modelrollout.telemetry import Telemetry

_LOGGER = logging.getLogger(__name__)
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
    stop = asyncio.Event()
    failed: list[str] = []

    def give_up(reason: str) -> None:
        failed.append(reason)
        stop.set()

    loop = asyncio.get_running_loop()

    def heed_signals() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)

    def watching() -> None:
        # kopf has put its own in their place: we would hear of a stop only when its watches have ended, seconds later,
        # lead blindly until then, and keep the next one from leading.
        heed_signals()
        telemetry.ready()

    heed_signals()
    clock = SystemClock()
    telemetry = Telemetry()
    lease_server = ApiServer(login, timeout=5.0)
    leadership = Leadership(
        KubernetesLeases(lease_server, _own_namespace(settings), settings.lease.name),
        clock,
        clock.monotonic,
        settings.identity or f"{socket.gethostname()}-{secrets.token_hex(4)}",
        LeaseTiming(
            settings.lease.duration.total_seconds(),
            settings.lease.renew_deadline.total_seconds(),
            settings.lease.retry_period.total_seconds(),
        ),
        on_lost=lambda: give_up("the lease is lost"),
    )
    server = ApiServer(login, timeout=10.0, observe=telemetry.api_request)
    cluster = KubernetesCluster(server, clock, write_window=leadership.write_window)
    cache = Cache(trim)
    queue = Queue(lambda key: reconciler.reconcile(key), settings.max_concurrent_reconciles, telemetry)
    measurements = Measurements(queue.wake)
    providers = {name: PrometheusMetrics(entry) for name, entry in settings.prometheus.items()}
    metrics: dict[str, Metrics] = dict(providers)
    gateway = DataPlaneGateway()
    measurer = Measurer(
        measurements, cache, clock, settings, metrics, TritonModelServer(), gateway, telemetry.provider_failed
    )
    reconciler = Reconciler(
        cluster, clock, cache, settings, measurements, measurer, telemetry, may_act=leadership.is_leader
    )
    try:
        telemetry.serve(bind, settings.metrics_port, settings.health_port)
    except OSError as error:
        ports = f"{bind}:{settings.metrics_port} (metricsPort) and :{settings.health_port} (healthPort)"
        raise click.ClickException(f"cannot listen on {ports}: {error.strerror}") from error
    leading = asyncio.create_task(leadership.run(), name="leadership")
    working = asyncio.create_task(_work_when_leading(leadership, cache, queue, telemetry), name="queue")
    beating = asyncio.create_task(telemetry.beat(clock), name="heartbeat")
    watches = asyncio.create_task(watch(settings, cache, queue.wake, login, stop, watching), name="watches")
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([stopping, working, watches], return_when=asyncio.FIRST_COMPLETED)
    # kopf catches the signals too and returns without an error: that is a stop, not a failure.
    for task in (working, watches):
        problem = task.exception() if task.done() and not task.cancelled() else None
        if problem is not None:
            failed.append(f"{task.get_name()} ended: {problem}")
    stop.set()
    await measurements.close()
    for task in (working, beating, leading):
        task.cancel()
    await asyncio.gather(working, beating, leading, return_exceptions=True)
    await leadership.release()
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.gather(watches, return_exceptions=True), 10)
    await gateway.close()
    for provider in providers.values():
        await provider.close()
    await server.close()
    await lease_server.close()
    telemetry.close()
    for reason in failed:
        _LOGGER.error("stopping: %s", reason)
    return 1 if failed else 0


async def _work_when_leading(leadership: Leadership, cache: Cache, queue: Queue, telemetry: Telemetry) -> None:
    """Take turns only while leading; what was woken before is looked at when leading begins."""
    await leadership.wait_until_leader()
    telemetry.leading(True)
    for key in cache.known():
        queue.wake(key)
    await queue.run()


def _own_namespace(settings: Settings) -> str:
    if settings.lease.namespace:
        return settings.lease.namespace
    if named := os.environ.get("POD_NAMESPACE"):
        return named
    if NAMESPACE_FILE.is_file():
        return NAMESPACE_FILE.read_text("utf-8").strip()
    return "default"
