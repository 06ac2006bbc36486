"""What the renderer makes of every example, also at its strategy's first stage, is taken and left alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest
import pytest_asyncio
import yaml

from modelrollout.adapters.apiserver import ApiServer as Connection
from modelrollout.adapters.kubernetes import KubernetesCluster
from modelrollout.adapters.login import Login
from modelrollout.api.modeldeployment import ModelDeployment, parse_modeldeployment, revision_name
from modelrollout.api.modelrevision import parse_modelrevision
from modelrollout.render.readback import mirror_of, split_of
from modelrollout.render.revision import Materials, Revision, model_revision
from modelrollout.render.route import preview_routes, routes
from modelrollout.render.service import disruption_budget, service
from modelrollout.render.traffic_service import traffic_service
from modelrollout.render.workload import deployment as workload
from modelrollout.rollout.plan import ARMED, WHOLE, Mirror, RoutePlan, Slot
from modelrollout.rollout.strategies import Stage, course_of
from modelrollout.settings import Pool
from tests.badspecs import Manifest
from tests.component.apiserver import MERGE, REPOSITORY, ApiServer
from tests.component.test_adapter_kubernetes import FixedClock

EXAMPLES = {
    f"{path.stem}-{document['metadata']['name']}": document
    for path in sorted((REPOSITORY / "deploy" / "examples").glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
    if document["kind"] == "ModelDeployment"
}
MADE_WITH = Materials(
    pool=Pool(image="localhost/triton:test"),
    operator_image="localhost/modelrollout:test",
    drain_seconds=15,
    exit_timeout_seconds=30,
)


@pytest_asyncio.fixture
async def cluster(gateway_api: ApiServer) -> AsyncIterator[KubernetesCluster]:
    connection = Connection(Login(gateway_api.kubeconfig))
    yield KubernetesCluster(connection, FixedClock(), instance="test")
    await connection.close()


@dataclass(frozen=True)
class Stored:
    """An example as the API server stores it, with the record of its revision."""

    deployment: ModelDeployment
    revision: Revision


@pytest_asyncio.fixture(params=EXAMPLES)
async def stored(request: pytest.FixtureRequest, cluster: KubernetesCluster, api: ApiServer, namespace: str) -> Stored:
    manifest: Manifest = EXAMPLES[request.param]
    path = f"/apis/modelrollout.io/v1alpha1/namespaces/{namespace}/modeldeployments"
    deployment = parse_modeldeployment(api.request("POST", path, manifest).body)
    name = revision_name(deployment.metadata.name, deployment.spec)
    # What the API server filled in must not make another revision than what the person wrote.
    assert name == revision_name(manifest["metadata"]["name"], parse_modeldeployment(manifest).spec)
    record = await cluster.create(model_revision(deployment, name))
    return Stored(deployment, Revision.of(parse_modelrevision(record)))


async def test_taken_and_quiet(cluster: KubernetesCluster, stored: Stored) -> None:
    plan = RoutePlan((Slot(stored.revision.name, WHOLE), Slot(None, 0)), stored.revision.name)
    bodies: list[Manifest] = [
        model_revision(stored.deployment, stored.revision.name),
        workload(stored.revision, 2, MADE_WITH),
        service(stored.revision),
        disruption_budget(stored.revision),
        *routes(stored.deployment, plan),
    ]
    for body in bodies:
        made = await cluster.create(body)
        again = await cluster.apply(body)
        assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"], body["kind"]


async def test_arming_weights_are_taken(cluster: KubernetesCluster, stored: Stored) -> None:
    stable = stored.revision.name
    other = replace(stored.revision, name=f"{stored.revision.deployment}-ffffffffff").name
    plan = RoutePlan((Slot(stable, WHOLE - ARMED), Slot(other, ARMED)), stable)
    for body in routes(stored.deployment, plan):
        made = await cluster.create(body)
        assert [backend["weight"] for backend in made["spec"]["rules"][0]["backendRefs"]] == [WHOLE - ARMED, ARMED]


def at_its_first_stage(stored: Stored) -> RoutePlan:
    """The plan of the first stage that the example's own strategy makes of a second revision."""
    stable, candidate = stored.revision.name, f"{stored.revision.deployment}-ffffffffff"
    stages = course_of(stored.deployment.spec.rollout).stages
    stage = stages[0] if stages else Stage("nothing before all traffic for")
    return RoutePlan(
        (Slot(stable, WHOLE - stage.weight), Slot(candidate, stage.weight)),
        stable,
        mirror=Mirror(candidate, stage.mirror) if stage.mirror else None,
        split=candidate if stage.split else None,
        preview=candidate if stage.preview else None,
    )


async def test_the_first_stage_is_taken_and_read_back(cluster: KubernetesCluster, stored: Stored) -> None:
    plan = at_its_first_stage(stored)
    if stored.deployment.spec.traffic.service is not None:
        bodies: tuple[Manifest, ...] = (traffic_service(stored.deployment, plan),)
    else:
        bodies = (*routes(stored.deployment, plan), *preview_routes(stored.deployment, plan))
    assert bodies
    for body in bodies:
        made = await cluster.create(body)
        again = await cluster.apply(body)
        assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"], body["kind"]
        if body["metadata"]["name"] == stored.deployment.metadata.name and body["kind"] != "Service":
            assert mirror_of(made) == (plan.mirror and (plan.mirror.revision, plan.mirror.weight))
            assert split_of(made) == plan.split


async def test_what_the_gateway_reports_is_left_alone(
    cluster: KubernetesCluster, stored: Stored, api: ApiServer
) -> None:
    stable = stored.revision.name
    plan = RoutePlan((Slot(stable, WHOLE), Slot(None, 0)), stable)
    for body in routes(stored.deployment, plan):
        made = await cluster.create(body)
        plural = {"HTTPRoute": "httproutes", "GRPCRoute": "grpcroutes"}[body["kind"]]
        where = made["metadata"]
        path = f"/apis/{made['apiVersion']}/namespaces/{where['namespace']}/{plural}/{where['name']}"
        parents = [
            {"parentRef": made["spec"]["parentRefs"][0], "controllerName": "example.com/gateway", "conditions": []}
        ]
        condition = {
            "type": "Accepted",
            "status": "True",
            "reason": "Accepted",
            "message": "",
            "lastTransitionTime": "2026-11-21T10:30:00Z",
        }
        parents[0]["conditions"] = [condition]
        reported = api.request("PATCH", f"{path}/status", {"status": {"parents": parents}}, MERGE)
        assert reported.code == 200, reported.message
        moved = RoutePlan((Slot(stable, WHOLE - ARMED), Slot(f"{stable[:-10]}ffffffffff", ARMED)), stable)
        (changed,) = (each for each in routes(stored.deployment, moved) if each["kind"] == body["kind"])
        applied = await cluster.apply(changed)
        assert applied["status"] == reported.body["status"]
        assert applied["metadata"]["generation"] == made["metadata"]["generation"] + 1
