"""Recreate: the old pods go before the new ones come, and the way back is the same."""

from __future__ import annotations

from typing import Any

import pytest

from modelrollout.api.reasons import ConditionType
from modelrollout.api.status import Phase
from tests.builders import DRIFT, name_of
from tests.unit.rollout.strategies.golden import forgetting, phases, serving, trying

V1, V2 = name_of("1.0.0"), name_of("2.0.0")
GATEWAY: dict[str, Any] = {"strategy": "Recreate"}
SERVICE: dict[str, Any] = {"strategy": "Recreate", "service": True, "guards": (DRIFT,)}
BOTH = pytest.mark.parametrize("spec", [GATEWAY, SERVICE], ids=["gateway", "service"])


@BOTH
def test_the_gap(spec: dict[str, Any]) -> None:
    walk = trying(**spec)
    assert walk.log == ["V1 has 0 pods", "V2 has 2 pods", "V1=999999 V2=1", "V1=1 V2=999999", "V2=0 V2=1000000"]
    assert phases(walk) == ["Preparing", "Verifying", "Baking", "Idle"]


def test_the_gap_is_told() -> None:
    walk = serving(**GATEWAY).apply("2.0.0", **GATEWAY)
    walk.startable[V2] = 0
    for _ in range(3):
        walk.turn()
    ready = next(each for each in walk.status.conditions if each.type == ConditionType.READY)
    assert (str(ready.status), ready.reason) == ("False", "Recreating")
    assert "nobody answers" in walk.status.message


@BOTH
def test_a_breach_in_the_bake(spec: dict[str, Any]) -> None:
    walk = serving(**spec).apply("2.0.0", **spec)
    walk.until(walk.at(Phase.BAKING))
    forgetting(walk).breach(V2).rest()
    assert walk.log == ["V2 has 0 pods", "V1 has 2 pods", "V1=999999 V2=1", "V1=1000000 V1=0"]


def test_overtaken_while_nothing_runs() -> None:
    walk = serving(**GATEWAY).apply("2.0.0", **GATEWAY)
    walk.startable[V2] = 0
    for _ in range(4):
        walk.turn()
    walk.apply("3.0.0", **GATEWAY).rest()
    assert walk.status.revisions.stable == name_of("3.0.0")
    assert {name: pods.desired for name, pods in walk.observed.workloads.items() if pods.desired} == {
        name_of("3.0.0"): 2
    }


def test_pods_that_never_start_bring_the_old_ones_back() -> None:
    walk = serving(**GATEWAY).apply("2.0.0", **GATEWAY).kill(V2).rest()
    assert walk.status.phase is Phase.ROLLED_BACK
    assert walk.observed.workload(V1).ready == 2
