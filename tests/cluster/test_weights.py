"""The arms do not get their weights: one of two proxies goes by the route of before, and the rollout waits for it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from deploy.demo.traffic import RestSender, Traffic
from deploy.demo.training import V1, V2

from tests.cluster.conftest import Staging
from tests.cluster.operating import OperatorProcess
from tests.cluster.proxies import deaf, gateway_of_two, one_proxy
from tests.cluster.stage import lost, rollout
from tests.cluster.test_faults import condition

STEPS: list[dict[str, Any]] = [{"weight": 10, "hold": "20s"}, {"weight": 60, "hold": "10s"}]


async def test_a_proxy_that_lags_behind_is_told_and_nobody_is_blamed(staging: Staging, tmp_path: Path) -> None:
    """With half of the proxies still at 10 percent, the candidate gets 35 where the step says 60."""
    async with (
        staging(with_operator=False) as stage,
        gateway_of_two(stage.place, stage.kube, stage.name) as address,
    ):
        gateway = {"name": "pair", "namespace": stage.name}
        stage.operator = OperatorProcess(stage.place, stage.name, tmp_path, gateways=[{**gateway, "address": address}])
        await stage.operator.start()
        try:
            first = await stage.apply(V1, gateway=gateway)
            await stage.until_serves(first)
            images, labels = stage.digits.held_out_images, stage.digits.held_out_labels
            # Each request on a connection of its own: which proxy it meets is decided anew.
            sender = RestSender(images, labels, address, stage.hostname, {"Connection": "close"})
            async with Traffic(sender, len(labels), 60).flowing() as recording:
                plan = rollout(canary={"steps": STEPS})
                second = await stage.apply(V2, gateway=gateway, rollout=plan)
                await stage.until_weight(second, 10)
                await stage.until_phase("Progressing")
                with deaf(await one_proxy(stage.kube, stage.name)):
                    at = await stage.until_weight(second, 60)
                    status = await stage.chronicle.until(
                        lambda now: condition(now, "WeightEffective").get("status") == "False",
                        "WeightEffective is False",
                        120,
                    )
                    said = condition(status, "WeightEffective")
                    found = time.time() - at
                    assert said["reason"] == "WeightNotEffective"
                    assert said["message"].startswith(f"{second} got "), said
                    assert said["message"].endswith("its weight asks for 60.00%"), said
                    event = await stage.chronicle.until_told("WeightNotEffective", 30)
                    assert event.warning
                print(f"{said['message']}: told after {found:.1f} s")
                await stage.until_serves(second)
            assert stage.weights_of(second)[-3:] == [10.0, 60.0, 100.0], "on by itself, with no step anew"
            assert stage.chronicle.status["history"][0]["outcome"] == "Promoted"
            assert stage.chronicle.status["quarantined"] == []
            assert not lost(recording)
        finally:
            stage.operator.stop()
