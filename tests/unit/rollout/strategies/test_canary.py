"""Canary: every route write and every scaling, by steps and by room."""

from __future__ import annotations

from typing import Any

import pytest

from modelrollout.api.status import Phase, Verdict
from tests.builders import DRIFT, ERRORS, name_of
from tests.unit.rollout.strategies.golden import forgetting, phases, serving, trying

V2 = name_of("2.0.0")
HOME = ["V1=999999 V2=1", "V1=1000000 V1=0", "V2 has 0 pods"]
LAST = ["V1=1 V2=999999", "V2=0 V2=1000000", "V1 has 0 pods"]
PODS = {"replicas": 3, "steps": ({"replicas": 1, "hold": "1m"}, (0.5, "1m"), {"pause": {}}, (50, "30s"))}


def test_three_steps() -> None:
    walk = trying()
    steps = ["V1=900000 V2=100000", "V1=750000 V2=250000", "V1=500000 V2=500000"]
    assert walk.log == ["V2 has 2 pods", "V1=999999 V2=1", *steps, *LAST]
    assert phases(walk) == ["Idle", "Preparing", "Verifying", "Progressing", "Baking", "Idle"][1:]
    assert walk.events == ["RolloutStarted", "Promoted", "RolloutCompleted"]


def test_fractions_of_a_percent() -> None:
    walk = trying(steps=((0.001, "30s"), (0.5, "30s"), (99.999, "30s")))
    assert walk.log[2:5] == ["V1=999990 V2=10", "V1=995000 V2=5000", "V1=10 V2=999990"]


def test_pods_without_traffic_and_a_pause() -> None:
    walk = trying(**PODS)
    assert walk.log == ["V2 has 1 pods", "V1=1000000 V2=0", "V1=999999 V2=1", "V1=995000 V2=5000"]
    assert phases(walk) == ["Preparing", "Verifying", "Progressing", "AwaitingApproval"]
    assert "the step asks for it" in walk.status.message
    forgetting(walk).command("promote/1").rest()
    assert walk.log == ["V2 has 2 pods", "V1=500000 V2=500000", "V2 has 3 pods", *LAST]
    assert walk.events == ["CommandAccepted", "Promoted", "RolloutCompleted"]


@pytest.mark.parametrize(
    ("room", "replicas", "log"),
    [
        (
            "1",
            4,
            [
                *("V2 has 1 pods", "V1=999999 V2=1", "V1=750000 V2=250000"),
                *("V1 has 3 pods", "V2 has 2 pods", "V1=500000 V2=500000"),
                *("V1 has 2 pods", "V2 has 3 pods", "V1=250000 V2=750000"),
                *("V1 has 1 pods", "V2 has 4 pods", *LAST),
            ],
        ),
        (
            "0",
            4,
            [
                *("V1 has 3 pods", "V2 has 1 pods", "V1=999999 V2=1", "V1=750000 V2=250000"),
                *("V1 has 2 pods", "V2 has 2 pods", "V1=500000 V2=500000"),
                *("V1 has 1 pods", "V2 has 3 pods"),
                *("V1=1 V2=999999", "V2=0 V2=1000000", "V1 has 0 pods", "V2 has 4 pods"),
            ],
        ),
        (
            "50%",
            4,
            [
                *("V2 has 2 pods", "V1=999999 V2=1", "V1=500000 V2=500000"),
                *("V1 has 2 pods", "V2 has 4 pods", *LAST),
            ],
        ),
        (
            # A third is no whole number of parts per million: this one never got beyond its first pod.
            "1",
            3,
            [
                *("V2 has 1 pods", "V1=999999 V2=1", "V1=666667 V2=333333"),
                *("V1 has 2 pods", "V2 has 2 pods", "V1=500000 V2=500000", "V1=333334 V2=666666"),
                *("V1 has 1 pods", "V2 has 3 pods", *LAST),
            ],
        ),
    ],
)
def test_with_less_room_traffic_follows_the_pods(room: str, replicas: int, log: list[str]) -> None:
    assert trying(replicas=replicas, max_surge=room, steps=((50, "30s"),)).log == log


@pytest.mark.parametrize("replicas", [2, 3, 5, 6, 7, 9, 11])
@pytest.mark.parametrize("room", ["0", "1", "2", "34%"])
def test_any_number_of_replicas_ends(replicas: int, room: str) -> None:
    walk = trying(replicas=replicas, max_surge=room, steps=((33, "30s"), (50, "30s")))
    assert walk.status.phase is Phase.IDLE
    assert walk.status.revisions.stable == V2


@pytest.mark.parametrize("step", [1, 2, 3, "bake"])
def test_a_breach(step: int | str) -> None:
    walk = serving().apply("2.0.0")
    walk.until(walk.at(Phase.BAKING) if isinstance(step, str) else walk.at_step(step))
    forgetting(walk).breach(V2).rest()
    assert walk.log == HOME
    assert phases(walk)[1:] == ["RollingBack", "RolledBack"]
    assert walk.events == ["RolledBack"]


@pytest.mark.parametrize(
    ("room", "step", "log"),
    [
        ("1", 1, ["V1=750000 V2=250000", "V2 has 1 pods", "V1 has 4 pods", *HOME]),
        (
            "1",
            "bake",
            [
                *("V1=250000 V2=750000", "V2 has 3 pods", "V1 has 2 pods"),
                *("V1=500000 V2=500000", "V2 has 2 pods", "V1 has 3 pods"),
                *("V1=750000 V2=250000", "V2 has 1 pods", "V1 has 4 pods", *HOME),
            ],
        ),
        ("0", 1, ["V2 has 1 pods", "V1 has 3 pods", *HOME[:2], "V1 has 4 pods", "V2 has 0 pods"]),
        (
            "0",
            "bake",
            [
                *("V1=250000 V2=750000", "V2 has 2 pods", "V1 has 2 pods"),
                *("V1=500000 V2=500000", "V2 has 1 pods", "V1 has 3 pods"),
                *(*HOME[:2], "V1 has 4 pods", "V2 has 0 pods"),
            ],
        ),
    ],
)
def test_a_breach_with_less_room_goes_home_as_pods_get_ready(room: str, step: int | str, log: list[str]) -> None:
    spec: dict[str, Any] = {"replicas": 4, "max_surge": room, "steps": ((50, "30s"),)}
    walk = serving(**spec).apply("2.0.0", **spec)
    walk.until(walk.at(Phase.BAKING) if isinstance(step, str) else walk.at_step(step))
    assert forgetting(walk).breach(V2).rest().log == log


def test_a_pod_of_home_that_never_starts_does_not_keep_users_on_a_bad_revision() -> None:
    spec: dict[str, Any] = {"replicas": 4, "max_surge": "1", "steps": ((50, "30s"),)}
    walk = serving(**spec).apply("2.0.0", **spec)
    walk.until(walk.at(Phase.BAKING))
    walk.startable[name_of("1.0.0")] = 3
    forgetting(walk).breach(V2).rest()
    assert walk.status.phase is Phase.ROLLED_BACK
    assert walk.log[-3:] == HOME


def test_users_on_the_way_from_pods_to_their_first_weight_are_guarded() -> None:
    """No guard was asked: the step in force has no users, and the ramp to the next one already had."""
    spec: dict[str, Any] = {"replicas": 4, "max_surge": "1", "steps": ({"replicas": 1, "hold": "10s"}, (75, "30s"))}
    walk = serving(**spec).apply("2.0.0", **spec)
    walk.until(lambda: walk.status.rollout is not None and walk.status.rollout.ramp == 25)
    walk.turn()
    assert walk.last is not None
    assert walk.last.evaluate is not None
    forgetting(walk).breach(V2).rest()
    assert walk.status.phase is Phase.ROLLED_BACK


@pytest.mark.parametrize(
    ("first", "last", "step", "asked"),
    [
        (None, None, 1, True),
        (1, None, 1, True),
        (2, None, 1, False),
        (2, None, 2, True),
        (None, 1, 1, True),
        (None, 1, 2, False),
        (2, 2, 3, False),
        (2, None, "bake", True),
        (None, 3, "bake", False),
    ],
)
def test_guards_begin_and_end_at_steps(first: int | None, last: int | None, step: int | str, asked: bool) -> None:
    bounds = {key: value for key, value in (("fromStep", first), ("toStep", last)) if value is not None}
    walk = serving(guards=(ERRORS, {**DRIFT, **bounds})).apply("2.0.0", guards=(ERRORS, {**DRIFT, **bounds}))
    walk.until(walk.at(Phase.BAKING) if isinstance(step, str) else walk.at_step(step))
    assert walk.last is not None
    assert walk.last.evaluate is not None
    assert ("drift" in walk.last.evaluate.guards) is asked


def test_a_step_that_no_guard_watches_ends_by_time() -> None:
    spec: dict[str, Any] = {"guards": ({**ERRORS, "fromStep": 2},)}
    walk = serving(**spec).apply("2.0.0", **spec)
    walk.until(walk.at_step(1))
    walk.verdict = Verdict.NO_DATA
    walk.until(walk.at_step(2))
    walk.rest()
    assert (walk.status.phase, walk.observed.route.weight_of(V2)) == (Phase.AWAITING_APPROVAL, 250_000)


@pytest.mark.parametrize(
    ("steps", "log"),
    [
        (({"replicas": 1}, (60, "30s")), ["V1=400000 V2=600000", *LAST]),
        (((30, "30s"), (60, "30s")), ["V1=700000 V2=300000", "V1=400000 V2=600000", *LAST]),
        (((5, "1s"), (20, "1s"), (100, "1s")), LAST),
    ],
)
def test_steps_edited_meanwhile_never_take_weight_off(steps: tuple[Any, ...], log: list[str]) -> None:
    walk = serving().apply("2.0.0")
    walk.until(walk.at_step(2))
    assert forgetting(walk).apply("2.0.0", steps=steps).rest().log == log


def test_the_way_home_minds_the_room_that_the_attempt_began_with() -> None:
    """maxSurge taken away while stable has one pod of four: all users would go to that one."""
    spec: dict[str, Any] = {"replicas": 4, "max_surge": "1", "steps": ((75, "1h"),)}
    walk = serving(**spec)
    walk.apply("2.0.0", **spec).until(walk.at_step(1))
    seen = len(walk.log)
    walk.apply("2.0.0", replicas=4, strategy="BlueGreen").rest()
    assert walk.log[seen : seen + 2] == ["V1=500000 V2=500000", "V1 has 4 pods"]
    assert walk.status.revisions.stable == name_of("2.0.0")
