"""Compares the answers of two arms to the same request: shapes, values within a tolerance, the label."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelrollout.api.gates import OutputTolerance
from modelrollout.observer.counting import labels_of
from modelrollout.observer.tensors import Tensor

SAME = 1e-5
"""Numbers that differ by at most this share of the stable arm's count as the same where no tolerance is given."""

_PART = 1 << 16

Answer = Mapping[str, Tensor]


class Kind(StrEnum):
    """In which way two answers differ."""

    VALUE = "value"
    LABEL = "label"
    SHAPE = "shape"
    ERROR = "error"


@dataclass(frozen=True)
class Difference:
    """How one answer differs from the other.

    ``outputs`` has the kinds for each output that was compared, none where it is the same; ``flip`` is the first label
    that is another one (from, to).
    """

    outputs: Mapping[str, frozenset[Kind]]
    flip: tuple[str | None, str | None] | None = None

    @property
    def kinds(self) -> frozenset[Kind]:
        """The kinds of all outputs."""
        return frozenset[Kind]().union(*self.outputs.values())


class Comparer:
    """Compares by the tolerances of one ModelDeployment.

    Parameters
    ----------
    tolerances
        By output; one that is not named must be met to 1 part in 100,000.
    label
        The output that is the model's label; None: found in the answer (``label_output``).

    """

    def __init__(self, tolerances: tuple[OutputTolerance, ...] = (), label: str | None = None) -> None:
        self._tolerances = {tolerance.output: tolerance for tolerance in tolerances}
        self._label = label

    def compare(self, stable: Answer, candidate: Answer) -> Difference:
        """How the candidate's answer differs. An output that only the candidate has is no difference."""
        outputs: dict[str, frozenset[Kind]] = {}
        for name, expected in stable.items():
            if not self._ignored(name):
                kind = _differs(expected, candidate.get(name), self._tolerances.get(name))
                outputs[name] = frozenset() if kind is None else frozenset((kind,))
        label = self.label_output(stable)
        flip = self._flip(label, stable, candidate)
        if label is not None and flip is not None:
            outputs[label] = outputs.get(label, frozenset()) | {Kind.LABEL}
        return Difference(outputs, flip)

    def label_output(self, answer: Answer) -> str | None:
        """The output whose label counts: the profile's, else the first of words or integers, else of numbers."""
        if self._label is not None:
            return self._label if self._label in answer else None
        usable = sorted(
            (tensor.numbers is not None and tensor.numbers.dtype.kind == "f", name)
            for name, tensor in answer.items()
            if not self._ignored(name) and labels_of(tensor) is not None
        )
        return usable[0][1] if usable else None

    def _ignored(self, name: str) -> bool:
        tolerance = self._tolerances.get(name)
        return tolerance is not None and tolerance.ignore

    def _flip(self, name: str | None, stable: Answer, candidate: Answer) -> tuple[str | None, str | None] | None:
        if name is None or name not in candidate:
            return None
        before, after = labels_of(stable[name]), labels_of(candidate[name])
        if before is None or after is None or len(before) != len(after):
            return None
        for row, (was, now) in enumerate(zip(before, after, strict=True)):
            if was != now and not _tie(stable[name], candidate[name], row, len(before)):
                return was, now
        return None


def _differs(expected: Tensor, given: Tensor | None, tolerance: OutputTolerance | None) -> Kind | None:
    if given is None or given.shape != expected.shape or given.datatype != expected.datatype:
        return Kind.SHAPE
    if expected.numbers is None or given.numbers is None:
        return None if expected.words == given.words else Kind.VALUE
    if tolerance is not None and tolerance.top_k is not None and expected.numbers.ndim:
        return None if _same_top(expected.numbers, given.numbers, tolerance.top_k) else Kind.VALUE
    relative = tolerance.relative if tolerance is not None else SAME
    absolute = tolerance.absolute if tolerance is not None else 0.0
    return None if _close(expected.numbers, given.numbers, relative, absolute) else Kind.VALUE


def _close(expected: NDArray[Any], given: NDArray[Any], relative: float, absolute: float) -> bool:
    if expected.dtype.kind != "f" and not relative and not absolute:
        return bool(np.array_equal(expected, given))
    # numpy's rule: |given - expected| <= absolute + relative * |expected|
    return all(
        np.allclose(other.astype(np.float64), wide.astype(np.float64), rtol=relative, atol=absolute, equal_nan=True)
        for wide, other in _parts(expected.reshape(-1), given.reshape(-1), _PART)
    )


def _same_top(expected: NDArray[Any], given: NDArray[Any], places: int) -> bool:
    width = expected.shape[-1]
    if not expected.size:
        return True
    places = min(places, width)
    parts = _parts(expected.reshape(-1, width), given.reshape(-1, width), max(1, _PART // width))
    return all(np.array_equal(_top(one, places), _top(other, places)) for one, other in parts)


def _top(rows: NDArray[Any], places: int) -> NDArray[np.int64]:
    return np.argsort(-rows.astype(np.float64), axis=-1, kind="stable")[..., :places]


def _parts(one: NDArray[Any], other: NDArray[Any], size: int) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Both in parts: what is made of a part on the way is much larger than an answer of 16 MiB may be."""
    for start in range(0, len(one), size):
        yield one[start : start + size], other[start : start + size]


def _tie(expected: Tensor, given: Tensor, row: int, rows: int) -> bool:
    """Whether the rows hold the same numbers but for rounding: then which of two equals is greater means nothing."""
    if expected.numbers is None or given.numbers is None or expected.numbers.dtype.kind != "f":
        return False
    one, other = (tensor.numbers.reshape(rows, -1)[row] for tensor in (expected, given) if tensor.numbers is not None)
    return one.shape == other.shape and _close(one, other, SAME, 0.0)
