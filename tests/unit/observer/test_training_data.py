"""A profile of training data, and the same data as requests through a real observer: nothing has drifted.

Whatever the type of the tensors and the way in which they are sent; and data that has drifted is told as drifted.
"""

import json
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np
import pytest
from click.testing import CliRunner
from tritonclient.grpc import service_pb2

from modelrollout import cli
from modelrollout.observer.rpc import INFER
from modelrollout.observer.tensors import Tensor, to_bytes
from modelrollout.profile.model import parse
from tests.unit.observer.stage import observing, outcomes, post, scrape, until, wish

ROWS = 2000
CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
NARROW = {"FP16": "<f2", "BF16": "<f4", "FP32": "<f4"}


def column(datatype: str, random: np.random.Generator) -> list[Any]:
    """Values as a table of training data has them; those of floats are tenths, which no binary type holds."""
    if datatype == "BOOL":
        return [str(word) for word in random.choice(["True", "False"], ROWS, p=[0.7, 0.3])]
    if datatype == "BYTES":
        return [str(word) for word in random.choice(["bern", "chur, GR", "NA", "Zürich", "007", ""], ROWS)]
    if datatype == "UINT64":
        return [2**60 + 7 * int(number) for number in random.integers(0, 2**40, ROWS)]
    if datatype.startswith(("INT", "UINT")):
        return [int(number) for number in random.binomial(10, 0.4, ROWS)]
    return [float(number) / 10 for number in random.binomial(12, 0.5, ROWS) - 3]


def tensor(datatype: str, cells: list[Any]) -> Tensor:
    if datatype == "BYTES":
        return Tensor("X", datatype, (len(cells), 1), words=[str(cell).encode() for cell in cells])
    if datatype == "BOOL":
        cells = [cell == "True" for cell in cells]
    kind = NARROW.get(datatype) or {"FP64": "<f8", "BOOL": "?"}.get(datatype) or np.dtype(datatype.lower())
    return Tensor("X", datatype, (len(cells), 1), np.array(cells, dtype=kind).reshape(-1, 1))


def json_data(datatype: str, cells: list[Any]) -> list[Any]:
    return [cell == "True" for cell in cells] if datatype == "BOOL" else cells


async def send(observer: Any, way: str, datatype: str, cells: list[Any]) -> None:
    made = tensor(datatype, cells)
    shape = [len(cells), 1]
    entry: dict[str, Any] = {"name": "X", "datatype": datatype, "shape": shape}
    if way == "json":
        body = json.dumps({"inputs": [{**entry, "data": json_data(datatype, cells)}]}).encode()
        assert await post(observer, body) == 202
        return
    raw = to_bytes(made)
    if way == "binary":
        head = json.dumps({"inputs": [{**entry, "parameters": {"binary_data_size": len(raw)}}]}).encode()
        assert await post(observer, head + raw, {"Inference-Header-Content-Length": str(len(head))}) == 202
        return
    request = service_pb2.ModelInferRequest(model_name="digits")
    given = request.inputs.add(name="X", datatype=datatype, shape=shape)
    if way == "raw":
        request.raw_input_contents.append(raw)
    else:
        values = made.words if made.words is not None else made.numbers.ravel().tolist()  # type: ignore[union-attr]
        getattr(given.contents, CONTENTS[datatype]).extend(values)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{observer.grpc.port}") as channel:
        await channel.unary_unary(INFER)(request.SerializeToString())


def psi(samples: Any) -> float:
    """The population stability index as the documentation has it."""
    found: dict[str, dict[str, float]] = {"feature_total": {}, "feature_reference": {}}
    for (name, labels), number in samples.items():
        known = found.get(name.removeprefix("modelrollout_observer_"))
        if known is not None:
            known[dict(labels)["bin"]] = number
    counted = np.array([found["feature_total"][name] for name in found["feature_reference"]])
    assert counted.sum() == ROWS
    now = np.maximum(counted / ROWS, 1e-4)
    then = np.maximum([*found["feature_reference"].values()], 1e-4)
    return float(((now - then) * np.log(now / then)).sum())


async def measured(profile: str, way: str, datatype: str, cells: list[Any]) -> float:
    async with observing(wish(), profile=parse(profile)) as observer:
        await send(observer, way, datatype, cells)
        await until(lambda: bool(outcomes(observer)))
        assert {outcome for _, outcome in outcomes(observer)} == {"counted"}
        return psi(await scrape(observer))


def moved(datatype: str, cells: list[Any]) -> list[Any]:
    """The data after a drift: a third of the words is the first one now, numbers are greater by a fifth."""
    if datatype in ("BOOL", "BYTES"):
        return [cell if place % 3 else "False" if datatype == "BOOL" else "bern" for place, cell in enumerate(cells)]
    more = (max(cells) - min(cells)) / 5
    return [cell + (more if isinstance(cell, float) else int(more)) for cell in cells]


WAYS = [
    *((way, datatype) for way in ("json", "typed") for datatype in CONTENTS),
    *((way, datatype) for way in ("binary", "raw") for datatype in [*CONTENTS, "FP16", "BF16"]),
    ("json", "FP16"),
]


@pytest.mark.parametrize(("way", "datatype"), WAYS)
async def test_training_data_has_not_drifted_from_its_own_profile(way: str, datatype: str, tmp_path: Path) -> None:
    cells = column(datatype, np.random.default_rng(11))
    table, out = tmp_path / "d.csv", tmp_path / "p.json"
    table.write_text("X\n" + "".join(f'"{cell}"\n' for cell in cells), encoding="utf-8")
    made = CliRunner().invoke(cli.main, ["profile", "make", str(table), "--model", "digits", "-o", str(out)])
    assert made.exit_code == 0, made.output
    profile = out.read_text()
    assert await measured(profile, way, datatype, cells) == pytest.approx(0.0, abs=1e-9)
    assert await measured(profile, way, datatype, moved(datatype, cells)) > 0.1
