"""What breaks clients of a model, and what does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from modelrollout.api.contract import DATATYPE_LIMIT, DIMENSION_LIMIT, NAME_LIMIT, TENSOR_LIMIT
from modelrollout.api.modelrevision import ModelRevisionStatus, revision_status_from
from modelrollout.api.status import status_to_dict
from modelrollout.evidence.contract import LINES, as_signature, difference, in_words, major, to_keep
from modelrollout.ports import Signature, TensorSpec

X = TensorSpec("x", "FP32", (-1, 64))
HINT = TensorSpec("hint", "BYTES", (-1, 1), optional=True)
SCORES = TensorSpec("scores", "FP32", (-1, 10))
LABEL = TensorSpec("label", "INT64", (-1,))
STABLE = Signature("1", (X, HINT), (SCORES, LABEL), 8)


def changed(**changes: Any) -> Signature:
    return replace(STABLE, **changes)


@pytest.mark.parametrize(
    ("candidate", "breaking"),
    [
        (changed(outputs=(replace(SCORES, shape=(-1, 12)), LABEL)), "output scores: FP32[?, 10] -> FP32[?, 12]"),
        (changed(outputs=(replace(SCORES, datatype="FP64"), LABEL)), "output scores: FP32[?, 10] -> FP64[?, 10]"),
        (changed(outputs=(replace(SCORES, shape=(10,)), LABEL)), "output scores: FP32[?, 10] -> FP32[10]"),
        (changed(outputs=(SCORES,)), "output label: gone, it was INT64[?]"),
        (changed(outputs=(SCORES, replace(LABEL, name="class"))), "output label: renamed to class"),
        (changed(inputs=(X,)), "input hint: gone, it was BYTES[?, 1]"),
        (changed(inputs=(replace(X, name="pixels"), HINT)), "input x: renamed to pixels"),
        (changed(inputs=(replace(X, shape=(1, 64)), HINT)), "input x: FP32[?, 64] -> FP32[1, 64]"),
        (changed(inputs=(X, replace(HINT, optional=False))), "input hint: optional -> required"),
        (changed(inputs=(X, HINT, TensorSpec("mask", "BOOL", (-1, 64)))), "input mask: new and required, BOOL[?, 64]"),
        (changed(max_batch_size=4), "batch: at most 8 -> at most 4 a request"),
        (changed(decoupled=True), "decoupled answers: no -> yes"),
        (changed(sequences=True), "sequences: no -> yes"),
    ],
)
def test_what_breaks_clients(candidate: Signature, breaking: str) -> None:
    assert difference(STABLE, candidate).breaking == (breaking,)


@pytest.mark.parametrize(
    ("candidate", "harmless"),
    [
        (changed(), ()),
        (changed(version="7", parameters={"golden": "{}"}), ()),
        (changed(inputs=(HINT, X), outputs=(LABEL, SCORES)), ()),
        (changed(max_batch_size=16), ()),
        (changed(outputs=(SCORES, LABEL, TensorSpec("why", "BYTES", (-1, 1)))), ("output why: new, BYTES[?, 1]",)),
        (
            changed(inputs=(X, HINT, TensorSpec("seed", "INT64", (-1, 1), optional=True))),
            ("input seed: new and optional, INT64[?, 1]",),
        ),
        (
            changed(inputs=(replace(X, shape=(-1, -1)), HINT)),
            ("input x: FP32[?, 64] -> FP32[?, ?]",),
        ),
        (changed(inputs=(replace(X, optional=True), HINT)), ("input x: required -> optional",)),
        (changed(outputs=(replace(SCORES, shape=(-1, -1)), LABEL)), ("output scores: FP32[?, 10] -> FP32[?, ?]",)),
        (changed(outputs=(replace(SCORES, shape=(1, 10)), LABEL)), ("output scores: FP32[?, 10] -> FP32[1, 10]",)),
    ],
)
def test_what_does_not(candidate: Signature, harmless: tuple[str, ...]) -> None:
    found = difference(STABLE, candidate)
    assert (found.breaking, found.harmless) == ((), harmless)


def test_no_batching_any_more_shows_in_the_shapes() -> None:
    candidate = Signature("1", (replace(X, shape=(64,)), HINT), (SCORES, LABEL), 0)
    assert difference(STABLE, candidate).breaking == ("input x: FP32[?, 64] -> FP32[64]",)


def test_a_bound_on_the_batch_where_there_was_none_breaks() -> None:
    assert difference(replace(STABLE, max_batch_size=0), STABLE).breaking == (
        "batch: at most any number -> at most 8 a request",
    )


def test_many_changes_are_a_bounded_line() -> None:
    line = in_words([f"input x{number}: gone" for number in range(LINES + 5)])
    assert line.endswith("; and 5 more")
    assert line.count("gone") == LINES


@pytest.mark.parametrize(("version", "number"), [("1.4.0", "1"), ("0.3.1-rc.1", "0"), ("12.0.0+build", "12")])
def test_major(version: str, number: str) -> None:
    assert major(version) == number


@pytest.mark.parametrize(
    ("first", "batch", "breaks"), [(1, 8, False), (8, 8, False), (9, 8, True), (-1, 8, True), (None, 8, True)]
)
def test_batching_where_there_was_none_breaks_only_larger_requests(first: int | None, batch: int, breaks: bool) -> None:
    """Clients of a model whose first dimension was fixed never sent more than that."""
    shape = () if first is None else (first, 64)
    before = Signature("1", (replace(X, shape=shape),), (SCORES,), 0)
    after = replace(before, inputs=(replace(X, shape=shape if first is None else (-1, 64)),), max_batch_size=batch)
    assert any("batch" in each for each in difference(before, after).breaking) is breaks


def test_what_is_kept_compares_like_what_a_pod_tells() -> None:
    signature = changed(decoupled=True, sequences=True, parameters={"golden": "{}"})
    contract = to_keep(signature)
    stored = revision_status_from(status_to_dict(ModelRevisionStatus(contract=contract))).contract
    assert stored is not None
    assert as_signature(stored) == replace(signature, version="", parameters={})
    assert difference(as_signature(stored), signature) == difference(signature, signature)


@pytest.mark.parametrize(
    "large",
    [
        changed(inputs=tuple(replace(X, name=f"x{number}") for number in range(TENSOR_LIMIT + 1))),
        changed(outputs=tuple(replace(X, name=f"y{number}") for number in range(TENSOR_LIMIT + 1))),
        changed(inputs=(replace(X, name="x" * (NAME_LIMIT + 1)),)),
        changed(outputs=(replace(X, datatype="Y" * (DATATYPE_LIMIT + 1)),)),
        changed(inputs=(replace(X, shape=(-1,) * (DIMENSION_LIMIT + 1)),)),
    ],
)
def test_what_is_too_large_is_not_kept_in_part(large: Signature) -> None:
    assert to_keep(large) is None
    assert to_keep(STABLE) is not None
