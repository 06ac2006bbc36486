"""A model repository from an object store onto disk: whole or not at all, verified, going on where a try broke off.

Beside the target folder it keeps `.fetch/` (parts and what is known of finished files) and, at the end,
`checksums.sha256`: one line a file, as `sha256sum -c` reads them inside the target.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from modelrollout.adapters.object_store import Failure, FetchError, ObjectStore
from modelrollout.adapters.repository import RepositoryFile, arrange

CHECKSUMS = "checksums.sha256"
WORK = ".fetch"
TRIES = 8
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0

_Result = TypeVar("_Result")


@dataclass
class Progress:
    """Counters that the workers raise and a reporter reads; bytes and files."""

    total_files: int = 0
    total_bytes: int = 0
    files: int = 0
    bytes: int = 0
    notes: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def expect(self, files: int, size: int) -> None:
        """Say how much there is."""
        self.total_files, self.total_bytes = files, size

    def add(self, *, files: int = 0, size: int = 0) -> None:
        """Count what was fetched, or was already there."""
        with self._lock:
            self.files += files
            self.bytes += size

    def note(self, text: str) -> None:
        """Leave a line for the reporter."""
        with self._lock:
            self.notes.append(text)

    def take_notes(self) -> list[str]:
        """The lines since the last call."""
        with self._lock:
            taken, self.notes = self.notes, []
            return taken

    def line(self, seconds: float) -> str:
        """How far it is after ``seconds``."""
        share = self.bytes / self.total_bytes if self.total_bytes else 1.0
        return (
            f"{self.files} of {self.total_files} files, {megabytes(self.bytes)} of {megabytes(self.total_bytes)} MB "
            f"({share:.0%}), {megabytes(self.bytes / seconds if seconds > 0 else 0)} MB/s"
        )


def megabytes(size: float) -> str:
    """Bytes as decimal megabytes."""
    return f"{size / 1e6:.1f}"


@dataclass(frozen=True)
class Summary:
    """What was fetched: ``sha256`` is over the checksum file, so over all names and contents."""

    files: int
    bytes: int
    sha256: str


@dataclass
class Download:
    """One fetch of everything below ``prefix`` into the folder ``target``.

    ``model`` must be a folder in it; more than ``limit`` bytes are refused. ``pause`` waits between tries (seconds).
    """

    store: ObjectStore
    prefix: str
    target: Path
    model: str | None = None
    limit: int | None = None
    workers: int = 4
    progress: Progress = field(default_factory=Progress)
    pause: Callable[[float], object] | None = None
    free_space: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free
    _known: dict[str, list[str | int | None]] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self) -> Summary:
        """Fetch; raises FetchError. After a failure another run goes on with what is there."""
        listed = self._tried(lambda: self.store.list(self.prefix))
        items, folders = arrange(listed, self.prefix, self.model)
        self._open_work()
        size = sum(item.stored.size for item in items)
        self.progress.expect(len(items), size)
        self._check_room(items, size)
        try:
            for folder in sorted({item.path.parent for item in items} | folders):
                (self.target / folder).mkdir(parents=True, exist_ok=True)
            self._drop_leftovers({str(item.path) for item in items})
            sums = self._fetch_all(items)
            lines = "".join(f"{sums[path]}  {path}\n" for path in sorted(sums))
            (self.target.parent / CHECKSUMS).write_text(lines, encoding="utf-8")
            shutil.rmtree(self._work)
        except OSError as error:
            raise self._on_disk(error) from error
        return Summary(len(items), size, hashlib.sha256(lines.encode()).hexdigest())

    @property
    def _work(self) -> Path:
        return self.target.parent / WORK

    def _open_work(self) -> None:
        try:
            fresh = not self._work.exists()
            if fresh and self.target.exists() and any(self.target.iterdir()):
                raise FetchError(Failure.REFUSED, f"{self.target} is not empty and not from a fetch that broke off")
            self._work.mkdir(parents=True, exist_ok=True)
            self.target.mkdir(parents=True, exist_ok=True)
            self._known = json.loads((self._work / "known.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            self._known = {}
        except ValueError:
            self._known = {}  # cut off while it was written: fetch those files again
        except OSError as error:
            raise self._on_disk(error) from error

    def _check_room(self, items: list[RepositoryFile], size: int) -> None:
        if self.limit is not None and size > self.limit:
            raise FetchError(
                Failure.NO_SPACE,
                f"the model has {megabytes(size)} MB and the pool allows {megabytes(self.limit)} MB (modelStorage)",
            )
        there = sum(self._present(item) for item in items)
        free = self.free_space(self.target)
        if size - there > free:
            raise FetchError(
                Failure.NO_SPACE,
                f"the model needs {megabytes(size - there)} MB more and the disk has {megabytes(free)} MB free",
            )

    def _present(self, item: RepositoryFile) -> int:
        """Bytes of ``item`` that an earlier try left on disk."""
        found = [path.stat().st_size for path in (self.target / item.path, self._part(item)) if path.is_file()]
        return max(found, default=0)

    def _drop_leftovers(self, wanted: set[str]) -> None:
        """Remove what an earlier try fetched and the listing has no more; never a file that no try wrote."""
        for path in [path for path in self._known if path not in wanted]:
            (self.target / path).unlink(missing_ok=True)
            del self._known[path]

    def _fetch_all(self, items: list[RepositoryFile]) -> dict[str, str]:
        with ThreadPoolExecutor(self.workers, thread_name_prefix="fetch") as pool:
            running = {pool.submit(self._fetch, item): str(item.path) for item in items}
            done, _ = wait(running, return_when=FIRST_EXCEPTION)
            failed = next((future for future in done if future.exception()), None)
            if failed is not None:
                self._stop.set()
                pool.shutdown(cancel_futures=True)
                failed.result()
            return {path: future.result() for future, path in running.items()}

    def _fetch(self, item: RepositoryFile) -> str:
        """Fetch one file, however many tries it takes; returns its SHA-256."""
        final, part = self.target / item.path, self._part(item)
        known = self._known.get(str(item.path)) == item.identity
        if known and final.is_file() and final.stat().st_size == item.stored.size:
            self.progress.add(files=1, size=item.stored.size)
            return _hash(final).hexdigest()
        digest = _hash(part)
        have = part.stat().st_size if part.exists() else 0
        self.progress.add(size=have)
        with part.open("ab") as file:

            def go_on() -> None:
                nonlocal have
                if have >= item.stored.size:
                    return
                for chunk in self.store.read(item.stored, have):
                    if self._stop.is_set():
                        raise FetchError(Failure.CHANGED, "stopped, because another file failed")
                    file.write(chunk)
                    digest.update(chunk)
                    have += len(chunk)
                    self.progress.add(size=len(chunk))
                if have < item.stored.size:
                    raise FetchError(Failure.UNREACHABLE, f"cannot read {item.stored.key}: it broke off")

            self._tried(go_on)
        if have != item.stored.size:
            part.unlink()
            raise FetchError(Failure.CHANGED, f"{item.stored.key} has {have} bytes, listed were {item.stored.size}")
        part.replace(final)
        self._remember(item)
        self.progress.add(files=1)
        return digest.hexdigest()

    def _part(self, item: RepositoryFile) -> Path:
        name = hashlib.sha256(json.dumps([str(item.path), *item.identity]).encode()).hexdigest()
        return self._work / f"{name}.part"

    def _remember(self, item: RepositoryFile) -> None:
        with self._lock:
            self._known[str(item.path)] = item.identity
            fresh = self._work / "known.json.new"
            fresh.write_text(json.dumps(self._known), encoding="utf-8")
            fresh.replace(self._work / "known.json")

    def _tried(self, work: Callable[[], _Result]) -> _Result:
        for number in range(1, TRIES + 1):
            try:
                return work()
            except FetchError as error:
                if error.failure is not Failure.UNREACHABLE or number == TRIES or self._stop.is_set():
                    raise
                pause = min(FIRST_PAUSE * 2 ** (number - 1), LONGEST_PAUSE)
                self.progress.note(f"{error}; try {number + 1} of {TRIES} in {pause:g} s")
                (self.pause or self._stop.wait)(pause)
        raise AssertionError("unreachable")

    def _on_disk(self, error: OSError) -> FetchError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return FetchError(Failure.NO_SPACE, f"no space left for {self.target}")
        return FetchError(Failure.REFUSED, f"cannot write to {self.target}: {error.strerror or error}")


def _hash(path: Path) -> hashlib._Hash:
    """SHA-256 of what is in the file so far; of nothing where there is none."""
    digest = hashlib.sha256()
    if path.exists():
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest
