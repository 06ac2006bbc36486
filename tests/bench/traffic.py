"""Requests failed by moving traffic: promotions and rollbacks under load on the real gateway, arms told apart."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from deploy.demo.recording import Answer, Recording

from tests.bench.load import echo_traffic
from tests.bench.manifests import model_deployment
from tests.bench.prometheus import StubPrometheus
from tests.bench.result import Result
from tests.bench.stage import Stage, staged

NAME = "moved"
STEPS = ((10, "1s"), (50, "1s"))
RATE, LEAST_RATE = 225.0, 200.0
ROUNDS, QUICK_ROUNDS = 10, 2


def run(result: Result, quick: bool) -> None:
    """Measure."""
    asyncio.run(_measure(result, QUICK_ROUNDS if quick else ROUNDS))


async def _measure(result: Result, rounds: int) -> None:
    with StubPrometheus().serving() as prometheus:
        async with staged("traffic") as stage:
            with stage.operator({"default": prometheus.url}):
                first = await _apply(stage, "0.0.0")
                await stage.until_idle(NAME, first)
                # Idle says that the route is right; that the gateway serves it, its first answer says.
                load = echo_traffic(stage.place.gateway_here, stage.hostname(NAME), RATE)
                begun = time.monotonic()
                async with load.flowing() as recording:
                    for number in range(1, rounds + 1):
                        await _promote(stage, f"{number}.0.0")
                        await _take_back(stage, prometheus, f"{number}.1.0", in_bake=number % 2 == 0)
                        failed = [each for each in recording.answers if not each.good]
                        print(f"  round {number}: {len(recording.answers)} requests, {len(failed)} failed", flush=True)
                seconds = time.monotonic() - begun
                moves = len(stage.weights[NAME]) - 1
    answers = recording.answers
    judge(result, stage, NAME, recording, seconds)
    result.at_least("promotions", rounds, "promotions", rounds)
    result.at_least("rollbacks, every other one in the bake", rounds, "rollbacks", rounds)
    result.note("weight changes", moves, "route writes")
    result.note("revisions that answered", len({each.revision for each in answers if each.revision}), "revisions")
    latencies = sorted(each.latency for each in answers)
    for share in (0.5, 0.99):
        result.note(f"latency p{share * 100:g}", 1000 * latencies[int(share * (len(latencies) - 1))], "ms")


async def _apply(stage: Stage, version: str, bake: str = "1s") -> str:
    return await stage.apply(
        model_deployment(stage.namespace, NAME, version, stage.hostname(NAME), steps=STEPS, bake=bake)
    )


async def _promote(stage: Stage, version: str) -> None:
    revision = await _apply(stage, version)
    await stage.until_idle(NAME, revision)


async def _take_back(stage: Stage, prometheus: StubPrometheus, version: str, *, in_bake: bool) -> None:
    """A candidate that answers well and is called bad, in its step of half the traffic or with all of it."""
    revision = await _apply(stage, version, bake="30s" if in_bake else "1s")
    await stage.until_weight(NAME, revision, 999_999 if in_bake else 500_000)
    prometheus.turn(revision, 1.0)
    await stage.until_rolled_back(NAME, revision)


def judge(result: Result, stage: Stage, name: str, recording: Recording, seconds: float) -> None:
    """No request failed while ``seconds`` went by, and there were as many as promised."""
    failed = [each for each in recording.answers if not each.good]
    _explain(failed, stage, name)
    result.at_most("requests failed by moving traffic", len(failed), "requests", 0)
    result.at_most("requests not sent in time (load generator behind)", recording.held_back, "requests", 0)
    result.note("requests", len(recording.answers), "requests")
    result.at_least("rate", len(recording.answers) / seconds, "requests/s", LEAST_RATE)


def _explain(failed: Sequence[Answer], stage: Stage, name: str) -> None:
    """Each failure (the first of many) with the weight change before it."""
    for each in failed[:20]:
        before = [change for change in stage.weights[name] if change.at <= each.at]
        last = f"{each.at - before[-1].at:.3f} s after {before[-1].parts}" if before else "before any weight"
        print(f"  failed: {each.status} {each.revision} {each.text!r} {last}", flush=True)
