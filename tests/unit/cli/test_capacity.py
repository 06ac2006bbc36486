"""Room on the nodes, counted as the scheduler counts it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from modelrollout.cli.view.capacity import PODS, requests_of, room, spoken_amounts


def container(cpu: str = "", memory: str = "", **more: Any) -> dict[str, Any]:
    requests = {key: value for key, value in (("cpu", cpu), ("memory", memory)) if value}
    return {"resources": {"requests": requests}, **more}


def node(name: str = "n1", cpu: str = "2", memory: str = "4Gi", **more: Any) -> dict[str, Any]:
    allocatable = {"cpu": cpu, "memory": memory, PODS: "10", **more.pop("resources", {})}
    return {
        "metadata": {"name": name, "labels": more.pop("labels", {})},
        "spec": more,
        "status": {"allocatable": allocatable, "conditions": [{"type": "Ready", "status": "True"}]},
    }


def running(on: str, cpu: str, phase: str = "Running") -> dict[str, Any]:
    return {"spec": {"nodeName": on, "containers": [container(cpu)]}, "status": {"phase": phase}}


def test_requests_are_the_sum_of_the_containers_or_the_greatest_init_container() -> None:
    pod = {"initContainers": [container("2", "1Gi")], "containers": [container("500m", "2Gi"), container("250m")]}
    assert requests_of(pod) == {"cpu": Decimal(2), "memory": Decimal(2 * 2**30), PODS: 1}


def test_a_request_that_is_not_given_is_the_limit() -> None:
    pod = {"containers": [{"resources": {"limits": {"nvidia.com/gpu": "1", "cpu": "2"}, "requests": {"cpu": "1"}}}]}
    assert requests_of(pod) == {"nvidia.com/gpu": 1, "cpu": 1, PODS: 1}


def test_a_sidecar_runs_beside_all_others() -> None:
    sidecar = container("100m", restartPolicy="Always")
    pod = {"initContainers": [sidecar, container("1")], "containers": [container("500m")]}
    assert requests_of(pod)["cpu"] == Decimal("1.1")


def test_what_runs_takes_room_and_what_is_over_does_not() -> None:
    pods = [running("n1", "1"), running("n1", "1", "Succeeded"), running("other", "1")]
    found = room({"containers": [container("500m")]}, 3, [node()], pods)
    assert [(each.node, each.fits, each.free["cpu"]) for each in found.nodes] == [("n1", 2, Decimal(1))]
    assert (found.fits, found.enough) == (2, False)


def test_the_number_of_pods_of_a_node_is_room_too() -> None:
    found = room({"containers": [{}]}, 1, [node(resources={PODS: "1"})], [running("n1", "0")])
    assert found.fits == 0


def test_only_nodes_that_may_run_them_count() -> None:
    pod = {
        "containers": [container("1")],
        "nodeSelector": {"pool": "gpu"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
    }
    taint = {"key": "gpu", "value": "a", "effect": "NoSchedule"}
    nodes = [
        node("fits", labels={"pool": "gpu"}, taints=[taint]),
        node("soft", labels={"pool": "gpu"}, taints=[{"key": "old", "effect": "PreferNoSchedule"}]),
        node("label"),
        node("taint", labels={"pool": "gpu"}, taints=[{"key": "other", "effect": "NoExecute"}]),
        node("drained", labels={"pool": "gpu"}, unschedulable=True),
    ]
    nodes[0]["status"]["conditions"].append({"type": "MemoryPressure", "status": "False"})
    dead = node("dead", labels={"pool": "gpu"})
    dead["status"]["conditions"][0]["status"] = "Unknown"
    assert [each.node for each in room(pod, 1, [*nodes, dead], []).nodes] == ["fits", "soft"]


def test_an_extended_resource_that_a_node_does_not_have() -> None:
    pod = {"containers": [{"resources": {"limits": {"nvidia.com/gpu": 1}}}]}
    assert room(pod, 1, [node()], []).fits == 0
    assert room(pod, 1, [node(resources={"nvidia.com/gpu": "2"})], []).fits == 2


def test_amounts_as_people_write_them() -> None:
    amounts = {"memory": Decimal(3 * 2**29), "cpu": Decimal("0.25"), PODS: Decimal(1), "nvidia.com/gpu": Decimal(1)}
    assert spoken_amounts(amounts) == "0.25 cpu, 1.5Gi memory, 1 nvidia.com/gpu"
    assert spoken_amounts({"memory": Decimal("1e3")}) == "1000 memory"
