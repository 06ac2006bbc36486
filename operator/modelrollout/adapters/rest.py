"""A model server asked over the REST protocol of KServe v2 with JSON, for golden sets on a person's machine."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp

from modelrollout.adapters.apierrors import one_line
from modelrollout.adapters.triton_tensors import MOST_NUMBERS
from modelrollout.adapters.triton_warm import latest
from modelrollout.ports import ModelError, PodTarget, Signature, Tensor, TensorSpec, TransientError

ANSWER_SECONDS = 30.0
LARGEST_ANSWER = 64 * 1024 * 1024


class RestModelServer:
    """Asks at ``base``, like ``http://127.0.0.1:8000``; of a target only the model's name counts."""

    def __init__(self, base: str) -> None:
        self._base = base.rstrip("/")

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
        body = {
            "id": "modelrollout-golden",
            "inputs": [{"name": t.name, "datatype": t.datatype, "shape": t.shape, "data": t.data} for t in inputs],
            "outputs": [{"name": name} for name in outputs],
        }
        answer = await self._json("POST", f"/v2/models/{target.model}/infer", body)
        try:
            return tuple(_tensor(entry) for entry in answer["outputs"])
        except (TypeError, ValueError, KeyError) as error:
            raise ModelError("DATA_LOSS", f"{self._base} answers with outputs that cannot be read") from error

    async def _json(self, method: str, path: str, body: object = None) -> Mapping[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        try:
            async with (
                asyncio.timeout(ANSWER_SECONDS),
                aiohttp.ClientSession() as session,
                session.request(method, self._base + path, data=data) as response,
            ):
                status, text = response.status, await _bounded(response)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise TransientError(one_line(f"{self._base} cannot be asked: {error}")) from error
        except TimeoutError:
            raise TransientError(f"{self._base} did not answer within {ANSWER_SECONDS:g} s") from None
        try:
            answer = json.loads(text)
        except (ValueError, RecursionError):
            answer = None
        if status >= 400:
            said = answer.get("error") if isinstance(answer, dict) else None
            raise ModelError(f"HTTP {status}", one_line(str(said or text[:300].decode(errors="replace"))))
        if not isinstance(answer, dict):
            raise ModelError("DATA_LOSS", f"{self._base} does not answer with JSON: is it a model server?")
        return answer


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
