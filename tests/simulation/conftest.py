"""Work for the two cores, and what all runs of this session did together."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest

from tests.simulation.shards import pool
from tests.simulation.simulation import TOTALS


@pytest.fixture(scope="session")
def workers() -> Iterator[ProcessPoolExecutor]:
    with pool() as executor:
        yield executor


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if TOTALS["runs"]:
        hours = TOTALS["virtual_seconds"] // 3600
        told = {key: count for key, count in sorted(TOTALS.items()) if key != "virtual_seconds"}
        parts = ", ".join(f"{count:,} {key.replace('_', ' ')}" for key, count in told.items())
        terminalreporter.write_line(f"simulation: {parts}, {hours:,} virtual hours")
