"""What a plan learns of the operator's settings, the nodes and Prometheus."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from modelrollout.api.modeldeployment import ModelDeployment, parse_modeldeployment
from modelrollout.api.status import Verdict
from modelrollout.cli import surroundings
from modelrollout.cli.failing import Complaint
from modelrollout.evidence.policies import Resolution
from modelrollout.ports import DeniedError
from modelrollout.settings import Settings, parse
from tests.unit.cli.cases import load, read

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
NOBODY = "http://127.0.0.1:9"


class Cluster:
    """Lists by kind; an exception is raised."""

    def __init__(self, **lists: Any) -> None:
        self.lists = lists

    def list_objects(self, kind: str, namespace: str | None, selector: str = "", field: str = "") -> Any:
        found = self.lists.get(kind, [])
        if isinstance(found, Exception):
            raise found
        return found, "1"


def wish(**spec: Any) -> ModelDeployment:
    raw = load("canary-step")["deployment"]
    raw.pop("status")
    raw["spec"].update(spec)
    return parse_modeldeployment(raw)


def settings_map(text: str) -> dict[str, Any]:
    return {"metadata": {"namespace": "system", "name": "modelrollout"}, "data": {"settings.yaml": text}}


def settings_of(cluster: Any, namespace: str = "demo") -> surroundings.Known:
    return surroundings.operator_settings(cluster, namespace, None)


def test_settings_of_the_operator_that_looks_after_the_namespace() -> None:
    other, ours = settings_map("namespaces: [other]"), settings_map("pools: {cpu: {image: a}, big: {image: b}}")
    known = settings_of(Cluster(ConfigMap=[other, {"metadata": {}}, ours]))
    assert known.settings is not None
    assert set(known.settings.pools) == {"cpu", "big"}
    assert settings_of(Cluster(ConfigMap=[other])).settings is None


def test_settings_that_are_not_known_are_said() -> None:
    for cluster, words in (
        (Cluster(ConfigMap=DeniedError("not allowed to list configmaps")), "not allowed to list configmaps"),
        (Cluster(ConfigMap=[settings_map("nonsense: 1")]), "unknown key"),
        (None, "without a cluster"),
    ):
        assert words in settings_of(cluster).note


def test_settings_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("pools: {gpu: {image: a}}")
    known = surroundings.operator_settings(None, "demo", path)
    assert known.settings is not None
    assert "gpu" in known.settings.pools
    path.write_text("nonsense: 1")
    with pytest.raises(Complaint):
        surroundings.operator_settings(None, "demo", path)


def node(**labels: str) -> dict[str, Any]:
    return {
        "metadata": {"name": "n1", "labels": labels},
        "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10"}},
    }


def test_room_with_the_requests_and_the_labels_of_the_pool() -> None:
    settings = parse("pools: {cpu: {nodeSelector: {kind: cpu}, resources: {requests: {cpu: '1', memory: 1Gi}}}}")
    found, note = surroundings.free_room(Cluster(Node=[node(kind="cpu"), node()], Pod=[]), wish(), settings, 2)  # type: ignore[arg-type]
    assert found is not None
    assert (found.fits, note) == (4, "")


def test_room_without_settings_is_room_without_the_pool() -> None:
    found, note = surroundings.free_room(Cluster(Node=[node()], Pod=[]), wish(pool="gpu"), None, 2)  # type: ignore[arg-type]
    assert found is not None
    assert "the pool is not known" in note


def test_room_that_cannot_be_known_is_said() -> None:
    denied: Any = Cluster(Node=DeniedError("not allowed to list nodes"))
    assert surroundings.free_room(denied, wish(), Settings(), 1) == (
        None,
        "free room cannot be read: not allowed to list nodes",
    )
    assert "no pool gpu" in surroundings.free_room(denied, wish(pool="gpu"), Settings(), 1)[1]
    assert "without a cluster" in surroundings.free_room(None, wish(), Settings(), 1)[1]


def test_queries_are_resolved_for_the_revision_that_would_be_tried() -> None:
    checked, note = surroundings.checked_guards(Resolution(wish()), read("canary-step"), None, None, NOW)
    queries = {each.resolved.guard.name: each.resolved.queries for each in checked}
    # digits-a15d15ce70 serves from slot 0, so the other one is tried in slot 1.
    assert "httproute/demo/digits/rule/0/backend/1" in queries["errors"]["http"].replace("\\", "")
    assert "$revision" not in queries["drift"]["query"]
    assert 'namespace="demo"' in queries["drift"]["query"]
    assert "give --prometheus" in note


def test_a_guard_that_looks_back_for_days_is_asked_over_its_whole_window() -> None:
    scores = {"name": "scores", "sli": "output-psi", "max": 0.2, "window": "48h", "of": 3}
    short = {"name": "short", "query": "vector(1)", "max": 2, "window": "10m"}
    long = wish(
        rollout={"guards": [scores, short]}, observation={"profile": {"parameter": "profile"}, "comparison": {}}
    )
    checked, _ = surroundings.checked_guards(Resolution(long), read("canary-step"), None, NOBODY, NOW)
    queries = [" ".join(each.resolved.queries.values()) for each in checked]
    assert "offset 2d" in queries[0]
    assert [each.result.name for each in checked if each.result] == ["scores", "short"]


def test_a_prometheus_that_does_not_answer_is_no_failure_of_the_plan() -> None:
    checked, note = surroundings.checked_guards(Resolution(wish()), read("canary-step"), None, NOBODY, NOW)
    assert {each.result.verdict for each in checked if each.result} == {Verdict.PROVIDER_DOWN}
    assert "digits-a15d15ce70, which serves" in note


def test_an_address_that_is_none_is_wrong_usage() -> None:
    with pytest.raises(Complaint) as caught:
        surroundings.checked_guards(Resolution(wish()), None, None, "localhost", NOW)
    assert caught.value.exit_code == 2


def test_an_unguarded_rollout_asks_nothing() -> None:
    bare = wish(rollout={"unguarded": True})
    assert surroundings.checked_guards(Resolution(bare), None, None, NOBODY, NOW) == (
        (),
        "unguarded: traffic moves by time alone",
    )


def test_live_values_are_asked_for_an_attempt_with_traffic_only() -> None:
    found = surroundings.live_guards(read("canary-step"), NOBODY)
    assert [(guard.name, guard.verdict) for guard in found] == [
        (name, Verdict.PROVIDER_DOWN) for name in ("errors", "latency", "drift")
    ]
    for case in ("pending", "first", "rolled-back"):
        assert surroundings.live_guards(read(case), NOBODY) == ()
