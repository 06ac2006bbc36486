"""Recreate: the old pods go before the new ones come; for pools with no room and users who accept the gap."""

from __future__ import annotations

from modelrollout.api.rolloutspec import Rollout
from modelrollout.rollout.strategies.stage import Course


def course(_: Rollout) -> Course:
    """No stage: nobody can be asked for half of it."""
    return Course(beside=False)
