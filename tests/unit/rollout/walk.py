"""Decisions one after the other in a world that does what a plan asks for: what a strategy comes to."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, Self

from modelrollout.api.status import ModelDeploymentStatus, Outcome, Phase, Verdict, status_from, status_to_dict
from modelrollout.rollout.decide import decide
from modelrollout.rollout.observed import (
    Arm,
    Backend,
    Evaluation,
    Gate,
    GateState,
    GuardResult,
    Observed,
    Probe,
    Route,
)
from modelrollout.rollout.plan import EvaluationRequest, Plan, RoutePlan
from tests.builders import START, modeldeployment, name_of
from tests.unit.rollout.truths import broken

LIMIT = 2000


class Walk:
    """One ModelDeployment; ``log`` has every change of the route and of the pods.

    Pods are ready and routes in force at once; where ``lagging``, a pod a turn, and the route a turn later. Every plan
    is held against what is true of all plans (truths.py).
    """

    def __init__(self, version: str = "1.0.0", *, lagging: bool = False, **spec: Any) -> None:
        self.status = ModelDeploymentStatus()
        self.observed = Observed()
        self.now = START
        self.log: list[str] = []
        self.events: list[str] = []
        self.told: list[str] = []
        self.phases: list[Phase] = []
        self.bad: set[str] = set()
        self.dead: set[str] = set()
        self.verdict = Verdict.PASS
        self.silent = False
        self.startable: dict[str, int] = {}
        self.requests = 1000.0
        self.lagging = lagging
        self.last: Plan | None = None
        self._probed = True
        self.apply(version, **spec)

    def fork(self) -> Self:
        """The same world once more, to go another way."""
        other = copy.copy(self)
        for name in ("log", "events", "told", "phases"):
            setattr(other, name, list(getattr(self, name)))
        other.bad, other.dead, other.startable = set(self.bad), set(self.dead), dict(self.startable)
        return other

    # -- people -----------------------------------------------------------------------------------------------

    def apply(self, version: str, **spec: Any) -> Self:
        self.spec = (version, spec)
        self.wish = modeldeployment(version, **spec)
        self._probed = self.wish.spec.traffic.service is None
        self.observed = replace(
            self.observed,
            models={**self.observed.models, name_of(version): ("digits", version)},
            route=replace(self.observed.route, probed=self._probed),
        )
        return self

    def command(self, text: str) -> Self:
        """Give a command; the spec stays."""
        version, spec = self.spec
        self.wish = modeldeployment(version, **spec, command=text)
        return self

    def kill(self, *revisions: str) -> Self:
        """All pods of these revisions are gone, and new ones do not start."""
        self.dead |= set(revisions)
        return self._pods()

    def heal(self) -> Self:
        self.dead.clear()
        return self._pods()

    def breach(self, revision: str) -> Self:
        self.bad.add(revision)
        return self

    def problem(self, sentence: str | None) -> Self:
        """What makes the spec unusable here."""
        self.observed = replace(self.observed, problem=sentence)
        return self

    def says(self, verdict: Verdict, requests: float = 1000.0) -> Self:
        """What every guard says from now on, by how many requests of each arm."""
        self.verdict, self.requests = verdict, requests
        self.observed = replace(self.observed, evaluation=None)
        return self

    # -- time -------------------------------------------------------------------------------------------------

    def rest(self) -> Self:
        """On until nothing is to be done any more, or a person is waited for."""
        return self.until(lambda: False)

    def until(self, reached: Callable[[], bool]) -> Self:
        for _ in range(LIMIT):
            if reached() or not self.turn():
                return self
        raise AssertionError(f"never rests: {self.status.phase} {self.status.message}\n" + "\n".join(self.log[-20:]))

    def turn(self) -> bool:
        """One decision, and the time until the next; False once there is nothing to wait for."""
        before = (self.status, self.observed)
        plan = self.last = decide(self.wish, self.status, self.observed, self.now)
        self._carry_out(plan)
        if (self.status, self.observed) != before:
            self.now += timedelta(milliseconds=10)
        elif plan.requeue_after is not None:
            self.now += plan.requeue_after
        else:
            return False
        return True

    def until_phase(self, phase: Phase) -> Self:
        return self.until(self.at(phase))

    def at_step(self, step: int) -> Callable[[], bool]:
        return lambda: self.status.rollout is not None and self.status.rollout.step == step

    def at(self, phase: Phase) -> Callable[[], bool]:
        return lambda: self.status.phase is phase

    # -- the world --------------------------------------------------------------------------------------------

    def _carry_out(self, plan: Plan) -> None:
        # What is written must be what is read back, or every turn would write it again.
        assert status_from(status_to_dict(plan.status)) == plan.status
        wrong = broken(self.wish, self.status, self.observed, plan, self.verdict)
        assert not wrong, f"{'; '.join(wrong)}\n{self.status.phase} {self.status.message}\n" + "\n".join(self.log[-9:])
        if not self.phases or self.phases[-1] is not plan.status.phase:
            self.phases.append(plan.status.phase)
        self.events += [str(event.reason) for event in plan.events]
        self.told += [event.message for event in plan.events]
        self.status = plan.status
        self._accept()
        if plan.route is not None:
            self._route(plan.route)
        for workload in plan.workloads:
            self._scale(workload.revision, workload.replicas)
        for revision in plan.retire:
            self._scale(revision, 0)
        self._pods()
        if plan.gate and plan.gate not in self.observed.gates:
            self.observed = replace(self.observed, gates={plan.gate: Gate(plan.gate, GateState.PASSED, "", self.now)})
        if plan.probe is not None:
            probe = Probe(plan.probe.token, plan.probe.revisions)
            self.observed = replace(self.observed, probe=probe)
        self._evaluate(plan.evaluate)
        good, known = set(self.observed.known_good), dict.fromkeys(self.observed.records)
        if plan.create_revision is not None:
            known[plan.create_revision] = None
        for name, record in plan.revision_status.items():
            known[name] = None
            if record.outcome is Outcome.PROMOTED:
                good.add(name)
            elif record.outcome is Outcome.ROLLED_BACK:
                good.discard(name)
        self.observed = replace(self.observed, known_good=frozenset(good), records=tuple(known))

    def _accept(self) -> None:
        route = self.observed.route
        if route.token and not route.accepted:
            self.observed = replace(self.observed, route=replace(route, accepted=True, accepted_since=self.now))

    def _route(self, plan: RoutePlan) -> None:
        pair = tuple(Backend(slot.revision or plan.stable, slot.weight) for slot in plan.slots)
        weights: dict[str, int] = {}
        for backend in pair:
            weights[backend.revision] = weights.get(backend.revision, 0) + backend.weight
        mirror = None if plan.mirror is None else (plan.mirror.revision, plan.mirror.weight)
        token = repr((pair, mirror, plan.split))
        live = self.observed.route
        if live.token == token:
            return
        more = (f" mirror {mirror[1]}" if mirror else "") + (" split" if plan.split else "")
        self.log.append(" ".join(f"{short(b.revision)}={b.weight}" for b in pair) + more)
        self.observed = replace(
            self.observed,
            route=Route(
                backends=(pair[0], pair[1]),
                weights=weights,
                lowest=weights,
                token=token,
                accepted=not self.lagging,
                accepted_since=None if self.lagging else self.now,
                mirror=mirror,
                split=plan.split,
                probed=self._probed,
            ),
        )

    def _scale(self, revision: str, pods: int) -> None:
        old = self.observed.workload(revision)
        if old.desired != pods:
            self.log.append(f"{short(revision)} has {pods} pods")
            changed = replace(old, desired=pods, addressed=True)
            self.observed = replace(self.observed, workloads={**self.observed.workloads, revision: changed})

    def _pods(self) -> Self:
        found = {}
        for name, pods in self.observed.workloads.items():
            most = min(pods.desired or 0, self.startable.get(name, 10_000), 0 if name in self.dead else 10_000)
            ready = min(most, pods.ready + 1) if self.lagging else most
            found[name] = replace(pods, ready=ready) if ready != pods.ready else pods
        self.observed = replace(self.observed, workloads=found)
        return self

    def _evaluate(self, request: EvaluationRequest | None) -> None:
        if request is None or self.silent:
            return
        old = self.observed.evaluation
        verdict = Verdict.BREACH if request.revision in self.bad and not request.trial else self.verdict
        if (
            old is not None
            and (old.attempt, old.revision, old.source) == (request.attempt, request.revision, request.source)
            and old.at >= request.since
            and self.now - old.at < request.interval
            and {(result.name, result.verdict) for result in old.results} == {(n, verdict) for n in request.guards}
            and old.at >= ((self.status.rollout and self.status.rollout.step_started_at) or old.at)
        ):
            return
        results = tuple(GuardResult(name, verdict, self.now, 0.2, "<= 0.05", 100.0) for name in request.guards)
        arms = tuple(Arm(name, self.requests) for name in (request.stable, request.revision))
        split = str(request.source) == "Split"
        arms = arms if split else ()
        digest = request.digest
        new = Evaluation(request.attempt, request.revision, self.now, results, request.source, arms, digest=digest)
        self.observed = replace(self.observed, evaluation=new)


def short(revision: str) -> str:
    """V1 for the revision of version 1.0.0."""
    known = {name_of(f"{major}.0.0"): f"V{major}" for major in range(1, 6)}
    return known.get(revision, revision)
