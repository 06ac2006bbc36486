"""Room on the nodes of a pool: what pods ask for against what is free, as the scheduler counts it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from modelrollout.api.scalars import quantity
from modelrollout.render.reading import Live, get

Amounts = dict[str, Decimal]
"""By resource, in cores, bytes or pieces."""

PODS = "pods"
BINARY = ((Decimal(2**40), "Ti"), (Decimal(2**30), "Gi"), (Decimal(2**20), "Mi"), (Decimal(2**10), "Ki"))


@dataclass(frozen=True)
class NodeRoom:
    """One node that the pods may run on: what is free, and how many of them fit."""

    node: str
    free: Amounts
    fits: int


@dataclass(frozen=True)
class Room:
    """How many pods are wanted besides those that run, what each asks for, and where they fit."""

    extra: int
    each: Amounts
    nodes: tuple[NodeRoom, ...]

    @property
    def fits(self) -> int:
        """How many of the pods fit on all nodes together."""
        return sum(node.fits for node in self.nodes)

    @property
    def enough(self) -> bool:
        """Whether all of them do."""
        return self.fits >= self.extra


def room(pod: Live, extra: int, nodes: Iterable[Live], pods: Iterable[Live]) -> Room:
    """Where ``extra`` more pods like ``pod`` (a pod's spec) fit, given all nodes and all pods of the cluster."""
    each = requests_of(pod)
    used: dict[str, Amounts] = {}
    for found in pods:
        node = get(found, "spec", "nodeName")
        if node and get(found, "status", "phase") not in ("Succeeded", "Failed"):
            _add(used.setdefault(str(node), {}), requests_of(found.get("spec") or {}))
    fitting = [node for node in nodes if _may_run_on(pod, node)]
    return Room(extra, each, tuple(_room_on(node, each, used) for node in fitting))


def requests_of(pod: Live) -> Amounts:
    """What the scheduler sets aside for a pod with this spec, the pod itself included."""
    total: Amounts = {}
    peak: Amounts = {}
    for container in pod.get("initContainers") or ():
        asked = _requests(container)
        if container.get("restartPolicy") == "Always":
            _add(total, asked)
            _raise(peak, total)
        else:
            _raise(peak, {name: amount + total.get(name, Decimal(0)) for name, amount in asked.items()})
    for container in pod.get("containers") or ():
        _add(total, _requests(container))
    _raise(total, peak)
    _add(total, _amounts(pod.get("overhead")))
    total[PODS] = Decimal(1)
    return total


def _requests(container: Live) -> Amounts:
    # A request that is not given is the limit.
    return _amounts(get(container, "resources", "limits")) | _amounts(get(container, "resources", "requests"))


def _amounts(given: Any) -> Amounts:
    found: Amounts = {}
    for name, text in (given or {}).items():
        try:
            found[str(name)] = quantity(str(text))
        except (InvalidOperation, ValueError):
            # 1e3 and the like, which Kubernetes allows and our own spec does not
            found[str(name)] = _exponential(str(text))
    return found


def _exponential(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        return Decimal(0)


def _add(total: Amounts, more: Mapping[str, Decimal]) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, Decimal(0)) + amount


def _raise(total: Amounts, least: Mapping[str, Decimal]) -> None:
    for name, amount in least.items():
        total[name] = max(total.get(name, Decimal(0)), amount)


def _room_on(node: Live, each: Amounts, used: Mapping[str, Amounts]) -> NodeRoom:
    name = str(get(node, "metadata", "name"))
    allocatable = _amounts(get(node, "status", "allocatable"))
    taken = used.get(name, {})
    free = {kind: allocatable.get(kind, Decimal(0)) - taken.get(kind, Decimal(0)) for kind in each}
    fits = min((int(free[kind] // amount) for kind, amount in each.items() if amount > 0), default=0)
    return NodeRoom(name, free, max(fits, 0))


def _may_run_on(pod: Live, node: Live) -> bool:
    labels = get(node, "metadata", "labels") or {}
    if get(node, "spec", "unschedulable") or not _ready(node):
        return False
    if any(labels.get(key) != value for key, value in (pod.get("nodeSelector") or {}).items()):
        return False
    taints = [taint for taint in get(node, "spec", "taints") or () if taint.get("effect") != "PreferNoSchedule"]
    return all(any(_tolerates(toleration, taint) for toleration in pod.get("tolerations") or ()) for taint in taints)


def _ready(node: Live) -> bool:
    conditions: Sequence[Live] = get(node, "status", "conditions") or ()
    return all(condition.get("status") == "True" for condition in conditions if condition.get("type") == "Ready")


def _tolerates(toleration: Live, taint: Live) -> bool:
    if toleration.get("effect") not in (None, "", taint.get("effect")):
        return False
    if toleration.get("operator") == "Exists":
        return toleration.get("key") in (None, "", taint.get("key"))
    return toleration.get("key") == taint.get("key") and (toleration.get("value") or "") == (taint.get("value") or "")


def spoken_amounts(amounts: Mapping[str, Decimal]) -> str:
    """Like ``0.5 cpu, 192Mi memory``; the pod itself is not worth a word."""
    return ", ".join(f"{_spoken(name, amount)} {name}" for name, amount in sorted(amounts.items()) if name != PODS)


def _spoken(name: str, amount: Decimal) -> str:
    if name in ("memory", "ephemeral-storage") or name.startswith("hugepages-"):
        for size, unit in BINARY:
            if abs(amount) >= size:
                return f"{float(amount / size):.4g}{unit}"
    return f"{float(amount):.4g}"
