"""``modelrollout crds``: write the CRDs and the reference pages made of the same models, or check that they are."""

from __future__ import annotations

from pathlib import Path

import click

from modelrollout.api import crd, reference

FOLDER = click.Path(file_okay=False, path_type=Path)


@click.group()
def crds() -> None:
    """Write or check the CustomResourceDefinitions."""


@crds.command()
@click.argument("folders", metavar="DIR...", nargs=-1, required=True, type=FOLDER)
@click.option("--docs", type=FOLDER, help="Write the reference pages to this folder as well.")
def write(folders: tuple[Path, ...], docs: Path | None) -> None:
    """Write the definitions to each DIR."""
    for path, text in _wanted(folders, docs).items():
        if _stored(path) != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            click.echo(f"wrote {path}")


@crds.command()
@click.argument("folders", metavar="DIR...", nargs=-1, required=True, type=FOLDER)
@click.option("--docs", type=FOLDER, help="Check the reference pages in this folder as well.")
def check(folders: tuple[Path, ...], docs: Path | None) -> None:
    """Fail when what is in DIR is not what the models say."""
    stale = [path for path, text in _wanted(folders, docs).items() if _stored(path) != text]
    if stale:
        names = ", ".join(str(path) for path in stale)
        raise click.ClickException(f"not up to date: {names}. Run the same with `write` instead of `check`.")


def _wanted(folders: tuple[Path, ...], docs: Path | None) -> dict[Path, str]:
    wanted = {folder / name: text for folder in folders for name, text in crd.generate().items()}
    if docs is not None:
        wanted |= {docs / name: text for name, text in reference.generate().items()}
    return wanted


def _stored(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None
