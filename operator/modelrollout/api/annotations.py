"""The annotation by which people steer, and who wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelrollout.api.base import GROUP, clean
from modelrollout.api.status import WORD_LIMIT

COMMAND = f"{GROUP}/command"
"""``<verb>[:<argument>]/<nonce>[@<who>]``; the operator reads it and never writes it."""


def command_writer(metadata: Mapping[str, Any]) -> str:
    """The field manager that wrote the command last, as ``metadata.managedFields`` tells; empty where it does not.

    Never raises. The API server names a manager after the client's program where it gives no name of its own.
    """
    entries = metadata.get("managedFields")
    if COMMAND not in _map(metadata.get("annotations")) or not isinstance(entries, list):
        return ""
    owners = [
        (str(entry.get("time") or ""), str(entry.get("manager") or ""))
        for entry in entries
        if isinstance(entry, dict) and _owns_command(entry)
    ]
    return clean(max(owners)[1], WORD_LIMIT) if owners else ""


def _owns_command(entry: Mapping[str, Any]) -> bool:
    owned = _map(_map(_map(entry.get("fieldsV1")).get("f:metadata")).get("f:annotations"))
    return f"f:{COMMAND}" in owned


def _map(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
