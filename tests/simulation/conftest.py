"""Profile of the simulation tier: the same examples every time, unless more are asked for.

SIMULATION_EXAMPLES=2000 looks further, each time elsewhere; --hypothesis-seed repeats what it found.
"""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, settings

from tests.simulation.simulation import TOTALS

EXAMPLES = os.environ.get("SIMULATION_EXAMPLES")

settings.register_profile(
    "simulation",
    max_examples=int(EXAMPLES or 120),
    derandomize=EXAMPLES is None,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if TOTALS["runs"]:
        parts = ", ".join(f"{TOTALS[key]:,} {key.replace('_', ' ')}" for key in sorted(TOTALS))
        terminalreporter.write_line(f"simulation: {parts}")
