"""The real kopf on a real API server, through a proxy that can lose events: the cache still ends up right."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

from modelrollout.controller.cache import Cache, Key, namespace_key
from modelrollout.handlers.serving import watch
from modelrollout.handlers.watching import KINDS
from modelrollout.render.trim import trim
from modelrollout.settings import Settings
from tests.badspecs import good
from tests.component.apiserver import TOKEN, ApiServer

GONE = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}}


class Proxy:
    """Passes everything on; ``lose`` what is watched, then ``expire``: each watch is told 410 once."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._cut = asyncio.Event()
        self._expired: set[str] = set()
        self.losing = False

    def expire(self) -> None:
        """End all watches; the next of each kind is too old."""
        self._expired = {watched.plural for watched in KINDS}
        self.losing = False
        self._cut.set()
        self._cut = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        watching = request.query.get("watch") == "true"
        plural = request.path.rsplit("/", 1)[-1]
        if watching and plural in self._expired:
            self._expired.discard(plural)
            return web.Response(text=json.dumps(GONE) + "\n", content_type="application/json")
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session,
            session.request(request.method, self._server + request.path_qs, ssl=trusting) as answer,
        ):
            if not watching:
                return web.Response(body=await answer.read(), status=answer.status, content_type=answer.content_type)
            passed = web.StreamResponse(status=answer.status, headers={"Content-Type": "application/json"})
            # kopf goes away when it likes, and what then fails here would be raised as an error of kopf's own.
            with suppress(ConnectionError):
                await passed.prepare(request)
                passing, cut = asyncio.create_task(self._pass(answer, passed)), asyncio.create_task(self._cut.wait())
                await asyncio.wait([passing, cut], return_when=asyncio.FIRST_COMPLETED)
                passing.cancel()
                cut.cancel()
            return passed

    async def _pass(self, answer: aiohttp.ClientResponse, passed: web.StreamResponse) -> None:
        with suppress(ConnectionError):
            async for line in answer.content:
                if not self.losing:
                    await passed.write(line)


@dataclass
class Login:
    """No secrets: the proxy has them."""

    server: str
    ca_path: str | None = None
    certificate_path: str | None = None
    private_key_path: str | None = None
    scheme: str | None = None
    token: str | None = None
    insecure: bool = True

    async def credentials(self) -> Login:
        return self


@dataclass
class Watch:
    """A watch that runs."""

    api: ApiServer
    proxy: Proxy
    cache: Cache = field(default_factory=lambda: Cache(trim))
    woken: list[Key] = field(default_factory=list)

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        for _ in range(900):
            if holds():
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"not within 90 s: {what}")

    def knows(self, key: Key) -> bool:
        return self.cache.get(key, "ModelDeployment", key.name) is not None


@asynccontextmanager
async def running(api: ApiServer, namespace: str) -> AsyncIterator[Watch]:
    """Not a fixture: kopf cancels, when it ends, all tasks that are younger than itself."""
    proxy = Proxy(api.url)
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", proxy.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found, stop = Watch(api, proxy), asyncio.Event()
    settings = Settings.model_validate({"namespaces": [namespace]})
    login = Login(f"http://127.0.0.1:{runner.addresses[0][1]}")
    task = asyncio.create_task(watch(settings, found.cache, found.woken.append, login, stop, lambda: None))
    yield found
    stop.set()
    await asyncio.wait_for(task, 90)
    await runner.cleanup()


async def test_what_was_deleted_while_nobody_watched_is_forgotten(api: ApiServer, namespace: str) -> None:
    path = f"/apis/modelrollout.io/v1alpha1/namespaces/{namespace}/modeldeployments"
    one, other = Key(namespace, "one"), Key(namespace, "other")
    async with running(api, namespace) as watched:
        for key in (one, other):
            body = good()
            body["metadata"]["name"] = key.name
            answer = await asyncio.to_thread(api.request, "POST", path, body)
            assert answer.code == 201, answer.message
        await watched.until(lambda: watched.knows(one) and watched.knows(other), "both seen")

        watched.proxy.losing = True
        await asyncio.to_thread(api.request, "DELETE", f"{path}/one")
        await asyncio.sleep(0.5)
        assert watched.knows(one), "its deletion was lost"
        watched.woken.clear()
        watched.proxy.expire()
        await watched.until(lambda: not watched.knows(one), "forgotten")
        assert one in watched.woken
        assert watched.knows(other)


async def test_policies_are_seen_and_forgotten_like_everything_else(api: ApiServer, namespace: str) -> None:
    """A ClusterRolloutPolicy lies in no namespace: it is watched by an operator of some namespaces too."""
    group = "/apis/modelrollout.io/v1alpha1"
    places = {
        "RolloutPolicy": (f"{group}/namespaces/{namespace}/rolloutpolicies", namespace_key(namespace)),
        "ClusterRolloutPolicy": (f"{group}/clusterrolloutpolicies", namespace_key("")),
    }
    guard = {"name": "errors", "sli": "error-ratio", "max": 0.1}
    async with running(api, namespace) as watched:
        for kind, (path, _) in places.items():
            body = {"apiVersion": "modelrollout.io/v1alpha1", "kind": kind, "metadata": {"name": "seen"}}
            answer = await asyncio.to_thread(api.request, "POST", path, {**body, "spec": {"guards": [guard]}})
            assert answer.code == 201, answer.message

        def there() -> set[str]:
            return {kind for kind, (_, key) in places.items() if watched.cache.get(key, kind, "seen")}

        await watched.until(lambda: there() == {*places}, "both seen")
        watched.proxy.losing = True
        for path, _ in places.values():
            await asyncio.to_thread(api.request, "DELETE", f"{path}/seen")
        await asyncio.sleep(0.5)
        assert there() == {*places}, "their deletion was lost"
        watched.proxy.expire()
        await watched.until(lambda: not there(), "forgotten")
