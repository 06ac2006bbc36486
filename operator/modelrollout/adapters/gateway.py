"""``ports.Gateway``: asks the data plane as a user would, with the header that pins a revision.

A proxy's workers learn of a change one by one and a connection stays with one worker, so one question is put over
several new connections at once, and only what all of them say counts.
"""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp

from modelrollout.ports import ProbeTarget

REVISION_HEADER = "x-model-revision"
_READY_PATH = "/v2/health/ready"
_READY_METHOD = "/inference.GRPCInferenceService/ServerReady"
_LONGEST_NAME = 253


class DataPlaneGateway:
    """Probes gateways of the platform; addresses come from the operator's settings, never from a user.

    Parameters
    ----------
    timeout
        Seconds for one question, connecting included.
    connections
        New connections that must all give the same answer.

    """

    def __init__(self, timeout: float = 1.0, connections: int = 4) -> None:
        self._timeout = timeout
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    async def revision_answering(self, target: ProbeTarget, revision: str) -> str | None:
        """Return the revision named by the answer to a request pinned to ``revision``.

        None when there was no answer, no such header, a 5xx or failed gRPC status (a proxy that does not know the
        backend yet may put the route's header on its own error), or when connections disagree. Raises ValueError
        for a protocol other than ``http`` and ``grpc``.
        """
        if target.protocol not in ("http", "grpc"):
            raise ValueError(f"unknown protocol {target.protocol!r}: use http or grpc")
        probe = self._http if target.protocol == "http" else self._grpc
        try:
            async with asyncio.timeout(self._timeout), asyncio.TaskGroup() as group:
                probes = [group.create_task(_or_none(probe(target, revision))) for _ in range(self._connections)]
        except TimeoutError:
            return None
        answers = {task.result() for task in probes}
        return answers.pop() if len(answers) == 1 else None

    async def close(self) -> None:
        """Let go of the session; a later probe opens a new one."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _http(self, target: ProbeTarget, revision: str) -> str | None:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(force_close=True),
                timeout=aiohttp.ClientTimeout(total=None),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
            )
        headers = {"Host": target.authority, REVISION_HEADER: revision}
        url = f"http://{target.address}{_READY_PATH}"
        # The body is never read: leaving the block closes the connection.
        async with self._session.get(url, headers=headers, allow_redirects=False) as response:
            return response.headers.get(REVISION_HEADER) if response.status < 500 else None

    async def _grpc(self, target: ProbeTarget, revision: str) -> str | None:
        # Imported at the first use: many gateways carry HTTP only.
        import grpc
        import grpc.aio

        options = [
            ("grpc.default_authority", target.authority),
            # gRPC obeys http_proxy of the environment, and shares connections of channels unless told not to.
            ("grpc.enable_http_proxy", 0),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_retries", 0),
        ]
        async with grpc.aio.insecure_channel(target.address, options=options) as channel:
            call = channel.unary_unary(_READY_METHOD)(
                b"", metadata=((REVISION_HEADER, revision),), timeout=self._timeout
            )
            try:
                metadata: Any = await call.initial_metadata()
                await call
            except grpc.RpcError:
                return None
            return next((str(value) for key, value in metadata or () if key == REVISION_HEADER), None)


async def _or_none(probe: Any) -> str | None:
    """Return the probe's answer if it is one that a revision could have."""
    try:
        seen: str | None = await probe
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
        return None
    return seen if seen and len(seen) <= _LONGEST_NAME else None
