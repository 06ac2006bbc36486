"""How a rollout ended, whoever judged it, and the steps that all judges share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

STEPS: tuple[tuple[float, float], ...] = ((5, 120.0), (25, 300.0), (50, 300.0))
"""Percent and seconds: the default canary of the API."""

BAKE = 600.0
BEFORE = 360.0
"""Seconds that the stable revision serves alone first, so that its counters have a past."""

LONGEST = 7200.0
"""Seconds after which a rollout that still waits is said to be held."""


class Ended(StrEnum):
    """The end of a rollout."""

    PROMOTED = "promoted"
    ROLLED_BACK = "rolled back"
    AWAITING = "awaiting approval"
    HELD = "held"


@dataclass(frozen=True)
class Found:
    """One rollout.

    ``exposed`` are the requests that the candidate answered until the route was written that ends its traffic (until
    the end of the rollout where none was), ``promoted`` those until it got all traffic (None: it never did).
    ``seconds`` count from its first traffic. ``weights`` are (second, parts per million). ``asked``: a person was
    asked meanwhile, whatever came of it.
    """

    ended: Ended
    exposed: int
    promoted: int | None
    seconds: float
    why: str = ""
    weights: tuple[tuple[float, int], ...] = ()
    asked: bool = False

    @property
    def passed(self) -> bool:
        """Whether the candidate got all traffic and kept it."""
        return self.ended is Ended.PROMOTED
