"""The only reader of the real clocks."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

# CLOCK_BOOTTIME also counts while the machine is suspended. With CLOCK_MONOTONIC a suspended machine would
# wake up believing that its lease is still young. Not every platform has it.
_BOOT_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock:
    """``ports.Clock`` on the machine's clocks."""

    def now(self) -> datetime:
        """Timezone-aware UTC."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """Wait; a negative or zero number only yields to other tasks."""
        await asyncio.sleep(max(0.0, seconds))

    def monotonic(self) -> float:
        """Seconds that never jump and never stand still, also while process or machine are paused."""
        return time.clock_gettime(_BOOT_CLOCK)
