"""Carrying out a Plan on a cluster that only takes notes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from modelrollout.api.modeldeployment import ModelDeployment, parse_modeldeployment
from modelrollout.controller.applying import Applier
from modelrollout.controller.cache import Cache, Key
from modelrollout.ports import EventRecord, ForeignObjectError, Manifest, ObjectReference
from modelrollout.render.revision import model_revision
from modelrollout.render.trim import trim
from modelrollout.rollout.plan import WHOLE, Mirror, Plan, RoutePlan, Slot, WorkloadPlan
from tests.builders import NAME, NAMESPACE, manifest, modeldeployment, name_of, settings

KEY, ONE, TWO = Key(NAMESPACE, NAME), name_of("1.0.0"), name_of("2.0.0")


class Notes:
    """A cluster that stores nothing and answers every write with a stored object."""

    def __init__(self) -> None:
        self.created: list[Manifest] = []

    async def create(self, body: Manifest) -> Manifest:
        self.created.append(body)
        number = len(self.created)
        return {**body, "metadata": {**body["metadata"], "uid": f"uid-{number}", "resourceVersion": str(100 + number)}}

    async def apply(self, body: Manifest) -> Manifest:
        raise AssertionError(f"changed: {body}")

    async def apply_status(self, body: Manifest) -> Manifest:
        raise AssertionError(f"status: {body}")

    async def delete(self, reference: ObjectReference, uid: str) -> None:
        raise AssertionError(f"deleted: {reference}")

    async def emit(self, event: EventRecord) -> None:
        raise AssertionError(f"event: {event}")


def record(version: str) -> dict[str, Any]:
    body = model_revision(modeldeployment(version), name_of(version))
    return {**body, "metadata": {**body["metadata"], "uid": f"uid-{version}", "resourceVersion": "7"}}


@pytest.mark.parametrize("replicas", [0, 2])
def test_the_record_of_the_revision_that_serves_is_made_anew_when_somebody_deletes_it(replicas: int) -> None:
    """The spec asks for another one by now, so only what was seen of it tells what it was made of."""
    cluster, cache = Notes(), Cache(trim)
    cache.put(KEY, record("1.0.0"))
    cache.put(KEY, record("2.0.0"))
    cache.remove(KEY, "ModelRevision", ONE, "uid-1.0.0")
    wish = modeldeployment("2.0.0")
    plan = Plan(wish.status, workloads=(WorkloadPlan(ONE, replicas),))
    asyncio.run(Applier(cluster, cache, settings()).apply(KEY, wish, plan))
    kinds = [body["kind"] for body in cluster.created]
    assert kinds == ["ModelRevision", "Deployment", "Service", "PodDisruptionBudget"]
    assert cluster.created[0] == model_revision(modeldeployment("1.0.0"), ONE)
    assert cluster.created[1]["metadata"]["ownerReferences"][0]["uid"] == "uid-1"
    assert cluster.created[1]["spec"]["replicas"] == replicas


def test_the_record_of_another_modeldeployment_of_this_name_is_not_made_anew() -> None:
    cluster, cache = Notes(), Cache(trim)
    old = record("1.0.0")
    old["metadata"]["ownerReferences"][0]["uid"] = "uid-of-a-deleted-one"
    cache.put(KEY, old)
    cache.remove(KEY, "ModelRevision", ONE, "uid-1.0.0")
    wish = modeldeployment("2.0.0")
    asyncio.run(
        Applier(cluster, cache, settings()).apply(KEY, wish, Plan(wish.status, workloads=(WorkloadPlan(ONE, 2),)))
    )
    assert cluster.created == []


class Stored(Notes):
    """A cluster that keeps what is written, and takes down the order of the writes."""

    def __init__(self, cache: Cache, *, foreign: str = "") -> None:
        super().__init__()
        self.cache = cache
        self.foreign = foreign
        self.writes: list[str] = []

    async def create(self, body: Manifest) -> Manifest:
        metadata = body["metadata"]
        if metadata["name"] == self.foreign:
            raise ForeignObjectError(f"{body['kind']} {metadata['name']} is not ours")
        self.writes.append(f"create {body['kind']} {metadata['name']}")
        return self._kept(body, f"uid-{body['kind']}-{metadata['name']}")

    async def apply(self, body: Manifest) -> Manifest:
        self.writes.append(f"apply {body['kind']} {body['metadata']['name']}")
        return self._kept(body, body["metadata"]["uid"])

    async def delete(self, reference: ObjectReference, uid: str) -> None:
        self.writes.append(f"delete {reference.kind} {reference.name}")

    def _kept(self, body: Manifest, uid: str) -> Manifest:
        number = str(100 + len(self.writes))
        return {**body, "metadata": {**body["metadata"], "uid": uid, "resourceVersion": number}}

    def carry_out(self, wish: ModelDeployment, **plan: Any) -> list[str]:
        """The writes that one Plan needs."""
        before = len(self.writes)
        asyncio.run(Applier(self, self.cache, settings()).apply(KEY, wish, Plan(wish.status, **plan)))
        return self.writes[before:]

    def taken(self, kind: str) -> None:
        """The gateway accepts the route."""
        route = self.cache.get(KEY, kind, NAME)
        assert route is not None
        conditions = [{"type": kind, "status": "True"} for kind in ("Accepted", "ResolvedRefs")]
        route["status"] = {"parents": [{"parentRef": route["spec"]["parentRefs"][0], "conditions": conditions}]}
        self.cache.put(KEY, route)


HOME = RoutePlan((Slot(ONE, WHOLE), Slot(None, 0)), ONE)
HALF = RoutePlan((Slot(ONE, WHOLE // 2), Slot(TWO, WHOLE // 2)), ONE)
PREVIEW = {"http": {"hostnames": ["next.example.com"]}, "grpc": {"hostnames": ["next-grpc.example.com"]}}


def by_gateway(grpc: bool = False, preview: bool = False) -> ModelDeployment:
    raw = manifest("2.0.0", grpc=grpc)
    if preview:
        raw["spec"]["rollout"] |= {"strategy": "BlueGreen", "blueGreen": {"approval": True, "preview": PREVIEW}}
        del raw["spec"]["rollout"]["canary"]
    return parse_modeldeployment(raw)


def by_service() -> ModelDeployment:
    raw = manifest("2.0.0", guards=())
    raw["spec"]["traffic"] = {"service": {}}
    raw["spec"]["rollout"] |= {"strategy": "BlueGreen"}
    del raw["spec"]["rollout"]["canary"]
    return parse_modeldeployment(raw)


def test_nothing_is_written_twice() -> None:
    for wish in (by_gateway(grpc=True, preview=True), by_service()):
        cluster = Stored(Cache(trim))
        cluster.cache.put(KEY, record("2.0.0"))
        cluster.carry_out(wish, workloads=(WorkloadPlan(TWO, 1),))
        for plan in (HOME, HALF, RoutePlan(HALF.slots, ONE, mirror=Mirror(TWO, 10), split=TWO, preview=TWO)):
            if wish.spec.traffic.gateway is not None or plan.mirror is None:
                assert cluster.carry_out(wish, route=plan)
            assert cluster.carry_out(wish, route=plan) == []


def test_routes_of_the_preview_go_with_the_preview() -> None:
    cluster = Stored(Cache(trim))
    assert cluster.carry_out(by_gateway(preview=True), route=HOME) == [
        "create HTTPRoute digits",
        "create HTTPRoute digits--preview",
        "create GRPCRoute digits--preview",
    ]
    moved = cluster.carry_out(by_gateway(preview=True), route=RoutePlan(HOME.slots, ONE, preview=TWO))
    assert moved == ["apply HTTPRoute digits--preview", "apply GRPCRoute digits--preview"]
    gone = cluster.carry_out(by_gateway(), route=HOME)
    assert gone == ["delete HTTPRoute digits--preview", "delete GRPCRoute digits--preview"]
    assert cluster.carry_out(by_gateway(), route=HOME) == []


def test_from_routes_to_a_service() -> None:
    cluster = Stored(Cache(trim))
    cluster.carry_out(by_gateway(grpc=True), route=HOME)
    assert cluster.carry_out(by_service(), route=HOME) == [
        "create Service digits",
        "delete HTTPRoute digits",
        "delete GRPCRoute digits",
    ]


def test_routes_stay_while_the_service_cannot_be() -> None:
    cache = Cache(trim)
    Stored(cache).carry_out(by_gateway(), route=HOME)
    cluster = Stored(cache, foreign=NAME)
    with pytest.raises(ForeignObjectError):
        cluster.carry_out(by_service(), route=HOME)
    assert cluster.writes == []


def test_the_service_goes_once_the_gateway_took_the_routes_and_follows_the_plan_till_then() -> None:
    cluster = Stored(Cache(trim))
    cluster.carry_out(by_service(), route=HOME)
    assert cluster.carry_out(by_gateway(), route=HOME) == ["create HTTPRoute digits"]
    other = RoutePlan((Slot(ONE, 1), Slot(TWO, WHOLE - 1)), ONE)
    assert cluster.carry_out(by_gateway(), route=other) == ["apply HTTPRoute digits", "apply Service digits"]
    assert cluster.carry_out(by_gateway(), route=other) == []
    cluster.taken("HTTPRoute")
    assert cluster.carry_out(by_gateway(), route=other) == ["delete Service digits"]
    assert cluster.carry_out(by_gateway(), route=other) == []


def test_a_service_of_that_name_of_somebody_else_is_left_alone() -> None:
    cache = Cache(trim)
    theirs = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "uid": "theirs"},
    }
    cache.put(KEY, theirs)
    cluster = Stored(cache)
    cluster.carry_out(by_gateway(), route=HOME)
    cluster.taken("HTTPRoute")
    assert cluster.carry_out(by_gateway(), route=HOME) == []


def test_the_serving_revision_at_no_pods_keeps_its_service_and_budget() -> None:
    cluster = Stored(Cache(trim))
    cluster.cache.put(KEY, record("1.0.0"))
    made = [f"create {kind} {ONE}" for kind in ("Deployment", "Service", "PodDisruptionBudget")]
    assert cluster.carry_out(by_gateway(), workloads=(WorkloadPlan(ONE, 2),)) == made
    assert cluster.carry_out(by_gateway(), workloads=(WorkloadPlan(ONE, 0),)) == [f"apply Deployment {ONE}"]
    live = cluster.cache.get(KEY, "Deployment", ONE)
    assert live is not None
    assert live["spec"]["replicas"] == 0
    cluster.cache.remove(KEY, "Service", ONE, f"uid-Service-{ONE}")
    assert cluster.carry_out(by_gateway(), workloads=(WorkloadPlan(ONE, 0),)) == [f"create Service {ONE}"]


def test_a_retired_revision_is_only_scaled() -> None:
    cluster = Stored(Cache(trim))
    cluster.cache.put(KEY, record("1.0.0"))
    assert cluster.carry_out(by_gateway(), retire=(ONE,)) == []
    cluster.carry_out(by_gateway(), workloads=(WorkloadPlan(ONE, 2),))
    cluster.cache.remove(KEY, "Service", ONE, f"uid-Service-{ONE}")
    assert cluster.carry_out(by_gateway(), retire=(ONE,)) == [f"apply Deployment {ONE}"]
    assert cluster.carry_out(by_gateway(), retire=(ONE,)) == []


def test_no_copies_for_a_service_that_is_not_there() -> None:
    """The gateway would answer every user with 500. The route follows once the Service is there."""
    cluster = Stored(Cache(trim))
    shadow = RoutePlan((Slot(ONE, WHOLE), Slot(TWO, 0)), ONE, mirror=Mirror(TWO, 10))

    def copied() -> bool:
        return "RequestMirror" in str(cluster.cache.get(KEY, "HTTPRoute", NAME))

    cluster.cache.put(KEY, record("2.0.0"))
    cluster.carry_out(by_gateway(), route=shadow, workloads=(WorkloadPlan(TWO, 1),))
    assert not copied()
    assert cluster.carry_out(by_gateway(), route=shadow) == [f"apply HTTPRoute {NAME}"]
    assert copied()
    cluster.cache.remove(KEY, "Service", TWO, f"uid-Service-{TWO}")
    writes = cluster.carry_out(by_gateway(), route=shadow, workloads=(WorkloadPlan(TWO, 1),))
    assert writes == [f"apply HTTPRoute {NAME}", f"create Service {TWO}"]
    assert not copied()


def test_no_copies_for_a_service_of_somebody_else() -> None:
    cluster = Stored(Cache(trim))
    cluster.cache.put(KEY, record("2.0.0"))
    theirs = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": TWO, "namespace": NAMESPACE, "uid": "theirs"}}
    cluster.cache.put(KEY, theirs)
    cluster.carry_out(by_gateway(), route=RoutePlan(HOME.slots, ONE, mirror=Mirror(TWO, 10)))
    assert "RequestMirror" not in str(cluster.cache.get(KEY, "HTTPRoute", NAME))
