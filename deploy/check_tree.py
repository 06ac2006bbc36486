"""Checks on the tree that no linter makes; run by `make verify`. Prints what is wrong and exits 1."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOP_LEVEL = {
    ".ci", ".gitignore", "CHANGELOG.md", "LICENSE", "Makefile", "README.md", "charts", "crds", "deploy", "docs",
    "operator", "pyproject.toml", "requirements-dev.lock", "requirements.lock", "tests",
}  # fmt: skip


def problems() -> list[str]:
    """One sentence each."""
    found = []
    shadowing = [
        path.name for path in (ROOT / "operator").iterdir() if path.name not in {"modelrollout", "__pycache__"}
    ]
    if shadowing:
        found.append(f"operator/ holds {shadowing}: only the package may be there, or it shadows the standard library")
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    strange = {path.split("/")[0] for path in tracked} - TOP_LEVEL
    if strange:
        found.append(f"unexpected at the top level: {sorted(strange)}")
    for lock in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / lock).read_text()
        if "--index-url" in text or "://" in text:
            found.append(f"{lock} holds an address of a package index")
    return found


if __name__ == "__main__":
    wrong = problems()
    print("\n".join(wrong) or "the tree is as it should be")
    sys.exit(bool(wrong))
