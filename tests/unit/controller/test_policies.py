"""Who is woken when a policy comes, changes or goes, and who is not."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from modelrollout.api.modeldeployment import parse_modeldeployment
from modelrollout.api.rolloutspec import PolicyKind
from modelrollout.controller.cache import Cache, Key, namespace_key
from modelrollout.controller.policies import Policies
from modelrollout.handlers.watching import KINDS, key_of
from modelrollout.render.trim import trim
from tests.builders import ERRORS, NAMESPACE, Manifest, manifest

HOUSE = {"kind": "ClusterRolloutPolicy", "name": "house"}


class Bench:
    """A cache with its follower."""

    def __init__(self) -> None:
        self.woken: list[str] = []
        self.cache = Cache(trim)
        self.policies = Policies(lambda key: self.woken.append(f"{key.namespace}/{key.name}"))
        self.cache.follow(self.policies)
        self.version = 0

    def user(
        self, name: str, *named: Manifest, namespace: str = NAMESPACE, relies: bool = False, **labels: str
    ) -> None:
        body = manifest(policies=list(named), **({"selectedPolicies": True} if relies else {}))
        body["metadata"] |= {"name": name, "namespace": namespace, "uid": f"uid-{name}", "labels": labels}
        self._put(Key(namespace, name), body)

    def policy(self, name: str, most: float = 0.1, *, namespace: str = "", **spec: Any) -> None:
        kind = "RolloutPolicy" if namespace else "ClusterRolloutPolicy"
        metadata = {"name": name, "uid": f"uid-{name}"} | ({"namespace": namespace} if namespace else {})
        guards = [{**ERRORS, "name": "house", "max": most}]
        body = {"apiVersion": "modelrollout.io/v1alpha1", "kind": kind, "metadata": metadata}
        body["spec"] = {"guards": guards, **spec}
        self._put(self._key(kind, body), body)

    def gone(self, name: str, *, namespace: str = "") -> None:
        kind = "RolloutPolicy" if namespace else "ClusterRolloutPolicy"
        self.cache.remove(namespace_key(namespace), kind, name, f"uid-{name}")

    @staticmethod
    def _key(kind: str, body: Manifest) -> Key:
        (watched,) = (each for each in KINDS if each.kind == kind)
        key = key_of(watched, body)
        assert key is not None
        return key

    def _put(self, key: Key, body: Manifest) -> None:
        self.version += 1
        body["metadata"]["resourceVersion"] = str(self.version)
        self.cache.put(key, body)

    def since(self) -> list[str]:
        """Who was woken since the last look."""
        woken, self.woken = self.woken, []
        return woken


@pytest.fixture
def bench() -> Bench:
    found = Bench()
    found.user("named", HOUSE)
    found.user("selected", tier="gold")
    found.user("elsewhere", namespace="other", tier="gold")
    found.user("bystander")
    return found


def test_only_those_that_a_policy_concerns_are_woken(bench: Bench) -> None:
    bench.policy("house")
    assert bench.since() == ["demo/named"]
    bench.policy("gold", selector={"matchLabels": {"tier": "gold"}})
    assert bench.since() == ["demo/selected", "other/elsewhere"]
    bench.policy("gold", namespace=NAMESPACE, selector={"matchLabels": {"tier": "gold"}})
    assert bench.since() == ["demo/selected"]
    bench.policy("nobodys")
    assert bench.since() == []


def test_one_that_names_the_other_kind_is_woken_too(bench: Bench) -> None:
    """It is told that there is one of that name: it left ``kind`` out."""
    bench.policy("house", namespace=NAMESPACE)
    assert bench.since() == ["demo/named"]


def test_those_that_it_no_longer_takes_are_woken_too(bench: Bench) -> None:
    bench.policy("gold", selector={"matchLabels": {"tier": "gold"}})
    bench.since()
    bench.policy("gold", selector={"matchLabels": {"tier": "silver"}})
    assert bench.since() == ["demo/selected", "other/elsewhere"]
    bench.policy("gold", 0.2, selector={"matchLabels": {"tier": "silver"}})
    assert bench.since() == []
    bench.policy("house")
    bench.since()
    bench.gone("house")
    assert bench.since() == ["demo/named"]


def test_one_that_relies_on_selectors_hears_of_all_in_reach_until_one_takes_it(bench: Bench) -> None:
    """Its sentence lists them: it must not go on naming what is gone, nor leave out what came."""
    bench.user("relying", relies=True, tier="gold")
    silver = {"matchLabels": {"tier": "silver"}}
    bench.policy("silver", namespace=NAMESPACE, selector=silver)
    assert bench.since() == ["demo/relying"]
    bench.policy("silver", namespace="other", selector=silver)
    assert bench.since() == []
    bench.gone("silver", namespace=NAMESPACE)
    assert bench.since() == ["demo/relying"]
    bench.policy("gold", namespace=NAMESPACE, selector={"matchLabels": {"tier": "gold"}})
    assert bench.since() == ["demo/relying", "demo/selected"]
    bench.policy("silver", namespace=NAMESPACE, selector=silver)
    assert bench.since() == []
    bench.gone("gold", namespace=NAMESPACE)
    assert bench.since() == ["demo/relying", "demo/selected"]


def test_a_list_that_shows_the_same_again_wakes_nobody(bench: Bench) -> None:
    bench.policy("house")
    bench.since()
    bench.policy("house")
    assert bench.since() == []


def test_a_deployment_that_is_gone_is_not_woken(bench: Bench) -> None:
    bench.cache.remove(Key(NAMESPACE, "named"), "ModelDeployment", "named", "uid-named")
    bench.policy("house")
    assert bench.since() == []


def test_what_is_known_is_resolved(bench: Bench) -> None:
    bench.policy("house", 0.3)
    bench.policy("house", 0.4, namespace="other")
    raw = bench.cache.get(Key(NAMESPACE, "named"), "ModelDeployment", "named")
    found = bench.policies.resolve(parse_modeldeployment(raw))
    assert {guard.name: guard.max for guard in found.wish.spec.rollout.guards} == {"house": 0.3, "errors": 0.05}


def test_a_broken_one_is_told_in_the_log_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    for _ in range(2):
        bench.policy("house", most="much")  # type: ignore[arg-type]
    (line,) = caplog.messages
    assert line.startswith("ClusterRolloutPolicy house cannot be used: spec.guards[0].max:")
    assert bench.since() == ["demo/named"]


def test_a_spec_that_nobody_could_have_written_does_not_break_the_rest(bench: Bench) -> None:
    odd: tuple[Any, ...] = (
        None,
        [],
        {"rollout": []},
        {"rollout": {"policies": {}}},
        {"rollout": {"policies": [5], "selectedPolicies": "yes"}},
    )
    for number, spec in enumerate(odd):
        body = {**manifest(), "spec": spec}
        body["metadata"] = {
            "name": f"odd{number}",
            "namespace": NAMESPACE,
            "uid": f"u{number}",
            "resourceVersion": "900",
        }
        bench.cache.put(Key(NAMESPACE, f"odd{number}"), body)
    bench.policy("house")
    assert bench.since() == ["demo/named"]


def test_who_names_what_may_not_be_read_is_told(bench: Bench) -> None:
    bench.policies.deny(PolicyKind.CLUSTER_ROLLOUT_POLICY)
    raw = bench.cache.get(Key(NAMESPACE, "named"), "ModelDeployment", "named")
    assert "may not read that kind" in (bench.policies.resolve(parse_modeldeployment(raw)).problem or "")
