"""Bounded HTTP servers of the observer on aiohttp: mirrored REST requests on one port, labels on another."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

import orjson
from aiohttp import web
from aiohttp.hdrs import CONTENT_ENCODING
from aiohttp.http_exceptions import HttpProcessingError
from typing_extensions import override

from modelrollout.observer.intake import Copy, Intake, Protocol
from modelrollout.observer.labelling import Refusal
from modelrollout.observer.limits import Limits
from modelrollout.observer.packing import PackedError, TooLargeError, is_packed, unpacked
from modelrollout.observer.registry import Registry

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

LABELS_PATH = "/v1/labels"
MOST_LABELS = 10_000
_HEADER_LENGTH = "Inference-Header-Content-Length"
_INFER = re.compile(r"/v2/models/([^/?]{1,384})(?:/versions/[^/?]{1,64})?/infer/?(?:\?|$)")
_GENERATE = re.compile(r"/v2/models/([^/?]{1,384})(?:/versions/[^/?]{1,64})?/generate(?:_stream)?/?(?:\?|$)")
_IDLE = 75.0

_SILENT = logging.getLogger(f"{__name__}.aiohttp")
_SILENT.disabled = True


class Server:
    """One listening socket: a bound on connections, on the time of a body, and on that of a first request.

    Parameters
    ----------
    handler
        Answers a request.
    port
        0 takes any free one, see ``port`` after ``start``.
    lost
        Called with the outcome of a request that never came to the handler: ``malformed`` where it is no HTTP, and
        ``dropped`` for a connection too many.

    """

    def __init__(
        self, handler: Handler, bind: str, port: int, limits: Limits, lost: Callable[[str], None] = lambda _: None
    ) -> None:
        self._bind, self._port, self._limits, self._lost = bind, port, limits, lost
        self._new: dict[Any, asyncio.TimerHandle] = {}
        self._handler = handler
        self._server = web.Server(self._handle)
        self._listening: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The port served."""
        assert self._listening is not None  # noqa: S101 - started
        return int(self._listening.sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Listen. Raises OSError where the address cannot be had."""
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(self._connect, self._bind, self._port, backlog=256)

    async def close(self) -> None:
        """Stop listening, and let go of all connections."""
        if self._listening is not None:
            self._listening.close()
        for timer in self._new.values():
            timer.cancel()
        self._new.clear()
        await self._server.shutdown(1.0)

    def _connect(self) -> asyncio.BaseProtocol:
        if len(self._server.connections) >= self._limits.connections:
            self._lost("dropped")
            return _Refusing()
        protocol = _Connection(self._server, self._lost)
        # aiohttp waits for the head of the first request without an end.
        self._new[protocol] = asyncio.get_running_loop().call_later(self._limits.first, self._give_up, protocol)
        return protocol

    def _give_up(self, protocol: Any) -> None:
        del self._new[protocol]
        if protocol.transport is not None:
            protocol.transport.abort()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        timer = self._new.pop(request.protocol, None)
        if timer is not None:
            timer.cancel()
        return await self._handler(request)


class _Connection(web.RequestHandler):
    """One connection that logs nothing: aiohttp would write what it could not read into the log."""

    def __init__(self, server: web.Server, lost: Callable[[str], None]) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(
            server,
            loop=loop,
            access_log=_SILENT,
            logger=_SILENT,
            keepalive_timeout=_IDLE,
            lingering_time=1.0,
            # aiohttp would take a bomb apart at once, and the event loop stands still meanwhile.
            auto_decompress=False,
        )
        self._lost = lost

    @override
    def handle_error(
        self, request: Any, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        self._lost("malformed")
        return _closing(web.Response(status=status))


class _Refusing(asyncio.Protocol):
    """One connection too many."""

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            transport.abort()


class Mirror:
    """Takes copies of REST requests: queues inferences and answers 202, whatever they hold."""

    def __init__(self, intake: Intake, registry: Registry, limits: Limits, monotonic: Callable[[], float]) -> None:
        self._intake, self._registry, self._limits, self._monotonic = intake, registry, limits, monotonic

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request. Copies of anything but an inference are not looked at."""
        found = _INFER.match(request.raw_path) if request.method == "POST" else None
        if found is None:
            generate = _GENERATE.match(request.raw_path) if request.method == "POST" else None
            if generate is not None:
                host = request.headers.get("Host", "")
                self._registry.outcome(Protocol.HTTP, "unsupported", host, unquote(generate[1]))
            return _closing(web.Response(status=202)) if request.body_exists else web.Response(status=202)
        model, host = unquote(found[1]), request.headers.get("Host", "")
        raw_length = request.headers.get(_HEADER_LENGTH)
        header_length = _number(raw_length)
        most = self._limits.body if raw_length is not None else self._limits.json
        declared = request.content_length or 0
        if declared > most or (header_length or 0) > self._limits.json:
            self._registry.outcome(Protocol.HTTP, "too_large", host, model)
            return _closing(web.Response(status=413))
        body, outcome = await self._read(request, most)
        if body is not None:
            body, outcome = self._unpack(body, request.headers.get(CONTENT_ENCODING, ""), most)
        if body is None:
            self._registry.outcome(Protocol.HTTP, outcome, host, model)
            return _closing(web.Response(status=413 if outcome == "too_large" else 202))
        if raw_length is not None and header_length is None:
            self._intake.budget.give_back(len(body))
            self._registry.outcome(Protocol.HTTP, "malformed", host, model)
            return web.Response(status=202)
        request_id = request.headers.get("x-request-id", "")[:128]
        copy = Copy(Protocol.HTTP, body, self._monotonic(), host, model, request_id, header_length)
        if not self._intake.put(copy):
            self._registry.outcome(Protocol.HTTP, "dropped", host, model)
        return web.Response(status=202)

    async def _read(self, request: web.BaseRequest, most: int) -> tuple[bytes | None, str]:
        """The body, its bytes taken from the budget; or None and the outcome to count."""
        budget, taken, parts = self._intake.budget, 0, []
        outcome = ""
        try:
            async with asyncio.timeout(self._limits.read):
                while not outcome:
                    part = await request.content.readany()
                    if not part:
                        break
                    if taken + len(part) > most:
                        outcome = "too_large"
                    elif not budget.take(len(part)):
                        outcome = "dropped"
                    else:
                        taken += len(part)
                        parts.append(part)
        except asyncio.CancelledError:
            budget.give_back(taken)
            raise
        # A body that is late, shorter than it said, or compressed wrongly.
        except (TimeoutError, OSError, HttpProcessingError, web.RequestPayloadError):
            outcome = "malformed"
        if outcome:
            budget.give_back(taken)
            return None, outcome
        return b"".join(parts), ""

    def _unpack(self, body: bytes, encoding: str, most: int) -> tuple[bytes | None, str]:
        """The body as it was before it was packed, its bytes taken from the budget; or None and the outcome."""
        if not is_packed(encoding):
            return body, ""
        budget = self._intake.budget
        budget.give_back(len(body))
        try:
            found = unpacked(body, encoding, most)
        except PackedError:
            return None, "malformed"
        except TooLargeError:
            return None, "too_large"
        if not budget.take(len(found)):
            return None, "dropped"
        return found, ""


class LabelDesk:
    """Takes true labels: ``POST /v1/labels``, a JSON list or JSON lines, and answers what became of them."""

    def __init__(self, registry: Registry, limits: Limits) -> None:
        self._registry, self._limits = registry, limits
        self._free = asyncio.Semaphore(limits.label_posts)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request with ``{"accepted": n, "refused": {reason: n}}``, or an error with a sentence."""
        if request.path != LABELS_PATH:
            return _problem(404, f"labels are taken at {LABELS_PATH}")
        if request.method != "POST":
            return _problem(405, "send labels by POST")
        if (request.content_length or 0) > self._limits.labels:
            return _closing(_problem(413, f"more than {self._limits.labels} bytes: send smaller batches"))
        if self._free.locked():
            return _closing(_problem(503, "busy: try again in a moment"))
        async with self._free:
            return await self._take(request)

    async def _take(self, request: web.BaseRequest) -> web.StreamResponse:
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.read):
                while part := await request.content.readany():
                    body += part
                    if len(body) > self._limits.labels:
                        return _closing(_problem(413, f"more than {self._limits.labels} bytes: send smaller batches"))
        except (TimeoutError, OSError, HttpProcessingError, web.RequestPayloadError):
            return _closing(_problem(400, "the body broke off or took too long"))
        try:
            plain = unpacked(bytes(body), request.headers.get(CONTENT_ENCODING, ""), self._limits.labels)
        except PackedError:
            return _problem(400, "the body is not packed as Content-Encoding says: gzip, deflate or none")
        except TooLargeError:
            return _problem(413, f"more than {self._limits.labels} bytes: send smaller batches")
        entries = _entries(plain)
        if entries is None:
            return _problem(400, 'send a JSON list or JSON lines of {"id": ..., "label": ..., "slice": ...}')
        if len(entries) > MOST_LABELS:
            return _problem(413, f"{len(entries)} labels in one body, more than {MOST_LABELS}: send smaller batches")
        name = request.query.get("modeldeployment")
        refused: Counter[Refusal] = Counter()
        for number, entry in enumerate(entries):
            if number % 500 == 499:
                await asyncio.sleep(0)
            refusal = self._registry.label(name, entry)
            if refusal is not None:
                refused[refusal] += 1
        answer = {
            "accepted": len(entries) - sum(refused.values()),
            "refused": {key.value: n for key, n in refused.items()},
        }
        return web.Response(body=orjson.dumps(answer) + b"\n", content_type="application/json")


def _entries(body: bytes) -> list[object] | None:
    """The entries of a JSON list, of one object or of JSON lines; a line that is no JSON stays as None."""
    try:
        decoded: object = orjson.loads(body)
    except ValueError:
        lines = [line for line in body.split(b"\n") if line.strip()]
        entries = [_line(line) for line in lines]
        return entries if any(entry is not None for entry in entries) else None
    if isinstance(decoded, dict):
        return [decoded]
    return decoded if isinstance(decoded, list) else None


def _line(line: bytes) -> object:
    try:
        found: object = orjson.loads(line)
    except ValueError:
        return None
    return found


def _problem(status: int, sentence: str) -> web.Response:
    return web.Response(status=status, body=orjson.dumps({"error": sentence}) + b"\n", content_type="application/json")


def _closing(response: web.Response) -> web.Response:
    """Without this aiohttp reads the rest of a body that nobody wants."""
    response.force_close()
    return response


def _number(raw: str | None) -> int | None:
    return int(raw) if raw is not None and raw.isascii() and raw.isdecimal() and len(raw) <= 10 else None
