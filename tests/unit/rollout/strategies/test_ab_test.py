"""A/B: the split, its samples, who decides, and a weight that is edited meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from modelrollout.api.status import Phase, Verdict
from tests.builders import name_of
from tests.unit.rollout.strategies.golden import forgetting, phases, serving, trying
from tests.unit.rollout.walk import Walk

V2 = name_of("2.0.0")
HOME = ["V1=999999 V2=1", "V1=1000000 V1=0", "V2 has 0 pods"]
SPLIT = ["V2 has 2 pods", "V1=999999 V2=1", "V1=700000 V2=300000 split"]
LAST = ["V1=1 V2=999999", "V2=0 V2=1000000", "V1 has 0 pods"]
MATCH = [{"header": {"name": "x-team", "value": "a"}}]


def split(weight: float = 30, **more: Any) -> dict[str, Any]:
    return {"strategy": "ABTest", "abTest": {"weight": weight, "hold": "1h", **more}}


def under_way(**spec: Any) -> Walk:
    walk = serving(**spec).apply("2.0.0", **spec)
    return forgetting(walk.until(walk.at_step(1)))


def test_a_person_decides_for_it() -> None:
    walk = trying(**split(samples=500))
    assert walk.log == SPLIT
    assert phases(walk) == ["Preparing", "Verifying", "Progressing", "AwaitingApproval"]
    assert walk.status.rollout is not None
    assert [arm.requests for arm in walk.status.rollout.arms] == [1000, 1000]
    forgetting(walk).command("promote/1").rest()
    assert walk.log == LAST


def test_a_person_decides_against_it() -> None:
    walk = forgetting(trying(**split())).command("abort/1").rest()
    assert walk.log == HOME
    assert walk.events == ["CommandAccepted", "RolloutAborted"]


def test_the_guards_decide() -> None:
    assert trying(**split(decide="Guards")).log == [*SPLIT, *LAST]


@pytest.mark.parametrize("step", [1, 2])
def test_a_breach(step: int) -> None:
    walk = serving(**split()).apply("2.0.0", **split())
    walk.until(walk.at_step(step))
    assert forgetting(walk).breach(V2).rest().log == HOME


def test_too_few_samples_are_waited_for() -> None:
    walk = under_way(**split(samples=500))
    walk.requests = 10
    for _ in range(1000):
        walk.turn()
    assert walk.status.phase is Phase.PROGRESSING
    assert walk.status.message.endswith("until each arm has answered 500 requests")
    assert walk.says(Verdict.PASS, 500).rest().status.phase is Phase.AWAITING_APPROVAL


def test_data_that_come_back_end_the_wait_for_them() -> None:
    """The second silence counted from the first: a person was asked at once."""
    walk = under_way(**split(samples=500))
    walk.requests = 10
    for _ in range(800):
        walk.turn()
    for verdict in (Verdict.NO_DATA, Verdict.PASS):
        walk.says(verdict, 10)
        for _ in range(12):
            walk.turn()
    assert walk.status.rollout is not None
    assert walk.status.rollout.waiting_since is None


def test_match_only() -> None:
    walk = under_way(**split(0, match=MATCH, decide="Guards"))
    assert walk.observed.route.split == V2
    walk.rest()
    # Those who match keep their arm while it is armed for all others.
    assert walk.log == ["V1=999999 V2=1 split", *LAST]


def test_a_breach_of_match_only() -> None:
    assert under_way(**split(0, match=MATCH)).breach(V2).rest().log == ["V1=1000000 V2=0", *HOME[1:]]


@pytest.mark.parametrize(
    ("before", "after", "log"),
    [
        (30, 60, ["V1=400000 V2=600000 split"]),
        (60, 30, ["V1=700000 V2=300000 split"]),
        (30, 0, ["V1=999999 V2=1 split", "V1=1000000 V2=0 split"]),
        (0, 30, ["V1=999999 V2=1 split", "V1=700000 V2=300000 split"]),
    ],
)
def test_a_weight_edited_meanwhile(before: float, after: float, log: list[str]) -> None:
    """From or to 0 it was taken for a rollback that had been interrupted."""
    walk = under_way(**split(before, match=MATCH)).apply("2.0.0", **split(after, match=MATCH)).rest()
    assert walk.log == log
    assert walk.status.phase is Phase.AWAITING_APPROVAL


@pytest.mark.parametrize("hindrance", ["silence", "paused", "pods"])
def test_more_weight_needs_what_a_step_needs(hindrance: str) -> None:
    spec = {**split(30, match=MATCH), "replicas": 4}
    walk = under_way(**spec)
    if hindrance == "silence":
        walk.says(Verdict.NO_DATA)
    if hindrance == "pods":
        walk.startable[V2] = 2
    more = {**split(80, match=MATCH), "replicas": 4, "paused": hindrance == "paused"}
    walk.apply("2.0.0", **more)
    for _ in range(50):
        walk.turn()
    assert walk.observed.route.weight_of(V2) == 300_000
