"""The bounds of one observer: whatever is sent to it, it takes no more than this."""

from __future__ import annotations

from dataclasses import dataclass

MEBI = 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """Sizes in bytes, times in seconds.

    ``body``: one REST body, ``json`` the part of it that is JSON, ``message`` one gRPC request. ``buffered``: all
    bodies in memory together, ``queued`` copies that wait. ``connections`` of each server, ``read`` for one body and
    ``first`` for a connection's first request. ``calls`` gRPC calls at once, ``streams`` of
    them on one connection; what is more is refused by gRPC itself. ``asking`` questions to arms under way at once,
    ``asking_bytes`` of tensors asked and answered together, each ``answer`` seconds at most. ``labels``: one body of
    labels, ``label_posts`` of them at once.
    """

    body: int = 16 * MEBI
    json: int = 4 * MEBI
    message: int = 2 * MEBI
    buffered: int = 64 * MEBI
    queued: int = 8192
    connections: int = 512
    read: float = 10.0
    first: float = 30.0
    calls: int = 256
    streams: int = 256
    asking: int = 32
    asking_bytes: int = 32 * MEBI
    answer: float = 5.0
    labels: int = 4 * MEBI
    label_posts: int = 4
