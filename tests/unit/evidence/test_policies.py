"""The merge rule of policies: who wins, what is told, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from modelrollout.api.modeldeployment import ModelDeployment, parse_modeldeployment
from modelrollout.api.rolloutspec import PolicyKind
from modelrollout.cli.view.origins import origin_words
from modelrollout.evidence.policies import OWN, KnownPolicy, Resolution, read_policy, resolve
from modelrollout.render.trim import trim
from tests.builders import ERRORS, NAMESPACE, manifest

Manifest = dict[str, Any]


def guard(name: str, most: float = 0.1, **fields: Any) -> Manifest:
    return {"name": name, "sli": "error-ratio", "max": most, **fields}


def policy(
    name: str,
    *guards: Manifest,
    cluster: bool = False,
    namespace: str = NAMESPACE,
    selector: Manifest | None = None,
    slis: tuple[Manifest, ...] = (),
) -> KnownPolicy:
    spec: Manifest = {"guards": list(guards), "slis": list(slis)}
    if selector is not None:
        spec["selector"] = {"matchLabels": selector}
    kind = "ClusterRolloutPolicy" if cluster else "RolloutPolicy"
    metadata = {"name": name} if cluster else {"name": name, "namespace": namespace}
    raw = {"apiVersion": "modelrollout.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}
    return read_policy({key: value for key, value in raw.items() if value})


def sli(name: str, **fields: Any) -> Manifest:
    return {"name": name, "unit": "ratio", "query": 'max(x{revision="$revision"})', **fields}


def wish(
    *names: str, guards: tuple[Manifest, ...] = (), labels: Manifest | None = None, **rollout: Any
) -> ModelDeployment:
    references = [{"name": name.removeprefix("cluster/"), "kind": _kind(name)} for name in names]
    raw = manifest(guards=guards, policies=references, **{"unguarded": False, **rollout})
    raw["metadata"]["labels"] = labels or {}
    return parse_modeldeployment(raw)


def _kind(name: str) -> str:
    return "ClusterRolloutPolicy" if name.startswith("cluster/") else "RolloutPolicy"


def bounds(found: Resolution) -> dict[str, float | None]:
    return {each.name: each.max for each in found.wish.spec.rollout.guards}


def sources(found: Resolution) -> dict[str, str]:
    return {each.guard: each.source for each in found.origins}


def test_without_policies_the_wish_is_left_as_it_is() -> None:
    own = wish(guards=(ERRORS,))
    found = resolve(own, [policy("other", guard("a"), selector={"team": "x"}), policy("unused", guard("b"))])
    assert found.wish is own
    assert (found.problem, found.definitions) == (None, ())
    assert sources(found) == {"errors": OWN}


def test_the_order_is_cluster_by_selector_then_namespace_by_selector_then_named_then_own() -> None:
    known = [
        policy("b-team", guard("two", 0.22), guard("three", 0.23), selector={}),
        policy("a-team", guard("two", 0.21), guard("one", 0.20), selector={}),
        policy(
            "house", *(guard(name, 0.11) for name in ("one", "two", "three", "four", "five")), selector={}, cluster=True
        ),
        policy("named", guard("four", 0.4), guard("three", 0.41)),
        policy("later", guard("four", 0.5), cluster=True),
    ]
    found = resolve(wish("named", "cluster/later", guards=(guard("five", 0.6),)), known)
    assert found.problem is None
    assert bounds(found) == {"one": 0.20, "two": 0.22, "three": 0.41, "four": 0.5, "five": 0.6}
    assert sources(found) == {
        "one": "RolloutPolicy a-team",
        "two": "RolloutPolicy b-team",
        "three": "RolloutPolicy named",
        "four": "ClusterRolloutPolicy later",
        "five": OWN,
    }
    instead = {each.guard: each.instead_of for each in found.origins}
    assert instead["four"] == ("ClusterRolloutPolicy house", "RolloutPolicy named")
    assert instead["five"] == ("ClusterRolloutPolicy house",)
    assert [each.guard for each in found.origins] == [each.name for each in found.wish.spec.rollout.guards]


def test_the_order_in_which_policies_are_seen_does_not_matter() -> None:
    known = [policy(name, guard("a", most), selector={}) for name, most in (("x", 0.1), ("y", 0.2), ("z", 0.3))]
    for order in (known, known[::-1], known[1:] + known[:1]):
        assert bounds(resolve(wish(guards=(ERRORS,)), order))["a"] == 0.3


def test_a_guard_counts_whole() -> None:
    """Nothing of the one that it takes the place of is left, not even what it leaves out."""
    known = [policy("house", guard("errors", 0.5, minSamples=500, onBreach="Pause"), cluster=True, selector={})]
    (found,) = resolve(
        wish(guards=({"name": "errors", "sli": "latency-p99", "max": 1},)), known
    ).wish.spec.rollout.guards
    assert (found.sli, found.max, found.min_samples, str(found.on_breach)) == ("latency-p99", 1, 0, "Rollback")


def test_a_selected_policy_that_is_named_too_counts_at_the_later_place() -> None:
    known = [policy("a", guard("x", 0.1), selector={}), policy("b", guard("x", 0.2), selector={})]
    found = resolve(wish("a"), known)
    assert bounds(found) == {"x": 0.1}
    (origin,) = found.origins
    assert (origin.source, origin.selected, origin.instead_of) == ("RolloutPolicy a", False, ("RolloutPolicy b",))


@pytest.mark.parametrize(
    ("selector", "labels", "taken"),
    [
        ({}, {}, True),
        ({"team": "a"}, {"team": "a", "tier": "1"}, True),
        ({"team": "a", "tier": "1"}, {"team": "a"}, False),
        ({"team": "a"}, {"team": "b"}, False),
        ({"team": ""}, {}, False),
        (None, {}, False),
    ],
    ids=str,
)
@pytest.mark.parametrize("cluster", [False, True])
def test_selectors(selector: Manifest | None, labels: Manifest, taken: bool, cluster: bool) -> None:
    found = resolve(
        wish(guards=(ERRORS,), labels=labels), [policy("p", guard("a"), selector=selector, cluster=cluster)]
    )
    assert ("a" in bounds(found)) is taken


def test_policies_of_another_namespace_are_out_of_reach() -> None:
    elsewhere = policy("p", guard("a"), namespace="elsewhere", selector={})
    assert resolve(wish(guards=(ERRORS,)), [elsewhere]).wish == wish(guards=(ERRORS,))
    assert "which does not exist" in (resolve(wish("p", guards=(ERRORS,)), [elsewhere]).problem or "")


def test_unguarded_takes_none() -> None:
    bare = wish(unguarded=True)
    found = resolve(bare, [policy("p", guard("a"), selector={}, cluster=True)])
    assert found.wish is bare
    assert (found.origins, found.problem) == ((), None)


def test_an_unknown_policy_is_named() -> None:
    found = resolve(wish("cluster/house", guards=(ERRORS,)), [policy("house", guard("a"))])
    assert (found.problem or "").startswith(
        "rollout.policies names ClusterRolloutPolicy house, which does not exist here"
    )
    assert bounds(found) == {"errors": 0.05}


@pytest.mark.parametrize(
    ("asked", "there", "says"),
    [
        (
            "house",
            "cluster/house",
            "but there is a ClusterRolloutPolicy of that name: write kind: ClusterRolloutPolicy",
        ),
        ("cluster/house", "house", "but there is a RolloutPolicy of that name: write kind: RolloutPolicy"),
        ("huose", "house", "RolloutPolicy huose, which does not exist here; did you mean house?"),
        ("cluster/huose", "house", "names ClusterRolloutPolicy huose, which does not exist here"),
    ],
)
def test_an_unknown_policy_is_told_with_what_may_be_meant(asked: str, there: str, says: str) -> None:
    known = policy(there.removeprefix("cluster/"), guard("a"), cluster=there.startswith("cluster/"))
    assert (resolve(wish(asked, guards=(ERRORS,)), [known]).problem or "").endswith(says)


def test_policies_without_guards_are_no_guards() -> None:
    found = resolve(wish("p"), [policy("p", slis=(sli("price"),))])
    assert (found.problem or "").startswith("its policies have no guards: a rollout needs guards")
    assert resolve(wish("p", guards=(ERRORS,)), [policy("p", slis=(sli("price"),))]).problem is None


def test_selected_policies_that_are_relied_on_are_enough() -> None:
    found = resolve(wish(selectedPolicies=True), [policy("p", guard("a"), selector={})])
    assert (found.problem, found.guardless, bounds(found)) == (None, False, {"a": 0.1})


def test_a_test_of_two_arms_may_be_decided_by_selected_guards() -> None:
    test = {"strategy": "ABTest", "canary": None, "abTest": {"decide": "Guards"}, "selectedPolicies": True}
    assert resolve(wish(**test), [policy("p", guard("a"), selector={})]).problem is None
    assert resolve(wish(**test), []).guardless


def test_one_that_relies_on_selectors_and_has_a_guard_otherwise_is_no_problem() -> None:
    assert resolve(wish(guards=(ERRORS,), selectedPolicies=True), []).problem is None
    assert resolve(wish("p", selectedPolicies=True), [policy("p", guard("a"))]).problem is None


def test_selectors_that_are_relied_on_and_take_nobody_are_a_problem_that_says_what_to_do() -> None:
    known = [
        policy("named-only", guard("a")),
        policy("gold", guard("a"), selector={"tier": "gold"}),
        policy("house", guard("a"), selector={"tier": "gold", "team": "a"}, cluster=True),
        policy("far", guard("a"), selector={}, namespace="elsewhere"),
    ]
    for order in (known, known[::-1]):
        found = resolve(wish(labels={"team": "a", "app": "x"}, selectedPolicies=True), order)
        assert (found.guardless, bounds(found)) == (True, {})
        assert found.problem == (
            "rollout.selectedPolicies is true, and no policy gives it a guard by its labels (app=x, team=a): give it "
            "labels that a policy's selector takes, name a policy in rollout.policies, or set rollout.guards. In "
            "reach: ClusterRolloutPolicy house (team=a, tier=gold), RolloutPolicy gold (tier=gold), RolloutPolicy "
            "named-only (no selector, by name only)"
        )
    nothing = resolve(wish(selectedPolicies=True), [], frozenset({PolicyKind.CLUSTER_ROLLOUT_POLICY}))
    assert "by its labels (none)" in (nothing.problem or "")
    assert (nothing.problem or "").endswith("In reach: no policy; the operator may not read ClusterRolloutPolicies")


def test_selected_policies_without_guards_are_told() -> None:
    found = resolve(wish(selectedPolicies=True), [policy("p", slis=(sli("price"),), selector={})])
    assert (found.problem or "").endswith(
        "(none); those that take it have none: RolloutPolicy p. Give one of them guards, or set rollout.guards"
    )


def test_a_broken_policy_is_told_rather_than_that_there_are_no_guards() -> None:
    found = resolve(wish(labels={"team": "a"}, selectedPolicies=True), [read_policy(BROKEN)])
    assert (found.problem or "").startswith("RolloutPolicy broken cannot be used")
    assert not found.guardless


def test_many_policies_and_labels_make_no_endless_sentence() -> None:
    known = [policy(f"p{number}", guard("a"), selector={f"l{n}": "x" for n in range(9)}) for number in range(40)]
    found = resolve(wish(labels={f"k{n}": "v" for n in range(40)}, selectedPolicies=True), known)
    assert "k12=v and 35 more" in (found.problem or "")
    assert len(found.problem or "") <= 500


def test_more_guards_than_are_judged_are_refused_and_the_own_ones_kept() -> None:
    known = [policy("p", *(guard(f"g{number}") for number in range(20)), selector={})]
    assert resolve(wish(guards=(guard("g3", 0.2),)), known).problem is None
    found = resolve(wish(guards=(ERRORS,)), known)
    assert found.problem == (
        "policies and spec make 21 guards, at most 20 are judged: 20 of RolloutPolicy p, 1 of spec.rollout.guards"
    )
    assert len(found.origins) == 20
    assert "errors" in bounds(found)


BROKEN: Manifest = {
    "kind": "RolloutPolicy",
    "metadata": {"name": "broken", "namespace": NAMESPACE},
    "spec": {"selector": {"matchLabels": {"team": "a"}}, "guards": [{"name": "a", "sli": "error-ratio"}]},
}


def test_a_broken_policy_is_a_problem_of_those_that_use_it_only() -> None:
    known = [read_policy(BROKEN), policy("good", guard("b"), selector={})]
    for user in (wish("broken", guards=(ERRORS,)), wish(guards=(ERRORS,), labels={"team": "a"})):
        found = resolve(user, known)
        assert (found.problem or "").startswith("RolloutPolicy broken cannot be used: spec.guards[0]: set max, min or")
        assert set(bounds(found)) == {"b", "errors"}
    other = resolve(wish(guards=(ERRORS,), labels={"team": "b"}), known)
    assert other.problem is None
    assert set(bounds(other)) == {"b", "errors"}


def test_an_object_as_the_cache_keeps_it_is_read() -> None:
    raw = {**BROKEN, "spec": {"guards": [guard("a")]}}
    assert read_policy(trim("RolloutPolicy", raw)).problem == ""


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"kind": "RolloutPolicy"},
        {"kind": "ClusterRolloutPolicy", "metadata": {"name": "p"}, "spec": None},
        {"kind": "ClusterRolloutPolicy", "metadata": {"name": "p"}, "spec": []},
        {"kind": "ClusterRolloutPolicy", "metadata": {"name": "p"}, "spec": {"selector": 5}},
        {"kind": "ClusterRolloutPolicy", "metadata": {"name": "p"}, "spec": {"selector": {"matchLabels": {"a": 1}}}},
        {"kind": "ClusterRolloutPolicy", "metadata": {"name": "p"}, "spec": {"slis": [None], "guards": "x"}},
    ],
    ids=str,
)
def test_nothing_that_the_api_server_could_hold_raises(raw: Manifest) -> None:
    found = read_policy(raw)
    assert (found.spec, found.selector) == (None, None)
    assert found.problem


def test_only_definitions_that_are_used_are_told_and_the_last_counts() -> None:
    known = [
        policy("a", slis=(sli("price", unit="eur"), sli("unused")), selector={}, cluster=True),
        policy("b", {"name": "price", "sli": "price", "max": 2}, slis=(sli("price", unit="usd"),)),
    ]
    (definition,) = resolve(wish("b"), known).definitions
    assert (definition.name, definition.unit) == ("price", "usd")


def test_whose_definition_of_an_sli_counts_is_told() -> None:
    known = [
        policy("a", guard("p", sli="price"), slis=(sli("price"),), selector={}, cluster=True),
        policy("b", guard("q"), slis=(sli("price"), sli("latency-p99")), selector={}),
    ]
    found = resolve(wish(guards=({"name": "own", "sli": "latency-p99", "max": 1},)), known)
    assert {each.guard: each.definer for each in found.origins} == {
        "p": "RolloutPolicy b",
        "q": "",
        "own": "RolloutPolicy b",
    }
    assert [origin_words(each) for each in found.origins] == [
        "of ClusterRolloutPolicy a by its selector; its SLI as RolloutPolicy b defines it",
        "of RolloutPolicy b by its selector",
        "its own; its SLI as RolloutPolicy b defines it",
    ]


@pytest.mark.parametrize(
    ("asks", "says"),
    [
        ({"relativeTo": "stable"}, "guard price: relativeTo and confidence need counts, and RolloutPolicy p defines"),
        ({"max": 1, "confidence": 0.99}, "guard price: relativeTo and confidence need counts"),
        (
            {"max": 1, "minSamples": 10},
            "guard price: minSamples needs the query `samples`, which price of Rollout",
        ),
    ],
    ids=str,
)
def test_a_guard_may_not_ask_more_of_a_defined_sli_than_it_has(asks: Manifest, says: str) -> None:
    known = [policy("p", slis=(sli("price"),), selector={})]
    found = resolve(wish(guards=({"name": "price", "sli": "price", **asks},)), known)
    assert (found.problem or "").startswith(says)


def test_problems_of_a_guard_name_the_policy_that_brought_it() -> None:
    found = resolve(wish("p", guards=(ERRORS,)), [policy("p", guard("a"))])
    assert found.explained("guard a: is odd") == "guard a: is odd (the guard is of RolloutPolicy p)"
    assert found.explained("guard errors: is odd") == "guard errors: is odd"
    assert found.explained(None) is None


def test_problems_of_an_sli_name_the_policy_that_defines_it() -> None:
    known = [
        policy("a", guard("p", sli="price"), selector={}, cluster=True),
        policy("b", slis=(sli("price"), sli("cost")), selector={}),
    ]
    found = resolve(wish(guards=({"name": "own", "sli": "cost", "max": 1},)), known)
    assert (
        found.explained("guard p: odd")
        == "guard p: odd (the guard is of ClusterRolloutPolicy a, its SLI of RolloutPolicy b)"
    )
    assert found.explained("guard own: odd") == "guard own: odd (its SLI of RolloutPolicy b)"
