"""PrometheusMetrics against a real HTTP server on 127.0.0.1 that does everything wrong that a server can."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import math
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from modelrollout.adapters.prometheus import PrometheusMetrics
from modelrollout.ports import InvalidQueryError, TransientError
from modelrollout.settings import BasicAuth, Prometheus

NOW = datetime(2026, 11, 21, 12, 0, 0, 250_000, tzinfo=UTC)
SECRET_BODY = "secret-from-the-server"  # must never be seen in an error

NOT_JSON = "Prometheus answered HTTP 200 with something that is not JSON"
TOO_LONG = "the answer of Prometheus is longer than 97 KiB"
REDIRECTED = "Prometheus redirects elsewhere (HTTP 302), which is not followed"
GZIP = "Content-Encoding: gzip"

Behaviour = Callable[["Request", asyncio.StreamWriter], Awaitable[None]]


class Request:
    def __init__(self, method: str, target: str, headers: dict[str, str], body: str) -> None:
        self.method = method
        self.path = urlsplit(target).path
        self.headers = headers
        query = parse_qs(urlsplit(target).query) | parse_qs(body)
        self.params = {name: values[0] for name, values in query.items()}


class Stub:
    """A server with one behaviour; keeps the requests and counts the connections."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.requests: list[Request] = []
        self.connections = 0
        self.arrived = asyncio.Semaphore(0)
        self.ended = asyncio.Semaphore(0)
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                first, *lines = head.split("\r\n")
                headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines if line)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                method, target, _ = first.split(" ")
                request = Request(method, target, headers, body.decode())
                self.requests.append(request)
                self.arrived.release()
                await self.behaviour(request, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.ended.release()
            writer.close()


@asynccontextmanager
async def serving(behaviour: Behaviour) -> AsyncIterator[Stub]:
    stub = Stub(behaviour)
    server = await asyncio.start_server(stub.serve, "127.0.0.1", 0)
    stub.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield stub
    finally:
        server.close()


@asynccontextmanager
async def asking(
    behaviour: Behaviour,
    *,
    seconds: float = 5,
    body_limit: int = 100_000,
    threads: int = 8,
    path: str = "",
    **more: Any,
) -> AsyncIterator[tuple[PrometheusMetrics, Stub]]:
    async with serving(behaviour) as stub:
        settings = Prometheus(url=stub.url + path, timeout=timedelta(seconds=seconds), **more)
        metrics = PrometheusMetrics(settings, body_limit=body_limit, threads=threads)
        try:
            yield metrics, stub
        finally:
            await metrics.close()


def answer(body: bytes | str, status: str = "200 OK", *headers: str) -> Behaviour:
    data = body.encode() if isinstance(body, str) else body

    async def behave(_: Request, writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(data)}", *headers]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + data)

    return behave


def success(kind: str, result: Any) -> str:
    return json.dumps({"status": "success", "data": {"resultType": kind, "result": result}})


ONE = success("vector", [{"metric": {"a": "b"}, "value": [1.5, "2"]}])


async def test_reads_each_type_of_answer() -> None:
    replies = {
        "v": ONE,
        "m": success("matrix", [{"metric": {"__name__": "x"}, "values": [[1, "2"], [2.25, "+Inf"]]}]),
        "s": success("scalar", [7, "-Inf"]),
        "t": success("string", [7, "text"]),
        "n": success("vector", [{"metric": {}, "value": [1, "NaN"]}]),
        "e": success("vector", []),
        "h": success("matrix", [{"metric": {}, "histograms": [[1, {"count": "1"}]]}]),
    }

    async def behave(request: Request, writer: asyncio.StreamWriter) -> None:
        await answer(replies[request.params["query"]])(request, writer)

    async with asking(behave) as (metrics, _):
        vector = await metrics.query("v", NOW)
        assert (vector.kind, vector.series[0].labels) == ("vector", {"a": "b"})
        assert vector.series[0].samples == ((1.5, 2.0),)
        assert (await metrics.query("m", NOW)).series[0].samples == ((1.0, 2.0), (2.25, math.inf))
        assert (await metrics.query("s", NOW)).series[0].samples == ((7.0, -math.inf),)
        assert await metrics.query("t", NOW) == type(vector)("string", ())
        assert math.isnan((await metrics.query("n", NOW)).series[0].samples[0][1])
        assert (await metrics.query("e", NOW)).series == ()
        assert (await metrics.query("h", NOW)).series[0].samples == ()


async def test_asks_with_parts_of_a_second_and_a_time_limit_for_the_server() -> None:
    async with asking(answer(success("matrix", [])), path="/prefix/") as (metrics, stub):
        await metrics.query("up", NOW)
        await metrics.query_range("up", NOW - timedelta(seconds=1.5), NOW, timedelta(seconds=1.5))
    instant, ranged = stub.requests
    assert (instant.method, instant.path) == ("GET", "/prefix/api/v1/query")
    assert instant.params == {"query": "up", "time": "1795262400.250", "timeout": "5.000"}
    assert ranged.path == "/prefix/api/v1/query_range"
    assert ranged.params == {
        "query": "up", "start": "1795262398.750", "end": "1795262400.250", "step": "1.500", "timeout": "5.000",
    }  # fmt: skip


async def test_a_long_query_goes_in_the_body() -> None:
    query = "sum(" + "x" * 4090 + ")"
    async with asking(answer(ONE)) as (metrics, stub):
        await metrics.query(query, NOW)
    assert (stub.requests[0].method, stub.requests[0].params["query"]) == ("POST", query)


async def test_reuses_the_connection() -> None:
    async with asking(answer(ONE)) as (metrics, stub):
        for _ in range(5):
            await metrics.query("up", NOW)
    assert (len(stub.requests), stub.connections) == (5, 1)


async def test_sends_no_cookie_back() -> None:
    async with asking(answer(ONE, "200 OK", "Set-Cookie: a=b")) as (metrics, stub):
        await metrics.query("up", NOW)
        await metrics.query("up", NOW)
    assert "cookie" not in stub.requests[1].headers


@pytest.mark.parametrize(
    ("behaviour", "sentence"),
    [
        (answer(SECRET_BODY, "500 Internal Server Error"), "Prometheus answered HTTP 500"),
        (answer(SECRET_BODY, "503 Service Unavailable"), "Prometheus answered HTTP 503"),
        (answer(SECRET_BODY, "401 Unauthorized"), "Prometheus answered HTTP 401"),
        (answer(f"<html>{SECRET_BODY}</html>"), NOT_JSON),
        (answer(""), NOT_JSON),
        (answer(ONE[:-5]), NOT_JSON),
        (answer("[" * 50_000), NOT_JSON),
        (answer(b"\xff\xfe\x00"), NOT_JSON),
        (answer("[]"), "Prometheus answered HTTP 200 with something unexpected"),
        (answer('{"status": "error"}'), "Prometheus answered HTTP 200 with something unexpected"),
        (answer(f"<html>{SECRET_BODY}", "400 Bad Request"), NOT_JSON.replace("200", "400")),
        (answer("{}", "400 Bad Request"), "Prometheus answered HTTP 400 with something unexpected"),
        (answer(ONE, "302 Found", "Location: /api/v1/elsewhere"), REDIRECTED),
        (answer("x" * 200_000), TOO_LONG),
        (answer(gzip.compress(b" " * 50_000_000), "200 OK", GZIP), TOO_LONG),
        (answer(b"nogzip", "200 OK", GZIP), "Prometheus sent a damaged answer"),
        (answer(gzip.compress(ONE.encode())[:-9], "200 OK", GZIP), "Prometheus broke off its answer"),
        (answer(b"x", "200 OK", "Content-Encoding: br"), "Prometheus packed its answer in an unknown way"),
    ],
)  # fmt: skip
async def test_faults_are_one_sentence_without_the_body(behaviour: Behaviour, sentence: str) -> None:
    async with asking(behaviour) as (metrics, stub):
        with pytest.raises(TransientError) as caught:
            await metrics.query("up", NOW)
    assert str(caught.value) == sentence
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert len(stub.requests) == 1, "nothing is asked again or elsewhere"


@pytest.mark.parametrize(
    "data",
    [
        None, [], 5, {}, {"resultType": "vector"}, {"resultType": "vector", "result": None},
        {"resultType": "tensor", "result": []},
        {"resultType": ["vector"], "result": []},
        {"resultType": "vector", "result": [{"value": [1, "2"]}]},
        {"resultType": "vector", "result": [{"metric": {}, "value": [1]}]},
        {"resultType": "vector", "result": [{"metric": {}, "value": [1, 2]}]},
        {"resultType": "vector", "result": [{"metric": {}, "value": [1, "two"]}]},
        {"resultType": "vector", "result": [{"metric": {"a": 1}, "value": [1, "2"]}]},
        {"resultType": "vector", "result": [{"metric": [], "value": [1, "2"]}]},
        {"resultType": "matrix", "result": [{"metric": {}, "values": 3}]},
        {"resultType": "matrix", "result": {"a": 1}},
        {"resultType": "scalar", "result": []},
        {"resultType": "scalar", "result": "12"},
    ],
)  # fmt: skip
async def test_a_wrong_form_is_no_answer(data: Any) -> None:
    async with asking(answer(json.dumps({"status": "success", "data": data}))) as (metrics, _):
        with pytest.raises(TransientError, match="a form that it does not have"):
            await metrics.query("up", NOW)


@pytest.mark.parametrize("status", ["400 Bad Request", "422 Unprocessable Entity"])
async def test_a_refused_query_is_invalid(status: str) -> None:
    body = json.dumps({"status": "error", "errorType": "bad_data", "error": SECRET_BODY})
    async with asking(answer(body, status)) as (metrics, _):
        with pytest.raises(InvalidQueryError) as caught:
            await metrics.query("up", NOW)
    assert str(caught.value) == f"Prometheus refuses the query (HTTP {status[:3]})"


async def test_a_usual_cause_of_a_refusal_is_named_and_no_series() -> None:
    error = f"multiple matches for labels: many-to-many matching not allowed: {SECRET_BODY}"
    async with asking(answer(json.dumps({"status": "error", "error": error}), "422 Unprocessable Entity")) as (it, _):
        with pytest.raises(InvalidQueryError) as caught:
            await it.query("up", NOW)
    told = "Prometheus refuses the query (HTTP 422): many series match many; name the labels with on() and group_left()"
    assert str(caught.value) == told


async def test_gzip_is_understood() -> None:
    async with asking(answer(gzip.compress(ONE.encode()), "200 OK", GZIP)) as (metrics, _):
        assert (await metrics.query("up", NOW)).series[0].samples == ((1.5, 2.0),)


async def test_refused() -> None:
    async with serving(answer(ONE)) as stub:
        url = stub.url
    metrics = PrometheusMetrics(Prometheus(url=url))
    with pytest.raises(TransientError, match=r"^Prometheus cannot be reached$"):
        await metrics.query("up", NOW)
    await metrics.close()


async def test_a_connection_that_ends_early() -> None:
    async def behave(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{")
        await writer.drain()
        writer.close()

    async with asking(behave) as (metrics, _):
        with pytest.raises(TransientError, match=r"^Prometheus "):
            await metrics.query("up", NOW)


async def hang(_: Request, __: asyncio.StreamWriter) -> None:
    """Say nothing; the stub then waits for the next request or the end of the connection."""


async def drip_headers(_: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nX-Drip: ")
    await _drip(writer)


async def drip_body(_: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    await _drip(writer)


async def drip_chunks(_: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    await _drip(writer, b"1\r\n \r\n")


async def _drip(writer: asyncio.StreamWriter, drop: bytes = b" ") -> None:
    while True:
        writer.write(drop)
        await writer.drain()
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("behaviour", [hang, drip_headers, drip_body, drip_chunks])
async def test_the_deadline_holds_and_frees_the_thread(behaviour: Behaviour) -> None:
    """One thread: the second question can only be asked when the first has let go of it."""

    async def behave(request: Request, writer: asyncio.StreamWriter) -> None:
        await (answer(ONE) if request.params["query"] == "good" else behaviour)(request, writer)

    loop = asyncio.get_running_loop()
    async with asking(behave, seconds=2, threads=1) as (metrics, stub):
        began = loop.time()
        with pytest.raises(TransientError, match="did not answer"):
            await metrics.query("slow", NOW)
        assert loop.time() - began < 30
        async with asyncio.timeout(60):
            await stub.ended.acquire()  # the operator has cut the connection
        assert (await metrics.query("good", NOW)).kind == "vector"


async def test_a_question_nobody_waits_for_is_cut_or_never_asked() -> None:
    async with asking(hang, seconds=60, threads=1) as (metrics, stub):
        first = asyncio.create_task(metrics.query("one", NOW))
        second = asyncio.create_task(metrics.query("two", NOW))
        async with asyncio.timeout(60):
            await stub.arrived.acquire()
            second.cancel()
            first.cancel()
            results = await asyncio.gather(first, second, return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in results)
            await stub.ended.acquire()
    assert [request.params["query"] for request in stub.requests] == ["one"]


async def test_a_hung_provider_does_not_starve_another() -> None:
    async with asking(hang, seconds=60, threads=2) as (hung, stuck), asking(answer(ONE), threads=2) as (good, _):
        waiting = [asyncio.create_task(hung.query("up", NOW)) for _ in range(20)]
        async with asyncio.timeout(60):
            await stuck.arrived.acquire()
            await stuck.arrived.acquire()
            assert (await good.query("up", NOW)).kind == "vector"
        assert len(stuck.requests) == 2, "no more threads than its own"
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_no_proxy_and_no_netrc_of_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login a password b\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    async with asking(answer(ONE)) as (metrics, stub):
        await metrics.query("up", NOW)
    assert "authorization" not in stub.requests[0].headers


async def test_credentials_are_read_anew(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    async with asking(answer(ONE), bearer_token_file=token) as (metrics, stub):
        await metrics.query("up", NOW)
        token.write_text("second\n")
        await metrics.query("up", NOW)
        token.unlink()
        with pytest.raises(TransientError, match="credentials"):
            await metrics.query("up", NOW)
    assert [request.headers["authorization"] for request in stub.requests] == ["Bearer first", "Bearer second"]


async def test_basic_auth(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("pass word\nignored\n")
    async with asking(answer(ONE), basic_auth=BasicAuth(username="me", password_file=password)) as (metrics, stub):
        await metrics.query("up", NOW)
    expected = base64.b64encode(b"me:pass word").decode()
    assert stub.requests[0].headers["authorization"] == f"Basic {expected}"


async def test_a_certificate_file_that_is_missing_is_an_outage(tmp_path: Path) -> None:
    async with serving(answer(ONE)) as stub:
        url = stub.url.replace("http:", "https:")
        metrics = PrometheusMetrics(Prometheus(url=url, ca_file=tmp_path / "missing.pem"))
        with pytest.raises(TransientError):
            await metrics.query("up", NOW)
        await metrics.close()


async def test_no_thread_is_left_behind() -> None:
    async with asking(answer(ONE)) as (metrics, _):
        await metrics.query("up", NOW)
    for thread in threading.enumerate():
        if thread.name.startswith("prometheus"):
            thread.join(5)
            assert not thread.is_alive()
