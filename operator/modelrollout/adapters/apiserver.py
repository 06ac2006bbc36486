"""One connection to the API server: logs in again when it must, bounds every request, returns plain JSON.

Of the ``kubernetes`` package only the transport is used (``ApiClient``, configuration): its generated model
classes decode sixteen times slower than ``json``.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from kubernetes.aio.client.api_client import ApiClient

import modelrollout
from modelrollout.adapters.apierrors import Call, Failure, convert, one_line
from modelrollout.adapters.login import Login
from modelrollout.ports import Manifest, TransientError

USER_AGENT = f"modelrollout/{modelrollout.__version__}"
APPLY = "application/apply-patch+yaml"
JSON = "application/json"

_LOGGER = logging.getLogger(__name__)

Observer = Callable[[str, str, str], None]
"""Told of every request: verb, kind, and the HTTP code, ``timeout`` or ``error``."""

Window = Callable[[], float]
"""Seconds for which a write is still safe; zero or less means that it is not.

It must read a clock when called: a flag that a task sets would still be up after the process was paused.
"""


def _always() -> float:
    return math.inf


@dataclass(frozen=True)
class Reply:
    """A 2xx answer."""

    code: int
    body: Manifest


@dataclass
class _Session:
    """One login and its connections; closed when it is out of date and its last request is done."""

    client: ApiClient
    number: int
    users: int = 0
    retired: bool = False


class ApiServer:
    """The way to the API server.

    Parameters
    ----------
    login
        Asked at the first request, and once more whenever the server answers 401 or its certificate is not
        the expected one: tokens, client certificates and authorities rotate.
    timeout
        Seconds for one request in total, logging in and its retry included.
    observe
        Called after every request sent.

    """

    def __init__(self, login: Login, *, timeout: float = 10.0, observe: Observer | None = None) -> None:
        self._login = login
        self._timeout = timeout
        self._observe = observe or (lambda verb, kind, code: None)
        self._session: _Session | None = None
        self._logging_in = asyncio.Lock()

    @property
    def timeout(self) -> float:
        """Seconds for one request in total."""
        return self._timeout

    async def request(
        self,
        call: Call,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Manifest | None = None,
        content_type: str = JSON,
        window: Window = _always,
    ) -> Reply:
        """Send one request, within the smaller of our timeout and ``window()`` seconds.

        ``window`` is asked again right before each sending, and nothing is sent when it says 0 or less.
        Raises TransientError, ConflictError, DeniedError, RejectedError.
        """
        answer = await self.attempt(
            call, method, path, query=query, body=body, content_type=content_type, window=window
        )
        if isinstance(answer, Failure):
            raise convert(call, answer)
        return answer

    async def attempt(
        self,
        call: Call,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Manifest | None = None,
        content_type: str = JSON,
        window: Window = _always,
    ) -> Reply | Failure:
        """Like ``request``, but returns an answer that is not 2xx; TransientError when there is none."""
        sent = _Request(call, method, path, dict(query or {}), body, content_type, window)
        seconds = min(sent.window_left(), self._timeout)
        try:
            async with asyncio.timeout(seconds):
                return await self._persist(sent)
        except TimeoutError as error:
            self._observe(call.verb, call.kind, "timeout")
            raise TransientError(f"{call.what}: no answer within {seconds:g} s") from error

    @asynccontextmanager
    async def stream(self, call: Call, path: str, query: Mapping[str, str], seconds: float) -> AsyncIterator[Any]:
        """GET an answer that is read as it comes, within ``seconds`` in total; the HTTP code is the caller's to read.

        A refused login is made anew for the next call. Raises TransientError.
        """
        number = -1
        try:
            async with self._session_in_use() as session:
                number = session.number
                method, url, headers, _, _ = await session.client.param_serialize(
                    "GET",
                    path,
                    query_params=list(query.items()),
                    header_params={"Accept": JSON},
                    auth_settings=["BearerToken"],
                )
                limit = aiohttp.ClientTimeout(total=seconds, connect=self._timeout)
                response = await session.client.call_api(method, url, headers, None, _request_timeout=limit)
                self._observe(call.verb, call.kind, str(response.status))
                # Triage of a broken stream is left to whoever reads it; here is only what keeps it from beginning.
                raw = getattr(response, "response", response)
                try:
                    yield raw
                finally:
                    raw.close()
                refused = response.status == 401
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            self._observe(call.verb, call.kind, "error")
            raise TransientError(f"{call.what}: {one_line(str(error)) or type(error).__name__}") from error
        if refused:
            await self._log_in(unless_newer_than=number)

    async def close(self) -> None:
        """Close all connections; the object may be used again afterwards and will log in anew."""
        session, self._session = self._session, None
        if session is not None:
            await self._retire(session)

    async def _persist(self, sent: _Request) -> Reply | Failure:
        """Send; once more after a new login, and once more when a kept connection turned out to be dead."""
        logged_in_again = reconnected = False
        while True:
            number = -1
            try:
                async with self._session_in_use() as session:
                    number = session.number
                    answer = await self._send(session.client, sent)
                if not (isinstance(answer, Failure) and answer.code == 401) or logged_in_again:
                    return answer
            except aiohttp.ClientSSLError as error:
                if logged_in_again:
                    raise self._unreachable(sent, error) from error
            except (aiohttp.ServerDisconnectedError, ConnectionResetError) as error:
                # A server may drop an idle connection just when we use it. All our writes may be sent twice:
                # names are ours to choose, and preconditions make the second one a conflict at worst.
                if reconnected:
                    raise self._unreachable(sent, error) from error
                reconnected = True
                continue
            except (aiohttp.ClientError, OSError, ValueError) as error:
                raise self._unreachable(sent, error) from error
            logged_in_again = True
            await self._log_in(unless_newer_than=number)

    async def _send(self, client: ApiClient, sent: _Request) -> Reply | Failure:
        method, url, headers, body, _ = await client.param_serialize(
            sent.method,
            sent.path,
            query_params=list(sent.query.items()),
            header_params={"Accept": JSON, "Content-Type": sent.content_type},
            body=sent.body,
            auth_settings=["BearerToken"],
        )
        sent.window_left()
        # asyncio.timeout above is the one deadline; the library's default of five minutes is switched off.
        response = await client.call_api(method, url, headers, body, _request_timeout=aiohttp.ClientTimeout(total=None))
        data = await response.read()
        self._observe(sent.call.verb, sent.call.kind, str(response.status))
        if not 200 <= response.status <= 299:
            return Failure.read(response.status, data, response.headers)
        decoded: Any = json.loads(data)
        if not isinstance(decoded, dict):
            raise ValueError("the answer is not a JSON object")
        return Reply(response.status, decoded)

    def _unreachable(self, sent: _Request, error: Exception) -> TransientError:
        self._observe(sent.call.verb, sent.call.kind, "error")
        return TransientError(f"{sent.call.what}: {one_line(str(error)) or type(error).__name__}")

    @asynccontextmanager
    async def _session_in_use(self) -> AsyncIterator[_Session]:
        session = self._session or await self._log_in(unless_newer_than=-1)
        session.users += 1
        try:
            yield session
        finally:
            session.users -= 1
            if session.retired and session.users == 0:
                await session.client.close()

    async def _log_in(self, unless_newer_than: int) -> _Session:
        """Replace the session; many requests that fail together log in once."""
        async with self._logging_in:
            old = self._session
            if old is not None and old.number > unless_newer_than:
                return old
            configuration = await self._login.configuration()
            try:
                client = ApiClient(configuration)
            except (OSError, ValueError) as error:
                why = one_line(f"cannot use the certificates of the login: {error}")
                raise TransientError(why) from error
            client.user_agent = USER_AGENT
            self._session = _Session(client, number=0 if old is None else old.number + 1)
            if old is not None:
                _LOGGER.info("logged in to the API server again")
                await self._retire(old)
            return self._session

    @staticmethod
    async def _retire(session: _Session) -> None:
        session.retired = True
        if session.users == 0:
            await session.client.close()


@dataclass(frozen=True)
class _Request:
    call: Call
    method: str
    path: str
    query: Mapping[str, str]
    body: Manifest | None
    content_type: str
    window: Window

    def window_left(self) -> float:
        left = self.window()
        if left <= 0:
            raise TransientError(f"{self.call.what}: not sent, the lease is lost")
        return left
