"""What guards on answers or inputs do not see is counted, so that a trial can say it (catalog/observer.yaml)."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import grpc.aio
import numpy as np
import orjson
import pytest
from tritonclient.grpc import service_pb2_grpc

from modelrollout.observer.wishes import Arms
from modelrollout.profile.making import Column, make
from tests.unit.observer.stage import (
    Arm,
    answer,
    grpc_request,
    json_body,
    observing,
    outcomes,
    post,
    scrape,
    serving,
    until,
    value,
    wish,
)

PROFILE = make("digits", [Column("x9", "X", (9,), np.linspace(0, 1, 100))], {})
SHORT = json_body({"X": ("FP32", [0.5, 0.6, 0.7])})
ARMS = Arms("one", "other")


async def test_a_request_that_the_profile_is_not_about_is_compared_all_the_same() -> None:
    """A dynamic dimension shorter than the profile's places: the answers to it count as much as any."""
    async with (
        serving(Arm(lambda _: answer({"Y": ("INT64", [1])}))) as one,
        serving(Arm(lambda _: answer({"Y": ("INT64", [2])}))) as other,
        observing(
            wish(arms=ARMS, per_second=100.0), profile=PROFILE, addresses={"one": one, "other": other}
        ) as observer,
    ):
        await post(observer, SHORT)
        target = observer.registry.targets["digits"]
        await until(lambda: sum(each.compared for each in target.comparisons.values()) == 1)
        assert outcomes(observer) == {("http", "wrong_type"): 1}
        assert target.features.sum() == 0
        assert target.comparisons["other", "one"].differing == 1


async def test_a_request_of_a_sequence_is_refused_for_comparisons() -> None:
    body = orjson.dumps({**orjson.loads(SHORT), "parameters": {"sequence_id": 7, "sequence_start": True}})
    async with observing(wish(arms=ARMS, per_second=100.0)) as observer:
        await post(observer, body)
        await until(lambda: outcomes(observer) == {("http", "counted"): 1})
        labels = {"what": "comparison", "reason": "not_repeatable", "modeldeployment": "digits"}
        assert value(await scrape(observer), "refused_total", **labels) == 1
    async with observing(wish(arms=ARMS)) as observer:
        await post(observer, body)
        await until(lambda: outcomes(observer) == {("http", "counted"): 1})
        assert observer.registry.targets["digits"].refused == {}, "nobody asks for comparisons"


@pytest.mark.parametrize("model", ["digits", "nobody"])
async def test_streams_are_counted_as_unsupported(model: str) -> None:
    async def messages() -> AsyncIterator[Any]:
        yield grpc_request({"X": ("FP32", [[0.5]])}, model=model)
        yield grpc_request({"X": ("FP32", [[0.5]])}, model=model)

    async with (
        observing(wish(), wish(name="other", model="other")) as observer,
        grpc.aio.insecure_channel(f"127.0.0.1:{observer.grpc.port}") as channel,
    ):
        stream = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(messages())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            [each async for each in stream]
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        samples = await scrape(observer)
        owner = "digits" if model == "digits" else ""
        assert value(samples, "requests_total", protocol="grpc", outcome="unsupported", modeldeployment=owner) == 1


@pytest.mark.parametrize("verb", ["generate", "generate_stream", "versions/1/generate"])
async def test_requests_to_generate_are_counted_as_unsupported(verb: str) -> None:
    async with observing(wish()) as observer, aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{observer.http.port}/v2/models/digits/{verb}"
        async with session.post(url, data=b'{"text_input": "a"}', headers={"Host": "digits.example.com"}) as response:
            assert response.status == 202
        assert outcomes(observer) == {("http", "unsupported"): 1}
