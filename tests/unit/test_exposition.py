"""The port of metrics and health: bounded, and answered whoever else holds connections to it."""

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from modelrollout.exposition import Page, Pages


@pytest.fixture
def pages() -> Iterator[Pages]:
    made = Pages("127.0.0.1", 0, {"/healthz": lambda accept: Page(200, b"ok\n")})
    yield made
    made.close()


def health(port: int) -> int:
    asked = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    asked.request("GET", "/healthz")
    return asked.getresponse().status


def test_who_holds_connections_open_does_not_keep_the_kubelet_out(pages: Pages) -> None:
    held = [socket.create_connection(("127.0.0.1", pages.port)) for _ in range(40)]
    for each in held:
        # As a client that sends a byte now and then.
        each.sendall(b"GET /healthz")
    assert [health(pages.port) for _ in range(3)] == [200, 200, 200]
    held[0].settimeout(30)
    assert held[0].recv(1) == b""
    # Of those that are still open the last one is the youngest: it is answered.
    held[-1].settimeout(30)
    held[-1].sendall(b" HTTP/1.0\r\n\r\n")
    assert held[-1].recv(20).startswith(b"HTTP/1.0 200")
    for each in held:
        each.close()


def test_threads_are_bounded(pages: Pages) -> None:
    held = [socket.create_connection(("127.0.0.1", pages.port)) for _ in range(200)]
    for _ in range(20):
        # Threads whose connection was taken away end a moment later.
        with suppress(http.client.RemoteDisconnected, ConnectionError):
            assert health(pages.port) == 200
            break
    else:
        pytest.fail("never answered")
    assert sum("process_request" in thread.name for thread in threading.enumerate()) <= 64
    for each in held:
        each.close()
