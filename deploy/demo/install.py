"""Installs the operator from its chart, as a user would: one `helm upgrade --install`."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import yaml
from deploy.demo.kube import Kube, Object
from deploy.demo.place import REPO, Place, UnusableError

CHART = REPO / "charts" / "modelrollout"
RELEASE = "modelrollout"
NAMESPACE = "modelrollout-system"


def values(place: Place) -> dict[str, Any]:
    """The chart's values for this place."""
    gateway = {"namespace": place.gateway_namespace, "name": place.gateway_name}
    if place.gateway_probe:
        gateway["address"] = place.gateway_probe
    return {
        "image": image_value(place.image_operator),
        "settings": {
            "pools": {"cpu": {"image": place.image_triton}},
            "prometheus": {"default": {"url": place.prometheus_inside}},
            "gateways": [gateway],
        },
    }


def image_value(reference: str) -> dict[str, str]:
    """An image's reference as the chart takes it: repository, and digest or tag."""
    repository, _, digest = reference.partition("@")
    name, _, tag = repository.rpartition(":")
    if name and "/" not in tag:  # else the colon is that of the registry's port
        repository = name
    else:
        tag = ""
    return {"repository": repository, "tag": tag, "digest": digest, "pullPolicy": "IfNotPresent"}


def write_values(place: Place, folder: Path) -> Path:
    """Keep the values in ``folder``; JSON is YAML, which is what Helm reads."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "values.json"
    file.write_text(json.dumps(values(place), indent=1) + "\n")
    return file


def _served(definition: Object | None) -> bool:
    conditions = (definition or {}).get("status", {}).get("conditions") or ()
    return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)


async def install(place: Place, kube: Kube, folder: Path) -> str:
    """Install or upgrade the operator and wait until its pod is ready; returns what was done.

    The CRDs are applied first: Helm installs those of a chart once and never upgrades them. ``folder`` keeps the
    values that were used. Raises UnusableError with what Helm said.
    """
    for path in sorted((CHART / "crds").glob("*.yaml")):
        for body in yaml.safe_load_all(path.read_text()):
            await kube.apply(body)
            # The chart has policies in it: Helm refuses them while their kind is not served yet.
            await kube.wait(body["kind"], None, body["metadata"]["name"], _served, "is served", within=60)
    command = [place.helm, "upgrade", "--install", RELEASE, str(CHART)]
    command += ["--namespace", NAMESPACE, "--create-namespace", "--kubeconfig", str(place.kubeconfig)]
    command += ["--values", str(write_values(place, folder)), "--wait", "--timeout", "3m"]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said = (await process.communicate())[0].decode(errors="replace").strip()
    if process.returncode:
        look = f"{place.kubectl} -n {NAMESPACE} get pods,events"
        raise UnusableError(f"Helm could not install the operator:\n{said}\nlook: {look}")
    return f"helm upgrade --install {RELEASE} {CHART.relative_to(REPO)} --namespace {NAMESPACE}: done"
