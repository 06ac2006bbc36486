"""The Debian base of the images: debootstrap from the mirror that this machine's apt is set up for."""

import shutil
import tempfile
from pathlib import Path

from localcluster import store
from localcluster.digest import digest
from localcluster.errors import ClusterError
from localcluster.host import unmount_below
from localcluster.progress import part
from localcluster.shell import run, run_logged

_SUITE = "bookworm"
_INCLUDE = "ca-certificates,python3,libpython3.11"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_DROP = (
    "usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/lintian",
    "var/cache/apt", "var/lib/apt/lists", "var/log",
)  # fmt: skip


def mirror() -> str:
    """Return the address of the Debian archive in this machine's apt configuration."""
    listed = run(["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE)", "Created-By: Packages"]).stdout
    sites = [line.split() for line in listed.splitlines()]
    for wanted in (_SUITE, "stable", "oldstable"):
        for site, release in sites:
            if release == wanted:
                return site
    raise ClusterError(f"this machine's apt knows no archive with Debian {_SUITE}: add one to its sources")


def rootfs() -> Path:
    """Return a tar of the base root file system."""
    return store.entry("base", digest(_SUITE, _INCLUDE, *_DROP, "layout 1"), _make, keep=1) / "rootfs.tar"


def _make(folder: Path) -> None:
    tree = Path(tempfile.mkdtemp(prefix="tree-", dir=folder))
    with part("debootstrap the base image"):
        try:
            run_logged(
                ["debootstrap", "--variant=minbase", f"--include={_INCLUDE}", f"--keyring={_KEYRING}",
                 _SUITE, tree, mirror()],
                folder / "debootstrap.log",
            )  # fmt: skip
        finally:
            unmount_below(tree)
        for one in _DROP:
            shutil.rmtree(tree / one, ignore_errors=True)
            (tree / one).mkdir(parents=True, exist_ok=True)
        run(["tar", "-C", tree, "--sort=name", "--mtime=@0", "--exclude=./dev/*", "-cf", folder / "rootfs.tar", "."])
        shutil.rmtree(tree, ignore_errors=True)
