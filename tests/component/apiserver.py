"""A real etcd and kube-apiserver for the component tier: no kubelet, no controllers, ports and keys of their own."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import requests

from tests.ports import free_ports

REPOSITORY = Path(__file__).resolve().parents[2]
TOKEN = "component-tests"
STRANGER = "somebody-without-rights"
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What the API server said."""

    code: int
    body: Manifest

    @property
    def message(self) -> str:
        """The API server's sentence when it refused."""
        return str(self.body.get("message", ""))


class ApiServer:
    """The running API server, asked as cluster-admin."""

    def __init__(self, url: str, folder: Path, programs: Path) -> None:
        self.url = url
        self.kubeconfig = self._write_kubeconfig(folder, url, TOKEN)
        self.kubeconfig_without_rights = self._write_kubeconfig(folder, url, STRANGER)
        self._programs = programs
        # kubectl keeps what it knows of a server by address and port; ports come back with another server behind.
        self._cache = ("--cache-dir", str(folder / "kubectl-cache"))
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["Authorization"] = f"Bearer {TOKEN}"
        self._session.verify = str(folder / "keys" / "apiserver.crt")

    @staticmethod
    def _write_kubeconfig(folder: Path, url: str, token: str) -> Path:
        authority = str(folder / "keys" / "apiserver.crt")
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "component", "cluster": {"server": url, "certificate-authority": authority}}],
            "users": [{"name": "user", "user": {"token": token}}],
            "contexts": [{"name": "component", "context": {"cluster": "component", "user": "user"}}],
            "current-context": "component",
        }
        path = folder / f"kubeconfig-{token}"
        path.write_text(json.dumps(content))
        return path

    def request(
        self,
        method: str,
        path: str,
        body: Manifest | None = None,
        content_type: str = "application/json",
        **query: str,
    ) -> Answer:
        """One request; ``query`` like ``dryRun="All"``. Asked to come again (a new CRD's storage), it does so."""
        for attempt in range(60):
            found = self._session.request(
                method,
                f"{self.url}{path}?{urlencode(query)}",
                data=None if body is None else json.dumps(body),
                headers={"Content-Type": content_type},
                timeout=60,
            )
            if found.status_code != requests.codes.too_many_requests:
                break
            time.sleep(0.1 * min(attempt, 10))
        return Answer(found.status_code, found.json() if found.content else {})

    def kubectl(self, *arguments: str) -> str:
        """The output of kubectl; AssertionError with its complaint where it fails."""
        done = subprocess.run(
            [self._programs / "kubectl", "--kubeconfig", self.kubeconfig, *self._cache, *arguments],
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def programs() -> Path:
    """The folder with etcd, kube-apiserver and kubectl, built by the local cluster's own recipe (cached)."""
    command = [sys.executable, REPOSITORY / "deploy" / "local" / "cluster.py", "binaries"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, "`cluster.py binaries` failed; its own words are above"
    return Path(done.stdout.strip().splitlines()[-1])


@contextlib.contextmanager
def running(programs: Path, folder: Path, *flags: str) -> Iterator[ApiServer]:
    """A fresh etcd and kube-apiserver in ``folder``; both end with the block, and with this process however it ends.

    ``flags`` are given to kube-apiserver after our own.
    """
    etcd_port, peer_port, port = free_ports(3)
    keys = folder / "keys"
    keys.mkdir(parents=True)
    _openssl("genrsa", "-out", keys / "sa.key", "2048")
    _openssl("rsa", "-in", keys / "sa.key", "-pubout", "-out", keys / "sa.pub")
    (keys / "tokens.csv").write_text(f"{TOKEN},admin,admin,system:masters\n{STRANGER},stranger,stranger\n")
    etcd = [
        programs / "etcd",
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls=http://127.0.0.1:{etcd_port}",
        f"--advertise-client-urls=http://127.0.0.1:{etcd_port}",
        f"--listen-peer-urls=http://127.0.0.1:{peer_port}",
        f"--initial-advertise-peer-urls=http://127.0.0.1:{peer_port}",
        f"--initial-cluster=default=http://127.0.0.1:{peer_port}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]
    apiserver = [
        programs / "kube-apiserver",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--secure-port={port}",
        f"--etcd-servers=http://127.0.0.1:{etcd_port}",
        f"--cert-dir={keys}",
        f"--token-auth-file={keys / 'tokens.csv'}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={keys / 'sa.pub'}",
        f"--service-account-signing-key-file={keys / 'sa.key'}",
        "--service-cluster-ip-range=10.97.0.0/24",
        "--authorization-mode=RBAC",
        # There are no controllers: nobody would make the service account that pods are admitted with.
        "--disable-admission-plugins=ServiceAccount",
        "--profiling=false",
        *flags,
    ]
    url = f"https://127.0.0.1:{port}"
    with process_of(etcd, folder / "etcd.log"), process_of(apiserver, folder / "apiserver.log") as process:
        ca = keys / "apiserver.crt"
        eventually(lambda: _ready(url, ca, process, folder), "kube-apiserver ready", seconds=240)
        yield ApiServer(url, folder, programs)


def eventually(holds: Callable[[], object], what: str, seconds: float = 90) -> None:
    """Wait for a condition that the server reaches by itself."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)


def _ready(url: str, ca: Path, process: subprocess.Popen[bytes], folder: Path) -> bool:
    assert process.poll() is None, f"kube-apiserver ended:\n{(folder / 'apiserver.log').read_text()[-3000:]}"
    if not ca.exists():
        return False
    with contextlib.suppress(requests.RequestException):
        return requests.get(f"{url}/readyz", headers={"Authorization": f"Bearer {TOKEN}"}, verify=ca, timeout=5).ok
    return False


@contextlib.contextmanager
def process_of(command: list[Any], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process inside the block; it ends with this one too."""
    # setpriv: a pytest that is killed takes its servers along instead of leaving them for the next run to meet.
    with log.open("wb") as sink:
        process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], stdout=sink, stderr=sink)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _openssl(*arguments: Any) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
