"""Golden sets: what is read, what is refused with which sentence, and when answers count as the expected ones."""

from __future__ import annotations

import base64
import json
import math
import time
from contextlib import suppress
from typing import Any

import ml_dtypes
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelrollout.adapters.triton_tensors import as_text
from modelrollout.api.gates import OutputTolerance
from modelrollout.evidence.answers import compare
from modelrollout.evidence.golden import (
    LARGEST,
    GoldenError,
    GoldenRequest,
    misfit,
    read_golden,
    read_requests,
    write_golden,
)
from modelrollout.ports import Signature, Tensor, TensorSpec

GOOD: dict[str, Any] = {
    "name": "seven",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0.1, 0.2]}],
    "outputs": [{"name": "label", "datatype": "INT64", "shape": [1], "data": [7]}],
}
SIGNATURE = Signature("1", (TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("label", "INT64", (-1,)),), 8)


def document(*requests: Any, **more: Any) -> str:
    return json.dumps({"version": 1, "requests": list(requests), **more})


def tensor(data: Any, datatype: str = "FP32", shape: Any = None) -> str:
    size = len(data) if isinstance(data, list) else 1
    entry = {"name": "x", "datatype": datatype, "shape": [size] if shape is None else shape, "data": data}
    return document({**GOOD, "inputs": [entry]})


def test_a_set_is_read() -> None:
    (request,) = read_golden(document(GOOD, model="digits"))
    assert request.name == "seven"
    # 0.1 as FP32 holds it, so that an exact answer compares as exact
    assert request.inputs == (Tensor("x", "FP32", (1, 2), (0.10000000149011612, 0.20000000298023224)),)
    assert request.outputs == (Tensor("label", "INT64", (1,), (7,)),)


@pytest.mark.parametrize(
    ("datatype", "written", "held"),
    [
        ("FP16", 0.1, 0.0999755859375),
        ("BF16", 0.1, 0.10009765625),
        ("BF16", 1.00390625, 1.0),  # halfway: the even one
        ("BF16", 1.01171875, 1.015625),
        ("FP16", 65504, 65504.0),
        ("BF16", -3.3895313892515355e38, -3.3895313892515355e38),
        ("BF16", math.inf, math.inf),
        ("FP16", -math.inf, -math.inf),
        ("FP64", 0.1, 0.1),
    ],
)
def test_numbers_are_those_that_their_type_holds(datatype: str, written: float, held: float) -> None:
    """Else an answer could not equal what a person wrote, and only a tolerance would hide that."""
    (request,) = read_golden(tensor([written], datatype))
    assert request.inputs[0].data == (held,)
    nan = read_golden(tensor([math.nan], datatype))[0].inputs[0].data[0]
    assert math.isnan(float(nan))


@given(st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**127), max_value=2.0**127))
def test_brief_floats_are_the_nearest_ones(number: float) -> None:
    (request,) = read_golden(tensor([number], "BF16"))
    assert request.inputs[0].data == (float(ml_dtypes.bfloat16(number)),)


def test_data_nested_against_its_shape_is_no_guess() -> None:
    with pytest.raises(GoldenError, match=r"\(x\): shape is \[2, 3\], data is nested as \[3, 2\]"):
        read_golden(tensor([[1, 2], [3, 4], [5, 6]], shape=[2, 3]))
    for same in ([1, 2, 3, 4, 5, 6], [[1, 2, 3], [4, 5, 6]], [[[1, 2, 3], [4, 5, 6]]]):
        assert read_golden(tensor(same, shape=[2, 3]))[0].inputs[0].data == (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)


@pytest.mark.parametrize(
    ("batches", "most", "sentence"),
    [
        ((9, 9), 8, "input x has a batch of 9, the model takes at most 8 (max_batch_size)"),
        ((2, 3), 8, "inputs z and x have batches of 3 and 2: they must be the same"),
        ((8, 8), 8, None),
        ((9, 3), 0, None),
    ],
)
def test_batches_that_the_server_would_refuse_are_the_set_s_fault(
    batches: tuple[int, int], most: int, sentence: str | None
) -> None:
    inputs = tuple(
        Tensor(name, "FP32", (size, 1), (0.0,) * size) for name, size in zip(("x", "z"), batches, strict=True)
    )
    specs = tuple(TensorSpec(each.name, "FP32", (-1, 1)) for each in inputs)
    found = misfit((GoldenRequest("one", inputs, ()),), Signature("1", specs, (), most))
    assert found == (None if sentence is None else f"requests[0] (one): {sentence}")


def test_rows_may_be_nested_and_requests_without_names_get_numbers() -> None:
    nested = [{"name": "x", "datatype": "FP32", "shape": [2, 1, 2], "data": [[[1, 2]], [[3, 4]]]}]
    (request,) = read_golden(document({"inputs": nested, "outputs": GOOD["outputs"]}))
    assert request.inputs[0].data == (1.0, 2.0, 3.0, 4.0)
    assert request.name == "request 0"


def test_nan_and_infinities_are_numbers() -> None:
    (request,) = read_golden(tensor([math.nan, math.inf, -math.inf]))
    assert math.isnan(float(request.inputs[0].data[0]))
    assert request.inputs[0].data[1:] == (math.inf, -math.inf)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "line 1, column 1: Expecting value"),
        ('{\n"version": 1,\n"requests": [}', "line 3, column 14: Expecting value"),
        ("[" * 100_000, "nested too deeply"),
        (f'{{"version": {"9" * 10_000}}}', "cannot be read: Exceeds the limit"),
        ("x" * (LARGEST + 1), "larger than 1024 KiB"),
        ("é" * LARGEST, "larger than 1024 KiB"),
        ("[]", "must be an object with version and requests, it is a list"),
        (json.dumps({"requests": [GOOD]}), "version must be 1, it is not there"),
        (document(), "requests is empty"),
        (document(GOOD, tolerance=1), 'unknown field "tolerance"'),
        (document(*[GOOD] * 2, requests=[3]), 'requests[0] must be an object, it is "3"'),
        (document({**GOOD, "expect": []}), 'requests[0]: unknown field "expect"'),
        (document({**GOOD, "outputs": []}), "requests[0].outputs is empty"),
        (document({**GOOD, "name": 3}), 'requests[0].name must be a text, it is "3"'),
        (document({**GOOD, "inputs": GOOD["inputs"] * 2}), "requests[0].inputs names x twice"),
        (document({**GOOD, "inputs": {}}), "requests[0].inputs must be a list, it is an object"),
        (document({**GOOD, "inputs": [{"name": "x"}]}), "requests[0].inputs[0]: datatype is missing"),
        (document({**GOOD, "inputs": GOOD["inputs"] * 65}), "requests[0].inputs has 65 entries, at most 64"),
        (tensor([1.5], "FP33"), 'requests[0].inputs[0].datatype is "FP33"; it must be one of INT8'),
        (tensor([1.5], "INT64"), 'requests[0].inputs[0].data[0] is "1.5"; INT64 needs a whole number'),
        (tensor([1, 300], "UINT8"), 'data[1] is "300"; UINT8 needs a whole number from 0 to 255'),
        (tensor([10**40], "INT64"), "data[0] is a number of very many digits; INT64"),
        (tensor([True], "INT32"), 'data[0] is "True"; INT32'),
        (tensor([2], "BOOL"), 'data[0] is "2"; BOOL needs true or false'),
        (tensor([1], "BYTES"), 'data[0] is "1"; BYTES needs a text, or {"b64": "..."} for other bytes'),
        (
            tensor([{"b64": "_9j_"}], "BYTES"),
            "inputs[0].data[0].b64 is not base64 (letters, digits, + and /, filled up with =): Only base64 data",
        ),
        (
            tensor(["a", {"b64": "/9j"}], "BYTES"),
            "data[1].b64 is not base64 (letters, digits, + and /, filled up with =): Incorrect padding",
        ),
        (
            tensor([{"b64": "/9j/ü"}], "BYTES"),
            "data[0].b64 is not base64 (letters, digits, + and /, filled up with =): it has characters that",
        ),
        (tensor([{"b64": 7}], "BYTES"), 'data[0] is an object with "b64"; BYTES needs a text, or {"b64": "..."}'),
        (tensor([{"b64": "", "x": 1}], "BYTES"), 'data[0] is an object with "b64, x"; BYTES needs'),
        (tensor([{"b64": "AAAA"}], "UINT8"), "data[0] is an object; UINT8 needs a whole number"),
        (tensor(["\ud83d"], "BYTES"), "data[0] has half of a surrogate pair: write bytes that are no text as"),
        (
            document({**GOOD, "inputs": [{"name": "x", "datatype": "BYTES", "shape": [1], "parameters": 5}]}),
            "requests[0].inputs[0]: data is missing; a tensor has name, datatype, shape and data",
        ),
        (
            document({**GOOD, "inputs": [{"name": "x", "datatype": "BYTES", "parameters": {"binary_data_size": 9}}]}),
            "requests[0].inputs[0]: its data are outside the JSON (binary_data_size): write data, bytes as",
        ),
        (tensor(["a"]), 'data[0] is "a"; FP32 needs a number'),
        (tensor([None]), "data[0] is not there; FP32 needs a number"),
        (tensor([1e39]), 'data[0] is "1e+39"; FP32 needs a number that it can hold'),
        (tensor([1e5], "FP16"), 'data[0] is "100000.0"; FP16'),
        (tensor([1, 2], shape=[3]), "shape [3] has 3 numbers, data has 2"),
        (tensor([1], shape=[-1]), 'shape must have whole numbers that are not negative, it has "-1"'),
        (tensor([], shape=[10**9, 10**9]), "more than 1000000 numbers in one tensor"),
        (tensor([1], shape=[1] * 17), "shape has 17 entries, at most 16"),
        (tensor([[1], 2]), "data mixes lists and numbers"),
        (tensor([[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]], shape=[1]), "nested deeper than 16 levels"),
        (tensor("bomb"), 'data must be a list, it is "bomb"'),
    ],
)
def test_what_cannot_be_read_is_a_sentence_that_names_the_place(text: str, sentence: str) -> None:
    began = time.process_time()
    with pytest.raises(GoldenError) as caught:
        read_golden(text)
    assert sentence in str(caught.value)
    assert len(str(caught.value)) < 400
    assert time.process_time() - began < 2


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["inputs", "outputs", "name", "datatype", "shape", "data"]), inner)
    ),
    max_leaves=20,
)


@given(JSON)
def test_any_json_is_a_set_or_a_sentence(found: Any) -> None:
    for text in (json.dumps(found), document(found), document({**GOOD, "inputs": found}), tensor(found)):
        for read in (read_golden, read_requests):
            with suppress(GoldenError):
                assert all(request.inputs or request.name for request in read(text))


def test_requests_to_record_for_may_be_bodies_of_the_protocol() -> None:
    body = {"id": "a", "inputs": GOOD["inputs"], "outputs": [{"name": "label"}], "parameters": {}}
    for text in (json.dumps(body), json.dumps([body]), json.dumps({"requests": [body]}), document(GOOD)):
        (request,) = read_requests(text)
        assert [each.name for each in request.inputs] == ["x"]
        assert request.outputs == ()


def test_what_is_written_reads_the_same() -> None:
    numbers = Tensor("s", "FP32", (3,), (0.10000000149011612, math.nan, 3.0))
    request = GoldenRequest("é", (Tensor("t", "BYTES", (2,), ("ü", "")),), (numbers,))
    (found,) = read_golden(write_golden("digits", (request,)))
    assert found.inputs == request.inputs
    assert found.outputs[0].data[0] == numbers.data[0]
    assert str(found.outputs) == str(request.outputs)


PICTURE = bytes(range(256)) * 2


def test_bytes_that_are_no_text_are_written_in_base64_and_read_the_same() -> None:
    image = Tensor("x", "BYTES", (2, 2), (PICTURE, "a text", b"\xff", ""))
    text = write_golden("digits", (GoldenRequest("r", (image,), (image,)),))
    written = json.loads(text)["requests"][0]["inputs"][0]["data"]
    assert written[1:] == ["a text", {"b64": "/w=="}, ""]
    assert base64.b64decode(written[0]["b64"]) == PICTURE
    (found,) = read_golden(text)
    assert (found.inputs, found.outputs) == ((image,), (image,))


@given(st.lists(st.binary(max_size=12), min_size=1, max_size=4))
def test_a_value_is_the_same_however_it_is_written(values: list[bytes]) -> None:
    """Base64 of a text is that text: what the model answers has one form only to be compared with."""
    encoded = [{"b64": base64.b64encode(value).decode()} for value in values]
    (found,) = read_golden(tensor(encoded, "BYTES"))
    assert found.inputs[0].data == tuple(map(as_text, values))
    assert [each.encode() if isinstance(each, str) else each for each in found.inputs[0].data] == values


def test_a_set_that_cannot_be_stored_is_not_written() -> None:
    large = GoldenRequest("a", (Tensor("x", "FP64", (200_000,), (math.pi,) * 200_000),), ())
    with pytest.raises(GoldenError, match="keep fewer requests"):
        write_golden("digits", (large,))


@pytest.mark.parametrize(
    ("changes", "signature", "sentence"),
    [
        ({}, SIGNATURE, None),
        ({"inputs": []}, SIGNATURE, "requests[0] (seven): input x is missing"),
        (
            {"inputs": [{**GOOD["inputs"][0], "datatype": "FP64"}]},
            SIGNATURE,
            "requests[0] (seven): input x is FP64, the model's is FP32",
        ),
        (
            {"inputs": [{**GOOD["inputs"][0], "shape": [2]}]},
            SIGNATURE,
            "input x has shape [2], the model's is [-1, 2]",
        ),
        (
            {"outputs": [{**GOOD["outputs"][0], "name": "class"}]},
            SIGNATURE,
            "output class is not one of the model: it has label",
        ),
        ({}, Signature("1", SIGNATURE.inputs, SIGNATURE.outputs, decoupled=True), "decoupled"),
        ({}, Signature("1", SIGNATURE.inputs, SIGNATURE.outputs, sequences=True), "sequences"),
    ],
)
def test_a_set_that_does_not_fit_the_model(changes: dict[str, Any], signature: Signature, sentence: str | None) -> None:
    found = misfit(read_golden(document({**GOOD, **changes})), signature)
    if sentence is None:
        assert found is None
    else:
        assert found is not None
        assert sentence in found


def test_a_tolerance_for_an_output_that_nobody_expects_is_told() -> None:
    requests = read_golden(document(GOOD))
    assert "tolerances names output lable" in str(misfit(requests, SIGNATURE, (OutputTolerance(output="lable"),)))
    text = Signature("1", SIGNATURE.inputs, (TensorSpec("label", "BYTES", (-1,)),))
    texts = read_golden(
        document({**GOOD, "outputs": [{"name": "label", "datatype": "BYTES", "shape": [1], "data": ["a"]}]})
    )
    assert "topK needs numbers" in str(misfit(texts, text, (OutputTolerance(output="label", top_k=1),)))


def answered(wanted: Any, got: Any, datatype: str = "FP32", shape: Any = None, **tolerance: Any) -> tuple[str, ...]:
    size = (len(wanted),) if shape is None else shape
    given = {"y": OutputTolerance(output="y", **tolerance)} if tolerance else {}
    expected = Tensor("y", datatype, size, tuple(wanted))
    return compare((expected,), (Tensor("y", datatype, size, tuple(got)),), given).sentences


@pytest.mark.parametrize(
    ("wanted", "got", "more"),
    [
        ([1.0, -2.0], [1.000009, -2.000019], {}),
        ([math.nan], [math.nan], {}),
        ([math.inf], [math.inf], {}),
        ([1.0], [1.05], {"relative": 0.05000001}),
        ([0.0], [0.01], {"absolute": 0.01}),
        ([100.0], [101.5], {"absolute": 0.5, "relative": 0.01}),
        ([1, 2], [1, 2], {"datatype": "INT64"}),
        ([10], [12], {"datatype": "INT64", "absolute": 2.0}),
        (["a"], ["a"], {"datatype": "BYTES"}),
        ([True], [True], {"datatype": "BOOL"}),
        (["a"], ["b"], {"datatype": "BYTES", "ignore": True}),
        ([0.1, 0.7, 0.2], [0.3, 0.9, 0.1], {"top_k": 1}),
        ([0.1, 0.7, 0.2, 5.0, 1.0, 3.0], [0.0, 0.9, 0.3, 9.0, 1.0, 2.0], {"top_k": 2, "shape": (2, 3)}),
        ([], [], {}),
    ],
)
def test_answers_that_are_the_expected_ones(wanted: Any, got: Any, more: dict[str, Any]) -> None:
    assert answered(wanted, got, **more) == ()


@pytest.mark.parametrize(
    ("wanted", "got", "more", "sentence"),
    [
        ([1.0, 2.0], [1.0, 2.1], {}, "output y: expected 2 at [1], got 2.1 (0.1 off)"),
        ([1.0, 2.0], [3.0, 2.1], {}, "output y: expected 1 at [0], got 3 (2 off); 2 of 2 entries differ"),
        ([1.0] * 6, [1.0] * 5 + [2.0], {"shape": (2, 3)}, "expected 1 at [1, 2], got 2"),
        ([1.0], [1.00001], {"absolute": 0.0}, "expected 1, got 1.00001"),
        ([1.0], [math.nan], {"absolute": 1e9}, "expected 1, got nan"),
        ([math.nan], [0.0], {"relative": 10.0}, "expected nan, got 0"),
        ([math.inf], [-math.inf], {"relative": 1.0}, "expected inf, got -inf"),
        ([math.inf], [1e30], {"relative": 1.0}, "expected inf, got 1e+30"),
        ([7], [8], {"datatype": "INT64"}, "expected 7, got 8 (1 off)"),
        ([2**63 - 1], [2**63 - 2], {"datatype": "INT64"}, "expected 9223372036854775807, got 9223372036854775806"),
        (["a"], ["b"], {"datatype": "BYTES", "absolute": 1.0}, 'expected "a", got "b"'),
        ([b"\xff\x00"], [b"\xff\x01"], {"datatype": "BYTES"}, "expected 2 bytes ff00, got 2 bytes ff01"),
        (["a"], [b"\xff"], {"datatype": "BYTES"}, 'expected "a", got 1 bytes ff'),
        (
            [PICTURE],
            [PICTURE[:300] + b"!" + PICTURE[301:]],
            {"datatype": "BYTES"},
            "0d0e0f..., got 512 bytes 000102030405060708090a0b0c0d0e0f... (the same for 300 bytes)",
        ),
        ([PICTURE], [PICTURE[:-1]], {"datatype": "BYTES"}, "0e0f... (the same for 511 bytes)"),
        (["a" * 99], ["a" * 98 + "b"], {"datatype": "BYTES"}, "(the same for 98 bytes)"),
        ([True], [False], {"datatype": "BOOL"}, "expected True, got False"),
        ([0.1, 0.7, 0.2], [0.8, 0.7, 0.2], {"top_k": 1}, "expected the greatest entries [1], got [0]"),
        ([0.1, 0.7, 0.2], [0.3, 0.9, 0.1], {"top_k": 2}, "expected the greatest entries [1, 2], got [1, 0]"),
        ([1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 1.0, 0.0], {"top_k": 1, "shape": (2, 2)}, "in row 0, got [1]; 2 of 2 rows"),
        ([1.0, 0.0], [math.nan, 0.0], {"top_k": 1}, "expected the greatest entries [0], got [1]"),
    ],
)
def test_answers_that_are_not(wanted: Any, got: Any, more: dict[str, Any], sentence: str) -> None:
    (found,) = answered(wanted, got, **more)
    assert sentence in found


def test_an_answer_of_another_kind_is_told() -> None:
    expected = (Tensor("y", "FP32", (2,), (1.0, 2.0)),)
    assert compare(expected, (), {}).sentences == ("output y: is not in the answer",)
    assert compare(expected, (Tensor("y", "FP64", (2,), (1.0, 2.0)),), {}).sentences == (
        "output y: expected FP32, got FP64",
    )
    assert compare(expected, (Tensor("y", "FP32", (1,), (1.0,)),), {}).sentences == (
        "output y: expected shape [2], got [1]",
    )


@given(st.lists(st.floats(width=32), max_size=20), st.floats(0, 1))
def test_what_is_answered_exactly_always_passes(numbers: list[float], relative: float) -> None:
    assert answered(numbers, numbers) == ()
    assert answered(numbers, numbers, relative=relative) == ()


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.floats(0, 100), st.floats(0, 1))
def test_the_tolerance_is_what_it_is_said_to_be(wanted: float, got: float, absolute: float, relative: float) -> None:
    good = abs(wanted - got) <= absolute + relative * abs(wanted)
    assert (answered([wanted], [got], "FP64", absolute=absolute, relative=relative) == ()) is good
