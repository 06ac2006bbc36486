"""The stored situations of tests/data/cli, read as the commands read them."""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from modelrollout.cli.view.snapshot import Children, Snapshot, snapshot

FOLDER = Path(__file__).parents[2] / "data" / "cli"
CASES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read(case: str) -> Snapshot:
    """The situation ``case``."""
    content = load(case)
    children = Children(
        content.get("records"), content.get("workloads"), content.get("pods"), tuple(content.get("unreadable", ()))
    )
    return snapshot(content["deployment"], children, datetime.fromisoformat(content["now"]))


def load(case: str) -> dict[str, Any]:
    """The file of ``case`` over that of the one it is like: mappings are merged, null takes away, lists replace."""
    return copy.deepcopy(_content(case))


@cache
def _content(case: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((FOLDER / f"{case}.yaml").read_text("utf-8"))
    like = content.pop("like", None)
    merged: dict[str, Any] = _merged(_content(like), content) if like else content
    return merged


def changed(case: str, **status: Any) -> Snapshot:
    """The situation ``case`` with other fields of its status (by their names in Python)."""
    found = read(case)
    return replace(found, status=found.status.model_copy(update=status))


def _merged(base: Any, change: Any) -> Any:
    if not isinstance(base, dict) or not isinstance(change, dict):
        return change
    keys = [*base, *(key for key in change if key not in base)]
    merged = {key: _merged(base.get(key), change[key]) if key in change else base[key] for key in keys}
    return {key: value for key, value in merged.items() if value is not None or key == "pods"}
