"""Files of data, and the command that makes, shows and checks profiles of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
import yaml
from click.testing import CliRunner
from tritonclient.grpc import model_config_pb2, service_pb2

from modelrollout import cli
from modelrollout.profile.embedding import embed
from modelrollout.profile.files import read
from modelrollout.profile.model import Profile, ProfileError, parse
from modelrollout.profile.tables import columns
from tests.unit.observer.stage import Arm, serving

HEAD = "age,income,city,decision\n"
ROWS = "30,1.5,bern,0\n40,,basel,1\n50,2.5,,1\n"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "data.csv"
    path.write_text(HEAD + ROWS)
    return path


def run(*words: object) -> Any:
    return CliRunner().invoke(cli.main, ["profile", *map(str, words)])


def test_the_same_data_as_csv_parquet_and_npz_makes_the_same_profile(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    age, income = random.integers(18, 90, 300), random.normal(size=300)
    income[::9] = np.nan
    city = ["bern" if number % 3 else None for number in range(300)]
    (tmp_path / "d.csv").write_text(
        "age,income,city\n"
        + "".join(
            f"{a},{'' if np.isnan(i) else repr(float(i))},{c or ''}\n"
            for a, i, c in zip(age, income, city, strict=True)
        )
    )
    nullable = [None if np.isnan(value) else float(value) for value in income]
    parquet.write_table(arrow.table({"age": age, "income": nullable, "city": city}), tmp_path / "d.parquet")
    words = np.array([name or "" for name in city])
    np.savez(tmp_path / "d.npz", age=age, income=income, city=words)
    made: list[Profile] = []
    for suffix in ("csv", "parquet", "npz"):
        out = tmp_path / f"{suffix}.json"
        result = run(
            "make", tmp_path / f"d.{suffix}", "--model", "m", "--input", "X=age,income", "--input", "C=city", "-o", out
        )
        assert result.exit_code == 0, result.output
        assert "300 rows, 3 features, 0 outputs" in result.output
        made.append(parse(out.read_text()))
    assert made[0] == made[1] == made[2]
    assert [(part.name, part.input, part.index) for part in made[0].features] == [
        ("age", "X", (0,)),
        ("income", "X", (1,)),
        ("city", "C", (0,)),
    ]
    assert made[0].features[1].missing == pytest.approx(34 / 300, abs=1e-8)


def test_an_array_of_a_tensor_is_a_feature_a_place(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", PIXELS=np.random.default_rng(1).normal(size=(50, 2, 3)), C=np.zeros((50, 1)))
    made = columns(read(tmp_path / "d.npz"), (), (), ())
    assert [(column.name, column.input, column.index) for column in made][:7] == [
        ("PIXELS[0, 0]", "PIXELS", (0, 0)),
        ("PIXELS[0, 1]", "PIXELS", (0, 1)),
        ("PIXELS[0, 2]", "PIXELS", (0, 2)),
        ("PIXELS[1, 0]", "PIXELS", (1, 0)),
        ("PIXELS[1, 1]", "PIXELS", (1, 1)),
        ("PIXELS[1, 2]", "PIXELS", (1, 2)),
        ("C", "C", (0,)),
    ]


def test_inputs_take_named_columns_or_the_rest(table: Path) -> None:
    made = columns(read(table), ("X", "C=city"), ("age",), ("decision",))
    assert [(column.name, column.input, column.index, column.categorical) for column in made] == [
        ("age", "X", (0,), True),
        ("income", "X", (1,), False),
        ("city", "C", (0,), False),
    ]


@pytest.mark.parametrize(
    ("inputs", "categorical", "words"),
    [
        (("X=age,ages",), (), "there is no column 'ages': the data has age, income, city, decision"),
        (("X", "Y"), (), "X and Y would both take all columns"),
        (("X=age", "X=income"), (), "give each tensor once"),
        (("=age",), (), "give each tensor once"),
        ((), ("colour",), "there is no column 'colour'"),
        (("X=age,income,city,decision", "Y"), (), "no column is left for Y"),
    ],
)
def test_a_wish_that_cannot_be_met(table: Path, inputs: Any, categorical: Any, words: str) -> None:
    with pytest.raises(ProfileError) as error:
        columns(read(table), inputs, categorical, ())
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("d.txt", b"x", "unknown kind of file: give one of .csv, .csv.gz, .parquet, .npz"),
        ("d.csv", b"", "the first line must name the columns"),
        ("d.csv", b"a,a\n1,2\n", "the first line must name the columns, each once"),
        ("d.csv", b"a,b\n", "has no rows"),
        ("d.csv", b"a,b\n1\n", "line 2 has 1 cells, the head has 2"),
        ("d.csv", b"\xff\xfe\x00a\n", "cannot be read"),
        ("d.npz", b"nonsense", "d.npz"),
        ("d.parquet", b"nonsense", "is no Parquet file"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    result = run("make", tmp_path / name, "--model", "m")
    assert result.exit_code == 6
    assert words in result.output
    assert "Traceback" not in result.output


def test_pickles_in_an_npz_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", a=np.array([{"a": 1}], dtype=object))
    result = run("make", tmp_path / "d.npz", "--model", "m")
    assert result.exit_code == 6
    assert "cannot be read" in result.output


def test_outputs_come_from_columns_or_from_a_file_of_answers(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.json"
    assert run("make", table, "--model", "m", "--output", "Y=decision", "-o", out).exit_code == 0
    made = parse(out.read_text())
    assert [part.name for part in made.features] == ["age", "income", "city"]
    assert made.outputs[0].reference == pytest.approx((2 / 3, 1 / 3, 0, 0), abs=1e-8)
    np.savez(tmp_path / "answers.npz", P=np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]], dtype=np.float32))
    answers = tmp_path / "answers.npz"
    assert run("make", table, "--model", "m", "--drop", "decision", "--outputs", answers, "-o", out).exit_code == 0
    assert parse(out.read_text()).outputs[0].bins == ("1", "0", "other", "missing")


def test_as_a_config_map(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "cm.json"
    assert run("make", table, "--model", "m", "--configmap", "m-profile", "-o", out).exit_code == 0
    body = json.loads(out.read_text())
    assert (body["kind"], body["metadata"]) == ("ConfigMap", {"name": "m-profile"})
    assert parse(body["data"]["profile.json"]).model == "m"
    (tmp_path / "cm.yaml").write_text(yaml.safe_dump(body))
    for manifest in (out, tmp_path / "cm.yaml"):
        assert "model m, made of 3 rows" in run("show", manifest).output
    out.write_text(json.dumps({**body, "data": {"other": "x"}}))
    refused = run("show", out)
    assert (refused.exit_code, "is a ConfigMap without the key profile.json" in refused.output) == (6, True)


def test_in_the_models_configuration(table: Path, tmp_path: Path) -> None:
    from google.protobuf import text_format

    config = tmp_path / "config.pbtxt"
    config.write_text('# ours\nname: "m"\nmax_batch_size: 8')
    assert run("make", table, "--model", "m", "--embed", config).exit_code == 0
    assert config.read_text().startswith("# ours\n")
    for model in ("m", "n"):
        assert run("make", table, "--model", model, "--embed", config).exit_code == 0
        read_back = text_format.Parse(config.read_text(), model_config_pb2.ModelConfig())
        assert parse(read_back.parameters["profile"].string_value).model == model
        assert read_back.max_batch_size == 8
    with pytest.raises(ProfileError, match="cannot be read"):
        embed("name: {", "profile", "{}")


def test_show(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.json"
    run("make", table, "--model", "m", "-o", out)
    result = run("show", out)
    assert result.exit_code == 0
    assert "model m, made of 3 rows" in result.output
    assert "bern" in result.output
    (tmp_path / "bad.json").write_text("{}")
    assert run("show", tmp_path / "bad.json").exit_code == 6


async def test_check_asks_a_running_model(table: Path, tmp_path: Path) -> None:
    import asyncio

    out = tmp_path / "p.json"
    run("make", table, "--model", "m", "--input", "X=age,income", "--input", "C=city", "-o", out, "--drop", "decision")
    metadata = service_pb2.ModelMetadataResponse(name="m")
    metadata.inputs.add(name="X", datatype="FP32", shape=[-1, 2])
    metadata.inputs.add(name="C", datatype="BYTES", shape=[-1, 1])
    arm = Arm(lambda request: None, model_config_pb2.ModelConfig(max_batch_size=8), metadata)
    async with serving(arm) as address:
        fits = await asyncio.to_thread(run, "check", out, "--url", address)
        assert (fits.exit_code, "fits: 3 features" in fits.output) == (0, True)
        metadata.inputs[0].shape[1] = 1
        misfit = await asyncio.to_thread(run, "check", out, "--url", address)
        assert misfit.exit_code == 6
        assert "feature income: index [1] is out of range" in misfit.output
    gone = await asyncio.to_thread(run, "check", out, "--url", "127.0.0.1:1")
    assert gone.exit_code == 1
    assert "does not tell what m is: UNAVAILABLE" in gone.output


def test_a_file_that_is_not_there_is_an_error_of_usage(tmp_path: Path) -> None:
    for words in (["make", "--model", "m"], ["show"], ["check", "--url", "127.0.0.1:1"]):
        result = run(*words, tmp_path / "gone.csv")
        assert (result.exit_code, "does not exist" in result.output) == (2, True)


def test_check_says_that_the_address_is_one_of_grpc(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.json"
    run("make", table, "--model", "m", "-o", out)
    result = run("check", out, "--url", "http://127.0.0.1:8001")
    assert (result.exit_code, "HOST:PORT without http://" in result.output) == (2, True)


def test_columns_of_no_use_are_named_and_one_is_no_plural(tmp_path: Path) -> None:
    table = tmp_path / "data.csv"
    table.write_text("age,empty,mail,y\n" + "".join(f"{n},,p{n}@example.com,0.{n}\n" for n in range(40)))
    made = run("make", table, "--model", "m", "--drop", "age", "--output", "Y=y", "-o", tmp_path / "p.json")
    assert "empty: left out, no row has a value" in made.output
    assert "mail: no word is common enough for a category" in made.output
    assert "40 rows, 1 feature, 1 output ->" in made.output
    nothing = run("make", table, "--model", "m", "--drop", "age,empty,mail,y")
    assert (nothing.exit_code, "no column is left" in nothing.output) == (6, True)
