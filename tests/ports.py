"""Ports for processes that a test starts: nobody listens on them, and no connection of anybody else takes them."""

from __future__ import annotations

import contextlib
import random
import socket

LOWEST, HIGHEST = 20_000, 29_999
"""Below those that Linux gives to connections, which may be many before a busy process listens; no NodePorts."""


def free_ports(count: int) -> list[int]:
    """So many ports of 127.0.0.1, each another one."""
    candidates = random.Random().sample(range(LOWEST, HIGHEST + 1), 1000)
    with contextlib.ExitStack() as held:
        found: list[int] = []
        for port in candidates:
            one = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                one.bind(("127.0.0.1", port))
                found.append(port)
            if len(found) == count:
                return found
    raise AssertionError(f"of {len(candidates)} ports only {len(found)} are free")
