"""Makes a profile of data: quantile edges for numbers, the commonest categories for words, the share of the missing.

Edges are rounded to six digits before the shares are counted: what is kept are no values of the data.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from modelrollout.profile.bins import category, numeric_counts
from modelrollout.profile.model import (
    CATEGORY_LIMIT,
    CLASS_LIMIT,
    FEATURE_LIMIT,
    MISSING,
    OTHER,
    CategoricalFeature,
    LabelOutput,
    NumericFeature,
    NumericOutput,
    Profile,
    ProfileError,
    refusal,
)

Asked = ParamSpec("Asked")
Made = TypeVar("Made")

DEFAULT_BINS = 10
SHARED_BY = 10
"""Rows that share a word before it may be a category, where there are more words than may be: others name a person."""
_DIGITS, _SPREAD_DIGITS = 6, 3
_MARGIN = 0.005
_SHOWN = 40
_NUMBERS = frozenset("biuf")


@dataclass(frozen=True)
class Column:
    """One feature's values: ``values`` has the shape (rows,), numbers or words, NaN or None where there is none."""

    name: str
    input: str
    index: tuple[int, ...]
    values: NDArray[Any]
    categorical: bool = False


def make(
    model: str,
    columns: Sequence[Column],
    outputs: dict[str, NDArray[Any]],
    bins: int = DEFAULT_BINS,
    scores: Sequence[str] = (),
) -> Profile:
    """Return the profile of ``columns`` and of the model's answers ``outputs`` (rows first).

    ``scores`` are outputs of probabilities whose numbers count beside their label.
    A column without any value is left out. Raises ProfileError where there is no row or column, a column has a wrong
    length, an output has no value, or there are too many features.
    """
    if not columns and not outputs:
        raise ProfileError("no column is left: leave fewer out")
    if len(columns) > FEATURE_LIMIT:
        raise ProfileError(f"{len(columns)} features, more than {FEATURE_LIMIT}: leave some out")
    lengths = {len(column.values) for column in columns} or {len(values) for values in outputs.values()}
    if len(lengths) != 1:
        raise ProfileError("the columns have different numbers of rows: " + ", ".join(map(str, sorted(lengths))))
    rows = lengths.pop()
    if rows == 0:
        raise ProfileError("the data has no rows")
    features = [
        part for part in (_checked(column.name, _feature, column, bins) for column in columns) if part.missing < 1.0
    ]
    unknown = next((name for name in scores if name not in outputs), None)
    if unknown is not None:
        raise ProfileError(f"there is no output {unknown!r} for scores: the outputs are {', '.join(outputs) or 'none'}")
    # The first label output is what true labels are joined with: a class a row goes before rows of probabilities.
    ordered = sorted(outputs.items(), key=lambda item: item[1][:1].size > 1)
    answers = [
        part for name, values in ordered for part in _checked(name, _outputs, name, values, bins, name in scores)
    ]
    nothing = [part.name for part in answers if part.missing == 1.0]
    if nothing:
        raise ProfileError(f"no row has a value of output {', '.join(nothing[:5])}: leave it out")
    if not features and not answers:
        raise ProfileError("no column has a value in any row")
    try:
        return Profile(version=1, model=model, samples=rows, features=tuple(features), outputs=tuple(answers))
    except ValidationError as error:
        raise refusal(error) from None


def _checked(name: str, made: Callable[Asked, Made], *asked: Asked.args, **more: Asked.kwargs) -> Made:
    try:
        return made(*asked, **more)
    except ValidationError as error:
        raise refusal(error, f"{name[:_SHOWN]!r}: ") from None


def quantile_edges(values: NDArray[Any], bins: int) -> tuple[float, ...]:
    """Inner edges of at most ``bins`` bins with about the same share each, rounded, each once; one at least.

    An edge lies between two numbers of the data and not on one: whether 0.1 is below an edge of 0.1 would depend on
    the type of the tensor. A number that alone fills a bin at either end has an edge on both of its sides.
    """
    there = np.asarray(values, dtype=np.float64)
    there = np.sort(there[np.isfinite(there)])
    if there.size == 0:
        return (0.0,)
    quantiles = there[np.arange(1, bins) * (there.size - 1) // bins]
    least, most = float(there[0]), float(there[-1])
    spread = float(quantiles[-1] / 2 - quantiles[0] / 2) * 2
    places = np.searchsorted(there, quantiles, side="right")
    found = {float(there[place - 1] / 2 + there[place] / 2) for place in places.tolist() if place < there.size}
    if places[-1] == there.size:
        found.add(most + _beside(most, there[there < most]))
    if quantiles[0] == least and len(found) < bins - 1:
        found.add(least - _beside(least, there[there > least][::-1]))
    edges = sorted({_rounded(edge, spread) for edge in found})
    return tuple(edge for edge in edges if math.isfinite(edge)) or (0.0,)


def _beside(number: float, others: NDArray[Any]) -> float:
    """How far from the greatest or least number an edge is: half way to where a next one would be.

    Of one number alone so far that no type of tensor takes the edge for the number (BF16 keeps 8 bits).
    """
    return abs(number - float(others[-1])) / 2 if others.size else _MARGIN * (abs(number) or 1.0)


def _rounded(edge: float, spread: float) -> float:
    """Rounded to six digits; to a thousandth of the spread where that is less, or all edges would become one."""
    if edge == 0.0 or not math.isfinite(edge):
        return edge
    digits = _DIGITS - 1 - math.floor(math.log10(abs(edge)))
    if spread > 0.0 and math.isfinite(spread):
        digits = max(digits, _SPREAD_DIGITS - math.floor(math.log10(spread)))
    return round(edge, digits) + 0.0


def _feature(column: Column, bins: int) -> NumericFeature | CategoricalFeature:
    if column.categorical or column.values.dtype.kind not in _NUMBERS - {"b"}:
        shares, other, missing = _categories(column.values, CATEGORY_LIMIT)
        return CategoricalFeature(
            kind="categorical",
            name=column.name,
            input=column.input,
            index=column.index,
            categories=shares,
            other=other,
            missing=missing,
        )
    edges = quantile_edges(column.values, bins)
    shares_of, missing = _numbers(column.values, edges)
    return NumericFeature(
        name=column.name, input=column.input, index=column.index, edges=edges, shares=shares_of, missing=missing
    )


def _outputs(name: str, values: NDArray[Any], bins: int, scores: bool) -> list[NumericOutput | LabelOutput]:
    """A label for words, integers and rows of probabilities; else, and of ``scores`` too, each number of a row."""
    if values.ndim == 0:
        raise ProfileError(f"output {name!r} has no rows")
    if values.ndim == 1:
        values = values.reshape(-1, 1)
    flat = values.reshape(len(values), -1)
    if flat.shape[1] == 1 and values.dtype.kind != "f":
        return [_label(name, flat[:, 0])]
    if values.dtype.kind not in _NUMBERS:
        raise ProfileError(f"output {name!r} has {flat.shape[1]} words a row: one at most")
    made: list[NumericOutput | LabelOutput] = []
    if flat.shape[1] > 1 and values.ndim == 2 and probabilities(flat):
        made.append(_label(name, flat.argmax(axis=1)))
        if not scores:
            return made
    if flat.shape[1] > CLASS_LIMIT:
        raise ProfileError(f"output {name!r} has {flat.shape[1]} numbers a row, more than {CLASS_LIMIT}: leave it out")
    # A column of a table is a row of one number to the model, as a column of an input is.
    for place, index in enumerate(np.ndindex(*(values.shape[1:] or (1,)))):
        edges = quantile_edges(flat[:, place], bins)
        shares, missing = _numbers(flat[:, place], edges)
        part = f"{name}{list(index)}" if flat.shape[1] > 1 else name
        made.append(NumericOutput(name=part, output=name, index=index, edges=edges, shares=shares, missing=missing))
    return made


def probabilities(rows: NDArray[Any]) -> bool:
    """Whether each row is a probability vector: from 0 to 1, and the sum is 1 within a thousandth."""
    if rows.dtype.kind != "f" or rows.size == 0 or rows.shape[-1] < 2:
        return False
    numbers = rows.astype(np.float64, copy=False)
    with np.errstate(invalid="ignore"):
        inside = (numbers >= -1e-6) & (numbers <= 1.0 + 1e-6)
        return bool(inside.all() and (np.abs(numbers.sum(axis=-1) - 1.0) <= 1e-3).all())


def _label(name: str, values: NDArray[Any]) -> LabelOutput:
    shares, other, missing = _categories(values, CLASS_LIMIT)
    return LabelOutput(kind="label", name=name, output=name, classes=shares, other=other, missing=missing)


def _numbers(values: NDArray[Any], edges: Sequence[float]) -> tuple[tuple[float, ...], float]:
    shares = _shares(numeric_counts(values, edges))
    return tuple(shares[:-1]), shares[-1]


def _categories(values: NDArray[Any], most: int) -> tuple[dict[str, float], float, float]:
    if values.dtype.kind == "f" and values.dtype.itemsize < 8:
        # 0.1 of a narrow type is 0.1, and not what of it is left: its shortest text says which number is meant.
        values = values.astype(str).astype(np.float64)
    # Each value is looked at once, however often it is there.
    counted: Counter[str | None] = Counter()
    for value, number in Counter(values.tolist()).items():
        counted[category(value)] += number
    missing = counted.pop(None, 0)
    # A category of this name would hide the bin: the observer counts it as other too.
    other = counted.pop(OTHER, 0) + counted.pop(MISSING, 0)
    common = sorted(counted.items(), key=lambda item: (-item[1], str(item[0])))
    least = SHARED_BY if len(counted) > most else 1
    kept = {str(name): number for name, number in common[:most] if number >= least and len(str(name)) <= 128}
    other += sum(counted.values()) - sum(kept.values())
    shares = _shares(np.array([*kept.values(), other, missing], dtype=np.int64))
    return dict(zip(kept, shares, strict=False)), shares[-2], shares[-1]


def _shares(counts: NDArray[Any]) -> list[float]:
    """Shares with nine digits that still sum to 1: the greatest takes what rounding leaves."""
    total = int(counts.sum())
    shares = [round(int(count) / total, 9) for count in counts]
    greatest = shares.index(max(shares))
    shares[greatest] = round(shares[greatest] + 1.0 - float(np.sum(shares)), 9)
    return shares
