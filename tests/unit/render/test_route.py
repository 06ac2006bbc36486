"""Weights into routes and back."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from modelrollout.api.modeldeployment import ModelDeployment
from modelrollout.ports import Manifest
from modelrollout.render.readback import backends_of, observe_routes, route_state
from modelrollout.render.route import route_kinds, routes
from modelrollout.rollout.observed import Backend
from modelrollout.rollout.plan import ARMED, WHOLE, RoutePlan, Slot
from tests.unit.render.cases import load_case

A, B = "digits-aaaaaaaaaa", "digits-bbbbbbbbbb"
PLANS = {
    "one, slot 0": RoutePlan((Slot(A, WHOLE), Slot(None, 0)), A),
    "one, slot 1": RoutePlan((Slot(None, 0), Slot(A, WHOLE)), A),
    "armed": RoutePlan((Slot(A, WHOLE - ARMED), Slot(B, ARMED)), A),
    "half": RoutePlan((Slot(B, 500_000), Slot(A, 500_000)), A),
    "off, still there": RoutePlan((Slot(A, WHOLE), Slot(B, 0)), A),
}


def http_route(wish: ModelDeployment, plan: RoutePlan) -> Manifest:
    return next(body for body in routes(wish, plan) if body["kind"] == "HTTPRoute")


def grpc_route(wish: ModelDeployment, plan: RoutePlan) -> Manifest:
    return next(body for body in routes(wish, plan) if body["kind"] == "GRPCRoute")


def live(body: Manifest, generation: int = 3, **conditions: tuple[str, int]) -> Manifest:
    """As the API server would give it: ``conditions`` are (status, observedGeneration) by type."""
    found = copy.deepcopy(body)
    found["metadata"] |= {"uid": f"uid-{body['kind']}", "generation": generation}
    entries = [
        {"type": kind, "status": status, "reason": "Because", "message": "of\nthis", "observedGeneration": seen}
        for kind, (status, seen) in conditions.items()
    ]
    found["status"] = {"parents": [{"parentRef": dict(body["spec"]["parentRefs"][0]), "conditions": entries}]}
    return found


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_what_is_written_is_read_back(plan: RoutePlan) -> None:
    for body in routes(load_case("canary-s3").wish, plan):
        expected = tuple(Backend(slot.revision or plan.stable, slot.weight) for slot in plan.slots)
        assert backends_of(body) == expected
        assert sum(backend.weight for backend in expected) == WHOLE


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_both_protocols_carry_the_same_rules(plan: RoutePlan) -> None:
    http, grpc = routes(load_case("canary-s3").wish, plan)
    assert (http["kind"], grpc["kind"]) == ("HTTPRoute", "GRPCRoute")

    def arms(body: Manifest) -> list[list[tuple[str, int]]]:
        return [[(ref["name"], ref["weight"]) for ref in rule["backendRefs"]] for rule in body["spec"]["rules"]]

    assert arms(http) == arms(grpc)
    assert {ref["port"] for rule in http["spec"]["rules"] for ref in rule["backendRefs"]} == {8000}
    assert {ref["port"] for rule in grpc["spec"]["rules"] for ref in rule["backendRefs"]} == {8001}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_every_backend_names_itself_in_the_answer(plan: RoutePlan) -> None:
    for body in routes(load_case("canary-s3").wish, plan):
        for rule in body["spec"]["rules"]:
            for reference in rule["backendRefs"]:
                (header,) = reference["filters"][0]["responseHeaderModifier"]["set"]
                assert header == {"name": "x-model-revision", "value": reference["name"]}


def test_pinned_rules_follow_the_weighted_one_for_occupied_slots_only() -> None:
    def pinned(plan: RoutePlan) -> list[str]:
        rules = http_route(load_case("canary-s3").wish, plan)["spec"]["rules"]
        assert "headers" not in rules[0]["matches"][0]
        for rule in rules[1:]:
            (header,) = rule["matches"][0]["headers"]
            (backend,) = rule["backendRefs"]
            assert header == {"type": "Exact", "name": "x-model-revision", "value": backend["name"]}
        return [rule["backendRefs"][0]["name"] for rule in rules[1:]]

    assert pinned(PLANS["one, slot 1"]) == [A]
    assert pinned(PLANS["half"]) == [B, A]
    assert pinned(PLANS["off, still there"]) == [A, B]


@pytest.mark.parametrize(
    "slots",
    [
        (Slot(A, WHOLE), Slot(B, 1)),
        (Slot(A, 1), Slot(None, 1)),
        (Slot(A, WHOLE + 1), Slot(B, -1)),
        (Slot(A, 1), Slot(None, WHOLE - 1)),
    ],
)
def test_weights_that_are_not_the_whole_are_refused(slots: tuple[Slot, Slot]) -> None:
    with pytest.raises(ValueError, match="weight"):
        http_route(load_case("canary-s3").wish, RoutePlan(slots, A))


def test_only_what_is_asked_for() -> None:
    assert route_kinds(load_case("first-pvc-gpu").wish) == ("GRPCRoute",)
    assert route_kinds(load_case("first-minimal").wish) == ("HTTPRoute",)
    assert [body["kind"] for body in routes(load_case("first-minimal").wish, PLANS["half"])] == ["HTTPRoute"]


def test_the_gateways_namespace_defaults_to_the_own() -> None:
    (route,) = routes(load_case("first-pvc-gpu").wish, PLANS["half"])
    assert route["spec"]["parentRefs"][0]["namespace"] == "chat"


def test_no_request_is_cut_by_a_default_timeout() -> None:
    for rule in http_route(load_case("canary-s3").wish, PLANS["half"])["spec"]["rules"]:
        assert rule["timeouts"] == {"request": "0s"}


def change(body: Manifest, *path: Any, value: Any) -> Manifest:
    changed = copy.deepcopy(body)
    part: Any = changed
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    return changed


FIRST = ("spec", "rules", 0, "backendRefs")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (FIRST, []),
        ((*FIRST, 0, "name"), "digits-cccccccccc"),
        ((*FIRST, 1, "filters"), []),
        ((*FIRST, 1, "filters"), None),
        ((*FIRST, 1, "filters", 0, "responseHeaderModifier", "set", 0, "value"), "digits-cccccccccc"),
        (("spec", "rules"), []),
        (("spec", "rules", 0, "matches", 0, "headers"), [{"name": "x", "value": "y"}]),
        (("spec",), {}),
    ],
)
def test_a_rule_in_another_shape_is_no_reading(path: tuple[Any, ...], value: Any) -> None:
    body = http_route(load_case("canary-s3").wish, PLANS["half"])
    assert backends_of(body) is not None
    assert backends_of(change(body, *path, value=value)) is None


def test_weights_that_a_person_wrote_are_read_as_shares() -> None:
    """1 and 1 is half the traffic each, not two armed backends."""
    body = http_route(load_case("canary-s3").wish, PLANS["half"])
    for backend in body["spec"]["rules"][0]["backendRefs"]:
        backend["weight"] = 1
    read = observe_routes([live(body)])
    assert read.weights == {A: WHOLE // 2, B: WHOLE // 2}
    assert not read.taken_off(A, ARMED)
    assert read.backends == (Backend(B, 1), Backend(A, 1))


def test_routes_that_differ_have_no_common_weights() -> None:
    wish = load_case("canary-s3").wish
    seen = {"Accepted": ("True", 3), "ResolvedRefs": ("True", 3)}
    http, grpc = (live(body, **seen) for body in routes(wish, PLANS["half"]))
    other = live(grpc_route(wish, PLANS["armed"]), **seen)

    both = observe_routes([http, grpc])
    assert both.backends == (Backend(B, 500_000), Backend(A, 500_000))
    assert both.accepted
    assert both.token == "HTTPRoute/uid-HTTPRoute@3 GRPCRoute/uid-GRPCRoute@3"
    assert observe_routes([http, other]).backends is None
    missing = observe_routes([http, None])
    assert (missing.backends, missing.accepted) == (None, False)
    assert observe_routes([None, None]).token == ""
    assert not observe_routes([]).accepted


@pytest.mark.parametrize(
    ("conditions", "accepted", "rejected"),
    [
        ({"Accepted": ("True", 3), "ResolvedRefs": ("True", 3)}, True, False),
        ({"Accepted": ("True", 4), "ResolvedRefs": ("True", 3)}, True, False),
        ({"Accepted": ("True", 3), "ResolvedRefs": ("True", 2)}, False, False),
        ({"Accepted": ("True", 3)}, False, False),
        ({}, False, False),
        ({"Accepted": ("True", 3), "ResolvedRefs": ("False", 2)}, False, False),
        ({"Accepted": ("True", 3), "ResolvedRefs": ("False", 3)}, False, True),
        ({"Accepted": ("False", 3), "ResolvedRefs": ("True", 3)}, False, True),
        ({"Accepted": ("Unknown", 3), "ResolvedRefs": ("True", 3)}, False, False),
    ],
)
def test_only_this_generation_counts(conditions: dict[str, tuple[str, int]], accepted: bool, rejected: bool) -> None:
    body = http_route(load_case("canary-s3").wish, PLANS["half"])
    state = route_state(live(body, **conditions))
    assert state.accepted is accepted
    assert (state.rejection is not None) is rejected
    if rejected:
        assert state.rejection == "Gateway inference refuses the HTTPRoute: Because: of this"


def test_another_parents_answer_does_not_count() -> None:
    body = http_route(load_case("canary-s3").wish, PLANS["half"])
    seen = live(body, Accepted=("True", 3), ResolvedRefs=("True", 3))
    seen["status"]["parents"][0]["parentRef"]["name"] = "another"
    assert not route_state(seen).accepted


def test_a_parent_without_namespace_is_in_the_routes_own() -> None:
    (body,) = routes(load_case("first-pvc-gpu").wish, PLANS["half"])
    seen = live(body, Accepted=("True", 3), ResolvedRefs=("True", 3))
    del seen["status"]["parents"][0]["parentRef"]["namespace"]
    assert route_state(seen).accepted


def test_a_rejection_is_bounded() -> None:
    seen = live(http_route(load_case("canary-s3").wish, PLANS["half"]), Accepted=("False", 3))
    seen["status"]["parents"][0]["conditions"][0]["message"] = "x\x1b[31m\n" * 5000
    rejection = route_state(seen).rejection
    assert rejection is not None
    assert len(rejection) <= 320
    assert rejection.isprintable()
