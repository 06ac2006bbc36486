"""The ``modelrollout`` command. Subcommands are imported when used: a model fetch must not load the operator."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

import click
from click.shell_completion import CompletionItem
from typing_extensions import override

import modelrollout

SEEING = "Look"
STEERING = "Steer"
WRITING = "Check and set up"
RUNNING = "Run"


@dataclass(frozen=True)
class Entry:
    """Where a subcommand is, and its line in the help, for which nothing shall be imported."""

    place: str
    section: str
    summary: str


COMMANDS = {
    "status": Entry("status:status", SEEING, "Where a ModelDeployment is: once, live (--watch), or wait for its end."),
    "explain": Entry("explain:explain", SEEING, "Why it is where it is, in sentences with the evidence."),
    "history": Entry("history:history", SEEING, "Attempts, revisions and commands, with who and why."),
    "plan": Entry("plan:plan", WRITING, "What applying a file would do: steps, room, guards with today's values."),
    "slis": Entry("slis:slis", WRITING, "The ready-made measures that guards may use, with unit and PromQL."),
    "backtest": Entry("backtest:backtest", WRITING, "How often guards would have fired over the history."),
    "promote": Entry("steering:promote", STEERING, "Go on where a person is waited for; --full: to all traffic."),
    "abort": Entry("steering:abort", STEERING, "Give the attempt up; its revision is quarantined."),
    "pause": Entry("steering:pause", STEERING, "Freeze the steps; guards stay on."),
    "resume": Entry("steering:resume", STEERING, "Let the steps go on after pause."),
    "skip-step": Entry("steering:skip_step", STEERING, "End the hold of the step or bake under way."),
    "retrain": Entry("steering:retrain", STEERING, "Call the webhook for retraining."),
    "retry": Entry("steering:retry", STEERING, "Try the quarantined revision of the spec again."),
    "rollback": Entry("steering:rollback", STEERING, "Go back, to the revision before or to any in the history."),
    "completion": Entry("completion:completion", WRITING, "Print the completion script of a shell."),
    "run": Entry("run:run", RUNNING, "Run the operator."),
    "profile": Entry("profile:profile", WRITING, "Make and check the reference profile of a model's data."),
    "golden": Entry("golden:golden", WRITING, "Record, check and embed golden sets of a model."),
    "labels": Entry("labels:labels", WRITING, "Send true labels to the observer."),
    "observe": Entry("observe:observe", RUNNING, "Run the observer of a namespace."),
    "fetch": Entry("fetch:fetch", RUNNING, "Fetch a model repository; runs in the pods."),
    "crds": Entry("crds:crds", RUNNING, "Write or check the CustomResourceDefinitions."),
    "validate": Entry("validate:validate", WRITING, "Check ModelDeployment files without a cluster."),
}


class LazyGroup(click.Group):
    """A group whose commands live in modules of their own."""

    sections: tuple[str, ...] = (SEEING, STEERING, WRITING, RUNNING)

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, entry in COMMANDS.items() if entry.section in self.sections]

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None or entry.section not in self.sections:
            return None
        module, name = entry.place.split(":")
        command: click.Command = getattr(import_module(f"modelrollout.cli.{module}"), name)
        return command

    @override
    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        found = [
            CompletionItem(name, help=COMMANDS[name].summary)
            for name in self.list_commands(ctx)
            if name.startswith(incomplete)
        ]
        # Not the group's own, which would import every command for its help.
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section in self.sections:
            rows = [(name, entry.summary) for name, entry in COMMANDS.items() if entry.section == section]
            if rows:
                with formatter.section(section):
                    formatter.write_dl(rows)


class PluginGroup(LazyGroup):
    """What a person needs: the operator is not run by kubectl."""

    sections = (SEEING, STEERING, WRITING)


SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=LazyGroup, context_settings=SETTINGS)
@click.version_option(modelrollout.__version__, prog_name="modelrollout")
def main() -> None:
    """Roll out machine-learning models on Triton, and take bad ones back."""


@click.group(cls=PluginGroup, context_settings=SETTINGS)
@click.version_option(modelrollout.__version__, prog_name="kubectl modelrollout")
def plugin() -> None:
    """See and steer the rollouts of machine-learning models (ModelDeployments)."""


def run_plugin() -> None:
    """Be ``kubectl modelrollout``."""
    plugin(prog_name="kubectl modelrollout")
