"""What the cache keeps of live objects."""

from __future__ import annotations

import json

import pytest

from modelrollout.api.modeldeployment import parse_modeldeployment
from modelrollout.ports import Manifest
from modelrollout.render.revision import Revision, materials
from modelrollout.render.trim import trim
from tests.unit.render.cases import load_case

NOISE: Manifest = {
    "managedFields": [{"manager": "x", "fieldsV1": {"f:spec": {}}}] * 20,
    "selfLink": "/x",
    "annotations": {
        "kubectl.kubernetes.io/last-applied-configuration": "{" * 5000,
        "modelrollout.io/command": "promote/1",
    },
}


def test_a_command_survives_and_foreign_annotations_do_not() -> None:
    case = load_case("canary-s3")
    raw = case.wish.model_dump(mode="json", by_alias=True, exclude_none=True)
    raw["metadata"] |= NOISE
    kept = trim("ModelDeployment", raw)
    assert kept["metadata"]["annotations"] == {"modelrollout.io/command": "promote/1"}
    assert "managedFields" not in kept["metadata"]
    assert parse_modeldeployment(kept).spec == case.wish.spec


def test_what_the_pods_were_made_with_survives() -> None:
    case = load_case("canary-s3")
    body = case.objects()[1]
    body["metadata"]["annotations"] |= NOISE["annotations"]
    other = case.settings.model_copy(update={"pools": {}})
    revision: Revision = case.revision
    assert materials(revision, other, trim("Deployment", body)) == case.materials


def test_a_kind_without_its_name_gets_it() -> None:
    assert trim("Pod", {"metadata": {"name": "p"}})["kind"] == "Pod"


def test_a_big_pod_is_small_afterwards() -> None:
    pod = {
        "metadata": {"name": "p", "uid": "u", **NOISE},
        "spec": {"nodeName": "n", "containers": [{"env": [{"name": "A", "value": "x" * 1000}] * 50}]},
        "status": {
            "phase": "Running",
            "podIP": "10.0.0.1",
            "podIPs": [{"ip": "10.0.0.1"}],
            "conditions": [{"type": "Ready", "status": "True", "lastProbeTime": None}],
            "containerStatuses": [
                {
                    "name": "server",
                    "ready": True,
                    "restartCount": 0,
                    "image": "x" * 500,
                    "state": {"running": {"startedAt": "2026-11-21T10:00:00Z"}},
                    "lastState": {"terminated": {"exitCode": 1, "message": "y" * 5000, "containerID": "z" * 100}},
                }
            ],
        },
    }
    kept = trim("Pod", pod)
    assert len(json.dumps(kept)) < 2000
    assert kept["status"]["podIP"] == "10.0.0.1"
    assert kept["spec"] == {"nodeName": "n"}


def wrote(manager: str, time: str, annotation: str = "modelrollout.io/command") -> Manifest:
    owned = {"f:metadata": {"f:annotations": {".": {}, f"f:{annotation}": {}}}}
    return {"manager": manager, "operation": "Update", "time": time, "fieldsType": "FieldsV1", "fieldsV1": owned}


def commanded(*entries: object, command: str | None = "promote/1") -> Manifest:
    raw = load_case("canary-s3").wish.model_dump(mode="json", by_alias=True, exclude_none=True)
    raw["metadata"] |= {"annotations": {"modelrollout.io/command": command} if command else {}}
    raw["metadata"]["managedFields"] = list(entries)
    return raw


def test_of_managed_fields_one_word_stays() -> None:
    raw = commanded(
        wrote("helm", "2026-01-03T00:00:00Z", "modelrollout.io/other"),
        wrote("kubectl-annotate", "2026-01-02T00:00:00Z"),
        wrote("argocd", "2026-01-01T00:00:00Z"),
    )
    kept = trim("ModelDeployment", raw)
    assert kept["metadata"]["commandedBy"] == "kubectl-annotate"
    assert "managedFields" not in kept["metadata"]
    assert parse_modeldeployment(kept).metadata.commanded_by == "kubectl-annotate"
    assert parse_modeldeployment(raw).metadata.commanded_by == "kubectl-annotate"
    assert trim("ModelDeployment", kept) == kept


def test_without_a_command_nobody_gave_it() -> None:
    raw = commanded(wrote("kubectl-annotate", "2026-01-02T00:00:00Z"), command=None)
    assert "commandedBy" not in trim("ModelDeployment", raw)["metadata"]
    assert parse_modeldeployment(raw).metadata.commanded_by == ""


@pytest.mark.parametrize(
    "entry",
    [
        None,
        7,
        {},
        {"fieldsV1": 3},
        {"fieldsV1": {"f:metadata": []}},
        {"fieldsV1": {"f:metadata": {"f:annotations": {"f:modelrollout.io/command": {}}}}},
    ],
)
def test_managed_fields_that_nobody_can_read_name_nobody(entry: object) -> None:
    raw = commanded(entry)
    assert trim("ModelDeployment", raw)["metadata"].get("commandedBy") is None
    assert parse_modeldeployment(raw).metadata.commanded_by == ""


def test_the_name_of_a_client_is_one_line() -> None:
    raw = commanded(wrote("evil\nclient\x1b[31m" + "x" * 500, "2026-01-02T00:00:00Z"))
    name = parse_modeldeployment(raw).metadata.commanded_by
    assert name.isprintable()
    assert len(name) <= 253
