"""Whose traffic is judged: the arm, its place in the route, and since when it has had weight."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True)
class Context:
    """The arm that guards are about.

    ``revision`` is the one on trial and ``stable`` the one beside it; ``slot`` is the place of ``revision`` in the
    route; ``http`` and ``grpc`` say which routes exist; ``profile`` names the gateway's SLI catalog. ``interval`` is
    the time between evaluations and ``since`` when the arm got its weight: nothing before it is ever counted.
    ``enforce_namespace`` keeps every selector of a user's query inside ``namespace``.
    """

    namespace: str
    name: str
    revision: str
    stable: str
    http: bool
    grpc: bool
    slot: int
    profile: str
    interval: timedelta
    since: datetime
    enforce_namespace: bool = True

    @property
    def protocols(self) -> tuple[str, ...]:
        """The protocols that the arm is reached by."""
        return tuple(name for name, there in (("http", self.http), ("grpc", self.grpc)) if there)
