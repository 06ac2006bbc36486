"""What the cache keeps of live objects."""

from __future__ import annotations

import json

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
