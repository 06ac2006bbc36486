"""What goes wrong with requests to the API server, by name."""

from __future__ import annotations

from collections.abc import Callable

from modelrollout.ports import ConflictError, DeniedError, RejectedError, TransientError

Fault = tuple[Exception | None, bool, float]
"""(error, whether it comes after the write was carried out, seconds until it comes)."""

NONE: Fault = (None, False, 0.0)

KINDS: dict[str, Callable[[], Fault]] = {
    "conflict": lambda: (ConflictError("injected 409"), False, 0.0),
    "rejected": lambda: (RejectedError("injected 422"), False, 0.0),
    "refused": lambda: (TransientError("injected 500"), False, 0.0),
    "throttled": lambda: (TransientError("injected 429", retry_after=3.0), False, 0.0),
    "timeout-applied": lambda: (TransientError("injected timeout after the write"), True, 10.0),
    "timeout-lost": lambda: (TransientError("injected timeout before the write"), False, 10.0),
    "denied": lambda: (DeniedError("injected 403"), False, 0.0),
}


def once(kind: str, number: int, times: int = 1) -> Callable[[int], Fault]:
    """The first ``times`` requests from ``number`` on fail."""
    left = [times]

    def plan(current: int) -> Fault:
        if current < number or not left[0]:
            return NONE
        left[0] -= 1
        return KINDS[kind]()

    return plan
