"""Tensors of the KServe v2 protocol out of foreign bytes: nothing is made as large as a shape only says it is.

A number tensor becomes an array of its shape; words stay a flat list of bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

DTYPES: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
WORDS, BRAIN = "BYTES", "BF16"
MOST_DIMENSIONS = 16
_LEAVES = frozenset((int, float, bool, type(None)))


class MalformedError(ValueError):
    """The bytes are no request of the protocol."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor. ``numbers`` has the shape ``shape``, or is None where ``words`` has the elements in order."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    numbers: NDArray[Any] | None = None
    words: Sequence[bytes | None] | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.numbers.size if self.numbers is not None else len(self.words or ())

    @property
    def bytes(self) -> int:
        """Bytes of the elements as the protocol sends them; of BF16 as they are in memory."""
        if self.numbers is not None:
            return self.numbers.nbytes
        return sum(4 + len(word or b"") for word in self.words or ())


def shape_of(raw: object) -> tuple[int, ...]:
    """A shape as given. Raises MalformedError unless it is a short list of whole numbers from 0."""
    if not isinstance(raw, list) or len(raw) > MOST_DIMENSIONS:
        raise MalformedError("shape")
    for size in raw:
        if type(size) is not int or not 0 <= size < 1 << 40:
            raise MalformedError("shape")
    return tuple(raw)


def from_json(name: str, datatype: str, shape: tuple[int, ...], data: object) -> Tensor:
    """A tensor whose elements stand in JSON, flat or nested. Raises MalformedError."""
    if not isinstance(data, list):
        raise MalformedError("data")
    if datatype == WORDS:
        words = _flat_words(data, math.prod(shape))
        return Tensor(name, datatype, shape, words=words)
    dtype = DTYPES.get(datatype) or (np.dtype("<f4") if datatype == BRAIN else None)
    if dtype is None:
        raise MalformedError("datatype")
    numbers = _numbers(data, dtype)
    if numbers.size != math.prod(shape):
        raise MalformedError("shape")
    return Tensor(name, datatype, shape, shaped(numbers, shape))


def from_bytes(name: str, datatype: str, shape: tuple[int, ...], data: bytes | memoryview) -> Tensor:
    """A tensor whose elements are raw bytes, little endian. Raises MalformedError."""
    count = math.prod(shape)
    if datatype == WORDS:
        words = _split(data, count)
        return Tensor(name, datatype, shape, words=words)
    if datatype == BRAIN:
        if len(data) != 2 * count:
            raise MalformedError("size")
        wide = np.frombuffer(data, dtype="<u2").astype("<u4") << np.uint32(16)
        return Tensor(name, datatype, shape, shaped(wide.view("<f4"), shape))
    dtype = DTYPES.get(datatype)
    if dtype is None:
        raise MalformedError("datatype")
    if len(data) != dtype.itemsize * count:
        raise MalformedError("size")
    return Tensor(name, datatype, shape, shaped(np.frombuffer(data, dtype=dtype), shape))


def shaped(numbers: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """The numbers in this shape. Raises MalformedError where they do not fill it."""
    try:
        return numbers.reshape(shape)
    except (ValueError, OverflowError) as error:
        raise MalformedError("shape") from error


def to_bytes(tensor: Tensor) -> bytes:
    """The raw bytes of a tensor, little endian."""
    if tensor.words is not None:
        return b"".join(len(word or b"").to_bytes(4, "little") + (word or b"") for word in tensor.words)
    numbers = tensor.numbers
    assert numbers is not None  # noqa: S101 - one of both is there
    if tensor.datatype == BRAIN:
        return (np.ascontiguousarray(numbers, "<f4").view("<u4") >> np.uint32(16)).astype("<u2").tobytes()
    return np.ascontiguousarray(numbers, DTYPES[tensor.datatype]).tobytes()


def _check_leaves(data: list[Any]) -> None:
    """Let numbers through only: numpy makes an array of words as wide as the longest of them, for each element."""
    level, kinds = data, set(map(type, data))
    for _ in range(MOST_DIMENSIONS):
        if kinds <= _LEAVES:
            return
        if kinds != {list}:
            break
        kinds = set(map(type, chain.from_iterable(level)))
        if list in kinds:
            level = list(chain.from_iterable(level))
    raise MalformedError("data")


def _numbers(data: list[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    _check_leaves(data)
    try:
        found = np.array(data)
    except (ValueError, OverflowError, RecursionError) as error:
        raise MalformedError("data") from error
    kind = found.dtype.kind
    if kind in "biuf" or found.size == 0:
        pass
    elif kind == "O" and all(value is None or type(value) in (int, float) for value in found.ravel()):
        # null is how JSON writes NaN.
        found = found.astype(np.float64)
    else:
        raise MalformedError("data")
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return found.astype(dtype, copy=False)
    if found.dtype.kind == "f" and found.size:
        # A whole number may be written 3.0; anything else in an integer tensor is a fault of the sender.
        with np.errstate(invalid="ignore"):
            if not (np.isfinite(found) & (found == np.floor(found))).all():
                raise MalformedError("data")
    with np.errstate(invalid="ignore"):
        whole = found.astype(dtype, copy=False)
        if found.size and not (whole == found).all():
            raise MalformedError("data")
    return whole


def _flat_words(data: list[Any], count: int) -> list[bytes | None]:
    words: list[bytes | None] = []
    stack: list[Any] = [iter(data)]
    while stack:
        for value in stack[-1]:
            if isinstance(value, str):
                words.append(value.encode("utf-8", "replace"))
            elif value is None:
                words.append(None)
            elif isinstance(value, list) and len(stack) < MOST_DIMENSIONS:
                stack.append(iter(value))
                break
            else:
                raise MalformedError("data")
            if len(words) > count:
                raise MalformedError("shape")
        else:
            stack.pop()
    if len(words) != count:
        raise MalformedError("shape")
    return words


def _split(data: bytes | memoryview, count: int) -> list[bytes | None]:
    if len(data) < 4 * count:
        raise MalformedError("size")
    view, place, words = memoryview(data), 0, []
    for _ in range(count):
        length = int.from_bytes(view[place : place + 4], "little")
        place += 4 + length
        if place > len(view):
            raise MalformedError("size")
        words.append(bytes(view[place - length : place]))
    if place != len(view):
        raise MalformedError("size")
    return list(words)
