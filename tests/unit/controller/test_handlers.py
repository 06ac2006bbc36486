"""kopf as it is, with an API server of two answers: what was deleted while the watch was broken is noticed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from kopf._cogs.clients import api, fetching, watching
from kopf._cogs.structs.references import Resource

from modelrollout.controller.cache import Cache, Key
from modelrollout.handlers.listing import heeding_lists
from modelrollout.handlers.watching import kopf_settings, missed
from modelrollout.ports import Manifest

KEY, OTHER = Key("demo", "digits"), Key("demo", "letters")
ROUTES = Resource("gateway.networking.k8s.io", "v1", "httproutes", kind="HTTPRoute", namespaced=True, preferred=True)
GONE = {"type": "ERROR", "object": {"code": 410, "message": "too old resource version"}}


def route(key: Key, version: int) -> Manifest:
    metadata = {"name": key.name, "namespace": key.namespace, "uid": f"uid-{key.name}", "resourceVersion": str(version)}
    return {"kind": "HTTPRoute", "metadata": metadata}


class Server:
    """Answers each list with the next of ``lists`` (in pages of one object), and each watch with 410 Gone."""

    def __init__(self, lists: list[tuple[int, list[Manifest]]]) -> None:
        self._lists = lists
        self._pages: list[Manifest] = []

    async def get(self, url: str, **_: Any) -> Any:
        if not self._pages:
            version, items = self._lists.pop(0)
            pages: list[list[Manifest]] = [[item] for item in items] or [[]]
            self._pages = [
                {
                    "items": page,
                    "metadata": {"resourceVersion": str(version), "continue": "" if page is pages[-1] else "more"},
                }
                for page in pages
            ]
        return self._pages.pop(0)

    async def stream(self, **_: Any) -> AsyncIterator[Any]:
        yield GONE


@pytest.fixture
def cache() -> Cache:
    found = Cache()
    for number, key in enumerate((KEY, OTHER), start=1):
        found.put(key, route(key, number))
    return found


def watch(monkeypatch: pytest.MonkeyPatch, cache: Cache, lists: list[tuple[int, list[Manifest]]]) -> list[Key]:
    """Let kopf watch until it has made all ``lists``; whom it woke."""
    server, woken = Server(lists), []
    monkeypatch.setattr(api, "get", server.get)
    monkeypatch.setattr(api, "stream", server.stream)

    async def main() -> None:
        settings = kopf_settings()
        settings.watching.reconnect_backoff = 0
        stream = watching.infinite_watch(settings=settings, resource=ROUTES, namespace=None, _iterations=len(lists))
        async for _ in stream:
            pass

    with heeding_lists(missed(cache, woken.append)):
        asyncio.run(main())
    return woken


def test_what_the_list_after_a_broken_watch_lacks_is_forgotten(monkeypatch: pytest.MonkeyPatch, cache: Cache) -> None:
    both, one = [route(KEY, 1), route(OTHER, 2)], [route(OTHER, 2)]
    assert watch(monkeypatch, cache, [(10, both), (20, one)]) == [KEY]
    assert cache.get(KEY, "HTTPRoute", KEY.name) is None
    assert cache.get(OTHER, "HTTPRoute", OTHER.name) is not None


def test_an_empty_list_is_one_too(monkeypatch: pytest.MonkeyPatch, cache: Cache) -> None:
    assert sorted(watch(monkeypatch, cache, [(10, [])])) == [KEY, OTHER]
    assert cache.known() == []


def test_a_list_that_breaks_off_says_nothing(monkeypatch: pytest.MonkeyPatch, cache: Cache) -> None:
    server, woken = Server([(10, [route(OTHER, 2), route(OTHER, 2)])]), []

    async def broken(url: str, **arguments: Any) -> Any:
        if server._pages:
            raise TimeoutError
        return await server.get(url, **arguments)

    monkeypatch.setattr(api, "get", broken)

    async def main() -> None:
        async for _ in watching.infinite_watch(
            settings=kopf_settings(), resource=ROUTES, namespace=None, _iterations=1
        ):
            pass

    with heeding_lists(missed(cache, woken.append)):
        asyncio.run(main())
    assert woken == []
    assert cache.known() == [KEY, OTHER]


def test_kopf_is_left_as_it_was(cache: Cache) -> None:
    before = fetching.fetch_objs
    with heeding_lists(missed(cache, lambda key: None)):
        assert fetching.fetch_objs is not before
    assert fetching.fetch_objs is before
