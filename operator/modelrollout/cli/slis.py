"""``modelrollout slis``: the ready-made measures that guards may use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from modelrollout.cli.exits import Exit
from modelrollout.cli.failing import Complaint, plainly
from modelrollout.cli.options import examples, files_option, usage, width, write_document, write_lines

if TYPE_CHECKING:
    from modelrollout.api.rolloutpolicy import SliDefinition

PROFILES = ("envoy-gateway", "istio", "traefik", "nginx-gateway-fabric")


@click.command(
    epilog=examples(
        "modelrollout slis",
        "modelrollout slis --name input-psi",
        "modelrollout slis -f policies.yaml",
        "modelrollout slis --gateway istio -o json | jq '.[] | {name, needs}'",
    )
)
@click.option(
    "--gateway", default=PROFILES[0], show_default=True, type=click.Choice(PROFILES), help="Profile of the gateway."
)
@files_option("File with policies whose SLIs are listed too; - is stdin. May be repeated.")
@click.option("--name", metavar="SLI", help="Only this one, with its queries and all it needs.")
@click.option(
    "-o",
    "--output",
    default="table",
    show_default=True,
    type=click.Choice(["table", "json", "yaml"]),
    help="Form of the list.",
)
def slis(gateway: str, paths: tuple[str, ...], name: str | None, output: str) -> None:
    """List the SLIs that guards may use without a query of their own.

    Each has a unit, the direction that is worse, what must exist for it, and the PromQL behind it. Those of the gateway
    (error-ratio, request-rate, latencies) differ by its profile; those of Triton and of the observer do not. SLIs of
    policies take the place of those of their name; of two policies in FILE that define one name the last counts here.
    `modelrollout plan` shows what a guard really asks.

    In the queries $revision is the arm, $pods its pods, $where the guard's where, $window its window and $cluster the
    names under which the gateway counts the arm.
    """
    with plainly():
        from dataclasses import asdict

        from modelrollout.cli.view.slis import detail, overview
        from modelrollout.evidence.listing import listed, overridden
        from modelrollout.evidence.slis import unknown

        found = overridden(listed(gateway), _defined(paths))
        if name is not None:
            found = tuple(one for one in found if one.name == name)
            if not found:
                raise usage(unknown(name))
        if output != "table":
            write_document([_plain(asdict(one)) for one in found], output)
        else:
            write_lines(detail(found[0], width()) if name is not None else overview(found, width()))


def _defined(paths: tuple[str, ...]) -> list[tuple[str, SliDefinition]]:
    """The SLIs of the policies in files with whose they are; raises a Complaint."""
    from modelrollout.cli.documents import read_documents
    from modelrollout.cli.policies import is_policy, policy_problem

    found: list[tuple[str, SliDefinition]] = []
    for document in (each for each in read_documents(paths) if is_policy(each)):
        policy, problem = policy_problem(document)
        if policy is None or problem:
            raise Complaint(f"{', '.join(paths)}: {problem}", Exit.INVALID)
        found += ((f"{policy.kind} {policy.metadata.name}", definition) for definition in policy.spec.slis)
    if paths and not found:
        raise Complaint(f"{', '.join(paths)}: no policy in it has an SLI", Exit.INVALID)
    return found


def _plain(document: dict[str, object]) -> dict[str, object]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in document.items()}
