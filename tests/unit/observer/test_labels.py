"""True labels: joined by id within a window, counted by class and slice, refused with a reason; over real HTTP too."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from modelrollout import cli
from modelrollout.cli import labels
from modelrollout.exposition import Pages
from modelrollout.observer.labelling import CLASS_LIMIT, NO_SLICE, Joiner, Prediction, Refusal
from modelrollout.observer.limits import Limits
from modelrollout.observer.lives import Lives
from modelrollout.observer.process import Observer
from modelrollout.observer.target import Target
from modelrollout.observer.tensors import Tensor
from modelrollout.observer.wishes import Arms
from modelrollout.profile.making import make
from modelrollout.profile.model import LabelOutput
from tests.unit.observer.stage import Arm, answer, json_body, observing, post, scrape, serving, until, value, wish

LIVES = Lives(lambda: 0.0)
PAIR = (Prediction("a", ("0",), (0.95,)), Prediction("b", ("1",), (0.55,)))


def test_a_label_counts_for_each_arm_by_class_slice_and_confidence() -> None:
    joiner = Joiner(60.0, 10, LIVES)
    joiner.remember("r1", PAIR, 0.0)
    joiner.remember("r2", PAIR, 0.0)
    assert joiner.label("r1", ["0"], "bern", 1.0) is None
    assert joiner.label("r2", ["1"], "", 1.0) is None
    assert joiner.joined == {
        ("a", "bern", "0", "0", True): 1,
        ("b", "bern", "0", "1", False): 1,
        ("a", NO_SLICE, "1", "0", False): 1,
        ("b", NO_SLICE, "1", "1", True): 1,
    }
    counted = joiner.calibration["a", "bern"]
    assert (counted.right.tolist(), counted.wrong.sum()) == ([0] * 9 + [1], 0)
    assert counted.confidence[9] == pytest.approx(0.95)
    assert joiner.calibration["b", "bern"].wrong[5] == 1


def test_every_refusal_has_its_reason() -> None:
    joiner = Joiner(60.0, 2, LIVES)
    joiner.remember("r1", PAIR, 0.0)
    assert joiner.label("r0", ["0"], "", 1.0) is Refusal.UNKNOWN_ID
    assert joiner.label("r1", ["0", "1"], "", 1.0) is Refusal.ROWS
    assert joiner.label("r1", ["0"], "", 1.0) is None
    assert joiner.label("r1", ["0"], "", 1.0) is Refusal.DUPLICATE
    assert joiner.label("r1", ["0"], "", 60.0) is Refusal.TOO_LATE
    for name in ("r2", "r3", "r4"):
        joiner.remember(name, PAIR, 61.0)
    # Pushed out by maxPending, which the one who sends the label meets like one that came too late.
    assert joiner.label("r2", ["0"], "", 62.0) is Refusal.TOO_LATE
    assert joiner.label("r3", ["0"], "", 62.0) is None


def test_classes_and_slices_are_bounded_and_other_is_never_right_by_chance() -> None:
    joiner = Joiner(60.0, 1000, LIVES)
    for number in range(100):
        joiner.remember(f"r{number}", (Prediction("a", (f"word {number + 1}",)),), 0.0)
        joiner.label(f"r{number}", [f"word {number}"], f"slice {number}", 1.0)
    labels = {key[2] for key in joiner.joined}
    assert len(labels) == 65
    assert len({key[1] for key in joiner.joined}) == 16
    assert sum(number for key, number in joiner.joined.items() if key[4]) == 0
    assert joiner.joined["a", "other", "other", "other", False] > 1


def test_an_id_that_is_used_again_keeps_its_first_answer() -> None:
    joiner = Joiner(60.0, 10, LIVES)
    assert joiner.remember("r", PAIR, 0.0)
    assert not joiner.remember("r", (Prediction("a", ("7",)),), 1.0)
    assert not joiner.remember("", PAIR, 1.0)
    assert not joiner.remember("large", (Prediction("a", ("7",) * 1000),), 1.0)
    assert joiner.pending == 1


def test_answers_that_wait_are_bounded_by_their_rows_too() -> None:
    joiner = Joiner(60.0, 10, LIVES)
    for number in range(10):
        assert joiner.remember(f"r{number}", (Prediction("a", ("0",) * 4), Prediction("b", ("1",) * 4)), 0.0)
    # Two of eight rows: twenty may wait.
    assert joiner.pending == 2
    assert joiner.label("r7", ["0"] * 4, "", 1.0) is Refusal.TOO_LATE
    assert joiner.label("r9", ["0"] * 4, "", 1.0) is None
    # What was labelled has no rows any more.
    for number in range(2):
        assert joiner.remember(f"s{number}", PAIR * 4, 1.0)
    assert joiner.pending == 3
    assert not joiner.remember("long", (Prediction("a", ("x" * 129,)),), 1.0)
    assert joiner.remember("short", (Prediction("a", ("x" * 128, None)),), 1.0)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("rl"), st.integers(0, 8), st.floats(0, 3)), max_size=60), st.integers(1, 5))
def test_each_answer_is_joined_at_most_once_and_never_more_wait_than_may(steps: list[Any], most: int) -> None:
    joiner, now, answered = Joiner(5.0, most, LIVES), 0.0, 0
    for kind, number, later in steps:
        now += later
        if kind == "r":
            answered += joiner.remember(str(number), (Prediction("a", ("0",)),), now)
        else:
            joiner.label(str(number), ["0"], "", now)
        assert joiner.pending <= most
    assert sum(joiner.joined.values()) <= answered


def test_a_rare_class_of_digits_among_words_is_refused_only_where_the_profile_has_all_classes() -> None:
    common = [f"A{number}" for number in range(CLASS_LIMIT)]
    for words, refusal in ((common * 20, Refusal.WRONG_KIND), ([*common * 20, "404"], None)):
        profile = make("parts", [], {"CODE": np.array(words)})
        (label,) = profile.outputs
        assert isinstance(label, LabelOutput)
        assert set(label.classes) == set(common)
        target = Target(wish(arms=Arms("a"), window=60.0), 0.0, LIVES)
        target.use(profile)
        target.answered("r", {"a": {"CODE": Tensor("CODE", "BYTES", (1,), words=[b"404"])}}, ("a",), 0.0)
        assert target.joiner is not None
        assert target.joiner.label("r", ["404"], "", 1.0) is refusal


async def labelled(observer: Observer, body: bytes, query: str = "") -> tuple[int, Any]:
    url = f"http://127.0.0.1:{observer.labels.port}/v1/labels{query}"
    async with aiohttp.ClientSession() as session, session.post(url, data=body) as response:
        return response.status, await response.json()


def arms() -> tuple[Arm, Arm]:
    return (
        Arm(lambda request: answer({"P": ("FP32", [[0.9, 0.1]])})),
        Arm(lambda request: answer({"P": ("FP32", [[0.4, 0.6]])})),
    )


async def test_labels_over_http_become_accuracy_of_each_arm() -> None:
    stable, candidate = arms()
    asked = wish(arms=Arms("digits-a", "digits-b"), per_second=500.0, window=60.0)
    async with (
        serving(stable) as one,
        serving(candidate) as other,
        observing(asked, addresses={"digits-a": one, "digits-b": other}) as observer,
    ):
        joiner = observer.registry.targets["digits"].joiner
        assert joiner is not None
        for number in range(10):
            header = {"x-request-id": f"r{number}"} if number % 2 else {}
            body = json_body({"X": ("FP32", [[1.0]])}, "" if number % 2 else f"r{number}")
            await post(observer, body, header)
            await until(lambda number=number: joiner.pending == number + 1)  # type: ignore[misc]
        entries = [{"id": f"r{number}", "label": int(number < 3), "slice": "bern"} for number in range(10)]
        assert await labelled(observer, json.dumps(entries).encode()) == (200, {"accepted": 10, "refused": {}})
        more: list[Any] = [
            {"id": "r0", "label": 1},
            {"id": "x", "label": 1},
            {"id": "r1"},
            7,
            {"id": True, "label": 2},
            {"id": 1.5, "label": 2},
            {"id": 77, "label": 2, "slice": 3},
            {"id": "r1", "label": "x" * 129},
            {"id": "r1", "label": [1, "x" * 1_000_000]},
            {"id": "r1", "label": 1, "slice": "x" * 64},
            {"id": "x" * 129, "label": 1},
        ]
        lines = b"\n".join(json.dumps(entry).encode() for entry in more) + b"\nno JSON\n"
        status, said = await labelled(observer, lines, "?modeldeployment=digits")
        assert (status, said["accepted"]) == (200, 0)
        assert said["refused"] == {"duplicate": 1, "unknown_id": 2, "malformed": 9}
        samples = await scrape(observer)
    shared = {"slice": "bern", "modeldeployment": "digits"}
    assert value(samples, "labels_total", revision="digits-a", label="0", predicted="0", correct="true", **shared) == 7
    assert value(samples, "labels_total", revision="digits-b", label="1", predicted="1", correct="true", **shared) == 3
    assert value(samples, "labels_total", revision="digits-b", label="0", predicted="1", correct="false", **shared) == 7
    nine = {"revision": "digits-a", "bin": "0.9", **shared}
    assert (
        value(samples, "calibration_total", correct="true", **nine)
        + value(samples, "calibration_total", revision="digits-a", bin="1.0", correct="true", **shared)
        == 7
    )
    total = sum(
        number
        for (name, own), number in samples.items()
        if name == "modelrollout_observer_calibration_confidence_sum" and ("revision", "digits-a") in own
    )
    assert total == pytest.approx(9.0, abs=1e-5)
    assert value(samples, "refused_total", what="label", reason="duplicate", modeldeployment="digits") == 1


async def test_ids_and_slices_that_a_table_has_as_whole_numbers_are_those_of_the_requests() -> None:
    stable, _ = arms()
    asked = wish(arms=Arms("digits-a"), per_second=500.0, window=60.0)
    async with serving(stable) as one, observing(asked, addresses={"digits-a": one}) as observer:
        joiner = observer.registry.targets["digits"].joiner
        assert joiner is not None
        await post(observer, json_body({"X": ("FP32", [[1.0]])}, "12345"), {})
        await until(lambda: joiner.pending == 1)
        said = await labelled(observer, b'[{"id": 12345, "label": 0, "slice": 7}]')
        assert said == (200, {"accepted": 1, "refused": {}})
        assert value(await scrape(observer), "labels_total", slice="7", label="0", predicted="0", correct="true") == 1


async def test_what_is_no_list_of_labels_is_refused_with_what_to_send() -> None:
    async with observing(wish(window=60.0), limits=Limits(labels=1000)) as observer:
        assert (await labelled(observer, b"\xff\xfe"))[0] == 400
        assert "JSON list or JSON lines" in (await labelled(observer, b"7"))[1]["error"]
        assert (await labelled(observer, b" " * 1001))[0] == 413
        url = f"http://127.0.0.1:{observer.labels.port}"
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{url}/v1/labels") as response:
                assert response.status == 405
            async with session.post(f"{url}/", data=b"[]") as response:
                assert response.status == 404
        # Mirrored traffic cannot post labels.
        async with aiohttp.ClientSession() as session:
            place = f"http://127.0.0.1:{observer.http.port}/v1/labels"
            async with session.post(place, data=b'[{"id": "r", "label": 1}]') as response:
                assert response.status == 202
        assert sum(observer.registry.refused.values()) == 0
    async with observing(wish()) as observer:
        status, said = await labelled(observer, b'[{"id": "r", "label": 1}]')
        assert (status, said["refused"]) == (200, {"not_asked_for": 1})


async def test_the_command_sends_a_file_in_batches(tmp_path: Path) -> None:
    stable, _ = arms()
    asked = wish(arms=Arms("digits-a"), per_second=500.0, window=60.0)
    table, lines = tmp_path / "truth.csv", tmp_path / "truth.jsonl"
    table.write_text("id,label,slice\nr0,0,bern\nr1,1,\nnobody,1,\n")
    lines.write_text('{"id": "r0", "label": 0}\n\n{"id": "r2", "label": 0}\n')
    async with serving(stable) as one, observing(asked, addresses={"digits-a": one}) as observer:
        joiner = observer.registry.targets["digits"].joiner
        assert joiner is not None
        for number in range(3):
            await post(observer, json_body({"X": ("FP32", [[1.0]])}, f"r{number}"))
        await until(lambda: joiner.pending == 3)

        async def send(*words: str) -> Any:
            url = f"http://127.0.0.1:{observer.labels.port}"
            return await asyncio.to_thread(CliRunner().invoke, cli.main, ["labels", *words, "--url", url])

        first = await send(str(table), "--batch", "2")
        assert first.exit_code == 0
        assert "2 of 3 labels joined" in first.output
        assert "1 unknown_id: no answer with this id was seen" in first.output
        assert "2 sent, 2 joined" in first.output
        second = await send(str(lines), "--modeldeployment", "digits")
        assert "1 of 2 labels joined" in second.output
        assert (await send(str(lines), "--modeldeployment", "other")).exit_code == 6
    assert joiner.joined[("digits-a", "bern", "0", "0", True)] == 1


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "id,truth\n1,2\n", "must name the columns id and label"),
        ("a.jsonl", '{"id": "r0", "label": 0}\nnonsense\n', "line 2 is no JSON object"),
        ("a.csv", "id,label\n", "has no labels"),
        ("deep.jsonl", "[" * 100_000 + "\n", "line 1 is no JSON object"),
        ("a.jsonl", '{"id": "r0", "label": NaN}\n', "line 1 is no JSON object"),
    ],
)
def test_the_command_says_what_is_wrong_with_a_file(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    result = CliRunner().invoke(cli.main, ["labels", str(tmp_path / name), "--url", "http://127.0.0.1:1"])
    assert result.exit_code == 6
    assert words in result.output


def test_the_command_says_what_is_wrong_with_its_words(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    gone = CliRunner().invoke(cli.main, ["labels", str(file), "--url", "http://127.0.0.1:1"])
    assert (gone.exit_code, "does not exist" in gone.output) == (2, True)
    file.write_text("id,label\n1,2\n")
    for url in ("http://127.0.0.1:x", "http://", "http://a b:1", "http://[::1", "http://h:1/\x7f"):
        result = CliRunner().invoke(cli.main, ["labels", str(file), "--url", url])
        assert (result.exit_code, "give one like http://127.0.0.1:8080" in result.output) == (2, True), url


def test_whole_numbers_of_a_table_are_the_classes_that_json_makes_of_them(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    long = "1" * 5000 + ".0"
    file.write_text(f"id,label\na,1.0\nb,-2.00\nc,0.5\nd,v1.0\ne,007\nf,\ng,{long}\n")
    found = {entry["id"]: entry.get("label") for entry in labels._csv(file)}
    assert found == {"a": "1", "b": "-2", "c": "0.5", "d": "v1.0", "e": "007", "f": None, "g": long}


async def test_a_port_of_another_protocol_is_told_apart(tmp_path: Path) -> None:
    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-x\r\n")
        writer.close()

    file = tmp_path / "a.csv"
    file.write_text("id,label\n1,2\n")
    async with await asyncio.start_server(nonsense, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        result = await asyncio.to_thread(CliRunner().invoke, cli.main, ["labels", str(file), "--url", url])
    assert (result.exit_code, "is it the observer's label port?" in result.output) == (1, True)


def test_the_command_says_that_nobody_is_there(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,label\n1,2\n")
    result = CliRunner().invoke(cli.main, ["labels", str(tmp_path / "a.csv"), "--url", "http://127.0.0.1:1"])
    assert result.exit_code == 1
    assert "is it the observer's label port?" in result.output


def test_confidence_is_read_from_an_output_of_probabilities_only() -> None:
    from modelrollout.observer.labelling import confidences_of
    from modelrollout.observer.tensors import Tensor

    rows = np.array([[0.2, 0.8], [0.5, 0.5]], dtype=np.float32)
    assert confidences_of({"P": Tensor("P", "FP32", (2, 2), rows)}, 2) == pytest.approx((0.8, 0.5))
    assert confidences_of({"P": Tensor("P", "FP32", (2, 2), rows * 3)}, 2) is None
    assert confidences_of({"P": Tensor("P", "FP32", (2, 2), rows)}, 1) is None


def test_what_another_server_says_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("id,label\n1,2\n")
    pages = Pages("127.0.0.1", 0, {})
    try:
        url = f"http://127.0.0.1:{pages.port}"
        result = CliRunner().invoke(cli.main, ["labels", str(file), "--url", url])
        assert (result.exit_code, result.output.count("\n")) == (1, 1), result.output
        assert "is it the observer's label port?" in result.output
        result = CliRunner().invoke(cli.main, ["labels", str(file), "--url", url, "--timeout", "nan"])
        assert result.exit_code == 2
    finally:
        pages.close()


@pytest.mark.parametrize(
    ("classes", "predicted", "truth", "refusal"),
    [
        (("0", "1"), "1", "billing", Refusal.WRONG_KIND),
        (("0", "1"), "1", "true", Refusal.WRONG_KIND),
        (("0", "1"), "1", "1.0", Refusal.WRONG_KIND),
        (("0", "1"), "1", "7", None),
        (("-1", "1"), "1", "-1", None),
        (("billing", "sales"), "sales", "1", Refusal.WRONG_KIND),
        (("billing", "sales"), "sales", "support", None),
        (("none", "1"), "1", "none", None),
        ((), "1", "billing", None),
        (("0.5", "1.5"), "0.5", "2", None),
        (("0.5", "1.5"), "0.5", "2.0", None),
        (("0.5", "1.5"), "0.5", "billing", Refusal.WRONG_KIND),
        (("0", "1.5"), "0", "billing", Refusal.WRONG_KIND),
        (("0.5", "1.5"), "0.5", "true", Refusal.WRONG_KIND),
        (("billing", "sales"), "sales", "1.5", Refusal.WRONG_KIND),
        (("none", "1"), "1", "1.5", None),
        (("none", "1.5"), "1.5", "1", None),
        (("infinity", "beyond"), "beyond", "1", Refusal.WRONG_KIND),
        (("infinity", "beyond"), "beyond", "nowhere", None),
    ],
)
def test_a_label_that_can_never_be_right_is_refused(
    classes: tuple[str, ...], predicted: str, truth: str, refusal: Refusal | None
) -> None:
    joiner = Joiner(10.0, 5, LIVES, classes)
    joiner.remember("r", [Prediction("a", (predicted,))], 0.0)
    assert joiner.label("r", [truth], "", 1.0) is refusal
    # It may be sent again, as it should be.
    assert joiner.label("r", [predicted], "", 1.0) is (Refusal.DUPLICATE if refusal is None else None)
