"""A new version of the operator beside Deployments of an old one: their pods stay as they are."""

from __future__ import annotations

import copy

import pytest

from modelrollout.ports import Manifest
from modelrollout.render.difference import differs
from modelrollout.render.trim import trim
from modelrollout.render.upgrade import TEMPLATE, as_made
from modelrollout.render.workload import deployment
from tests.unit.render.cases import Case, load_case

CASE: Case = load_case("canary-s3")


def rendered(replicas: int = 2) -> Manifest:
    return deployment(CASE.revision, replicas, CASE.materials)


def by_another_version() -> Manifest:
    """What the next version renders for the same revision: one more argument, another label to select by."""
    body = rendered()
    body["spec"]["template"]["spec"]["containers"][0]["args"].append("--new")
    body["spec"]["selector"]["matchLabels"]["new"] = "label"
    return body


def stored(body: Manifest) -> Manifest:
    live = copy.deepcopy(body)
    live["metadata"] |= {"uid": "u", "resourceVersion": "5"}
    live["spec"]["template"]["spec"]["restartPolicy"] = "Always"  # a default of the API server
    return trim("Deployment", live)


def test_what_this_version_made_is_not_written_again() -> None:
    live = stored(as_made(rendered(), None))
    assert not differs(as_made(rendered(), live), live)


@pytest.mark.parametrize("hashed", [True, False], ids=["with a hash", "from before there were hashes"])
def test_pods_of_another_version_are_not_rolled(hashed: bool) -> None:
    live = stored(as_made(rendered(), None) if hashed else rendered())
    body = as_made(by_another_version(), live)
    assert not differs(body, live)
    assert body["metadata"]["annotations"].get(TEMPLATE) == live["metadata"]["annotations"].get(TEMPLATE)


def test_they_are_scaled_with_the_pods_that_they_have() -> None:
    live = stored(as_made(rendered(), None))
    new = by_another_version()
    new["spec"]["replicas"] = 7
    body = as_made(new, live)
    assert differs(body, live)
    assert body["spec"]["replicas"] == 7
    assert body["spec"]["template"] == live["spec"]["template"]
    assert body["spec"]["selector"] == live["spec"]["selector"]


def test_a_new_revision_has_what_the_new_version_makes() -> None:
    body = as_made(by_another_version(), None)
    assert body["spec"] == by_another_version()["spec"]
    assert body["metadata"]["annotations"][TEMPLATE]


def test_a_change_by_hand_is_put_right() -> None:
    live = stored(as_made(rendered(), None))
    live["spec"]["template"]["spec"]["containers"][0]["image"] = "localhost/other:1"
    body = as_made(rendered(), live)
    assert differs(body, live)
    assert body["spec"]["template"] == rendered()["spec"]["template"]


def test_one_that_belonged_to_a_deleted_modeldeployment_is_no_model() -> None:
    live = stored(as_made(rendered(), None))
    live["metadata"]["ownerReferences"][0]["uid"] = "uid-of-the-dead"
    assert as_made(by_another_version(), live)["spec"] == by_another_version()["spec"]
