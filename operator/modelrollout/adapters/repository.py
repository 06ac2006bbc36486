"""A listing of an object store as a Triton model repository: where each object goes, and whether it is one at all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from modelrollout.adapters.object_store import Failure, FetchError, StoredObject


@dataclass(frozen=True)
class RepositoryFile:
    """One object and its path below the repository."""

    stored: StoredObject
    path: PurePosixPath

    @property
    def identity(self) -> list[str | int | None]:
        """What makes a file on disk the listed one."""
        return [self.stored.size, self.stored.etag]


def relative_path(key: str, prefix: str) -> PurePosixPath:
    """Where below the target the object ``key`` goes. Raises FetchError for a key that would leave it."""
    rest = key.removeprefix(f"{prefix}/") if prefix else key
    parts = rest.split("/")
    if (prefix and rest == key) or any(not _safe(part) for part in parts):
        raise FetchError(Failure.UNSAFE, f"the key {key!r} is no safe path below {prefix!r}")
    return PurePosixPath(*parts)


def _safe(part: str) -> bool:
    return part not in ("", ".", "..") and len(part.encode()) <= 255 and part.isprintable() and "\\" not in part


def arrange(
    listed: list[StoredObject], prefix: str, model: str | None
) -> tuple[list[RepositoryFile], set[PurePosixPath]]:
    """Files of the repository, and the folders that only a marker object stands for. Raises FetchError.

    Stores have no folders; tools write an empty object for one. Triton wants a version folder even where it is
    empty (ensembles), so an empty object named by a number is that, and so is one with others below it.
    """
    found = [RepositoryFile(stored, relative_path(stored.key, prefix)) for stored in listed]
    above = {parent for file in found for parent in file.path.parents}
    folders = {
        file.path for file in found if file.stored.size == 0 and (file.path in above or file.path.name.isdigit())
    }
    files = [file for file in found if file.path not in folders]
    clash = next((file.path for file in files if file.path in above), None)
    if clash:
        raise FetchError(Failure.UNSAFE, f"{clash} is both a file and a folder below {prefix!r}")
    if not files:
        raise FetchError(Failure.EMPTY, f"there is nothing below {prefix!r} in the bucket")
    _check(files, {path.parts[0] for path in above if path.parts}, prefix, model)
    return files, folders


def _check(files: list[RepositoryFile], models: set[str], prefix: str, model: str | None) -> None:
    if any(str(file.path) == "config.pbtxt" for file in files):
        raise FetchError(
            Failure.REFUSED,
            f"{prefix!r} is one model, not a model repository: its config.pbtxt must be in a folder named "
            f"{model or 'as the model'} below the source's URI",
        )
    if model and model not in models:
        there = ", ".join(sorted(models)[:10]) or "none"
        raise FetchError(Failure.REFUSED, f"{prefix!r} has no folder {model} for the model; it has {there}")
