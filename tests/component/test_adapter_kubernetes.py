"""The Kubernetes adapter on a real API server: who owns which field, and what is never touched."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio

from modelrollout.adapters.apiserver import ApiServer as Connection
from modelrollout.adapters.kubernetes import KubernetesCluster
from modelrollout.adapters.login import Login
from modelrollout.api.modeldeployment import parse_modeldeployment
from modelrollout.ports import (
    ConflictError,
    DeniedError,
    EventRecord,
    ForeignObjectError,
    ObjectReference,
    RejectedError,
    TerminatingError,
    TransientError,
)
from modelrollout.render.trim import trim
from tests.badspecs import Manifest, good
from tests.component.apiserver import APPLY, MERGE, Answer, ApiServer

NOW = datetime(2026, 11, 21, 10, 30, 0, 123456, tzinfo=UTC)


class FixedClock:
    def now(self) -> datetime:
        return NOW

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("the adapter does not wait")


@pytest_asyncio.fixture
async def cluster(api: ApiServer) -> AsyncIterator[KubernetesCluster]:
    connection = Connection(Login(api.kubeconfig))
    yield KubernetesCluster(connection, FixedClock(), instance="test")
    await connection.close()


OWNER: Manifest = {
    "apiVersion": "modelrollout.io/v1alpha1",
    "kind": "ModelRevision",
    "name": "digits-0123456789",
    "uid": str(uuid.uuid4()),
    "controller": True,
    "blockOwnerDeletion": False,
}


def service(namespace: str, owner: Manifest | None = OWNER, **metadata: Any) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "digits-0123456789",
            "namespace": namespace,
            "labels": {"app.kubernetes.io/managed-by": "modelrollout"},
            "ownerReferences": [owner] if owner else [],
            **metadata,
        },
        "spec": {
            "selector": {"modelrollout.io/revision": "digits-0123456789"},
            "ports": [{"name": "http", "port": 8000, "protocol": "TCP"}],
        },
    }


def path(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/services/digits-0123456789"


def stored(api: ApiServer, namespace: str) -> Manifest:
    answer = api.request("GET", path(namespace))
    assert answer.code == 200, answer.message
    return answer.body


def by_somebody_else(api: ApiServer, namespace: str, body: Manifest) -> Answer:
    answer = api.request("POST", f"/api/v1/namespaces/{namespace}/services", body, fieldManager="somebody-else")
    assert answer.code == 201, answer.message
    return answer


class TestCreate:
    async def test_what_is_not_there_is_made_under_our_name(
        self, cluster: KubernetesCluster, api: ApiServer, namespace: str
    ) -> None:
        made = await cluster.create(service(namespace))
        assert made["metadata"]["uid"] == stored(api, namespace)["metadata"]["uid"]
        managers = [(entry["manager"], entry["operation"]) for entry in made["metadata"]["managedFields"]]
        assert managers == [("modelrollout", "Apply")]

    @pytest.mark.parametrize(
        "owner",
        [
            None,
            {**OWNER, "kind": "Deployment", "apiVersion": "apps/v1", "name": "other", "uid": str(uuid.uuid4())},
            {**OWNER, "name": "other-0123456789", "uid": str(uuid.uuid4())},
        ],
        ids=["nobody's", "another controller's", "another revision's"],
    )
    async def test_a_foreign_object_is_refused_and_left_as_it_is(
        self, cluster: KubernetesCluster, api: ApiServer, namespace: str, owner: Manifest | None
    ) -> None:
        theirs = by_somebody_else(api, namespace, service(namespace, owner, labels={"team": "theirs"})).body
        with pytest.raises(ForeignObjectError, match=f"Service {namespace}/digits-0123456789 exists"):
            await cluster.create(service(namespace))
        assert stored(api, namespace) == theirs

    async def test_again_after_a_lost_answer(self, cluster: KubernetesCluster, api: ApiServer, namespace: str) -> None:
        first = await cluster.create(service(namespace))
        second = await cluster.create(service(namespace))
        assert second["metadata"]["uid"] == first["metadata"]["uid"]
        assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]

    async def test_one_of_a_former_owner_of_the_same_name_is_waited_for(
        self, cluster: KubernetesCluster, api: ApiServer, namespace: str
    ) -> None:
        theirs = by_somebody_else(api, namespace, service(namespace, {**OWNER, "uid": str(uuid.uuid4())})).body
        with pytest.raises(ConflictError):
            await cluster.create(service(namespace))
        assert stored(api, namespace) == theirs


class TestApply:
    async def test_fields_of_others_are_left_alone(
        self, cluster: KubernetesCluster, api: ApiServer, namespace: str
    ) -> None:
        await cluster.create(service(namespace))
        theirs = {
            "metadata": {"annotations": {"team": "payments"}, "labels": {"cost-centre": "42"}},
            "spec": {"sessionAffinity": "ClientIP", "trafficDistribution": "PreferClose"},
        }
        assert api.request("PATCH", path(namespace), theirs, MERGE, fieldManager="somebody-else").code == 200
        ours = service(namespace)
        ours["spec"]["ports"].append({"name": "grpc", "port": 8001, "protocol": "TCP"})
        applied = await cluster.apply(ours)
        assert applied["metadata"]["annotations"] == {"team": "payments"}
        assert applied["metadata"]["labels"] == {
            "app.kubernetes.io/managed-by": "modelrollout",
            "cost-centre": "42",
        }
        assert applied["spec"]["sessionAffinity"] == "ClientIP"
        assert applied["spec"]["trafficDistribution"] == "PreferClose"
        assert [port["port"] for port in applied["spec"]["ports"]] == [8000, 8001]

    async def test_a_field_of_ours_that_somebody_changed_is_set_back(
        self, cluster: KubernetesCluster, api: ApiServer, namespace: str
    ) -> None:
        await cluster.create(service(namespace))
        theirs = {"spec": {"selector": {"modelrollout.io/revision": "other"}}}
        api.request("PATCH", path(namespace), theirs, MERGE, fieldManager="somebody-else")
        applied = await cluster.apply(service(namespace))
        assert applied["spec"]["selector"] == {"modelrollout.io/revision": "digits-0123456789"}

    async def test_a_field_that_we_no_longer_send_goes(self, cluster: KubernetesCluster, namespace: str) -> None:
        await cluster.create(service(namespace, annotations={"old": "ours"}))
        applied = await cluster.apply(service(namespace))
        assert "annotations" not in applied["metadata"]

    async def test_the_same_again_changes_nothing(self, cluster: KubernetesCluster, namespace: str) -> None:
        made = await cluster.create(service(namespace))
        applied = await cluster.apply(service(namespace))
        assert applied["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]

    async def test_a_stale_version_is_a_conflict(
        self, cluster: KubernetesCluster, api: ApiServer, namespace: str
    ) -> None:
        made = await cluster.create(service(namespace))
        api.request("PATCH", path(namespace), {"metadata": {"labels": {"a": "b"}}}, MERGE)
        changed = service(namespace, resourceVersion=made["metadata"]["resourceVersion"], annotations={"a": "b"})
        with pytest.raises(ConflictError):
            await cluster.apply(changed)
        assert "annotations" not in stored(api, namespace)["metadata"]

    @pytest.mark.parametrize("there", [True, False], ids=["another took its name", "it is gone"])
    async def test_the_uid_is_a_condition(
        self, cluster: KubernetesCluster, api: ApiServer, namespace: str, there: bool
    ) -> None:
        if there:
            await cluster.create(service(namespace))
        with pytest.raises(ConflictError):
            await cluster.apply(service(namespace, uid=str(uuid.uuid4()), annotations={"a": "b"}))
        found = api.request("GET", path(namespace))
        assert found.code == (200 if there else 404)
        assert "annotations" not in found.body.get("metadata", {})

    async def test_what_the_server_cannot_take_is_rejected(self, cluster: KubernetesCluster, namespace: str) -> None:
        body = service(namespace)
        body["spec"]["ports"][0]["port"] = 70000
        with pytest.raises(RejectedError, match=r"spec\.ports"):
            await cluster.apply(body)

    async def test_without_rights(self, api: ApiServer, namespace: str) -> None:
        connection = Connection(Login(api.kubeconfig_without_rights))
        try:
            with pytest.raises(DeniedError, match="services"):
                await KubernetesCluster(connection, FixedClock()).apply(service(namespace))
        finally:
            await connection.close()
        assert api.request("GET", path(namespace)).code == 404

    async def test_no_write_without_the_lease(self, api: ApiServer, namespace: str) -> None:
        connection = Connection(Login(api.kubeconfig))
        try:
            with pytest.raises(TransientError):
                await KubernetesCluster(connection, FixedClock(), write_window=lambda: 0.0).apply(service(namespace))
        finally:
            await connection.close()
        assert api.request("GET", path(namespace)).code == 404


class TestStatus:
    @pytest.fixture
    def made(self, api: ApiServer, namespace: str) -> Manifest:
        answer = api.request("POST", self.path(namespace), good(), fieldManager="argocd")
        assert answer.code == 201, answer.message
        return answer.body

    @staticmethod
    def path(namespace: str, name: str = "") -> str:
        return f"/apis/modelrollout.io/v1alpha1/namespaces/{namespace}/modeldeployments/{name}".rstrip("/")

    @staticmethod
    def body(made: Manifest, status: Manifest) -> Manifest:
        metadata = {key: made["metadata"][key] for key in ("name", "namespace", "uid", "resourceVersion")}
        return {"apiVersion": made["apiVersion"], "kind": made["kind"], "metadata": metadata, "status": status}

    async def test_only_the_status_is_written(self, cluster: KubernetesCluster, made: Manifest) -> None:
        written = await cluster.apply_status(self.body(made, {"phase": "Preparing", "observedGeneration": 1}))
        assert written["status"] == {"phase": "Preparing", "observedGeneration": 1}
        assert written["spec"] == made["spec"]
        for key in ("generation", "labels", "annotations", "finalizers"):
            assert written["metadata"].get(key) == made["metadata"].get(key)

    async def test_what_is_left_out_goes(self, cluster: KubernetesCluster, made: Manifest) -> None:
        first = await cluster.apply_status(self.body(made, {"phase": "Preparing", "rollout": {"attempt": 1}}))
        second = await cluster.apply_status(self.body(first, {"phase": "Idle"}))
        assert second["status"] == {"phase": "Idle"}

    async def test_a_stale_version_is_a_conflict(
        self, cluster: KubernetesCluster, api: ApiServer, made: Manifest
    ) -> None:
        await cluster.apply_status(self.body(made, {"phase": "Preparing"}))
        with pytest.raises(ConflictError):
            await cluster.apply_status(self.body(made, {"phase": "Idle"}))

    async def test_a_condition_of_somebody_else_is_left_alone(
        self, cluster: KubernetesCluster, api: ApiServer, namespace: str, made: Manifest
    ) -> None:
        theirs = self.body(made, {"conditions": [{"type": "Audited", "status": "True"}]})
        del theirs["metadata"]["resourceVersion"]
        path = f"{self.path(namespace, 'digits')}/status"
        first = api.request("PATCH", path, theirs, APPLY, fieldManager="auditor")
        assert first.code == 200, first.message
        ours = {"conditions": [{"type": "Ready", "status": "False"}]}
        written = await cluster.apply_status(self.body(first.body, ours))
        assert {each["type"] for each in written["status"]["conditions"]} == {"Audited", "Ready"}

    async def test_a_status_of_an_object_that_is_gone(
        self, cluster: KubernetesCluster, api: ApiServer, namespace: str, made: Manifest
    ) -> None:
        api.request("DELETE", self.path(namespace, "digits"))
        with pytest.raises(ConflictError):
            await cluster.apply_status(self.body(made, {"phase": "Idle"}))


class TestDelete:
    async def test_only_the_very_object(self, cluster: KubernetesCluster, api: ApiServer, namespace: str) -> None:
        made = await cluster.create(service(namespace))
        reference = ObjectReference("Service", namespace, "digits-0123456789")
        with pytest.raises(ConflictError):
            await cluster.delete(reference, str(uuid.uuid4()))
        assert api.request("GET", path(namespace)).code == 200
        await cluster.delete(reference, made["metadata"]["uid"])
        assert api.request("GET", path(namespace)).code == 404
        await cluster.delete(reference, made["metadata"]["uid"])


class TestEvents:
    async def test_an_event_is_stored_about_the_object(
        self, cluster: KubernetesCluster, api: ApiServer, namespace: str
    ) -> None:
        made = api.request("POST", TestStatus.path(namespace), good()).body
        event = EventRecord(made, "GuardBreached", "errors 0.3 > 0.01\x1b[31m " + "ä" * 3000, warning=True)
        await cluster.emit(event)
        await cluster.emit(event)
        (found,) = api.request("GET", f"/apis/events.k8s.io/v1/namespaces/{namespace}/events").body["items"]
        assert (found["reason"], found["type"]) == ("GuardBreached", "Warning")
        assert found["regarding"]["uid"] == made["metadata"]["uid"]
        assert found["note"].startswith("errors 0.3 > 0.01")
        assert found["note"].isprintable()
        assert len(found["note"].encode()) <= 1024
        assert found["eventTime"] == "2026-11-21T10:30:00.123456Z"


class TestTerminatingNamespace:
    """Without a namespace controller it stays as it is: marked, with everything still in it."""

    async def test_nothing_new_can_be_made_and_what_is_there_can_be_changed(
        self, cluster: KubernetesCluster, api: ApiServer, namespace: str
    ) -> None:
        made = await cluster.create(service(namespace))
        answer = api.request("DELETE", f"/api/v1/namespaces/{namespace}")
        assert answer.body["status"]["phase"] == "Terminating", answer.message
        other = service(namespace)
        other["metadata"]["name"] = "digits-1111111111"
        with pytest.raises(TerminatingError, match="is being deleted"):
            await cluster.create(other)
        with pytest.raises(TerminatingError):
            await cluster.emit(EventRecord(made, "Promoted", "news", warning=False))
        changed = service(namespace, uid=made["metadata"]["uid"])
        changed["metadata"]["labels"]["more"] = "labels"
        assert (await cluster.apply(changed))["metadata"]["labels"]["more"] == "labels"


class TestWhoGaveACommand:
    COMMAND = "modelrollout.io/command"

    async def test_the_client_that_wrote_the_annotation_last(self, api: ApiServer, namespace: str) -> None:
        path = TestStatus.path(namespace)
        made = api.request("POST", path, good(), fieldManager="helm")
        assert made.code == 201, made.message
        assert self.writer(api, f"{path}/digits") == ""
        api.kubectl("annotate", "-n", namespace, "modeldeployments/digits", f"{self.COMMAND}=pause/1")
        assert self.writer(api, f"{path}/digits") == "kubectl-annotate"
        body = {"metadata": {"annotations": {self.COMMAND: "resume/2"}}}
        changed = api.request("PATCH", f"{path}/digits", body, MERGE, fieldManager="console")
        assert changed.code == 200, changed.message
        assert self.writer(api, f"{path}/digits") == "console"

    def writer(self, api: ApiServer, path: str) -> str:
        raw = api.request("GET", path).body
        kept = parse_modeldeployment(trim("ModelDeployment", raw)).metadata
        assert kept == parse_modeldeployment(raw).metadata.model_copy(
            update={"annotations": kept.annotations, "labels": kept.labels}
        )
        return kept.commanded_by
