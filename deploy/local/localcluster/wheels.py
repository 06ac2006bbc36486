"""Wheels for the images, fetched by this machine's own pip with its own index, proxy and certificates.

Image builds then need no network, and no setting of this machine ends up in an image.
"""

from pathlib import Path

from localcluster import store
from localcluster.digest import digest
from localcluster.packages import pip
from localcluster.progress import part
from localcluster.shell import run

_GLIBC_MINOR = range(36, 4, -1)
_TARGET = [
    "--python-version=3.11",
    "--implementation=cp",
    "--abi=cp311",
    "--abi=abi3",
    "--abi=none",
    *(f"--platform=manylinux_2_{minor}_x86_64" for minor in _GLIBC_MINOR),
    "--platform=manylinux2014_x86_64",
    "--platform=manylinux1_x86_64",
    "--platform=linux_x86_64",
    "--only-binary=:all:",
]


def wheels(name: str, requirements: Path, *, hashes: bool = False, deps: bool = True) -> Path:
    """Return a folder with the wheels that a requirements file asks for, for the images' Python 3.11."""

    def fetch(folder: Path) -> None:
        with part(f"download wheels for {name}", lambda: f"{len(list(folder.glob('*.whl')))} wheels"):
            extra = (["--require-hashes"] if hashes else []) + ([] if deps else ["--no-deps"])
            run([*pip(), "download", "-q", "-d", folder, "-r", requirements, *_TARGET, *extra])

    return store.entry(f"wheels/{name}", digest(requirements, *_TARGET, str(hashes), str(deps)), fetch)
