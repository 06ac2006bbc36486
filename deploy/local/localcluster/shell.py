"""Run programs, and turn their failure into a sentence with the end of what they said."""

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from localcluster.errors import ClusterError

_TAIL_LINES = 25


def run(
    argv: Sequence[str | Path],
    *,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    check: bool = True,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and return what it said; `env` is added to the environment."""
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(
            words,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as error:
        raise ClusterError(f"the program {words[0]} is missing") from error
    except subprocess.TimeoutExpired as error:
        raise ClusterError(f"{words[0]} did not end within {timeout:.0f} s: {' '.join(words[:6])}") from error
    if check and done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-_TAIL_LINES:])
        raise ClusterError(f"{' '.join(words[:8])} failed with {done.returncode}:\n{tail}")
    return done


def run_logged(
    argv: Sequence[str | Path],
    log: Path,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> None:
    """Run a long program with its output in a log file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    words = [str(word) for word in argv]
    with log.open("w") as sink:
        code = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            check=False,
        ).returncode
    if code != 0:
        tail = "\n".join(log.read_text(errors="replace").strip().splitlines()[-_TAIL_LINES:])
        raise ClusterError(f"{' '.join(words[:8])} failed with {code} (whole log: {log}):\n{tail}")


def wait_for(what: str, ready: Callable[[], bool], seconds: float, hint: str = "") -> None:
    """Ask until it is so; name what was waited for when it never is."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise ClusterError(f"{what} was not so within {seconds:.0f} s. {hint}".strip())
        time.sleep(0.2)
