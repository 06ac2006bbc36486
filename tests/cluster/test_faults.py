"""What breaks around a rollout: the rollout waits and says why, and never takes it out on the users."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from deploy.demo.training import V1, V2

from tests.cluster.conftest import Staging
from tests.cluster.stage import Stage, lost, rollout

OUTAGE = 60.0


def condition(status: dict[str, Any], kind: str) -> dict[str, Any]:
    """The condition of this type, empty where there is none."""
    return next((entry for entry in status.get("conditions", []) if entry["type"] == kind), {})


async def scale_prometheus(stage: Stage, replicas: int) -> None:
    await stage.kube.patch("Deployment", "monitoring", "prometheus", {"spec": {"replicas": replicas}})
    await stage.kube.wait(
        "Deployment",
        "monitoring",
        "prometheus",
        lambda found: (found or {}).get("status", {}).get("readyReplicas", 0) == replicas,
        f"{replicas} pods of Prometheus are ready",
        within=180,
    )


async def test_prometheus_gone_for_a_minute_holds_the_step_and_nothing_else(staging: Staging) -> None:
    async with staging() as stage:
        first = await stage.apply(V1)
        await stage.until_serves(first)
        async with stage.traffic() as recording:
            # Prometheus takes its time to go: the step must not be over before it is gone.
            steps = [{"weight": 25, "hold": "40s"}, {"weight": 50, "hold": "5s"}]
            second = await stage.apply(V2, rollout=rollout(canary={"steps": steps}))
            await stage.until_weight(second, 25)
            try:
                await scale_prometheus(stage, 0)
                gone_at = time.time()
                await stage.chronicle.until(
                    lambda status: condition(status, "MetricsReachable").get("status") == "False",
                    "MetricsReachable is False",
                    90,
                )
                while time.time() < gone_at + OUTAGE:  # the outage has a length: it is what is tested
                    assert stage.weights_of(second)[-1] == 25.0, "neither a step nor a rollback while it is away"
                    await asyncio.sleep(1)
                assert stage.chronicle.status["phase"] == "Progressing"
            finally:
                await scale_prometheus(stage, 1)
            await stage.until_serves(second)
        assert condition(stage.chronicle.status, "MetricsReachable")["status"] == "True"
        # Twice where Prometheus answered once more while it ended or began; never at each look.
        assert 1 <= [event.title for event in stage.chronicle.events].count("MetricsUnreachable") <= 3
        assert not lost(recording)


async def test_a_model_that_never_gets_ready_never_meets_a_user(staging: Staging) -> None:
    async with staging() as stage:
        first = await stage.apply(V1)
        await stage.until_serves(first)
        async with stage.traffic() as recording:
            plan = rollout(25, progressDeadline="40s")
            second = await stage.apply(V2, prefix=f"{stage.prefix}/no-such-version", rollout=plan)
            await stage.until_outcome(second, "RolledBack")
        status = stage.chronicle.status
        assert status["revisions"]["stable"] == first
        assert status["quarantined"] == [second]
        assert status["history"][0]["reason"] == "ProgressDeadlineExceeded"
        assert "no-such-version" in status["history"][0]["message"], "the message names what stops it"
        assert not any(stage.weights_of(second)), "it never had weight"
        assert not lost(recording)
        deployment = await stage.kube.wait(
            "Deployment",
            stage.name,
            second,
            lambda found: found is not None and not found["spec"]["replicas"],
            "no pods",
        )
        assert deployment is not None


async def test_a_route_that_the_gateway_refuses_is_told_in_its_own_words(staging: Staging) -> None:
    async with staging() as stage:
        closed = {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"name": "closed", "namespace": stage.name},
            "spec": {
                "gatewayClassName": "envoy",
                "listeners": [
                    {
                        "name": "http",
                        "port": 8099,
                        "protocol": "HTTP",
                        "hostname": "somewhere-else.example.com",
                        "allowedRoutes": {"namespaces": {"from": "Same"}},
                    }
                ],
            },
        }
        await stage.kube.apply(closed)
        try:
            first = await stage.apply(V1, gateway={"name": "closed", "namespace": stage.name})
            status = await stage.chronicle.until(
                lambda status: condition(status, "RouteAccepted").get("status") == "False",
                "RouteAccepted is False",
                180,
            )
            assert status["phase"] == "Arming"
            said = condition(status, "RouteAccepted")["message"]
            assert "closed" in said
            assert "NoMatchingListenerHostname" in said
            await stage.chronicle.until_told("RouteRejected", 60)
            assert await stage.apply(V1) == first, "another gateway is not another revision"
            await stage.until_serves(first)
        finally:
            await stage.kube.delete("Gateway", stage.name, "closed")
