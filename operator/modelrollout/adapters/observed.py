"""What the observer reads of its namespace: ModelDeployments by list and watch, one ConfigMap at a time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from modelrollout.adapters.apierrors import Call, Failure, convert, one_line
from modelrollout.adapters.apiserver import ApiServer
from modelrollout.ports import ConflictError, Manifest, TransientError

_PATH = "/apis/modelrollout.io/v1alpha1/namespaces/{}/modeldeployments"
_PAGE = "500"
WATCH_SECONDS = 290
_SILENT = 20.0
_LONGEST_LINE = 8 * 1024 * 1024


class ObservedNamespace:
    """Reads one namespace through ``server``."""

    def __init__(self, server: ApiServer, namespace: str) -> None:
        self._server = server
        self._namespace = namespace
        self._path = _PATH.format(namespace)

    async def list_deployments(self) -> tuple[list[Manifest], str]:
        """Return all ModelDeployments and the version of the list."""
        call = Call("list", "ModelDeployment", self._namespace, "")
        query = {"limit": _PAGE}
        items: list[Manifest] = []
        while True:
            page = (await self._server.request(call, "GET", self._path, query=query)).body
            items += page.get("items") or []
            metadata = page.get("metadata") or {}
            if not metadata.get("continue"):
                return items, str(metadata.get("resourceVersion") or "")
            query["continue"] = str(metadata["continue"])

    async def watch_deployments(self, version: str) -> AsyncIterator[tuple[str, Manifest]]:
        """Yield events after ``version``; ends after some minutes, and when the server has forgotten ``version``."""
        call = Call("watch", "ModelDeployment", self._namespace, "")
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        async with self._server.stream(call, self._path, query, WATCH_SECONDS + _SILENT) as response:
            if response.status == 410:
                return
            if response.status != 200:
                raise convert(call, Failure.read(response.status, await response.read(), response.headers))
            try:
                async for line in _lines(response.content):
                    event: Any = json.loads(line)
                    if event["type"] == "ERROR":
                        return
                    if event["type"] != "BOOKMARK":
                        yield str(event["type"]), event["object"]
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError, TypeError) as error:
                raise TransientError(f"{call.what}: {one_line(str(error)) or type(error).__name__}") from error

    async def config_map(self, name: str) -> Manifest | None:
        """Return one ConfigMap, None where there is none."""
        call = Call("get", "ConfigMap", self._namespace, name)
        try:
            reply = await self._server.request(call, "GET", f"/api/v1/namespaces/{self._namespace}/configmaps/{name}")
        except ConflictError:
            return None
        return reply.body


async def _lines(content: asyncio.StreamReader | aiohttp.StreamReader) -> AsyncIterator[bytes]:
    rest = b""
    while chunk := await content.read(65536):
        rest += chunk
        *lines, rest = rest.split(b"\n")
        for line in lines:
            if line.strip():
                yield line
        if len(rest) > _LONGEST_LINE:
            raise ValueError("an event is too large")
