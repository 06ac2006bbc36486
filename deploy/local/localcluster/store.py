"""The build cache: an entry is made in a folder of its own and appears by one rename, or not at all."""

import contextlib
import fcntl
import os
import shutil
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

from localcluster import layout
from localcluster.progress import say

_in_this_run: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)


@contextlib.contextmanager
def held(name: str) -> Iterator[None]:
    """Hold one lock of the cache, so that two checkouts do not build the same thing at once."""
    folder = layout.cache() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with _in_this_run[name], (folder / name).open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting: another run builds {name}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def entry(kind: str, key: str, make: Callable[[Path], None], keep: int = 4) -> Path:
    """Return the folder `kind/key` of the cache; make it first when it is missing."""
    family = layout.cache() / kind
    wanted = family / key
    if wanted.is_dir():
        with contextlib.suppress(OSError):
            os.utime(wanted)
        return wanted
    with held(kind.replace("/", "-")):
        if wanted.is_dir():
            return wanted
        family.mkdir(parents=True, exist_ok=True)
        for left in family.glob(".making-*"):
            shutil.rmtree(left, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=".making-", dir=family))
        try:
            make(folder)
            folder.chmod(0o755)
            folder.rename(wanted)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        _forget_old(family, keep)
    return wanted


def _forget_old(family: Path, keep: int) -> None:
    entries = sorted(family.iterdir(), key=lambda one: one.stat().st_mtime, reverse=True)
    for old in [one for one in entries if not one.name.startswith(".")][keep:]:
        shutil.rmtree(old, ignore_errors=True)


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file so that a reader, or a kill, never meets half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.touch(mode=mode)
    fresh.write_text(text)
    fresh.chmod(mode)
    fresh.replace(path)
