"""The commands of a person: write the annotation, wait until the operator has handled it, say what came of it."""

from __future__ import annotations

import difflib
import secrets
import time
from typing import TYPE_CHECKING

import click

from modelrollout.cli.exits import Exit
from modelrollout.cli.failing import Complaint, plainly
from modelrollout.cli.options import Place, duration, examples, name_argument, place_options, revisions
from modelrollout.ports import ConflictError

if TYPE_CHECKING:
    from modelrollout.adapters.userclient import UserClient
    from modelrollout.cli.view.steering import Result

ANSWERS = """Exit codes: 0 carried out, 3 refused, 5 not handled in time, 2 wrong usage, 1 anything else."""

RETRY_SECONDS = 0.5


def _command(verb: str, summary: str, explanation: str, *lines: str) -> click.Command:
    """A command that takes nothing but NAME."""

    @click.command(verb, help=f"{summary}\n\n{explanation}\n\n{ANSWERS}", epilog=examples(*lines))
    @name_argument
    @_wait_option
    @place_options
    def run(place: Place, name: str, wait: float) -> None:
        steer(place, name, verb, wait)

    return run


def _wait_option(command: click.decorators.FC) -> click.decorators.FC:
    return click.option(
        "--wait",
        default="10s",
        show_default=True,
        callback=duration,
        help="How long to wait until the operator has handled the command; 0 does not wait.",
    )(command)


@click.command(
    help="Let the ModelDeployment NAME go on where it waits for a person.\n\n"
    "With --full the candidate goes to all traffic without its remaining steps, also where nothing waits; its guards "
    f"stay on and the bake follows.\n\n{ANSWERS}",
    epilog=examples("modelrollout promote digits", "modelrollout promote digits --full -n demo"),
)
@name_argument
@click.option("--full", is_flag=True, help="To all traffic at once, without the remaining steps.")
@_wait_option
@place_options
def promote(place: Place, name: str, full: bool, wait: float) -> None:
    """Write promote or promote:full."""
    steer(place, name, "promote:full" if full else "promote", wait)


@click.command(
    help="Take the attempt under way back, or go back to a revision that served before.\n\n"
    "Without --to it is the revision that served before the one that serves now. A revision within the history is "
    f"known good: it passes its gates and gets all traffic in one step.\n\n{ANSWERS}",
    epilog=examples(
        "modelrollout rollback digits",
        "modelrollout rollback digits --to digits-a15d15ce70",
        "modelrollout rollback digits --to a15d15ce70      # the hash alone will do",
        "modelrollout history digits                       # which there are",
    ),
)
@name_argument
@click.option(
    "--to",
    "revision",
    metavar="REVISION",
    shell_complete=revisions,
    help="Revision to go back to: its name, hash or version.",
)
@_wait_option
@place_options
def rollback(place: Place, name: str, revision: str | None, wait: float) -> None:
    """Write rollback or rollback:<revision>."""
    steer(place, name, "rollback", wait, revision)


abort = _command(
    "abort",
    "Give the attempt of the ModelDeployment NAME up.",
    "All traffic goes back to the revision that served before; the candidate is quarantined until retry.",
    "modelrollout abort digits",
)
pause = _command(
    "pause",
    "Freeze the steps of the ModelDeployment NAME.",
    "Guards stay on and still take a bad candidate back. Git keeps its spec: this is not spec.rollout.paused.",
    "modelrollout pause digits",
)
resume = _command(
    "resume",
    "Let the steps of the ModelDeployment NAME go on after pause.",
    "A pause by spec.rollout.paused is lifted in the spec.",
    "modelrollout resume digits",
)
retry = _command(
    "retry",
    "Try the revision that the spec of NAME asks for once more, after it was rolled back or aborted.",
    "It goes all its steps again.",
    "modelrollout retry digits && modelrollout status digits --wait",
)
skip_step = _command(
    "skip-step",
    "End the hold of the step (or bake) under way.",
    "The next step begins once every guard passes.",
    "modelrollout skip-step digits",
)
retrain = _command(
    "retrain",
    "Call the webhook that spec.observation.drift.retraining of NAME names.",
    "Once a command: the operator tells the result as an event, RetrainingRequested or RetrainingFailed.",
    "modelrollout retrain digits",
)


def steer(place: Place, name: str, wish: str, wait: float, target: str | None = None) -> None:
    """Give the command ``wish`` and report what came of it; exits with its code."""
    from modelrollout.cli.view.steering import annotation

    with plainly():
        client = place.connect()
        before = _given(client, name)
        if target:
            wish = f"{wish}:{_revision(client, name, target)}"
        value = annotation(wish, f"{client.now():%Y%m%dT%H%M%S}-{secrets.token_hex(3)}", client.whoami())
        if before:
            click.echo(f"takes the place of {before}, which was not handled yet", err=True)
        result = _give(client, name, value, wait)
        click.echo(result.sentence, err=result.code != Exit.DONE)
        raise SystemExit(int(result.code))


def _given(client: UserClient, name: str) -> str:
    """The command that waits to be handled; empty where none does."""
    from modelrollout.cli.reading import find
    from modelrollout.cli.view.steering import pending

    return pending(find(client, name))


def _give(client: UserClient, name: str, value: str, wait: float) -> Result:
    """Write the annotation, then watch until it is handled, replaced, or the time is over."""
    from modelrollout.adapters.userclient import WatchExpired
    from modelrollout.cli.view.snapshot import COMMAND
    from modelrollout.cli.view.steering import Result, result_of

    body = {"metadata": {"annotations": {COMMAND: value}}}
    try:
        stored = client.merge_patch("ModelDeployment", client.namespace, name, body)
    except ConflictError as error:
        raise Complaint(f"the ModelDeployment {name} was deleted meanwhile") from error
    until = time.monotonic() + wait
    field = f"metadata.name={name}"
    while True:
        if (result := result_of(stored, value)) is not None:
            return result
        left = until - time.monotonic()
        if left <= 0:
            break
        version = str(stored["metadata"].get("resourceVersion") or "")
        try:
            for what, found in client.watch("ModelDeployment", client.namespace, version, field=field, seconds=left):
                if what == "DELETED":
                    raise Complaint(f"the ModelDeployment {name} was deleted meanwhile")
                stored = found if what != "BOOKMARK" else stored
                if result_of(stored, value) is not None:
                    break
        except WatchExpired:
            time.sleep(RETRY_SECONDS)
            stored = client.get("ModelDeployment", client.namespace, name) or stored
    if wait <= 0:
        return Result(Exit.DONE, f"{value} is written; whether it is carried out was not waited for")
    return Result(
        Exit.TIMED_OUT,
        f"the operator did not handle the command within {wait:g} s: is it running, and does it look after namespace "
        f"{client.namespace}? The command stays, and acts once it is",
    )


def _revision(client: UserClient, name: str, target: str) -> str:
    """The full name of the revision that ``target`` means; a Complaint that lists near names where there is none."""
    from modelrollout.cli.reading import selector
    from modelrollout.cli.view.steering import meant

    records, _ = client.list_objects("ModelRevision", client.namespace, selector(name))
    found = meant(target, records)
    if len(found) == 1:
        return found[0]
    names = sorted(str(record["metadata"]["name"]) for record in records)
    if found:
        raise Complaint(f"{target} may be {' or '.join(found)}: give the whole name", Exit.USAGE)
    near = difflib.get_close_matches(target, names, n=3, cutoff=0.4) or names[:5]
    known = f"; did you mean {' or '.join(near)}?" if near else ": it has no revisions yet"
    raise Complaint(f"{name} has no revision {target}{known}", Exit.USAGE)
