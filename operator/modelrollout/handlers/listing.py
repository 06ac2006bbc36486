"""Notices what was deleted while a watch was broken: kopf then lists anew and tells only of what is left.

kopf has no hook for the end of a list. The one function that makes its lists is wrapped: it passes everything on as
it is, so the worst that a change inside kopf could do is that nothing is noticed (tests/unit/controller/test_handlers).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kopf._cogs.clients import fetching

Listed = Callable[[str, str | None, set[str], str], None]
"""Told after each whole list: plural, namespace (None: all), the uids of all objects, the version of the list."""


@contextmanager
def heeding_lists(listed: Listed) -> Iterator[None]:
    """Call ``listed`` after every list that kopf has made to its end."""
    original = fetching.fetch_objs

    async def fetch(**arguments: Any) -> AsyncIterator[Any]:
        uids: set[str] = set()
        version = ""
        async for chunk, version in original(**arguments):
            uids.update(item["metadata"].get("uid", "") for item in chunk)
            yield chunk, version
        listed(arguments["resource"].plural, arguments["namespace"], uids, version or "")

    fetching.fetch_objs = fetch
    try:
        yield
    finally:
        fetching.fetch_objs = original
