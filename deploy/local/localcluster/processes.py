"""Processes of the cluster: started in sessions of their own, known by pid, start time and an environment mark.

A process that was started by a killed `up` before it could be written down is found by its mark.
"""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from localcluster import layout
from localcluster.digest import digest
from localcluster.errors import ClusterError
from localcluster.host import boot_id, start_time
from localcluster.settings import MARK
from localcluster.store import write_atomically

_MARK = "MODELROLLOUT_LOCAL_CLUSTER"


def _records() -> dict[str, dict[str, str]]:
    try:
        known: dict[str, dict[str, str]] = json.loads(layout.PROCESSES.read_text())
    except (OSError, ValueError):
        return {}
    return known


def alive(name: str) -> int | None:
    """Return the pid of a part that runs, or None."""
    record = _records().get(name)
    if not record or record["boot"] != boot_id():
        return None
    pid = int(record["pid"])
    return pid if start_time(pid) == record["started"] else None


def log_file(name: str) -> Path:
    """Return the log of a part."""
    return layout.LOGS / f"{name}.log"


def ensure(name: str, argv: Sequence[str | Path], env: Mapping[str, str] | None = None) -> None:
    """Start a part unless it runs already with the same command; it outlives this program."""
    words = [str(word) for word in argv]
    command = digest(*words)
    running = alive(name)
    if running is not None:
        if _records()[name]["command"] == command:
            return
        stop([running], grace=10)
    log = log_file(name)
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists():
        log.replace(log.with_suffix(".log.old"))
    with log.open("ab") as sink:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            cwd="/",
            env={**_plain_environment(), **(env or {}), _MARK: MARK},
            start_new_session=True,
        )
    record = {
        "pid": str(process.pid),
        "started": start_time(process.pid) or "",
        "boot": boot_id(),
        "command": command,
    }
    write_atomically(layout.PROCESSES, json.dumps({**_records(), name: record}, indent=1))


def _plain_environment() -> dict[str, str]:
    """Give parts a plain environment: no proxy, kubeconfig or credentials of the user's."""
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {"PATH": path, "HOME": "/root", "LANG": "C.UTF-8"}


def assert_alive(name: str) -> None:
    """Fail with the end of its log when a part has died."""
    if alive(name) is None:
        tail = "\n".join(log_file(name).read_text(errors="replace").splitlines()[-15:])
        raise ClusterError(f"{name} ended. The end of {log_file(name)}:\n{tail}")


def ours() -> dict[int, str]:
    """Return all processes that carry the mark: pid and name."""
    wanted = f"{_MARK}={MARK}".encode()
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted in (folder / "environ").read_bytes().split(b"\0") and start_time(int(folder.name)):
                found[int(folder.name)] = (folder / "comm").read_text().strip()
    return found


def parts() -> dict[str, int | None]:
    """Return every part that was started, with its pid while it runs."""
    return {name: alive(name) for name in _records()}


def stop(pids: Sequence[int], grace: float) -> None:
    """End processes: ask, wait, then kill."""
    began = {pid: start_time(pid) for pid in pids}

    def left() -> list[int]:
        return [pid for pid, when in began.items() if when is not None and start_time(pid) == when]

    for signal_number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, 10.0)):
        for pid in left():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal_number)
        deadline = time.monotonic() + seconds
        while left() and time.monotonic() < deadline:
            _reap()
            time.sleep(0.05)


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
