"""What is asked for a plan: the guards it names, the source, the arms; the same question goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from modelrollout.adapters.prometheus import THREADS
from modelrollout.api.modeldeployment import ModelDeployment, parse_modeldeployment
from modelrollout.api.status import Verdict
from modelrollout.controller.cache import Cache, Key
from modelrollout.controller.measure import Measurer
from modelrollout.controller.measurements import Measurements
from modelrollout.ports import Answer, ProbeTarget, Series, TransientError
from modelrollout.rollout.observed import Arm, Evaluation
from modelrollout.rollout.plan import EvaluationRequest, Plan, ProbeRequest, Source
from tests.builders import START, manifest, modeldeployment, settings
from tests.simulation.virtualtime import VirtualClock, run

KEY = Key("demo", "digits")
GUARDS = [
    {"name": "errors", "sli": "error-ratio", "max": 0.01},
    {"name": "latency", "sli": "latency-p99", "max": 0.5},
    {"name": "drift", "query": "max(psi)", "max": 0.2},
]


class Prometheus:
    """Answers the counters of one proxy that serves one request a second at every cluster."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, str, bool]] = []
        self.down = False

    async def query(self, query: str, at: datetime) -> Answer:
        return self._answer(query, (at,), False)

    async def query_range(self, query: str, start: datetime, end: datetime, step: timedelta) -> Answer:
        return self._answer(query, tuple(start + step * count for count in range((end - start) // step + 1)), True)

    def _answer(self, query: str, points: tuple[datetime, ...], ranged: bool) -> Answer:
        self.asked.append((asyncio.get_running_loop().time(), query, ranged))
        if self.down:
            raise TransientError("down")
        place = {"job": "gateway", "instance": "a"}
        samples = tuple((at.timestamp(), at.timestamp() - START.timestamp() + 1e6) for at in points)
        names = ("envoy_cluster_upstream_rq_total", "envoy_cluster_upstream_rq_completed")
        alive = Series({**place, "__name__": "envoy_server_uptime"}, samples)
        return Answer(
            "matrix",
            (alive, *(Series({**place, "envoy_cluster_name": "c", "__name__": name}, samples) for name in names)),
        )


class Hanging(Prometheus):
    """Hangs for one namespace, and has as many threads as the adapter, for which a question waits in its own time."""

    def __init__(self) -> None:
        super().__init__()
        self.threads = asyncio.Semaphore(THREADS)

    async def query(self, query: str, at: datetime) -> Answer:
        async with self.threads:
            if 'namespace="noisy"' in query:
                await asyncio.sleep(3600)
            return await super().query(query, at)

    async def query_range(self, query: str, start: datetime, end: datetime, step: timedelta) -> Answer:
        return await self.query(query, end)


class Nobody:
    async def revision_answering(self, target: ProbeTarget, revision: str) -> str | None:
        raise AssertionError("there is no gateway")


class Bench:
    def __init__(self) -> None:
        self.woken = 0
        self.failed: list[str] = []
        self.prometheus = Prometheus()
        self.measurements = Measurements(self._wake)
        self.results: list[Evaluation] = []
        self.measurer = Measurer(
            self.measurements,
            Cache(),
            VirtualClock(),
            settings(),
            {"default": self.prometheus},
            None,  # type: ignore[arg-type]
            Nobody(),
            self.failed.append,
        )

    def _wake(self, key: Key) -> None:
        self.woken += 1
        evaluation = self.measurements.of(key).evaluation
        if evaluation is not None:
            self.results.append(evaluation)

    def want(self, wish: ModelDeployment, request: EvaluationRequest | None) -> None:
        self.measurements.of(KEY)
        self.measurer.want(KEY, wish, Plan(wish.status, evaluate=request))

    @property
    def questions(self) -> list[str]:
        return [text for _, text, _ in self.prometheus.asked]


def request(*guards: str, source: Source = Source.WEIGHTED, trial: bool = False) -> EvaluationRequest:
    every = timedelta(seconds=10)
    return EvaluationRequest(1, "digits-b", "digits-a", 1, START, every, trial=trial, source=source, guards=guards)


def wished(**spec: Any) -> ModelDeployment:
    return modeldeployment(**{"guards": GUARDS, **spec})


def play(act: Callable[[Bench], Coroutine[Any, Any, None]]) -> Bench:
    async def main() -> Bench:
        bench = Bench()
        await act(bench)
        await bench.measurements.close()
        return bench

    return run(main())


def test_only_the_guards_that_are_named_are_asked_about() -> None:
    async def act(bench: Bench) -> None:
        bench.want(wished(), request("latency"))
        await asyncio.sleep(1)
        assert [result.name for result in bench.results[-1].results] == ["latency"]
        assert len(bench.questions) == 1
        bench.want(wished(), request("drift", "errors", source=Source.MIRROR))
        await asyncio.sleep(1)
        last = bench.results[-1]
        assert [result.name for result in last.results] == ["errors", "drift"]
        assert (last.source, last.arms) == (Source.MIRROR, ())
        assert "rule/0\\-mirror\\-0" in bench.questions[1].replace("\\\\", "\\")

    play(act)


def test_slow_queries_of_one_namespace_take_the_answers_of_no_other() -> None:
    """Each ModelDeployment of the one has as many guards as there may be, and none of them is ever answered."""
    slow = [{"name": f"slow-{number}", "query": f"max(slow_{number})", "max": 1} for number in range(20)]
    names = tuple(str(guard["name"]) for guard in slow)

    async def act(bench: Bench) -> None:
        bench.prometheus = Hanging()
        bench.measurer._metrics = {"default": bench.prometheus}
        for number in range(6):
            key = Key("noisy", f"slow-{number}")
            raw = manifest(guards=slow)
            raw["metadata"] |= {"namespace": key.namespace, "name": key.name}
            wish = parse_modeldeployment(raw)
            bench.measurements.of(key)
            bench.measurer.want(key, wish, Plan(wish.status, evaluate=request(*names)))
        await asyncio.sleep(1)
        bench.want(wished(), request("errors", "latency"))
        await asyncio.sleep(60)
        found = [result.verdict for evaluation in bench.results for result in evaluation.results]
        assert found
        assert Verdict.PROVIDER_DOWN not in found

    play(act)


def test_no_guards_are_no_questions() -> None:
    async def act(bench: Bench) -> None:
        bench.want(wished(), request())
        await asyncio.sleep(25)
        assert [result.results for result in bench.results] == [(), (), ()]
        assert bench.questions == []

    play(act)


def test_the_same_question_goes_on_whatever_else_changes() -> None:
    """Another hostname, step or guard that is not watched now: no reason to ask at once, out of turn."""

    async def act(bench: Bench) -> None:
        bench.want(wished(), request("errors"))
        await asyncio.sleep(5)
        other = [GUARDS[0], {**GUARDS[1], "max": 0.7}]
        bench.want(wished(guards=other, grpc=False, steps=((7, "10s"),), replicas=3), request("errors"))
        await asyncio.sleep(4)
        assert [at for at, _, _ in bench.prometheus.asked] == [0]
        await asyncio.sleep(2)
        assert [at for at, _, _ in bench.prometheus.asked] == [0, 10]

    play(act)


def test_another_bound_protocol_source_or_time_is_asked_at_once() -> None:
    async def act(bench: Bench) -> None:
        bench.want(wished(), request("errors"))
        await asyncio.sleep(1)
        bench.want(wished(guards=[{**GUARDS[0], "max": 0.02}]), request("errors"))
        await asyncio.sleep(1)
        bench.want(wished(grpc=True), request("errors"))
        await asyncio.sleep(1)
        bench.want(wished(), request("errors", source=Source.PREVIEW))
        await asyncio.sleep(1)
        assert [at for at, _, _ in bench.prometheus.asked] == [0, 1, 2, 2, 3]

    play(act)


def test_both_arms_are_measured_without_any_guard() -> None:
    async def act(bench: Bench) -> None:
        bench.want(wished(), request(source=Source.SPLIT))
        await asyncio.sleep(101)
        last = bench.results[-1]
        assert (last.source, last.results) == (Source.SPLIT, ())
        assert last.arms == (Arm("digits-a", 100.0, 0.0), Arm("digits-b", 100.0, 0.0))

    play(act)


def test_a_trial_measures_no_arms() -> None:
    async def act(bench: Bench) -> None:
        bench.want(wished(), request("errors", source=Source.SPLIT, trial=True))
        await asyncio.sleep(1)
        assert bench.results[-1].arms == ()
        assert not any(ranged for _, _, ranged in bench.prometheus.asked)

    play(act)


def test_arms_of_a_long_test_are_asked_for_as_often_as_they_can_tell_more() -> None:
    """A question about days is dear: once a five-hundredth of the test, and the last result holds in between."""

    async def act(bench: Bench) -> None:
        began = START - timedelta(days=1)
        bench.want(wished(), replace(request("errors", source=Source.SPLIT), since=began))
        await asyncio.sleep(3_599)
        arms = [at for at, _, ranged in bench.prometheus.asked if ranged]
        assert len([text for _, text, ranged in bench.prometheus.asked if not ranged]) == 360
        assert 360 / 19 < len(set(arms)) < 360 / 17
        assert all(len(result.arms) == 2 for result in bench.results)

    play(act)


def test_a_provider_that_is_down_leaves_the_arms_out_and_is_counted() -> None:
    async def act(bench: Bench) -> None:
        bench.want(wished(), request("errors", source=Source.SPLIT))
        await asyncio.sleep(1)
        bench.prometheus.down = True
        await asyncio.sleep(10)
        last = bench.results[-1]
        assert last.arms == ()
        assert [result.verdict for result in last.results] == [Verdict.PROVIDER_DOWN]
        assert bench.failed == ["default"]
        bench.prometheus.down = False
        await asyncio.sleep(10)
        assert len(bench.results[-1].arms) == 2

    play(act)


def test_without_a_gateway_queries_are_judged_and_an_sli_is_invalid() -> None:
    """The API refuses the SLI there; were it in an edited CRD, it would be said, not crash."""

    async def act(bench: Bench) -> None:
        wish = wished(guards=[GUARDS[2]], service=True, strategy="Recreate")
        bench.want(wish, request("drift", source=Source.SPLIT))
        await asyncio.sleep(1)
        (drift,) = bench.results[-1].results
        assert (drift.verdict, drift.invalid is None) == (Verdict.NO_DATA, False)
        rollout = wish.spec.rollout.model_copy(update={"guards": wished().spec.rollout.guards[:1]})
        edited = wish.model_copy(update={"spec": wish.spec.model_copy(update={"rollout": rollout})})
        bench.want(edited, request("errors"))
        await asyncio.sleep(1)
        (errors,) = bench.results[-1].results
        assert (errors.invalid or "").startswith("this sli is measured at the gateway, and there is none")

    play(act)


def test_without_a_gateway_a_probe_answers_at_once_that_nobody_was_asked() -> None:
    async def act(bench: Bench) -> None:
        wish = wished(guards=[GUARDS[2]], service=True, strategy="Recreate")
        bench.measurements.of(KEY)
        probe = ProbeRequest(frozenset({"digits-b"}), "token")
        bench.measurer.want(KEY, wish, Plan(wish.status, probe=probe))
        await asyncio.sleep(0.01)
        found = bench.measurements.of(KEY).probe
        assert found is not None
        assert (found.token, found.seen) == ("token", frozenset({"digits-b"}))

    play(act)
