"""Tensors of the ports as numpy arrays and as messages, and inputs made up from a model's metadata: few and bounded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelrollout.ports import ModelError, Tensor

if TYPE_CHECKING:
    import numpy.typing

MOST_NUMBERS = 1_000_000
"""Of one answer: what Python can hold and compare in about a second."""
_LARGEST_TEXTS = 4 * MOST_NUMBERS


@dataclass(frozen=True)
class Array:
    """A tensor as numpy has it; of BYTES the entries are bytes."""

    name: str
    datatype: str
    values: numpy.typing.NDArray[Any]


def to_array(tensor: Tensor) -> Array:
    """The array; texts become UTF-8."""
    import numpy as np

    if tensor.datatype != "BYTES":
        values = np.array(tensor.data, dtype=_dtype(tensor.name, tensor.datatype))
        return Array(tensor.name, tensor.datatype, values.reshape(tensor.shape))
    texts = np.empty(len(tensor.data), dtype=np.object_)
    texts[:] = [entry if isinstance(entry, bytes) else str(entry).encode("utf-8") for entry in tensor.data]
    return Array(tensor.name, tensor.datatype, texts.reshape(tensor.shape))


def refuse_large(name: str, datatype: str, shape: Sequence[int], size: int) -> None:
    """Raises ModelError for an answer that would take too much to decode: ``size`` is that of its bytes."""
    entries = max(math.prod(shape), 0)
    # Every text has its length in four bytes: as many empty ones as fit are as many objects.
    entries = max(entries, size // 4) if datatype == "BYTES" and size > _LARGEST_TEXTS else entries
    if entries > MOST_NUMBERS:
        raise ModelError("OUT_OF_RANGE", f"output {name} has {entries} entries, at most {MOST_NUMBERS} are read")


def from_array(name: str, datatype: str, values: numpy.typing.NDArray[Any]) -> Tensor:
    """The tensor."""
    flat = (values.astype("f4") if datatype == "BF16" else values).ravel().tolist()
    if datatype == "BYTES":
        flat = [as_text(each) if isinstance(each, bytes) else str(each) for each in flat]
    return Tensor(name, datatype, tuple(int(size) for size in values.shape), tuple(flat))


def as_text(entry: bytes) -> str | bytes:
    """An entry of BYTES as the ports have it: a text, unless it is no UTF-8."""
    try:
        return entry.decode("utf-8")
    except UnicodeDecodeError:
        return entry


def to_inputs(arrays: Sequence[Array]) -> list[Any]:
    """As tritonclient sends them."""
    from tritonclient.grpc import InferInput

    inputs = []
    for array in arrays:
        made = InferInput(array.name, list(array.values.shape), array.datatype)
        inputs.append(made.set_data_from_numpy(array.values))
    return inputs


def to_message(model: str, arrays: Sequence[Array]) -> bytes:
    """A ModelInferRequest as it goes over the wire: made once for many sendings."""
    from tritonclient.grpc import service_pb2

    request = service_pb2.ModelInferRequest(model_name=model, id="modelrollout-load")
    for array in arrays:
        request.inputs.add(name=array.name, datatype=array.datatype, shape=array.values.shape)
        request.raw_input_contents.append(to_bytes(array))
    return bytes(request.SerializeToString())


def to_bytes(array: Array) -> bytes:
    """As both protocols have it in binary: little-endian, of BYTES each entry behind its length."""
    from tritonclient.utils import serialize_byte_tensor

    if array.datatype != "BYTES":
        return array.values.tobytes()
    packed = serialize_byte_tensor(array.values)
    return bytes(packed.item()) if packed.size else b""


def from_bytes(name: str, datatype: str, shape: Sequence[int], raw: bytes) -> Tensor:
    """The tensor of such bytes; raises ValueError or struct.error where they do not fit the shape."""
    import numpy as np
    from tritonclient.utils import deserialize_bytes_tensor

    values = deserialize_bytes_tensor(raw) if datatype == "BYTES" else np.frombuffer(raw, _dtype(name, datatype))
    return from_array(name, datatype, values.reshape(tuple(shape)))


def made_up(tensors: Sequence[Any]) -> Iterator[list[Array]]:
    """Yield sets of inputs of the right types and shapes: zeros, ones, and a ramp from 0 to 1 (or words).

    ``tensors`` have name, datatype and shape. Raises ModelError for a type that nobody knows.
    """
    for kind in ("zeros", "ones", "ramp"):
        yield [Array(tensor.name, tensor.datatype, _filled(kind, tensor)) for tensor in tensors]


def size_of(tensor: Any) -> int:
    """Bytes at most of one that is made up."""
    return math.prod(_shape(tensor)) * 8


def _filled(kind: str, tensor: Any) -> numpy.typing.NDArray[Any]:
    import numpy as np

    shape = _shape(tensor)
    if tensor.datatype == "BYTES":
        return np.full(shape, {"zeros": b"", "ones": b"1", "ramp": b"warm"}[kind], dtype=np.object_)
    dtype = _dtype(tensor.name, tensor.datatype)
    if kind == "ramp":
        return np.linspace(0.0, 1.0, math.prod(shape)).reshape(shape).astype(dtype)
    return np.full(shape, 0 if kind == "zeros" else 1, dtype=dtype)


def _shape(tensor: Any) -> list[int]:
    """Every dimension that is open, the batch too, is 1."""
    return [dimension if dimension >= 0 else 1 for dimension in tensor.shape]


def _dtype(name: str, datatype: str) -> Any:
    from tritonclient.utils import triton_to_np_dtype

    dtype = triton_to_np_dtype(datatype)
    if dtype is None:
        raise ModelError("UNIMPLEMENTED", f"unknown type {datatype} of input {name}")
    return dtype
