"""Kubernetes objects of YAML files, as the commands are given them with ``-f``."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from modelrollout.cli.exits import Exit
from modelrollout.cli.failing import Complaint


def read_documents(paths: Iterable[str]) -> list[dict[str, Any]]:
    """The objects of all files, in order; ``-`` is standard input. Raises a Complaint."""
    documents: list[Any] = []
    for path in paths:
        try:
            text = sys.stdin.read() if path == "-" else Path(path).read_text("utf-8")
            documents += yaml.safe_load_all(text)
        except (OSError, UnicodeDecodeError) as error:
            raise Complaint(f"{path} cannot be read: {error}", Exit.USAGE) from error
        except yaml.YAMLError as error:
            raise Complaint(f"{path} is not YAML: {' '.join(str(error).split())}", Exit.INVALID) from error
    return [item for item in documents if isinstance(item, dict)]
