"""``modelrollout status``: where a ModelDeployment is, once, live, or until it has arrived."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from modelrollout.cli.exits import Exit
from modelrollout.cli.failing import Complaint, plainly
from modelrollout.cli.options import (
    Place,
    colorful,
    duration,
    examples,
    name_argument,
    output_option,
    place_options,
    plain,
    usage,
    width,
    write_document,
    write_lines,
)

if TYPE_CHECKING:
    from modelrollout.cli.following import Following
    from modelrollout.cli.live import LiveGuards
    from modelrollout.cli.view.snapshot import Snapshot
    from modelrollout.cli.view.waiting import End

TICK = 1.0


@click.command(
    epilog=examples(
        "modelrollout status digits -n demo",
        "modelrollout status digits --watch",
        "modelrollout status digits --wait --timeout 30m     # in a pipeline, after kubectl apply",
        "modelrollout status digits --watch --prometheus http://localhost:9090     # the guards' values of this moment",
        "modelrollout status digits -o json | jq .rollout.guards",
    )
)
@name_argument
@click.option("-w", "--watch", is_flag=True, help="Draw it anew whenever it changes, until Ctrl-C.")
@click.option("--wait", "waits", is_flag=True, help="Wait until what the spec asks for serves, or never will.")
@click.option("--timeout", default="10m", show_default=True, callback=duration, help="How long --wait waits.")
@click.option(
    "--prometheus",
    metavar="URL",
    envvar="MODELROLLOUT_PROMETHEUS",
    help="Ask it for the guards' values now; without it they are those of the last change of the rollout.",
)
@output_option
@place_options
def status(
    place: Place,
    name: str,
    watch: bool,
    waits: bool,
    timeout: float,
    prometheus: str | None,
    output: str | None,
) -> None:
    """Show where the ModelDeployment NAME is: revisions, traffic, pods, guards, and the countdown of the hold.

    With --wait the exit code tells the end: 0 what the spec asks for serves and its bake is over, 3 it was rolled
    back or aborted, 4 it waits for a person, 5 the time is over, 6 the spec is invalid, 2 wrong usage, 1 anything
    else. The changes on the way go to standard error.
    """
    if watch and output:
        raise usage("--watch draws for people: leave -o away, or use kubectl get mdep -w -o json")
    with plainly():
        from modelrollout.cli.live import LiveGuards

        client = place.connect()
        guards = LiveGuards(prometheus)
        if not watch and not waits:
            from modelrollout.cli.reading import look

            _show(guards.fill(look(client, name), at_once=True), output)
            return
        from modelrollout.cli.following import Deleted, Following

        following = Following(client, name)
        try:
            end = _follow(following, guards, watch, time.monotonic() + timeout if waits else None)
        except Deleted:
            raise Complaint(f"ModelDeployment {client.namespace}/{name} was deleted") from None
        if end is None:
            return
        if output:
            _show(following.look(), output)
        click.echo(end.sentence, err=bool(output))
        raise SystemExit(int(end.code))


def _show(snapshot: Snapshot, output: str | None) -> None:
    if output:
        from modelrollout.cli.view.document import status_document

        write_document(status_document(snapshot), output)
        return
    from modelrollout.cli.view.tree import tree

    write_lines(tree(snapshot, width()))


def _follow(following: Following, guards: LiveGuards, watch: bool, deadline: float | None) -> End | None:
    """Show every change until the end, the deadline or Ctrl-C; None where nobody waited for an end."""
    from modelrollout.cli.view.waiting import End, ended

    screen = Screen(live=watch and sys.stdout.isatty(), quiet=not watch)
    try:
        while True:
            snapshot = guards.fill(following.look())
            screen.show(snapshot, following.trouble)
            end = ended(snapshot) if deadline is not None else None
            if end is not None:
                return end
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return End(Exit.TIMED_OUT, f"timed out: {snapshot.status.phase}, {snapshot.status.message}")
            following.changed(TICK if left is None else min(TICK, left))
    except KeyboardInterrupt:
        if deadline is not None:
            raise
        screen.leave()
        return None


class Screen:
    """Where the changes are shown: drawn in place on a terminal, else one line a change. ``quiet``: to stderr."""

    def __init__(self, *, live: bool, quiet: bool) -> None:
        self._live = live
        self._quiet = quiet
        self._height = 0
        self._last = ""

    def show(self, snapshot: Snapshot, trouble: str) -> None:
        """Show the state, unless it looks like the last one."""
        if self._live:
            self._draw(snapshot, trouble)
        else:
            self._append(snapshot, trouble)

    def leave(self) -> None:
        """Ctrl-C: the last picture stays, the prompt comes below the ^C."""
        if self._live:
            sys.stdout.write("\n")

    def _append(self, snapshot: Snapshot, trouble: str) -> None:
        from modelrollout.cli.view.text import stamp
        from modelrollout.cli.view.tree import short

        text = f"{short(snapshot)}{f'; not up to date: {trouble}' if trouble else ''}"
        if text != self._last:
            self._last = text
            click.echo(f"{stamp(snapshot.now)} {text}", err=self._quiet)

    def _draw(self, snapshot: Snapshot, trouble: str) -> None:
        import shutil

        from modelrollout.cli.view.text import Span, Tone, clipped, line, render
        from modelrollout.cli.view.tree import tree

        size = shutil.get_terminal_size()
        lines = [clipped(found, size.columns) for found in tree(snapshot, size.columns)]
        if trouble:
            lines.append(line(Span(f"not up to date: {trouble}"[: size.columns], Tone.BAD)))
        lines = lines[: size.lines - 1]
        picture = "\n".join(f"{text}\x1b[K" for text in render(lines, color=colorful(), plain=plain()).split("\n"))
        if picture == self._last:
            return
        # Up over the last picture, the new one line by line over it, and away with what is left below.
        up = f"\x1b[{self._height - 1}A\r" if self._height > 1 else "\r"
        sys.stdout.write(f"{up if self._height else ''}{picture}\x1b[J")
        sys.stdout.flush()
        self._height, self._last = len(lines), picture
