"""A model server asked over the REST protocol of KServe v2, for golden sets on a person's machine.

Tensors go as binary data beside the JSON where the server has that extension: JSON has neither FP16 nor other bytes.
"""

from __future__ import annotations

import asyncio
import json
import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp

from modelrollout.adapters.apierrors import one_line
from modelrollout.adapters.triton_tensors import MOST_NUMBERS, from_bytes, refuse_large, to_array, to_bytes
from modelrollout.adapters.triton_warm import latest
from modelrollout.ports import ModelError, PodTarget, Signature, Tensor, TensorSpec, TransientError

ANSWER_SECONDS = 30.0
LARGEST_ANSWER = 64 * 1024 * 1024
LENGTH = "Inference-Header-Content-Length"
"""How many bytes of a body are JSON; binary tensors come behind them."""


class RestModelServer:
    """Asks at ``base``, like ``http://127.0.0.1:8000``; of a target only the model's name counts."""

    def __init__(self, base: str) -> None:
        self._base = base.rstrip("/")
        self._binary: bool | None = None

    async def signature(self, target: PodTarget) -> Signature:
        """Inputs, outputs and parameters. A server without Triton's config extension tells names, types and shapes.

        Raises TransientError, ModelError.
        """
        metadata = await self._json("GET", f"/v2/models/{target.model}")
        try:
            config = await self._json("GET", f"/v2/models/{target.model}/config")
        except ModelError:
            config = {}
        try:
            return _signature(metadata, config)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise ModelError("DATA_LOSS", f"{self._base} answers with metadata that cannot be read") from error

    async def infer(self, target: PodTarget, inputs: Sequence[Tensor], outputs: Sequence[str]) -> tuple[Tensor, ...]:
        """The named outputs for one request. Raises TransientError, ModelError."""
        if self._binary is None:
            self._binary = await self._takes_binary()
        blobs = [to_bytes(to_array(tensor)) for tensor in inputs] if self._binary else []
        body = {
            "id": "modelrollout-golden",
            "inputs": [_input(t, len(blobs[n]) if self._binary else None) for n, t in enumerate(inputs)],
            "outputs": [
                {"name": n, **({"parameters": {"binary_data": True}} if self._binary else {})} for n in outputs
            ],
        }
        answer, rest = await self._asked("POST", f"/v2/models/{target.model}/infer", body, b"".join(blobs))
        try:
            found, place = [], 0
            for entry in answer["outputs"]:
                size = (entry.get("parameters") or {}).get("binary_data_size")
                found.append(_tensor(entry) if size is None else _unpacked(entry, rest[place : place + size], size))
                place += size or 0
            return tuple(found)
        except (TypeError, ValueError, KeyError, AttributeError, struct.error) as error:
            raise ModelError("DATA_LOSS", f"{self._base} answers with outputs that cannot be read") from error

    async def _takes_binary(self) -> bool:
        """Whether the server has the extension for binary tensors."""
        try:
            extensions = (await self._json("GET", "/v2")).get("extensions")
        except ModelError:
            return False
        return isinstance(extensions, list) and "binary_tensor_data" in extensions

    async def _json(self, method: str, path: str) -> Mapping[str, Any]:
        return (await self._asked(method, path))[0]

    async def _asked(
        self, method: str, path: str, body: object = None, blob: bytes = b""
    ) -> tuple[Mapping[str, Any], bytes]:
        """The JSON of the answer, and the binary data behind it."""
        data = None if body is None else json.dumps(body).encode()
        headers = {LENGTH: str(len(data))} if data is not None and self._binary else {}
        try:
            async with (
                asyncio.timeout(ANSWER_SECONDS),
                aiohttp.ClientSession() as session,
                session.request(
                    method, self._base + path, data=None if data is None else data + blob, headers=headers
                ) as response,
            ):
                status, text = response.status, await _bounded(response)
                length = int(response.headers.get(LENGTH, len(text)))
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise TransientError(one_line(f"{self._base} cannot be asked: {error}")) from error
        except TimeoutError:
            raise TransientError(f"{self._base} did not answer within {ANSWER_SECONDS:g} s") from None
        try:
            answer = json.loads(text[:length])
        except (ValueError, RecursionError):
            answer = None
        if status >= 400:
            said = answer.get("error") if isinstance(answer, dict) else None
            raise ModelError(f"HTTP {status}", one_line(str(said or text[:300].decode(errors="replace"))))
        if not isinstance(answer, dict):
            raise ModelError("DATA_LOSS", f"{self._base} does not answer with JSON: is it a model server?")
        return answer, text[length:]


def _input(tensor: Tensor, size: int | None) -> dict[str, Any]:
    """The tensor as the JSON has it: with its data, or with the size of those behind it."""
    found: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
    if size is not None:
        return {**found, "parameters": {"binary_data_size": size}}
    if any(isinstance(entry, bytes) for entry in tensor.data):
        why = f"input {tensor.name} has bytes that are no text, and the server takes no binary tensors over REST"
        raise ModelError("UNIMPLEMENTED", f"{why}: ask it by gRPC (--url host:port)")
    return {**found, "data": tensor.data}


def _unpacked(entry: Mapping[str, Any], raw: bytes, size: int) -> Tensor:
    name, datatype, shape = str(entry["name"]), str(entry["datatype"]), tuple(int(each) for each in entry["shape"])
    if len(raw) != size:
        raise ValueError("less data than it says")
    refuse_large(name, datatype, shape, size)
    return from_bytes(name, datatype, shape, raw)


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    found = bytearray()
    async for chunk in response.content.iter_chunked(65536):
        found += chunk
        if len(found) > LARGEST_ANSWER:
            raise ModelError("OUT_OF_RANGE", f"the answer is larger than {LARGEST_ANSWER >> 20} MiB")
    return bytes(found)


def _signature(metadata: Mapping[str, Any], config: Mapping[str, Any]) -> Signature:
    optional = {str(each["name"]) for each in config.get("input") or () if each.get("optional")}

    def specs(kind: str) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(
                each["name"], each["datatype"], tuple(int(size) for size in each["shape"]), each["name"] in optional
            )
            for each in metadata.get(kind) or ()
        )

    return Signature(
        version=latest([str(version) for version in metadata.get("versions") or ()]),
        inputs=specs("inputs"),
        outputs=specs("outputs"),
        max_batch_size=int(config.get("max_batch_size") or 0),
        decoupled=bool((config.get("model_transaction_policy") or {}).get("decoupled")),
        sequences=bool(config.get("sequence_batching")),
        parameters={key: str(each.get("string_value")) for key, each in (config.get("parameters") or {}).items()},
    )


def _tensor(entry: Mapping[str, Any]) -> Tensor:
    data, shape = entry["data"], tuple(int(size) for size in entry["shape"])
    whole = isinstance(data, list) and len(data) <= MOST_NUMBERS and len(data) == math.prod(shape)
    if not whole or not all(isinstance(each, bool | int | float | str) for each in data):
        raise ValueError("not as many numbers or texts as the shape says")
    return Tensor(str(entry["name"]), str(entry["datatype"]), shape, tuple(data))
