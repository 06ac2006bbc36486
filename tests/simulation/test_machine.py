"""Whatever happens, in whatever order: the invariants hold after every write, and in the end the right one serves."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor

from tests.simulation.shards import shard
from tests.simulation.simulation import TOTALS

SHARDS = 20
EXAMPLES = 25
STEPS = 42
ENOUGH = 20_000


def test_any_order_of_events(workers: ProcessPoolExecutor) -> None:
    """The same runs every time; ``make soak`` looks elsewhere."""
    futures = [workers.submit(shard, number, EXAMPLES, STEPS) for number in range(SHARDS)]
    reports = [future.result() for future in futures]
    steps = 0
    for report in reports:
        TOTALS.update(report.totals)
        steps += report.totals["steps"]
    failures = [f"part {report.number}: {report.failure or report.error}" for report in reports if report.error]
    assert not failures, "\n\n".join(failures)
    assert steps >= ENOUGH
