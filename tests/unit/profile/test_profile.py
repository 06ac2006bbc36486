"""The profile file: strict, bounded, the same after a round trip; made of data by a direct computation's numbers."""

import json
import math
import re
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from modelrollout.profile.bins import category, numeric_bins, numeric_counts, padded
from modelrollout.profile.contract import Contract, Tensor, misfits
from modelrollout.profile.making import Column, make, probabilities, quantile_edges
from modelrollout.profile.model import LabelOutput, NumericOutput, Profile, ProfileError, dump, parse

NUMERIC = {"name": "a", "input": "X", "index": [0], "kind": "numeric", "edges": [1, 2], "shares": [0.2, 0.3, 0.5]}
CATEGORICAL = {
    "name": "b",
    "input": "Y",
    "kind": "categorical",
    "categories": {"x": 0.5},
    "other": 0.25,
    "missing": 0.25,
}
LABEL = {"name": "l", "output": "L", "kind": "label", "classes": {"0": 0.9, "1": 0.1}}


def file(*features: Any, outputs: Any = (), **changes: Any) -> str:
    return json.dumps(
        {"version": 1, "model": "m", "samples": 10, "features": [*features], "outputs": [*outputs], **changes}
    )


def test_a_good_file_is_read_and_written_back() -> None:
    profile = parse(file(NUMERIC, CATEGORICAL, outputs=[LABEL]))
    assert parse(dump(profile)) == profile
    assert profile.features[0].bins == ("1.0", "2.0", "+Inf", "missing")
    assert profile.features[1].bins == ("x", "other", "missing")
    assert profile.features[0].reference == (0.2, 0.3, 0.5, 0.0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "Invalid JSON"),
        ("[]", "should be an object"),
        (file(NUMERIC, version=2), "version: Input should be 1"),
        (file(NUMERIC, samples=0), "samples: Input should be greater than or equal to 1"),
        (file(), "has neither features nor outputs"),
        (file(NUMERIC, colour="red"), "colour: Extra inputs are not permitted"),
        (file({**NUMERIC, "edges": [2, 1]}), "features[0]: edges must ascend"),
        (file({**NUMERIC, "edges": [1, 1]}), "features[0]: edges must ascend"),
        (file({**NUMERIC, "shares": [0.5, 0.5]}), "features[0]: 2 edges make 3 bins: 2 shares given"),
        (file({**NUMERIC, "shares": [0.2, 0.3, 0.4]}), "features[0]: shares sum to 0.9, not 1"),
        (file({**NUMERIC, "missing": 0.1}), "features[0]: shares sum to 1.1, not 1"),
        (file({**NUMERIC, "shares": [-0.2, 0.7, 0.5]}), "features[0].shares[0]: Input should be greater than or equal"),
        (file({**NUMERIC, "edges": ["1", 2]}), "features[0].edges[0]: Input should be a valid number"),
        (file(NUMERIC).replace("[1, 2]", "[1, Infinity]"), "features[0].edges[1]: Input should be a finite number"),
        (file(NUMERIC).replace("[1, 2]", "[1, NaN]"), "features[0].edges[1]: Input should be a finite number"),
        (file({**NUMERIC, "kind": "ordinal"}), "features[0]: Input tag 'ordinal'"),
        (file({**NUMERIC, "index": [-1]}), "features[0].index[0]: Input should be greater than or equal to 0"),
        (file({**NUMERIC, "name": "a\nb"}), "features[0].name: String should match pattern"),
        (file(NUMERIC, NUMERIC), "feature 'a' is there twice"),
        (
            file(NUMERIC, {**NUMERIC, "name": "c", "index": []}),
            "features of input 'X' have indexes of different lengths",
        ),
        (file({**CATEGORICAL, "categories": {"missing": 0.5}}), "features[0]: 'missing' is a bin of its own"),
        (file({**CATEGORICAL, "categories": {f"c{n}": 0.5 / 33 for n in range(33)}}), "should have at most 32 items"),
        (file({**NUMERIC, "edges": list(range(64)), "shares": [1 / 65] * 65}), "should have at most 63 items"),
        (file(*({**NUMERIC, "name": f"f{n}"} for n in range(1025))), "should have at most 1024 items"),
        (
            file(
                *({**NUMERIC, "name": f"f{n}", "edges": list(range(63)), "shares": [1 / 64] * 64} for n in range(300))
            ),
            "has 19500 bins in all, more than 16384",
        ),
        (" " * (4 * 1024 * 1024 + 1), "larger than 4 MiB"),
    ],
)
def test_a_bad_file_is_refused_with_its_place(text: str, words: str) -> None:
    with pytest.raises(ProfileError) as error:
        parse(text)
    assert words in str(error.value)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200) | st.binary(max_size=200))
def test_no_file_at_all_breaks_the_reader(data: str | bytes) -> None:
    with pytest.raises(ProfileError):
        parse(data)


NUMBERS = st.floats(-1e6, 1e6, width=32) | st.just(math.nan) | st.just(math.inf) | st.just(-math.inf)


@settings(max_examples=200, deadline=None)
@given(st.lists(NUMBERS, min_size=1, max_size=80), st.integers(2, 20))
def test_any_numbers_make_a_profile_whose_shares_are_those_of_the_data(values: list[float], bins: int) -> None:
    assume(not all(map(math.isnan, values)))
    data = np.array(values)
    made = parse(dump(make("m", [Column("a", "X", (0,), data)], {}, bins)))
    feature = made.features[0]
    edges = (-math.inf, *feature.edges, math.inf)  # type: ignore[union-attr]
    direct = [
        sum(low < value <= high or (value == -math.inf == low) for value in values) / len(values)
        for low, high in pairwise(edges)
    ]
    assert feature.reference == pytest.approx((*direct, sum(map(math.isnan, values)) / len(values)), abs=1e-8)
    assert len(edges) - 1 <= bins


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(NUMBERS, min_size=3, max_size=3), min_size=1, max_size=30))
def test_many_features_at_once_fall_into_the_bins_of_each_alone(rows: list[list[float]]) -> None:
    values = np.array(rows).T
    edges = [(0.0,), (-1.0, 0.0, 5.0), (1.0, 2.0)]
    together = numeric_bins(np.ascontiguousarray(values), padded(edges))
    for place, own in enumerate(edges):
        counted = np.bincount(together[place], minlength=len(own) + 2)
        assert counted.tolist() == numeric_counts(values[place], own).tolist()


def test_what_is_kept_are_no_values_of_the_data() -> None:
    values = np.random.default_rng(3).normal(50_000, 7_000, 997)
    kept = quantile_edges(values, 10)
    assert len(kept) == 9
    assert not {*kept} & {*values.tolist()}
    assert quantile_edges(np.full(10, math.nan), 10) == (0.0,)
    assert quantile_edges(np.array([3.0] * 10), 10) == (2.985, 3.015)


@pytest.mark.parametrize(
    ("values", "edges"),
    [
        ([0] * 50 + [1] * 50, (-0.5, 0.5, 1.5)),
        ([0.1] * 50 + [0.2] * 30 + [0.3] * 20, (0.05, 0.15, 0.25, 0.35)),
        ([0.0] * 90 + [5.0, 6.0] * 5, (-2.5, 2.5)),
        ([1_700_000_000 + number for number in range(100)], tuple(1_700_000_000.0 + 9.5 + 10 * n for n in range(9))),
        ([2**62] * 4, (2**62 * 0.995, 2**62 * 1.005)),
        ([-1e308, 1e308] * 5, (0.0,)),
        ([math.inf, -math.inf, 4.0], (3.98, 4.02)),
    ],
)
def test_edges_lie_between_the_numbers_and_on_both_sides_of_a_common_one(
    values: list[float], edges: tuple[float, ...]
) -> None:
    found = quantile_edges(np.array(values), 10)
    assert found == pytest.approx(edges, rel=1e-6)
    assert not {*found} & {*values}


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (None, None),
        (b"", None),
        (float("nan"), None),
        (1.0, "1"),
        (np.int64(7), "7"),
        (True, "true"),
        (0.5, "0.5"),
        ("bern", "bern"),
        (b"bern", "bern"),
        (b"\xff", "�"),
    ],
)
def test_names_of_categories(value: object, name: str | None) -> None:
    assert category(value) == name


def test_categories_are_the_commonest_and_the_names_of_bins_are_none() -> None:
    words = np.array(
        ["a"] * 50 + ["other"] * 30 + ["missing"] * 20 + [f"w{n}" for n in range(40)] * 10 + [None, ""] * 10,
        dtype=object,
    )
    feature = make("m", [Column("c", "C", (0,), words)], {}).features[0]
    shares = dict(zip(feature.bins, feature.reference, strict=True))
    assert shares["a"] == pytest.approx(50 / 520, abs=1e-8)
    assert len(feature.categories) == 32  # type: ignore[union-attr]
    assert shares["other"] == pytest.approx((30 + 20 + 90) / 520, abs=1e-8)
    assert shares["missing"] == pytest.approx(20 / 520, abs=1e-8)


def test_words_that_name_a_person_are_no_categories() -> None:
    words = np.array([f"{n}@example.com" for n in range(300)] + ["shared@example.com"] * 10, dtype=object)
    text = dump(make("m", [Column("c", "C", (0,), words)], {"L": words}))
    assert set(re.findall(r"\w+@example.com", text)) == {"shared@example.com"}
    assert parse(text).features[0].reference == pytest.approx((10 / 310, 300 / 310, 0.0), abs=1e-8)


def test_a_column_without_a_value_is_left_out() -> None:
    there, nothing = Column("a", "X", (0,), np.arange(3.0)), Column("b", "X", (1,), np.full(3, math.nan))
    assert [part.name for part in make("m", [there, nothing], {}).features] == ["a"]
    with pytest.raises(ProfileError, match="no column has a value"):
        make("m", [nothing], {})
    with pytest.raises(ProfileError, match="no row has a value of output S"):
        make("m", [there], {"S": nothing.values})


def test_true_labels_are_those_of_the_output_with_one_class_a_row() -> None:
    answers = {
        "CONF": np.array([[0.9, 0.1], [0.2, 0.8]]),
        "ROUTE": np.array(["tech", "sales"], dtype=object),
        "AGAIN": np.array([[1], [0]]),
    }
    made = make("m", [Column("a", "X", (0,), np.array([1.0, 2.0]))], answers)
    assert [part.name for part in made.outputs] == ["ROUTE", "AGAIN", "CONF"], "words are what people know of the truth"


def test_outputs_become_labels_or_numbers() -> None:
    random = np.random.default_rng(1)
    chances = random.dirichlet((1, 1, 1), 50)
    made = make(
        "m",
        [],
        {
            "P": chances,
            "Y": random.integers(0, 3, (50, 1)),
            "W": np.array(["yes", "no"] * 25, dtype=object),
            "S": random.normal(size=50),
            "V": random.normal(size=(50, 2)),
        },
    )
    kinds = {part.name: type(part) for part in made.outputs}
    assert kinds == {
        "P": LabelOutput,
        "Y": LabelOutput,
        "W": LabelOutput,
        "S": NumericOutput,
        "V[0]": NumericOutput,
        "V[1]": NumericOutput,
    }
    label = next(part for part in made.outputs if part.name == "P")
    direct = np.bincount(chances.argmax(axis=1), minlength=3) / 50
    assert [dict(zip(label.bins, label.reference, strict=True))[str(n)] for n in range(3)] == pytest.approx(direct)
    assert probabilities(chances)
    assert not probabilities(chances * 2)


def test_too_much_or_nothing_is_refused() -> None:
    with pytest.raises(ProfileError, match="no column is left"):
        make("m", [], {})
    with pytest.raises(ProfileError, match="has no rows"):
        make("m", [Column("a", "X", (0,), np.zeros(0))], {})
    with pytest.raises(ProfileError, match="different numbers of rows"):
        make("m", [Column("a", "X", (0,), np.zeros(2)), Column("b", "X", (1,), np.zeros(3))], {})
    with pytest.raises(ProfileError, match="1025 features"):
        make("m", [Column(f"a{n}", "X", (n,), np.zeros(2)) for n in range(1025)], {})


def contract(**inputs: tuple[str, tuple[int, ...]]) -> Contract:
    tensors = {name: Tensor(name, datatype, shape) for name, (datatype, shape) in inputs.items()}
    return Contract(tensors, {"L": Tensor("L", "INT64", (-1, 1))})


@pytest.mark.parametrize(
    ("inputs", "found"),
    [
        ({"X": ("FP32", (-1, 3)), "Y": ("BYTES", (-1,))}, {}),
        ({"X": ("FP32", (-1, -1)), "Y": ("BYTES", (-1,))}, {}),
        ({"Y": ("BYTES", (-1,))}, {"feature a": "the model has no input 'X': it has Y"}),
        (
            {"X": ("BYTES", (-1, 3)), "Y": ("BYTES", (-1,))},
            {"feature a": "is numeric, and input 'X' has words (BYTES)"},
        ),
        (
            {"X": ("FP32", (-1, 3, 2)), "Y": ("BYTES", (-1,))},
            {"feature a": "has an index of 1 places, and a row of input 'X' has 2 dimensions"},
        ),
        (
            {"X": ("FP32", (-1, 3)), "Y": ("INT64", (-1,))},
            {"feature b": "has words as categories, and input 'Y' has numbers (INT64)"},
        ),
    ],
)
def test_a_profile_that_does_not_fit_is_told_apart(inputs: Any, found: dict[str, str]) -> None:
    assert misfits(parse(file(NUMERIC, CATEGORICAL, outputs=[LABEL])), contract(**inputs)) == found


def test_an_index_outside_of_the_row_and_an_unknown_output() -> None:
    profile = parse(file({**NUMERIC, "index": [7]}, outputs=[{**LABEL, "output": "Q"}]))
    assert misfits(profile, contract(X=("FP32", (-1, 3)))) == {
        "feature a": "index [7] is out of range: a row of input 'X' has the shape [3]",
        "output l": "the model has no output 'Q': it has L",
    }
    unbatched = Contract({"X": Tensor("X", "FP32", (8,), batched=False)}, {"Q": Tensor("Q", "FP32", (2,))})
    assert misfits(profile, unbatched) == {}


def test_a_profile_is_frozen() -> None:
    assert Profile.model_config["extra"] == "forbid"
    with pytest.raises(ValueError, match="frozen"):
        parse(file(NUMERIC)).model = "other"  # type: ignore[misc]
