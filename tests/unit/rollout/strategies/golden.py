"""A whole way as its exact list of route writes and scalings."""

from __future__ import annotations

from typing import Any

from tests.unit.rollout.walk import Walk


def serving(**spec: Any) -> Walk:
    """V1 serves, by this spec; what was logged so far is forgotten."""
    walk = Walk("1.0.0", **spec).rest()
    return forgetting(walk)


def trying(**spec: Any) -> Walk:
    """V2 was applied beside V1 and went as far as it can without anybody."""
    return serving(**spec).apply("2.0.0", **spec).rest()


def forgetting(walk: Walk) -> Walk:
    walk.log.clear()
    walk.events.clear()
    walk.told.clear()
    walk.phases.clear()
    return walk


def phases(walk: Walk) -> list[str]:
    return [str(phase) for phase in walk.phases]
