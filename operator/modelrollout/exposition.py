"""A small HTTP server in a thread, for Prometheus and the kubelet: it answers also when the event loop is stuck."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from typing_extensions import override

_LOGGER = logging.getLogger(__name__)
_CONNECTIONS, _THREADS = 16, 64
_SLOWEST = 5.0


@dataclass(frozen=True)
class Page:
    """An answer."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


class Pages:
    """Serves ``pages`` (path to a function of the Accept header) on ``bind``:``port`` until closed.

    Raises OSError when the address cannot be had.
    """

    def __init__(self, bind: str, port: int, pages: Mapping[str, Callable[[str], Page]]) -> None:
        self._server = _Server(bind, port, pages)
        self._thread = threading.Thread(target=self._server.serve_forever, name="pages", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port served."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # server_close must not wait for a client that holds its connection open.
    block_on_close = False
    request_queue_size = 64

    def __init__(self, bind: str, port: int, pages: Mapping[str, Callable[[str], Page]]) -> None:
        if ":" in bind:
            self.address_family = socket.AF_INET6
        self.pages = pages
        self._free = threading.BoundedSemaphore(_THREADS)
        self._open: dict[Any, None] = {}
        self._lock = threading.Lock()
        super().__init__((bind, port), _Handler)

    @override
    def process_request(self, request: Any, client_address: Any) -> None:
        # A thread for each connection without a bound would let anyone who reaches the port take all the memory.
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        with self._lock:
            self._open[request] = None
            oldest = next(iter(self._open)) if len(self._open) > _CONNECTIONS else None
            if oldest is not None:
                # Who holds connections open loses them: the next probe must get its answer.
                del self._open[oldest]
                with suppress(OSError):
                    oldest.shutdown(socket.SHUT_RDWR)
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._let_go(request)
            raise

    @override
    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._let_go(request)

    def _let_go(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
        self._free.release()

    @override
    def handle_error(self, request: Any, client_address: Any) -> None:
        _LOGGER.debug("a client of the metrics or health port went away", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _SLOWEST
    server_version = "modelrollout"
    sys_version = ""

    def do_GET(self) -> None:
        make = self.server.pages.get(self.path.partition("?")[0])
        page = make(self.headers.get("Accept", "")) if make is not None else Page(404, b"not found\n")
        self.send_response(page.status)
        self.send_header("Content-Type", page.content_type)
        self.send_header("Content-Length", str(len(page.body)))
        self.end_headers()
        self.wfile.write(page.body)

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a line for each scrape and probe would drown the log."""
