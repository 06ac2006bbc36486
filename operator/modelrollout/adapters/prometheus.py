"""One Prometheus, asked through prometheus-api-client in threads of its own, distrusting every byte it sends.

The library brings neither deadline, size limit nor result type, and puts bodies into its errors; the session below
adds them underneath it.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any, TypeVar

import requests
from prometheus_api_client.prometheus_connect import PrometheusConnect
from requests.adapters import HTTPAdapter
from requests.auth import HTTPBasicAuth
from typing_extensions import override
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError
from urllib3.util.retry import Retry

from modelrollout.ports import Answer, InvalidQueryError, Series, TransientError
from modelrollout.settings import Prometheus

BODY_LIMIT = 8 * 1024 * 1024
THREADS = 32
"""Four namespaces whose queries all hang (controller/measure.IN_NAMESPACE) would have to come together to fill them."""
CHUNK = 64 * 1024
LONGEST_URL_QUERY = 4000

Done = TypeVar("Done")


class PrometheusMetrics:
    """``ports.Metrics`` on one Prometheus.

    Every question ends within ``timeout`` of the settings, waiting for a free thread included, whatever the server
    does. Errors are sentences of our own: nothing that the server sent gets into them.
    """

    def __init__(self, settings: Prometheus, *, body_limit: int = BODY_LIMIT, threads: int = THREADS) -> None:
        self._timeout = settings.timeout.total_seconds()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="prometheus")
        url = settings.url.rstrip("/")
        session = _Session(settings, body_limit)
        self._client = PrometheusConnect(url=url, retry=Retry(0), session=session)
        # The constructor above has mounted an adapter of its own at this very address.
        session.mount(url, _Adapter(max_retries=Retry(0), pool_maxsize=threads))

    async def query(self, query: str, at: datetime) -> Answer:
        """Instant query; raises TransientError and InvalidQueryError."""
        params = {"time": _seconds(at), "timeout": f"{self._timeout:.3f}"}
        return await self._ask(lambda: self._client.custom_query(query, params=params))

    async def query_range(self, query: str, start: datetime, end: datetime, step: timedelta) -> Answer:
        """Range query; raises TransientError and InvalidQueryError."""
        width = f"{step.total_seconds():.3f}"
        # The library rounds its own start and end to whole seconds; params go over them.
        params = {"start": _seconds(start), "end": _seconds(end), "timeout": f"{self._timeout:.3f}"}
        return await self._ask(lambda: self._client.custom_query_range(query, start, end, step=width, params=params))

    async def close(self) -> None:
        """Give up what is still asked and close the connections."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    async def _ask(self, call: Callable[[], Any]) -> Answer:
        ticket = _Ticket(time.monotonic() + self._timeout)
        asked = asyncio.get_running_loop().run_in_executor(self._pool, ticket.run, lambda: _answer(call()))
        try:
            async with asyncio.timeout(self._timeout):
                return await asked
        except TimeoutError:
            raise TransientError(f"Prometheus did not answer within {self._timeout:g} s") from None
        finally:
            if not asked.done() or asked.cancelled():
                ticket.abort()


class _Ticket:
    """One question in flight: its deadline, and the connection to cut when nobody waits for the answer any more.

    Socket timeouts alone would let a server that drips a byte now and then hold a thread for hours.
    """

    _local = threading.local()

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._lock = threading.Lock()
        self._connection: HTTPConnection | None = None
        self._aborted = False

    def run(self, work: Callable[[], Done]) -> Done:
        """Do ``work`` in this thread, with this ticket current."""
        self._local.ticket = self
        try:
            return work()
        finally:
            with self._lock:
                self._connection = None
            del self._local.ticket

    @classmethod
    def current(cls) -> _Ticket:
        """The ticket of this thread."""
        ticket: _Ticket = cls._local.ticket
        return ticket

    def uses(self, connection: HTTPConnection) -> None:
        """Remember what to cut."""
        with self._lock:
            self._connection = connection
        self.remaining()

    def remaining(self) -> float:
        """Seconds left; raises TransientError when there are none."""
        left = self._deadline - time.monotonic()
        if self._aborted or left <= 0:
            raise TransientError("Prometheus did not answer in time")
        return left

    def abort(self) -> None:
        """Cut the connection, so that the thread becomes free."""
        with self._lock:
            self._aborted = True
            sock = getattr(self._connection, "sock", None)
            if sock is not None:
                with suppress(OSError):
                    # Not the method of an SSLSocket: that one may not be called while another thread reads.
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)


class _PlainConnection(HTTPConnection):
    @override
    def request(self, *args: Any, **kwargs: Any) -> None:
        _Ticket.current().uses(self)
        super().request(*args, **kwargs)


class _TlsConnection(HTTPSConnection):
    @override
    def request(self, *args: Any, **kwargs: Any) -> None:
        _Ticket.current().uses(self)
        super().request(*args, **kwargs)


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class _Adapter(HTTPAdapter):
    """Connections that can be cut."""

    @override
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _PlainPool, "https": _TlsPool}


class _Session(requests.Session):
    """What the library sends its requests with: limits below it, and errors before it can quote a body."""

    def __init__(self, settings: Prometheus, body_limit: int) -> None:
        super().__init__()
        self._settings = settings
        self._body_limit = body_limit
        # No proxies, certificates or netrc passwords from the environment.
        self.trust_env = False
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        if settings.ca_file:
            self.verify = str(settings.ca_file)

    @override
    def request(self, method: str | bytes, url: str | bytes, *args: Any, **kwargs: Any) -> Any:
        ticket = _Ticket.current()
        kwargs |= {"stream": True, "allow_redirects": False, "timeout": ticket.remaining()}
        kwargs["headers"] = {"Accept": "application/json", "Accept-Encoding": "gzip"} | self._bearer()
        kwargs["auth"] = self._basic()
        if sum(len(str(value)) for value in kwargs["params"].values()) > LONGEST_URL_QUERY:
            method, kwargs["data"], kwargs["params"] = "POST", kwargs["params"], None
        try:
            with super().request(method, url, *args, **kwargs) as response:
                return _Payload(_read(response, self._body_limit, ticket))
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            raise TransientError(_reason(error)) from None

    def _bearer(self) -> dict[str, str]:
        path = self._settings.bearer_token_file
        return {"Authorization": f"Bearer {_secret(path)}"} if path else {}

    def _basic(self) -> HTTPBasicAuth | None:
        basic = self._settings.basic_auth
        return HTTPBasicAuth(basic.username, _secret(basic.password_file)) if basic else None


class _Payload:
    """Stands in for a response: the library takes ``["data"]["result"]``, and we want the type beside it too."""

    status_code = 200

    def __init__(self, data: Any) -> None:
        self._data = data

    def json(self) -> dict[str, Any]:
        return {"data": {"result": self._data}}


def _secret(path: Path) -> str:
    """The first line of a file, read anew each time so that rotation works."""
    try:
        return str(path.read_text("utf-8").splitlines()[0].strip())
    except (OSError, UnicodeDecodeError, IndexError):
        raise TransientError("the credentials for Prometheus cannot be read") from None


_REFUSALS = {
    "many-to-many": "many series match many; name the labels with on() and group_left()",
    "found duplicate series": "several series match one; name the labels with on() and group_left(), or aggregate them",
    "duplicate labelset": "several series become one; aggregate them with sum() or max()",
    "too many samples": "it reads too many samples; ask about fewer series or a shorter window",
    "parse error": "its text is not valid PromQL",
}
"""What Prometheus says by words that its answer has."""


def _reason(error: Exception) -> str:
    if isinstance(error, requests.exceptions.SSLError):
        return "Prometheus has no certificate that is trusted"
    if isinstance(error, requests.Timeout):
        return "Prometheus did not answer in time"
    if isinstance(error, requests.ConnectionError):
        return "Prometheus cannot be reached"
    return "Prometheus broke off its answer"


def _read(response: requests.Response, limit: int, ticket: _Ticket) -> Any:
    """The ``data`` of an answer; raises TransientError and InvalidQueryError."""
    status = response.status_code
    if 300 <= status < 400:
        raise TransientError(f"Prometheus redirects elsewhere (HTTP {status}), which is not followed")
    if status not in (200, 400, 422):
        raise TransientError(f"Prometheus answered HTTP {status}")
    try:
        payload = json.loads(_body(response, limit, ticket))
    except (ValueError, RecursionError):
        raise TransientError(f"Prometheus answered HTTP {status} with something that is not JSON") from None
    outcome = payload.get("status") if isinstance(payload, dict) else None
    if status != 200 and outcome == "error":
        raise InvalidQueryError(f"Prometheus refuses the query (HTTP {status}){_known(payload.get('error'))}")
    if status != 200 or outcome != "success" or "data" not in payload:
        raise TransientError(f"Prometheus answered HTTP {status} with something unexpected")
    return payload["data"]


def _known(error: object) -> str:
    """The cause, where it is a usual one. The text itself may tell of series of other namespaces."""
    return next((f": {cause}" for words, cause in _REFUSALS.items() if words in str(error)), "")


def _body(response: requests.Response, limit: int, ticket: _Ticket) -> bytes:
    """The body, unpacked, in time and within the limit."""
    too_long = TransientError(f"the answer of Prometheus is longer than {limit // 1024} KiB")
    body = bytearray()
    while chunk := response.raw.read1(CHUNK, decode_content=False):
        body += chunk
        if len(body) > limit:
            raise too_long
        ticket.remaining()
    encoding = response.headers.get("Content-Encoding", "identity").lower()
    if encoding == "identity":
        return bytes(body)
    if encoding != "gzip":
        raise TransientError("Prometheus packed its answer in an unknown way")
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        # Bounded here, because a few KiB can unpack to gigabytes.
        unpacked = unpacker.decompress(body, limit + 1)
    except zlib.error:
        raise TransientError("Prometheus sent a damaged answer") from None
    if len(unpacked) > limit:
        raise too_long
    if not unpacker.eof:
        raise TransientError("Prometheus broke off its answer")
    return unpacked


def _answer(data: Any) -> Answer:
    """Check the shape of ``data`` and read it; raises TransientError."""
    try:
        kind, result = data["resultType"], data["result"]
        match kind:
            case "matrix":
                series = tuple(_series(item, item.get("values", ())) for item in result)
            case "vector":
                series = tuple(_series(item, (item["value"],) if "value" in item else ()) for item in result)
            case "scalar":
                series = (Series({}, (_sample(result),)),)
            case "string":
                series = ()
            case _:
                raise ValueError("unknown result type")
    except (TypeError, ValueError, KeyError, AttributeError, IndexError):
        raise TransientError("Prometheus answered in a form that it does not have") from None
    return Answer(kind, series)


def _series(item: Any, samples: Any) -> Series:
    labels = item["metric"]
    if not all(isinstance(name, str) and isinstance(value, str) for name, value in labels.items()):
        raise TypeError("labels must be text")
    return Series(labels, tuple(_sample(sample) for sample in samples))


def _sample(pair: Any) -> tuple[float, float]:
    at, value = pair
    if not isinstance(value, str) or isinstance(at, bool | str):
        raise TypeError("a sample is a number and a text")
    return float(at), float(value)


def _seconds(at: datetime) -> str:
    return f"{at.timestamp():.3f}"
