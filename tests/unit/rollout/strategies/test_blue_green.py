"""Blue-green: what comes before the switch, the switch, and the switch back."""

from __future__ import annotations

from typing import Any

import pytest

from modelrollout.api.status import Phase
from modelrollout.rollout.plan import Source
from tests.builders import DRIFT, name_of
from tests.unit.rollout.strategies.golden import forgetting, phases, serving, trying

V2 = name_of("2.0.0")
HOME = ["V1=999999 V2=1", "V1=1000000 V1=0", "V2 has 0 pods"]
SWITCH = ["V1=999999 V2=1", "V1=1 V2=999999", "V2=0 V2=1000000", "V1 has 0 pods"]
BARE: dict[str, Any] = {"strategy": "BlueGreen"}
WHOLE: dict[str, Any] = {**BARE, "blueGreen": {"prePromotion": {"percent": 20, "hold": "1m"}, "approval": True}}
PREVIEW: dict[str, Any] = {**BARE, "blueGreen": {"prePromotion": {"source": "Preview", "hold": "1m"}}}
SERVICE: dict[str, Any] = {**BARE, "service": True, "guards": (DRIFT,)}


@pytest.mark.parametrize("spec", [BARE, SERVICE], ids=["gateway", "service"])
def test_bare(spec: dict[str, Any]) -> None:
    walk = trying(**spec)
    assert walk.log == ["V2 has 2 pods", *SWITCH]
    assert phases(walk) == ["Preparing", "Verifying", "Baking", "Idle"]
    assert walk.events == ["RolloutStarted", "Promoted", "RolloutCompleted"]


@pytest.mark.parametrize("spec", [BARE, SERVICE], ids=["gateway", "service"])
def test_a_breach_in_the_bake_is_one_switch_back(spec: dict[str, Any]) -> None:
    walk = serving(**spec).apply("2.0.0", **spec)
    walk.until(walk.at(Phase.BAKING))
    assert forgetting(walk).breach(V2).rest().log == HOME


def test_copies_then_a_person() -> None:
    walk = trying(**WHOLE)
    assert walk.log == ["V2 has 2 pods", "V1=1000000 V2=0 mirror 200000"]
    assert phases(walk) == ["Preparing", "Verifying", "Progressing", "AwaitingApproval"]
    assert walk.last is not None
    assert walk.last.evaluate is not None
    assert walk.last.evaluate.source is Source.MIRROR, "guards are judged while a person is waited for"
    assert walk.last.route is not None
    assert walk.last.route.preview == V2
    forgetting(walk).command("promote/1@anna").rest()
    assert walk.log == SWITCH
    assert walk.events == ["CommandAccepted", "Promoted", "RolloutCompleted"]


def test_a_preview_judges_by_what_testers_send() -> None:
    walk = serving(**PREVIEW).apply("2.0.0", **PREVIEW)
    walk.until(walk.at_step(1))
    assert walk.last is not None
    assert walk.last.evaluate is not None
    assert walk.last.evaluate.source is Source.PREVIEW
    assert walk.rest().log == ["V2 has 2 pods", "V1=1000000 V2=0", *SWITCH]


@pytest.mark.parametrize(("spec", "step"), [(WHOLE, 1), (WHOLE, 2), (PREVIEW, 1)])
def test_a_breach_before_the_switch_meets_no_user(spec: dict[str, Any], step: int) -> None:
    walk = serving(**spec).apply("2.0.0", **spec)
    walk.until(walk.at_step(step))
    forgetting(walk).breach(V2).rest()
    assert walk.log == ["V1=1000000 V1=0", "V2 has 0 pods"]
    assert walk.events == ["RolledBack"]


def test_pods_lost_in_the_preview_take_the_copies_along() -> None:
    walk = serving(**WHOLE).apply("2.0.0", **WHOLE)
    walk.until(walk.at_step(1))
    forgetting(walk).kill(V2)
    for _ in range(2):
        walk.turn()
    assert walk.log == ["V1=1000000 V1=0"]
    walk.heal().rest()
    assert walk.log[1:] == ["V1=1000000 V2=0 mirror 200000"]
    assert walk.status.phase is Phase.AWAITING_APPROVAL


def test_what_comes_before_the_switch_is_taken_out_of_the_spec() -> None:
    walk = trying(**WHOLE)
    forgetting(walk).apply("2.0.0", **BARE).rest()
    assert walk.log == SWITCH


def test_going_back_is_the_fast_track() -> None:
    walk = trying(**WHOLE).command("promote/1").rest()
    forgetting(walk).apply("1.0.0", **WHOLE).rest()
    assert walk.log == [
        *("V1 has 2 pods", "V1=1 V2=999999", "V1=999999 V2=1", "V1=1000000 V1=0", "V2 has 0 pods"),
    ]
    assert phases(walk) == ["Idle", "Preparing", "Verifying", "Baking", "Idle"][1:]
    assert "known good" in walk.told[-3]
