"""The Service without a gateway: what its selector and its layout say together."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from modelrollout.ports import Manifest
from modelrollout.render.difference import differs
from modelrollout.render.readback import observe_traffic
from modelrollout.render.traffic_service import observe_service, traffic_service
from modelrollout.render.trim import trim
from modelrollout.rollout.observed import Backend, Route
from modelrollout.rollout.plan import ARMED, WHOLE, RoutePlan, Slot
from tests.unit.render.cases import load_case

A, B = "digits-aaaaaaaaaa", "digits-bbbbbbbbbb"
PLANS = {
    "one, slot 0": (RoutePlan((Slot(A, WHOLE), Slot(None, 0)), A), A),
    "one, slot 1": (RoutePlan((Slot(None, 0), Slot(A, WHOLE)), A), A),
    "off, still there": (RoutePlan((Slot(A, WHOLE), Slot(B, 0)), A), A),
    "armed": (RoutePlan((Slot(A, WHOLE - ARMED), Slot(B, ARMED)), A), A),
    "switched": (RoutePlan((Slot(A, ARMED), Slot(B, WHOLE - ARMED)), A), B),
    "half": (RoutePlan((Slot(B, WHOLE // 2), Slot(A, WHOLE // 2)), A), A),
}


def stored(plan: RoutePlan) -> Manifest:
    body = traffic_service(load_case("service-bluegreen").wish, plan)
    body["metadata"] |= {"uid": "uid-service", "resourceVersion": "7"}
    body["spec"] |= {"clusterIP": "10.96.0.7", "sessionAffinity": "None"}
    return trim("Service", body)


@pytest.mark.parametrize(("plan", "serving"), PLANS.values(), ids=PLANS)
def test_what_is_written_is_read_back(plan: RoutePlan, serving: str) -> None:
    body = stored(plan)
    assert body["spec"]["selector"]["modelrollout.io/revision"] == serving
    read = observe_service(body)
    assert read.backends == tuple(Backend(slot.revision or plan.stable, slot.weight) for slot in plan.slots)
    assert sum(read.weights.values()) == WHOLE
    assert read.weights == read.lowest
    assert (read.accepted, read.probed, read.rejection) == (True, False, None)
    assert not differs(traffic_service(load_case("service-bluegreen").wish, plan), body)


def test_every_state_has_its_own_token() -> None:
    tokens = {observe_service(stored(plan)).token for plan, _ in PLANS.values()}
    assert len(tokens) == len(PLANS)
    assert all(token.startswith("Service/uid-service@") for token in tokens)
    other = stored(PLANS["half"][0])
    other["metadata"]["uid"] = "uid-another"
    assert observe_service(other).token not in tokens


def select(**labels: str | None) -> Manifest:
    body = copy.deepcopy(stored(PLANS["armed"][0]))
    selector = body["spec"]["selector"]
    for name, value in labels.items():
        key = f"modelrollout.io/{name}"
        selector.pop(key, None)
        if value is not None:
            selector[key] = value
    return body


def test_a_selector_that_a_person_turned_is_the_truth() -> None:
    read = observe_service(select(revision=B))
    assert read.backends == (Backend(A, 0), Backend(B, WHOLE))
    assert (read.weight_of(A), read.weight_of(B)) == (0, WHOLE)
    assert not read.taken_off(B, ARMED)


def test_a_selector_for_a_revision_without_a_place_has_no_layout() -> None:
    read = observe_service(select(revision="digits-cccccccccc"))
    assert (read.backends, dict(read.weights)) == (None, {"digits-cccccccccc": WHOLE})
    assert read.accepted


@pytest.mark.parametrize("labels", [{"revision": None}, {"deployment": None}, {"deployment": "other"}, {"pod": "one"}])
def test_a_selector_that_finds_other_pods_serves_nobody_of_ours(labels: dict[str, str | None]) -> None:
    read = observe_service(select(**labels))
    assert (read.backends, dict(read.weights), read.accepted) == (None, {}, False)


@pytest.mark.parametrize("labels", [{"revision": B}, {"revision": None}, {"pod": "one"}])
def test_a_changed_selector_is_a_difference(labels: dict[str, str | None]) -> None:
    desired = traffic_service(load_case("service-bluegreen").wish, PLANS["armed"][0])
    assert differs(desired, select(**labels))


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "{",
        "[]",
        "null",
        "7",
        '{"slots":[["a",1]],"stable":"a"}',
        '{"slots":[["a",1],["b",2]],"stable":"a"}',
        '{"slots":[["a","x"],["b",2]],"stable":"a"}',
        '{"slots":[["a",1000001],["b",-1]],"stable":"a"}',
        '{"slots":[[[],1000000],[null,0]],"stable":"a"}',
        '{"slots":[["digits-cccccccccc",1000000],[null,0]],"stable":"digits-cccccccccc"}',
        '{"slots":[["a",1e999],["b",2]],"stable":"a"}',
    ],
)
def test_a_damaged_layout_leaves_what_the_selector_says(text: Any) -> None:
    body = select()
    body["metadata"]["annotations"] = {} if text is None else {"modelrollout.io/layout": text}
    read = observe_service(body)
    assert read.backends is None
    assert read.weights == {A: WHOLE}
    assert differs(traffic_service(load_case("service-bluegreen").wish, PLANS["armed"][0]), body)


def test_nothing_there_and_somebody_elses() -> None:
    wish = load_case("service-bluegreen").wish
    assert observe_traffic(wish, lambda kind, name: None) == Route(probed=False)
    mine = stored(PLANS["armed"][0])
    assert observe_traffic(wish, lambda kind, name: mine).backends is not None
    mine["metadata"]["ownerReferences"][0]["uid"] = "of-another"
    assert observe_traffic(wish, lambda kind, name: mine) == Route(probed=False)
