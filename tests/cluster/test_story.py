"""The demo's story, shorter: by REST and by gRPC at once, with the operator installed by its chart."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

from deploy.demo.grpc_traffic import grpc_traffic
from deploy.demo.install import CHART, image_value, values
from deploy.demo.kube import Kube
from deploy.demo.place import Place
from deploy.demo.training import V1, V2, V3

from tests.cluster.conftest import Staging
from tests.cluster.stage import Stage, lost, rollout


@contextlib.asynccontextmanager
async def chart_installed(place: Place, namespace: str, folder: Path) -> AsyncIterator[None]:
    """The operator by Helm, in a namespace of its own, looking after ``namespace`` only."""
    content = values(place)
    content["image"] = image_value(place.image_operator)
    content["settings"] |= {"namespaces": [namespace], "drain": "5s"}
    file = folder / "values.json"
    file.write_text(json.dumps(content))
    home = f"{namespace}-system"
    common = ["--namespace", home, "--kubeconfig", str(place.kubeconfig)]
    install = [place.helm, "install", "operator", str(CHART), *common, "--create-namespace", "--skip-crds"]
    try:
        await run(*install, "--values", str(file), "--wait", "--timeout", "5m")
        yield
    finally:
        await run(place.helm, "uninstall", "operator", *common, "--wait")
        async with Kube.connect(place.kubeconfig) as kube:
            await kube.delete("Namespace", None, home)


async def run(*command: str) -> None:
    """Run a command; its output is in the failure."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said = (await process.communicate())[0].decode()
    assert process.returncode == 0, f"{' '.join(command)}:\n{said}"


async def test_v2_is_promoted_and_v3_takes_itself_back_by_rest_and_by_grpc(
    staging: Staging, place: Place, tmp_path: Path
) -> None:
    async with staging(with_operator=False) as stage, chart_installed(place, stage.name, tmp_path):
        grpc_name = f"{stage.name}-grpc.example.com"
        first = await stage.apply(V1, grpc=grpc_name)
        await stage.until_serves(first)
        images, labels = stage.digits.held_out_images, stage.digits.held_out_labels
        calls = grpc_traffic(images, labels, place.gateway_here, grpc_name, 20)
        async with stage.traffic(30) as recording, calls.flowing() as grpc_recording:
            second = await stage.apply(V2, grpc=grpc_name)
            await stage.until_serves(second)
            # Enough requests that some of them are surely gRPC.
            guard = {"name": "errors", "sli": "error-ratio", "max": 0.02, "window": "10s", "minSamples": 40}
            third = await stage.apply(V3, grpc=grpc_name, rollout=rollout(25, 50, hold="60s", guards=[guard]))
            await stage.until_outcome(third, "RolledBack")
            await stage.until_phase("RolledBack")
            await stage.chronicle.until_told("RolledBack", 60)
        for found in (recording, grpc_recording):
            assert not lost(found, third)
            assert set(found.by_revision()) >= {first, second, third}, "every version was met by this protocol"
        await both_routes_agree(stage, second)
        status = stage.chronicle.status
        assert status["revisions"]["stable"] == second
        assert status["quarantined"] == [third]
        told = [event.title for event in stage.chronicle.events]
        assert told.count("Promoted") == 1
        assert told.count("RolledBack") == 1


async def both_routes_agree(stage: Stage, serving: str) -> None:
    """HTTPRoute and GRPCRoute give everything to ``serving``."""
    for kind in ("HTTPRoute", "GRPCRoute"):
        route = await stage.kube.get(kind, stage.name, "digits")
        assert route is not None
        weights = {(entry["name"], entry["weight"]) for entry in route["spec"]["rules"][0]["backendRefs"]}
        assert weights == {(serving, 1_000_000), (serving, 0)}
