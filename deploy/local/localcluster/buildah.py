"""buildah with a store of its own in the cache, and nothing of it left mounted afterwards.

Only base layers stay in the store, to build upon; finished images live as archives.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from localcluster import layout
from localcluster.host import unmount_below
from localcluster.shell import run

_RUNROOT = Path("/run/modelrollout-build")
_KEEP = ("localhost/modelrollout/base:", "localhost/modelrollout/operator-deps:")


def _root() -> Path:
    return layout.cache() / "buildah"


def _buildah(*words: str | Path, check: bool = True) -> str:
    where: list[str | Path] = ["--root", _root(), "--runroot", _RUNROOT, "--storage-driver", "overlay"]
    return run(["buildah", *where, *words], check=check).stdout


@contextmanager
def session() -> Iterator[None]:
    """Clear what a killed build left, and leave no container, mount or finished image behind."""
    clear()
    _buildah("rm", "--all", check=False)
    try:
        yield
    finally:
        _buildah("rm", "--all", check=False)
        for line in _buildah("images", "--format", "{{.ID}} {{.Name}}:{{.Tag}}", check=False).splitlines():
            identity, name = line.split()
            if not name.startswith(_KEEP):
                _buildah("rmi", "--force", identity, check=False)
        clear()


def clear() -> None:
    """Unmount whatever a build left mounted."""
    unmount_below(_root())
    unmount_below(_RUNROOT)
    shutil.rmtree(_RUNROOT, ignore_errors=True)


def exists(ref: str) -> bool:
    """Say whether the store holds an image."""
    return ref.rsplit(":", 1)[1] in _buildah("images", "--format", "{{.Tag}}", check=False).split()


def build(
    ref: str, containerfile: Path, files: tuple[Path, ...], wheel_folders: tuple[Path, ...], below: str | None
) -> None:
    """Build one image: the files are its context (and /build while it runs), the wheels are at /wheels."""
    with tempfile.TemporaryDirectory(prefix="context-", dir=layout.cache()) as context:
        build_folder, wheel_folder = Path(context, "build"), Path(context, "wheels")
        wheels = [wheel for folder in wheel_folders for wheel in folder.glob("*.whl")]
        for folder, sources in ((build_folder, list(files)), (wheel_folder, wheels)):
            folder.mkdir()
            for source in sources:
                _place(source, folder / source.name)
        volumes = ["--volume", f"{wheel_folder}:/wheels:ro", "--volume", f"{build_folder}:/build:ro"]
        arguments = [f"--build-arg={name}={below}" for name in ("BASE", "DEPS") if below]
        _buildah(
            "bud", "--isolation", "chroot", "--layers=false", "--pull-never", "--network=host", "--timestamp=0",
            *volumes, *arguments, "-f", containerfile, "-t", ref, build_folder,
        )  # fmt: skip


def archive(ref: str, target: Path) -> None:
    """Write an image as a Docker archive: the one form that buildah leaves uncompressed, three times as fast."""
    _buildah("push", ref, f"docker-archive:{target}:{ref}")


def _place(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
