"""A Prometheus of our own on 127.0.0.1: its values turn when we say, and it breaks in every way a real one can."""

from __future__ import annotations

import json
import random
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

METRIC = "bench_value"
QUERY = f'max({METRIC}{{revision="$revision"}})'
"""What guards of the benchmarks ask: 0 for every revision until ``turn`` says otherwise."""

_REVISION = re.compile(r'revision="([^"]*)"')
_LONGEST_HANG = 300.0


class Mode(StrEnum):
    """How it answers."""

    GOOD = "good"
    REFUSED = "refused"
    HUNG = "hung"
    EMPTY = "empty"
    NAN = "NaN"
    ERROR = "HTTP 500"
    HTML = "HTML"


@dataclass(frozen=True)
class Turn:
    """From ``at`` (unix seconds) on the value of a revision is ``value``."""

    at: float
    value: float


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Connections that are cut belong to every outage; a traceback each would bury the table."""


class StubPrometheus:
    """Answers range and instant queries; use as ``with StubPrometheus().serving() as stub``.

    ``upstream`` is a real Prometheus to pass every query on to while the mode is good; without one the values are
    those given to ``turn``, each sample up to ``noise`` higher, as real ones are never twice the same.
    """

    def __init__(self, upstream: str | None = None, port: int = 0, noise: float = 0.0) -> None:
        self._upstream = upstream
        self._noise = noise
        self._port = port
        self._turns: dict[str, list[Turn]] = {}
        self._first_answer: dict[tuple[str, float], float] = {}
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self._mode = Mode.GOOD
        self._changed = threading.Event()
        self.asked = 0

    @property
    def url(self) -> str:
        """Where it listens (or did, while it refuses)."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def mode(self) -> Mode:
        """How it answers now."""
        return self._mode

    @contextmanager
    def serving(self) -> Iterator[StubPrometheus]:
        """Listen inside the block."""
        self._listen()
        try:
            yield self
        finally:
            self._close()

    def turn(self, revision: str, value: float) -> float:
        """From now on queries about ``revision`` find ``value``; returns now in unix seconds."""
        with self._lock:
            at = time.time()
            self._turns.setdefault(revision, []).append(Turn(at, value))
        return at

    def first_answer(self, revision: str, value: float) -> float | None:
        """When an answer first carried ``value`` for ``revision``; None: never yet."""
        return self._first_answer.get((revision, value))

    def become(self, mode: Mode) -> None:
        """Answer like ``mode`` from now on. Refused closes the listening socket, and anything else opens it again."""
        self._mode = mode
        self._changed.set()
        self._changed = threading.Event()
        if mode is Mode.REFUSED:
            self._close()
        elif self._server is None:
            self._listen()

    def _listen(self) -> None:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                stub._answer(self, urlsplit(self.path).path, urlsplit(self.path).query)

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                stub._answer(self, self.path, self.rfile.read(length).decode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = _Server(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def _close(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _answer(self, handler: BaseHTTPRequestHandler, path: str, query: str) -> None:
        self.asked += 1
        mode, changed = self._mode, self._changed
        if mode is Mode.HUNG:
            changed.wait(_LONGEST_HANG)
            handler.close_connection = True
            return
        if mode is Mode.REFUSED:
            # A connection from before the outage: cut, as those of a process that ended are.
            handler.close_connection = True
            return
        code, kind, body = 200, "application/json", b""
        if mode is Mode.ERROR:
            code, body = 500, b'{"status":"error","errorType":"internal","error":"outage"}'
        elif mode is Mode.HTML:
            kind, body = "text/html", b"<html><body>Please log in</body></html>"
        else:
            code, body = self._data(path, query, mode)
        handler.send_response(code)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def _data(self, path: str, query: str, mode: Mode) -> tuple[int, bytes]:
        if self._upstream is not None:
            code, body = self._ask_upstream(path, query)
        else:
            code, body = 200, self._own(path, {key: found[0] for key, found in parse_qs(query).items()})
        if mode is Mode.GOOD or code != 200:
            return code, body
        content = json.loads(body)
        if mode is Mode.EMPTY:
            content["data"]["result"] = []
        else:
            content["data"]["result"] = [_not_a_number(item) for item in content["data"]["result"]]
        return 200, json.dumps(content).encode()

    def _ask_upstream(self, path: str, query: str) -> tuple[int, bytes]:
        request = urllib.request.Request(f"{self._upstream}{path}", data=query.encode())  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=10) as page:  # noqa: S310
                return page.status, page.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def _own(self, path: str, query: dict[str, str]) -> bytes:
        found = _REVISION.search(query["query"])
        revision = found[1] if found else ""
        if path.endswith("/query_range"):
            start, end, step = float(query["start"]), float(query["end"]), float(query["step"])
            times = [start + count * step for count in range(int((end - start) / step + 1e-6) + 1)]
            kind, item = "matrix", {"metric": {}, "values": [self._sample(revision, at) for at in times]}
        else:
            kind, item = "vector", {"metric": {}, "value": self._sample(revision, float(query["time"]))}
        return json.dumps({"status": "success", "data": {"resultType": kind, "result": [item]}}).encode()

    def _sample(self, revision: str, at: float) -> list[Any]:
        with self._lock:
            value = 0.0
            for turn in self._turns.get(revision, ()):
                # To the millisecond, as queries are written: the turn itself may already be asked about.
                if turn.at <= at + 0.001:
                    value = turn.value
            self._first_answer.setdefault((revision, value), time.time())
        return [at, f"{value + random.random() * self._noise:g}"]


def _not_a_number(item: dict[str, Any]) -> dict[str, Any]:
    if "values" in item:
        return {**item, "values": [[at, "NaN"] for at, _ in item["values"]]}
    return {**item, "value": [item["value"][0], "NaN"]}
