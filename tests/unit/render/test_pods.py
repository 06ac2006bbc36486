"""What live pods say, as statuses seen on real clusters."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from modelrollout.ports import Manifest
from modelrollout.render.pods import (
    deployment_trouble,
    observe_workload,
    pod_progressed_at,
    pod_ready,
    pod_trouble,
)
from modelrollout.render.trim import trim


def at(second: int) -> str:
    return f"2026-11-21T10:00:{second:02}Z"


def instant(second: int) -> datetime:
    return datetime(2026, 11, 21, 10, 0, second, tzinfo=UTC)


def pod(
    *,
    scheduled: int | None = 1,
    initialized: int | None = None,
    ready: int | None = None,
    init: dict[str, Any] | None = None,
    server: dict[str, Any] | None = None,
    deleting: bool = False,
    **status: Any,
) -> Manifest:
    """A pod created at second 0; each condition is True since its second, or False."""
    conditions = [
        {"type": kind, "status": "False" if since is None else "True", "lastTransitionTime": at(since or 0)}
        for kind, since in (("PodScheduled", scheduled), ("Initialized", initialized), ("Ready", ready))
    ]
    metadata: dict[str, Any] = {"name": "digits-x", "uid": "u", "creationTimestamp": at(0)}
    if deleting:
        metadata["deletionTimestamp"] = at(50)
    body: Manifest = {
        "metadata": metadata,
        "spec": {"containers": [{"name": "server", "image": "x"}]},
        "status": {
            "phase": "Pending",
            "conditions": conditions,
            **({"initContainerStatuses": [{"name": "fetch", "restartCount": 0, **init}]} if init else {}),
            **({"containerStatuses": [{"name": "server", "restartCount": 0, **server}]} if server else {}),
            **status,
        },
    }
    # The controller sees trimmed pods, and nothing must get lost by that.
    return trim("Pod", body)


def waiting(reason: str, message: str = "", **more: Any) -> dict[str, Any]:
    return {"state": {"waiting": {"reason": reason, "message": message}}, **more}


def ended(code: int, message: str = "", reason: str = "Error") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, "message": message}}


RUNNING = {"state": {"running": {"startedAt": at(7)}}}
UNSCHEDULABLE = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. preemption: none."


@pytest.mark.parametrize(
    ("seen", "when"),
    [
        (pod(scheduled=None), 0),
        (pod(), 1),
        (pod(init={"state": {"running": {"startedAt": at(2)}}}), 2),
        (pod(initialized=5, server=waiting("ContainerCreating")), 5),
        (pod(initialized=5, server=RUNNING), 7),
        (pod(initialized=5, server={**RUNNING, "restartCount": 3}), 5),
        (pod(initialized=5, server=RUNNING, ready=30), 7),
    ],
)
def test_progress_is_the_first_start_and_never_a_restart(seen: Manifest, when: int) -> None:
    assert pod_progressed_at(seen) == instant(when)


@pytest.mark.parametrize(
    ("seen", "trouble"),
    [
        (pod(), None),
        (pod(initialized=5, server=waiting("ContainerCreating")), None),
        (pod(initialized=5, server=waiting("PodInitializing")), None),
        (pod(initialized=5, server=RUNNING), None),
        (
            pod(
                initialized=5,
                server=waiting("ImagePullBackOff", 'Back-off pulling image "nope"'),
            ),
            'container server ImagePullBackOff: Back-off pulling image "nope"',
        ),
        (
            pod(init=waiting("CreateContainerConfigError", 'secret "model-store" not found')),
            'init container fetch CreateContainerConfigError: secret "model-store" not found',
        ),
        (
            pod(init={"state": ended(12, "there is nothing below 'x' in the bucket")}),
            "init container fetch failed (exit code 12): there is nothing below 'x' in the bucket",
        ),
        (
            pod(init=waiting("CrashLoopBackOff", "back-off 10s", restartCount=3, lastState=ended(10, "denied"))),
            "init container fetch failed (exit code 10, restarted 3 times): denied",
        ),
        (
            pod(init={"state": {"running": {}}, "restartCount": 1, "lastState": ended(15, "no answer")}),
            "init container fetch failed (exit code 15): no answer",
        ),
        (
            pod(initialized=9, init={"state": ended(0), "restartCount": 1, "lastState": ended(15)}, server=RUNNING),
            None,
        ),
        (
            pod(
                initialized=5,
                server=waiting(
                    "CrashLoopBackOff",
                    lastState=ended(1, "I1 starting\nE1 failed to load 'digits' version 1: no module\nI1 bye\n"),
                    restartCount=2,
                ),
            ),
            "container server failed (exit code 1, restarted 2 times): E1 failed to load 'digits' version 1: no module",
        ),
        (
            pod(initialized=5, server={**RUNNING, "restartCount": 1, "lastState": ended(137, reason="OOMKilled")}),
            "container server was killed for using more memory than its limit (exit code 137)",
        ),
        (
            pod(phase="Failed", reason="Evicted", message="Usage of EmptyDir volume exceeds the limit"),
            "Evicted: Usage of EmptyDir volume exceeds the limit",
        ),
        (pod(ready=9, server={**RUNNING, "lastState": ended(1)}), None),
        (pod(deleting=True, server=waiting("ImagePullBackOff")), None),
    ],
)
def test_trouble_in_one_sentence(seen: Manifest, trouble: str | None) -> None:
    assert pod_trouble(seen) == (f"pod digits-x: {trouble}" if trouble else None)


def test_a_pod_that_no_node_can_take() -> None:
    seen = pod(scheduled=None)
    seen["status"]["conditions"][0] |= {"reason": "Unschedulable", "message": UNSCHEDULABLE}
    assert pod_trouble(seen) == f"pod digits-x: cannot be scheduled: {UNSCHEDULABLE}"


def test_trouble_is_bounded_and_printable() -> None:
    seen = pod(initialized=5, server=waiting("ErrImagePull", "\x1b[31mbad\r\n" + "x" * 10_000))
    trouble = pod_trouble(seen)
    assert trouble is not None
    assert len(trouble) <= 320
    assert trouble.isprintable()


def test_a_log_without_an_error_gives_its_last_line() -> None:
    seen = pod(initialized=5, server=waiting("CrashLoopBackOff", lastState=ended(1, "one\ntwo\n\n")))
    assert pod_trouble(seen) == "pod digits-x: container server failed (exit code 1): two"


def test_quota() -> None:
    condition = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"}
    seen = trim("Deployment", {"metadata": {"name": "d"}, "status": {"conditions": [condition]}})
    assert deployment_trouble(seen) == "pods cannot be created: exceeded quota"
    seen["status"]["conditions"][0]["status"] = "False"
    assert deployment_trouble(seen) is None
    assert deployment_trouble({}) is None


def test_a_workload_adds_its_pods_up() -> None:
    deployment = trim("Deployment", {"metadata": {"name": "d"}, "spec": {"replicas": 3}})
    pods = [
        pod(initialized=5, server=RUNNING, ready=9),
        pod(initialized=8, server=waiting("ImagePullBackOff", "nope")),
        pod(initialized=50, server=RUNNING, ready=51, deleting=True),
    ]
    found = observe_workload("digits-1", deployment, pods)
    assert (found.revision, found.desired, found.ready) == ("digits-1", 3, 1)
    assert found.progressed_at == instant(8)
    assert found.trouble == "pod digits-x: container server ImagePullBackOff: nope"


def test_nothing_there() -> None:
    found = observe_workload("digits-1", None, [])
    assert (found.desired, found.ready, found.progressed_at, found.trouble) == (None, 0, None, None)


@pytest.mark.parametrize("seen", [{}, {"status": None}, {"metadata": {}, "status": {"conditions": None}}])
def test_a_pod_that_says_nothing_is_no_error(seen: Manifest) -> None:
    assert not pod_ready(seen)
    assert pod_trouble(seen) is None
    assert pod_progressed_at(seen) is None
