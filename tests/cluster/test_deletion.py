"""Deletion at every moment: all of ours goes, nobody's deletion waits for us, and a new one starts from nothing."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from deploy.demo.kube import Object
from deploy.demo.training import V1, V2

from tests.cluster.conftest import Staging
from tests.cluster.stage import Stage

OURS = ("ModelRevision", "Deployment", "Service", "PodDisruptionBudget", "HTTPRoute")


def plan(*steps: dict[str, Any], bake: str = "10m", **changes: Any) -> dict[str, Any]:
    """By time alone, and looked at often."""
    return {"canary": {"steps": list(steps)}, "bake": bake, "unguarded": True, **changes}


MOMENTS: dict[str, dict[str, Any]] = {
    "Preparing": plan({"weight": 50}, progressDeadline="15m"),
    "Progressing": plan({"weight": 50, "hold": "10m"}),
    "AwaitingApproval": plan({"weight": 10}, {"pause": {}}),
    "Baking": plan({"weight": 50}),
    "RolledBack": plan({"weight": 50}, progressDeadline="2s"),
}
"""The phase in which a ModelDeployment is deleted, and the rollout that stays there."""


async def phase_of(stage: Stage, name: str) -> str:
    found = await stage.kube.get("ModelDeployment", stage.name, name)
    return str(((found or {}).get("status") or {}).get("phase"))


async def until_phase(stage: Stage, name: str, phase: str, within: float = 300) -> None:
    end = time.monotonic() + within
    while (now := await phase_of(stage, name)) != phase:
        assert time.monotonic() < end, f"{name}: expected {phase}, is {now}"
        await asyncio.sleep(0.3)


async def bring(stage: Stage, phase: str) -> None:
    """A ModelDeployment of its own to ``phase``: V1 serves, V2 is on its way."""
    name, host = phase.lower(), f"{phase.lower()}.{stage.hostname}"
    await stage.kube.apply(wish(stage, phase, host))
    await until_phase(stage, name, "Idle")
    missing = {"prefix": f"{stage.prefix}/no-such-version"} if phase in ("Preparing", "RolledBack") else {}
    second = stage.wish(V2, name=name, hostname=host, rollout=MOMENTS[phase], **missing)
    await stage.kube.apply(second)
    await until_phase(stage, name, phase)


def wish(stage: Stage, phase: str, host: str) -> Object:
    return stage.wish(V1, name=phase.lower(), hostname=host, rollout=MOMENTS[phase])


async def test_deleted_in_every_phase_leaves_nothing_and_a_new_one_starts_from_nothing(staging: Staging) -> None:
    async with staging() as stage:
        await asyncio.gather(*(bring(stage, phase) for phase in MOMENTS))
        for phase in MOMENTS:
            assert await phase_of(stage, phase.lower()) == phase, "it is deleted in the very phase"
            assert await stage.kube.delete("ModelDeployment", stage.name, phase.lower())
        assert await stage.kube.list("ModelDeployment", stage.name) == [], "nothing of ours holds the deletion up"
        await stage.gone(*OURS)
        await stage.kube.apply(wish(stage, "Progressing", f"progressing.{stage.hostname}"))
        await until_phase(stage, "progressing", "Idle")
        again = await stage.kube.get("ModelDeployment", stage.name, "progressing")
        assert again is not None
        assert [entry["attempt"] for entry in again["status"]["history"]] == [1], "nothing is left of the one before"
        second = stage.wish(
            V2, name="progressing", hostname=f"progressing.{stage.hostname}", rollout=MOMENTS["Progressing"]
        )
        await stage.kube.apply(second)
        await until_phase(stage, "progressing", "Progressing")
        await stage.kube.delete("Namespace", None, stage.name)
        await stage.kube.wait_gone("Namespace", None, stage.name, within=300)
        assert not stage.errors()
