"""One rollout by our own decisions: decide() and evaluate() as they are, in a world that obeys at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from modelrollout.api.modeldeployment import ModelDeployment
from modelrollout.api.status import ModelDeploymentStatus, Outcome, Phase, RevisionsStatus, TrafficStatus
from modelrollout.controller.evaluation import evaluate
from modelrollout.evidence.context import Context
from modelrollout.rollout.decide import decide
from modelrollout.rollout.observed import Backend, Evaluation, Gate, GateState, Observed, Probe, Route, Workload
from modelrollout.rollout.plan import ARMED, WHOLE, EvaluationRequest, Plan, RoutePlan
from tests.bench.judgement.envoy import Fleet
from tests.bench.judgement.prometheus import Prometheus
from tests.bench.judgement.traffic import World
from tests.bench.judgement.verdicts import BAKE, BEFORE, LONGEST, STEPS, Ended, Found
from tests.builders import modeldeployment, name_of
from tests.simulation.virtualtime import VirtualClock, run

REPOSITORY = Path(__file__).resolve().parents[3]
POLICY = REPOSITORY / "deploy" / "policies" / "default.yaml"
ANSWERS = POLICY.with_name("answers.yaml")
"""Named besides where an observer compares answers."""

PROFILE = "envoy-gateway"

PROGRAMMED = 0.03
"""Seconds from a route's write until the proxies carry it out (facts: 13 to 35 ms)."""

V1, V2 = name_of("1.0.0"), name_of("2.0.0")


@lru_cache
def guards_of(policy: Path) -> tuple[dict[str, Any], ...]:
    """The guards that a policy file gives to every rollout."""
    return tuple(
        guard
        for document in yaml.safe_load_all(policy.read_text())
        if document
        for guard in document["spec"].get("guards", ())
    )


@lru_cache
def wish(policy: Path, outputs: bool, bake: float) -> ModelDeployment:
    """What is asked for: version 2 by the canary that the API has as its default, guarded by the policy."""
    return modeldeployment(
        "2.0.0",
        steps=[(weight, f"{hold:.0f}s") for weight, hold in STEPS],
        bake=f"{bake:.0f}s",
        noDataDeadline="10m",
        evaluationInterval="10s",
        guards=[*guards_of(policy), *(guards_of(ANSWERS) if outputs else ())],
    )


class Rollout:
    """Version 1 serves, version 2 is asked for. Pods are ready and gates passed: only traffic is judged here."""

    def __init__(self, world: World, seed: Sequence[int], policy: Path = POLICY, bake: float = BAKE) -> None:
        self.fleet = Fleet(world, np.random.default_rng(seed))
        self.metrics = Prometheus(self.fleet, V2)
        self.clock = VirtualClock()
        self.wish = wish(policy, world.outputs is not None, bake)
        self.status = ModelDeploymentStatus(
            phase=Phase.IDLE,
            revisions=RevisionsStatus(desired=V1, stable=V1),
            traffic=(TrafficStatus(revision=V1, slot=0, weight=100.0),),
            observed_generation=1,
        )
        self.observed = Observed(
            workloads={V1: Workload(V1, 2, 2)}, records=(V1,), known_good=frozenset({V1}), models={V1: ("digits", "1")}
        )
        self.spans: list[tuple[float, int]] = []
        self.promoted: int | None = None
        self.asked = False
        self._request: EvaluationRequest | None = None
        self._due = 0.0
        self._write(((V1, WHOLE), (V1, 0)))

    async def run(self) -> Found:
        """Until it is promoted and baked, taken back, or a person was waited for too long."""
        await self.clock.sleep(BEFORE)
        plan: Plan | None = None
        while True:
            now = self.clock.monotonic()
            await self._measure(now)
            before = (self.status, self.observed)
            plan = decide(self.wish, self.status, self.observed, self.clock.now())
            self._carry_out(plan)
            if self.status.phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK):
                return self._found(Ended.ROLLED_BACK)
            attempt = self.status.rollout
            self.asked = self.asked or self.status.phase is Phase.AWAITING_APPROVAL
            if self.status.phase is Phase.BAKING and self.promoted is None:
                self.promoted = self.fleet.answered
            if attempt is not None and attempt.outcome is Outcome.PROMOTED:
                return self._found(Ended.PROMOTED)
            if now > BEFORE + LONGEST:
                waits = self.status.phase is Phase.AWAITING_APPROVAL
                return self._found(Ended.AWAITING if waits else Ended.HELD)
            if (self.status, self.observed) != before:
                await self.clock.sleep(PROGRAMMED)
            else:
                wake = plan.requeue_after.total_seconds() if plan.requeue_after is not None else LONGEST
                await self.clock.sleep(max(min(wake, self._due - now), 0.01))

    def _found(self, ended: Ended) -> Found:
        began = self.fleet.began or self.clock.monotonic()
        attempt = self.status.rollout
        why = "" if attempt is None else attempt.message
        seconds = self.clock.monotonic() - began
        return Found(ended, self.fleet.answered, self.promoted, seconds, why, tuple(self.spans), self.asked)

    # -- what is seen -----------------------------------------------------------------------------------------

    async def _measure(self, now: float) -> None:
        """An evaluation, where one is due: at once for another question, else every interval from start to start."""
        request = self._request
        if request is None or now < self._due:
            return
        self._due = now + request.interval.total_seconds()
        context = Context.of(self.wish, request, PROFILE)
        evaluation = await evaluate(self.metrics, self.wish.spec.rollout.guards, context, request, self.clock)
        self.observed = replace(self.observed, evaluation=self.judged(evaluation))

    def judged(self, evaluation: Evaluation) -> Evaluation:
        """What a subclass may look at."""
        return evaluation

    # -- what is done -----------------------------------------------------------------------------------------

    def _carry_out(self, plan: Plan) -> None:
        self.status = plan.status
        observed = self.observed
        if plan.create_revision is not None and plan.create_revision not in observed.records:
            observed = replace(
                observed,
                records=(*observed.records, plan.create_revision),
                models={**observed.models, plan.create_revision: ("digits", "2")},
            )
        for workload in plan.workloads:
            if observed.workload(workload.revision).ready != workload.replicas:
                pods = Workload(workload.revision, workload.replicas, workload.replicas)
                observed = replace(observed, workloads={**observed.workloads, workload.revision: pods})
        if plan.gate and plan.gate not in observed.gates:
            passed = Gate(plan.gate, GateState.PASSED, "", self.clock.now())
            observed = replace(observed, gates={plan.gate: passed})
        if plan.probe is not None:
            observed = replace(observed, probe=Probe(plan.probe.token, plan.probe.revisions))
        self.observed = observed
        if plan.route is not None:
            self._route(plan.route)
        if plan.evaluate != self._request:
            self._request, self._due = plan.evaluate, self.clock.monotonic()
        if plan.evaluate is None:
            self._due = LONGEST * 10

    def _route(self, plan: RoutePlan) -> None:
        first, second = plan.slots
        self._write(((first.revision or plan.stable, first.weight), (second.revision or plan.stable, second.weight)))

    def _write(self, pair: tuple[tuple[str, int], tuple[str, int]]) -> None:
        """The routes are written, accepted at once, and in force a moment later."""
        if self.observed.route.token == repr(pair):
            return
        weights: dict[str, int] = {}
        for revision, weight in pair:
            weights[revision] = weights.get(revision, 0) + weight
        backends = (Backend(*pair[0]), Backend(*pair[1]))
        now = self.clock.now() if self.spans else None
        route = Route(backends, weights, weights, repr(pair), accepted=True, accepted_since=now)
        self.observed = replace(self.observed, route=route)
        if not self.spans:
            self.spans.append((0.0, 0))
            return
        at = self.clock.monotonic() + PROGRAMMED
        share = weights.get(V2, 0)
        self.spans.append((at, share))
        self.fleet.shift(at, 0.0 if share <= ARMED else share / WHOLE)


def roll_out(world: World, seed: Sequence[int], policy: Path = POLICY, bake: float = BAKE) -> Found:
    """Carry out one rollout; the same seed gives the same."""

    async def main() -> Found:
        return await Rollout(world, seed, policy, bake).run()

    return run(main())
