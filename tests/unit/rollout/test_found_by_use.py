"""What people met who used it: each as the walk they took."""

from __future__ import annotations

from typing import Any

import pytest

from modelrollout.api.status import Outcome, Phase
from tests.builders import name_of
from tests.unit.rollout.walk import Walk

V1, V2, V3 = (name_of(f"{major}.0.0") for major in (1, 2, 3))


def test_users_missed_while_scaled_to_zero_are_no_evidence() -> None:
    """In a bake, replicas 0 made the gateway answer 503: a healthy revision was taken back and quarantined."""
    walk = Walk("1.0.0").rest().apply("2.0.0")
    walk.until(walk.at(Phase.BAKING))
    walk.bad = {V2}
    walk.apply("2.0.0", replicas=0).rest()
    assert (walk.status.phase, walk.status.revisions.stable) == (Phase.BAKING, V2)
    walk.bad = set()
    walk.apply("2.0.0").rest()
    assert (walk.status.phase, walk.status.quarantined) == (Phase.IDLE, ())


def test_a_commanded_rollback_goes_away_from_what_served() -> None:
    """A third revision was desired and quarantined: it got the blame, and V2 stayed known good."""
    walk = Walk("1.0.0").rest().apply("2.0.0").rest().apply("3.0.0")
    walk.until(walk.at_step(1)).command("abort/1").rest()
    walk.command("rollback/2").rest()
    assert walk.status.revisions.stable == V1
    assert set(walk.status.quarantined) == {V2, V3}
    assert walk.observed.known_good == {V1}
    assert "aborted by command" in walk.status.message
    walk.command("rollback/3").rest()
    assert walk.status.revisions.stable == V1


def test_a_rollback_by_command_is_told_as_one() -> None:
    """It was the event RolloutAborted: alerts on RolledBack missed it."""
    walk = Walk("1.0.0").rest().apply("2.0.0")
    walk.until(walk.at(Phase.BAKING)).command("rollback/1").rest()
    assert walk.events[-2:] == ["CommandAccepted", "RolledBack"]
    assert walk.status.history[0].outcome is Outcome.ROLLED_BACK


def test_room_that_was_made_on_the_way_up_is_not_given_back() -> None:
    """Between two rungs of a ramp the next one's pods were ended and started anew: two loads of a model for nothing."""
    spec: dict[str, Any] = {"replicas": 3, "max_surge": "1", "steps": ((67, "30s"),)}
    walk = Walk("1.0.0", **spec).rest().apply("2.0.0", **spec)
    walk.until(walk.at(Phase.BAKING))
    pods = [line for line in walk.log if line.startswith("V1 has")]
    assert pods == ["V1 has 3 pods", "V1 has 2 pods", "V1 has 1 pods"]


@pytest.mark.parametrize(("replicas", "weight"), [(2, 80), (3, 70), (4, 99)])
def test_no_room_at_all_reaches_every_weight(replicas: int, weight: int) -> None:
    """maxSurge 0 stood still below the last weights, for a pod that nobody asked for."""
    spec: dict[str, Any] = {"replicas": replicas, "max_surge": "0", "steps": ((weight, "30s"),)}
    walk = Walk("1.0.0", **spec).rest().apply("2.0.0", **spec).rest()
    assert walk.status.revisions.stable == V2
