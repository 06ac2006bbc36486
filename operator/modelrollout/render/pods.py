"""What live pods say: how many take traffic, when they last got nearer to it, and what stops them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime

from modelrollout.api.base import clean
from modelrollout.render.reading import SENTENCE_LIMIT, Live, get, holds
from modelrollout.rollout.observed import Workload

_TELLING = re.compile("error|fail|unavailable|denied|not found|no space", re.IGNORECASE)


def observe_workload(revision: str, deployment: Live | None, pods: Iterable[Live]) -> Workload:
    """The pods of one revision. Pods that are being deleted count for nothing but ``present``."""
    present = list(pods)
    staying = [pod for pod in present if not get(pod, "metadata", "deletionTimestamp")]
    troubles = [deployment_trouble(deployment)] if deployment else []
    troubles += [pod_trouble(pod) for pod in staying]
    return Workload(
        revision=revision,
        desired=get(deployment, "spec", "replicas") if deployment else None,
        ready=sum(pod_ready(pod) for pod in staying),
        progressed_at=max(filter(None, map(pod_progressed_at, staying)), default=None),
        trouble=next((trouble for trouble in troubles if trouble), None),
        present=len(present),
    )


def pod_ready(pod: Live) -> bool:
    """Whether the pod takes traffic: its model is ready and it is not being deleted."""
    return not get(pod, "metadata", "deletionTimestamp") and _condition(pod, "Ready") is True


def pod_progressed_at(pod: Live) -> datetime | None:
    """When the pod last came a step nearer to ready: created, scheduled, fetched, started for the first time.

    A container that restarts makes no progress by it: otherwise a crash loop would look like work.
    """
    steps = [get(pod, "metadata", "creationTimestamp")]
    steps += [
        condition.get("lastTransitionTime")
        for condition in get(pod, "status", "conditions") or ()
        if condition.get("type") in ("PodScheduled", "Initialized") and holds(condition, "True")
    ]
    steps += [
        get(container, "state", "running", "startedAt")
        for key in ("initContainerStatuses", "containerStatuses")
        for container in get(pod, "status", key) or ()
        if not container.get("restartCount")
    ]
    return max((_instant(step) for step in steps if step), default=None)


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def pod_trouble(pod: Live) -> str | None:
    """What stops the pod from getting ready, in one bounded sentence; None where nothing is known to."""
    if pod_ready(pod) or get(pod, "metadata", "deletionTimestamp"):
        return None
    status = pod.get("status") or {}
    found = _unschedulable(status) or _failed(status)
    for key, what in (("initContainerStatuses", "init container"), ("containerStatuses", "container")):
        for container in status.get(key) or ():
            found = found or _container_trouble(what, container)
    return clean(f"pod {get(pod, 'metadata', 'name')}: {found}", SENTENCE_LIMIT) if found else None


def deployment_trouble(deployment: Live) -> str | None:
    """Why the Deployment cannot create its pods (quota, admission), in one bounded sentence, or None."""
    for condition in get(deployment, "status", "conditions") or ():
        if condition.get("type") == "ReplicaFailure" and holds(condition, "True"):
            return clean(f"pods cannot be created: {condition.get('message', '')}", SENTENCE_LIMIT)
    return None


def _unschedulable(status: Live) -> str | None:
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and holds(condition, "False"):
            return f"cannot be scheduled: {condition.get('message') or condition.get('reason')}"
    return None


def _failed(status: Live) -> str | None:
    if status.get("phase") == "Failed" and status.get("reason"):
        return f"{status['reason']}: {status.get('message', '')}"
    return None


def _container_trouble(what: str, container: Live) -> str | None:
    name = f"{what} {container.get('name')}"
    state = container.get("state") or {}
    waiting, ended = state.get("waiting") or {}, state.get("terminated")
    last = get(container, "lastState", "terminated")
    reason = waiting.get("reason", "")
    if reason in ("ContainerCreating", "PodInitializing", ""):
        # Between two tries it runs or waits again: the last end still tells why it is not ready.
        end = ended or last
        return f"{name} {_end(end, container)}" if end and end.get("exitCode") else None
    if reason == "CrashLoopBackOff":
        return f"{name} {_end(last or {}, container)}"
    return f"{name} {reason}: {waiting.get('message', '')}"


def _end(end: Live, container: Live) -> str:
    restarts = container.get("restartCount") or 0
    cause = "was killed for using more memory than its limit" if end.get("reason") == "OOMKilled" else "failed"
    times = f", restarted {restarts} times" if restarts > 1 else ""
    said = _telling_line(str(end.get("message") or ""))
    return f"{cause} (exit code {end.get('exitCode', '?')}{times}){': ' + said if said else ''}"


def _telling_line(message: str) -> str:
    """The last line that speaks of an error, else the last line: the message may be the tail of a log."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    telling = [line for line in lines if _TELLING.search(line)]
    return clean((telling or lines or [""])[-1], 240)


def _condition(pod: Live, kind: str) -> bool | None:
    for condition in get(pod, "status", "conditions") or ():
        if condition.get("type") == kind:
            return holds(condition, "True")
    return None
