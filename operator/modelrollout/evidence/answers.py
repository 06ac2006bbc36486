"""Answers of a model compared with expected ones: within tolerances, by the k greatest, or exactly."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modelrollout.api.gates import OutputTolerance
from modelrollout.evidence.golden import FLOATS
from modelrollout.ports import Scalar, Tensor

DEFAULT_RELATIVE = 1e-5
"""What a number of an output that has no tolerance of its own may be off, as a share of the expected one."""

_SHOWN_BYTES = 16


@dataclass(frozen=True)
class Comparison:
    """How one answer differs: a sentence for each output that does, and the greatest difference of any number."""

    sentences: tuple[str, ...] = ()
    worst: float = 0.0


def compare(
    expected: Sequence[Tensor], answered: Sequence[Tensor], tolerances: Mapping[str, OutputTolerance]
) -> Comparison:
    """Compare all outputs that are expected; others are not looked at.

    Numbers of float types may differ by ``absolute + relative * |expected|``; NaN equals NaN, an infinity only itself.
    Whole numbers, truths and texts must be the same unless a tolerance for them is given (numbers only).
    """
    found = {tensor.name: tensor for tensor in answered}
    sentences, worst = [], 0.0
    for tensor in expected:
        tolerance = tolerances.get(tensor.name)
        if tolerance is not None and tolerance.ignore:
            continue
        answer = found.get(tensor.name)
        sentence, far = _output(tensor, answer, tolerance)
        worst = max(worst, far)
        if sentence:
            sentences.append(f"output {tensor.name}: {sentence}")
    return Comparison(tuple(sentences), worst)


def _output(expected: Tensor, answer: Tensor | None, tolerance: OutputTolerance | None) -> tuple[str, float]:
    if answer is None:
        return "is not in the answer", 0.0
    if answer.datatype != expected.datatype:
        return f"expected {expected.datatype}, got {answer.datatype}", 0.0
    if answer.shape != expected.shape:
        return f"expected shape {list(expected.shape)}, got {list(answer.shape)}", 0.0
    if tolerance is not None and tolerance.top_k is not None:
        return _top(expected, answer, tolerance.top_k), 0.0
    return _numbers(expected, answer, *_allowed(expected, tolerance))


def _allowed(expected: Tensor, tolerance: OutputTolerance | None) -> tuple[float, float]:
    if tolerance is not None:
        return tolerance.absolute, tolerance.relative
    return 0.0, DEFAULT_RELATIVE if expected.datatype in FLOATS else 0.0


def _numbers(expected: Tensor, answer: Tensor, absolute: float, relative: float) -> tuple[str, float]:
    differing, at, worst, largest = 0, -1, -1.0, 0.0
    for place, (wanted, got) in enumerate(zip(expected.data, answer.data, strict=True)):
        if wanted == got or wanted == _escaped(got):
            continue
        far = _distance(wanted, got)
        if math.isfinite(far):
            largest = max(largest, far)
        # Two NaN have no distance; an infinity would allow anything.
        if far == 0 or (math.isfinite(far) and far <= absolute + relative * abs(float(wanted))):
            continue
        differing += 1
        if far > worst:
            worst, at = far, place
    if not differing:
        return "", largest
    wanted, got = expected.data[at], answer.data[at]
    by = f" ({worst:.3g} off)" if math.isfinite(worst) else _apart(wanted, got)
    place_words = f" at {_place(at, expected.shape)}" if len(expected.data) > 1 else ""
    many = f"; {differing} of {len(expected.data)} entries differ" if differing > 1 else ""
    return f"expected {_shown(wanted)}{place_words}, got {_shown(got)}{by}{many}", largest


def _escaped(value: Scalar) -> Scalar:
    """Bytes that are no text, as golden sets had them before they could hold bytes."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value


def _distance(wanted: Scalar, got: Scalar) -> float:
    """How far apart; 0 for two NaN, infinite where there is no number for it."""
    if isinstance(wanted, str | bytes | bool) or isinstance(got, str | bytes | bool):
        return math.inf
    if math.isnan(wanted) and math.isnan(got):
        return 0.0
    if isinstance(wanted, int) and isinstance(got, int):
        return float(abs(wanted - got))
    far = abs(wanted - got)
    return far if math.isfinite(far) else math.inf


def _top(expected: Tensor, answer: Tensor, count: int) -> str:
    """The first row whose greatest entries are others, or in another order."""
    width = expected.shape[-1] if expected.shape else 1
    rows = len(expected.data) // width if width else 0
    wrong, first = 0, ""
    for row in range(rows):
        part = slice(row * width, (row + 1) * width)
        wanted, got = _greatest(expected.data[part], count), _greatest(answer.data[part], count)
        if wanted != got:
            wrong += 1
            place = f" in row {row}" if rows > 1 else ""
            first = first or f"expected the greatest entries {wanted}{place}, got {got}"
    many = f"; {wrong} of {rows} rows differ" if wrong > 1 else ""
    return f"{first}{many}"


def _greatest(row: Sequence[Scalar], count: int) -> list[int]:
    """Places of the greatest entries, greatest first; of equal ones the first comes first, NaN comes last."""

    def order(place: int) -> tuple[float, int]:
        value = row[place]
        number = float(value) if not isinstance(value, str | bytes) and value == value else -math.inf
        return -number, place

    return sorted(range(len(row)), key=order)[:count]


def _place(index: int, shape: Sequence[int]) -> str:
    places = []
    for size in reversed(shape):
        index, place = divmod(index, size)
        places.append(place)
    return f"[{', '.join(str(place) for place in reversed(places))}]"


def _apart(wanted: Scalar, got: Scalar) -> str:
    """From where on two values of BYTES differ, in words; empty where what is shown of them tells it."""
    one, other = (each.encode() if isinstance(each, str) else each for each in (wanted, got))
    if not (isinstance(one, bytes) and isinstance(other, bytes)):
        return ""
    same = next((place for place, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), None)
    same = min(len(one), len(other)) if same is None else same
    return f" (the same for {same} bytes)" if same >= _SHOWN_BYTES else ""


def _shown(value: Scalar) -> str:
    if isinstance(value, bytes):
        more = "..." if len(value) > _SHOWN_BYTES else ""
        return f"{len(value)} bytes {value[:_SHOWN_BYTES].hex()}{more}"
    if isinstance(value, str):
        return f'"{value[:60]}"'
    return f"{value:.7g}" if isinstance(value, float) else str(value)
