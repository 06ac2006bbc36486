"""`modelrollout observe`: runs the observer of one namespace."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from modelrollout.cli.checking import check_name
from modelrollout.settings import LogFormat, LogLevel

if TYPE_CHECKING:
    from modelrollout.observer.process import Observer

_LOGGER = logging.getLogger(__name__)
_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@click.command()
@click.option("-n", "--namespace", help="Namespace to observe; default is the pod's own.")
@click.option("--kubeconfig", type=click.Path(path_type=Path), help="Kubeconfig, where this is no pod.")
@click.option("--context", help="Context of the kubeconfig.")
@click.option("--bind", default="0.0.0.0", show_default=True, help="Address to listen on.")  # noqa: S104 - copies come from outside
@click.option("--http-port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="Copies over REST.")
@click.option("--grpc-port", default=8001, show_default=True, type=click.IntRange(0, 65535), help="Copies over gRPC.")
@click.option("--labels-port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="True labels.")
@click.option("--metrics-port", default=9100, show_default=True, type=click.IntRange(0, 65535), help="Metrics, health.")
@click.option("--max-body", default=16, show_default=True, type=click.IntRange(1, 256), help="Largest body, MiB.")
@click.option("--max-json", default=4, show_default=True, type=click.IntRange(1, 64), help="Largest JSON part, MiB.")
@click.option("--max-message", default=2, show_default=True, type=click.IntRange(1, 64), help="Largest gRPC call, MiB.")
@click.option("--max-buffered", default=64, show_default=True, type=click.IntRange(1, 4096), help="All bodies, MiB.")
@click.option("--max-queued", default=8192, show_default=True, type=click.IntRange(1, 100_000), help="Waiting copies.")
@click.option("--log-level", default="info", type=click.Choice([level.value for level in LogLevel]), show_default=True)
@click.option("--log-format", default="json", type=click.Choice([kind.value for kind in LogFormat]), show_default=True)
def observe(
    namespace: str | None,
    kubeconfig: Path | None,
    context: str | None,
    bind: str,
    http_port: int,
    grpc_port: int,
    labels_port: int,
    metrics_port: int,
    max_body: int,
    max_json: int,
    max_message: int,
    max_buffered: int,
    max_queued: int,
    log_level: str,
    log_format: str,
) -> None:
    """Run the observer: count copies of requests, compare answers, join labels, until SIGTERM.

    It is never in the way of a request: the gateway sends it copies and does not wait. What it keeps are counts.
    """
    from modelrollout.adapters.apiserver import ApiServer
    from modelrollout.adapters.clock import SystemClock
    from modelrollout.adapters.login import Login
    from modelrollout.adapters.observed import ObservedNamespace
    from modelrollout.cli.logs import set_up_logging
    from modelrollout.observer.limits import MEBI, Limits
    from modelrollout.observer.process import Observer, Ports
    from modelrollout.settings import Settings

    set_up_logging(Settings(log_level=LogLevel(log_level), log_format=LogFormat(log_format)))
    limits = replace(
        Limits(),
        body=max_body * MEBI,
        json=max_json * MEBI,
        message=max_message * MEBI,
        buffered=max_buffered * MEBI,
        queued=max_queued,
    )
    observed = namespace or _own_namespace()
    check_name("--namespace", observed)

    async def main() -> int:
        server = ApiServer(Login(kubeconfig, context))
        source = ObservedNamespace(server, observed)
        clock, ports = SystemClock(), Ports(http_port, grpc_port, labels_port, metrics_port)
        try:
            return await _until_stopped(Observer(source, lambda: clock.now().timestamp(), bind, ports, limits))
        finally:
            await server.close()

    _LOGGER.info("observing namespace %s", observed)
    sys.exit(asyncio.run(main()))


async def _until_stopped(observer: Observer) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    running, stopping = asyncio.create_task(observer.run()), asyncio.create_task(stop.wait())
    await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    problem = running.exception() if running.done() else None
    if not running.done():
        running.cancel()
        await asyncio.wait([running], timeout=5.0)
    if problem is not None:
        _LOGGER.error("stopping: %s", "; ".join(_sentences(problem)))
    return 1 if problem is not None else 0


def _sentences(problem: BaseException) -> list[str]:
    """What went wrong; a group of errors says only how many it has."""
    if isinstance(problem, BaseExceptionGroup):
        return [sentence for each in problem.exceptions for sentence in _sentences(each)]
    return [f"{type(problem).__name__}: {problem}" if not isinstance(problem, OSError) else str(problem)]


def _own_namespace() -> str:
    try:
        return _NAMESPACE.read_text("utf-8").strip()
    except OSError:
        raise click.UsageError("this is no pod: give --namespace") from None
