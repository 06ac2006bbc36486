"""Counts values in the bins of a profile, many requests at once; nothing but the counts is kept.

One ``Binning`` is the plan for one side (inputs or outputs) of one model; ``counts`` is one flat array, a feature's
bins beside each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelrollout.observer.tensors import Tensor
from modelrollout.profile.bins import NARROW, as_kept, category, code, is_nothing, numeric_bins, padded
from modelrollout.profile.model import Categorical, Classes, Numeric

Tensors = dict[str, Tensor]
_SHAPES_KEPT = 16
_CELLS = 1 << 18
MOST_LABELS = 1 << 16
"""Rows of an answer whose labels are read; one of more has none."""


class WrongTypeError(ValueError):
    """A tensor is not of the kind, or has not the shape, that the profile is about."""


@dataclass(frozen=True)
class Part:
    """One feature or output number: its tensor, its place in a row, its bins and where they begin in ``counts``."""

    name: str
    tensor: str
    index: tuple[int, ...]
    binned: Numeric | Categorical
    start: int

    @property
    def size(self) -> int:
        """Number of bins, the missing included."""
        return len(self.binned.bins)


class Binning:
    """The plan by which tensors are counted.

    Parameters
    ----------
    parts
        (name, tensor, index, bins) of each feature, in the order in which they are shown.

    """

    def __init__(self, parts: Iterable[tuple[str, str, tuple[int, ...], Numeric | Categorical]]) -> None:
        self.parts: list[Part] = []
        start = 0
        for name, tensor, index, binned in parts:
            self.parts.append(Part(name, tensor, index, binned, start))
            start += self.parts[-1].size
        self.size = start
        self._inputs = {
            name: _Input([part for part in self.parts if part.tensor == name])
            for name in dict.fromkeys(part.tensor for part in self.parts)
        }

    def check(self, tensors: Tensors) -> int:
        """How many rows these tensors have. Raises WrongTypeError where they cannot be counted."""
        rows: int | None = None
        for name, known in self._inputs.items():
            tensor = tensors.get(name)
            if tensor is None or tensor.size == 0:
                continue
            found = known.check(tensor)
            if rows is not None and found != rows:
                raise WrongTypeError("the inputs have different numbers of rows")
            rows = found
        if rows is None:
            if self._inputs and not any(name in self._inputs for name in tensors):
                raise WrongTypeError("no input that the profile knows")
            return 1
        return rows

    def count(self, requests: Sequence[tuple[Tensors, int]], into: NDArray[np.int64]) -> None:
        """Add the rows of checked ``requests`` (tensors, rows) to the counts."""
        for name, known in self._inputs.items():
            missing = 0
            there: dict[tuple[tuple[int, ...], str], list[Tensor]] = {}
            for tensors, rows in requests:
                tensor = tensors.get(name)
                if tensor is None or tensor.size == 0:
                    missing += rows
                else:
                    there.setdefault((known.row(tensor.shape), tensor.datatype), []).append(tensor)
            if missing:
                known.count_missing(missing, into)
            for (row, datatype), same in there.items():
                known.count(row, datatype, same, into)


class _Input:
    """All parts that look at one tensor."""

    def __init__(self, parts: list[Part]) -> None:
        self.depth = len(parts[0].index)
        self._numeric = [part for part in parts if isinstance(part.binned, Numeric)]
        self._categorical = [_Category(part) for part in parts if isinstance(part.binned, Categorical)]
        self._edges = padded(part.binned.edges for part in self._numeric if isinstance(part.binned, Numeric))
        self._narrow: dict[str, NDArray[np.float64]] = {}
        self._starts = np.array([[part.start] for part in self._numeric], dtype=np.int64).reshape(-1, 1)
        self._last = np.array([part.start + part.size - 1 for part in parts], dtype=np.int64)
        self._places: dict[tuple[int, ...], tuple[NDArray[np.int64], list[int]]] = {}
        # A tensor of one number a row may come without its second dimension: then each number is a row.
        self._alone = all(part.index == (0,) for part in parts)

    def row(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of one row."""
        if self._alone and len(shape) == 1:
            return (1,)
        return shape[len(shape) - self.depth :] if self.depth else ()

    def check(self, tensor: Tensor) -> int:
        """Number of rows. Raises WrongTypeError."""
        if self._numeric and tensor.numbers is None:
            raise WrongTypeError("words where the profile has numbers")
        if len(tensor.shape) not in (self.depth, self.depth + 1):
            raise WrongTypeError("another number of dimensions than the profile's indexes")
        self._offsets(self.row(tensor.shape))
        return tensor.shape[0] if len(tensor.shape) > self.depth or self._alone else 1

    def count_missing(self, rows: int, into: NDArray[np.int64]) -> None:
        into[self._last] += rows

    def count(self, row: tuple[int, ...], datatype: str, same: list[Tensor], into: NDArray[np.int64]) -> None:
        numeric, categorical = self._offsets(row)
        width = 1
        for size in row:
            width *= size
        numbers = [tensor.numbers.reshape(-1, width) for tensor in same if tensor.numbers is not None]
        together = numbers[0] if len(numbers) == 1 else np.concatenate(numbers) if numbers else None
        if together is not None:
            # In parts: 16 MiB of small integers are many times as much as numbers, bins and places.
            step = max(1, _CELLS // max(1, len(self._numeric)))
            for start in range(0, len(together), step):
                self._count_numbers(together[start : start + step], datatype, numeric, categorical, into)
        for known, place in zip(self._categorical, categorical, strict=True):
            known.count_words((word for tensor in same for word in (tensor.words or ())[place::width]), into)

    def _count_numbers(
        self,
        rows: NDArray[Any],
        datatype: str,
        numeric: NDArray[np.int64],
        categorical: list[int],
        into: NDArray[np.int64],
    ) -> None:
        if self._numeric:
            values = np.ascontiguousarray(rows[:, numeric].T, dtype=np.float64)
            bins = numeric_bins(values, self._edges_of(datatype)) + self._starts
            into += np.bincount(bins.ravel(), minlength=len(into))
        for known, place in zip(self._categorical, categorical, strict=True):
            known.count_numbers(np.asarray(rows[:, place], dtype=np.float64), datatype, into)

    def _edges_of(self, datatype: str) -> NDArray[np.float64]:
        """The edges as numbers of this type of tensor are compared with them."""
        if datatype not in NARROW:
            return self._edges
        found = self._narrow.get(datatype)
        if found is None:
            found = self._narrow[datatype] = as_kept(self._edges, datatype)
        return found

    def _offsets(self, row: tuple[int, ...]) -> tuple[NDArray[np.int64], list[int]]:
        """The places of the parts in a flat row of this shape. Raises WrongTypeError where one is outside."""
        found = self._places.get(row)
        if found is None:
            try:
                numeric = [_flat(part.index, row) for part in self._numeric]
                categorical = [_flat(known.part.index, row) for known in self._categorical]
            except (ValueError, OverflowError) as error:
                raise WrongTypeError("a row is smaller than the profile's indexes") from error
            found = np.array(numeric, dtype=np.int64), categorical
            if len(self._places) >= _SHAPES_KEPT:
                self._places.clear()
            self._places[row] = found
        return found


class _Category:
    """Finds the bin of a category, of a word or of a number."""

    def __init__(self, part: Part) -> None:
        self.part = part
        assert isinstance(part.binned, Categorical)  # noqa: S101 - told by the caller
        names = list(part.binned.categories)
        self._other, self._missing = part.start + len(names), part.start + len(names) + 1
        self._words: dict[bytes, int] = {name.encode(): part.start + number for number, name in enumerate(names)}
        codes = sorted(
            (number, part.start + place) for place, name in enumerate(names) if (number := code(name)) is not None
        )
        self._codes = np.array([number for number, _ in codes], dtype=np.float64)
        self._bins = np.array([place for _, place in codes], dtype=np.int64)

    def count_words(self, words: Iterable[bytes | None], into: NDArray[np.int64]) -> None:
        for word in words:
            place = self._words.get(word) if word else self._missing
            if place is None:
                # A table says "NA" where there is no value, and so may a client.
                place = self._missing if is_nothing(word or b"") else self._other
            into[place] += 1

    def count_numbers(self, values: NDArray[np.float64], datatype: str, into: NDArray[np.int64]) -> None:
        missing = np.isnan(values)
        bins = np.full(values.shape, self._other, dtype=np.int64)
        if self._codes.size:
            codes = as_kept(self._codes, datatype)
            places = np.minimum(np.searchsorted(codes, values), codes.size - 1)
            same = codes[places] == values
            bins[same] = self._bins[places[same]]
        bins[missing] = self._missing
        into += np.bincount(bins, minlength=len(into))


class LabelBins:
    """Counts labels in the classes of a profile."""

    def __init__(self, classes: Classes) -> None:
        self.classes = classes
        self._places = {name: number for number, name in enumerate(classes.classes)}
        # A tensor of booleans says true where a table says True.
        for name, number in list(self._places.items()):
            if name.lower() in ("true", "false"):
                self._places.setdefault(name.lower(), number)
        self.size = len(classes.bins)

    def count(self, labels: Iterable[str | None], into: NDArray[np.int64]) -> None:
        """Add each label; None is missing."""
        for label in labels:
            place = self._places.get(label) if label is not None else self.size - 1
            if place is None:
                place = self.size - 1 if is_nothing(label or "") else self.size - 2
            into[place] += 1


def labels_of(tensor: Tensor) -> list[str | None] | None:
    """The label of each row: the place of the greatest number, or the word or integer itself; None: it has none."""
    if tensor.shape and tensor.shape[0] > MOST_LABELS:
        return None
    if tensor.words is not None:
        if tensor.shape and len(tensor.words) == tensor.shape[0]:
            return [category(word) for word in tensor.words]
        return [category(tensor.words[0])] if len(tensor.words) == 1 else None
    numbers = tensor.numbers
    if numbers is None or numbers.ndim == 0 or numbers.size == 0:
        return None
    if numbers.dtype.kind == "f":
        if numbers.shape[-1] < 2 or numbers.size // numbers.shape[-1] > MOST_LABELS:
            return None
        rows = numbers.reshape(-1, numbers.shape[-1])
        nothing = np.isnan(rows).any(axis=1)
        greatest = np.where(nothing[:, None], -np.inf, rows).argmax(axis=1)
        return [None if bad else str(place) for place, bad in zip(greatest.tolist(), nothing.tolist(), strict=True)]
    if numbers.size == numbers.shape[0]:
        return [category(value) for value in numbers.ravel().tolist()]
    return None


def _flat(index: tuple[int, ...], row: tuple[int, ...]) -> int:
    return int(np.ravel_multi_index(index, row)) if row else 0


def cumulative(counts: NDArray[Any]) -> list[int]:
    """Counts of a numeric feature as a histogram has them: at or below each edge, then all; without the missing."""
    return [int(number) for number in np.cumsum(counts[:-1])]
