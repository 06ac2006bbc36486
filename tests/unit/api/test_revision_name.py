"""The name of a revision: the same wish gives the same name, today and after an upgrade of the operator."""

from __future__ import annotations

from typing import Any

import pytest

from modelrollout.api.modeldeployment import parse_modeldeployment, revision_name
from modelrollout.api.modelrevision import revision_spec, revision_spec_to_dict
from tests.badspecs import good, merged


def name_of(**spec: Any) -> str:
    deployment = parse_modeldeployment(merged(good(), {"spec": spec}))
    return revision_name(deployment.metadata.name, deployment.spec)


def test_golden() -> None:
    # If this changes, every upgrade rolls out every model anew.
    assert name_of() == "digits-202bc28514"
    full = {
        "model": {"name": "zahlen", "lineage": {"git": "3f2c1aa", "run": "train-812"}},
        "runtime": {
            "image": "registry.example.com/triton:1",
            "args": ["--log-verbose=1"],
            "env": [{"name": "A", "value": "1"}, {"name": "B"}],
            "resources": {"requests": {"cpu": 1}, "limits": {"memory": "2Gi"}},
        },
        "pool": "gpu",
    }
    assert name_of(**full) == "digits-eebc8071e2"


@pytest.mark.parametrize(
    "same",
    [
        {"model": {"name": "digits"}},
        {"model": {"lineage": {}}},
        {"pool": "cpu"},
        {"runtime": {}},
        {"runtime": {"args": [], "env": [], "resources": {"requests": {}, "limits": {}}}},
        {"replicas": 7},
        {"traffic": {"http": {"hostnames": ["other.example.com"]}}},
        {"rollout": {"paused": True, "bake": "1h"}},
    ],
    ids=str,
)
def test_what_does_not_shape_the_pods_is_not_in_the_name(same: dict[str, Any]) -> None:
    assert name_of(**same) == name_of()


@pytest.mark.parametrize(
    "other",
    [
        {"model": {"name": "zahlen"}},
        {"model": {"version": "1.4.1"}},
        {"model": {"lineage": {"git": "3f2c1aa"}}},
        {"model": {"source": {"uri": "s3://models/digits/1.4.1"}}},
        {"model": {"source": {"endpoint": "http://other:9000"}}},
        {"runtime": {"args": ["--log-verbose=1"]}},
        {"runtime": {"env": [{"name": "A"}]}},
        {"runtime": {"resources": {"limits": {"memory": "2Gi"}}}},
        {"pool": "gpu"},
    ],
    ids=str,
)
def test_what_shapes_the_pods_is_in_the_name(other: dict[str, Any]) -> None:
    assert name_of(**other) != name_of()


def test_a_number_and_its_text_are_the_same_amount() -> None:
    one, text = ({"runtime": {"resources": {"limits": {"cpu": cpu}}}} for cpu in (1, "1"))
    assert name_of(**one) == name_of(**text)


def test_the_longest_name_still_names_a_service() -> None:
    deployment = parse_modeldeployment(merged(good(), {"metadata": {"name": "a" * 52}}))
    assert len(revision_name("a" * 52, deployment.spec)) == 63


def test_the_record_has_the_name_filled_in() -> None:
    deployment = parse_modeldeployment(good())
    record = revision_spec_to_dict(revision_spec("digits", deployment.spec))
    assert record["model"]["name"] == "digits"
    assert record["version"] == "1.4.0"
    assert record["modelDeployment"] == "digits"
