"""The ``modelrollout`` command. Subcommands are imported when used: a model fetch must not load the operator."""

from __future__ import annotations

from importlib import import_module

import click
from typing_extensions import override

import modelrollout

COMMANDS = {
    "run": "modelrollout.cli.run:run",
    "fetch": "modelrollout.cli.fetch:fetch",
    "crds": "modelrollout.cli.crds:crds",
    "validate": "modelrollout.cli.validate:validate",
}


class LazyGroup(click.Group):
    """A group whose commands live in modules of their own."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name].split(":")
        command: click.Command = getattr(import_module(module), name)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(modelrollout.__version__, prog_name="modelrollout")
def main() -> None:
    """Roll out machine-learning models on Triton, and take bad ones back."""
