"""Blue-green under load: requests failed by the switch, and by the switch back of a breach in the bake."""

from __future__ import annotations

import asyncio
import time

from tests.bench.load import echo_traffic
from tests.bench.manifests import model_deployment
from tests.bench.prometheus import StubPrometheus
from tests.bench.result import Result
from tests.bench.stage import Stage, staged
from tests.bench.traffic import RATE, judge

NAME = "switched"
ROUNDS, QUICK_ROUNDS = 10, 2


def run(result: Result, quick: bool) -> None:
    """Measure."""
    asyncio.run(_measure(result, QUICK_ROUNDS if quick else ROUNDS))


async def _measure(result: Result, rounds: int) -> None:
    back: list[float] = []
    with StubPrometheus().serving() as prometheus:
        async with staged("switches") as stage:
            with stage.operator({"default": prometheus.url}):
                first = await _apply(stage, "0.0.0")
                await stage.until_idle(NAME, first)
                load = echo_traffic(stage.place.gateway_here, stage.hostname(NAME), RATE)
                begun = time.monotonic()
                async with load.flowing() as recording:
                    for number in range(1, rounds + 1):
                        revision = await _apply(stage, f"{number}.0.0")
                        await stage.until_weight(NAME, revision, 999_999)
                        # Users are on it for a moment: a switch that is taken back at once would hide what it lost.
                        await asyncio.sleep(2)
                        turned = prometheus.turn(revision, 1.0)
                        back.append(await stage.until_weight(NAME, first, 999_999) - turned)
                        await stage.until_rolled_back(NAME, revision)
                        failed = sum(not each.good for each in recording.answers)
                        print(f"  round {number}: {len(recording.answers)} requests, {failed} failed", flush=True)
                seconds = time.monotonic() - begun
    judge(result, stage, NAME, recording, seconds)
    result.at_least("switches", rounds, "switches", rounds)
    result.at_least("switches back", len(back), "switches", rounds)
    writes = [each.parts for each in stage.weights[NAME]][1:]
    stops = {parts for each in writes for parts in each.values()} - {0, 1, 999_999, 1_000_000}
    result.at_most("weights between none and all on the way", len(stops), "weights", 0)
    result.note("value turns bad -> all users back, max", max(back), "s")
    revisions = {each.revision for each in recording.answers if each.revision}
    result.at_least("revisions that answered", len(revisions), "revisions", rounds + 1)


async def _apply(stage: Stage, version: str) -> str:
    body = model_deployment(
        stage.namespace, NAME, version, stage.hostname(NAME), steps=None, bake="60s", strategy="BlueGreen"
    )
    return await stage.apply(body)
