"""Files of data, and the command that makes, shows and checks profiles of them."""

import gzip
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
from modelrollout.profile import files
from modelrollout.profile.embedding import embed
from modelrollout.profile.files import read
from modelrollout.profile.model import NumericOutput, Profile, ProfileError, parse
from modelrollout.profile.tables import columns
from tests.unit.observer.stage import Arm, serving

HEAD = "age,income,city,decision\n"
WIDE = "".join(f"{number}," * 599 + "1\n" for number in range(99))
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
    assert "array a holds Python objects" in result.output


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
    assert "mail: 100% of its rows are other, words too rare for a category" in made.output
    assert "40 rows, 1 feature, 1 output ->" in made.output
    nothing = run("make", table, "--model", "m", "--drop", "age,empty,mail,y")
    assert (nothing.exit_code, "no column is left" in nothing.output) == (6, True)


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("a\n1\n2\n", {"a": "i"}),
        ("a\n1\nNA\n\nnull\n-2.5\n", {"a": "f"}),
        ("a\n007\n123\n", {"a": "O"}),
        ("a\n1_000\n2\n", {"a": "O"}),
        ("a\n0\n0.5\n00.5\n", {"a": "f"}),
        ("\ufeffa , b\n1,x\n", {"a": "i", "b": "O"}),
        (f"a\n{2**63}\n", {"a": "f"}),
    ],
)
def test_what_cells_are(tmp_path: Path, text: str, kinds: dict[str, str]) -> None:
    (tmp_path / "d.csv").write_text(text, encoding="utf-8")
    assert {name: values.dtype.kind for name, values in read(tmp_path / "d.csv").items()} == kinds


def test_a_word_far_down_makes_the_whole_column_words_as_they_are_written(tmp_path: Path) -> None:
    cells = ["1.50"] * 40_000 + ["x"] + ["2.0"] * 10
    (tmp_path / "d.csv").write_text("a,b\n" + "".join(f"{cell},1\n" for cell in cells))
    with gzip.open(tmp_path / "d.csv.gz", "wt") as packed:
        packed.write((tmp_path / "d.csv").read_text())
    for name in ("d.csv", "d.csv.gz"):
        table = read(tmp_path / name)
        assert table["a"].tolist() == cells
        assert table["b"].dtype.kind == "i"


def test_of_a_table_that_is_too_large_a_random_share_of_the_rows_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MOST_CELLS", 20_000)
    rows = 60_000
    (tmp_path / "d.csv").write_text("a,b\n" + "".join(f"{number},{number % 4}\n" for number in range(rows)))
    told: list[tuple[int, int]] = []
    table = read(tmp_path / "d.csv", progress=lambda *numbers: told.append(numbers))
    kept = len(table["a"])
    assert 5_000 < kept <= 10_000
    assert told[-1] == (rows, kept)
    assert max(each for _, each in told) <= 10_000
    assert [number % 4 for number in table["a"].tolist()] == table["b"].tolist()
    assert len({*table["a"].tolist()}) == kept
    # As many of the first half as of the second: what came early is not thinned out more.
    assert abs((table["a"] < rows / 2).mean() - 0.5) < 0.05
    made = run("make", tmp_path / "d.csv", "--model", "m")
    assert f"made of {kept:,} of 60,000 rows, taken at random" in made.output


@pytest.mark.parametrize(
    ("text", "words", "more"),
    [
        ("age;city\n1;a\n", "say --delimiter ';'", ()),
        ("age\tcity\n1\ta\n", "say --delimiter '\\t'", ()),
        (",a\n0,1\n", "column 1 has no name", ()),
        ("a,b,a\n0,1,2\n", "'a' is there twice", ()),
        (f"{'x' * 200},b\n1,2\n", "String should have at most 128 characters", ()),
        ('"a\nb",c\n1,2\n', "String should match pattern", ()),
        ("a,b\n1,2\n", "feature 'a' is there twice", ("--input", "X=a", "--input", "Y=a")),
        (
            ",".join(f"c{n}" for n in range(600)) + "\n" + "".join(f"{n}," * 599 + "1\n" for n in range(99)),
            "16384",
            ("--bins", 64),
        ),
    ],
)
def test_a_table_that_makes_no_profile_is_told_in_a_sentence(
    tmp_path: Path, text: str, words: str, more: tuple[object, ...]
) -> None:
    (tmp_path / "d.csv").write_text(text)
    made = run("make", tmp_path / "d.csv", "--model", "m", *more)
    assert (made.exit_code, words in made.output) == (6, True), made.output


def test_another_separator_and_names_with_commas(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text('"age; years";"a, b"\n1,5;x\n2,5;y\n')
    made = run("make", tmp_path / "d.csv", "--model", "m", "--delimiter", ";", "--input", 'X="a, b"')
    assert (made.exit_code, '"name": "a, b", "input": "X"' in made.output) == (0, True), made.output
    for bad in ("", ";;", "\n"):
        assert run("make", tmp_path / "d.csv", "--model", "m", "--delimiter", bad).exit_code == 2
    assert run("make", tmp_path / "d.csv", "--model", "m", "--configmap", "A_b").exit_code == 2


def test_parquet_of_lists_dates_and_nothing(tmp_path: Path) -> None:
    when = arrow.array([0, 1], arrow.timestamp("s"))
    lists = arrow.FixedSizeListArray.from_arrays(arrow.array([1.0, 2.0, 3.0, 4.0]), 2)
    flags = arrow.array([True, None])
    table = arrow.table({"t": when, "e": lists, "f": flags, "n": arrow.nulls(2)})
    parquet.write_table(table, tmp_path / "d.parquet")
    refused = run("make", tmp_path / "d.parquet", "--model", "m")
    assert (refused.exit_code, "column t has the type timestamp[" in refused.output) == (6, True)
    made = run("make", tmp_path / "d.parquet", "--model", "m", "--drop", "t")
    assert made.exit_code == 0, made.output
    assert '"name": "e[1]", "input": "e", "index": [1]' in made.output
    assert '"categories": {"true": 0.5}' in made.output
    assert "n: left out" in made.output
    (tmp_path / "empty.npz").write_bytes(b"")
    assert run("make", tmp_path / "empty.npz", "--model", "m").exit_code == 6


def test_lists_of_one_length_are_a_tensor_however_parquet_calls_them(tmp_path: Path) -> None:
    rows = [[1.0, 2.0, float(place)] for place in range(40_000)]  # Parts of 16,384 rows.
    parquet.write_table(arrow.table({"EMB": arrow.array(rows)}), tmp_path / "open.parquet", store_schema=False)
    parquet.write_table(
        arrow.table({"EMB": arrow.array(rows, arrow.list_(arrow.float64(), 3))}), tmp_path / "f.parquet"
    )
    found = read(tmp_path / "open.parquet")["EMB"]
    assert found.shape == (40_000, 3)
    assert np.array_equal(found, read(tmp_path / "f.parquet")["EMB"])


@pytest.mark.parametrize(
    "rows", [[[1.0], [1.0, 2.0]], [[1.0], None], [[], []], [["a"], ["b"]], [[1.0]] * 16_384 + [[1.0, 2.0]]]
)
def test_lists_of_other_lengths_are_refused_with_what_is_asked_of_them(tmp_path: Path, rows: list[Any]) -> None:
    parquet.write_table(arrow.table({"EMB": rows}), tmp_path / "d.parquet")
    with pytest.raises(ProfileError, match=r"column EMB has the type list.*must all have one length.*--drop EMB"):
        read(tmp_path / "d.parquet")
    assert read(tmp_path / "d.parquet", without=["EMB"])["EMB"].shape == (len(rows),)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.array(["x", None], dtype=object), r"array o holds Python objects: store words by .astype\(str\)"),
        (np.array(["2024-01-01", "2024-01-02"], dtype="datetime64[D]"), "array o has the type datetime64"),
        (np.array([1 + 2j, 0]), "array o has the type complex128"),
        (np.zeros(2, dtype=[("x", "f4")]), "array o has the type"),
    ],
)
def test_an_array_that_is_neither_numbers_nor_words_is_refused_unless_dropped(
    tmp_path: Path, values: Any, said: str
) -> None:
    np.savez(tmp_path / "d.npz", o=values, x=np.arange(2.0))
    with pytest.raises(ProfileError, match=said + ".*--drop o"):
        read(tmp_path / "d.npz")
    assert len(columns(read(tmp_path / "d.npz", without=["o"]), (), (), ["o"])) == 1


def test_data_that_makes_a_poor_profile_is_told(tmp_path: Path) -> None:
    days = "".join(f"2024-{day % 12 + 1:02}-{day % 28 + 1:02}x{day}\n" for day in range(499))
    (tmp_path / "d.csv").write_text("day\n" + days)
    made = run("make", tmp_path / "d.csv", "--model", "m", "-o", tmp_path / "p.json")
    assert "day: 100% of its rows are other" in made.output
    assert "499 rows are few" in made.output
    (tmp_path / "d.csv").write_text("word\n" + "a\nb\n" * 250)
    made = run("make", tmp_path / "d.csv", "--model", "m", "-o", tmp_path / "p.json")
    assert "few" not in made.output
    assert "other" not in made.output


def test_scores_of_probabilities_count_beside_their_label_where_asked_for(tmp_path: Path) -> None:
    sure = np.random.default_rng(3).beta(1, 9, 1000)
    np.savez(tmp_path / "d.npz", X=sure)
    np.savez(tmp_path / "o.npz", PROB=np.stack([1 - sure, sure], axis=1))
    words = ("make", tmp_path / "d.npz", "--model", "m", "--outputs", tmp_path / "o.npz", "-o", tmp_path / "p.json")
    assert run(*words).exit_code == 0
    assert [part.kind for part in parse((tmp_path / "p.json").read_text()).outputs] == ["label"]
    assert run(*words, "--scores", "PROB").exit_code == 0
    label, no, yes = parse((tmp_path / "p.json").read_text()).outputs
    assert (label.name, label.kind) == ("PROB", "label")
    assert (no.name, yes.name, yes.kind) == ("PROB[0]", "PROB[1]", "numeric")
    assert isinstance(yes, NumericOutput)
    assert (yes.output, yes.index, len(yes.edges)) == ("PROB", (1,), 9)
    refused = run(*words, "--scores", "PROP")
    assert refused.exit_code == 6
    assert "there is no output 'PROP' for scores: the outputs are PROB" in refused.output
