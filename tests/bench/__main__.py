"""``python -m tests.bench [name ...] [--quick] [--list]``: runs benchmarks, prints their tables, writes their JSON."""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from deploy.demo.place import local_place

from tests.bench.result import Result, document, table
from tests.standing_aside import installed_operator_aside

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / ".local" / "bench"
DOCUMENT = REPOSITORY / "docs" / "benchmarks.md"
TOOL = [sys.executable, str(REPOSITORY / "deploy" / "local" / "cluster.py")]
MODULES = {
    "traffic": "traffic",
    "switches": "switches",
    "changes": "changes",
    "reaction": "reaction",
    "requests": "counting",
    "lifecycles": "lifecycles",
    "decision": "decision",
    "memory": "memory",
    "outages": "outages",
    "judgement": "judgement",
    "observer": "observer",
}
"""Benchmark: its module here, which has ``run(result, quick)``."""

ALONE = frozenset({"memory", "decision", "judgement", "observer"})
"""Those that need no local cluster."""


def main() -> int:
    """Run what was asked for; 0 only if every figure is within its limit."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"which of {', '.join(MODULES)}; default: all")
    parser.add_argument("--quick", action="store_true", help="shorter waits and fewer trials; not for publishing")
    parser.add_argument("--list", action="store_true", help="say what each measures, and end")
    parser.add_argument("--document", action="store_true", help=f"put the figures into {DOCUMENT.name} as well")
    arguments = parser.parse_args()
    if arguments.list:
        for name, module in MODULES.items():
            print(f"{name:<10} {_said(module)}")
        return 0
    if arguments.quick and arguments.document:
        parser.error("figures of a quick run are not for the document")
    unknown = [name for name in arguments.names if name not in MODULES]
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(MODULES)}")
    names = arguments.names or list(MODULES)
    with cluster(needed=any(name not in ALONE for name in names)):
        results = [measure(name, arguments.quick) for name in names]
    if len(results) > 1:
        print(table(results))
    if arguments.document:
        for result in results:
            document(result, DOCUMENT)
    print(f"JSON: {FOLDER}")
    return 0 if all(result.ok for result in results) else 1


@contextlib.contextmanager
def cluster(needed: bool) -> Iterator[None]:
    """The local cluster is up inside the block if it is needed, and behind it as it was before.

    An operator that the demo left there stands aside meanwhile: its work would be measured too.
    """
    if not needed:
        yield
        return
    was_up = subprocess.run([*TOOL, "status"], check=False, capture_output=True).returncode == 0
    try:
        if subprocess.run([*TOOL, "up"], check=False).returncode:
            raise SystemExit("the local cluster did not come up; the lines above say why (logs: .local/logs)")
        with installed_operator_aside(local_place()):
            yield
    finally:
        if not was_up:
            subprocess.run([*TOOL, "down"], check=False)


def measure(name: str, quick: bool) -> Result:
    """One benchmark; it never raises, so that the others still run."""
    result, begun = Result(name), time.monotonic()
    print(f"[{name}] {_said(MODULES[name])}", flush=True)
    try:
        import_module(f"tests.bench.{MODULES[name]}").run(result, quick)
    except Exception as error:
        traceback.print_exc()
        result.failed(f"{type(error).__name__}: {' '.join(str(error).split())[:100]}")
    result.note("the benchmark took", round(time.monotonic() - begun, 1), "s")
    result.write(FOLDER)
    print(f"{table([result])}\n", flush=True)
    return result


def _said(module: str) -> str:
    return (import_module(f"tests.bench.{module}").__doc__ or "").strip().splitlines()[0]


if __name__ == "__main__":
    sys.exit(main())
