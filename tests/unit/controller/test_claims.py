"""Two ModelDeployments that want the same hostname: one serves, the other is told, and nobody polls."""

from __future__ import annotations

from typing import Any

import pytest

from modelrollout.controller.cache import Cache, Key
from modelrollout.controller.claims import Claims
from modelrollout.ports import Manifest

OLD, NEW = Key("demo", "digits"), Key("other", "numbers")
GATEWAY = {"name": "inference", "namespace": "gateways"}


class World:
    """A cache that claims follow."""

    def __init__(self) -> None:
        self.woken: list[Key] = []
        self.cache = Cache()
        self.claims = Claims(self.woken.append)
        self.cache.follow(self.claims)
        self._version = 0

    def put(self, key: Key, manifest: Manifest) -> None:
        self._version += 1
        manifest["metadata"]["resourceVersion"] = str(self._version)
        self.cache.put(key, manifest)

    def wish(self, key: Key, created: int, traffic: dict[str, Any], **rollout: Any) -> None:
        metadata = {
            "name": key.name,
            "namespace": key.namespace,
            "uid": f"uid-{key.name}",
            "creationTimestamp": f"2026-01-01T00:00:{created:02}Z",
        }
        self.put(
            key, {"kind": "ModelDeployment", "metadata": metadata, "spec": {"traffic": traffic, "rollout": rollout}}
        )

    def serve(self, key: Key, *hostnames: str) -> None:
        owner = {"uid": f"uid-{key.name}", "controller": True}
        metadata = {"name": key.name, "namespace": key.namespace, "uid": f"r-{key.name}", "ownerReferences": [owner]}
        spec = {"parentRefs": [GATEWAY], "hostnames": list(hostnames)}
        self.put(key, {"kind": "HTTPRoute", "metadata": metadata, "spec": spec})

    def claimed(self) -> tuple[str | None, str | None]:
        return self.claims.claimed(OLD), self.claims.claimed(NEW)

    def woken_now(self) -> set[Key]:
        woken = set(self.woken)
        self.woken.clear()
        return woken


@pytest.fixture
def world() -> World:
    return World()


def at(*hostnames: str, protocol: str = "http", gateway: dict[str, str] | None = None) -> dict[str, Any]:
    return {"gateway": gateway or GATEWAY, protocol: {"hostnames": list(hostnames)}}


def test_the_older_serves_and_the_newer_is_told(world: World) -> None:
    world.wish(NEW, 2, at("digits.example.com"))
    world.wish(OLD, 1, at("digits.example.com"))
    mine, theirs = world.claimed()
    assert mine is None
    assert theirs == (
        "hostname digits.example.com at gateway gateways/inference is served by demo/digits, which is older: "
        "choose another hostname"
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a.example.com", "a.example.com"),
        ("*.example.com", "a.example.com"),
        ("*.example.com", "a.b.example.com"),
        ("a.b.example.com", "*.example.com"),
        ("*.b.example.com", "*.example.com"),
        ("*.example.com", "*.b.example.com"),
    ],
)
def test_hostnames_that_meet(world: World, one: str, other: str) -> None:
    world.wish(OLD, 1, at(one))
    world.wish(NEW, 2, at(other))
    mine, theirs = world.claimed()
    assert mine is None
    assert theirs is not None
    assert theirs.startswith(f"hostname {other} at gateway gateways/inference is served by demo/digits")
    assert (f"(as {one})" in theirs) is (one != other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a.example.com", "b.example.com"),
        ("*.example.com", "example.com"),
        ("a.b", "x.b"),
        ("*.a.example.com", "*.b.example.com"),
        ("*.example.com", "aexample.com"),
    ],
)
def test_hostnames_that_do_not_meet(world: World, one: str, other: str) -> None:
    world.wish(OLD, 1, at(one))
    world.wish(NEW, 2, at(other))
    assert world.claimed() == (None, None)
    assert world.woken_now() == set()


def test_another_gateway_is_another_matter(world: World) -> None:
    world.wish(OLD, 1, at("a.example.com"))
    world.wish(NEW, 2, at("a.example.com", gateway={"name": "inference"}))
    assert world.claimed() == (None, None)


def test_the_namespace_of_the_gateway_defaults_to_ones_own(world: World) -> None:
    world.wish(OLD, 1, at("a.example.com", gateway={"name": "g", "namespace": "other"}))
    world.wish(NEW, 2, at("a.example.com", gateway={"name": "g"}))
    assert "at gateway other/g" in (world.claims.claimed(NEW) or "")


def test_grpc_and_previews_count_too(world: World) -> None:
    world.wish(OLD, 1, at("a.example.com"), blueGreen={"preview": {"http": {"hostnames": ["p.example.com"]}}})
    world.wish(NEW, 2, at("p.example.com", protocol="grpc"))
    assert "hostname p.example.com" in (world.claims.claimed(NEW) or "")


def test_a_service_claims_nothing(world: World) -> None:
    world.wish(OLD, 1, {"service": {}})
    world.wish(NEW, 2, at("a.example.com"))
    assert world.claimed() == (None, None)


def test_of_the_same_second_the_first_by_name(world: World) -> None:
    world.wish(OLD, 1, at("a.example.com"))
    world.wish(NEW, 1, at("a.example.com"))
    mine, theirs = world.claimed()
    assert mine is None
    assert theirs is not None


def test_an_older_one_takes_nobody_away_from_who_serves_already(world: World) -> None:
    world.wish(OLD, 1, at("a.example.com"))
    world.serve(OLD, "a.example.com")
    world.wish(NEW, 2, at("b.example.com"))
    world.serve(NEW, "b.example.com")
    world.wish(OLD, 1, at("a.example.com", "b.example.com"))
    mine, theirs = world.claimed()
    assert theirs is None
    assert mine is not None
    assert "is served by other/numbers, which has it already" in mine


def test_of_two_who_serve_the_older(world: World) -> None:
    for key, created in ((OLD, 1), (NEW, 2)):
        world.wish(key, created, at("a.example.com"))
        world.serve(key, "a.example.com")
    mine, theirs = world.claimed()
    assert mine is None
    assert theirs is not None
    assert "which is older" in theirs


def test_a_route_left_over_from_a_deleted_one_of_this_name_is_nobodys(world: World) -> None:
    world.serve(NEW, "a.example.com")
    world.wish(OLD, 1, at("a.example.com"))
    world.wish(NEW, 2, at("a.example.com"))
    assert world.claims.claimed(NEW) is None, "its own route"
    stranger = Key("third", "numbers")
    world.serve(stranger, "a.example.com")
    world.wish(stranger, 0, {"service": {}})
    assert world.claims.claimed(NEW) is None


def test_the_newer_is_woken_when_the_older_goes(world: World) -> None:
    world.wish(OLD, 1, at("a.example.com"))
    world.wish(NEW, 2, at("*.example.com"))
    world.woken_now()
    world.cache.remove(OLD, "ModelDeployment", OLD.name, f"uid-{OLD.name}")
    assert world.woken_now() == {NEW}
    assert world.claimed() == (None, None)


def test_the_newer_is_woken_when_the_older_changes_its_hostnames(world: World) -> None:
    world.wish(OLD, 1, at("a.example.com"))
    world.wish(NEW, 2, at("a.example.com"))
    assert world.woken_now() == {OLD}
    world.wish(OLD, 1, at("b.example.com"))
    assert world.woken_now() == {NEW}
    assert world.claimed() == (None, None)


def test_a_change_of_something_else_wakes_nobody(world: World) -> None:
    world.wish(OLD, 1, at("a.example.com"))
    world.wish(NEW, 2, at("a.example.com"))
    world.woken_now()
    world.wish(OLD, 1, at("a.example.com"), paused=True)
    assert world.woken_now() == set()


@pytest.mark.parametrize("spec", [None, {}, {"traffic": 1}, {"traffic": {"gateway": {"name": "g"}, "http": [1]}}])
def test_a_spec_that_nobody_can_read_claims_nothing(world: World, spec: Any) -> None:
    world.put(OLD, {"kind": "ModelDeployment", "metadata": {"name": "digits", "namespace": "demo"}, "spec": spec})
    world.wish(NEW, 2, at("a.example.com"))
    assert world.claimed() == (None, None)


def test_who_follows_late_learns_what_is_known(world: World) -> None:
    world.wish(OLD, 1, at("a.example.com"))
    world.wish(NEW, 2, at("a.example.com"))
    late = Claims()
    world.cache.follow(late)
    assert late.claimed(NEW) == world.claims.claimed(NEW)
