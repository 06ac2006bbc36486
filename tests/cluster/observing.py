"""The observer in a test's namespace, as the chart makes it: installed, asked, hung, gone."""

from __future__ import annotations

import asyncio
import json
import re
import urllib.request
from pathlib import Path

import yaml
from deploy.demo.install import CHART, image_value, values
from deploy.demo.kube import Kube, Object
from deploy.demo.place import Place

OBSERVER = "modelrollout-observer"
COMPONENT = "app.kubernetes.io/component"
METRICS_PORT = 9100
_SAMPLE = re.compile(r"^(\w+\{.*\}|\w+) (\S+)$", re.MULTILINE)


async def run(*command: str, within: float = 180.0) -> str:
    """Run a command; its output is in the failure."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    said, complained = await asyncio.wait_for(process.communicate(), within)
    assert process.returncode == 0, f"{' '.join(command)}:\n{said.decode()}\n{complained.decode()}"
    return said.decode()


async def observer_manifests(place: Place, namespace: str, folder: Path) -> list[Object]:
    """What the chart makes of ``observer.namespaces: [namespace]``, without the operator."""
    content = values(place)
    content["settings"]["namespaces"] = [namespace]
    content["observer"] = {"namespaces": [namespace], "image": image_value(place.image_observer)}
    file = folder / "observer-values.json"
    file.write_text(json.dumps(content))
    said = await run(
        place.helm, "template", "modelrollout", str(CHART), "--values", str(file), "--kube-version", "1.35"
    )
    documents = [body for body in yaml.safe_load_all(said) if body]
    return [body for body in documents if (body["metadata"].get("labels") or {}).get(COMPONENT) == "observer"]


async def install_observer(place: Place, kube: Kube, namespace: str, folder: Path) -> None:
    """Install it and wait until its pod is ready."""
    manifests = await observer_manifests(place, namespace, folder)
    kinds = {body["kind"] for body in manifests}
    assert {"Deployment", "Service"} <= kinds, f"the chart made {sorted(kinds)}"
    for body in manifests:
        body["metadata"].setdefault("namespace", namespace)
        await kube.apply(body)
    await observer_ready(kube, namespace)


async def observer_ready(kube: Kube, namespace: str) -> None:
    """Wait until one pod of the observer is ready."""
    await kube.wait(
        "Deployment",
        namespace,
        OBSERVER,
        lambda found: (found or {}).get("status", {}).get("readyReplicas", 0) >= 1,
        "the observer is ready",
        within=180,
    )


async def labels_address(kube: Kube, namespace: str) -> str:
    """Where the observer takes labels; this machine is the node, so it reaches the Service's own address."""
    service = await kube.get("Service", namespace, OBSERVER)
    assert service is not None
    port = next(port["port"] for port in service["spec"]["ports"] if port["name"] == "labels")
    return f"http://{service['spec']['clusterIP']}:{port}"


async def metrics_of(kube: Kube, namespace: str) -> dict[str, float]:
    """All series of the observer's pods that answer, added up; this machine is the node, so it reaches pods."""
    found: dict[str, float] = {}
    for pod in await kube.list("Pod", namespace, f"{COMPONENT}=observer"):
        address = (pod.get("status") or {}).get("podIP")
        if address and not pod["metadata"].get("deletionTimestamp"):
            for series, value in _SAMPLE.findall(await asyncio.to_thread(_page, f"{address}:{METRICS_PORT}")):
                found[series] = found.get(series, 0.0) + float(value)
    return found


def _page(address: str) -> str:
    try:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as page:
            return str(page.read().decode())
    except OSError:
        return ""
