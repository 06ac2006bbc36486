"""Bodies that no client should send: garbage, lies about lengths, bombs. Each has a name for the failure's message."""

from __future__ import annotations

import gzip
import json
import struct
from dataclasses import dataclass, field

DEEP = 50_000
HUGE = 8 * 2**20


@dataclass(frozen=True)
class Body:
    """One request to the infer path, as bytes, and its headers."""

    name: str
    content: bytes
    headers: dict[str, str] = field(default_factory=dict)


def numbers(data: object, datatype: str = "FP32", shape: object = (1, 4)) -> bytes:
    """A request whose first input is as told, and whose second one is fine."""
    first = {"name": "APPLICANT", "shape": shape, "datatype": datatype, "data": data}
    region = {"name": "REGION", "shape": [1, 1], "datatype": "BYTES", "data": ["north"]}
    return json.dumps({"id": "odd", "inputs": [first, region]}).encode()


def bodies() -> list[Body]:
    """All of them. None is larger than 8 MiB."""
    binary = {"name": "APPLICANT", "shape": [1, 4], "datatype": "FP32", "parameters": {"binary_data_size": 16}}
    head = json.dumps({"inputs": [binary]}).encode()
    length = "Inference-Header-Content-Length"
    return [
        Body("nothing", b""),
        Body("no JSON", b"\x00\xff\xfe garbage"),
        Body("half of a request", numbers([1, 2, 3, 4])[:40]),
        Body("not an object", b"[1, 2, 3]"),
        Body("inputs is a number", b'{"inputs": 7}'),
        Body("nested lists", b'{"inputs": ' + b"[" * DEEP + b"]" * DEEP + b"}"),
        Body("nested objects", b'{"a":' * DEEP + b"1" + b"}" * DEEP),
        Body("huge", numbers([0.0] * (HUGE // 8))),
        Body("huge text", b'{"inputs": "' + b"x" * HUGE + b'"}'),
        Body("packed bomb", gzip.compress(b"0" * HUGE), {"Content-Encoding": "gzip"}),
        Body("text for numbers", numbers(["a", "b", "c", "d"])),
        Body("wrong type", numbers([1, 2, 3, 4], "BOOL")),
        Body("unknown type", numbers([1, 2, 3, 4], "FP1024")),
        Body("wrong shape", numbers([1, 2, 3], shape=[1, 3])),
        Body("negative shape", numbers([1, 2, 3, 4], shape=[-1, -4])),
        Body("shape of a galaxy", numbers([1, 2, 3, 4], shape=[2**62, 2**62])),
        Body("shape is text", numbers([1, 2, 3, 4], shape="1,4")),
        Body("numbers beyond floats", numbers([1e308, -1e308, 1e39, 0]).replace(b"1e+308", b"1e999999")),
        Body("not numbers", numbers([0, 0, 0, 0]).replace(b"0, 0, 0, 0", b"NaN, Infinity, -Infinity, 0")),
        Body("a name of a megabyte", json.dumps({"inputs": [{"name": "x" * 2**20}]}).encode()),
        Body("binary that is too short", head + b"\x00" * 4, {length: str(len(head))}),
        Body("a head longer than the body", head, {length: "99999999999"}),
        Body("a head that is no number", head, {length: "-1"}),
        Body("binary strings that lie", struct.pack("<I", 2**31) + b"x", {length: "0"}),
    ]
