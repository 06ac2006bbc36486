"""The gateway probe against real HTTP and gRPC servers on loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from aiohttp import web

from modelrollout.adapters.gateway import DataPlaneGateway
from modelrollout.ports import ProbeTarget

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture
async def gateway() -> AsyncIterator[DataPlaneGateway]:
    gateway = DataPlaneGateway()
    yield gateway
    await gateway.close()


@asynccontextmanager
async def http_server(handler: Handler) -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def grpc_server(answer: Callable[[Any, grpc.aio.ServicerContext], Awaitable[bytes]]) -> AsyncIterator[str]:
    server = grpc.aio.server()
    handler = grpc.method_handlers_generic_handler(
        "inference.GRPCInferenceService", {"ServerReady": grpc.unary_unary_rpc_method_handler(answer)}
    )
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


def unused_address() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listener.getsockname()[1]}"


async def test_http_asks_as_a_pinned_user_over_new_connections(gateway: DataPlaneGateway) -> None:
    seen: list[tuple[str, str, str | None, Any]] = []

    async def handler(request: web.Request) -> web.Response:
        peer = request.transport.get_extra_info("peername") if request.transport else None
        seen.append((request.path, request.host, request.headers.get("x-model-revision"), peer))
        return web.Response(headers={"X-Model-Revision": "digits-b"})

    async with http_server(handler) as address:
        target = ProbeTarget(address, "digits.example.com", "http")
        assert await gateway.revision_answering(target, "digits-a") == "digits-b"
        assert await gateway.revision_answering(target, "digits-a") == "digits-b"
    assert {entry[:3] for entry in seen} == {("/v2/health/ready", "digits.example.com", "digits-a")}
    assert len({entry[3] for entry in seen}) == len(seen) == 8


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (200, {"x-model-revision": "digits-a"}, "digits-a"),
        (400, {"x-model-revision": "digits-a"}, "digits-a"),
        (302, {"location": "/elsewhere", "x-model-revision": "digits-a"}, "digits-a"),
        (200, {}, None),
        (404, {}, None),
        (503, {}, None),
        (500, {"x-model-revision": "digits-a"}, None),
        (200, {"x-model-revision": "x" * 300}, None),
    ],
)
async def test_http_answers(
    gateway: DataPlaneGateway, status: int, headers: dict[str, str], expected: str | None
) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=status, headers=headers)

    async with http_server(handler) as address:
        assert await gateway.revision_answering(ProbeTarget(address, "h", "http"), "digits-a") == expected


async def test_workers_that_disagree_are_no_answer(gateway: DataPlaneGateway) -> None:
    count = 0

    async def handler(request: web.Request) -> web.Response:
        nonlocal count
        count += 1
        return web.Response(headers={"x-model-revision": "digits-a" if count % 4 else "digits-b"})

    async with http_server(handler) as address:
        assert await gateway.revision_answering(ProbeTarget(address, "h", "http"), "digits-a") is None


async def test_http_that_hangs_is_no_answer() -> None:
    gateway = DataPlaneGateway(timeout=0.2)

    async def handler(request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with http_server(handler) as address:
        assert await gateway.revision_answering(ProbeTarget(address, "h", "http"), "digits-a") is None
    await gateway.close()


@pytest.mark.parametrize("protocol", ["http", "grpc"])
async def test_nobody_listens(gateway: DataPlaneGateway, protocol: str) -> None:
    assert await gateway.revision_answering(ProbeTarget(unused_address(), "h", protocol), "a") is None


async def test_grpc_reads_the_initial_metadata(gateway: DataPlaneGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://{unused_address()}")
    asked: list[Any] = []

    async def answer(request: Any, context: grpc.aio.ServicerContext) -> bytes:
        asked.append((request, dict(context.invocation_metadata() or ()).get("x-model-revision")))
        await context.send_initial_metadata((("x-model-revision", "digits-b"),))
        return b"\x08\x01"

    async with grpc_server(answer) as address:
        target = ProbeTarget(address, "digits-grpc.example.com", "grpc")
        assert await gateway.revision_answering(target, "digits-a") == "digits-b"
    assert asked == [(b"", "digits-a")] * 4


async def test_grpc_error_of_the_proxy_is_no_answer_even_with_the_header(gateway: DataPlaneGateway) -> None:
    async def answer(request: Any, context: grpc.aio.ServicerContext) -> bytes:
        await context.send_initial_metadata((("x-model-revision", "digits-a"),))
        await context.abort(grpc.StatusCode.UNAVAILABLE, "no healthy upstream")
        raise AssertionError

    async with grpc_server(answer) as address:
        assert await gateway.revision_answering(ProbeTarget(address, "h", "grpc"), "digits-a") is None


async def test_grpc_without_the_header_is_no_answer(gateway: DataPlaneGateway) -> None:
    async def answer(request: Any, context: grpc.aio.ServicerContext) -> bytes:
        return b""

    async with grpc_server(answer) as address:
        assert await gateway.revision_answering(ProbeTarget(address, "h", "grpc"), "digits-a") is None


async def test_unknown_protocol_is_a_mistake_of_ours(gateway: DataPlaneGateway) -> None:
    with pytest.raises(ValueError, match="use http or grpc"):
        await gateway.revision_answering(ProbeTarget("127.0.0.1:1", "h", "tcp"), "digits-a")
