"""Without a gateway: a Service whose selector switches. Requests go to its ClusterIP, each on its own connection.

A connection that is kept stays with its pod whatever the selector says: that is how Services are.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from deploy.demo.traffic import RestSender, Traffic
from deploy.demo.training import MODEL_NAME, V1, V2

from tests.cluster.conftest import Staging
from tests.cluster.stage import Stage, lost

FAILURES = {
    "name": "failures",
    "query": 'sum(rate(nv_inference_request_failure{revision="$revision"}[$window]))',
    "max": 0.1,
    "window": "10s",
}


async def selected(stage: Stage) -> str:
    """The revision that the Service leads to."""
    found = await stage.kube.get("Service", stage.name, MODEL_NAME)
    assert found is not None
    revision: str = found["spec"]["selector"]["modelrollout.io/revision"]
    return revision


async def answering(sender: RestSender, within: float) -> None:
    """Wait until the address answers."""
    end = time.monotonic() + within
    async with sender.opened():
        while not (await sender.send(0)).good:
            assert time.monotonic() < end, f"no answer within {within:g} s"
            await asyncio.sleep(0.2)


async def test_blue_green_by_a_service_switches_its_selector_and_loses_nothing(staging: Staging) -> None:
    async with staging() as stage:
        plan: dict[str, Any] = {
            "strategy": "BlueGreen",
            "blueGreen": {"approval": True},
            "bake": "60s",
            "evaluationInterval": "1s",
            "guards": [FAILURES],
        }
        spec = {"traffic": {"service": {}}}
        first = await stage.apply(V1, rollout=plan, spec=spec)
        await stage.until_serves(first)
        service = await stage.kube.get("Service", stage.name, MODEL_NAME)
        assert service is not None
        assert service["spec"]["type"] == "ClusterIP"
        address = f"{service['spec']['clusterIP']}:8000"
        images, labels = stage.digits.held_out_images, stage.digits.held_out_labels
        # The node learns of a new Service some moments after it is there.
        await answering(RestSender(images, labels, address, MODEL_NAME), 90)
        sender = RestSender(images, labels, address, MODEL_NAME, {"Connection": "close"})
        async with Traffic(sender, len(labels), 50).flowing() as recording, stage.drawn("service"):
            stage.recording = recording
            second = await stage.apply(V2, rollout=plan, spec=spec)
            await stage.until_phase("AwaitingApproval")
            assert await selected(stage) == first
            beside = await stage.kube.get("Service", stage.name, second)
            assert beside is not None, "testers reach the candidate by the Service with its name"
            await stage.command("promote")
            await stage.until_phase("Baking")
            assert await selected(stage) == second
            await stage.command("rollback")
            await stage.until_outcome(second, "RolledBack")
            assert await selected(stage) == first
            await stage.until_phase("RolledBack")
        assert len(recording.answers) > 250
        assert not lost(recording)
        assert await stage.kube.list("HTTPRoute", stage.name) == []
