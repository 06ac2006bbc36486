"""API requests of the operator, from the audit log: a canary promoted, one rolled back, and 100 at rest."""

from __future__ import annotations

import asyncio
import time

from tests.bench.audit import AuditLog, Request, by_kind, reads, writes
from tests.bench.manifests import model_deployment, user_of
from tests.bench.operating import Operator
from tests.bench.pretend import NAMESPACE, Alone, alone, pretended_triton
from tests.bench.prometheus import StubPrometheus
from tests.bench.result import Result
from tests.bench.stage import Stage, staged

NAME = "counted"
STEPS = ((5, "3s"), (10, "3s"), (25, "3s"), (50, "3s"), (75, "3s"))
PROMOTED_WRITES, PROMOTED_ROUTE_WRITES, ROLLED_BACK_WRITES = 27, 8, 22
IDLE = 100
IDLE_SECONDS, IDLE_CPU_SECONDS = 300.0, 1.0
QUIET = 6.0
"""Seconds after the end of a story in which late writes of it are still counted."""


def run(result: Result, quick: bool) -> None:
    """Measure."""
    asyncio.run(_canaries(result))
    with alone() as place, pretended_triton(), StubPrometheus().serving() as prometheus:
        _at_rest(result, place, prometheus.url, 60.0 if quick else IDLE_SECONDS)


async def _canaries(result: Result) -> None:
    # Values that are never twice the same: a status written at each evaluation would show.
    with StubPrometheus(noise=0.3).serving() as prometheus:
        async with staged("requests") as stage:
            with stage.operator({"default": prometheus.url}):
                first = await _apply(stage, "1.0.0")
                await stage.until_idle(NAME, first)
                await rest(stage)
                good = await _apply(stage, "1.1.0")
                await stage.until_idle(NAME, good)
                found = await rest(stage)
                _count(result, "canary of 5 steps promoted", found, PROMOTED_WRITES)
                route = len(writes(found, "httproutes"))
                result.at_most("canary of 5 steps promoted: route writes", route, "writes", PROMOTED_ROUTE_WRITES)
                bad = await _apply(stage, "1.2.0")
                await stage.until_weight(NAME, bad, 250_000)
                prometheus.turn(bad, 1.0)
                await stage.until_rolled_back(NAME, bad)
                _count(result, "canary rolled back at step 3", await rest(stage), ROLLED_BACK_WRITES)


async def _apply(stage: Stage, version: str) -> str:
    return await stage.apply(
        model_deployment(stage.namespace, NAME, version, stage.hostname(NAME), steps=STEPS, bake="3s")
    )


async def rest(stage: Stage) -> list[Request]:
    """All requests of the operator since the last call, once it has come to rest."""
    found = stage.audit.read(stage.user)
    while True:
        await asyncio.sleep(QUIET)
        more = stage.audit.read(stage.user)
        found += more
        if not writes(more):
            return found


def _count(result: Result, what: str, found: list[Request], limit: int) -> None:
    print(f"  {what}: {by_kind(writes(found))}", flush=True)
    result.at_most(f"{what}: writes, events and children included", len(writes(found)), "writes", limit)
    result.at_most(f"{what}: GET and LIST", len(reads(found)), "requests", 0)
    result.note(f"{what}: lease renewals meanwhile", sum(each.is_lease for each in found), "requests")


def _at_rest(result: Result, place: Alone, prometheus: str, seconds: float) -> None:
    settings = {
        "pools": {"cpu": {"image": "example/triton:1"}},
        "prometheus": {"default": {"url": prometheus}},
    }
    audit = AuditLog(place.audit_log)
    with Operator(place.folder / "operator", NAMESPACE, place.kubeconfig, settings) as operator:
        place.create(0, IDLE)
        place.wait_until_idle(IDLE)
        user = user_of(NAMESPACE)
        while writes(audit.read(user)):
            time.sleep(QUIET)
        print(f"  {IDLE} ModelDeployments are Idle; watching them for {seconds:.0f} s", flush=True)
        before = operator.cpu_seconds()
        time.sleep(seconds)
        spent, found = operator.cpu_seconds() - before, audit.read(user)
    other = [each for each in found if each.verb != "watch" and not each.is_lease]
    what = f"{IDLE} idle for {seconds:.0f} s"
    print(f"  {what}: {by_kind(found)}", flush=True)
    result.at_most(f"{what}: writes", len(writes(found)), "writes", 0)
    result.at_most(f"{what}: requests but watches and lease", len(other), "requests", 0)
    result.at_most(f"{what}: CPU of the operator", spent, "s", IDLE_CPU_SECONDS * seconds / IDLE_SECONDS)
    result.note(f"{what}: lease renewals", sum(each.is_lease for each in found), "requests")
