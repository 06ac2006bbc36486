"""``modelrollout history``: attempts, revisions and commands."""

from __future__ import annotations

import click

from modelrollout.cli.failing import plainly
from modelrollout.cli.options import (
    Place,
    examples,
    name_argument,
    output_option,
    place_options,
    width,
    write_document,
    write_lines,
)


@click.command(
    epilog=examples(
        "modelrollout history digits -n demo",
        "modelrollout history digits -o json | jq '.attempts[] | {revision, outcome, seconds}'",
    )
)
@name_argument
@output_option
@place_options
def history(place: Place, name: str, output: str | None) -> None:
    """Show what was tried with the ModelDeployment NAME, and how it ended.

    The attempts with strategy, time taken, who commanded, and why; the revisions one can go back to, with where
    their models come from; and the last commands with who gave them.
    """
    with plainly():
        from modelrollout.cli.reading import look

        snapshot = look(place.connect(), name)
        if output:
            from modelrollout.cli.view.document import history_document

            write_document(history_document(snapshot), output)
            return
        from modelrollout.cli.view.history import history as view

        write_lines(view(snapshot, width()))
