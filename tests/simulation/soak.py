"""`make soak`: the state machine with other seeds for SOAK_MINUTES, on all cores; failures become scripts to paste."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, wait
from random import SystemRandom

from tests.simulation.reducing import kind_of
from tests.simulation.shards import Report, pool, shard

EXAMPLES, STEPS = 8, 60
PROGRESS = 5.0


def main() -> int:
    """Soak; 1 if anything failed."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=float(os.environ.get("SOAK_MINUTES", "30")))
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(1_000_000, 1_000_000_000))
    given = parser.parse_args()
    print(f"soaking for {given.minutes:g} minutes from seed {given.seed} (--seed repeats it)", flush=True)
    began = time.monotonic()
    end, number = began + 60 * given.minutes, given.seed
    totals: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    with pool() as workers:
        running: set[Future[Report]] = set()
        while running or time.monotonic() < end:
            while len(running) < 2 * len(os.sched_getaffinity(0)) and time.monotonic() < end:
                running.add(workers.submit(shard, number, EXAMPLES, STEPS))
                number += 1
            done, running = wait(running, timeout=PROGRESS, return_when=FIRST_COMPLETED)
            for future in done:
                _tell(future.result(), totals, kinds)
            hours = totals["virtual_seconds"] / 3600
            print(
                f"{time.monotonic() - began:6.0f} s  {totals['steps']:,} steps, {totals['checks']:,} writes checked, "
                f"{totals['restarts']:,} restarts, {hours:,.0f} virtual hours, {sum(kinds.values())} failures",
                flush=True,
            )
    for kind, count in kinds.most_common():
        print(f"{count:4} x {kind}")
    return 1 if kinds else 0


def _tell(report: Report, totals: Counter[str], kinds: Counter[str]) -> None:
    totals.update(report.totals)
    if not report.error:
        return
    message = report.failure.message if report.failure else report.error
    kind = kind_of(message)
    kinds[kind] += 1
    if kinds[kind] == 1:
        print(f"\n--- seed {report.number} ---\n{report.failure or report.error}\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())
