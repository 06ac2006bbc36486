"""Content hashes that name what is built, so that nothing is built twice."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

_LENGTH = 16
_IGNORED = {"__pycache__"}


def _files(path: Path) -> Iterable[Path]:
    if path.is_file():
        return [path]
    return sorted(
        one for one in path.rglob("*") if one.is_file() and not _IGNORED.intersection(one.relative_to(path).parts)
    )


def digest(*parts: str | Path) -> str:
    """Hash texts as they are, files and folders by names and contents."""
    whole = hashlib.sha256()
    for one in parts:
        if isinstance(one, str):
            whole.update(b"text\0" + one.encode() + b"\0")
            continue
        for file in _files(one):
            name = file.name if file == one else str(file.relative_to(one))
            mode = file.stat().st_mode & 0o111
            whole.update(f"file\0{name}\0{bool(mode)}\0".encode())
            with file.open("rb") as stream:
                whole.update(hashlib.file_digest(stream, "sha256").digest())
    return whole.hexdigest()[:_LENGTH]
