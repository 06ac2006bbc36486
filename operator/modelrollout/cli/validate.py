"""``modelrollout validate``: the operator's own checks on ModelDeployment files, without a cluster."""

from __future__ import annotations

from pathlib import Path

import click
import yaml

from modelrollout.api.errors import InvalidSpec
from modelrollout.api.modeldeployment import parse_modeldeployment, revision_name
from modelrollout.evidence.check import guards_problem


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def validate(files: tuple[Path, ...]) -> None:
    """Check ModelDeployments in FILES; exit 1 and say what to change where one cannot be used."""
    bad = 0
    for path in files:
        try:
            documents = [document for document in yaml.safe_load_all(path.read_text("utf-8")) if document]
        except yaml.YAMLError as error:
            click.echo(f"{path}: is not YAML: {' '.join(str(error).split())}", err=True)
            bad += 1
            continue
        for document in documents:
            bad += _check(path, document)
    if bad:
        raise SystemExit(1)


def _check(path: Path, document: object) -> int:
    if not isinstance(document, dict) or document.get("kind") != "ModelDeployment":
        return 0
    try:
        deployment = parse_modeldeployment(document)
    except InvalidSpec as error:
        click.echo(f"{path}: {error}", err=True)
        return 1
    problem = guards_problem(deployment)
    if problem:
        click.echo(f"{path}: {problem}", err=True)
        return 1
    name = deployment.metadata.name
    click.echo(f"{path}: {name} is valid, revision {revision_name(name, deployment.spec)}")
    return 0
