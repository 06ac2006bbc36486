"""Writes of whole lifecycles by every strategy, from the audit log: promoted, taken back, come back, refused."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.bench.audit import by_kind, reads, writes
from tests.bench.counting import PROMOTED_ROUTE_WRITES, PROMOTED_WRITES, rest
from tests.bench.manifests import model_deployment
from tests.bench.prometheus import StubPrometheus
from tests.bench.result import Result
from tests.bench.stage import Stage, staged

HOLD = "3s"
MIRRORED = {"source": "Mirror", "percent": 20, "hold": HOLD}
TEST = {"weight": 30, "hold": HOLD}
CANARY = {"canary": {"steps": [{"weight": 50, "hold": HOLD}]}}
STRATEGIES: dict[str, dict[str, Any]] = {
    "blue-green": {"strategy": "BlueGreen"},
    "blue-green, copies and approval": {
        "strategy": "BlueGreen",
        "blueGreen": {"prePromotion": MIRRORED, "approval": True},
    },
    "shadow, then approval": {"strategy": "Shadow", "shadow": {"hold": HOLD, "then": "Approval"}},
    "shadow, then a canary step": {"strategy": "Shadow", "shadow": {"hold": HOLD, "then": "Canary"}, **CANARY},
    "A/B test, then approval": {"strategy": "ABTest", "abTest": TEST},
    "recreate": {"strategy": "Recreate"},
    "blue-green by Service": {"strategy": "BlueGreen", "service": True},
}
"""What is counted: promoted, and the next version taken back in the bake."""

MOVERS = tuple(f"life-{number}" for number in range(len(STRATEGIES)))
"""The names of the ModelDeployments, and of the Services that move the traffic of those without a gateway."""


def run(result: Result, quick: bool) -> None:
    """Measure."""
    asyncio.run(_measure(result, quick))


async def _measure(result: Result, quick: bool) -> None:
    # Values that are never twice the same: a status written at each evaluation would show.
    with StubPrometheus(noise=0.3).serving() as prometheus:
        async with staged("lifecycles") as stage:
            with stage.operator({"default": prometheus.url}):
                names = list(STRATEGIES)[:2] if quick else list(STRATEGIES)
                for number, what in enumerate(names):
                    await _lifecycle(result, stage, prometheus, MOVERS[number], what)
                await _returning(result, stage)


class Model:
    """One ModelDeployment that moves by ``rollout``."""

    def __init__(self, stage: Stage, name: str, rollout: dict[str, Any]) -> None:
        self.stage, self.name = stage, name
        self.rollout = {"bake": HOLD, **rollout}

    async def apply(self, version: str, **changes: Any) -> str:
        """Ask for a version; returns its revision."""
        rollout = {**self.rollout, **changes}
        service = rollout.pop("service", False)
        hostname = self.stage.hostname(self.name)
        body = model_deployment(self.stage.namespace, self.name, version, hostname, steps=None, **rollout)
        if service:
            body["spec"]["traffic"] = {"service": {}}
        return await self.stage.apply(body)

    async def phase(self, *phases: str) -> str:
        """Wait for one of ``phases``, and say which."""
        found = await self.stage.until(
            self.name, lambda status: status.get("phase") in phases, " or ".join(phases), 120
        )
        return str(found["phase"])

    async def on(self, revision: str) -> None:
        """Wait until ``revision`` bakes, approving what is asked on the way."""
        while await self.phase("AwaitingApproval", "Baking") == "AwaitingApproval":
            await self.stage.command(self.name, "promote")
            await self.phase("Progressing", "Promoting", "Baking")
        await self.stage.until(
            self.name, lambda status: status["revisions"].get("stable") == revision, f"{revision} bakes", 30
        )


async def _lifecycle(result: Result, stage: Stage, prometheus: StubPrometheus, name: str, what: str) -> None:
    model = Model(stage, name, STRATEGIES[what])
    await stage.until_idle(name, await model.apply("1.0.0"))
    await rest(stage)
    good = await model.apply("1.1.0")
    await model.on(good)
    await stage.until_idle(name, good)
    await _count(result, stage, f"{what}: promoted", PROMOTED_WRITES, PROMOTED_ROUTE_WRITES)
    bad = await model.apply("1.2.0", bake="60s")
    await model.on(bad)
    prometheus.turn(bad, 1.0)
    await stage.until_rolled_back(name, bad)
    await _count(result, stage, f"{what}: taken back in the bake", PROMOTED_WRITES)
    await stage.kube.delete("ModelDeployment", stage.namespace, name)


async def _returning(result: Result, stage: Stage) -> None:
    """Back to a revision that is known good: by the spec, and by command; and a command that makes no sense."""
    name = "returned"
    model = Model(stage, name, CANARY)
    first = await model.apply("1.0.0")
    await stage.until_idle(name, first)
    await stage.until_idle(name, await model.apply("1.1.0"))
    await rest(stage)
    await model.apply("1.0.0")
    await stage.until_idle(name, first)
    await _count(result, stage, "return by spec, fast track", PROMOTED_WRITES, PROMOTED_ROUTE_WRITES)
    await stage.command(name, "rollback")
    await stage.until(
        name,
        lambda status: status.get("phase") == "RolledBack" and status["revisions"].get("stable") != first,
        "the other one serves",
        120,
    )
    await _count(result, stage, "return by command", PROMOTED_WRITES, PROMOTED_ROUTE_WRITES)
    for command in ("promote", "rollback:no-such-revision", "dance", "abort"):
        await stage.command(name, command)
        found = await rest(stage)
        kinds = by_kind(writes(found))
        result.at_most(f"refused {command}: status writes", kinds.pop("patch modeldeployments/status", 0), "writes", 1)
        events = sum(kinds.pop(kind, 0) for kind in list(kinds) if kind.endswith("events"))
        result.at_most(f"refused {command}: events", events, "writes", 1)
        result.at_least(f"refused {command}: both of them", len(writes(found)), "writes", 2)
        result.at_most(f"refused {command}: anything else", sum(kinds.values()), "writes", 0)


async def _count(result: Result, stage: Stage, what: str, limit: int, routes: int | None = None) -> None:
    found = await rest(stage)
    print(f"  {what}: {by_kind(writes(found))}", flush=True)
    result.at_most(f"{what}: writes, events and children included", len(writes(found)), "writes", limit)
    if routes is not None:
        moving = [each for each in writes(found, "services") if each.name in MOVERS]
        written = len(writes(found, "httproutes")) + len(moving)
        result.at_most(f"{what}: route writes", written, "writes", routes)
    result.at_most(f"{what}: GET and LIST", len(reads(found)), "requests", 0)
