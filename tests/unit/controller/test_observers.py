"""Which namespaces have an observer, and who is woken by it."""

from __future__ import annotations

from typing import Any

from modelrollout.controller.cache import Cache, Key, namespace_key
from modelrollout.controller.observers import Observers
from modelrollout.handlers.watching import KINDS, key_of
from modelrollout.ports import Manifest
from modelrollout.render.trim import trim
from tests.builders import NAMESPACE, manifest

SERVICE = next(watched for watched in KINDS if watched.kind == "Service")
LABELS = {
    "app.kubernetes.io/managed-by": "modelrollout",
    "app.kubernetes.io/name": "modelrollout-observer",
    "app.kubernetes.io/component": "observer",
}


def service(version: int = 1, ports: tuple[int, ...] = (8000, 8001, 9100), **metadata: Any) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "modelrollout-observer",
            "namespace": NAMESPACE,
            "uid": "u1",
            "resourceVersion": str(version),
            "labels": LABELS,
            **metadata,
        },
        "spec": {"selector": {"app": "observer"}, "ports": [{"port": port} for port in ports]},
    }


def asking(name: str, asks: bool = True) -> Manifest:
    body = manifest("1.0.0")
    body["metadata"] = {**body["metadata"], "name": name, "uid": name}
    if asks:
        body["spec"]["observation"] = {"percent": 5}
    return body


class World:
    def __init__(self) -> None:
        self.woken: list[Key] = []
        self.cache = Cache(trim)
        self.observers = Observers(self.woken.append)
        self.cache.follow(self.observers)
        self.cache.put(Key(NAMESPACE, "one"), asking("one"))
        self.cache.put(Key(NAMESPACE, "two"), asking("two", asks=False))
        self.cache.put(Key("elsewhere", "three"), asking("three"))

    def see(self, body: Manifest) -> None:
        key = key_of(SERVICE, body)
        if key is not None:
            self.cache.put(key, body)


def test_it_wakes_those_who_ask_in_its_namespace_once() -> None:
    world = World()
    world.see(service())
    world.see(service(2))
    assert world.woken == [Key(NAMESPACE, "one")]
    found = world.observers.there(NAMESPACE)
    assert found is not None
    assert found["spec"]["selector"] == {"app": "observer"}
    assert world.observers.there("elsewhere") is None
    world.cache.remove(namespace_key(NAMESPACE), "Service", "modelrollout-observer", "u1")
    assert world.observers.there(NAMESPACE) is None
    assert world.woken == [Key(NAMESPACE, "one")] * 2


def test_one_that_is_being_deleted_or_lacks_a_port_or_pods_is_none() -> None:
    for body in (
        service(deletionTimestamp="2026-01-01T00:00:00Z"),
        service(ports=(8000,)),
        {**service(), "spec": {"ports": [{"port": 8000}, {"port": 8001}]}},
    ):
        world = World()
        world.see(body)
        assert world.observers.there(NAMESPACE) is None
        assert world.woken == []


def test_another_service_is_not_taken_for_it() -> None:
    world = World()
    world.see(service(name="my-observer"))
    world.see(service(labels={**LABELS, "app.kubernetes.io/component": "other"}))
    assert world.observers.there(NAMESPACE) is None


def test_who_asks_no_more_is_not_woken() -> None:
    world = World()
    world.cache.put(Key(NAMESPACE, "one"), {**asking("one", asks=False)})
    world.see(service())
    assert world.woken == []
