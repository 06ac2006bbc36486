"""Which arm of an A/B test a request gets, by a small gateway that knows Gateway API's order of precedence."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest

from modelrollout.api.modeldeployment import ModelDeployment
from modelrollout.ports import Manifest
from modelrollout.render.readback import backends_of, observe_routes, split_of
from modelrollout.render.route import routes
from modelrollout.rollout.plan import WHOLE, RoutePlan, Slot
from tests.unit.render.cases import load_case

A, B = "digits-aaaaaaaaaa", "digits-bbbbbbbbbb"
WEIGHTED = "by weight"
PLANS = {
    "the split in slot 1": RoutePlan((Slot(A, 700_000), Slot(B, 300_000)), A, split=B),
    "the split in slot 0": RoutePlan((Slot(B, 300_000), Slot(A, 700_000)), A, split=B),
    "by match only": RoutePlan((Slot(A, WHOLE), Slot(B, 0)), A, split=B),
}


def wish(**test: Any) -> ModelDeployment:
    return load_case("abtest-split", rollout={"strategy": "ABTest", "abTest": test, "unguarded": True}).wish


FULL: dict[str, Any] = {
    "weight": 30,
    "match": [
        {"header": {"name": "x-group", "value": "beta"}},
        {"header": {"name": "x-team", "value": "vision"}},
        {"cookie": {"name": "exp", "value": "a+b"}},
    ],
}


def answering(route: Manifest, path: str, headers: dict[str, str]) -> str:
    """Who answers: path before number of headers before the order of the rules, as Gateway API says."""
    best: tuple[tuple[int, int, int], str] | None = None
    for index, rule in enumerate(route["spec"]["rules"]):
        for match in rule.get("matches") or [{}]:
            length = _path_length(match, path)
            if length is None or not all(_fits(header, headers) for header in match.get("headers") or ()):
                continue
            rank = (length, len(match.get("headers") or ()), -index)
            who = WEIGHTED if index == 0 else rule["backendRefs"][0]["name"]
            if best is None or rank > best[0]:
                best = (rank, who)
    assert best is not None
    return best[1]


def _path_length(match: dict[str, Any], path: str) -> int | None:
    if "method" in match:
        return len(match["method"]["service"]) if path.startswith(f"/{match['method']['service']}/") else None
    prefix = str((match.get("path") or {"value": "/"})["value"])
    return len(prefix) if path == prefix or path.startswith(prefix.rstrip("/") + "/") else None


def _fits(header: dict[str, str], headers: dict[str, str]) -> bool:
    value = headers.get(header["name"].lower())
    if value is None:
        return False
    return bool(re.fullmatch(header["value"], value)) if header["type"] != "Exact" else value == header["value"]


def expected(headers: dict[str, str]) -> str:
    """The header wins, then a rule of the spec, then the cookie, then the weights."""
    if headers.get("x-model-revision") in (A, B):
        return headers["x-model-revision"]
    cookies = dict(part.strip().split("=", 1) for part in headers.get("cookie", "").split(";") if "=" in part)
    ruled = headers.get("x-group") == "beta" or headers.get("x-team") == "vision" or cookies.get("exp") == "a+b"
    if ruled:
        return B
    return cookies["model-revision"] if cookies.get("model-revision") in (A, B) else WEIGHTED


PINS = (None, A, B, "digits-cccccccccc")
GROUPS = (None, "beta", "alpha")
TEAMS = (None, "vision")
COOKIES = (
    None,
    "exp=a+b",
    "exp=aab",
    "xexp=a+b",
    f"model-revision={A}",
    f"model-revision={B}",
    f"a=1; model-revision={A}; exp=a+b",
    f"exp=a+b; model-revision={A}",
    f"x-model-revision={A}",
    "model-revision=digits-cccccccccc; theme=dark",
)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_every_request_gets_the_arm_that_it_should(plan: RoutePlan) -> None:
    paths = {"HTTPRoute": "/v2/models/digits/infer", "GRPCRoute": "/inference.GRPCInferenceService/ModelInfer"}
    names = ("x-model-revision", "x-group", "x-team", "cookie")
    for route in routes(wish(**FULL), plan):
        for values in itertools.product(PINS, GROUPS, TEAMS, COOKIES):
            headers = {name: value for name, value in zip(names, values, strict=True) if value is not None}
            assert answering(route, paths[route["kind"]], headers) == expected(headers), (route["kind"], headers)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_without_rules_the_cookie_keeps_clients_on_any_path(plan: RoutePlan) -> None:
    (http, _) = routes(wish(), plan)
    for path, arm in itertools.product(("/", "/v2/models/digits"), (A, B)):
        assert answering(http, path, {"cookie": f"model-revision={arm}"}) == arm
        assert answering(http, path, {"x-model-revision": arm}) == arm


def test_both_arms_set_their_cookie_on_weighted_answers_only() -> None:
    for route in routes(wish(stickyCookie="arm", stickyFor="90m"), PLANS["the split in slot 1"]):
        weighted, *pinned = route["spec"]["rules"]
        for reference in weighted["backendRefs"]:
            (cookie,) = reference["filters"][0]["responseHeaderModifier"]["add"]
            assert cookie == {"name": "Set-Cookie", "value": f"arm={reference['name']}; Max-Age=5400; Path=/"}
        for rule in pinned:
            assert "add" not in rule["backendRefs"][0]["filters"][0]["responseHeaderModifier"]


def test_without_a_split_nothing_is_left_of_the_test() -> None:
    """Clients whose cookie names the arm that was taken back get the weights in the same write."""
    home = RoutePlan((Slot(A, WHOLE - 1), Slot(B, 1)), A)
    for route in routes(wish(**FULL), home):
        text = str(route)
        assert "ookie" not in text
        assert "x-group" not in text
        assert split_of(route) is None
        assert "annotations" not in route["metadata"]


def test_matches_stay_within_gateway_apis_limits() -> None:
    most = {"match": [{"header": {"name": f"x-{number}", "value": "v" * 128}} for number in range(6)]}
    for route in routes(wish(**most), PLANS["the split in slot 0"]):
        counts = [len(rule.get("matches") or ()) for rule in route["spec"]["rules"]]
        assert max(counts) <= 64
        assert sum(counts) <= 128
        for rule in route["spec"]["rules"]:
            for match in rule.get("matches") or ():
                names = [header["name"].lower() for header in match.get("headers") or ()]
                assert len(names) == len(set(names))


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_the_split_is_read_back(plan: RoutePlan) -> None:
    bodies = routes(wish(**FULL), plan)
    assert [split_of(body) for body in bodies] == [B, B]
    assert all(backends_of(body) is not None for body in bodies)
    read = observe_routes(bodies)
    assert read.split == B
    assert read.backends is not None


def test_a_split_without_its_cookies_or_of_a_stranger_is_none() -> None:
    def route() -> Manifest:
        return routes(wish(), PLANS["the split in slot 1"])[0]

    stripped = route()
    del stripped["spec"]["rules"][0]["backendRefs"][0]["filters"][0]["responseHeaderModifier"]["add"]
    assert split_of(stripped) is None
    stranger = route()
    stranger["metadata"]["annotations"]["modelrollout.io/split"] = "digits-cccccccccc"
    assert split_of(stranger) is None
    assert split_of({}) is None


def test_routes_that_differ_in_their_split_are_not_alike() -> None:
    http, _ = routes(wish(), PLANS["the split in slot 1"])
    _, grpc = routes(wish(), RoutePlan((Slot(A, 700_000), Slot(B, 300_000)), A))
    read = observe_routes([http, grpc])
    assert read.backends is None
    assert read.split == B


def test_a_split_to_a_revision_without_a_slot_is_refused() -> None:
    with pytest.raises(ValueError, match="no slot"):
        routes(wish(), RoutePlan((Slot(A, WHOLE), Slot(None, 0)), A, split=B))
