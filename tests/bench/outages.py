"""Prometheus gone in six ways during a healthy canary: nothing moves meanwhile, and it goes on by itself afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass

from tests.bench.load import echo_traffic
from tests.bench.manifests import Object, model_deployment
from tests.bench.prometheus import Mode, StubPrometheus
from tests.bench.result import Result
from tests.bench.stage import Stage, Weights, outcome_of, staged

MODES = tuple(mode for mode in Mode if mode is not Mode.GOOD)
STEPS = ((25, "12s"), (50, "3s"), (75, "3s"))
OUTAGE, QUICK_OUTAGE = 120.0, 20.0
AFTERWARDS = 120.0
"""Seconds within which the rest of the rollout (6 s of steps, bake, pods) has to be over."""

RATE = 8.0
"""Requests a second to each ModelDeployment: guards without requests would hold anyway."""


@dataclass(frozen=True)
class Found:
    """What one outage did: weight changes and rollbacks while it lasted, and how the rollout ended."""

    moves: int
    rollbacks: int
    outcome: str | None
    seconds_until_promoted: float


def run(result: Result, quick: bool) -> None:
    """Measure."""
    seconds = QUICK_OUTAGE if quick else OUTAGE
    for mode, found in asyncio.run(_outages(seconds)).items():
        what = f"{mode} for {seconds:.0f} s"
        result.at_most(f"{what}: rollbacks", found.rollbacks, "rollbacks", 0)
        result.at_most(f"{what}: steps while it lasted", found.moves, "route changes", 0)
        lost = 0 if found.outcome == "Promoted" else 1
        result.at_most(f"{what}: not promoted by itself afterwards", lost, "rollouts", 0)
        result.note(f"{what}: end of the outage to the end of the rollout", found.seconds_until_promoted, "s")


async def _outages(seconds: float) -> dict[Mode, Found]:
    async with contextlib.AsyncExitStack() as stack:
        stage = await stack.enter_async_context(staged("outages"))
        upstream = stage.place.prometheus_here
        stubs = {mode: stack.enter_context(StubPrometheus(upstream).serving()) for mode in MODES}
        stack.enter_context(stage.operator({_name(mode): stub.url for mode, stub in stubs.items()}))
        revisions = {mode: await stage.apply(_wish(stage, mode, "1.0.0")) for mode in MODES}
        for mode, revision in revisions.items():
            await stage.until_idle(_name(mode), revision, within=300)
        for mode in MODES:
            load = echo_traffic(stage.place.gateway_here, stage.hostname(_name(mode)), RATE)
            await stack.enter_async_context(load.flowing())
        each = (_outage(stage, mode, stubs[mode], seconds) for mode in MODES)
        return dict(zip(MODES, await asyncio.gather(*each), strict=True))


async def _outage(stage: Stage, mode: Mode, stub: StubPrometheus, seconds: float) -> Found:
    """One canary: healthy in its first step, then no Prometheus for ``seconds``, which outlast the step's hold."""
    name = _name(mode)
    revision = await stage.apply(_wish(stage, mode, "1.1.0"))
    await stage.until_weight(name, revision, 250_000, within=300)
    await stage.until(name, lambda status: _step(status) == 1, "step 1 began", 60)
    stub.become(mode)
    # A question that was answered in the last moment of health may still move something.
    await asyncio.sleep(2)
    begun = len(_weights(stage, name))
    await asyncio.sleep(seconds)
    moves = len(_weights(stage, name)) - begun
    status = stage.deployments[name]["status"]
    rollbacks = int(status["phase"] == "RollingBack" or outcome_of(status, revision) == "RolledBack")
    print(f"  {mode}: {status['phase']}: {status['message']}", flush=True)
    stub.become(Mode.GOOD)
    over = time.monotonic()
    with contextlib.suppress(Exception):
        await stage.until_idle(name, revision, within=AFTERWARDS)
    outcome = outcome_of(stage.deployments[name]["status"], revision)
    return Found(moves, rollbacks, outcome, time.monotonic() - over)


def _weights(stage: Stage, name: str) -> list[Weights]:
    return stage.weights.get(name, [])


def _step(status: Object) -> int:
    return int((status.get("rollout") or {}).get("step", 0))


def _name(mode: Mode) -> str:
    return f"outage-{mode.name.lower()}"


def _wish(stage: Stage, mode: Mode, version: str) -> Object:
    """Guards of both kinds: one of the gateway's error ratio, one with a query of the user's."""
    name = _name(mode)
    guards = [
        {"name": "errors", "sli": "error-ratio", "max": 0.05, "window": "10s"},
        {"name": "query", "query": "vector(0)", "max": 1},
    ]
    return model_deployment(
        stage.namespace,
        name,
        version,
        stage.hostname(name),
        steps=STEPS,
        guards=guards,
        prometheus=name,
        progressDeadline="10m",
    )
