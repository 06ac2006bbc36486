"""Memory of the operator with 0, 100 and 500 ModelDeployments (API server only, no pods), and what its start is."""

from __future__ import annotations

import json
import subprocess
import sys
import time

from tests.bench.operating import Memory, Operator
from tests.bench.pretend import NAMESPACE, Alone, alone
from tests.bench.result import Result

START_LIMIT = 130.0
SLOPE_LIMIT = 0.1
COUNTS = (0, 100, 500)
SETTLE = 8.0
"""Seconds of rest before memory is read: what a burst of work took for itself is the operator's too."""

PARTS = (
    ("interpreter", ""),
    ("aiohttp", "import aiohttp"),
    ("pydantic", "import pydantic"),
    ("kubernetes client", "import kubernetes.aio.client, kubernetes.aio.config"),
    ("kopf", "import kopf"),
    ("Prometheus and Triton clients", "import prometheus_api_client, promql_parser, prometheus_client"),
    ("the operator's own code", "import modelrollout.cli.run"),
)
_PROGRAM = """
import json, pathlib
def resident():
    lines = pathlib.Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Rss:")) / 1024
seen = []
for statement in {statements!r}:
    exec(statement)
    seen.append(resident())
print(json.dumps(seen))
"""


def run(result: Result, quick: bool) -> None:
    """Measure."""
    parts = start_by_part()
    with alone() as place:
        found = with_operator(place, COUNTS[:2] if quick else COUNTS)
    start, last = found[0], max(found)
    result.at_most("start: resident, no ModelDeployment", start.resident, "MiB", START_LIMIT)
    before = 0.0
    for (part, _), resident in zip(PARTS, parts, strict=True):
        result.note(f"start is made of: {part}", resident - before, "MiB")
        before = resident
    result.note("start is made of: running (connections, watches, threads)", start.resident - before, "MiB")
    result.note("start: proportional share (PSS)", start.proportional, "MiB")
    for count in sorted(found)[1:]:
        result.note(f"resident with {count}", found[count].resident, "MiB")
        result.note(f"proportional share (PSS) with {count}", found[count].proportional, "MiB")
    slope = (found[last].resident - start.resident) / last
    result.at_most(f"slope from 0 to {last}", slope, "MiB each", SLOPE_LIMIT)
    if last > COUNTS[1]:
        slope = (found[last].resident - found[COUNTS[1]].resident) / (last - COUNTS[1])
        result.at_most(f"slope from {COUNTS[1]} to {last}", slope, "MiB each", SLOPE_LIMIT)


def start_by_part() -> list[float]:
    """Resident MiB after each part was imported, in order, in a fresh interpreter."""
    program = _PROGRAM.format(statements=[statement for _, statement in PARTS])
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    seen: list[float] = json.loads(done.stdout)
    return seen


def with_operator(place: Alone, counts: tuple[int, ...]) -> dict[int, Memory]:
    """Memory at each count, one operator all the while."""
    settings = {
        "pools": {"cpu": {"image": "example/triton:1"}},
        "prometheus": {"default": {"url": "http://127.0.0.1:9"}},
    }
    found, there = {}, 0
    with Operator(place.folder / "operator", NAMESPACE, place.kubeconfig, settings) as operator:
        for count in counts:
            place.create(there, count)
            there = count
            place.wait_until_deployed(count)
            time.sleep(SETTLE)
            found[count] = operator.memory()
            print(f"  {count} ModelDeployments: {found[count].resident:.1f} MiB resident", flush=True)
    return found
