"""Which columns or arrays of the data stand at which places of which tensors."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelrollout.profile.files import Table
from modelrollout.profile.making import Column
from modelrollout.profile.model import FEATURE_LIMIT, ProfileError


def columns(table: Table, inputs: Sequence[str], categorical: Iterable[str], drop: Iterable[str]) -> list[Column]:
    """Which column stands at which place of which input.

    ``inputs`` are ``TENSOR`` (takes all columns that no other names, in order) or ``TENSOR=column,column``; without
    any, each column is an input of its own. Raises ProfileError.
    """
    words, left = set(categorical), [name for name in table if name not in set(drop)]
    for name in (*words, *drop):
        _known(table, name)
    chosen = mapping(table, inputs, left) if inputs else {name: [name] for name in left}
    made: list[Column] = []
    for tensor, names in chosen.items():
        made += _columns(tensor, [(name, table[name]) for name in names], words, alone=not inputs)
    return made


def mapping(table: Table, wishes: Sequence[str], left: Iterable[str]) -> dict[str, list[str]]:
    """Names of the columns of each tensor. Raises ProfileError."""
    chosen: dict[str, list[str]] = {}
    rest: str | None = None
    for wish in wishes:
        tensor, equals, names = wish.partition("=")
        if not tensor or tensor in chosen or tensor == rest:
            raise ProfileError(f"{wish!r}: give each tensor once, as TENSOR or TENSOR=column,column")
        if equals:
            chosen[tensor] = [_known(table, name) for name in names_of(names) or ("",)]
        elif rest is not None:
            raise ProfileError(f"{rest} and {tensor} would both take all columns: name those of one, as {tensor}=a,b")
        else:
            rest = tensor
            chosen[tensor] = []
    taken = [name for names in chosen.values() for name in names]
    if rest is not None:
        chosen[rest] = [name for name in left if name not in taken]
        if not chosen[rest]:
            raise ProfileError(f"no column is left for {rest}")
    return chosen


def names_of(text: str) -> list[str]:
    """Names between commas; one that has commas itself stands in quotes."""
    return [name for name in next(csv.reader([text], skipinitialspace=True), []) if name]


def outputs(table: Table, wishes: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The arrays of each output: all of ``table``, or the columns that ``OUTPUT=column,column`` names."""
    if not wishes:
        return dict(table)
    chosen = mapping(table, wishes, ())
    return {name: _side_by_side([table[one] for one in names], name) for name, names in chosen.items()}


def _columns(tensor: str, parts: list[tuple[str, NDArray[Any]]], words: set[str], alone: bool) -> list[Column]:
    """An array of one column is that place of the row; a larger one alone makes a feature of each of its places."""
    if len(parts) == 1 and (parts[0][1].ndim > 1 or alone):
        name, values = parts[0]
        if values.ndim == 1:
            return [Column(name, tensor, (0,), values, name in words)]
        indexes = list(np.ndindex(*values.shape[1:]))
        if len(indexes) > FEATURE_LIMIT:
            raise ProfileError(
                f"{name} has {len(indexes)} places a row, more than {FEATURE_LIMIT} features: leave it out by --drop "
                f"{name} (a profile of --outputs alone will do), or store a few numbers that tell it"
            )
        flat = values.reshape(len(values), -1)
        return [
            Column(f"{name}{list(index)}" if len(indexes) > 1 else name, tensor, index, flat[:, place], name in words)
            for place, index in enumerate(indexes)
        ]
    if any(values.ndim > 1 for _, values in parts):
        raise ProfileError(f"{tensor}: arrays of several columns cannot be put beside each other: name one")
    return [Column(name, tensor, (place,), values, name in words) for place, (name, values) in enumerate(parts)]


def _side_by_side(parts: list[NDArray[Any]], name: str) -> NDArray[Any]:
    if len(parts) == 1:
        return parts[0]
    if any(values.ndim > 1 or values.dtype.kind not in "biuf" for values in parts):
        raise ProfileError(f"output {name}: only columns of numbers can stand beside each other")
    return np.stack([values.astype(np.float64) for values in parts], axis=1)


def _known(table: Table, name: str) -> str:
    if name not in table:
        raise ProfileError(f"there is no column {name!r}: the data has {', '.join(list(table)[:20])}")
    return name
