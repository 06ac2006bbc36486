"""Percent as people write it, parts per million as routes have it."""

from __future__ import annotations

from modelrollout.rollout.plan import ARMED, WHOLE

PPM_PER_PERCENT = WHOLE // 100
FULL = WHOLE - ARMED
"""All users' traffic, while the other arm stays armed."""


def share(percent: float) -> int:
    """Parts per million of ``percent``, kept between armed and full so that no arm drops out of the data plane."""
    # Held within 0 and 100 first: a status edited by hand may have a number too large to count with.
    return min(max(round(min(max(0.0, percent), 100.0) * PPM_PER_PERCENT), ARMED), FULL)


def percent(weight: int) -> float:
    """What people read: an armed arm is 0, a full one 100."""
    if weight <= ARMED:
        return 0.0
    if weight >= FULL:
        return 100.0
    return round(weight / PPM_PER_PERCENT, 4)
