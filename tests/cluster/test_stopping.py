"""A stop by SIGTERM, as a rolling update of the operator does it."""

from __future__ import annotations

import time
from pathlib import Path

from tests.cluster.conftest import Staging
from tests.cluster.operating import OperatorProcess
from tests.cluster.waiting import wait_for


async def test_the_next_one_leads_as_soon_as_the_first_is_asked_to_stop(staging: Staging, tmp_path: Path) -> None:
    """kopf takes the signal for itself: its watches need some five seconds to end, and the lease must not wait."""
    async with staging() as stage:
        folder = tmp_path / "next"
        folder.mkdir()
        following = OperatorProcess(stage.place, stage.name, folder)
        await following.start()
        try:
            begun = time.monotonic()
            assert stage.operator is not None
            assert stage.operator.stop() == 0
            assert time.monotonic() - begun < 4
            await wait_for(lambda: "leading as" in following.log.read_text(), "the next one leads", within=3)
        finally:
            following.stop()
