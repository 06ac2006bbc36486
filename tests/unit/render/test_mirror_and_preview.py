"""Copies for the candidate, and the routes of the preview hostnames."""

from __future__ import annotations

from typing import Any

import pytest

from modelrollout.ports import Manifest
from modelrollout.render.difference import differs
from modelrollout.render.names import observer
from modelrollout.render.readback import backends_of, mirror_of, observe_routes, observe_traffic
from modelrollout.render.route import preview_kinds, preview_routes, routes, without_observer
from modelrollout.render.service import observer_service
from modelrollout.rollout.observed import Backend
from modelrollout.rollout.plan import WHOLE, Mirror, RoutePlan, Slot
from tests.unit.render.cases import load_case
from tests.unit.render.test_route import live

A, B = "digits-aaaaaaaaaa", "digits-bbbbbbbbbb"
SLOTS = (Slot(A, WHOLE), Slot(B, 0))
SHADOW = RoutePlan(SLOTS, A, mirror=Mirror(B, 2_500))
PLAIN = RoutePlan(SLOTS, A)
TAKEN = {"Accepted": ("True", 3), "ResolvedRefs": ("True", 3)}


def test_users_requests_are_copied_and_pinned_ones_are_not() -> None:
    for body, port in zip(routes(load_case("shadow-mirror").wish, SHADOW), (8000, 8001), strict=True):
        weighted, *pinned = body["spec"]["rules"]
        (mirror,) = weighted["filters"]
        assert mirror["requestMirror"]["backendRef"]["name"] == B
        assert mirror["requestMirror"]["backendRef"]["port"] == port
        assert all("filters" not in rule for rule in pinned)
        assert [rule["backendRefs"][0]["name"] for rule in pinned] == [A, B]


@pytest.mark.parametrize("weight", [10, 2_500, 333_333, WHOLE])
def test_a_mirror_is_read_back(weight: int) -> None:
    bodies = routes(load_case("shadow-mirror").wish, RoutePlan(SLOTS, A, mirror=Mirror(B, weight)))
    read = observe_routes(bodies)
    assert read.mirror == (B, weight)
    assert read.backends == (Backend(A, WHOLE), Backend(B, 0))
    assert observe_routes(routes(load_case("shadow-mirror").wish, PLAIN)).mirror is None


@pytest.mark.parametrize(
    ("share", "parts"),
    [({"percent": 7}, 70_000), ({"fraction": {"numerator": 1}}, 10_000), ({}, WHOLE), ({"percent": 0}, 0)],
)
def test_a_share_that_a_person_wrote_is_read_in_any_unit(share: dict[str, Any], parts: int) -> None:
    (body, _) = routes(load_case("shadow-mirror").wish, SHADOW)
    mirror = body["spec"]["rules"][0]["filters"][0]["requestMirror"]
    del mirror["fraction"]
    mirror |= share
    assert mirror_of(body) == (B, parts)
    assert mirror_of({}) is None


def test_routes_that_differ_in_their_mirror_are_not_alike() -> None:
    wish = load_case("shadow-mirror").wish
    read = observe_routes([routes(wish, SHADOW)[0], routes(wish, PLAIN)[1]])
    assert (read.backends, read.mirror) == (None, (B, 2_500))


@pytest.mark.parametrize("weight", [0, -1, WHOLE + 1])
def test_a_mirror_of_nothing_is_refused(weight: int) -> None:
    with pytest.raises(ValueError, match="mirror"):
        routes(load_case("shadow-mirror").wish, RoutePlan(SLOTS, A, mirror=Mirror(B, weight)))


def test_a_mirror_that_shall_go_is_a_difference() -> None:
    """Nothing of a route without a mirror speaks of filters, so what was added must be looked for."""
    wish = load_case("shadow-mirror").wish
    for plain, shadow in zip(routes(wish, PLAIN), routes(wish, SHADOW), strict=True):
        assert differs(plain, shadow)
        assert differs(shadow, plain)
        assert not differs(plain, plain)


def add_cookie(body: Manifest) -> None:
    modifier = body["spec"]["rules"][1]["backendRefs"][0]["filters"][0]["responseHeaderModifier"]
    modifier["add"] = [{"name": "Set-Cookie", "value": "a=b"}]


def add_match(body: Manifest) -> None:
    rule = body["spec"]["rules"][0]
    rule["matches"] = [{**(rule.get("matches") or [{}])[0], "headers": [{"name": "x", "value": "y"}]}]


def add_filter(body: Manifest) -> None:
    body["spec"]["rules"][1]["filters"] = [{"type": "RequestHeaderModifier"}]


@pytest.mark.parametrize("change", [add_cookie, add_match, add_filter])
def test_what_somebody_adds_to_a_rule_is_a_difference(change: Any) -> None:
    for desired in routes(load_case("shadow-mirror").wish, PLAIN):
        (changed,) = (
            body for body in routes(load_case("shadow-mirror").wish, PLAIN) if body["kind"] == desired["kind"]
        )
        change(changed)
        assert differs(desired, changed), desired["kind"]


def test_defaults_of_the_api_server_are_none() -> None:
    (body, _) = routes(load_case("shadow-mirror").wish, PLAIN)
    stored = live(body)
    for rule in stored["spec"]["rules"]:
        rule["filters"] = []
        rule["name"] = "weighted"
    assert not differs(body, stored)


def test_previews_lead_to_one_revision() -> None:
    wish = load_case("bluegreen-preview").wish
    assert preview_kinds(wish) == ("HTTPRoute", "GRPCRoute")
    for plan, expected in ((RoutePlan(SLOTS, A, preview=B), B), (PLAIN, A)):
        for body in preview_routes(wish, plan):
            assert body["metadata"]["name"] == "digits--preview"
            (rule,) = body["spec"]["rules"]
            (backend,) = rule["backendRefs"]
            assert backend["name"] == expected
            assert backend["filters"][0]["responseHeaderModifier"]["set"][0]["value"] == expected
    assert preview_routes(wish, PLAIN)[0]["spec"]["hostnames"] == ["digits-next.example.com"]
    assert preview_routes(load_case("canary-s3").wish, PLAIN) == ()


def test_a_refused_preview_is_told_and_holds_nobody_up() -> None:
    wish = load_case("bluegreen-preview").wish
    (main,) = routes(wish, PLAIN)
    http, grpc = preview_routes(wish, PLAIN)
    found = {
        ("HTTPRoute", "digits"): live(main, **TAKEN),
        ("HTTPRoute", "digits--preview"): live(http, Accepted=("False", 3)),
        ("GRPCRoute", "digits--preview"): live(grpc, **TAKEN),
    }
    read = observe_traffic(wish, lambda kind, name: found.get((kind, name)))
    assert read.accepted
    assert read.rejection == "Gateway inference refuses the HTTPRoute: Because: of this"
    assert read.backends == backends_of(main)
    found.pop(("HTTPRoute", "digits--preview"))
    assert observe_traffic(wish, lambda kind, name: found.get((kind, name))).rejection is None


def test_routes_of_another_owner_are_not_read() -> None:
    wish = load_case("bluegreen-preview").wish
    stranger = live(routes(wish, PLAIN)[0], **TAKEN)
    stranger["metadata"]["ownerReferences"][0]["uid"] = "of-another"
    read = observe_traffic(wish, lambda kind, name: stranger if kind == "HTTPRoute" else None)
    assert (read.backends, read.token, read.probed) == (None, "", True)


OBSERVED = RoutePlan(SLOTS, A, mirror=Mirror(B, 2_500), observe=125_000)


def test_copies_for_the_observer_come_last_and_are_nobodys_trial() -> None:
    wish = load_case("shadow-mirror").wish
    bodies = routes(wish, OBSERVED)
    for body, port in zip(bodies, (8000, 8001), strict=True):
        weighted, *pinned = body["spec"]["rules"]
        mirrors = [entry["requestMirror"] for entry in weighted["filters"]]
        copies = observer(wish.metadata.name)
        assert [mirror["backendRef"]["name"] for mirror in mirrors] == [B, copies]
        assert mirrors[1]["backendRef"]["port"] == port
        assert mirrors[1]["fraction"] == {"numerator": 125_000, "denominator": WHOLE}
        assert all("filters" not in rule for rule in pinned)
    read = observe_routes(bodies)
    assert (read.mirror, read.observe) == ((B, 2_500), 125_000)
    assert observe_routes(routes(wish, SHADOW)).observe == 0


def test_a_grpc_route_names_the_observer_as_a_backend_without_weight_too() -> None:
    """Envoy Gateway loads no Service that only a mirror of a GRPCRoute names, and answers everybody with 500."""
    wish = load_case("shadow-mirror").wish
    copies = observer(wish.metadata.name)
    by_kind = {body["kind"]: body["spec"]["rules"] for body in routes(wish, OBSERVED)}
    named = {
        kind: [[(entry["name"], entry["weight"]) for entry in rule["backendRefs"]] for rule in rules]
        for kind, rules in by_kind.items()
    }
    weighted = [(A, WHOLE), (B, 0)]
    assert named["GRPCRoute"] == [weighted, [(A, 1), (copies, 0)], [(B, 1)]]
    assert named["HTTPRoute"] == [weighted, [(A, 1)], [(B, 1)]]


def test_routes_that_differ_in_the_copies_for_the_observer_only_are_alike() -> None:
    wish = load_case("shadow-mirror").wish
    read = observe_routes([routes(wish, OBSERVED)[0], routes(wish, SHADOW)[1]])
    assert read.backends == (Backend(A, WHOLE), Backend(B, 0))
    assert read.observe == 125_000


def test_a_route_is_written_without_them_and_otherwise_as_it_is() -> None:
    wish = load_case("shadow-mirror").wish
    for observed, without in zip(routes(wish, OBSERVED), routes(wish, SHADOW), strict=True):
        found = without_observer({**observed, "status": {"parents": []}})
        assert found == without
        assert without_observer(without) is None
        assert differs(observed, without)
        assert differs(without, observed)
    plain = routes(wish, RoutePlan(SLOTS, A, observe=1))[0]
    assert without_observer(plain) == routes(wish, PLAIN)[0]


def test_previews_are_not_copied() -> None:
    for body in preview_routes(load_case("bluegreen-preview").wish, RoutePlan(SLOTS, A, preview=B, observe=WHOLE)):
        assert all("filters" not in rule for rule in body["spec"]["rules"])


@pytest.mark.parametrize("share", [-1, WHOLE + 1])
def test_a_share_that_cannot_be_is_refused(share: int) -> None:
    with pytest.raises(ValueError, match="the observer's share"):
        routes(load_case("shadow-mirror").wish, RoutePlan(SLOTS, A, observe=share))


def test_the_service_of_the_copies_finds_the_pods_that_the_platforms_finds() -> None:
    wish = load_case("shadow-mirror").wish
    platforms = {
        "spec": {
            "selector": {"app": "observer"},
            "ports": [
                {"name": "http", "port": 8000, "targetPort": "http", "nodePort": 31000},
                {"name": "grpc", "port": 8001, "targetPort": 9001, "appProtocol": "kubernetes.io/h2c"},
                {"name": "metrics", "port": 9100},
            ],
        }
    }
    body = observer_service(wish, platforms)
    assert body["metadata"]["name"] == f"{wish.metadata.name}--observer"
    assert body["metadata"]["ownerReferences"][0]["uid"] == wish.metadata.uid
    assert body["spec"] == {
        "type": "ClusterIP",
        "selector": {"app": "observer"},
        "ports": [
            {"name": "http", "port": 8000, "targetPort": "http"},
            {"name": "grpc", "port": 8001, "targetPort": 9001, "appProtocol": "kubernetes.io/h2c"},
        ],
    }
