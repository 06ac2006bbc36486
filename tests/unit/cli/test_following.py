"""Following an object: lists, changes, what may not be read, what breaks off, what goes away."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from modelrollout.adapters.userclient import WatchExpired
from modelrollout.cli import following
from modelrollout.cli.following import Deleted, Following
from modelrollout.ports import DeniedError, TransientError
from tests.unit.cli.cases import load


class Cluster:
    """Objects by kind, and a queue of events a kind; an exception in it breaks the watch off."""

    namespace = "demo"

    def __init__(self) -> None:
        content = load("canary-step")
        self.lists: dict[str, Any] = {
            "ModelDeployment": [content["deployment"]],
            "ModelRevision": content["records"],
            "Deployment": content["workloads"],
            "Pod": content["pods"],
        }
        self.events: dict[str, queue.SimpleQueue[Any]] = {kind: queue.SimpleQueue() for kind in self.lists}

    def now(self) -> datetime:
        return datetime(2026, 11, 21, 12, 7, tzinfo=UTC)

    def get(self, kind: str, namespace: str, name: str) -> Any:
        return self.lists[kind][0] if self.lists[kind] else None

    def list_objects(self, kind: str, namespace: str | None, selector: str = "", field: str = "") -> Any:
        found = self.lists[kind]
        if isinstance(found, Exception):
            raise found
        return found, "1"

    def watch(self, kind: str, *_: object, **__: object) -> Iterator[Any]:
        while True:
            event = self.events[kind].get()
            if isinstance(event, Exception):
                raise event
            yield event


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setattr(following, "FIRST_PAUSE", 0.01)
    return Cluster()


def follow(cluster: Any) -> Following:
    return Following(cluster, "digits")


def until(found: Following, holds: Callable[[], bool]) -> None:
    for _ in range(100):
        if holds():
            return
        found.changed(0.1)
    raise AssertionError("it did not come to hold")


def test_all_that_belongs_to_it_is_read_at_once(cluster: Cluster) -> None:
    snapshot = follow(cluster).look()
    assert [revision.pods.ready for revision in snapshot.revisions] == [2, 1, 0]


def test_a_change_is_seen(cluster: Cluster) -> None:
    found = follow(cluster)
    deployment = load("rolled-back")["deployment"]
    cluster.events["ModelDeployment"].put(("MODIFIED", deployment))
    until(found, lambda: found.look().status.phase == "RolledBack")
    cluster.events["Pod"].put(("DELETED", cluster.lists["Pod"][0]))
    until(found, lambda: found.look().revisions[0].pods.ready == 1)
    new = {"metadata": {"name": "digits-new"}, "spec": {"version": "9.9.9"}}
    cluster.events["ModelRevision"].put(("ADDED", new))
    until(found, lambda: found.look().version_of("digits-new") == "9.9.9")


def test_what_may_not_be_read_is_said_and_the_rest_is_shown(cluster: Cluster) -> None:
    cluster.lists["Pod"] = DeniedError("not allowed to list pods")
    snapshot = follow(cluster).look()
    assert snapshot.unreadable == ("its pods: not allowed to list pods",)
    assert not snapshot.revisions[0].pods.known


def test_a_watch_that_breaks_off_is_told_and_taken_up_again(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "FIRST_PAUSE", 0.3)
    found = follow(cluster)
    cluster.events["ModelDeployment"].put(TransientError("the API server is away"))
    seen: list[str] = []

    def back() -> bool:
        seen.append(found.trouble)
        return "the API server is away" in seen and not found.trouble

    until(found, back)


def test_a_watch_that_is_too_old_is_read_anew(cluster: Cluster) -> None:
    found = follow(cluster)
    cluster.lists["ModelDeployment"] = [load("rolled-back")["deployment"]]
    cluster.events["ModelDeployment"].put(WatchExpired("too old"))
    until(found, lambda: found.look().status.phase == "RolledBack")


def test_it_was_deleted(cluster: Cluster) -> None:
    found = follow(cluster)
    cluster.events["ModelDeployment"].put(("DELETED", {"metadata": {"name": "digits"}}))

    def gone() -> bool:
        try:
            found.look()
        except Deleted:
            return True
        return False

    until(found, gone)
