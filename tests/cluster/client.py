"""Single requests, as a browser or a tester sends them: with headers, with cookies that are kept, to any hostname."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

import aiohttp
from deploy.demo.traffic import REVISION_HEADER, rest_body
from deploy.demo.training import MODEL_NAME, Digits


@dataclass
class Client:
    """One client of ``hostname`` at the gateway. ``cookies`` are those that it was given, and sends from then on."""

    session: aiohttp.ClientSession
    address: str
    hostname: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    cookies: dict[str, str] = field(default_factory=dict)

    async def ask(self, **headers: str) -> tuple[int, str | None]:
        """One request: its HTTP status, and the revision that answered."""
        cookie = (
            {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())} if self.cookies else {}
        )
        sent = {"Host": self.hostname, "Content-Type": "application/json", **self.headers, **cookie, **headers}
        url = f"http://{self.address}/v2/models/{MODEL_NAME}/infer"
        async with self.session.post(url, data=self.body, headers=sent) as answer:
            await answer.read()
            for given in answer.headers.getall("Set-Cookie", []):
                name, _, value = given.partition(";")[0].partition("=")
                self.cookies[name] = value
            return answer.status, answer.headers.get(REVISION_HEADER)

    async def meets(self, times: int = 20) -> set[str | None]:
        """The revisions that answer this client; every answer must be good."""
        answers = [await self.ask() for _ in range(times)]
        assert {status for status, _ in answers} == {200}, answers
        return {revision for _, revision in answers}

    async def until_meets(self, expected: set[str | None], within: float = 60) -> None:
        """Wait until only these revisions answer: proxies learn of a route some moments after it was accepted."""
        end = time.monotonic() + within
        while (answers := [await self.ask() for _ in range(20)]) and {*answers} != {(200, each) for each in expected}:
            assert time.monotonic() < end, f"expected within {within:g} s: {expected}; is: {answers}"
            await asyncio.sleep(0.2)


class Clients:
    """Makes clients of one gateway."""

    def __init__(self, session: aiohttp.ClientSession, address: str, digits: Digits) -> None:
        self._session = session
        self._address = address
        self._body = rest_body(digits.held_out_images[0])

    def of(self, hostname: str, cookies: Mapping[str, str] | None = None, **headers: str) -> Client:
        """A client of its own; its headers go with every request."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return Client(self._session, self._address, hostname, self._body, named, dict(cookies or {}))


@contextlib.asynccontextmanager
async def clients(address: str, digits: Digits) -> AsyncIterator[Clients]:
    """Clients whose cookies are kept by each of them alone."""
    jar = aiohttp.DummyCookieJar()
    timeout = aiohttp.ClientTimeout(total=10)
    async with aiohttp.ClientSession(cookie_jar=jar, timeout=timeout, trust_env=False) as session:
        yield Clients(session, address, digits)
