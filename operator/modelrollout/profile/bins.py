"""Into which bin a value falls, for arrays: the one place that says so, for making profiles and for counting."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

_BLOCK = 1 << 21
"""Comparisons done at once: 2 MiB of booleans."""

NOTHING = frozenset(("", "nan", "na", "n/a", "null", "none"))
"""How tables and clients write that there is no value, in small letters."""
_LONGEST_NOTHING = 8
NARROW = frozenset(("FP16", "BF16", "FP32"))
"""Types of tensors that keep less of a number than a profile does."""


def numeric_bins(values: Floats, edges: Floats) -> NDArray[np.int64]:
    """The bin of each value: how many edges are below it; ``len(edges) + 1`` for NaN.

    Parameters
    ----------
    values
        Shape (features, rows).
    edges
        Shape (features, most edges), ascending, filled up with +inf; a feature's number of real edges is the
        number of finite ones.

    """
    features, rows = values.shape
    found = np.empty((features, rows), dtype=np.int64)
    real = np.isfinite(edges).sum(axis=1, dtype=np.int64)
    step = max(1, _BLOCK // max(1, features * edges.shape[1]))
    for start in range(0, rows, step):
        part = values[:, start : start + step]
        found[:, start : start + step] = (part[:, :, None] > edges[:, None, :]).sum(axis=2)
    missing = np.isnan(values)
    if missing.any():
        found[missing] = np.broadcast_to((real + 1)[:, None], values.shape)[missing]
    return found


def padded(edges: Iterable[Sequence[float]]) -> Floats:
    """Edges of many features as one array, filled up with +inf."""
    rows = [tuple(row) for row in edges]
    width = max((len(row) for row in rows), default=0)
    made = np.full((len(rows), width), np.inf)
    for number, row in enumerate(rows):
        made[number, : len(row)] = row
    return made


def numeric_counts(values: NDArray[Any], edges: Sequence[float]) -> Counts:
    """Counts in the bins of one feature: ``len(edges) + 1`` bins, then the missing."""
    flat = np.asarray(values, dtype=np.float64).reshape(1, -1)
    bins = numeric_bins(flat, padded([edges]))
    return np.bincount(bins.ravel(), minlength=len(edges) + 2)


def is_nothing(word: str | bytes) -> bool:
    """Whether a word says that there is no value."""
    if len(word) > _LONGEST_NOTHING:
        return not word.strip()
    text = word.decode("utf-8", "replace") if isinstance(word, bytes) else word
    return text.strip().lower() in NOTHING


def code(name: str) -> float | None:
    """The number that a category stands for, where a tensor has numbers; None for a word."""
    if name.lower() in ("true", "false"):
        return float(name.lower() == "true")
    try:
        number = float(name)
    except ValueError:
        return None
    return None if number != number else number


def as_kept(numbers: Floats, datatype: str) -> Floats:
    """What a tensor of this type keeps of these numbers: 0.1 is another number in FP32, and an edge of 0.1 with it.

    Never +inf where a number was none, so that the type's greatest number is still below it.
    """
    if datatype == "BF16":
        # Clients cut the last bits off, or round: an edge stays at or above a number that is equal to it.
        cut = (numbers.astype("<f4").view("<u4") & np.uint32(0xFFFF0000)).view("<f4")
        nearest = (numbers.astype("<f4").view("<u4") + np.uint32(0x8000) & np.uint32(0xFFFF0000)).view("<f4")
        kept = np.maximum(cut, nearest)
    elif datatype in ("FP16", "FP32"):
        with np.errstate(over="ignore"):
            kept = numbers.astype("<f2" if datatype == "FP16" else "<f4")
    else:
        return numbers
    most = 65504.0 if datatype == "FP16" else float(np.finfo(np.float32).max)
    return np.where(np.isinf(numbers), numbers, np.clip(kept.astype(np.float64), -most, most))


def category(value: object) -> str | None:
    """A value as the name of a category: None where there is no value.

    Whole numbers have no point (``1.0`` is ``1``), booleans are ``true`` and ``false``, an empty word is no value.
    """
    if value is None or value == "" or value == b"":
        return None
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, float | np.floating):
        number = float(value)
        if number != number:
            return None
        return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)
    return str(value)
