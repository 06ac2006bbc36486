"""A stop by SIGTERM, as a rolling update of the operator does it."""

from __future__ import annotations

import time
from pathlib import Path

from tests.cluster.conftest import Staging
from tests.cluster.operating import OperatorProcess
from tests.cluster.waiting import wait_for

LASTING = 60
"""Seconds for which a lease that was not given back keeps the next one from leading."""


async def test_the_next_one_leads_as_soon_as_the_first_is_asked_to_stop(staging: Staging, tmp_path: Path) -> None:
    """kopf takes the signal for itself: its watches need some five seconds to end, and the lease must not wait."""
    async with staging(lasting=LASTING) as stage:
        folder = tmp_path / "next"
        folder.mkdir()
        following = OperatorProcess(stage.place, stage.name, folder, lasting=LASTING)
        begun = time.monotonic()
        await following.start()
        slow = time.monotonic() - begun
        try:
            begun = time.monotonic()
            assert stage.operator is not None
            assert stage.operator.stop() == 0
            took = time.monotonic() - begun
            assert took < max(4.0, slow / 2), f"{took:.1f} s; on this machine it starts in {slow:.1f} s"
            await wait_for(lambda: "leading as" in following.log.read_text(), "the next one leads", within=LASTING / 3)
        finally:
            following.stop()
