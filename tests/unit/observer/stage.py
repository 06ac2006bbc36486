"""A real observer on 127.0.0.1, arms that are real gRPC servers, and requests as clients send them."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import grpc.aio
import numpy as np
import orjson
from prometheus_client.parser import text_string_to_metric_families
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from modelrollout.observer.limits import Limits
from modelrollout.observer.process import Observer, Ports
from modelrollout.observer.wishes import Arms, Comparing, Labelling, Wish
from modelrollout.profile.model import Profile

HOST = "digits.example.com"
Answer = Callable[[Any], Any]


def wish(
    *,
    name: str = "digits",
    model: str = "digits",
    arms: Arms | None = None,
    per_second: float | None = None,
    tolerances: tuple[Any, ...] = (),
    window: float | None = None,
    most: int = 1000,
) -> Wish:
    return Wish(
        name=name,
        namespace="demo",
        model=model,
        hosts=frozenset({f"{name}.example.com"}),
        arms=arms or Arms(),
        comparing=Comparing(per_second, tolerances) if per_second else None,
        labelling=Labelling(window, most) if window else None,
    )


@asynccontextmanager
async def observing(
    *wishes: Wish,
    profile: Profile | None = None,
    addresses: Mapping[str, str] | None = None,
    limits: Limits | None = None,
    source: Any = None,
    wall: Callable[[], float] = time.time,
) -> AsyncIterator[Observer]:
    known = addresses or {}
    observer = Observer(
        source,
        wall,
        "127.0.0.1",
        Ports(0, 0, 0, 0),
        limits or Limits(),
        lambda _, revision: known.get(revision, "127.0.0.1:1"),
    )
    observer.registry.follow({each.name: each for each in wishes})
    for each in wishes:
        observer.registry.targets[each.name].use(profile)
    task = asyncio.create_task(observer.run())
    waiting = asyncio.create_task(observer.listening.wait())
    await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    try:
        yield observer
    finally:
        task.cancel()
        await asyncio.wait([task])


class Arm(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Answers by ``answer`` (request -> response, or an exception), and tells what the model is."""

    def __init__(self, answer: Answer, config: Any = None, metadata: Any = None) -> None:
        self.answer, self.config, self.metadata = answer, config, metadata
        self.requests: list[Any] = []

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's names
        self.requests.append(request)
        return self.answer(request)

    async def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's names
        return self.metadata or service_pb2.ModelMetadataResponse()

    async def ModelConfig(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's names
        return service_pb2.ModelConfigResponse(config=self.config or model_config_pb2.ModelConfig())


@asynccontextmanager
async def serving(arm: Arm) -> AsyncIterator[str]:
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(arm, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


def answer(outputs: Mapping[str, tuple[str, Any]]) -> Any:
    response = service_pb2.ModelInferResponse(model_name="digits")
    for name, (datatype, values) in outputs.items():
        array = np.asarray(values)
        response.outputs.add(name=name, datatype=datatype, shape=array.shape)
        response.raw_output_contents.append(raw(array, datatype))
    return response


def raw(array: Any, datatype: str) -> bytes:
    if datatype == "BYTES":
        words = [word if isinstance(word, bytes) else str(word).encode() for word in np.asarray(array).ravel().tolist()]
        return b"".join(len(word).to_bytes(4, "little") + word for word in words)
    kinds = {"FP32": "<f4", "FP64": "<f8", "INT64": "<i8", "INT32": "<i4", "UINT8": "u1", "BOOL": "?"}
    return np.ascontiguousarray(array, kinds[datatype]).tobytes()


def json_body(inputs: Mapping[str, tuple[str, Any]], request: str = "") -> bytes:
    entries = []
    for name, (datatype, values) in inputs.items():
        array = np.asarray(values)
        entries.append({"name": name, "datatype": datatype, "shape": list(array.shape), "data": array.ravel().tolist()})
    return orjson.dumps({**({"id": request} if request else {}), "inputs": entries})


def binary_body(inputs: Mapping[str, tuple[str, Any]], request: str = "") -> tuple[bytes, dict[str, str]]:
    entries, tail = [], b""
    for name, (datatype, values) in inputs.items():
        data = raw(values, datatype)
        tail += data
        entries.append(
            {
                "name": name,
                "datatype": datatype,
                "shape": list(np.asarray(values).shape),
                "parameters": {"binary_data_size": len(data)},
            }
        )
    head = orjson.dumps({**({"id": request} if request else {}), "inputs": entries})
    return head + tail, {"Inference-Header-Content-Length": str(len(head))}


def grpc_request(inputs: Mapping[str, tuple[str, Any]], request: str = "", model: str = "digits") -> Any:
    made = service_pb2.ModelInferRequest(model_name=model, id=request)
    for name, (datatype, values) in inputs.items():
        made.inputs.add(name=name, datatype=datatype, shape=np.asarray(values).shape)
        made.raw_input_contents.append(raw(values, datatype))
    return made


async def post(
    observer: Observer, body: bytes, headers: Mapping[str, str] | None = None, model: str = "digits", host: str = HOST
) -> int:
    url = f"http://127.0.0.1:{observer.http.port}/v2/models/{model}/infer"
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=body, headers={"Host": host, **(headers or {})}) as response,
    ):
        return response.status


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - counters have no event
            await asyncio.sleep(0.005)


async def scrape(observer: Observer) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """All samples by name and labels, without the label process; without when each process began."""
    url = f"http://127.0.0.1:{observer.metrics_port}/metrics"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        text = await response.text()
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name, frozenset((name, value) for name, value in sample.labels.items() if name != "process")
            if sample.name.endswith("_started_timestamp_seconds"):
                continue
            assert key not in found, f"{key} is there twice"
            found[key] = sample.value
    return found


def value(samples: Mapping[tuple[str, frozenset[tuple[str, str]]], float], name: str, **labels: str) -> float:
    """The one sample whose labels include these."""
    hits = [
        number
        for (each, own), number in samples.items()
        if each == f"modelrollout_observer_{name}" and {*labels.items()} <= own
    ]
    assert len(hits) == 1, f"{name} {labels}: {len(hits)} samples"
    return hits[0]


def outcomes(observer: Observer) -> dict[tuple[str, str], int]:
    """Requests by protocol and outcome, whoever they belong to."""
    found: dict[tuple[str, str], int] = dict(observer.registry.stray)
    for target in observer.registry.targets.values():
        for key, number in target.requests.items():
            found[key] = found.get(key, 0) + number
    return {(str(protocol), outcome): number for (protocol, outcome), number in found.items() if number}
