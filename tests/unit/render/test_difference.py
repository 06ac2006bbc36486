"""When a write is needed. What a real API server adds is tested in tests/component/test_rendered_objects.py."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from modelrollout.ports import Manifest
from modelrollout.render.difference import differs
from modelrollout.render.trim import trim
from tests.unit.render.cases import CASES, load_case


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all leaves."""
    if isinstance(value, dict):
        return [place for key, item in value.items() for place in places(item, (*path, key))]
    if isinstance(value, list):
        return [place for index, item in enumerate(value) for place in places(item, (*path, index))]
    return [path]


def at(body: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        body = body[key]
    return body


@pytest.mark.parametrize("name", CASES)
def test_an_object_is_like_itself(name: str) -> None:
    for body in load_case(name).objects():
        assert not differs(body, copy.deepcopy(body))
        assert not differs(body, trim(body["kind"], body))
        assert differs(body, None)


@pytest.mark.parametrize("name", CASES)
def test_every_leaf_counts(name: str) -> None:
    for body in load_case(name).objects():
        checked = 0
        for path in places({key: body[key] for key in ("metadata", "spec")}):
            live = copy.deepcopy(body)
            value = at(live, path)
            at(live, path[:-1])[path[-1]] = (not value) if isinstance(value, bool) else f"{value}9"
            if value not in ({}, [], ""):
                assert differs(body, live), (body["kind"], path)
                checked += 1
            live = copy.deepcopy(body)
            del at(live, path[:-1])[path[-1]]
            if value not in ("", False, 0, None):
                assert differs(body, live), (body["kind"], path)
        assert checked > 5


SOME: Manifest = {
    "metadata": {"labels": {"a": "b"}},
    "spec": {
        "containers": [
            {
                "name": "server",
                "args": ["a", "b"],
                "env": [{"name": "A", "value": ""}],
                "resources": {"limits": {"cpu": "1000m", "memory": "1024Mi", "nvidia.com/gpu": 1}},
            }
        ],
        "tolerations": [{"key": "gpu"}],
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "2048Mi"}}],
        "replicas": 0,
    },
}


def changed(*path: Any, value: Any) -> Manifest:
    live = copy.deepcopy(SOME)
    at(live, path[:-1])[path[-1]] = value
    return live


SERVER = ("spec", "containers", 0)


@pytest.mark.parametrize(
    "live",
    [
        changed("status", value={"x": 1}),
        changed("metadata", "managedFields", value=[1]),
        changed("metadata", "labels", "c", value="d"),
        changed(*SERVER, "terminationMessagePath", value="/dev/termination-log"),
        changed(*SERVER, "env", 0, value={"name": "A"}),
        changed(*SERVER, "env", value=[{"name": "Z", "value": "added"}, {"name": "A"}]),
        changed("spec", "containers", value=[{"name": "sidecar"}, SOME["spec"]["containers"][0]]),
        changed(*SERVER, "resources", "limits", value={"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": "1", "x/y": "1"}),
        changed("spec", "volumes", 0, "emptyDir", "sizeLimit", value="2Gi"),
    ],
)
def test_what_others_add_and_other_spellings_of_amounts_do_not_count(live: Manifest) -> None:
    assert not differs(SOME, live)


@pytest.mark.parametrize(
    "live",
    [
        changed(*SERVER, "args", value=["b", "a"]),
        changed(*SERVER, "args", value=["a", "b", "c"]),
        changed(*SERVER, "args", value=["a"]),
        changed(*SERVER, "env", 0, "value", value="x"),
        changed(*SERVER, "env", value=[]),
        changed(*SERVER, "name", value="other"),
        changed(*SERVER, "resources", "limits", "cpu", value="999m"),
        changed(*SERVER, "resources", "limits", value={"cpu": "1", "memory": "1Gi"}),
        changed("spec", "tolerations", value=[{"key": "gpu"}, {"key": "more"}]),
        changed("spec", "replicas", value=1),
        changed("spec", "replicas", value=False),
        changed("spec", "volumes", 0, "emptyDir", value={}),
        changed("spec", value=None),
    ],
)
def test_what_counts(live: Manifest) -> None:
    assert differs(SOME, live)


def test_an_amount_outside_resources_is_text() -> None:
    desired = {"spec": {"env": [{"name": "A", "value": "1000m"}]}}
    assert differs(desired, {"spec": {"env": [{"name": "A", "value": "1"}]}})


def test_one_is_not_true() -> None:
    assert differs({"spec": {"enabled": True}}, {"spec": {"enabled": 1}})
