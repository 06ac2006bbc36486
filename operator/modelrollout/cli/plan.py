"""``modelrollout plan``: what applying a file would do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from modelrollout.cli.documents import read_documents
from modelrollout.cli.exits import Exit
from modelrollout.cli.failing import Complaint, plainly
from modelrollout.cli.options import Place, examples, files_option, output_option, place_options, write_each
from modelrollout.ports import DeniedError, PortError, TransientError

if TYPE_CHECKING:
    from modelrollout.adapters.userclient import UserClient
    from modelrollout.cli.policies import Policies
    from modelrollout.cli.view.plan import Outlook


@click.command(
    epilog=examples(
        "modelrollout plan -f digits.yaml",
        "modelrollout plan -f digits.yaml -f policies.yaml",
        "modelrollout plan -f digits.yaml --prometheus http://localhost:9090   # after a port-forward",
        "kustomize build overlay | modelrollout plan -f -",
        "modelrollout plan -f digits.yaml -o json | jq '.[0].effect'",
    )
)
@files_option("File with ModelDeployments and policies; - is stdin. May be repeated.", required=True)
@click.option("--prometheus", metavar="URL", help="Prometheus to ask. Default: that of the operator's settings.")
@click.option(
    "--settings",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The operator's settings file. Default: its ConfigMap in the cluster.",
)
@output_option
@place_options
def plan(
    place: Place, paths: tuple[str, ...], prometheus: str | None, settings: Path | None, output: str | None
) -> None:
    """Say what applying FILE would do; nothing is changed.

    Checks it as validate does, then tells against the live object: whether there is a new revision, by which steps it
    goes and when, whether the pods have room on the pool's nodes, and what each guard asks, with today's values of
    what serves. Guards of policies are merged in, of those in FILE and of those in the cluster, and it is told where
    each guard comes from. Without a cluster it tells what it can.

    Exit codes: 0 it can be carried out, 6 it is invalid, 2 wrong usage, 1 anything else. Too little room is said,
    and is no failure: nodes may come.
    """
    with plainly():
        documents, beside = _documents(paths)
        client, note = _connected(place)
        outlooks: list[Outlook] = []
        wrong: list[str] = []
        for document in documents:
            found = _outlook(document, place, client, note, settings, prometheus, beside)
            if isinstance(found, str):
                wrong.append(found)
            else:
                outlooks.append(found)
        from modelrollout.cli.view.plan import plan_document, plan_lines

        write_each(outlooks, output, plan_document, plan_lines)
        for sentence in wrong:
            click.echo(f"{', '.join(paths)}: {sentence}", err=True)
        if wrong or any(outlook.problems for outlook in outlooks):
            raise SystemExit(int(Exit.INVALID))


def _documents(paths: tuple[str, ...]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The ModelDeployments of the files, and what else is in them."""
    objects = read_documents(paths)
    found = [item for item in objects if item.get("kind") == "ModelDeployment"]
    if not found:
        raise Complaint(f"{', '.join(paths)} has no ModelDeployment", Exit.INVALID)
    return found, [item for item in objects if item.get("kind") != "ModelDeployment"]


def _connected(place: Place) -> tuple[UserClient | None, str]:
    """The way to the cluster, or why there is none: a plan tells something without it too."""
    try:
        client = place.connect()
        client.list_objects("ModelDeployment", client.namespace)
    except DeniedError:
        return client, ""
    except TransientError as error:
        if place.context or place.kubeconfig:
            raise
        return None, f"without the cluster: {error}"
    return client, ""


def _outlook(
    document: dict[str, Any],
    place: Place,
    client: UserClient | None,
    note: str,
    settings_path: Path | None,
    url: str | None,
    beside: list[dict[str, Any]],
) -> Outlook | str:
    """What is to be told of one ModelDeployment, or the sentence that says what is wrong with it."""
    from modelrollout.adapters.clock import SystemClock
    from modelrollout.api.errors import InvalidSpec
    from modelrollout.api.modeldeployment import parse_modeldeployment
    from modelrollout.cli import surroundings
    from modelrollout.cli.policies import applied
    from modelrollout.cli.view.cautions import cautions
    from modelrollout.cli.view.plan import Outlook
    from modelrollout.cli.view.proposal import TRIED, propose
    from modelrollout.render.revision import settings_problem

    metadata = dict(document.get("metadata") or {})
    namespace = place.namespace or metadata.get("namespace") or (client.namespace if client else "default")
    try:
        wish = parse_modeldeployment({**document, "metadata": {**metadata, "namespace": namespace}})
    except InvalidSpec as error:
        return str(error)
    resolution, told = applied(wish, _policies(client, str(namespace), beside))
    known = surroundings.operator_settings(client, str(namespace), settings_path)
    problem = resolution.problem or surroundings.guards_problem_of(resolution, known.settings)
    if problem:
        return problem
    live, notes = _live(client, str(namespace), wish.metadata.name) if client else (None, [note])
    notes += [*told, known.note]
    unusable = settings_problem(resolution.wish, known.settings) if known.settings else None
    proposal = propose(wish, live, resolution.wish.spec.rollout)
    room, room_note = (
        surroundings.free_room(client, wish, known.settings, proposal.extra) if proposal.extra else (None, "")
    )
    now = client.now() if client else SystemClock().now()
    guards, guards_note = surroundings.checked_guards(resolution, live, known.settings, url, now)
    return Outlook(
        namespace=str(namespace),
        name=wish.metadata.name,
        pool=wish.spec.pool,
        proposal=proposal,
        problems=(unusable,) if unusable else (),
        room=room,
        room_note=room_note,
        guards=guards,
        guards_note=guards_note,
        cautions=cautions(resolution.wish, live, guards) if proposal.effect in TRIED else (),
        notes=tuple(text for text in notes if text),
    )


def _policies(client: UserClient | None, namespace: str, documents: list[dict[str, Any]]) -> Policies:
    """Those of the files, and those of the cluster where there is one."""
    from modelrollout.api.rolloutspec import PolicyKind
    from modelrollout.cli.policies import Policies, in_cluster, in_documents

    mine = in_documents(documents, namespace)
    return mine.over(in_cluster(client, namespace) if client else Policies(unread=frozenset(PolicyKind)))


def _live(client: UserClient, namespace: str, name: str) -> tuple[Any, list[str]]:
    """The live object with what belongs to it; None where there is none, and what could not be read."""
    from modelrollout.cli.reading import children_of
    from modelrollout.cli.view.snapshot import snapshot

    client.namespace = namespace
    try:
        deployment = client.get("ModelDeployment", namespace, name)
    except PortError as error:
        return None, [f"the live object cannot be read: {error}"]
    if deployment is None:
        return None, []
    children = children_of(client, name)
    return snapshot(deployment, children, client.now()), list(children.unreadable)
