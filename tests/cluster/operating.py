"""The operator as a process of its own, limited to one namespace: started, killed, started again."""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from deploy.demo.place import Place

from tests.cluster.waiting import wait_for
from tests.ports import free_ports


class OperatorProcess:
    """``modelrollout run`` against the local cluster from outside, with a lease of its own.

    ``prometheus`` replaces the address of Prometheus; ``gateways`` are known beside the cluster's; ``lasting`` is how
    many seconds its lease lasts.
    """

    def __init__(
        self,
        place: Place,
        namespace: str,
        folder: Path,
        *,
        prometheus: str | None = None,
        gateways: Sequence[Mapping[str, str]] = (),
        lasting: int = 60,
    ) -> None:
        self.folder = folder
        self.metrics_port, self.health_port = free_ports(2)
        self.log = folder / "operator.log"
        settings = {
            "namespaces": [namespace],
            "pools": {"cpu": {"image": place.image_triton}},
            "operatorImage": place.image_operator,
            "prometheus": {"default": {"url": prometheus or place.prometheus_here}},
            "gateways": [
                {"namespace": place.gateway_namespace, "name": place.gateway_name, "address": place.gateway_here},
                *(dict(gateway) for gateway in gateways),
            ],
            # Nobody starts it again once it gave up its work because an API server on a busy machine was silent: with
            # load 60 it was so for 9 s. Shorter where a killed process's lease has to run out.
            "lease": {
                "name": "modelrollout-test",
                "namespace": namespace,
                "duration": f"{lasting}s",
                "renewDeadline": f"{lasting - 4}s",
                "retryPeriod": "1s",
            },
            "metricsPort": self.metrics_port,
            "healthPort": self.health_port,
            "drain": "5s",
            "exitTimeout": "5s",
            "logFormat": "text",
        }
        self._settings = folder / "settings.yaml"
        self._settings.write_text(yaml.safe_dump(settings))
        self._kubeconfig = place.kubeconfig
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it and wait until its watches run."""
        command = [sys.executable, "-m", "modelrollout", "run", "--bind", "127.0.0.1"]
        command += ["--settings", str(self._settings), "--kubeconfig", str(self._kubeconfig)]
        with self.log.open("ab") as log:
            # Waited for by hand: it is killed, ended and looked at in ways that asyncio's own does not offer.
            self._process = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: ASYNC220
        await wait_for(self._ready, "the operator is ready", within=120)

    def kill(self) -> None:
        """SIGKILL: no lease is given back, nothing is finished."""
        process = self._running()
        process.send_signal(signal.SIGKILL)
        process.wait(10)

    def stop(self) -> int:
        """SIGTERM, as a kubelet does; returns the exit code."""
        process = self._running()
        if process.poll() is None:
            process.terminate()
        try:
            return process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
            raise

    def metrics(self) -> str:
        """The operator's own metrics page."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=5) as page:
            return page.read().decode()

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the operator was not started"
        return self._process

    def _ready(self) -> bool:
        code = self._running().poll()
        assert code is None, f"the operator ended with {code}:\n{self.log.read_text()[-3000:]}"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.health_port}/readyz", timeout=2) as page:
                return page.status == 200
        except (urllib.error.URLError, OSError):
            return False
