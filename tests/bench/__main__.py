"""``python -m tests.bench [name ...] [--quick] [--list]``: runs benchmarks, prints their tables, writes their JSON."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from importlib import import_module
from pathlib import Path

from tests.bench.result import Result, table

FOLDER = Path(__file__).resolve().parents[2] / ".local" / "bench"
MODULES = {
    "traffic": "traffic",
    "reaction": "reaction",
    "requests": "counting",
    "memory": "memory",
    "outages": "outages",
}
"""Benchmark: its module here, which has ``run(result, quick)``."""


def main() -> int:
    """Run what was asked for; 0 only if every figure is within its limit."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"which of {', '.join(MODULES)}; default: all")
    parser.add_argument("--quick", action="store_true", help="shorter waits and fewer trials; not for publishing")
    parser.add_argument("--list", action="store_true", help="say what each measures, and end")
    arguments = parser.parse_args()
    if arguments.list:
        for name, module in MODULES.items():
            print(f"{name:<10} {_said(module)}")
        return 0
    unknown = [name for name in arguments.names if name not in MODULES]
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(MODULES)}")
    results = [measure(name, arguments.quick) for name in arguments.names or MODULES]
    print(f"\n{table(results)}\n\nJSON: {FOLDER}")
    return 0 if all(result.ok for result in results) else 1


def measure(name: str, quick: bool) -> Result:
    """One benchmark; it never raises, so that the others still run."""
    result, begun = Result(name), time.monotonic()
    print(f"[{name}] {_said(MODULES[name])}", flush=True)
    try:
        import_module(f"tests.bench.{MODULES[name]}").run(result, quick)
    except Exception as error:
        traceback.print_exc()
        result.failed(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
    result.note("the benchmark took", round(time.monotonic() - begun, 1), "s")
    result.write(FOLDER)
    print(f"{table([result])}\n", flush=True)
    return result


def _said(module: str) -> str:
    return (import_module(f"tests.bench.{module}").__doc__ or "").strip().splitlines()[0]


if __name__ == "__main__":
    sys.exit(main())
