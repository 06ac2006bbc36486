"""What is gathered from the watches: only what is ours counts."""

from __future__ import annotations

import pytest

from modelrollout.controller.cache import Cache, Key
from modelrollout.controller.gather import workloads
from modelrollout.ports import Manifest
from modelrollout.render.names import labels, owner_reference
from tests.builders import NAME, NAMESPACE, name_of

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
