"""Reads the data that a profile is made of: CSV, Parquet, NPZ, as named columns or as named arrays."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelrollout.profile.making import Column
from modelrollout.profile.model import FEATURE_LIMIT, ProfileError

Table = dict[str, NDArray[Any]]
"""Columns or arrays by name, in the file's order; the first dimension is the rows."""

_NOTHING = frozenset(("", "nan", "na", "n/a", "null", "none"))
SUFFIXES = (".csv", ".parquet", ".npz")


def read(path: Path) -> Table:
    """Read a file by its ending. Raises ProfileError with a sentence."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ProfileError(f"{path}: unknown kind of file: give one of {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise ProfileError(f"{path}: there is no such file")
    try:
        table = {".csv": _csv, ".parquet": _parquet, ".npz": _npz}[suffix](path)
    except ProfileError:
        raise
    except (OSError, ValueError, csv.Error) as error:
        raise ProfileError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
    if not table:
        raise ProfileError(f"{path}: has no columns")
    if any(values.ndim == 0 or len(values) == 0 for values in table.values()):
        raise ProfileError(f"{path}: has no rows")
    return table


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
            chosen[tensor] = [_known(table, name) for name in names.split(",")]
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
            raise ProfileError(f"{name} has {len(indexes)} places a row, more than {FEATURE_LIMIT} features")
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


def _csv(path: Path) -> Table:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.reader(file)
        head = next(rows, [])
        if not head or len({*head}) != len(head) or not all(head):
            raise ProfileError(f"{path}: the first line must name the columns, each once")
        cells: list[list[str]] = [[] for _ in head]
        for row in rows:
            if not row:
                continue
            if len(row) != len(head):
                raise ProfileError(f"{path}: line {rows.line_num} has {len(row)} cells, the head has {len(head)}")
            for column, cell in zip(cells, row, strict=True):
                column.append(cell)
    return {name: _typed(column) for name, column in zip(head, cells, strict=True)}


def _typed(cells: list[str]) -> NDArray[Any]:
    """Integers or numbers where all cells are (empty ones are NaN), else words (empty ones are None)."""
    missing = [cell.strip().lower() in _NOTHING for cell in cells]
    try:
        if not any(missing):
            return np.array([int(cell) for cell in cells], dtype=np.int64)
    except (ValueError, OverflowError):
        pass
    try:
        numbers = [float("nan") if gone else float(cell) for cell, gone in zip(cells, missing, strict=True)]
    except ValueError:
        words = [None if gone else cell for cell, gone in zip(cells, missing, strict=True)]
        return np.array(words, dtype=object)
    return np.array(numbers, dtype=np.float64)


def _parquet(path: Path) -> Table:
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError:
        raise ProfileError("reading Parquet needs pyarrow: install modelrollout[profile]") from None
    try:
        table = parquet.read_table(path)
    except arrow.ArrowException as error:
        raise ProfileError(f"{path}: is no Parquet file: {' '.join(str(error).split())[:200]}") from error
    found: Table = {}
    for name in table.column_names:
        column = table.column(name)
        kind = column.type
        kinds = arrow.types
        if any(
            is_kind(kind) for is_kind in (kinds.is_dictionary, kinds.is_string, kinds.is_large_string, kinds.is_boolean)
        ):
            found[name] = np.array(column.to_pylist(), dtype=object)
        elif arrow.types.is_integer(kind) and column.null_count == 0:
            found[name] = column.to_numpy()
        elif arrow.types.is_integer(kind) or arrow.types.is_floating(kind) or arrow.types.is_decimal(kind):
            numbers = [float("nan") if value is None else float(value) for value in column.to_pylist()]
            found[name] = np.array(numbers, dtype=np.float64)
        else:
            raise ProfileError(
                f"{path}: column {name} has the type {kind}: leave it out, or store it as a number or word"
            )
    return found


def _npz(path: Path) -> Table:
    import zipfile

    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except zipfile.BadZipFile as error:
        raise ProfileError(f"{path}: is no NPZ file") from error
