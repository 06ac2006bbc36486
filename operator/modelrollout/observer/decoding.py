"""Mirrored requests out of their bytes: KServe v2 over REST (JSON, binary tensor extension) and over gRPC."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from modelrollout.observer.tensors import DTYPES, WORDS, MalformedError, Tensor, from_bytes, from_json, shape_of

LONGEST_ID = 128
MOST_TENSORS = 256
_TYPED = {
    "BOOL": ("bool_contents", "?"),
    "INT8": ("int_contents", "i1"),
    "INT16": ("int_contents", "<i2"),
    "INT32": ("int_contents", "<i4"),
    "INT64": ("int64_contents", "<i8"),
    "UINT8": ("uint_contents", "u1"),
    "UINT16": ("uint_contents", "<u2"),
    "UINT32": ("uint_contents", "<u4"),
    "UINT64": ("uint64_contents", "<u8"),
    "FP32": ("fp32_contents", "<f4"),
    "FP64": ("fp64_contents", "<f8"),
}
_SHARED_MEMORY = "shared_memory_region"
_SEQUENCE = ("sequence_id", "sequence_start", "sequence_end")


@dataclass(frozen=True, slots=True)
class Inference:
    """One mirrored request, decoded.

    ``repeatable`` False: asking it once more would disturb a sequence, or its tensors are in memory that we do not
    share; it is counted as far as it can be, and no arm is asked.
    """

    model: str
    id: str
    inputs: dict[str, Tensor]
    repeatable: bool = True

    @property
    def size(self) -> int:
        """Bytes of the tensors."""
        return sum(tensor.bytes for tensor in self.inputs.values())


def from_rest(model: str, body: bytes, header_length: int | None) -> Inference:
    """Decode a body; ``header_length`` is the Inference-Header-Content-Length, None: all is JSON.

    Raises MalformedError.
    """
    head, tail = body, memoryview(b"")
    if header_length is not None:
        if not 0 < header_length <= len(body):
            raise MalformedError("header length")
        head, tail = body[:header_length], memoryview(body)[header_length:]
    decoded = _json(head)
    if not isinstance(decoded, dict):
        raise MalformedError("JSON")
    inputs = decoded.get("inputs")
    if not isinstance(inputs, list) or not 0 < len(inputs) <= MOST_TENSORS:
        raise MalformedError("inputs")
    tensors, shared = _rest_tensors(inputs, tail)
    parameters = decoded.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise MalformedError("parameters")
    return Inference(model, _id(decoded.get("id")), tensors, not shared and not any(map(parameters.get, _SEQUENCE)))


def from_grpc(message: Any) -> Inference:
    """Decode a ModelInferRequest. Raises MalformedError."""
    if not 0 < len(message.inputs) <= MOST_TENSORS:
        raise MalformedError("inputs")
    shared = any(_SHARED_MEMORY in entry.parameters for entry in message.inputs)
    if shared:
        return Inference(message.model_name, _id(message.id), {}, repeatable=False)
    inputs = grpc_tensors(message.inputs, message.raw_input_contents)
    sequence = any(key in message.parameters for key in _SEQUENCE)
    return Inference(message.model_name, _id(message.id), inputs, repeatable=not sequence)


def grpc_tensors(entries: Any, raw: Any) -> dict[str, Tensor]:
    """The tensors of a request or an answer, by name. Raises MalformedError."""
    if raw and len(raw) != len(entries):
        raise MalformedError("raw contents")
    found: dict[str, Tensor] = {}
    for number, entry in enumerate(entries):
        shape = shape_of(list(entry.shape))
        contents = raw[number] if raw else None
        tensor = _typed(entry, shape) if contents is None else from_bytes(entry.name, entry.datatype, shape, contents)
        if tensor.name in found:
            raise MalformedError("inputs")
        found[tensor.name] = tensor
    return found


def _rest_tensors(inputs: list[Any], tail: memoryview) -> tuple[dict[str, Tensor], bool]:
    """The tensors by name, and whether some are in shared memory."""
    tensors: dict[str, Tensor] = {}
    shared = False
    for entry in inputs:
        if not isinstance(entry, dict):
            raise MalformedError("inputs")
        parameters = entry.get("parameters") or {}
        if not isinstance(parameters, dict):
            raise MalformedError("parameters")
        if _SHARED_MEMORY in parameters:
            shared = True
            continue
        tensor, tail = _rest_tensor(entry, parameters.get("binary_data_size"), tail)
        if tensor.name in tensors:
            raise MalformedError("inputs")
        tensors[tensor.name] = tensor
    if len(tail):
        raise MalformedError("size")
    return tensors, shared


def _rest_tensor(entry: dict[str, Any], size: object, tail: memoryview) -> tuple[Tensor, memoryview]:
    name, datatype = entry.get("name"), entry.get("datatype")
    if not isinstance(name, str) or not isinstance(datatype, str):
        raise MalformedError("inputs")
    shape = shape_of(entry.get("shape"))
    if size is None:
        return from_json(name, datatype, shape, entry.get("data")), tail
    if type(size) is not int or not 0 <= size <= len(tail):
        raise MalformedError("binary_data_size")
    return from_bytes(name, datatype, shape, tail[:size]), tail[size:]


def _typed(entry: Any, shape: tuple[int, ...]) -> Tensor:
    if entry.datatype == WORDS:
        words: Iterable[bytes] = entry.contents.bytes_contents
        return _words(entry.name, shape, list(words))
    place, dtype = _TYPED.get(entry.datatype, ("", ""))
    if not place:
        raise MalformedError("datatype")
    try:
        numbers = np.array(getattr(entry.contents, place), dtype=np.dtype(dtype) if dtype != "?" else np.bool_)
        return Tensor(entry.name, entry.datatype, shape, numbers.astype(DTYPES[entry.datatype]).reshape(shape))
    except (ValueError, OverflowError) as error:
        raise MalformedError("shape") from error


def _words(name: str, shape: tuple[int, ...], words: list[bytes]) -> Tensor:
    count = 1
    for size in shape:
        count *= size
    if len(words) != count:
        raise MalformedError("shape")
    return Tensor(name, WORDS, shape, words=words)


def _json(head: bytes) -> object:
    """The JSON of a body. Many clients write NaN and Infinity as they are, which is none, and Triton takes them."""
    try:
        return orjson.loads(head)
    except ValueError as error:
        if b"NaN" not in head and b"Infinity" not in head:
            raise MalformedError("JSON") from error
    try:
        found: object = json.loads(head.decode())
    except (ValueError, RecursionError) as error:
        raise MalformedError("JSON") from error
    return found


def _id(raw: object) -> str:
    if raw is None:
        return ""
    if not isinstance(raw, str):
        raise MalformedError("id")
    return raw[:LONGEST_ID]
