"""The operator under test: a process of its own with an identity of its own, limited to one namespace."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Mapping = dict[str, Any]
TICKS = os.sysconf("SC_CLK_TCK")
MIB = 1024 * 1024


@dataclass(frozen=True)
class Memory:
    """Of a process, in MiB: all that is resident, and its fair share of it."""

    resident: float
    proportional: float


class Operator:
    """``modelrollout run``; use as ``with Operator(...)``: it is ready inside the block and has ended behind it.

    ``settings`` go over the defaults of the benchmarks. It acts as the user of ``kubeconfig`` (see ``identity``),
    whose name tells its requests in the audit log from everybody else's.
    """

    def __init__(self, folder: Path, namespace: str, kubeconfig: Path, settings: Mapping) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._health = free_port()
        content = {
            "namespaces": [namespace],
            "lease": {"name": "modelrollout-bench", "namespace": namespace},
            "metricsPort": free_port(),
            "healthPort": self._health,
            "drain": "2s",
            "exitTimeout": "5s",
            "logFormat": "text",
            **settings,
        }
        (folder / "settings.yaml").write_text(yaml.safe_dump(content))
        self._kubeconfig = kubeconfig
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """What it writes."""
        return self._folder / "operator.log"

    @property
    def pid(self) -> int:
        """The process; AssertionError while there is none or when it has ended by itself."""
        assert self._process is not None, "the operator was not started"
        code = self._process.poll()
        assert code is None, f"the operator ended with {code}: {self.log}"
        return self._process.pid

    def __enter__(self) -> Operator:
        command = [sys.executable, "-m", "modelrollout", "run", "--bind", "127.0.0.1"]
        command += ["--settings", str(self._folder / "settings.yaml"), "--kubeconfig", str(self._kubeconfig)]
        with self.log.open("wb") as log:
            # setpriv: a bench that is killed takes its operator along.
            self._process = subprocess.Popen(["setpriv", "--pdeathsig", "TERM", *command], stdout=log, stderr=log)
        try:
            self._wait_until_ready(60)
        except BaseException:
            self.__exit__(AssertionError)
            raise
        return self

    def __exit__(self, kind: object = None, *_: object) -> None:
        if self._process is None:
            return
        if kind is not None:
            print(f"the operator's last words:\n{self.log.read_text(errors='replace')[-4000:]}", flush=True)
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)

    def cpu_seconds(self) -> float:
        """CPU time since its start, in user and system mode."""
        return cpu_seconds(self.pid)

    def memory(self) -> Memory:
        """What it takes now."""
        return memory(self.pid)

    def _wait_until_ready(self, within: float) -> None:
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            assert self.pid
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self._health}/readyz", timeout=2) as page:
                    if page.status == 200:
                        return
            except (urllib.error.URLError, OSError):
                pass
            time.sleep(0.1)
        raise AssertionError(f"the operator was not ready within {within:.0f} s: {self.log}")


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory(pid: int) -> Memory:
    """Memory of a process now."""
    found = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        key, _, rest = line.partition(":")
        found[key] = int(rest.split()[0]) * 1024 / MIB
    return Memory(found["Rss"], found["Pss"])


def kubeconfig_with_token(admin: Path, token: str, into: Path) -> Path:
    """A copy of the kubeconfig that logs in with ``token`` instead."""
    content = yaml.safe_load(admin.read_text())
    cluster = next(
        context["context"]["cluster"]
        for context in content["contexts"]
        if context["name"] == content["current-context"]
    )
    content["users"] = [{"name": "bench", "user": {"token": token}}]
    content["contexts"] = [{"name": "bench", "context": {"cluster": cluster, "user": "bench"}}]
    content["current-context"] = "bench"
    into.parent.mkdir(parents=True, exist_ok=True)
    into.write_text(yaml.safe_dump(content))
    into.chmod(0o600)
    return into


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
