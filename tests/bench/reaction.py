"""From the moment a query first returns a value over the threshold to the route write, at an interval of 1 s."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

from deploy.demo.recording import percentile

from tests.bench.audit import Request, writes
from tests.bench.manifests import model_deployment
from tests.bench.prometheus import StubPrometheus
from tests.bench.result import Result
from tests.bench.stage import Stage, staged

INTERVAL = 1.0
"""Seconds between evaluations: the shortest that the API allows."""

MARGIN = 0.3
NAMES = tuple(f"watched-{number}" for number in range(6))
ROUNDS, QUICK_ROUNDS = 5, 1


@dataclass(frozen=True)
class Trial:
    """Unix seconds: the value turned bad, an answer first carried it, the route write came in and was stored."""

    turned: float
    answered: float
    received: float
    written: float


def run(result: Result, quick: bool) -> None:
    """Measure."""
    trials = asyncio.run(_trials(QUICK_ROUNDS if quick else ROUNDS))
    limit = INTERVAL + MARGIN
    after_turn = [trial.written - trial.turned for trial in trials]
    after_answer = [trial.written - trial.answered for trial in trials]
    inside = [trial.received - trial.answered for trial in trials]
    result.at_least("trials, at random phases of the interval", len(trials), "trials", len(NAMES) * ROUNDS)
    if quick:
        result.rows.pop()
    for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
        seconds = percentile(after_turn, share) or 0.0
        result.at_most(f"value turns bad -> route write, {name}", seconds, "s", limit)
        result.at_most(f"value turns bad -> route write, {name}, ratio to the interval", seconds / INTERVAL, "", limit)
    for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
        seconds = percentile(after_answer, share) or 0.0
        result.at_most(f"first bad answer -> route write, {name}", seconds, "s", MARGIN)
        result.note(f"of it until the request reached the API server, {name}", percentile(inside, share) or 0.0, "s")


async def _trials(rounds: int) -> list[Trial]:
    trials: list[Trial] = []
    with StubPrometheus().serving() as prometheus:
        async with staged("reaction") as stage:
            with stage.operator({"default": prometheus.url}):
                first = [await _apply(stage, name, "0.0.0") for name in NAMES]
                for name, revision in zip(NAMES, first, strict=True):
                    await stage.until_idle(name, revision)
                for number in range(1, rounds + 1):
                    trials += await _round(stage, prometheus, f"{number}.0.0")
                    print(f"  {len(trials)} trials", flush=True)
    return trials


async def _round(stage: Stage, prometheus: StubPrometheus, version: str) -> list[Trial]:
    """One trial with each ModelDeployment, one after the other, while all candidates have half the traffic."""
    revisions = [await _apply(stage, name, version) for name in NAMES]
    for name, revision in zip(NAMES, revisions, strict=True):
        await stage.until_weight(name, revision, 500_000, within=240)
    # The newest evaluation of each: all of them are in the middle of a step and have passed at least once.
    await asyncio.sleep(2 * INTERVAL)
    stage.audit.read(stage.user)
    trials = []
    for name, revision in zip(NAMES, revisions, strict=True):
        await asyncio.sleep(random.uniform(0, INTERVAL))
        turned = prometheus.turn(revision, 1.0)
        await stage.until(
            name, lambda status: status.get("phase") in ("RollingBack", "RolledBack"), "a rollback begins", 30
        )
        found = _trial(stage.audit.read(stage.user), name, turned, prometheus.first_answer(revision, 1.0))
        spans = (found.answered - found.turned, found.received - found.answered, found.written - found.received)
        print("  bad {:.3f} s, first bad answer; {:.3f} s, request; {:.3f} s, stored".format(*spans), flush=True)
        trials.append(found)
    for name, revision in zip(NAMES, revisions, strict=True):
        await stage.until_rolled_back(name, revision)
    return trials


def _trial(found: list[Request], name: str, turned: float, answered: float | None) -> Trial:
    route = [each for each in writes(found, "httproutes") if each.name == name and each.done >= turned]
    assert route, f"{name} rolled back without a route write in the audit log"
    assert answered is not None, f"{name} rolled back before any answer was bad"
    return Trial(turned, answered, route[0].received, route[0].done)


async def _apply(stage: Stage, name: str, version: str) -> str:
    hostname = stage.hostname(name)
    body = model_deployment(stage.namespace, name, version, hostname, steps=((50, "10m"),), progressDeadline="10m")
    return await stage.apply(body)
