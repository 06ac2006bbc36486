"""Changes of mind under load: pods of the candidate deleted, V3 during V2's step, and A -> B -> A, all mid-canary."""

from __future__ import annotations

import asyncio
import time

from tests.bench.load import echo_traffic
from tests.bench.manifests import model_deployment
from tests.bench.prometheus import StubPrometheus
from tests.bench.result import Result
from tests.bench.stage import Stage, outcome_of, staged
from tests.bench.traffic import RATE, judge

NAME = "changed"
STEPS = ((50, "10m"),)
HALF = 500_000
ROUNDS, QUICK_ROUNDS = 10, 2


def run(result: Result, quick: bool) -> None:
    """Measure."""
    asyncio.run(_measure(result, QUICK_ROUNDS if quick else ROUNDS))


async def _measure(result: Result, rounds: int) -> None:
    with StubPrometheus().serving() as prometheus:
        async with staged("changes") as stage:
            with stage.operator({"default": prometheus.url}):
                first = await _apply(stage, "0.0.0")
                await stage.until_idle(NAME, first)
                load = echo_traffic(stage.place.gateway_here, stage.hostname(NAME), RATE)
                begun = time.monotonic()
                async with load.flowing() as recording:
                    for number in range(1, rounds + 1):
                        await _round(stage, first, number)
                        failed = sum(not each.good for each in recording.answers)
                        print(f"  round {number}: {len(recording.answers)} requests, {failed} failed", flush=True)
                seconds = time.monotonic() - begun
    judge(result, stage, NAME, recording, seconds)
    for what in ("candidates whose pods were deleted", "V3 during V2's step", "A -> B -> A"):
        result.at_least(what, rounds, "times", rounds)
    result.note("weight changes", len(stage.weights[NAME]) - 1, "route writes")


async def _round(stage: Stage, first: str, number: int) -> None:
    second = await _apply(stage, f"{number}.0.0")
    await stage.until_weight(NAME, second, HALF)
    for pod in await stage.kube.list("Pod", stage.namespace, f"modelrollout.io/revision={second}"):
        await stage.kube.delete("Pod", stage.namespace, pod["metadata"]["name"])
    await stage.until_weight(NAME, first, 999_999)
    await stage.until_weight(NAME, second, HALF)
    third = await _apply(stage, f"{number}.1.0")
    await stage.until(NAME, lambda status: outcome_of(status, second) == "Superseded", f"{second} Superseded", 60)
    await stage.until_weight(NAME, third, HALF)
    assert await _apply(stage, "0.0.0") == first
    await stage.until(NAME, lambda status: outcome_of(status, third) == "Aborted", f"{third} Aborted", 60)
    await stage.until_idle(NAME, first)


async def _apply(stage: Stage, version: str) -> str:
    return await stage.apply(model_deployment(stage.namespace, NAME, version, stage.hostname(NAME), steps=STEPS))
