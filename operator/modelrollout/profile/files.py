"""Reads the data that a profile is made of: CSV, Parquet, NPZ, as named columns or as named arrays.

Tables are read in parts; of one that is larger than the bound on cells a random share of the rows is kept.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelrollout.profile.bins import is_nothing
from modelrollout.profile.model import ProfileError

Table = dict[str, NDArray[Any]]
"""Columns or arrays by name, in the file's order; the first dimension is the rows."""
Progress = Callable[[int, int], None]
"""Told now and then how many rows were read, and how many of them are kept."""

SUFFIXES = (".csv", ".csv.gz", ".parquet", ".npz")
MOST_CELLS = 1 << 26
"""Cells in memory: 512 MiB of numbers. A share of 60 million numbers is as exact as one of more."""
MOST_WORDS = 1 << 20
"""Different words of a column that are told apart; further ones are too rare to be a category."""
_PART = 1 << 14
_RARE = "other"
_CODE = re.compile(r"_|^0[0-9]+$", re.MULTILINE)
"""Python reads 1_000 and 007 as numbers; in a table they are words."""
_SEPARATORS = ";\t|"


def read(
    path: Path,
    delimiter: str = ",",
    without: Collection[str] = (),
    progress: Progress = lambda rows, kept: None,
) -> Table:
    """Read a file by its ending; columns of a table in ``without`` have no values. Raises ProfileError."""
    name = path.name.lower()
    suffix = next((each for each in SUFFIXES if name.endswith(each)), None)
    if suffix is None:
        raise ProfileError(f"{path}: unknown kind of file: give one of {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise ProfileError(f"{path}: there is no such file")
    try:
        if suffix == ".npz":
            table = _npz(path, without)
        elif suffix == ".parquet":
            table = _parquet(path, without, progress)
        else:
            table = _csv(path, delimiter, without, progress)
    except ProfileError:
        raise
    except UnicodeDecodeError as error:
        raise ProfileError(f"{path}: cannot be read: it is not UTF-8 ({error.reason}): save it as UTF-8") from error
    except MemoryError as error:
        raise ProfileError(f"{path}: is too large for the memory: give a random part of its rows") from error
    except (OSError, EOFError, ValueError, csv.Error) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise ProfileError(f"{path}: cannot be read: {said}") from error
    if not table:
        raise ProfileError(f"{path}: has no columns")
    if any(values.ndim == 0 or len(values) == 0 for values in table.values()):
        raise ProfileError(f"{path}: has no rows")
    return table


class _Rows:
    """Parts of a table put together; when there are too many cells, each row stays with a chance of one half."""

    def __init__(self, columns: int, progress: Progress) -> None:
        self._parts: list[list[NDArray[Any]]] = [[] for _ in range(columns)]
        self._most = max(1, MOST_CELLS // max(1, columns))
        self._chance, self._read, self._kept, self._progress = 1.0, 0, 0, progress
        # Reproducible: the same file makes the same profile.
        self._random = np.random.default_rng(0)

    def add(self, part: Sequence[NDArray[Any]]) -> None:
        rows = len(part[0])
        self._read += rows
        self._keep(part, self._random.random(rows) < self._chance if self._chance < 1.0 else None)
        while self._kept > self._most:
            self._chance /= 2.0
            before, self._parts = self._parts, [[] for _ in self._parts]
            self._kept = 0
            for place in range(len(before[0])):
                old = [column[place] for column in before]
                self._keep(old, self._random.random(len(old[0])) < 0.5)
        self._progress(self._read, self._kept)

    def columns(self) -> list[NDArray[Any]]:
        """One array a column, the parts let go on the way."""
        made = []
        for parts in self._parts:
            made.append(np.concatenate(parts) if parts else np.zeros(0))
            parts.clear()
        return made

    def _keep(self, part: Sequence[NDArray[Any]], those: NDArray[np.bool_] | None) -> None:
        for column, values in zip(self._parts, part, strict=True):
            column.append(values if those is None else values[those])
        self._kept += len(part[0]) if those is None else int(those.sum())


class _WordsError(Exception):
    """Columns that seemed to have numbers have words: what was read of them must be read again as it is written."""

    def __init__(self, columns: set[int]) -> None:
        super().__init__()
        self.columns = columns


def _csv(path: Path, delimiter: str, without: Collection[str], progress: Progress) -> Table:
    words: set[int] = set()
    while True:
        try:
            return _csv_once(path, delimiter, words, without, progress)
        except _WordsError as found:
            words |= found.columns


def _csv_once(path: Path, delimiter: str, words: set[int], without: Collection[str], progress: Progress) -> Table:
    with _opened(path) as file:
        lines = csv.reader(file, delimiter=delimiter)
        head = [name.strip() for name in next(lines, [])]
        _check_head(path, head, delimiter)
        rows, known = _Rows(len(head), progress), [dict[str, str]() for _ in head]
        numbers: set[int] = set()
        for part in _parts(path, lines, len(head)):
            made, found = [], set()
            for place, cells in enumerate(zip(*part, strict=True)):
                if head[place] in without:
                    made.append(_nothing(len(cells)))
                    continue
                values = None if place in words else _numbers(cells)
                if values is None:
                    found.add(place)
                    values = _words((None if is_nothing(cell) else cell for cell in cells), known[place])
                elif values.dtype.kind != "f" or not np.isnan(values).all():
                    numbers.add(place)
                made.append(values)
            words |= found
            if again := found & numbers:
                raise _WordsError(again)
            rows.add(made)
    return dict(zip(head, rows.columns(), strict=True))


def _opened(path: Path) -> Any:
    if path.name.lower().endswith(".gz"):
        return io.TextIOWrapper(gzip.open(path), encoding="utf-8-sig", newline="")
    return path.open(newline="", encoding="utf-8-sig")


def _check_head(path: Path, head: list[str], delimiter: str) -> None:
    if not any(head):
        raise ProfileError(f"{path}: the first line must name the columns, each once")
    for place, name in enumerate(head, start=1):
        if not name:
            raise ProfileError(
                f"{path}: the first line must name the columns, each once: column {place} has no name "
                "(pandas writes its index so: use index=False)"
            )
    twice = (
        next((name for place, name in enumerate(head) if name in head[:place]), None)
        if len({*head}) < len(head)
        else None
    )
    if twice is not None:
        raise ProfileError(f"{path}: the first line must name the columns, each once: {twice!r} is there twice")
    if len(head) == 1:
        other = next((each for each in _SEPARATORS if each != delimiter and each in head[0]), None)
        if other is not None:
            shown = "\\t" if other == "\t" else other
            raise ProfileError(
                f"{path}: is one column {head[0]!r}: if {shown!r} separates columns, say --delimiter '{shown}'"
            )


def _parts(path: Path, lines: Any, width: int) -> Iterator[list[list[str]]]:
    part: list[list[str]] = []
    for row in lines:
        if not row:
            continue
        if len(row) != width:
            raise ProfileError(f"{path}: line {lines.line_num} has {len(row)} cells, the head has {width}")
        part.append(row)
        if len(part) >= max(1, _PART * 16 // max(16, width)):
            yield part
            part = []
    if part:
        yield part


def _numbers(cells: Sequence[str]) -> NDArray[Any] | None:
    """Integers or numbers where all cells are (those that say nothing are NaN), else None."""
    if _CODE.search("\n".join(cells)):
        return None
    with suppress(ValueError, OverflowError):
        return np.array(list(map(int, cells)), dtype=np.int64)
    with suppress(ValueError):
        return np.array(list(map(float, cells)), dtype=np.float64)
    with suppress(ValueError):
        return np.array([float("nan") if is_nothing(cell) else float(cell) for cell in cells], dtype=np.float64)
    return None


def _nothing(rows: int) -> NDArray[Any]:
    return np.full(rows, np.nan)


def _words(cells: Iterable[str | None], known: dict[str, str]) -> NDArray[Any]:
    """The words, equal ones the same object."""
    made: list[str | None] = []
    for cell in cells:
        word = known.get(cell) if cell is not None else None
        if word is None and cell is not None:
            word = known.setdefault(cell, cell) if len(known) < MOST_WORDS else _RARE
        made.append(word)
    return np.array(made, dtype=object)


def _parquet(path: Path, without: Collection[str], progress: Progress) -> Table:
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError:
        raise ProfileError("reading Parquet needs pyarrow: install modelrollout[profile]") from None
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if len({*names}) < len(names):
                raise ProfileError(f"{path}: a column is there twice: name each once")
            rows, known = _Rows(len(names), progress), [dict[str, str]() for _ in names]
            widths: dict[str, tuple[int, ...]] = {}
            for part in file.iter_batches(batch_size=max(1, _PART * 16 // max(16, len(names)))):
                made = []
                for name, words, column in zip(names, known, part.columns, strict=True):
                    values = _nothing(len(column)) if name in without else _arrow(column, words)
                    if values is None:
                        raise ProfileError(_unfit(path, f"column {name}", column.type, name))
                    if widths.setdefault(name, values.shape[1:]) != values.shape[1:]:
                        raise ProfileError(_unfit(path, f"column {name}", column.type, name))
                    made.append(values)
                rows.add(made)
    except arrow.ArrowException as error:
        raise ProfileError(f"{path}: is no Parquet file: {' '.join(str(error).split())[:200]}") from error
    return dict(zip(names, rows.columns(), strict=True))


def _arrow(column: Any, known: dict[str, str]) -> NDArray[Any] | None:
    """The values of a column; None for a type that is neither of numbers nor of words."""
    import pyarrow as arrow

    kinds, kind = arrow.types, column.type
    found: NDArray[Any]
    if kinds.is_string(kind) or kinds.is_large_string(kind):
        return _words(column.to_pylist(), known)
    if kinds.is_dictionary(kind) or kinds.is_boolean(kind):
        found = np.array(column.to_pylist(), dtype=object)
    elif kinds.is_null(kind):
        found = _nothing(len(column))
    elif kinds.is_decimal(kind):
        found = column.cast(arrow.float64()).to_numpy(zero_copy_only=False)
    elif kinds.is_integer(kind) or kinds.is_floating(kind):
        found = column.to_numpy(zero_copy_only=False)
    elif (kinds.is_fixed_size_list(kind) or kinds.is_list(kind) or kinds.is_large_list(kind)) and not column.null_count:
        # pandas, Polars and Spark write lists of open length also where all have the same.
        flat, widths = column.flatten(), set(column.value_lengths().to_pylist())
        inner = _arrow(flat, known) if len(widths) == 1 and len(flat) else None
        if inner is None or inner.dtype.kind == "O":
            return None
        found = inner.reshape(len(column), -1, *inner.shape[1:])
    else:
        return None
    return found


def _npz(path: Path, without: Collection[str]) -> Table:
    import zipfile

    try:
        found = np.load(path, allow_pickle=False)
        if not isinstance(found, np.lib.npyio.NpzFile):
            raise ProfileError(f"{path}: is no NPZ file: save arrays with numpy.savez")
        with found as archive:
            arrays = {name: _array(path, archive, name) for name in archive.files if name not in without}
            rows = next((len(values) for values in arrays.values() if values.ndim), 0)
            return {name: _nothing(rows) if name in without else arrays[name] for name in archive.files}
    except zipfile.BadZipFile as error:
        raise ProfileError(f"{path}: is no NPZ file") from error


def _array(path: Path, archive: Any, name: str) -> NDArray[Any]:
    try:
        values: NDArray[Any] = archive[name]
    except ValueError as error:
        if "Object arrays" not in str(error):
            raise
        raise ProfileError(
            f"{path}: array {name} holds Python objects: store words by .astype(str), or leave it out: --drop {name}"
        ) from error
    if values.dtype.kind not in "biufSU":
        raise ProfileError(_unfit(path, f"array {name}", values.dtype, name))
    return values


def _unfit(path: Path, what: str, kind: object, name: str) -> str:
    lists = " (lists must all have one length, and none be missing)" if "list" in str(kind) else ""
    return f"{path}: {what} has the type {kind}: store it as a number or word{lists}, or leave it out: --drop {name}"
