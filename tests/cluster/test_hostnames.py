"""Two ModelDeployments that want the same hostname: one serves it, the other says so and takes over when it may."""

from __future__ import annotations

import asyncio

from deploy.demo.training import MODEL_NAME, V1, V2

from tests.cluster.client import clients
from tests.cluster.conftest import Staging


async def test_the_older_serves_a_hostname_and_the_newer_takes_over_when_it_goes(staging: Staging) -> None:
    async with staging() as stage, clients(stage.place.gateway_here, stage.digits) as some:
        elder = stage.wish(V2, name="elder")
        await stage.kube.apply(elder)
        await stage.kube.wait(
            "ModelDeployment",
            stage.name,
            "elder",
            lambda found: ((found or {}).get("status") or {}).get("phase") == "Idle",
            "the elder serves",
            within=240,
        )
        served = await stage.kube.get("ModelDeployment", stage.name, "elder")
        assert served is not None
        first = served["status"]["revisions"]["stable"]
        user = some.of(stage.hostname)
        assert await user.meets() == {first}
        second = await stage.apply(V1)
        status = await stage.until_phase("Invalid")
        said = status["message"]
        assert f"{stage.name}/elder" in said
        assert stage.hostname in said
        assert await stage.kube.get("HTTPRoute", stage.name, MODEL_NAME) is None, "it must not take its users"
        assert await user.meets() == {first}
        await stage.kube.delete("ModelDeployment", stage.name, "elder")
        await stage.until_serves(second)
        # The garbage collector takes the elder's route, in its own time; until then the gateway goes by the older one.
        await stage.kube.wait_gone("HTTPRoute", stage.name, "elder", within=180)
        async with asyncio.timeout(60):
            while await user.meets() != {second}:
                continue
