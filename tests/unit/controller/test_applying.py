"""Carrying out a Plan on a cluster that only takes notes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from modelrollout.controller.applying import Applier
from modelrollout.controller.cache import Cache, Key
from modelrollout.ports import EventRecord, Manifest, ObjectReference
from modelrollout.render.revision import model_revision
from modelrollout.render.trim import trim
from modelrollout.rollout.plan import Plan, WorkloadPlan
from tests.builders import NAME, NAMESPACE, modeldeployment, name_of, settings

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
    assert kinds == (["ModelRevision", "Deployment", "Service", "PodDisruptionBudget"] if replicas else [])
    if replicas:
        assert cluster.created[0] == model_revision(modeldeployment("1.0.0"), ONE)
        assert cluster.created[1]["metadata"]["ownerReferences"][0]["uid"] == "uid-1"


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
