"""How each thing that a decision wants to know is found out: guards, gates, the probe of the data plane."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from modelrollout.api.guard import Guard
from modelrollout.api.modeldeployment import ModelDeployment
from modelrollout.api.rolloutpolicy import SliDefinition
from modelrollout.api.status import Verdict
from modelrollout.controller.cache import Cache, Key
from modelrollout.controller.candidate import candidate_of
from modelrollout.controller.evaluation import evaluate, requested, splits
from modelrollout.controller.gates import GateKeeper
from modelrollout.controller.measurements import Measurements
from modelrollout.evidence.arms import step_at
from modelrollout.evidence.context import Context
from modelrollout.ports import Clock, Gateway, Metrics, ProbeTarget
from modelrollout.rollout.drift import watch_guards
from modelrollout.rollout.observed import Evaluation, Probe
from modelrollout.rollout.plan import EvaluationRequest, Plan, ProbeRequest
from modelrollout.settings import Gateway as GatewaySettings
from modelrollout.settings import Settings

FIRST_PROBE_PAUSE = 0.02
LONGEST_PROBE_PAUSE = 1.0

IN_NAMESPACE = 8
"""Questions that one Prometheus is asked for a namespace at a time: a team's slow queries wait for each other."""

Given = TypeVar("Given")


@dataclass(frozen=True)
class _Question:
    """All that makes one evaluation different from another; as long as it is the same, the same task goes on."""

    request: EvaluationRequest
    context: Context
    guards: tuple[Guard, ...]
    prometheus: str


class Measurer:
    """Starts and stops the measurements that a Plan wants."""

    def __init__(
        self,
        measurements: Measurements,
        cache: Cache,
        clock: Clock,
        settings: Settings,
        metrics: Mapping[str, Metrics],
        gates: GateKeeper,
        gateway: Gateway,
        provider_failed: Callable[[str], None] = lambda name: None,
    ) -> None:
        self._measurements = measurements
        self._cache = cache
        self._clock = clock
        self._settings = settings
        self._metrics = metrics
        self._gates = gates
        self._gateway = gateway
        self._provider_failed = provider_failed
        self._places: defaultdict[tuple[str, str], asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(IN_NAMESPACE)
        )

    def want(self, key: Key, wish: ModelDeployment, plan: Plan, definitions: tuple[SliDefinition, ...] = ()) -> None:
        """Have running exactly what ``plan`` asks for; ``definitions`` are SLIs of policies that guards use."""
        want = self._measurements.want
        evaluation, probe = self._question(key, wish, plan.evaluate, definitions), plan.probe
        gate = candidate_of(key, wish, plan, self._cache)
        want(key, "evaluation", evaluation, lambda: self._evaluate_for_ever(key, _given(evaluation)))
        want(key, "gate", gate, lambda: self._gates.pass_gates(key, wish, _given(gate)))
        if gate is None:
            self._measurements.drop_gates(key)
        want(key, "probe", probe, lambda: self._probe_until_seen(key, wish, _given(probe)))

    def _question(
        self,
        key: Key,
        wish: ModelDeployment,
        request: EvaluationRequest | None,
        definitions: tuple[SliDefinition, ...],
    ) -> _Question | None:
        if request is None:
            return None
        rollout, gateway = wish.spec.rollout, self._gateway_settings(key, wish)
        profile = None if gateway is None else str(gateway.profile)
        context = Context.of(wish, request, profile, definitions, self._settings.enforce_namespace)
        guards = watch_guards(wish.spec.observation) if request.watch else rollout.guards
        return _Question(request, context, requested(guards, request), rollout.prometheus)

    async def _evaluate_for_ever(self, key: Key, question: _Question) -> None:
        """Evaluate at once, then every interval counted from start to start.

        The arms of an A/B test are asked for anew when their last result is older than it can tell: a question about
        a whole day is dear.
        """
        request, context = question.request, question.context
        metrics = self._metrics[question.prometheus]
        loop = asyncio.get_running_loop()
        last: Evaluation | None = None
        while True:
            started = loop.time()
            now = self._clock.now()
            due = last is None or not last.arms or now - last.at >= step_at(context, now)
            evaluation = await evaluate(
                metrics,
                question.guards,
                context,
                request,
                self._clock,
                with_arms=due,
                provider=question.prometheus,
                shared=self._places[question.prometheus, key.namespace],
            )
            if due:
                last = evaluation
            elif last is not None:
                evaluation = replace(evaluation, arms=last.arms)
            if evaluation.with_verdict(Verdict.PROVIDER_DOWN) or (splits(request) and not evaluation.arms):
                self._provider_failed(question.prometheus)
            self._measurements.report(key, evaluation)
            spent = loop.time() - started
            await self._clock.sleep(max(request.interval.total_seconds() - spent, 0.05))

    async def _probe_until_seen(self, key: Key, wish: ModelDeployment, request: ProbeRequest) -> None:
        """Ask the gateway until it answers with every revision asked for.

        A gateway without an address in the settings cannot be asked: after its settle time its word
        (Accepted, ResolvedRefs) has to do. Without a gateway there is nobody to ask.
        """
        targets = self._probe_targets(key, wish)
        if not targets:
            gateway = self._gateway_settings(key, wish)
            if gateway is not None:
                await self._clock.sleep(gateway.settle.total_seconds())
            self._measurements.report(key, Probe(request.token, request.revisions, "not probed: no address"))
            return
        pause = FIRST_PROBE_PAUSE
        while True:
            pairs = [(target, revision) for target in targets for revision in sorted(request.revisions)]
            answers = await asyncio.gather(*(self._gateway.revision_answering(*pair) for pair in pairs))
            if all(answer == revision for answer, (_, revision) in zip(answers, pairs, strict=True)):
                self._measurements.report(key, Probe(request.token, request.revisions))
                return
            await self._clock.sleep(pause)
            pause = min(pause * 2, LONGEST_PROBE_PAUSE)

    def _gateway_settings(self, key: Key, wish: ModelDeployment) -> GatewaySettings | None:
        gateway = wish.spec.traffic.gateway
        if gateway is None:
            return None
        return self._settings.gateway(gateway.namespace or key.namespace, gateway.name)

    def _probe_targets(self, key: Key, wish: ModelDeployment) -> list[ProbeTarget]:
        gateway, traffic = self._gateway_settings(key, wish), wish.spec.traffic
        targets: list[ProbeTarget] = []
        if gateway is None:
            return targets
        if gateway.address and traffic.http is not None:
            targets.append(ProbeTarget(gateway.address, _authority(traffic.http.hostnames[0]), "http"))
        if gateway.probe_grpc_address and traffic.grpc is not None:
            targets.append(ProbeTarget(gateway.probe_grpc_address, _authority(traffic.grpc.hostnames[0]), "grpc"))
        return targets


def _authority(hostname: str) -> str:
    return f"probe{hostname[1:]}" if hostname.startswith("*.") else hostname


def _given(value: Given | None) -> Given:
    if value is None:
        raise ValueError("a measurement was started that nobody asked for")
    return value
