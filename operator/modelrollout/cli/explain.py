"""``modelrollout explain``: why it is where it is."""

from __future__ import annotations

import click

from modelrollout.cli.failing import plainly
from modelrollout.cli.options import Place, examples, name_argument, place_options, width, write_lines


@click.command(epilog=examples("modelrollout explain digits -n demo"))
@name_argument
@place_options
def explain(place: Place, name: str) -> None:
    """Say in sentences why the ModelDeployment NAME is where it is.

    What serves, what the operator decided and why, the evidence of the decision (value, threshold, samples, query and
    time of each guard), what is not as it should be, what comes next, and what you can do.
    """
    with plainly():
        from modelrollout.cli.reading import look
        from modelrollout.cli.view.explain import explain as view

        write_lines(view(look(place.connect(), name), width()))
