"""The connection against a server that misbehaves on purpose: what an API server on a bad day does."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from ssl import PROTOCOL_TLS_SERVER, SSLContext
from typing import Any

import pytest
from aiohttp import web
from typing_extensions import override

import modelrollout
from modelrollout.adapters import login as login_module
from modelrollout.adapters.apierrors import Call, Failure, convert, one_line
from modelrollout.adapters.apiserver import ApiServer
from modelrollout.adapters.login import Login
from modelrollout.ports import (
    ConflictError,
    DeniedError,
    PortError,
    RejectedError,
    TerminatingError,
    TransientError,
)

TOKEN = "secret"
CALL = Call("apply", "Service", "demo", "digits-a")
PATH = "/api/v1/namespaces/demo/services/digits-a"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler, tls: SSLContext | None = None, port: int = 0) -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls)
    await site.start()
    try:
        scheme = "http" if tls is None else "https"
        yield f"{scheme}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def kubeconfig(folder: Path, server: str, authority: Path | None = None, token: str = TOKEN) -> Path:
    cluster = {"server": server} | ({"certificate-authority": str(authority)} if authority else {})
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    file = folder / "kubeconfig"
    file.write_text(json.dumps(config))
    return file


class Scripted:
    """Answers request after request by the script, the last entry for good."""

    def __init__(self, *script: tuple[int, object] | str) -> None:
        self.script = list(script)
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(
            (
                request.method,
                request.path_qs,
                {key.lower(): value for key, value in request.headers.items()},
                await request.read(),
            )
        )
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if step == "drop":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if step == "hang":
            await asyncio.Event().wait()
        assert isinstance(step, tuple)
        code, body = step
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(status=code, text=text, content_type="application/json")


@asynccontextmanager
async def connected(script: Handler, folder: Path, **options: Any) -> AsyncIterator[ApiServer]:
    async with serving(script) as url:
        server = ApiServer(Login(kubeconfig(folder, url)), **options)
        try:
            yield server
        finally:
            await server.close()


async def test_a_request_says_who_we_are_and_obeys_no_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    script = Scripted((200, {"kind": "Service"}))
    seen: list[tuple[str, str, str]] = []
    async with connected(script, tmp_path, observe=lambda *call: seen.append(call)) as server:
        reply = await server.request(CALL, "PATCH", PATH, query={"force": "true"}, body={"a": 1})
    assert (reply.code, reply.body) == (200, {"kind": "Service"})
    ((method, path, headers, body),) = script.requests
    assert (method, path, json.loads(body)) == ("PATCH", f"{PATH}?force=true", {"a": 1})
    assert headers["user-agent"] == f"modelrollout/{modelrollout.__version__}"
    assert headers["authorization"] == f"Bearer {TOKEN}"
    assert seen == [("apply", "Service", "200")]


async def test_a_dropped_connection_is_tried_once_more(tmp_path: Path) -> None:
    script = Scripted("drop", (200, {}))
    async with connected(script, tmp_path) as server:
        assert (await server.request(CALL, "PATCH", PATH, body={})).code == 200
    assert len(script.requests) == 2


async def test_a_connection_that_keeps_dropping_is_transient(tmp_path: Path) -> None:
    script = Scripted("drop")
    async with connected(script, tmp_path) as server:
        with pytest.raises(TransientError, match="apply Service demo/digits-a"):
            await server.request(CALL, "PATCH", PATH, body={})
    assert len(script.requests) == 2


async def test_nothing_is_sent_again_once_the_lease_is_gone(tmp_path: Path) -> None:
    windows = iter([15.0, 15.0, 0.0])
    script = Scripted("drop", (200, {}))
    async with connected(script, tmp_path) as server:
        with pytest.raises(TransientError, match="the lease is lost"):
            await server.request(CALL, "PATCH", PATH, body={}, window=lambda: next(windows))
    assert len(script.requests) == 1


@pytest.mark.parametrize(("limit", "window"), [(0.2, 60.0), (60.0, 0.2)])
async def test_a_server_that_hangs_costs_the_smaller_of_time_out_and_window(
    tmp_path: Path, limit: float, window: float
) -> None:
    seen: list[tuple[str, str, str]] = []
    async with connected(Scripted("hang"), tmp_path, timeout=limit, observe=lambda *call: seen.append(call)) as server:
        async with asyncio.timeout(60):
            with pytest.raises(TransientError, match=r"no answer within 0\.2 s"):
                await server.request(CALL, "PATCH", PATH, body={}, window=lambda: window)
    assert seen == [("apply", "Service", "timeout")]


async def test_nobody_listens(tmp_path: Path) -> None:
    server = ApiServer(Login(kubeconfig(tmp_path, "http://127.0.0.1:9")))
    with pytest.raises(TransientError, match=r"127\.0\.0\.1:9"):
        await server.request(CALL, "PATCH", PATH, body={})
    await server.close()


@pytest.mark.parametrize("body", ["", "<html>", "[1, 2]", "{", "null"])
async def test_an_answer_that_is_no_object_is_transient(tmp_path: Path, body: str) -> None:
    async with connected(Scripted((200, body)), tmp_path) as server:
        with pytest.raises(TransientError):
            await server.request(CALL, "PATCH", PATH, body={})


async def test_many_refused_requests_log_in_once(tmp_path: Path) -> None:
    good = "second"

    async def handler(request: web.Request) -> web.Response:
        await asyncio.sleep(0)
        return web.json_response({}, status=200 if request.headers["authorization"] == f"Bearer {good}" else 401)

    class Counting(Login):
        asked = 0

        @override
        async def configuration(self) -> Any:
            self.asked += 1
            kubeconfig(tmp_path, url, token="first" if self.asked == 1 else good)
            return await super().configuration()

    async with serving(handler) as url:
        login = Counting(kubeconfig(tmp_path, url))
        server = ApiServer(login)
        replies = await asyncio.gather(*(server.request(CALL, "PATCH", PATH, body={}) for _ in range(20)))
        assert {reply.code for reply in replies} == {200}
        assert login.asked == 2
        await server.close()


async def test_credentials_that_stay_bad_are_transient_after_one_new_login(tmp_path: Path) -> None:
    script = Scripted((401, {"kind": "Status"}))
    async with connected(script, tmp_path) as server:
        with pytest.raises(TransientError, match="refuses our credentials"):
            await server.request(CALL, "PATCH", PATH, body={})
    assert len(script.requests) == 2


def certificate(folder: Path, name: str) -> tuple[Path, SSLContext]:
    key, file = folder / f"{name}.key", folder / f"{name}.crt"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", file],
        check=True, capture_output=True,
    )  # fmt: skip
    context = SSLContext(PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, key)
    return file, context


async def test_an_authority_that_rotates_is_read_again(tmp_path: Path) -> None:
    old, old_context = certificate(tmp_path, "old")
    new, new_context = certificate(tmp_path, "new")
    authority = tmp_path / "ca.crt"
    authority.write_bytes(old.read_bytes())
    async with serving(Scripted((200, {})), old_context) as url:
        server = ApiServer(Login(kubeconfig(tmp_path, url, authority)))
        await server.request(CALL, "PATCH", PATH, body={})
    async with serving(Scripted((200, {})), new_context, port=int(url.rpartition(":")[2])):
        with pytest.raises(TransientError, match="certificate"):
            await server.request(CALL, "PATCH", PATH, body={})
        authority.write_bytes(new.read_bytes())
        assert (await server.request(CALL, "PATCH", PATH, body={})).code == 200
        authority.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
        await server.close()
        with pytest.raises(TransientError, match="certificates of the login"):
            await server.request(CALL, "PATCH", PATH, body={})
    await server.close()


@pytest.mark.parametrize(
    "text",
    ["", "not yaml: [", "{}", "clusters: []", '{"current-context": "x", "contexts": [], "clusters": []}'],
)
async def test_a_broken_kubeconfig_is_one_sentence(tmp_path: Path, text: str) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text(text)
    with pytest.raises(TransientError, match="cannot log in to the API server"):
        await Login(file).configuration()
    with pytest.raises(TransientError, match="no kubeconfig at"):
        await Login(tmp_path / "absent").configuration()


async def test_the_service_account_of_a_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a pod without a kubeconfig; a token that ends in a newline must not break the header."""
    authority, _ = certificate(tmp_path, "ca")
    (tmp_path / "token").write_text("pod-token\n")
    (tmp_path / "ca.crt").write_bytes(authority.read_bytes())
    monkeypatch.setattr(login_module, "_SERVICE_ACCOUNT", tmp_path)
    monkeypatch.setattr("kubernetes.aio.config.incluster_config.SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr("kubernetes.aio.config.incluster_config.SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    found = await Login().credentials()
    assert (found.server, found.scheme, found.token) == ("https://10.96.0.1:443", "bearer", "pod-token")
    assert found.ca_path == str(tmp_path / "ca.crt")
    assert not found.insecure


async def test_nothing_to_log_in_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(TransientError, match="KUBECONFIG is not set"):
        await Login().configuration()


def failure(code: int, body: object, headers: Mapping[str, str] | None = None) -> Failure:
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    return Failure.read(code, data, headers or {})


def status(reason: str = "", message: str = "", **details: Any) -> dict[str, Any]:
    return {"kind": "Status", "status": "Failure", "reason": reason, "message": message, "details": details}


FORBIDDEN = (
    'services "digits-a" is forbidden: User "system:serviceaccount:ops:modelrollout" cannot patch resource '
    '"services" in API group "" in the namespace "demo"'
)


@pytest.mark.parametrize(
    ("code", "body", "error", "words"),
    [
        (400, status("BadRequest", "no such field"), RejectedError, "refused: no such field"),
        (401, status("Unauthorized"), TransientError, "refuses our credentials"),
        (403, status("Forbidden", FORBIDDEN), DeniedError, "not allowed to patch services in namespace demo: grant it"),
        (403, status("Forbidden", "exceeded quota: none"), DeniedError, "denied: exceeded quota: none"),
        (403, status("Forbidden", "x", causes=[{"reason": "NamespaceTerminating"}]), TerminatingError, "being deleted"),
        (404, status("NotFound", 'services "digits-a" not found', name="digits-a"), ConflictError, "not there"),
        (404, "404 page not found\n", TransientError, "does not know Service: is its CRD installed"),
        (409, status("Conflict", "has been modified"), ConflictError, "has been modified"),
        (413, "Request entity too large", RejectedError, "too large"),
        (422, status("Invalid", "bad port"), RejectedError, "bad port"),
        (422, status("Invalid", "x", causes=[{"field": "metadata.uid"}]), ConflictError, "taken this name"),
        (429, status("TooManyRequests", "slow down"), TransientError, "busy: slow down"),
        (500, status("InternalError", 'failed calling webhook "a.b"'), TransientError, 'failed calling webhook "a.b"'),
        (503, "<html>\n<b>proxy</b>", TransientError, "HTTP 503: <html> <b>proxy</b>"),
        (504, "", TransientError, "HTTP 504"),
        (302, "", TransientError, "unexpected HTTP 302"),
        (400, [], RejectedError, "refused"),
        (409, {"kind": "Status", "details": 7, "message": 7}, ConflictError, "apply Service demo/digits-a"),
    ],
)
def test_what_answers_mean(code: int, body: object, error: type[PortError], words: str) -> None:
    found = convert(CALL, failure(code, body))
    assert type(found) is error
    assert words in str(found)
    assert "\n" not in str(found)


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({"Retry-After": "7"}, status(), 7.0),
        ({}, status(retryAfterSeconds=3), 3.0),
        ({}, status(), 1.0),
        ({"Retry-After": "99999"}, status(), 300.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, status(), 1.0),
        ({"Retry-After": "-1"}, "", 1.0),
        ({"Retry-After": "nan"}, "", 1.0),
    ],
)
def test_how_long_a_busy_server_wants_us_to_wait(headers: dict[str, str], body: object, seconds: float) -> None:
    found = convert(CALL, failure(429, body, headers))
    assert isinstance(found, TransientError)
    assert found.retry_after == seconds


def test_one_line_is_safe_and_bounded() -> None:
    assert one_line("a\x00b\r\n c\x1b[31m\u2028d\x9f") == "a b c [31m d"
    assert len(one_line("x" * 10_000)) == 300
