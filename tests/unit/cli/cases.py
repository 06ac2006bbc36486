"""The stored situations of tests/data/cli, read as the commands read them."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import yaml
from modelrollout.cli.view.snapshot import Children, Snapshot, snapshot

FOLDER = Path(__file__).parents[2] / "data" / "cli"
CASES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read(case: str) -> Snapshot:
    """The situation ``case``."""
    content = yaml.safe_load((FOLDER / f"{case}.yaml").read_text("utf-8"))
    children = Children(
        content.get("records", []),
        content.get("workloads", []),
        content.get("pods", []),
        tuple(content.get("unreadable", ())),
    )
    return snapshot(content["deployment"], children, datetime.fromisoformat(content["now"]))
