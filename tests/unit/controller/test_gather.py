"""What is gathered from the watches: only what is ours counts."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from modelrollout.api.modeldeployment import ModelDeployment, parse_modeldeployment
from modelrollout.api.status import Outcome
from modelrollout.controller.cache import Cache, Key
from modelrollout.controller.claims import Claims
from modelrollout.controller.gather import SERVICE_SETTLE, gather, workloads
from modelrollout.controller.measurements import Record
from modelrollout.controller.obstacles import Obstacles
from modelrollout.evidence.policies import Resolution
from modelrollout.ports import Manifest
from modelrollout.render.names import labels, owner_reference
from modelrollout.render.revision import model_revision
from modelrollout.render.route import routes
from modelrollout.render.traffic_service import traffic_service
from modelrollout.render.trim import trim
from modelrollout.rollout.observed import Observed
from modelrollout.rollout.plan import WHOLE, RoutePlan, Slot
from tests.builders import NAME, NAMESPACE, START, UID, manifest, modeldeployment, name_of, settings

KEY, REVISION, RECORD = Key(NAMESPACE, NAME), name_of("1.0.0"), "uid-record"


def child(kind: str, owner: str) -> Manifest:
    metadata = {
        "name": REVISION,
        "namespace": NAMESPACE,
        "uid": f"uid-{kind}",
        "resourceVersion": "1",
        "labels": labels(NAME, REVISION),
        "ownerReferences": [owner_reference("ModelRevision", REVISION, owner)],
    }
    return {"kind": kind, "metadata": metadata, "spec": {"replicas": 2}}


@pytest.mark.parametrize(
    ("owner", "addressed"), [(RECORD, True), ("uid-of-another", False), (None, False)], ids=["ours", "foreign", "none"]
)
def test_pods_are_addressed_only_by_a_service_of_ours(owner: str | None, addressed: bool) -> None:
    cache = Cache()
    cache.put(KEY, child("Deployment", RECORD))
    if owner:
        cache.put(KEY, child("Service", owner))
    assert workloads(KEY, cache, {RECORD})[REVISION].addressed is addressed


def record(
    version: str, *outcomes: Outcome | None, owner: str = UID, created: str = "2026-01-01T00:00:00Z"
) -> Manifest:
    body = model_revision(modeldeployment(version), name_of(version))
    metadata = {"uid": f"uid-{version}", "resourceVersion": "7", "creationTimestamp": created}
    body["metadata"] |= metadata
    body["metadata"]["ownerReferences"][0]["uid"] = owner
    attempts = [{"attempt": 9 - place, "outcome": outcome} for place, outcome in enumerate(outcomes)]
    return {**body, "status": {"attempts": attempts}}


def seen(*manifests: Manifest, wish: ModelDeployment | None = None) -> Observed:
    cache, claims = Cache(trim), Claims()
    for found in manifests:
        cache.put(KEY, found)
    wish = wish or modeldeployment("1.0.0")
    return gather(KEY, Resolution(wish), cache, claims, Record(), Obstacles(), settings(), START)


@pytest.mark.parametrize(
    ("outcomes", "good"),
    [
        ([], False),
        ([None], False),
        (["Promoted"], True),
        (["RolledBack"], False),
        (["RolledBack", "Promoted"], False),
        (["Promoted", "RolledBack"], True),
        (["Superseded", "Aborted", "Concluded", "Promoted"], True),
        (["Superseded", "RolledBack", "Promoted"], False),
        ([None, "Promoted"], True),
        (["Concluded"], False),
        (["Made-up by hand", "Promoted"], True),
    ],
)
def test_known_good_is_what_the_last_attempt_with_an_end_of_its_own_promoted(outcomes: list[Any], good: bool) -> None:
    assert seen(record("1.0.0", *outcomes)).known_good == (frozenset({REVISION}) if good else frozenset())


@pytest.mark.parametrize("status", [None, {}, {"attempts": 3}, {"attempts": [{"outcome": "Promoted"}]}, "x"])
def test_a_record_whose_status_nobody_can_read_is_not_known_good(status: Any) -> None:
    assert seen({**record("1.0.0"), "status": status}).known_good == frozenset()


def test_the_models_are_those_of_the_records() -> None:
    other = record("2.0.0", created="2025-01-01T00:00:00Z")
    other["spec"]["model"]["name"] = "letters"
    observed = seen(record("1.0.0"), other)
    assert observed.models == {name_of("1.0.0"): ("digits", "1.0.0"), name_of("2.0.0"): ("letters", "2.0.0")}
    assert observed.records == (name_of("2.0.0"), name_of("1.0.0"))


def test_records_of_a_deleted_modeldeployment_of_this_name_do_not_count() -> None:
    observed = seen(record("1.0.0", Outcome.PROMOTED, owner="uid-of-the-dead"))
    assert (observed.records, observed.known_good, observed.models) == ((), frozenset(), {})


def route(accepted: bool | None) -> Manifest:
    wish = modeldeployment("1.0.0")
    (body,) = routes(wish, RoutePlan((Slot(REVISION, WHOLE), Slot(None, 0)), REVISION))
    body["metadata"] |= {"uid": "uid-route", "resourceVersion": "5", "generation": 3}
    parents = []
    if accepted is not None:
        said = {"status": "True" if accepted else "False", "observedGeneration": 3, "reason": "x", "message": "y"}
        conditions = [{"type": kind, **said} for kind in ("Accepted", "ResolvedRefs")]
        parents = [{"parentRef": body["spec"]["parentRefs"][0], "controllerName": "c", "conditions": conditions}]
    return {**body, "status": {"parents": parents}}


@pytest.mark.parametrize(
    ("accepted", "silent", "since"), [(None, START, None), (True, None, START), (False, None, None)]
)
def test_since_when_the_gateway_says_what_it_says(
    accepted: bool | None, silent: datetime | None, since: datetime | None
) -> None:
    cache, memory = Cache(trim), Record()
    cache.put(KEY, route(accepted))
    for minutes in (0, 5):
        now = START + timedelta(minutes=minutes)
        observed = gather(
            KEY, Resolution(modeldeployment("1.0.0")), cache, Claims(), memory, Obstacles(), settings(), now
        )
        assert (observed.silent_since, observed.route.accepted_since) == (silent, since)


def test_without_a_gateway_the_service_is_the_route() -> None:
    raw = manifest("1.0.0", guards=(), strategy="BlueGreen")
    raw["spec"]["traffic"] = {"service": {}}
    raw["spec"]["rollout"].pop("canary", None)
    wish = parse_modeldeployment(raw)
    body = traffic_service(wish, RoutePlan((Slot(REVISION, WHOLE), Slot(None, 0)), REVISION))
    body["metadata"] |= {"uid": "uid-service", "resourceVersion": "5"}
    assert seen(wish=wish).route.backends is None
    observed = seen(body, wish=wish)
    assert observed.route.weight_of(REVISION) == WHOLE
    assert observed.route.accepted_since == START
    assert observed.settle == SERVICE_SETTLE
    assert not observed.route.probed
