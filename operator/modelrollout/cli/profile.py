"""`modelrollout profile`: make a reference profile of data, look at one, check it against a running model."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from modelrollout.cli.checking import check_name
from modelrollout.cli.exits import Exit
from modelrollout.cli.failing import Complaint, plainly
from modelrollout.cli.options import examples

if TYPE_CHECKING:
    from modelrollout.profile.contract import Contract
    from modelrollout.profile.model import Profile

_FILE = click.Path(path_type=Path, dir_okay=False)
_READ = click.Path(path_type=Path, dir_okay=False, exists=True)
_PATIENCE = 2.0
_FEW = 500
_MUCH = 0.5
KEY = "profile.json"
LARGEST_CONFIG_MAP = 1_000_000


@click.group(
    epilog=examples(
        "modelrollout profile make training.csv --model digits --input PIXELS --drop label -o profile.json",
        "modelrollout profile show profile.json",
        "modelrollout profile check profile.json --url 127.0.0.1:8001",
    )
)
def profile() -> None:
    """Reference profiles: the shares of a model's training data in bins, which drift is measured against."""


@profile.command(
    epilog=examples(
        "modelrollout profile make training.csv --model digits --input PIXELS --drop label -o profile.json",
        "modelrollout profile make train.parquet --model loans --input AGE=age --input CITY=city --configmap loans",
        "modelrollout profile make train.npz --model digits --outputs predictions.npz --embed digits/config.pbtxt",
    )
)
@click.argument("data", type=_READ)
@click.option("--model", required=True, help="Name of the model, as clients call it.")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="TENSOR[=COLUMN,...]",
    help="Columns of an input, in order; TENSOR alone takes the rest. Default: an input a column.",
)
@click.option(
    "--output",
    "answers",
    multiple=True,
    metavar="TENSOR=COLUMN,...",
    help="Columns of DATA (or arrays of --outputs) that are the model's answers.",
)
@click.option("--outputs", "predictions", type=_READ, help="The model's answers: a file with an array or column each.")
@click.option(
    "--scores",
    default="",
    metavar="OUTPUT,...",
    help="Outputs of probabilities whose numbers count too, not only the greatest: finds scores that moved.",
)
@click.option("--categorical", default="", metavar="COLUMN,...", help="Columns of numbers that are categories.")
@click.option("--drop", default="", metavar="COLUMN,...", help="Columns to leave out.")
@click.option("--bins", default=10, show_default=True, type=click.IntRange(2, 64), help="Bins of a number.")
@click.option("--delimiter", default=",", show_default=True, metavar="CHARACTER", help="Between the cells of a CSV.")
@click.option("-o", "--out", type=_FILE, help="Where to write the profile; default is standard output.")
@click.option("--configmap", metavar="NAME", help="Write a ConfigMap of this name with the key profile.json instead.")
@click.option("--embed", type=_READ, metavar="CONFIG.PBTXT", help="Put it into this model configuration instead.")
@click.option("--parameter", default="profile", show_default=True, help="Parameter of the configuration for --embed.")
def make(
    data: Path,
    model: str,
    inputs: tuple[str, ...],
    answers: tuple[str, ...],
    predictions: Path | None,
    scores: str,
    categorical: str,
    drop: str,
    bins: int,
    delimiter: str,
    out: Path | None,
    configmap: str | None,
    embed: Path | None,
    parameter: str,
) -> None:
    """Make a profile of DATA (.csv, .csv.gz, .parquet, .npz): shares in bins, never values.

    Numbers get bins of equal share, words their 32 commonest categories. Parquet needs modelrollout[profile].
    """
    from modelrollout.profile import files, tables
    from modelrollout.profile.making import make as make_profile
    from modelrollout.profile.model import ProfileError, dump

    if configmap and embed:
        raise click.UsageError("give --configmap or --embed, not both")
    if configmap is not None:
        check_name("--configmap", configmap)
    separator = "\t" if delimiter == "\\t" else delimiter
    if len(separator) != 1 or separator in '"\r\n':
        raise click.UsageError(f"--delimiter {delimiter!r}: give one character, or \\t")
    reading = _Reading(data)
    try:
        answering = [] if predictions is not None else _columns_of(answers)
        dropped = tables.names_of(drop)
        table = files.read(data, separator, {*dropped} - {*answering}, reading.tell)
        columns = tables.columns(table, inputs, tables.names_of(categorical), [*dropped, *answering])
        source = files.read(predictions, separator) if predictions is not None else table
        given = tables.outputs(source, answers) if predictions is not None or answers else {}
        made = make_profile(model, columns, given, bins, tables.names_of(scores))
    except ProfileError as error:
        raise Complaint(str(error), Exit.INVALID) from error
    reading.done()
    _warn(made, [column.name for column in columns])
    text = dump(made)
    if embed is not None:
        _embed(embed, parameter, made)
        out = embed
    else:
        _write(out, _config_map(configmap, text) if configmap else text)
    where = f" -> {out}" if out else ""
    click.echo(f"{_many(made.samples, 'row')}, {_parts(made)}{where}", err=True)


@profile.command()
@click.argument("file", type=_READ)
def show(file: Path) -> None:
    """Show a profile (or the ConfigMap that has it) as a table: a bar for each bin."""
    found = _read(file)
    click.echo(f"model {found.model}, made of {_many(found.samples, 'row')}")
    labels = next((part for part in found.outputs if part.kind == "label"), None)
    if labels is not None:
        classes = ", ".join(list(labels.classes)[:8])
        click.echo(f"label flips and true labels are those of output {labels.output}: {classes}")
    for what, parts in (("feature", found.features), ("output", found.outputs)):
        for part in parts:
            tensor = getattr(part, "input", None) or getattr(part, "output", "")
            index = list(getattr(part, "index", ()))
            click.echo(f"\n{what} {part.name}  ({part.kind}, {tensor}{index or ''})")
            for name, share in zip(part.bins, part.reference, strict=True):
                label = f"<= {name}" if part.kind == "numeric" and name not in ("+Inf", "missing") else name
                label = "above" if part.kind == "numeric" and name == "+Inf" else label
                click.echo(f"  {label[:32]:<32} {share:>7.2%} {'#' * round(share * 40)}".rstrip())


@profile.command()
@click.argument("file", type=_READ)
@click.option("--url", required=True, metavar="HOST:PORT", help="gRPC address of a Triton that serves the model.")
def check(file: Path, url: str) -> None:
    """Check whether a profile fits the model's inputs and outputs; exit code 6 if not."""
    from modelrollout.profile.contract import misfits

    if url.startswith(("http://", "https://")):
        raise click.UsageError("--url is an address of gRPC, HOST:PORT without http://, like 127.0.0.1:8001")
    found = _read(file)
    with plainly():
        problems = misfits(found, _contract(url, found.model))
    for what, why in problems.items():
        click.echo(f"{what}: {why}", err=True)
    if problems:
        raise Complaint(f"{len(problems)} of {len(found.features) + len(found.outputs)} parts do not fit", Exit.INVALID)
    click.echo(f"fits: {_parts(found)} of model {found.model}")


def _contract(url: str, model: str) -> Contract:
    import asyncio

    from modelrollout.observer.limits import Limits
    from modelrollout.observer.rpc import Askers

    async def ask() -> Contract:
        askers = Askers(lambda namespace, revision: url, Limits())
        try:
            return (await askers.contract("", url, model))[0]
        finally:
            await askers.close()

    try:
        return asyncio.run(ask())
    except OSError as error:
        raise Complaint(str(error)) from error


def _read(file: Path) -> Profile:
    from modelrollout.profile.model import ProfileError, parse

    try:
        return parse(_unwrapped(file, file.read_bytes()))
    except OSError as error:
        raise Complaint(f"{file}: cannot be read: {error.strerror}") from error
    except ProfileError as error:
        raise Complaint(f"{file}: {error}", Exit.INVALID) from error


def _unwrapped(file: Path, data: bytes) -> bytes | str:
    """The profile in a ConfigMap's manifest, JSON or YAML; any other text as it is."""
    import yaml

    if b"ConfigMap" not in data:
        return data
    try:
        body = json.loads(data) if data.lstrip().startswith(b"{") else yaml.safe_load(data)
    except (ValueError, RecursionError, yaml.YAMLError):
        return data
    if not isinstance(body, dict) or body.get("kind") != "ConfigMap":
        return data
    entries = body.get("data")
    text = entries.get(KEY) if isinstance(entries, dict) else None
    if not isinstance(text, str):
        raise Complaint(f"{file}: is a ConfigMap without the key {KEY}: give the profile itself", Exit.INVALID)
    return text


def _warn(made: Profile, columns: list[str]) -> None:
    """Say what of the columns is of no use."""
    there = {part.name for part in made.features}
    for name in columns:
        if name not in there:
            click.echo(f"{name}: left out, no row has a value", err=True)
    for part in made.features:
        if part.kind == "categorical" and part.other > _MUCH:
            click.echo(
                f"{part.name}: {part.other:.0%} of its rows are other, words too rare for a category (ids, dates and "
                "numbers with a decimal comma are words): drift in it is hardly seen: --drop it",
                err=True,
            )
    if made.samples < _FEW:
        click.echo(
            f"{_many(made.samples, 'row')} are few: by chance alone PSI is then about bins / rows",
            err=True,
        )


def _many(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _parts(found: Profile) -> str:
    return f"{_many(len(found.features), 'feature')}, {_many(len(found.outputs), 'output')}"


def _write(out: Path | None, text: str) -> None:
    if out is None:
        click.echo(text, nl=False)
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Complaint(f"{out}: cannot be written: {error.strerror}") from error


def _config_map(name: str, text: str) -> str:
    if len(text) > LARGEST_CONFIG_MAP:
        raise Complaint(
            f"the profile has {len(text)} bytes, too many for a ConfigMap: make fewer --bins, or use --embed",
            Exit.INVALID,
        )
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {KEY: text}}
    return json.dumps(body, indent=1) + "\n"


def _embed(file: Path, parameter: str, made: Profile) -> None:
    from modelrollout.profile.embedding import embed
    from modelrollout.profile.model import ProfileError

    try:
        text = embed(file.read_text(encoding="utf-8"), parameter, made.model_dump_json())
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Complaint(f"{file}: {error.strerror}") from error
    except ProfileError as error:
        raise Complaint(f"{file}: {error}", Exit.INVALID) from error


def _columns_of(wishes: tuple[str, ...]) -> list[str]:
    from modelrollout.profile.tables import names_of

    return [name for wish in wishes for name in names_of(wish.partition("=")[2])]


class _Reading:
    """Says how far the reading of a large file is, and of how many of its rows the profile is made."""

    def __init__(self, file: Path) -> None:
        self._file, self._rows, self._kept = file, 0, 0
        self._said = time.monotonic()

    def tell(self, rows: int, kept: int) -> None:
        self._rows, self._kept = rows, kept
        if time.monotonic() - self._said > _PATIENCE:
            self._said = time.monotonic()
            click.echo(f"{self._file}: {rows:,} rows read", err=True)

    def done(self) -> None:
        if self._kept < self._rows:
            click.echo(f"{self._file}: made of {self._kept:,} of {self._rows:,} rows, taken at random", err=True)
