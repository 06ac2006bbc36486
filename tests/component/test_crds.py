"""The generated CRDs on a real API server: what it takes, what it refuses and how it says so, what it shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from modelrollout.api.modeldeployment import parse_modeldeployment
from modelrollout.cli.documents import parsed
from tests.badspecs import (
    BAD_POLICIES,
    BAD_SPECS,
    POLICY_KINDS,
    BadSpec,
    Manifest,
    good,
    good_policy,
    merged,
    previous_release,
)
from tests.component.apiserver import APPLY, MERGE, REPOSITORY, Answer, ApiServer, eventually

EXAMPLES = sorted((REPOSITORY / "deploy" / "examples").glob("*.yaml"))
GROUP_PATH = "/apis/modelrollout.io/v1alpha1"

EXAMPLE_PATHS = {
    "ModelDeployment": f"{GROUP_PATH}/namespaces/default/modeldeployments",
    "Secret": "/api/v1/namespaces/default/secrets",
    "PersistentVolumeClaim": "/api/v1/namespaces/default/persistentvolumeclaims",
    "RolloutPolicy": f"{GROUP_PATH}/namespaces/default/rolloutpolicies",
    "ClusterRolloutPolicy": f"{GROUP_PATH}/clusterrolloutpolicies",
}


def deployments(namespace: str) -> str:
    return f"{GROUP_PATH}/namespaces/{namespace}/modeldeployments"


def revisions(namespace: str) -> str:
    return f"{GROUP_PATH}/namespaces/{namespace}/modelrevisions"


def post(api: ApiServer, namespace: str, manifest: Manifest, **query: str) -> Answer:
    return api.request("POST", deployments(namespace), manifest, fieldValidation="Strict", **query)


def test_a_field_that_is_null_is_one_that_is_left_out(api: ApiServer) -> None:
    """``guards:`` with all its entries commented out: the commands must take what the API server takes."""
    body = good()
    body["metadata"] = {"name": "empty", "labels": None}
    body["spec"]["rollout"] = {"selectedPolicies": True, "guards": None, "policies": None, "canary": None, "bake": None}
    assert post(api, "default", body, dryRun="All").code == 201
    (taken,) = parsed(yaml.safe_dump(body))
    assert parse_modeldeployment(taken).spec.rollout.guards == ()


def revision() -> Manifest:
    spec = good()["spec"]
    return {
        "apiVersion": "modelrollout.io/v1alpha1",
        "kind": "ModelRevision",
        "metadata": {"name": "digits-0123456789"},
        "spec": {
            "modelDeployment": "digits",
            "version": "1.4.0",
            "model": merged(spec["model"], {"name": "digits"}),
            "runtime": {},
            "pool": "cpu",
        },
    }


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 13


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_accepted(api: ApiServer, example: Path) -> None:
    for manifest in yaml.safe_load_all(example.read_text()):
        path = EXAMPLE_PATHS[manifest["kind"]]
        answer = api.request("POST", path, manifest, fieldValidation="Strict", dryRun="All")
        assert answer.code == 201, answer.message


def test_the_good_spec_is_accepted_and_gets_its_defaults(api: ApiServer, namespace: str) -> None:
    answer = post(api, namespace, good())
    assert answer.code == 201, answer.message
    spec = answer.body["spec"]
    assert spec["replicas"] == 1
    assert spec["pool"] == "cpu"
    assert spec["revisionHistoryLimit"] == 10
    rollout = spec["rollout"]
    assert rollout["strategy"] == "Canary"
    # A block that the API server wrote by itself would stand in the way of the next strategy.
    assert not {"canary", "blueGreen", "shadow", "abTest"} & set(rollout)
    assert (rollout["bake"], rollout["progressDeadline"], rollout["evaluationInterval"]) == ("10m", "15m", "10s")
    guard = rollout["guards"][0]
    assert (guard["window"], guard["breaches"], guard["of"], guard["onBreach"]) == ("1m", 1, 1, "Rollback")
    assert "status" not in answer.body


@pytest.mark.parametrize("bad", BAD_SPECS, ids=str)
def test_refused(api: ApiServer, bad: BadSpec) -> None:
    answer = post(api, "default", bad.manifest, dryRun="All")
    assert answer.code in (400, 422), f"accepted: {answer.body}"
    assert bad.sentence in answer.message
    causes = answer.body.get("details", {}).get("causes")
    if causes:
        assert any(cause["field"].startswith(bad.path) for cause in causes if bad.sentence in cause["message"])
    else:
        assert f'"{bad.path}"' in answer.message


@pytest.mark.parametrize("kind", POLICY_KINDS)
def test_the_good_policy_is_accepted(api: ApiServer, kind: str) -> None:
    path = EXAMPLE_PATHS[kind]
    answer = api.request("POST", path, good_policy(kind), fieldValidation="Strict", dryRun="All")
    assert answer.code == 201, answer.message
    assert answer.body["spec"]["slis"][0]["direction"] == "HigherIsWorse"
    assert answer.body["spec"]["guards"][0]["onBreach"] == "Rollback"


@pytest.mark.parametrize("bad", BAD_POLICIES, ids=str)
def test_a_policy_is_refused(api: ApiServer, bad: BadSpec) -> None:
    path = EXAMPLE_PATHS[bad.manifest["kind"]]
    answer = api.request("POST", path, bad.manifest, fieldValidation="Strict", dryRun="All")
    assert answer.code in (400, 422), f"accepted: {answer.body}"
    assert bad.sentence in answer.message
    causes = answer.body.get("details", {}).get("causes")
    if causes:
        assert any(cause["field"].startswith(bad.path) for cause in causes if bad.sentence in cause["message"])
    else:
        assert f'"{bad.path}"' in answer.message


@pytest.mark.parametrize(
    "spec",
    [
        {"replicas": 0},
        {"rollout": {"canary": {"steps": [{"weight": 0.5}, {"weight": 5}, {"pause": {}}, {"replicas": 2}]}}},
        {"rollout": {"canary": {"steps": [{"pause": {}}, {"weight": 99.999}, {"weight": 100}], "maxSurge": 1}}},
        {"replicas": 4, "rollout": {"canary": {"maxSurge": 0}}},
        {"rollout": {"strategy": "BlueGreen"}},
        {"rollout": {"strategy": "Recreate"}},
        {"rollout": {"strategy": "Shadow", "shadow": {"then": "Canary"}, "canary": {"maxSurge": "50%"}}},
        {"rollout": {"strategy": "Shadow", "shadow": {"then": "BlueGreen"}, "blueGreen": {"approval": True}}},
        {
            "rollout": {
                "strategy": "ABTest",
                "abTest": {"weight": 0, "match": [{"cookie": {"name": "a_b", "value": "c"}}]},
            }
        },
        {
            "traffic": {"http": {"hostnames": ["*.example.com"]}},
            "rollout": {
                "strategy": "BlueGreen",
                "blueGreen": {"approval": True, "preview": {"http": {"hostnames": ["preview.example.com"]}}},
            },
        },
        {
            "traffic": {"gateway": None, "http": None, "service": {}},
            "rollout": {"strategy": "Recreate", "guards": [{"name": "a", "query": "up", "min": 1}]},
        },
    ],
    ids=json.dumps,
)
def test_accepted(api: ApiServer, spec: Manifest) -> None:
    answer = post(api, "default", merged(good(), {"spec": spec}), dryRun="All")
    assert answer.code == 201, answer.message


STRATEGIES: list[Manifest] = [
    {"strategy": "Canary", "canary": {"maxSurge": 1}},
    {"strategy": "BlueGreen", "blueGreen": {"approval": True}},
    {"strategy": "Shadow", "shadow": {"percent": 5}},
    {"strategy": "ABTest", "abTest": {"weight": 5}},
    {},
]


def test_a_pipeline_can_go_from_any_strategy_to_any_other(api: ApiServer, namespace: str) -> None:
    """What the API server filled into a block goes with the block."""
    path = f"{deployments(namespace)}/digits"
    for one in STRATEGIES:
        for other in STRATEGIES:
            for rollout in (one, other):
                manifest = merged(good(), {"spec": {"replicas": 2, "rollout": rollout}})
                answer = api.request("PATCH", path, manifest, APPLY, fieldManager="argocd", fieldValidation="Strict")
                assert answer.code in (200, 201), answer.message
            left = {"canary", "blueGreen", "shadow", "abTest"} & set(answer.body["spec"]["rollout"])
            assert left == {"canary", "blueGreen", "shadow", "abTest"} & set(other)


def test_what_the_previous_release_wrote_is_taken(api: ApiServer, namespace: str) -> None:
    written = previous_release()
    objects = [
        (deployments(namespace), written["modelDeployment"]),
        *((revisions(namespace), each) for each in written["modelRevisions"]),
    ]
    for path, each in objects:
        body = merged(each, {"metadata": {"namespace": namespace}})
        made = api.request("POST", path, body, fieldValidation="Strict")
        assert made.code == 201, made.message
        status = each.get("status", {})
        where = f"{path}/{each['metadata']['name']}/status"
        answer = api.request("PATCH", where, {"status": status}, MERGE, fieldValidation="Strict")
        assert answer.code == 200, answer.message
        assert answer.body.get("status", {}) == status


def test_a_resource_may_be_a_number(api: ApiServer) -> None:
    patch = {"spec": {"runtime": {"resources": {"requests": {"cpu": 1}, "limits": {"cpu": "1500m"}}}}}
    assert post(api, "default", merged(good(), patch), dryRun="All").code == 201


def test_status_is_a_subresource(api: ApiServer, namespace: str) -> None:
    made = post(api, namespace, merged(good(), {"status": {"phase": "Idle"}}))
    assert "status" not in made.body
    path = f"{deployments(namespace)}/digits"
    status = {"status": {"phase": "Preparing", "message": "on its way"}, "spec": {"replicas": 7}}
    answer = api.request("PATCH", f"{path}/status", status, MERGE)
    assert answer.code == 200, answer.message
    assert answer.body["status"]["phase"] == "Preparing"
    assert answer.body["spec"]["replicas"] == 1
    assert answer.body["metadata"]["generation"] == made.body["metadata"]["generation"]


def test_status_knows_only_its_own_phases(api: ApiServer, namespace: str) -> None:
    post(api, namespace, good())
    answer = api.request("PATCH", f"{deployments(namespace)}/digits/status", {"status": {"phase": "Lost"}}, MERGE)
    assert answer.code == 422
    assert "supported values" in answer.message


@pytest.mark.parametrize(
    "change",
    [
        {"pool": "gpu"},
        {"model": {"version": "1.4.1"}},
        {"runtime": {"args": ["--log-verbose=1"]}},
        {"model": {"lineage": {"git": "0000"}}},
    ],
    ids=json.dumps,
)
def test_a_revision_never_changes(api: ApiServer, namespace: str, change: Manifest) -> None:
    made = api.request("POST", revisions(namespace), revision(), fieldValidation="Strict")
    assert made.code == 201, made.message
    answer = api.request("PATCH", f"{revisions(namespace)}/digits-0123456789", {"spec": change}, MERGE)
    assert answer.code == 422
    assert "a ModelRevision never changes: change the ModelDeployment" in answer.message


def test_a_revision_can_be_labelled_and_its_status_written(api: ApiServer, namespace: str) -> None:
    api.request("POST", revisions(namespace), revision())
    path = f"{revisions(namespace)}/digits-0123456789"
    labelled = api.request("PATCH", path, {"metadata": {"labels": {"a": "b"}}}, MERGE)
    assert labelled.code == 200, labelled.message
    status = {"status": {"outcome": "Promoted", "slot": 1}}
    assert api.request("PATCH", f"{path}/status", status, MERGE).body["status"] == status["status"]


def test_the_same_revision_can_be_applied_again(api: ApiServer, namespace: str) -> None:
    path = f"{revisions(namespace)}/digits-0123456789"
    codes = [
        api.request("PATCH", path, revision(), APPLY, fieldManager="modelrollout", force="true").code for _ in range(2)
    ]
    assert codes == [201, 200]


class TestKubectl:
    """What a person sees."""

    @pytest.fixture(autouse=True)
    def _documented(self, api: ApiServer) -> None:
        def known() -> bool:
            paths = api.request("GET", "/openapi/v3/apis/modelrollout.io/v1alpha1").body.get("paths", {})
            found = any("modeldeployments" in path for path in paths)
            return found and any("modelrevisions" in path for path in paths)

        eventually(known, "the schema is published")

    @pytest.mark.parametrize(
        ("field", "words"),
        [
            ("mdep", "Serves a model on Triton behind a gateway"),
            ("mdep.spec.rollout", "How a change moves: strategy, guards, deadlines"),
            ("mdep.spec.rollout.evaluationInterval", "Time between two evaluations of the guards"),
            ("mdep.spec.rollout.guards.onBreach", "Rollback (take the candidate back at once)"),
            ("mdep.spec.model.source.uri", "pvc://<claim>/<path>"),
            ("mdep.status.revisions", "which revision plays which part"),
            ("mrev.spec", "What the pods are made of"),
        ],
    )
    def test_explain_reads_like_documentation(self, api: ApiServer, field: str, words: str) -> None:
        assert words in " ".join(api.kubectl("explain", field).split())

    def test_explain_tells_the_defaults(self, api: ApiServer) -> None:
        text = " ".join(api.kubectl("explain", "mdep.spec.rollout").split())
        for default in ("Default: 10m.", "Default: 15m.", "Default: 10s.", "Default: default.", "Default: false."):
            assert default in text

    def test_no_field_is_without_words(self, api: ApiServer) -> None:
        schemas = api.request("GET", "/openapi/v3/apis/modelrollout.io/v1alpha1").body["components"]["schemas"]
        silent = []

        def walk(path: str, node: Manifest) -> None:
            for name, inner in node.get("properties", {}).items():
                if not inner.get("description"):
                    silent.append(f"{path}.{name}")
                walk(f"{path}.{name}", inner.get("items", inner))

        for kind in ("ModelDeployment", "ModelRevision"):
            properties = schemas[f"io.modelrollout.v1alpha1.{kind}"]["properties"]
            walk(f"{kind}.spec", properties["spec"])
            walk(f"{kind}.status", properties["status"])
        for kind in POLICY_KINDS:
            walk(f"{kind}.spec", schemas[f"io.modelrollout.v1alpha1.{kind}"]["properties"]["spec"])
        assert silent == []

    def test_get_shows_desired_against_serving(self, api: ApiServer, namespace: str) -> None:
        post(api, namespace, good())
        status = {
            "phase": "Progressing",
            "revisions": {"desired": "digits-bbbbbbbbbb", "stable": "digits-aaaaaaaaaa"},
            "weight": 25.0,
            "rollout": {"stepOf": "2/5"},
        }
        api.request("PATCH", f"{deployments(namespace)}/digits/status", {"status": status}, MERGE)
        head, row = api.kubectl("get", "mdep", "-n", namespace).splitlines()
        assert head.split() == ["NAME", "PHASE", "DESIRED", "SERVING", "WEIGHT", "STEP", "AGE"]
        assert row.split()[:6] == [
            "digits",
            "Progressing",
            "digits-bbbbbbbbbb",
            "digits-aaaaaaaaaa",
            "25",
            "2/5",
        ]

    def test_category_lists_both_kinds(self, api: ApiServer, namespace: str) -> None:
        post(api, namespace, good())
        api.request("POST", revisions(namespace), revision())
        found = api.kubectl("get", "modelrollout", "-n", namespace, "-o", "name")
        assert set(found.split()) == {
            "modeldeployment.modelrollout.io/digits",
            "modelrevision.modelrollout.io/digits-0123456789",
        }

    def test_get_revisions_shows_how_they_did(self, api: ApiServer, namespace: str) -> None:
        api.request("POST", revisions(namespace), revision())
        path = f"{revisions(namespace)}/digits-0123456789/status"
        attempts = [{"attempt": 3, "duration": "12m30s"}, {"attempt": 2, "duration": "1h"}]
        status = {"outcome": "RolledBack", "slot": 1, "attempts": attempts}
        api.request("PATCH", path, {"status": status}, MERGE)
        head, row = api.kubectl("get", "mrev", "-n", namespace).splitlines()
        assert head.split() == ["NAME", "DEPLOYMENT", "VERSION", "OUTCOME", "DURATION", "AGE"]
        assert row.split()[1:5] == ["digits", "1.4.0", "RolledBack", "12m30s"]

    def test_a_revision_that_was_never_tried_is_shown(self, api: ApiServer, namespace: str) -> None:
        api.request("POST", revisions(namespace), revision())
        _, row = api.kubectl("get", "mrev", "-n", namespace).splitlines()
        assert row.split()[:3] == ["digits-0123456789", "digits", "1.4.0"]

    def test_wide_shows_the_strategy(self, api: ApiServer, namespace: str) -> None:
        post(api, namespace, merged(good(), {"spec": {"rollout": {"strategy": "BlueGreen"}}}))
        head, row = api.kubectl("get", "mdep", "-n", namespace, "-o", "wide").splitlines()
        assert {"VERSION", "STRATEGY", "MESSAGE"} <= set(head.split())
        assert "BlueGreen" in row
