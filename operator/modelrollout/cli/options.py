"""What the commands for people share: which cluster, which object, which form of output."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from modelrollout.cli.exits import Exit
from modelrollout.cli.failing import Complaint

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from modelrollout.adapters.userclient import UserClient
    from modelrollout.cli.view.text import Line

Command = TypeVar("Command", bound=Callable[..., Any])
Item = TypeVar("Item")


@dataclass(frozen=True)
class Place:
    """Where the person works."""

    kubeconfig: str | None
    context: str | None
    namespace: str | None

    def connect(self, timeout: float = 10.0) -> UserClient:
        """Log in; ``namespace`` of the client is the one that was asked for, or that of the context."""
        from modelrollout.adapters.userclient import UserClient

        client = UserClient(self.kubeconfig, self.context, timeout=timeout)
        if self.namespace:
            client.namespace = self.namespace
        return client


def place_options(command: Command) -> Command:
    """Add ``-n``, ``--context`` and ``--kubeconfig``; the command gets them as ``place``."""

    def gathered(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
        known = ctx.meta.setdefault("modelrollout.place", {})
        known[str(parameter.name)] = value
        ctx.params["place"] = Place(known.get("kubeconfig"), known.get("context"), known.get("namespace"))
        return value

    for flags, words in (
        (("--kubeconfig",), "Kubeconfig to use. Default: $KUBECONFIG, else ~/.kube/config."),
        (("--context",), "Context of the kubeconfig. Default: its current one."),
        (("-n", "--namespace"), "Namespace. Default: that of the context."),
    ):
        command = click.option(*flags, help=words, callback=gathered, expose_value=False)(command)
    return command


def name_argument(command: Command) -> Command:
    """Add NAME, which may be written like kubectl does: ``mdep/digits``."""
    return click.argument("name", callback=_bare, shell_complete=_names)(command)


def _bare(_: click.Context, __: click.Parameter, value: str) -> str:
    kind, slash, name = value.rpartition("/")
    if slash and kind.lower().partition(".")[0] not in ("mdep", "modeldeployment", "modeldeployments"):
        raise click.BadParameter(f"{kind} is no kind that this command knows: give the name of a ModelDeployment")
    if not name:
        raise click.BadParameter("give the name of a ModelDeployment")
    return name


def _names(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(name) for name in names_in(ctx) if name.startswith(incomplete)]


def revisions(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The revisions of the ModelDeployment that the command line names so far."""
    from click.shell_completion import CompletionItem

    owner = str(ctx.params.get("name") or "")
    return [
        CompletionItem(name)
        for name in names_in(ctx, "ModelRevision")
        if name.startswith(incomplete) and name.rpartition("-")[0] == (owner or name.rpartition("-")[0])
    ]


def names_in(ctx: click.Context, kind: str = "ModelDeployment") -> list[str]:
    """The names of such objects for a completion, which must be quick and silent whatever happens."""
    place = ctx.params.get("place") or Place(None, None, None)
    try:
        client = place.connect(timeout=2.0)
        found, _ = client.list_objects(kind, client.namespace)
    except Exception:  # noqa: BLE001 - a shell that completes has no place for words
        return []
    return sorted(str(item["metadata"]["name"]) for item in found)


def output_option(command: Command) -> Command:
    """Add ``-o json|yaml``; None is the form for people."""
    return click.option(
        "-o", "--output", type=click.Choice(["json", "yaml"]), help="Print a document for programs instead."
    )(command)


def files_option(words: str, *, required: bool = False) -> Callable[[Command], Command]:
    """Add ``-f FILE``, any number of times; the command gets them as ``paths``. ``words`` is the help."""
    return click.option("-f", "--filename", "paths", required=required, multiple=True, metavar="FILE", help=words)


def write_document(document: object, output: str) -> None:
    """Print ``document`` as JSON or YAML."""
    if output == "json":
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        import yaml

        click.echo(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110), nl=False)


def write_lines(lines: Iterable[Line]) -> None:
    """Print lines for people, as this terminal can show them."""
    from modelrollout.cli.view.text import render

    click.echo(render(lines, color=colorful(), plain=plain()), color=True)


def write_each(
    items: Sequence[Item],
    output: str | None,
    document: Callable[[Item], object],
    lines: Callable[[Item, int | None], Iterable[Line]],
) -> None:
    """Print all ``items`` as one JSON or YAML list, or one after the other for people, with a line between them."""
    from modelrollout.cli.view.text import line

    if output:
        write_document([document(item) for item in items], output)
        return
    for number, item in enumerate(items):
        write_lines([*([line("")] if number else []), *lines(item, width())])


def colorful() -> bool:
    """Whether standard output takes colours: a terminal, and NO_COLOR is not set."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def plain() -> bool:
    """Whether standard output cannot show more than ASCII."""
    return not (sys.stdout.encoding or "ascii").lower().replace("-", "").startswith("utf")


def width() -> int | None:
    """Columns of the terminal; None where there is none and nothing shall be wrapped."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def examples(*lines: str) -> str:
    """An epilog with examples that click does not wrap."""
    return "\b\nExamples:\n" + "\n".join(f"  {found}" for found in lines)


def duration(_: click.Context, __: click.Parameter, value: str) -> float:
    """Seconds of ``90s``, ``10m`` or a plain number."""
    from modelrollout.api.durations import parse_duration

    try:
        return float(value) if value.replace(".", "", 1).isdigit() else parse_duration(value).total_seconds()
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def usage(sentence: str) -> Complaint:
    """A complaint about how the command was called."""
    return Complaint(sentence, Exit.USAGE)
