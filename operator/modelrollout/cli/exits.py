"""The exit codes of the commands for people: pipelines decide by them."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """How a command ended."""

    DONE = 0
    OTHER = 1
    USAGE = 2
    TAKEN_BACK = 3
    """Rolled back or aborted; for a command: refused."""
    WAITS = 4
    """A person must decide."""
    TIMED_OUT = 5
    INVALID = 6
