"""One cluster a machine: who holds it, and one verb at a time."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from localcluster import layout
from localcluster.errors import ClusterError
from localcluster.host import boot_id
from localcluster.processes import ours
from localcluster.progress import say
from localcluster.store import write_atomically


@contextlib.contextmanager
def one_verb() -> Iterator[None]:
    """Keep a second `up` or `down` waiting until the first is through; a kill frees it."""
    while True:
        with layout.VERB_LOCK.open("a+") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                handle.seek(0)
                say(f"waiting: another command works on the cluster ({handle.read().strip()})")
                fcntl.flock(handle, fcntl.LOCK_EX)
            if not _is_still(handle):
                continue
            handle.truncate(0)
            handle.write(f"pid {os.getpid()} in {layout.REPO}")
            handle.flush()
            try:
                yield
            finally:
                layout.VERB_LOCK.unlink(missing_ok=True)
            return


def _is_still(handle: TextIO) -> bool:
    """Say whether the file just locked is still the one at its place: its last holder removed it."""
    try:
        return os.fstat(handle.fileno()).st_ino == layout.VERB_LOCK.stat().st_ino
    except FileNotFoundError:
        return False


def holder() -> Path | None:
    """Return the checkout that holds the machine's cluster, dead or alive."""
    try:
        return Path(json.loads(layout.LOCK.read_text())["owner"])
    except (OSError, ValueError, KeyError):
        return None


def held_here() -> bool:
    """Say whether this checkout holds the cluster."""
    return holder() == layout.REPO


def rebooted() -> bool:
    """Say whether the lock is of an earlier boot: its processes are gone."""
    try:
        return bool(json.loads(layout.LOCK.read_text())["boot"] != boot_id())
    except (OSError, ValueError, KeyError):
        return False


def refuse_others() -> None:
    """Refuse to touch a living cluster of another checkout that still exists."""
    owner = holder()
    if owner is None or owner == layout.REPO:
        return
    if not owner.is_dir():
        say(f"the cluster's owner {owner} was deleted: taking over what it left")
    elif not ours():
        say(f"the cluster of {owner} is dead: taking over what it left")
    else:
        raise ClusterError(
            f"this machine's one local cluster belongs to {owner}.\n"
            f"Take it down there with:  python3 {owner}/deploy/local/cluster.py down"
        )


def take() -> None:
    """Write down that this checkout holds the cluster, before anything is started."""
    layout.RUN.mkdir(parents=True, exist_ok=True)
    write_atomically(layout.LOCK, json.dumps({"owner": str(layout.REPO), "pid": os.getpid(), "boot": boot_id()}))
