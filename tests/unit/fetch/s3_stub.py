"""A small S3 over HTTP, just enough for listing and reading, that fails on demand."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


@dataclass
class S3Stub:
    """``objects`` by key, in one bucket. The failures below are spent one a request, in order."""

    bucket: str = "models"
    objects: dict[str, bytes] = field(default_factory=dict)
    endpoint: str = ""
    status: int | None = None
    """Answer every request with this status."""
    code: str = "AccessDenied"
    cut_after: list[int] = field(default_factory=list)
    """Close the connection of a read after this many bytes."""
    ranges: bool = True
    """Whether Range is kept to; some stores answer with the whole object."""
    if_match: bool = True
    """Whether If-Match is kept to."""
    change_before_read: dict[str, bytes] = field(default_factory=dict)
    """New contents of objects, put in place when they are read."""
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def reads(self) -> list[tuple[str, str | None]]:
        """(key, Range header) of each object read."""
        return [
            (path.split(f"/{self.bucket}/", 1)[1], headers.get("range"))
            for _, path, headers in self.requests
            if "list-type" not in path
        ]


def _etag(content: bytes) -> str:
    return f'"{hash(content) & 0xFFFFFFFF:08x}-1"'


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    stub: S3Stub

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        self.stub.requests.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
        parts = urlsplit(self.path)
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        if self.stub.status is not None:
            self._error(self.stub.status, self.stub.code)
        elif bucket != self.stub.bucket:
            self._error(404, "NoSuchBucket")
        elif "list-type" in parse_qs(parts.query):
            self._list(parse_qs(parts.query).get("prefix", [""])[0])
        elif key not in self.stub.objects:
            self._error(404, "NoSuchKey")
        else:
            self.stub.objects[key] = self.stub.change_before_read.pop(key, self.stub.objects[key])
            self._read(self.stub.objects[key])

    def _list(self, prefix: str) -> None:
        entries = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(content)}</Size><ETag>{escape(_etag(content).strip(chr(34)))}</ETag>"
            "<LastModified>2026-11-21T10:00:00.000Z</LastModified></Contents>"
            for key, content in sorted(self.stub.objects.items())
            if key.startswith(prefix)
        )
        self._send(
            200,
            f"<ListBucketResult><Name>{self.stub.bucket}</Name><IsTruncated>false</IsTruncated>{entries}"
            "</ListBucketResult>".encode(),
        )

    def _read(self, content: bytes) -> None:
        expected = self.headers.get("if-match")
        if self.stub.if_match and expected and expected != _etag(content):
            self._error(412, "PreconditionFailed")
            return
        start, total = 0, len(content)
        wanted = self.headers.get("range") if self.stub.ranges else None
        if wanted:
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
        body = content[start:]
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", _etag(content))
        self.send_header("Last-Modified", "Sat, 21 Nov 2026 10:00:00 GMT")
        self.end_headers()
        if self.stub.cut_after:
            self.wfile.write(body[: self.stub.cut_after.pop(0)])
            self.wfile.flush()
            self.close_connection = True
            return
        self.wfile.write(body)

    def _error(self, status: int, code: str) -> None:
        self._send(status, f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode())

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/xml")
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def s3_stub(objects: dict[str, bytes]) -> Iterator[S3Stub]:
    """Serve ``objects`` on a free port of the loopback interface."""
    stub = S3Stub(objects=dict(objects))
    handler = type("Handler", (_Handler,), {"stub": stub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    stub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
