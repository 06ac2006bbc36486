"""Running kopf inside our own loop, with our login, our registry and our stop flag."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container
from typing import Protocol

import kopf
from kopf._core.engines.peering import Identity

from modelrollout.controller.cache import Cache, Key
from modelrollout.handlers.listing import heeding_lists
from modelrollout.handlers.watching import kopf_settings, missed, registry_of
from modelrollout.settings import Settings


class Credentials(Protocol):
    """A login in plain words; paths name files."""

    @property
    def server(self) -> str: ...  # noqa: D102
    @property
    def ca_path(self) -> str | None: ...  # noqa: D102
    @property
    def certificate_path(self) -> str | None: ...  # noqa: D102
    @property
    def private_key_path(self) -> str | None: ...  # noqa: D102
    @property
    def scheme(self) -> str | None: ...  # noqa: D102
    @property
    def token(self) -> str | None: ...  # noqa: D102
    @property
    def insecure(self) -> bool: ...  # noqa: D102


class LogsIn(Protocol):
    """Whoever knows how to log in; asked again whenever the API server says 401."""

    async def credentials(self) -> Credentials:
        """The login as it is now."""


async def watch(
    settings: Settings,
    cache: Cache,
    wake: Callable[[Key], None],
    login: LogsIn,
    stop: asyncio.Event,
    ready: Callable[[], None],
    without: Container[str] = (),
) -> None:
    """Watch every kind but those in ``without`` until ``stop``; ``ready`` is called when the watches run."""

    async def connection() -> kopf.ConnectionInfo:
        found = await login.credentials()
        return kopf.ConnectionInfo(
            server=found.server,
            ca_path=found.ca_path,
            certificate_path=found.certificate_path,
            private_key_path=found.private_key_path,
            scheme=found.scheme,
            token=found.token,
            insecure=found.insecure,
        )

    started = asyncio.Event()

    async def announce() -> None:
        await started.wait()
        ready()

    announcing = asyncio.create_task(announce())
    try:
        with heeding_lists(missed(cache, wake)):
            await kopf.operator(
                registry=registry_of(cache, wake, connection, without),
                settings=kopf_settings(),
                # Peering is off, but kopf makes itself an identity from the user's name, which a container's uid lacks.
                identity=Identity("modelrollout"),
                standalone=True,
                clusterwide=not settings.namespaces,
                namespaces=list(settings.namespaces),
                stop_flag=stop,
                ready_flag=started,
            )
    finally:
        announcing.cancel()
