from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator

import grpc
import numpy as np
import pytest
from aiohttp import web
from deploy.demo import traffic as traffic_module
from deploy.demo.grpc_traffic import GrpcSender
from deploy.demo.recording import TRITON_FAILURE, Answer, Recording
from deploy.demo.traffic import RestSender, Traffic, rest_answer, rest_body
from tritonclient.grpc import service_pb2, service_pb2_grpc

IMAGES = np.zeros((3, 8, 8))
LABELS = np.array([4, 5, 6])


@contextlib.asynccontextmanager
async def serving(answer: object) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/v2/models/digits/infer", answer)  # type: ignore[arg-type]
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def until(recording: Recording, count: int) -> None:
    async with asyncio.timeout(60):
        while len(recording.answers) < count:  # noqa: ASYNC110 - the recording tells nobody
            await asyncio.sleep(0)


async def test_each_answer_is_recorded_with_revision_and_truth() -> None:
    hosts = []

    async def answer(request: web.Request) -> web.Response:
        hosts.append(request.headers["Host"])
        body = await request.json()
        assert body["inputs"][0]["shape"] == [1, 8, 8]
        return web.json_response({"outputs": [{"data": [5]}]}, headers={"x-model-revision": "r1"})

    async with serving(answer) as address:
        traffic = Traffic(RestSender(IMAGES, LABELS, address, "digits.test"), 3, rate=500)
        async with traffic.flowing() as recording:
            await until(recording, 6)
    assert set(hosts) == {"digits.test"}
    assert [one.truth for one in sorted(recording.answers)[:6]] == [4, 5, 6, 4, 5, 6]
    assert recording.by_revision().keys() == {"r1"}
    assert recording.accuracy("r1") == pytest.approx(1 / 3, abs=0.15)


async def test_a_slow_server_does_not_slow_the_traffic_down_but_the_bound_holds() -> None:
    release = asyncio.Event()
    under_way = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal under_way
        under_way += 1
        await release.wait()
        return web.json_response({"outputs": [{"data": [5]}]})

    async with serving(answer) as address:
        traffic = Traffic(RestSender(IMAGES, LABELS, address, "digits.test"), 3, rate=1000, bound=20)
        async with traffic.flowing() as recording:
            async with asyncio.timeout(60):
                while recording.held_back < 5 or under_way < 20:  # noqa: ASYNC110 - nor does the pump
                    await asyncio.sleep(0)
            assert recording.answers == []
            assert under_way == 20
            release.set()
    assert len(recording.answers) >= 20


async def test_refused_connections_and_timeouts_are_answers_too(monkeypatch: pytest.MonkeyPatch) -> None:
    sender = RestSender(IMAGES, LABELS, "127.0.0.1:1", "digits.test")
    async with sender.opened():
        refused = await sender.send(0)
    assert (refused.status, refused.revision, refused.label) == ("connection", None, None)

    asked = asyncio.Event()

    async def never(request: web.Request) -> web.Response:
        await asked.wait()
        return web.Response()

    monkeypatch.setattr(traffic_module, "TIMEOUT", 0.05)
    async with serving(never) as address:
        sender = RestSender(IMAGES, LABELS, address, "digits.test")
        async with sender.opened():
            assert (await sender.send(0)).status == "timeout"
        asked.set()


def test_answers_are_read() -> None:
    good = json.dumps({"outputs": [{"data": [7]}]}).encode()
    assert rest_answer(1, 2, 200, "r", 7, good) == Answer(1, 2, "200", "r", 7, 7)
    assert rest_answer(1, 2, 200, "r", 7, b"<html>").status == "garbage"
    assert rest_answer(1, 2, 200, "r", 7, b'{"outputs": []}').status == "garbage"
    failed = rest_answer(1, 2, 500, "r", 7, b"x" * 1000)
    assert (failed.status, len(failed.text), failed.label) == ("500", 200, None)


def test_the_request_is_what_triton_reads() -> None:
    body = json.loads(rest_body(np.arange(64.0).reshape(8, 8)))
    assert body["inputs"][0]["name"] == "IMAGE"
    assert body["inputs"][0]["data"][9] == 9.0
    assert body["outputs"] == [{"name": "LABEL"}]


class Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    async def ModelInfer(self, request: object, context: grpc.aio.ServicerContext) -> object:  # noqa: N802
        await context.send_initial_metadata((("x-model-revision", "r1"),))
        image = np.frombuffer(request.raw_input_contents[0], dtype=np.float32)  # type: ignore[attr-defined]
        if image.sum() == 0:
            await context.abort(grpc.StatusCode.INTERNAL, f"{TRITON_FAILURE} 'digits'")
        answer = service_pb2.ModelInferResponse(model_name="digits")
        answer.raw_output_contents.append(np.array([3], dtype=np.int64).tobytes())
        return answer


async def test_grpc_answers_carry_code_and_revision() -> None:
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Servicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    images = np.stack([np.zeros((8, 8)), np.ones((8, 8))])
    sender = GrpcSender(images, np.array([3, 3]), f"127.0.0.1:{port}", "digits-grpc.test")
    try:
        async with sender.opened():
            failed, right = await sender.send(0), await sender.send(1)
    finally:
        await server.stop(None)
    assert (failed.status, failed.revision, failed.label) == ("INTERNAL", "r1", None)
    assert failed.text.startswith(TRITON_FAILURE)
    assert (right.status, right.revision, right.label) == ("OK", "r1", 3)
    assert right.sent <= right.at <= time.time()
