"""Golden sets: stored requests with the answers that are expected, read from JSON and checked to the last number.

Whoever wrote the file gets a sentence that names the place; nothing in it makes the reader slow, large or fall over.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import struct
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelrollout.api.base import clean
from modelrollout.api.gates import OutputTolerance
from modelrollout.ports import Scalar, Signature, Tensor, TensorSpec

VERSION = 1
LARGEST = 1024 * 1024
"""Bytes of a set: what a ConfigMap can hold."""
MOST_REQUESTS = 10_000
MOST_TENSORS = 64
MOST_DIMENSIONS = 16
MOST_NUMBERS = 1_000_000
"""Of one tensor."""

INTEGERS = {
    **{f"INT{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": (0, 2**bits - 1) for bits in (8, 16, 32, 64)},
}
FLOATS = {"FP16": 65504.0, "BF16": 3.3895313892515355e38, "FP32": 3.4028234663852886e38, "FP64": math.inf}
DATATYPES = (*INTEGERS, *FLOATS, "BOOL", "BYTES")


_B64 = '{"b64": "..."}'


class GoldenError(Exception):
    """The set cannot be used; the text names where and why."""


@dataclass(frozen=True)
class GoldenRequest:
    """One request and what it shall be answered."""

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def read_golden(text: str) -> tuple[GoldenRequest, ...]:
    """The requests of a golden set; raises GoldenError."""
    document = _document(text)
    unknown = sorted(set(document) - {"version", "model", "requests"})
    if unknown:
        raise GoldenError(f"unknown field {_quoted(unknown[0])}; a set has version, requests and perhaps model")
    if document.get("version") != VERSION:
        raise GoldenError(f"version must be {VERSION}, it is {_shown(document.get('version'))}")
    requests = _list(document.get("requests"), "requests", MOST_REQUESTS)
    if not requests:
        raise GoldenError("requests is empty: a set without requests shows nothing")
    return tuple(_request(entry, f"requests[{number}]", True) for number, entry in enumerate(requests))


def read_requests(text: str) -> tuple[GoldenRequest, ...]:
    """Requests to record answers for; raises GoldenError.

    A golden set (its answers are passed over), a list of KServe v2 request bodies, or one such body.
    """
    document = _json(text)
    if isinstance(document, dict):
        document = document.get("requests", [document])
    entries = _list(document, "requests", MOST_REQUESTS)
    if not entries:
        raise GoldenError("there are no requests in it")
    return tuple(_request(entry, f"requests[{number}]", False) for number, entry in enumerate(entries))


def write_golden(model: str, requests: Sequence[GoldenRequest]) -> str:
    """The set as JSON, one request a line; raises GoldenError when it is larger than can be stored."""
    lines = ",\n".join(json.dumps(_written(request), ensure_ascii=False, separators=(",", ":")) for request in requests)
    text = f'{{"version":{VERSION},"model":{json.dumps(model)},"requests":[\n{lines}\n]}}\n'
    _refuse_large(text)
    return text


def misfit(
    requests: Sequence[GoldenRequest], signature: Signature, tolerances: Sequence[OutputTolerance] = ()
) -> str | None:
    """Why the set cannot be replayed on a model with this signature, naming the place; None where it can.

    Outputs that are not compared may be missing: a new MAJOR version renames one, and the set knows the old name.
    """
    if signature.decoupled or signature.sequences:
        kind = "answers a request any number of times (decoupled)" if signature.decoupled else "serves sequences"
        return f"the model {kind}: single requests cannot be replayed on it, so remove gates.goldenSet"
    known = {each.name: each for each in signature.inputs}
    answers = {each.name: each for each in signature.outputs}
    expected = {tensor.name for request in requests for tensor in request.outputs}
    ignored = {tolerance.output for tolerance in tolerances if tolerance.ignore}
    for number, request in enumerate(requests):
        where = f"requests[{number}] ({request.name})"
        given = {tensor.name for tensor in request.inputs}
        missing = sorted(each.name for each in signature.inputs if not each.optional and each.name not in given)
        if missing:
            return f"{where}: input {missing[0]} is missing; the model needs it"
        batch = _batch(request.inputs, signature.max_batch_size)
        if batch:
            return f"{where}: {batch}"
        compared = [tensor for tensor in request.outputs if tensor.name not in ignored]
        for kind, tensors, specs in (("input", request.inputs, known), ("output", compared, answers)):
            for tensor in tensors:
                problem = _unlike(tensor, specs.get(tensor.name), kind, specs)
                if problem:
                    return f"{where}: {problem}"
    for tolerance in tolerances:
        if tolerance.output not in expected:
            return f"tolerances names output {tolerance.output}, and no request of the set expects it"
        if (
            tolerance.top_k is not None
            and not tolerance.ignore
            and answers[tolerance.output].datatype in ("BYTES", "BOOL")
        ):
            return f"topK needs numbers, and output {tolerance.output} is {answers[tolerance.output].datatype}"
    return None


def _batch(inputs: Sequence[Tensor], most: int) -> str:
    """Why a server that batches would refuse the request; empty where it would not, or batches nothing."""
    sizes = {tensor.name: tensor.shape[0] for tensor in inputs if tensor.shape}
    if most <= 0 or not sizes:
        return ""
    name, largest = max(sizes.items(), key=lambda entry: entry[1])
    if largest > most:
        return f"input {name} has a batch of {largest}, the model takes at most {most} (max_batch_size)"
    other = next((each for each, size in sizes.items() if size != largest), None)
    if other is not None:
        return f"inputs {name} and {other} have batches of {largest} and {sizes[other]}: they must be the same"
    return ""


def _unlike(tensor: Tensor, spec: TensorSpec | None, kind: str, specs: Mapping[str, TensorSpec]) -> str:
    if spec is None:
        return f"{kind} {tensor.name} is not one of the model: it has {', '.join(sorted(specs)) or 'none'}"
    if tensor.datatype != spec.datatype:
        return f"{kind} {tensor.name} is {tensor.datatype}, the model's is {spec.datatype}"
    sizes = zip(tensor.shape, spec.shape, strict=False)
    if len(tensor.shape) != len(spec.shape) or any(fixed >= 0 and size != fixed for size, fixed in sizes):
        return f"{kind} {tensor.name} has shape {list(tensor.shape)}, the model's is {list(spec.shape)} (-1 is open)"
    return ""


def _refuse_large(text: str) -> None:
    if len(text) > LARGEST or len(text.encode("utf-8", "replace")) > LARGEST:
        raise GoldenError(f"it is larger than {LARGEST // 1024} KiB: keep fewer requests")


def _json(text: str) -> Any:
    _refuse_large(text)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise GoldenError(f"line {error.lineno}, column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise GoldenError("it is nested too deeply to be read") from None
    except ValueError as error:
        raise GoldenError(clean(f"it cannot be read: {error}", 200)) from None


def _document(text: str) -> dict[str, Any]:
    document = _json(text)
    if not isinstance(document, dict):
        raise GoldenError(f"it must be an object with version and requests, it is {_shown(document)}")
    return document


def _request(entry: object, where: str, answered: bool) -> GoldenRequest:
    if not isinstance(entry, dict):
        raise GoldenError(f"{where} must be an object, it is {_shown(entry)}")
    allowed = {"name", "inputs", "outputs"} | (set() if answered else {"id", "parameters"})
    unknown = sorted(str(key) for key in set(entry) - allowed)
    if unknown:
        raise GoldenError(f"{where}: unknown field {_quoted(unknown[0])}; a request has name, inputs and outputs")
    name = entry.get("name", entry.get("id", f"request {where[9:-1]}"))
    if not isinstance(name, str):
        raise GoldenError(f"{where}.name must be a text, it is {_shown(name)}")
    inputs = _tensors(entry.get("inputs"), f"{where}.inputs")
    # What a request asks for has no data: it is not an answer to compare with.
    outputs = _tensors(entry.get("outputs"), f"{where}.outputs") if answered else ()
    if answered and not outputs:
        raise GoldenError(f"{where}.outputs is empty: say what is expected")
    return GoldenRequest(clean(name, 80), inputs, outputs)


def _tensors(value: object, where: str) -> tuple[Tensor, ...]:
    entries = _list(value, where, MOST_TENSORS)
    found = tuple(_tensor(entry, f"{where}[{number}]") for number, entry in enumerate(entries))
    names = [tensor.name for tensor in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise GoldenError(f"{where} names {twice} twice")
    return found


def _tensor(entry: object, where: str) -> Tensor:
    if not isinstance(entry, dict):
        raise GoldenError(f"{where} must be an object, it is {_shown(entry)}")
    parameters = entry.get("parameters")
    if "data" not in entry and isinstance(parameters, dict) and "binary_data_size" in parameters:
        raise GoldenError(f"{where}: its data are outside the JSON (binary_data_size): write data, bytes as {_B64}")
    missing = next((key for key in ("name", "datatype", "shape", "data") if key not in entry), None)
    if missing:
        raise GoldenError(f"{where}: {missing} is missing; a tensor has name, datatype, shape and data")
    unknown = sorted(str(key) for key in set(entry) - {"name", "datatype", "shape", "data", "parameters"})
    if unknown:
        raise GoldenError(f"{where}: unknown field {_quoted(unknown[0])}")
    name, datatype = entry["name"], entry["datatype"]
    if not isinstance(name, str) or not 0 < len(name) <= 128:
        raise GoldenError(f"{where}.name must be a text of 1 to 128 characters, it is {_shown(name)}")
    if not isinstance(datatype, str) or datatype not in DATATYPES:
        raise GoldenError(f"{where}.datatype is {_shown(datatype)}; it must be one of {', '.join(DATATYPES)}")
    shape = _shape(entry["shape"], f"{where}.shape")
    data, nested = _flat(entry["data"], f"{where}.data")
    if len(nested) == len(shape) and nested != shape and math.prod(nested) == math.prod(shape):
        raise GoldenError(f"{where} ({clean(name, 40)}): shape is {list(shape)}, data is nested as {list(nested)}")
    if len(data) != math.prod(shape):
        wanted = math.prod(shape)
        raise GoldenError(
            f"{where} ({clean(name, 40)}): shape {list(shape)} has {wanted} numbers, data has {len(data)}"
        )
    return Tensor(name, datatype, shape, _typed(data, datatype, f"{where}.data"))


def _shape(value: object, where: str) -> tuple[int, ...]:
    sizes = _list(value, where, MOST_DIMENSIONS)
    for size in sizes:
        if type(size) is not int or size < 0:
            raise GoldenError(f"{where} must have whole numbers that are not negative, it has {_shown(size)}")
    if math.prod(sizes) > MOST_NUMBERS:
        raise GoldenError(f"{where}: more than {MOST_NUMBERS} numbers in one tensor")
    return tuple(sizes)


def _flat(value: object, where: str) -> tuple[list[Any], tuple[int, ...]]:
    """Row by row, whether the lists are nested or not; and how they are nested, by the first of each level."""
    level = _list(value, where, MOST_NUMBERS)
    nested = [len(level)]
    for _ in range(MOST_DIMENSIONS):
        if not any(isinstance(item, list) for item in level):
            return level, tuple(nested)
        if not all(isinstance(item, list) for item in level):
            raise GoldenError(f"{where} mixes lists and numbers")
        nested.append(len(level[0]))
        level = [item for row in level for item in row]
    raise GoldenError(f"{where} is nested deeper than {MOST_DIMENSIONS} levels")


def _typed(data: list[Any], datatype: str, where: str) -> tuple[Scalar, ...]:
    if datatype == "BYTES":
        return tuple(_bytes(item, f"{where}[{number}]") for number, item in enumerate(data))
    if datatype == "BOOL":
        return tuple(map(bool, _checked(data, where, datatype, lambda item: item in (0, 1), "true or false")))
    if datatype in INTEGERS:
        low, high = INTEGERS[datatype]
        fits = f"a whole number from {low} to {high}"
        return tuple(_checked(data, where, datatype, lambda item: type(item) is int and low <= item <= high, fits))
    most = FLOATS[datatype]
    _checked(data, where, datatype, lambda item: _is_float(item, most), "a number that it can hold (NaN is one)")
    return tuple(rounded(data, datatype))


def _bytes(item: object, where: str) -> str | bytes:
    """A text, or ``{"b64": "..."}`` for bytes that are none; what is UTF-8 is a text, however it is written."""
    if isinstance(item, dict) and set(item) == {"b64"} and isinstance(item["b64"], str):
        try:
            found = base64.b64decode(item["b64"].encode("ascii"), validate=True)
        except (ValueError, binascii.Error) as error:
            why = "it has characters that base64 has not" if isinstance(error, UnicodeEncodeError) else str(error)
            raise GoldenError(
                f"{where}.b64 is not base64 (letters, digits, + and /, filled up with =): {clean(why, 120)}"
            ) from None
        try:
            return found.decode("utf-8")
        except UnicodeDecodeError:
            return found
    if not isinstance(item, str):
        fields = f" with {_quoted(', '.join(map(str, item)))}" if isinstance(item, dict) else ""
        raise GoldenError(f"{where} is {_shown(item)}{fields}; BYTES needs a text, or {_B64} for other bytes")
    try:
        item.encode("utf-8")
    except UnicodeEncodeError:
        raise GoldenError(f"{where} has half of a surrogate pair: write bytes that are no text as {_B64}") from None
    return item


def rounded(data: Sequence[float], datatype: str) -> list[float]:
    """As the type holds them: 0.1 is another number in FP32, and a third one in FP16."""
    if datatype == "FP16":
        return list(struct.unpack(f"<{len(data)}e", struct.pack(f"<{len(data)}e", *data)))
    single = array("d" if datatype == "FP64" else "f", data).tolist()
    return list(map(_brief, single)) if datatype == "BF16" else single


def _brief(number: float) -> float:
    """The nearest number with the upper half of the bits of an FP32, the even one of two."""
    if not math.isfinite(number):
        return number
    bits = int.from_bytes(struct.pack("<f", number), "little")
    bits = bits + 0x7FFF + (bits >> 16 & 1) & 0xFFFF0000
    found: float = struct.unpack("<f", bits.to_bytes(4, "little"))[0]
    return found


def _is_float(item: object, most: float) -> bool:
    if type(item) is int:
        return abs(item) <= min(most, 1.7976931348623157e308)
    return type(item) is float and (abs(item) <= most or not math.isfinite(item))


def _checked(data: list[Any], where: str, datatype: str, good: Any, wanted: str) -> list[Any]:
    for number, item in enumerate(data):
        if not good(item):
            raise GoldenError(f"{where}[{number}] is {_shown(item)}; {datatype} needs {wanted}")
    return data


def _list(value: object, where: str, most: int) -> list[Any]:
    if not isinstance(value, list):
        raise GoldenError(f"{where} must be a list, it is {_shown(value)}")
    if len(value) > most:
        raise GoldenError(f"{where} has {len(value)} entries, at most {most} are allowed")
    return value


def _written(request: GoldenRequest) -> dict[str, Any]:
    def tensors(found: Sequence[Tensor]) -> list[dict[str, Any]]:
        return [{"name": t.name, "datatype": t.datatype, "shape": t.shape, "data": _short(t)} for t in found]

    return {"name": request.name, "inputs": tensors(request.inputs), "outputs": tensors(request.outputs)}


def _short(tensor: Tensor) -> Sequence[Scalar | dict[str, str]]:
    """FP32 with the nine digits that tell any two of them apart, half of the text of seventeen; bytes as base64."""
    if tensor.datatype == "BYTES":
        return [{"b64": base64.b64encode(each).decode()} if isinstance(each, bytes) else each for each in tensor.data]
    if tensor.datatype not in ("FP32", "FP16", "BF16"):
        return tensor.data
    return [float(f"{float(number):.9g}") for number in tensor.data]


def _shown(value: object) -> str:
    if value is None:
        return "not there"
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, int) and abs(value) > 10**30:
        return "a number of very many digits"
    return _quoted(str(value))


def _quoted(text: str) -> str:
    return f'"{clean(text, 60)}"'
