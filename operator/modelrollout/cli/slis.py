"""``modelrollout slis``: the ready-made measures that guards may use."""

from __future__ import annotations

import click

from modelrollout.cli.failing import plainly
from modelrollout.cli.options import examples, usage, width, write_document, write_lines

PROFILES = ("envoy-gateway", "istio", "traefik", "nginx-gateway-fabric")


@click.command(
    epilog=examples(
        "modelrollout slis",
        "modelrollout slis --name input-psi",
        "modelrollout slis --gateway istio -o json | jq '.[] | {name, needs}'",
    )
)
@click.option(
    "--gateway", default=PROFILES[0], show_default=True, type=click.Choice(PROFILES), help="Profile of the gateway."
)
@click.option("--name", metavar="SLI", help="Only this one, with its queries and all it needs.")
@click.option(
    "-o",
    "--output",
    default="table",
    show_default=True,
    type=click.Choice(["table", "json", "yaml"]),
    help="Form of the list.",
)
def slis(gateway: str, name: str | None, output: str) -> None:
    """List the SLIs that guards may use without a query of their own.

    Each has a unit, the direction that is worse, what must exist for it, and the PromQL behind it. Those of the gateway
    (error-ratio, request-rate, latencies) differ by its profile; those of Triton and of the observer do not. SLIs of
    policies go before these: `modelrollout plan` shows what a guard really asks.

    In the queries $revision is the arm, $pods its pods, $where the guard's where, $window its window and $cluster the
    names under which the gateway counts the arm.
    """
    with plainly():
        from dataclasses import asdict

        from modelrollout.cli.view.slis import detail, overview
        from modelrollout.evidence.listing import listed
        from modelrollout.evidence.slis import unknown

        found = listed(gateway)
        if name is not None:
            found = tuple(one for one in found if one.name == name)
            if not found:
                raise usage(unknown(name))
        if output != "table":
            write_document([_plain(asdict(one)) for one in found], output)
        else:
            write_lines(detail(found[0], width()) if name is not None else overview(found, width()))


def _plain(document: dict[str, object]) -> dict[str, object]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in document.items()}
