"""``modelrollout validate``: the operator's own checks on ModelDeployments and policies in files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from modelrollout.api.base import GROUP, clean
from modelrollout.api.crd import RESOURCES
from modelrollout.api.errors import InvalidSpec
from modelrollout.api.modeldeployment import parse_modeldeployment, revision_name
from modelrollout.api.rolloutspec import PolicyKind
from modelrollout.cli.documents import NotYamlError, parsed
from modelrollout.cli.options import examples
from modelrollout.cli.policies import Policies, applied, in_documents, is_policy, policy_problem, unknown_slis
from modelrollout.cli.view.origins import origin_words
from modelrollout.evidence.check import guards_problem
from modelrollout.evidence.policies import Resolution

KINDS = tuple(resource.kind for resource in RESOURCES)


@click.command(
    epilog=examples("modelrollout validate digits.yaml", "modelrollout validate digits.yaml -f policies.yaml")
)
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "-f",
    "--filename",
    "more",
    multiple=True,
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The same as FILES, as kubectl has it; may be repeated.",
)
def validate(files: tuple[Path, ...], more: tuple[Path, ...]) -> None:
    """Check ModelDeployments and policies in FILES; exit 1 and say what to change where one cannot be used.

    Guards of policies that are in the files are merged into the ModelDeployments that use them, and it is told where
    each guard comes from. A policy that a ModelDeployment names and no file has is left out, and that is said. A
    RolloutPolicy without a namespace is taken for one of that of the ModelDeployment.
    """
    if not files and not more:
        raise click.UsageError("name at least one file")
    bad, documents = 0, list[tuple[Path, Any]]()
    for path in (*files, *more):
        try:
            found = parsed(path.read_text("utf-8"))
            problem = _unknown(found)
        except (NotYamlError, UnicodeDecodeError) as error:
            found, problem = [], str(error) if isinstance(error, NotYamlError) else f"is not UTF-8 text: {error}"
        documents += ((path, each) for each in found)
        if problem is not None:
            click.echo(f"{path}: {problem}", err=True)
            bad += 1
    everything = [document for _, document in documents]
    for path, document in documents:
        if is_policy(document):
            bad += _check_policy(path, document)
        elif isinstance(document, dict) and document.get("kind") == "ModelDeployment":
            bad += _check(path, document, everything)
    for sentence in _twice(everything):
        click.echo(sentence)
    if bad:
        raise SystemExit(1)


def _unknown(documents: list[Any]) -> str | None:
    """Why a file has something that was meant for us and is not checked; None where all is checked."""
    objects = [each for each in documents if isinstance(each, dict)]
    stranger = next((each for each in objects if _ours(each) and each.get("kind") not in KINDS), None)
    if stranger is not None:
        kind = clean(str(stranger.get("kind")), 63)
        return f"kind {kind} of {GROUP} is not known: there are {', '.join(KINDS)}"
    if not any(is_policy(each) or each.get("kind") == "ModelDeployment" for each in objects):
        return "has no ModelDeployment and no policy: there is nothing to check"
    return None


def _ours(document: dict[str, Any]) -> bool:
    return str(document.get("apiVersion")).partition("/")[0] == GROUP


def _check_policy(path: Path, document: dict[str, Any]) -> int:
    policy, problem = policy_problem(document)
    if policy is None or problem:
        click.echo(f"{path}: {problem}", err=True)
        return 1
    spec = policy.spec
    parts = [
        f"{len(part)} {word}{'' if len(part) == 1 else 's'}"
        for part, word in ((spec.guards, "guard"), (spec.slis, "SLI"))
        if part
    ]
    click.echo(f"{path}: {policy.kind} {policy.metadata.name} is valid, {' and '.join(parts)}")
    for sentence in unknown_slis(policy):
        click.echo(f"  not checked, unless another policy brings it: {sentence}")
    return 0


def _twice(documents: list[Any]) -> Iterator[str]:
    """Sentences about objects that are there more than once, as where two files were copied from one."""
    names = [
        (str(each.get("kind")), str(metadata.get("namespace") or ""), str(metadata.get("name")))
        for each in documents
        if isinstance(each, dict) and isinstance(metadata := each.get("metadata"), dict) and _ours(each)
    ]
    for (kind, namespace, name), count in Counter(names).items():
        if count > 1:
            where = f"{namespace}/" if namespace else ""
            yield f"{kind} {where}{name} is in these files {count} times: the last one counts, as with kubectl apply"


def _check(path: Path, document: dict[str, Any], documents: list[Any]) -> int:
    try:
        wish = parse_modeldeployment(document)
    except InvalidSpec as error:
        click.echo(f"{path}: {error}", err=True)
        return 1
    # What is in no file may be in the cluster.
    policies = Policies(in_documents(documents, wish.metadata.namespace).known, frozenset(PolicyKind))
    resolution, notes = applied(wish, policies)
    problem = resolution.problem or resolution.explained(
        guards_problem(resolution.wish, definitions=resolution.definitions)
    )
    if problem:
        click.echo(f"{path}: {problem}", err=True)
        return 1
    name = wish.metadata.name
    click.echo(f"{path}: {name} is valid, revision {revision_name(name, wish.spec)}")
    for line in (*_guards(resolution), *(f"not checked: {note}" for note in notes)):
        click.echo(f"  {line}")
    return 0


def _guards(resolution: Resolution) -> Iterator[str]:
    """One line a guard, where a policy has to do with it."""
    told = {origin.guard: origin_words(origin) for origin in resolution.origins}
    if any(told.values()):
        for guard, where in told.items():
            yield f"guard {guard}: {where or 'its own'}"
