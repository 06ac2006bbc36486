"""Waiting for conditions, never for time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


async def wait_for(met: Callable[[], object], expected: str, within: float, interval: float = 0.1) -> None:
    """Return once ``met()`` is true; AssertionError naming what was ``expected`` after ``within`` seconds."""
    end = time.monotonic() + within
    while not met():
        assert time.monotonic() < end, f"expected within {within:g} s: {expected}"
        await asyncio.sleep(interval)
