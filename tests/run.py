"""`make test`: all tiers in one pytest run; the local cluster is brought up while the cheap tiers run.

The cluster is taken down afterwards if and only if this run brought it up. KEEP_CLUSTER=1 leaves it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOL = [sys.executable, "deploy/local/cluster.py"]


def main() -> int:
    """Run pytest with the arguments given; returns its exit code."""
    was_up = subprocess.run([*TOOL, "status"], cwd=ROOT, check=False, capture_output=True).returncode == 0
    if not was_up:
        up = subprocess.run([*TOOL, "up"], cwd=ROOT, check=False)
        if up.returncode:
            print("the local cluster could not be brought up; its tests cannot run", file=sys.stderr)
            subprocess.run([*TOOL, "down"], cwd=ROOT, check=False)
            return up.returncode
    log = ROOT / ".local" / "test.log"
    log.parent.mkdir(exist_ok=True)
    try:
        return subprocess.run([sys.executable, "-m", "pytest", *sys.argv[1:]], cwd=ROOT, check=False).returncode
    finally:
        if not was_up and os.environ.get("KEEP_CLUSTER") != "1":
            # Its lines go to a file: pytest's closing line has to be the last one.
            with log.open("w") as sink:
                subprocess.run([*TOOL, "down"], cwd=ROOT, check=False, stdout=sink, stderr=subprocess.STDOUT)


if __name__ == "__main__":
    sys.exit(main())
