"""The download against a store in memory: what ends up on disk, and what happens when things go wrong."""

from __future__ import annotations

import errno
import hashlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from modelrollout.adapters.download import CHECKSUMS, TRIES, Download, Progress
from modelrollout.adapters.object_store import Failure, FetchError, StoredObject

FILES = {
    "digits/1.4.0/digits/config.pbtxt": b'name: "digits"',
    "digits/1.4.0/digits/1/model.py": b"print()\n" * 1000,
    "digits/1.4.0/digits/1/weights.npz": bytes(range(256)) * 4096,
}


@dataclass
class MemoryStore:
    """Objects in memory; ``breaks`` gives, per key, after how many bytes each read breaks off (None: it does not)."""

    objects: dict[str, bytes]
    breaks: dict[str, list[int | None]] = field(default_factory=dict)
    failure: FetchError | None = None
    reads: list[tuple[str, int]] = field(default_factory=list)

    def list(self, prefix: str) -> list[StoredObject]:
        if self.failure:
            raise self.failure
        return [
            StoredObject(key, len(content), hashlib.sha1(content).hexdigest())  # noqa: S324
            for key, content in sorted(self.objects.items())
        ]

    def read(self, stored: StoredObject, offset: int) -> Iterator[bytes]:
        self.reads.append((stored.key, offset))
        content = self.objects[stored.key][offset:]
        stops = self.breaks.get(stored.key)
        stop = stops.pop(0) if stops else None
        yield content[:stop]
        if stop is not None:
            raise FetchError(Failure.UNREACHABLE, "it broke off")


def download(store: MemoryStore, folder: Path, **more: object) -> Download:
    arguments = {"prefix": "digits/1.4.0", "target": folder / "models", "pause": lambda seconds: None} | more
    return Download(store, **arguments)  # type: ignore[arg-type]


def failed(store: MemoryStore, folder: Path, **more: object) -> FetchError:
    with pytest.raises(FetchError) as caught:
        download(store, folder, **more).run()
    return caught.value


def test_whole_repository_with_checksums_that_sha256sum_accepts(tmp_path: Path) -> None:
    summary = download(MemoryStore(FILES), tmp_path, model="digits").run()

    for key, content in FILES.items():
        assert (tmp_path / "models" / key.removeprefix("digits/1.4.0/")).read_bytes() == content
    assert summary.files == 3
    assert summary.bytes == sum(map(len, FILES.values()))
    checksums = tmp_path / CHECKSUMS
    assert summary.sha256 == hashlib.sha256(checksums.read_bytes()).hexdigest()
    subprocess.run(["sha256sum", "-c", "--strict", checksums], cwd=tmp_path / "models", check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [CHECKSUMS, "models"]


def test_the_sum_over_all_depends_on_names_and_contents(tmp_path: Path) -> None:
    sums = set()
    for number, change in enumerate(
        [{}, {"digits/1.4.0/digits/1/more": b"x"}, {"digits/1.4.0/digits/1/model.py": b""}]
    ):
        sums.add(download(MemoryStore(FILES | change), tmp_path / str(number)).run().sha256)
    assert len(sums) == 3


def test_a_read_that_breaks_off_goes_on_where_it_was(tmp_path: Path) -> None:
    key = "digits/1.4.0/digits/1/weights.npz"
    store = MemoryStore(FILES, breaks={key: [1000, 0, 5000]})
    pauses: list[float] = []
    download(store, tmp_path, pause=pauses.append).run()

    assert [offset for name, offset in store.reads if name == key] == [0, 1000, 1000, 6000]
    assert (tmp_path / "models/digits/1/weights.npz").read_bytes() == FILES[key]
    assert pauses == [0.5, 1.0, 2.0]


def test_tries_end(tmp_path: Path) -> None:
    key = "digits/1.4.0/digits/1/model.py"
    store = MemoryStore(FILES, breaks={key: [0] * 100})
    error = failed(store, tmp_path)
    assert error.failure is Failure.UNREACHABLE
    assert [name for name, _ in store.reads].count(key) == TRIES


def test_a_second_run_fetches_only_what_is_missing(tmp_path: Path) -> None:
    key = "digits/1.4.0/digits/1/weights.npz"
    failed(MemoryStore(FILES, breaks={key: [70_000] + [0] * 100}), tmp_path, workers=1)
    store = MemoryStore(FILES)
    progress = Progress()
    summary = download(store, tmp_path, progress=progress).run()

    assert (key, 70_000) in store.reads
    assert "digits/1.4.0/digits/1/model.py" not in dict(store.reads)
    assert (tmp_path / "models/digits/1/weights.npz").read_bytes() == FILES[key]
    assert (progress.files, progress.bytes) == (3, summary.bytes)


def test_a_second_run_takes_what_was_changed_in_between_anew(tmp_path: Path) -> None:
    key, other = "digits/1.4.0/digits/1/weights.npz", "digits/1.4.0/digits/1/model.py"
    first = "digits/1.4.0/digits/0-first"
    failed(MemoryStore(FILES | {first: b"x"}, breaks={key: [70_000] + [0] * 100}), tmp_path, workers=1)
    assert (tmp_path / "models/digits/0-first").exists()
    changed = {**FILES, key: b"new" * 100_000, other: FILES[other][::-1]}
    download(MemoryStore(changed), tmp_path).run()

    assert (tmp_path / "models/digits/1/weights.npz").read_bytes() == changed[key]
    assert (tmp_path / "models/digits/1/model.py").read_bytes() == changed[other]
    assert not (tmp_path / "models/digits/0-first").exists()


def test_another_size_than_listed_is_no_file(tmp_path: Path) -> None:
    class Growing(MemoryStore):
        def read(self, stored: StoredObject, offset: int) -> Iterator[bytes]:
            yield from super().read(stored, offset)
            yield b"more"

    error = failed(Growing(FILES), tmp_path)
    assert error.failure is Failure.CHANGED
    assert not list((tmp_path / "models").rglob("*.npz"))


@pytest.mark.parametrize(
    "key",
    [
        "digits/1.4.0/../../etc/passwd",
        "digits/1.4.0/digits/../../x",
        "digits/1.4.0//digits/x",
        "digits/1.4.0/digits/./x",
        "digits/1.4.0/digits/a\\..\\b",
        "digits/1.4.0/digits/a\nb",
        "digits/1.4.0/digits/" + "x" * 256,
        "digits/1.4.00/digits/x",
        "other",
    ],
)
def test_a_key_that_would_leave_the_folder_is_refused_before_anything_is_written(tmp_path: Path, key: str) -> None:
    store = MemoryStore(FILES | {key: b"bad"})
    assert failed(store, tmp_path / "in").failure is Failure.UNSAFE
    assert not store.reads
    assert not list(tmp_path.iterdir())


def test_file_and_folder_of_one_name(tmp_path: Path) -> None:
    assert failed(MemoryStore(FILES | {"digits/1.4.0/digits/1": b"x"}), tmp_path).failure is Failure.UNSAFE


def test_marker_objects_become_folders(tmp_path: Path) -> None:
    markers = {"digits/1.4.0/digits/1": b"", "digits/1.4.0/pipeline/1": b"", "digits/1.4.0/pipeline/config.pbtxt": b"x"}
    download(MemoryStore(FILES | markers | {"digits/1.4.0/digits/1/empty": b""}), tmp_path).run()
    assert (tmp_path / "models/pipeline/1").is_dir()
    assert (tmp_path / "models/digits/1/model.py").is_file()
    assert (tmp_path / "models/digits/1/empty").is_file()


def test_nothing_there(tmp_path: Path) -> None:
    error = failed(MemoryStore({}), tmp_path)
    assert error.failure is Failure.EMPTY
    assert str(error) == "there is nothing below 'digits/1.4.0' in the bucket"


def test_one_model_instead_of_a_repository(tmp_path: Path) -> None:
    error = failed(
        MemoryStore({"digits/1.4.0/config.pbtxt": b"x", "digits/1.4.0/1/model.py": b"y"}), tmp_path, model="digits"
    )
    assert error.failure is Failure.REFUSED
    assert "must be in a folder named digits" in str(error)


def test_another_model(tmp_path: Path) -> None:
    error = failed(MemoryStore(FILES), tmp_path, model="faces")
    assert str(error) == "'digits/1.4.0' has no folder faces for the model; it has digits"


def test_more_than_the_pool_allows(tmp_path: Path) -> None:
    error = failed(MemoryStore(FILES), tmp_path, limit=1000)
    assert error.failure is Failure.NO_SPACE
    assert "modelStorage" in str(error)


def test_more_than_the_disk_has_counting_what_is_already_there(tmp_path: Path) -> None:
    key = "digits/1.4.0/digits/1/weights.npz"
    size = sum(map(len, FILES.values()))
    assert failed(MemoryStore(FILES), tmp_path, free_space=lambda path: size - 1).failure is Failure.NO_SPACE
    failed(MemoryStore(FILES, breaks={key: [70_000] + [0] * 100}), tmp_path, workers=1)
    download(MemoryStore(FILES), tmp_path, free_space=lambda path: size - 70_000).run()


def test_a_disk_that_fills_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    assert failed(MemoryStore(FILES), tmp_path).failure is Failure.NO_SPACE


def test_a_folder_of_someone_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine").write_text("keep")
    assert failed(MemoryStore(FILES), tmp_path).failure is Failure.REFUSED
    assert [path.name for path in tmp_path.rglob("*")] == ["models", "mine"]


def test_a_refusal_is_not_tried_again(tmp_path: Path) -> None:
    pauses: list[float] = []
    store = MemoryStore(FILES, failure=FetchError(Failure.DENIED, "no"))
    assert failed(store, tmp_path, pause=pauses.append).failure is Failure.DENIED
    assert not pauses


def test_the_first_failure_is_the_one_told(tmp_path: Path) -> None:
    many = FILES | {f"digits/1.4.0/digits/1/{number:03}": b"x" * 100 for number in range(50)}

    class Denying(MemoryStore):
        def read(self, stored: StoredObject, offset: int) -> Iterator[bytes]:
            if stored.key.endswith("/025"):
                raise FetchError(Failure.DENIED, "not this one")
            yield from super().read(stored, offset)

    assert str(failed(Denying(many), tmp_path)) == "not this one"


def test_progress_line() -> None:
    progress = Progress()
    progress.expect(12, 310_000_000)
    progress.add(files=3, size=45_200_000)
    assert progress.line(2.0) == "3 of 12 files, 45.2 of 310.0 MB (15%), 22.6 MB/s"
