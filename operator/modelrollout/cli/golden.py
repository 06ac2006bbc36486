"""``modelrollout golden``: record the answers of a running model as a golden set, check one, put it into a model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

import click

from modelrollout.cli.checking import check_address, check_name
from modelrollout.cli.exits import Exit
from modelrollout.cli.failing import Complaint, plainly
from modelrollout.cli.options import examples
from modelrollout.cli.pbtxt import PbtxtError, with_parameter
from modelrollout.ports import ModelError, PodTarget, Signature, Tensor, TensorSpec

if TYPE_CHECKING:
    from modelrollout.api.gates import OutputTolerance
    from modelrollout.evidence.golden import GoldenRequest

FILE = click.Path(dir_okay=False, path_type=Path)
READABLE = click.Path(exists=True, dir_okay=False, path_type=Path)
KEY = "golden.json"
WORDS = ("a", "bee", "sea", "", "deep", "ü")


class Server(Protocol):
    """What is asked of a model server."""

    async def signature(self, target: PodTarget) -> Signature:
        """Inputs and outputs."""

    async def infer(self, target: PodTarget, inputs: Sequence[Tensor], outputs: Sequence[str]) -> tuple[Tensor, ...]:
        """One request."""


def _server_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--model", required=True, help="The model, as clients call it."),
        click.option(
            "--url", required=True, help="Where it runs: host:port of gRPC, or http://host:port of REST (KServe v2)."
        ),
    ):
        command = option(command)
    return command


@click.group(
    epilog=examples(
        "modelrollout golden record requests.json --url 127.0.0.1:8001 --model digits -o golden.json",
        "modelrollout golden check golden.json --url 127.0.0.1:8001 --model digits",
    )
)
def golden() -> None:
    """Golden sets: stored requests with expected answers, replayed on every candidate before it gets traffic."""


@golden.command(
    epilog=examples(
        "modelrollout golden record requests.json --url 127.0.0.1:8001 --model digits -o golden.json",
        "modelrollout golden record --made-up 20 --url http://127.0.0.1:8000 --model digits "
        "--configmap digits-golden -o golden.yaml",
    )
)
@click.argument("requests", required=False, type=READABLE)
@_server_options
@click.option("--made-up", type=click.IntRange(1, 1000), help="Make up so many requests instead of reading a file.")
@click.option("--seed", default=0, show_default=True, help="Other made-up requests for another number.")
@click.option("--output", "outputs", multiple=True, help="Record this output only; may be repeated. Default: all.")
@click.option("-o", "--to", "target", type=FILE, required=True, help="The file to write.")
@click.option("--configmap", help="Write a ConfigMap of this name with the set under golden.json, for kubectl apply.")
@click.option("--embed", type=READABLE, help="Put the set into this config.pbtxt as well.")
@click.option("--parameter", default="golden_set", show_default=True, help="Name of the parameter for --embed.")
def record(
    requests: Path | None,
    url: str,
    model: str,
    made_up: int | None,
    seed: int,
    outputs: tuple[str, ...],
    target: Path,
    configmap: str | None,
    embed: Path | None,
    parameter: str,
) -> None:
    """Ask a running model and keep its answers as the expected ones.

    REQUESTS is JSON: a list of KServe v2 request bodies, one such body, or an older golden set. What the model answers
    now is taken for right: look at it before you rely on it.
    """
    from modelrollout.evidence.golden import GoldenError, read_requests, write_golden

    if (requests is None) == (made_up is None):
        raise Complaint("give a file of requests, or --made-up N", Exit.USAGE)
    if configmap is not None:
        check_name("--configmap", configmap)
    try:
        given = () if requests is None else read_requests(_text(requests))
        with plainly():
            recorded, unsteady = asyncio.run(_recorded(url, model, given, made_up or 0, seed, outputs))
        text = write_golden(model, recorded)
        config = None if embed is None else with_parameter(_text(embed), parameter, text)
    except GoldenError as error:
        raise Complaint(f"{requests or 'the set'}: {error}", Exit.INVALID) from error
    except PbtxtError as error:
        raise Complaint(f"{embed}: {error}", Exit.INVALID) from error
    _write(target, text if configmap is None else _config_map(configmap, text))
    click.echo(f"wrote {target}: {_counted(recorded)}")
    if embed is not None and config is not None:
        _write(embed, config)
        click.echo(f"wrote {embed}: parameter {parameter}")
    for name in unsteady:
        click.echo(f"output {name} differs when asked twice: give it a tolerance, topK or ignore", err=True)


@golden.command(epilog=examples("modelrollout golden check golden.json --url 127.0.0.1:8001 --model digits"))
@click.argument("file", type=READABLE)
@_server_options
@click.option("--relative", multiple=True, metavar="OUTPUT=SHARE", help="Tolerance as a share of what is expected.")
@click.option("--absolute", multiple=True, metavar="OUTPUT=NUMBER", help="Tolerance as a number.")
@click.option("--top-k", multiple=True, metavar="OUTPUT=K", help="Compare which the K greatest entries are.")
@click.option("--ignore", multiple=True, metavar="OUTPUT", help="Do not compare this output.")
def check(
    file: Path,
    url: str,
    model: str,
    relative: tuple[str, ...],
    absolute: tuple[str, ...],
    top_k: tuple[str, ...],
    ignore: tuple[str, ...],
) -> None:
    """Replay a golden set on a running model, as the gate does; exit code 1 when an answer is another one."""
    from modelrollout.evidence.golden import GoldenError, misfit, read_golden

    tolerances = _tolerances(relative, absolute, top_k, ignore)
    try:
        requests = read_golden(_text(file))
        with plainly():
            signature, wrong = asyncio.run(_checked(url, model, requests, tolerances))
        problem = misfit(requests, signature, tuple(tolerances.values()))
    except GoldenError as error:
        raise Complaint(f"{file}: {error}", Exit.INVALID) from error
    if problem:
        raise Complaint(f"{file}: {problem}", Exit.INVALID)
    for line in wrong:
        click.echo(line)
    if wrong:
        was = "was" if len(wrong) == 1 else "were"
        raise Complaint(f"{len(wrong)} of {_counted(requests)} {was} answered otherwise than expected")
    click.echo(f"{_counted(requests)} {'was' if len(requests) == 1 else 'were'} answered as expected")


@golden.command(epilog=examples("modelrollout golden embed golden.json models/digits/config.pbtxt"))
@click.argument("file", type=READABLE)
@click.argument("config", type=READABLE)
@click.option("--parameter", default="golden_set", show_default=True, help="Name of the parameter.")
def embed(file: Path, config: Path, parameter: str) -> None:
    """Put a golden set into the config.pbtxt of a model, so that both have one version."""
    from modelrollout.evidence.golden import GoldenError, read_golden

    text = _text(file)
    try:
        requests = read_golden(text)
        changed = with_parameter(_text(config), parameter, text)
    except GoldenError as error:
        raise Complaint(f"{file}: {error}", Exit.INVALID) from error
    except PbtxtError as error:
        raise Complaint(f"{config}: {error}", Exit.INVALID) from error
    _write(config, changed)
    click.echo(f"wrote {config}: parameter {parameter} with {_counted(requests)}")


async def _recorded(
    url: str, model: str, given: Sequence[GoldenRequest], made_up: int, seed: int, outputs: Sequence[str]
) -> tuple[list[GoldenRequest], list[str]]:
    """The requests with their answers, and the outputs that differ when the first request is asked twice."""
    from modelrollout.evidence.answers import compare
    from modelrollout.evidence.golden import GoldenError, GoldenRequest, misfit

    server, target = _server(url, model)
    signature = await server.signature(target)
    known = [tensor.name for tensor in signature.outputs]
    unknown = next((name for name in outputs if name not in known), None)
    if unknown is not None:
        raise Complaint(f"{model} has no output {unknown}: it has {', '.join(known)}", Exit.USAGE)
    asked = list(given) or _made_up(signature, made_up, Random(seed))  # noqa: S311 - not for secrets
    problem = misfit(asked, signature)
    if problem:
        raise GoldenError(problem)
    recorded: list[GoldenRequest] = []
    for request in asked:
        try:
            answer = await server.infer(target, request.inputs, outputs or known)
        except ModelError as error:
            hint = "" if given else ": it takes no made-up inputs, give it a file of requests"
            raise Complaint(f"{request.name} is refused ({error}){hint}") from error
        recorded.append(GoldenRequest(request.name, request.inputs, answer))
    again = await server.infer(target, recorded[0].inputs, outputs or known)
    unsteady = [one.name for one in recorded[0].outputs if compare((one,), again, {}).sentences]
    return recorded, unsteady


async def _checked(
    url: str, model: str, requests: Sequence[GoldenRequest], tolerances: dict[str, OutputTolerance]
) -> tuple[Signature, list[str]]:
    """What the model is, and of each request that it answers otherwise than expected what is wrong."""
    from modelrollout.evidence.answers import compare
    from modelrollout.evidence.golden import misfit

    server, target = _server(url, model)
    signature = await server.signature(target)
    ignored = {tolerance.output for tolerance in tolerances.values() if tolerance.ignore}
    wrong: list[str] = []
    if misfit(requests, signature, tuple(tolerances.values())):
        return signature, wrong
    for request in requests:
        try:
            names = [tensor.name for tensor in request.outputs if tensor.name not in ignored]
            answer = await server.infer(target, request.inputs, names)
        except ModelError as error:
            wrong.append(f"{request.name}: {error}")
            continue
        found = compare(request.outputs, answer, tolerances)
        if found.sentences:
            wrong.append("\n".join(f"{request.name}, {sentence}" for sentence in found.sentences))
    return signature, wrong


def _counted(requests: Sequence[GoldenRequest]) -> str:
    return f"{len(requests)} request{'' if len(requests) == 1 else 's'}"


def _server(url: str, model: str) -> tuple[Server, PodTarget]:
    scheme, found, rest = url.rpartition("://")
    if scheme in ("http", "https"):
        check_address("--url", url)
        from modelrollout.adapters.rest import RestModelServer

        return RestModelServer(url), PodTarget(rest, rest, 0, model)
    host, _, port = rest.strip("/").rpartition(":")
    if (found and scheme != "grpc") or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise Complaint(f"--url {url}: write host:port for gRPC, or http://host:port for REST", Exit.USAGE)
    from modelrollout.adapters.triton import TritonModelServer

    return TritonModelServer(), PodTarget(rest, host.strip("[]"), int(port), model)


def _made_up(signature: Signature, count: int, random: Random) -> list[GoldenRequest]:
    from modelrollout.evidence.golden import GoldenRequest

    needed = [tensor for tensor in signature.inputs if not tensor.optional]
    return [
        GoldenRequest(f"made up {number}", tuple(_invented(t, random) for t in needed), ()) for number in range(count)
    ]


def _invented(tensor: TensorSpec, random: Random) -> Tensor:
    """Numbers from 0 to 1 (whole ones to 9), one row; open dimensions are 1."""
    from modelrollout.evidence.golden import DATATYPES, FLOATS, MOST_NUMBERS, GoldenError, rounded

    shape = tuple(size if size >= 0 else 1 for size in tensor.shape)
    size = 1
    for each in shape:
        size *= each
    if size > MOST_NUMBERS or tensor.datatype not in DATATYPES:
        raise GoldenError(f"input {tensor.name} cannot be made up: give a file of requests")
    if tensor.datatype in FLOATS:
        return Tensor(
            tensor.name, tensor.datatype, shape, tuple(rounded([random.random() for _ in range(size)], tensor.datatype))
        )
    choices: tuple[Any, ...] = {"BOOL": (False, True), "BYTES": WORDS}.get(tensor.datatype, tuple(range(10)))
    return Tensor(tensor.name, tensor.datatype, shape, tuple(random.choice(choices) for _ in range(size)))


def _tolerances(
    relative: Sequence[str], absolute: Sequence[str], top_k: Sequence[str], ignore: Sequence[str]
) -> dict[str, OutputTolerance]:
    from pydantic import ValidationError

    from modelrollout.api.gates import OutputTolerance

    found: dict[str, dict[str, Any]] = {name: {"ignore": True} for name in ignore}
    for field, pairs, kind in (("relative", relative, float), ("absolute", absolute, float), ("top_k", top_k, int)):
        for pair in pairs:
            name, _, number = pair.rpartition("=")
            try:
                found.setdefault(name, {})[field] = kind(number)
            except ValueError:
                raise Complaint(f"--{field.replace('_', '-')} {pair}: write OUTPUT=NUMBER", Exit.USAGE) from None
    made: dict[str, OutputTolerance] = {}
    for name, fields in found.items():
        try:
            made[name] = OutputTolerance(output=name, **fields)
        except ValidationError as error:
            said = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
            raise Complaint(f"the tolerance of output {name!r}: {said}", Exit.USAGE) from error
    return made


def _text(path: Path) -> str:
    from modelrollout.evidence.golden import LARGEST

    try:
        if path.stat().st_size > 4 * LARGEST:
            raise Complaint(f"{path} is larger than {4 * LARGEST >> 20} MiB", Exit.INVALID)
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise Complaint(f"{path} is not UTF-8 text", Exit.INVALID) from error
    except OSError as error:
        raise Complaint(f"{path}: cannot be read: {error.strerror}") from error


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Complaint(f"{path}: cannot be written: {error.strerror}") from error


def _config_map(name: str, text: str) -> str:
    import yaml

    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {KEY: text}}
    return str(yaml.safe_dump(body, sort_keys=False, allow_unicode=True, width=10**9))
