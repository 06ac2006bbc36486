"""Shadow: copies, and each of what may follow."""

from __future__ import annotations

from typing import Any

import pytest

from modelrollout.api.status import Outcome, Phase
from tests.builders import name_of
from tests.unit.rollout.strategies.golden import forgetting, phases, serving, trying

V1, V2 = name_of("1.0.0"), name_of("2.0.0")
COPIES = ["V2 has 2 pods", "V1=1000000 V2=0 mirror 100000"]
SWITCH = ["V1=999999 V2=1", "V1=1 V2=999999", "V2=0 V2=1000000", "V1 has 0 pods"]
OVER = ["V1=1000000 V1=0", "V2 has 0 pods"]


def shadow(then: str, **more: Any) -> dict[str, Any]:
    return {"strategy": "Shadow", "shadow": {"then": then, "hold": "1m"}, **more}


APPROVAL = shadow("Approval")
CANARY = shadow("Canary", steps=((50, "30s"),))
BLUE_GREEN = shadow("BlueGreen", blueGreen={"approval": True})
END = shadow("End")
ALL = pytest.mark.parametrize("spec", [APPROVAL, CANARY, BLUE_GREEN, END], ids=["approval", "canary", "blue", "end"])


def test_then_a_person() -> None:
    walk = trying(**APPROVAL)
    assert walk.log == COPIES
    assert "the shadow is over" in walk.status.message
    forgetting(walk).command("promote/1").rest()
    assert walk.log == SWITCH


def test_then_a_canary() -> None:
    walk = trying(**CANARY)
    assert walk.log == [*COPIES, "V1=999999 V2=1", "V1=500000 V2=500000", *SWITCH[1:]]
    assert phases(walk) == ["Preparing", "Verifying", "Progressing", "Baking", "Idle"]


def test_then_blue_green() -> None:
    walk = trying(**BLUE_GREEN)
    assert walk.log == [*COPIES, "V1=1000000 V2=0"]
    forgetting(walk).command("promote/1").rest()
    assert walk.log == SWITCH


def test_then_the_end() -> None:
    walk = trying(**END)
    assert walk.log == [*COPIES, *OVER]
    assert phases(walk)[-2:] == ["RollingBack", "Idle"]
    assert walk.events == ["RolloutStarted", "RolloutConcluded"]
    assert walk.status.quarantined == ()
    again = forgetting(walk.fork()).command("retry/1").rest()
    assert again.log == [*COPIES, *OVER]


@ALL
def test_a_breach_of_the_copies(spec: dict[str, Any]) -> None:
    walk = serving(**spec).apply("2.0.0", **spec)
    walk.until(walk.at_step(1))
    forgetting(walk).breach(V2).rest()
    assert walk.log == OVER
    assert walk.status.phase is Phase.ROLLED_BACK


def test_a_shadow_that_ended_goes_on_when_the_spec_asks_for_users() -> None:
    """It waited for a retry, although the strategy had been changed to one that promotes."""
    walk = trying(**END)
    for spec in ({}, APPROVAL):
        other = walk.fork().apply("2.0.0", **spec).rest()
        assert other.status.phase in (Phase.IDLE, Phase.AWAITING_APPROVAL)
        assert (other.status.revisions.stable == V2) is (spec == {})


def test_retry_of_a_shadow_that_ended_needs_pods() -> None:
    """It was accepted, and did nothing when the pods came back."""
    walk = trying(**END).apply("2.0.0", **END, replicas=0).rest()
    walk.command("retry/1").rest()
    assert walk.status.commands[0].message == "replicas is 0: scale up first"
    assert not walk.status.commands[0].accepted


@pytest.mark.parametrize("step", [1, 2])
def test_then_a_canary_instead_of_a_person(step: int) -> None:
    """The stage in force was gone: the candidate waited for guards that nothing could feed."""
    walk = serving(**APPROVAL).apply("2.0.0", **APPROVAL)
    walk.until(walk.at_step(step))
    forgetting(walk).apply("2.0.0", **CANARY).rest()
    assert walk.log == ["V1=999999 V2=1", "V1=500000 V2=500000", *SWITCH[1:]]


def test_then_the_end_instead_of_a_canary_takes_the_users_home() -> None:
    walk = serving(**CANARY).apply("2.0.0", **CANARY)
    walk.until(walk.at_step(2))
    forgetting(walk).apply("2.0.0", **END).rest()
    assert walk.log == ["V1=999999 V2=1", *OVER]
    assert walk.status.history[0].outcome is Outcome.CONCLUDED


def test_then_a_canary_in_little_room() -> None:
    """Copies and users at once: the ramp to the first weight kept the shadow's copies."""
    spec = shadow("Canary", steps=((50, "30s"),), replicas=4, max_surge="1")
    walk = trying(**spec)
    assert walk.log == [
        *("V2 has 1 pods", "V1=1000000 V2=0 mirror 100000", "V1=999999 V2=1", "V1=750000 V2=250000"),
        *("V1 has 3 pods", "V2 has 2 pods", "V1=500000 V2=500000"),
        *("V1 has 2 pods", "V2 has 3 pods", "V1=250000 V2=750000", "V1 has 1 pods", "V2 has 4 pods"),
        *SWITCH[1:],
    ]
