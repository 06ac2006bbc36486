"""Reading nested parts of live objects, any of which may be missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Live = Mapping[str, Any]
"""An object as the API server gives it, whole or trimmed."""

SENTENCE_LIMIT = 320
"""Longest sentence made of what a cluster says, in characters: it goes into conditions and events."""


def get(manifest: Live | None, *path: str) -> Any:
    """The value at ``path``; None where any part of it is missing or null."""
    found: Any = manifest
    for key in path:
        found = (found or {}).get(key)
    return found


def holds(condition: Live, status: str) -> bool:
    """Whether a condition has this status (``True``, ``False``, ``Unknown``)."""
    return bool(condition.get("status") == status)
