"""Counting and comparing, against a direct computation."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelrollout.api.gates import OutputTolerance
from modelrollout.observer.comparing import Comparer, Kind
from modelrollout.observer.counting import Binning, WrongTypeError, cumulative, labels_of
from modelrollout.observer.rates import Bucket
from modelrollout.observer.tensors import DTYPES, Tensor, from_bytes, from_json, to_bytes
from modelrollout.profile.bins import category
from modelrollout.profile.making import Column, make
from modelrollout.profile.model import Categorical, Numeric

EDGES = (-1.0, 0.0, 2.5)
NUMERIC = Numeric(edges=EDGES, shares=(0.25, 0.25, 0.25, 0.25))
CODES = Categorical(kind="categorical", categories={"1": 0.5, "2": 0.3}, other=0.1, missing=0.1)
WORDS = Categorical(kind="categorical", categories={"bern": 0.9}, other=0.05, missing=0.05)


def numbers(values: Any, datatype: str = "FP64") -> Tensor:
    array = np.asarray(values, DTYPES[datatype])
    return Tensor("X", datatype, array.shape, array)


def words(values: list[bytes | None], shape: tuple[int, ...]) -> Tensor:
    return Tensor("C", "BYTES", shape, words=values)


VALUES = st.floats(-4, 4, width=32) | st.sampled_from([*EDGES, float("nan"), float("inf"), -float("inf"), 1.0, 2.0])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=1, max_size=5), min_size=1, max_size=6))
def test_rows_of_many_requests_are_counted_as_one_by_one(requests: list[list[tuple[float, float, float]]]) -> None:
    binning = Binning([("a", "X", (0,), NUMERIC), ("b", "X", (2,), NUMERIC), ("c", "X", (1,), CODES)])
    counts = np.zeros(binning.size, dtype=np.int64)
    tensors = [{"X": numbers(rows)} for rows in requests]
    binning.count([(each, binning.check(each)) for each in tensors], counts)
    expected = np.zeros(binning.size, dtype=np.int64)
    for first, second, third in (row for rows in requests for row in rows):
        for start, value in ((0, first), (5, third)):
            expected[start + (4 if np.isnan(value) else sum(value > edge for edge in EDGES))] += 1
        expected[10 + {"1": 0, "2": 1, None: 3}.get(category(value := second), 2 if not np.isnan(value) else 3)] += 1
    assert counts.tolist() == expected.tolist()
    assert cumulative(counts[:5])[-1] + counts[4] == sum(map(len, requests))


def test_a_missing_input_is_missing_for_each_row_of_the_others() -> None:
    binning = Binning([("a", "X", (0,), NUMERIC), ("c", "C", (0,), WORDS)])
    counts = np.zeros(binning.size, dtype=np.int64)
    requests = [
        {"X": numbers([[1.0], [1.0], [1.0]])},
        {"C": words([b"bern", b"", None, b"chur"], (4, 1))},
        {"X": numbers([[1.0]]), "C": words([], (0, 1))},
    ]
    binning.count([(each, binning.check(each)) for each in requests], counts)
    assert counts.tolist() == [0, 0, 4, 0, 4, 1, 1, 2 + 3 + 1]


@pytest.mark.parametrize(
    "tensors",
    [
        {"Z": numbers([[1.0]])},
        {"X": words([b"a"], (1, 1))},
        {"X": numbers([[[1.0]]])},
        {"X": numbers([[1.0], [2.0]]), "C": words([b"a"], (1, 1))},
        {"Y": numbers([[1.0, 2.0]])},
    ],
)
def test_what_cannot_be_counted_is_told(tensors: Any) -> None:
    binning = Binning([("a", "X", (0,), NUMERIC), ("b", "Y", (5,), NUMERIC), ("c", "C", (0,), WORDS)])
    with pytest.raises(WrongTypeError):
        binning.check(tensors)


def test_rows_without_a_batch_and_rows_of_one_number() -> None:
    binning = Binning([("a", "X", (1,), NUMERIC)])
    assert binning.check({"X": numbers([0.0, 1.0, 2.0])}) == 1
    alone = Binning([("a", "X", (0,), NUMERIC)])
    counts = np.zeros(alone.size, dtype=np.int64)
    tensors = {"X": numbers([-2.0, 1.0, 9.0])}
    alone.count([(tensors, alone.check(tensors))], counts)
    assert counts.tolist() == [1, 0, 1, 1, 0]


def test_the_profile_of_data_and_the_counts_of_the_same_data_agree_exactly() -> None:
    random = np.random.default_rng(5)
    data = random.lognormal(size=(4000, 3))
    data[random.random((4000, 3)) < 0.05] = np.nan
    city = np.array(["bern", "basel", ""], dtype=object)[random.integers(0, 3, 4000)]
    columns = [Column(f"x{n}", "X", (n,), data[:, n]) for n in range(3)] + [Column("c", "C", (0,), city)]
    profile = make("m", columns, {})
    binning = Binning((part.name, part.input, part.index, part) for part in profile.features)
    counts = np.zeros(binning.size, dtype=np.int64)
    tensors = {"X": numbers(data), "C": words([name.encode() for name in city], (4000, 1))}
    binning.count([(tensors, binning.check(tensors))], counts)
    for part in binning.parts:
        found = counts[part.start : part.start + part.size] / 4000
        assert found.tolist() == pytest.approx(part.binned.reference, abs=1e-8)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([*DTYPES, "BF16"]), st.lists(st.integers(0, 100), max_size=6))
def test_raw_bytes_and_json_are_the_same_tensor(datatype: str, values: list[int]) -> None:
    values = [value % 2 for value in values] if datatype == "BOOL" else values
    given_as_json = from_json(
        "X", datatype, (len(values),), [bool(v) for v in values] if datatype == "BOOL" else values
    )
    raw = to_bytes(given_as_json)
    read = from_bytes("X", datatype, (len(values),), raw)
    assert read.numbers is not None
    assert read.numbers.tolist() == values
    assert to_bytes(read) == raw


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=8), max_size=6))
def test_words_survive_their_bytes(values: list[bytes]) -> None:
    raw = to_bytes(words(list(values), (len(values),)))
    assert from_bytes("C", "BYTES", (len(values),), raw).words == values


@pytest.mark.parametrize(
    ("tensor", "labels"),
    [
        (numbers([[0.1, 0.9], [0.8, 0.2]]), ["1", "0"]),
        (numbers([[0.1, float("nan")], [0.8, 0.2]]), [None, "0"]),
        (numbers([3, 1], "INT64"), ["3", "1"]),
        (numbers([[3], [1]], "INT32"), ["3", "1"]),
        (numbers([[3, 1]], "INT32"), None),
        (numbers([True], "BOOL"), ["true"]),
        (words([b"cat", b""], (2, 1)), ["cat", None]),
        (words([b"cat", b"dog"], (1, 2)), None),
        (numbers([[0.5], [0.2]]), None),
        (numbers([]), None),
    ],
)
def test_labels(tensor: Tensor, labels: list[str | None] | None) -> None:
    assert labels_of(tensor) == labels


def named(**tensors: Tensor) -> dict[str, Tensor]:
    return dict(tensors)


@pytest.mark.parametrize(
    ("stable", "candidate", "tolerance", "kinds"),
    [
        (named(S=numbers([1.0])), named(S=numbers([1.0 + 5e-6])), {}, set()),
        (named(S=numbers([1.0])), named(S=numbers([1.0 + 5e-5])), {}, {Kind.VALUE}),
        (named(S=numbers([1.0])), named(S=numbers([1.05])), {"absolute": 0.1}, set()),
        (named(S=numbers([10.0])), named(S=numbers([10.9])), {"relative": 0.1}, set()),
        (named(S=numbers([10.0])), named(S=numbers([11.1])), {"relative": 0.1}, {Kind.VALUE}),
        (named(S=numbers([1.0])), named(S=numbers([1.0 + 5e-6])), {"absolute": 0.0}, {Kind.VALUE}),
        (named(S=numbers([1.0])), named(S=numbers([9.0])), {"ignore": True}, set()),
        (named(S=numbers([np.nan])), named(S=numbers([np.nan])), {}, set()),
        (named(S=numbers([np.nan])), named(S=numbers([1.0])), {}, {Kind.VALUE}),
        (named(S=numbers([1.0])), named(), {}, {Kind.SHAPE}),
        (named(S=numbers([1.0])), named(S=numbers([1.0, 2.0])), {}, {Kind.SHAPE}),
        (named(S=numbers([1.0])), named(S=numbers([1.0], "FP32")), {}, {Kind.SHAPE}),
        (named(), named(S=numbers([1.0])), {}, set()),
        (named(S=numbers([[3.0, 2.0, 1.0]])), named(S=numbers([[9.0, 5.0, 4.9]])), {"top_k": 2}, set()),
        (named(S=numbers([[3.0, 2.0, 1.0]])), named(S=numbers([[9.0, 4.0, 5.0]])), {"top_k": 2}, {Kind.VALUE}),
        (named(S=numbers([[3.0, 2.0, 1.0]])), named(S=numbers([[1.0, 2.0, 3.0]])), {}, {Kind.VALUE, Kind.LABEL}),
        (named(S=numbers([[0.6, 0.4]])), named(S=numbers([[0.4, 0.6]])), {"absolute": 0.5}, {Kind.LABEL}),
        (named(S=numbers([[0.5, 0.5]])), named(S=numbers([[0.5, 0.5 + 1e-7]])), {}, set()),
        (named(S=numbers([7], "INT64")), named(S=numbers([8], "INT64")), {}, {Kind.VALUE, Kind.LABEL}),
        (named(C=words([b"a"], (1,))), named(C=words([b"b"], (1,))), {}, {Kind.VALUE, Kind.LABEL}),
        (named(C=words([b"a"], (1,))), named(C=words([b"a"], (1,))), {}, set()),
    ],
)
def test_answers_differ_by_tolerance(stable: Any, candidate: Any, tolerance: Any, kinds: set[Kind]) -> None:
    tolerances = (OutputTolerance(output="S", **tolerance),) if tolerance else ()
    assert Comparer(tolerances).compare(stable, candidate).kinds == kinds


def test_the_label_is_the_profiles_else_words_and_integers_go_before_numbers() -> None:
    both = named(A=numbers([[0.9, 0.1]]), B=numbers([1], "INT64"))
    other = named(A=numbers([[0.1, 0.9]]), B=numbers([1], "INT64"))
    assert Comparer().compare(both, other).flip is None
    assert Comparer(label="A").compare(both, other).flip == ("0", "1")
    assert Comparer(label="Z").compare(both, other).flip is None


def test_a_bucket_gives_its_rate_and_no_more() -> None:
    bucket = Bucket(5.0, 0.0)
    given = sum(bucket.take(step / 1000) for step in range(10_000))
    assert given == pytest.approx(50, abs=6)
    for rate in (1.0, 2.7, 20.0):
        bucket = Bucket(rate, 0.0)
        at = [step / 1000 for step in range(5000) if step < 1000 or step > 2000 if bucket.take(step / 1000)]
        assert max(sum(first <= each < first + 1.0 for each in at) for first in at) <= rate
        assert len(at) >= 4 * int(rate)
    slow = Bucket(0.1, 0.0)
    assert [slow.take(0.0), slow.take(5.0), slow.take(10.5)] == [True, False, True]


def test_parts_of_a_large_answer_are_compared_and_counted_as_the_whole() -> None:
    size = 300_000
    random = np.random.default_rng(4)
    rows = random.random((size // 2, 2)).astype("<f4")
    late = rows.copy()
    late[-1] = [0.9, 0.1] if rows[-1, 1] > rows[-1, 0] else [0.1, 0.9]
    one, other = Tensor("Y", "FP32", rows.shape, rows), Tensor("Y", "FP32", rows.shape, late)
    for tolerances in ((), (OutputTolerance(output="Y", topK=1),), (OutputTolerance(output="Y", absolute=0.001),)):
        assert Comparer(tolerances).compare({"Y": one}, {"Y": one}).kinds == frozenset()
        assert Comparer(tolerances).compare({"Y": one}, {"Y": other}).kinds == {Kind.VALUE}
    assert labels_of(one) is None
    binning = Binning([("a", "Y", (1,), Numeric(edges=(0.5,), shares=(0.5, 0.5)))])
    counts = np.zeros(binning.size, dtype=np.int64)
    binning.count([({"Y": one}, binning.check({"Y": one}))], counts)
    assert counts.tolist() == [(rows[:, 1] <= 0.5).sum(), (rows[:, 1] > 0.5).sum(), 0]


def test_an_answer_of_millions_of_numbers_has_no_labels() -> None:
    many = numbers(np.zeros(70_000), "INT64")
    assert labels_of(many) is None
    assert labels_of(words([b"a"] * 70_000, (70_000,))) is None
    assert len(labels_of(numbers(np.zeros(60_000), "INT64")) or ()) == 60_000
