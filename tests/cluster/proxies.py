"""A Gateway of a test's own with two proxies, and one of them cut off from the control plane: it goes by what it knew.

This machine is the cluster's only node, so it reaches Services and may change what a pod's network lets through.
"""

from __future__ import annotations

import contextlib
import copy
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from deploy.demo.kube import Kube, Object
from deploy.demo.place import Place

INFRASTRUCTURE = "envoy-gateway-system"
CONTROL_PORT = 18000
"""Where proxies hear of routes (xDS)."""

PROXIES = 2


@contextlib.asynccontextmanager
async def gateway_of_two(place: Place, kube: Kube, namespace: str) -> AsyncIterator[str]:
    """A Gateway ``pair`` in ``namespace``, like the cluster's own but with two proxies; its address (host:port)."""
    known = await kube.get("EnvoyProxy", INFRASTRUCTURE, place.gateway_name)
    assert known is not None, "the local cluster says there which image its proxies run"
    spec = copy.deepcopy(known["spec"])
    made = spec["provider"]["kubernetes"]
    made["envoyDeployment"] |= {"name": namespace, "replicas": PROXIES}
    made["envoyService"] = {"name": namespace, "type": "ClusterIP"}
    metadata = {"name": "pair", "namespace": namespace}
    proxy = {"apiVersion": known["apiVersion"], "kind": "EnvoyProxy", "metadata": metadata, "spec": spec}
    reference = {"group": "gateway.envoyproxy.io", "kind": "EnvoyProxy", "name": "pair"}
    gateway = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": metadata,
        "spec": {
            "gatewayClassName": "envoy",
            "infrastructure": {"parametersRef": reference},
            "listeners": [
                {"name": "http", "port": 80, "protocol": "HTTP", "allowedRoutes": {"namespaces": {"from": "Same"}}}
            ],
        },
    }
    await kube.apply(proxy)
    await kube.apply(gateway)
    try:
        await kube.wait("Deployment", INFRASTRUCTURE, namespace, _all_ready, "both proxies are ready", within=240)
        service = await kube.get("Service", INFRASTRUCTURE, namespace)
        assert service is not None
        yield f"{service['spec']['clusterIP']}:80"
    finally:
        await kube.delete("Gateway", namespace, "pair")
        await kube.wait_gone("Deployment", INFRASTRUCTURE, namespace)


def _all_ready(found: Object | None) -> bool:
    return ((found or {}).get("status") or {}).get("readyReplicas", 0) == PROXIES


async def one_proxy(kube: Kube, namespace: str) -> int:
    """The process of one of its proxies on this machine."""
    labels = f"gateway.envoyproxy.io/owning-gateway-namespace={namespace}"
    pods = await kube.list("Pod", INFRASTRUCTURE, labels)
    assert len(pods) == PROXIES, [pod["metadata"]["name"] for pod in pods]
    (found, *_) = processes(str(pods[0]["metadata"]["uid"]), b"envoy")
    return found


def processes(pod: str, command: bytes) -> list[int]:
    """Processes with ``command`` in their command line, of the pod with this uid: its containers' cgroups have it."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if command in (folder / "cmdline").read_bytes() and pod in (folder / "cgroup").read_text():
                found.append(int(folder.name))
    return found


@contextlib.contextmanager
def deaf(process: int) -> Iterator[None]:
    """The pod of this process neither hears nor reaches the control plane inside the block."""
    ways = [("INPUT", "--sport"), ("OUTPUT", "--dport")]
    for chain, end in ways:
        _filter(process, "-I", chain, end)
    try:
        yield
    finally:
        for chain, end in ways:
            _filter(process, "-D", chain, end)


def _filter(process: int, action: str, chain: str, end: str) -> None:
    rule = ["iptables", "-w", action, chain, "-p", "tcp", end, str(CONTROL_PORT), "-j", "DROP"]
    subprocess.run(["nsenter", "-t", str(process), "-n", *rule], check=True, capture_output=True, timeout=30)
