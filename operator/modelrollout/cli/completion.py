"""Shell completion: scripts for the shells, and the answers that kubectl asks of its plugins."""

from __future__ import annotations

import sys

import click
from click.shell_completion import ShellComplete, get_completion_class

from modelrollout.cli import main as everything
from modelrollout.cli import plugin
from modelrollout.cli.options import examples

NO_FILES, FILES = 4, 0
"""What kubectl (cobra) calls ShellCompDirectiveNoFileComp and ShellCompDirectiveDefault."""

SHELLS = ("bash", "zsh", "fish")


@click.command(
    epilog=examples(
        "source <(modelrollout completion bash)                     # this shell",
        "modelrollout completion bash > /etc/bash_completion.d/modelrollout",
        'modelrollout completion zsh > "${fpath[1]}/_modelrollout"',
        "modelrollout completion fish > ~/.config/fish/completions/modelrollout.fish",
    )
)
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the completion script of SHELL for the command modelrollout.

    kubectl completes its plugins by itself once kubectl_complete-modelrollout is on the PATH, where installing this
    package puts it; kubectl 1.26 or newer and its own completion are needed.
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.ClickException(f"click knows no completion for {shell}")
    click.echo(kind(everything, {}, "modelrollout", "_MODELROLLOUT_COMPLETE").source())


def complete_for_kubectl() -> None:
    """Answer ``kubectl_complete-modelrollout <words> <word to complete>`` as cobra does: values, then a directive."""
    *words, incomplete = sys.argv[1:] or [""]
    for found in answers(words, incomplete):
        sys.stdout.write(f"{found}\n")


def answers(words: list[str], incomplete: str) -> list[str]:
    """One completion a line with its help behind a tab, and the directive."""
    found = ShellComplete(plugin, {}, "kubectl modelrollout", "").get_completions(words, incomplete)
    lines = [f"{item.value}\t{item.help}" if item.help else str(item.value) for item in found if item.type == "plain"]
    files = any(item.type in ("file", "dir") for item in found)
    return [*lines, f":{FILES if files else NO_FILES}"]
