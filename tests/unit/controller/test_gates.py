"""The row of gates: order, timeouts, tries, what is reported; and the rates that candidates are put under."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any

import pytest

from modelrollout.api.status import (
    ModelDeploymentStatus,
    RevisionsStatus,
    RolloutStatus,
    TrafficStatus,
    Verdict,
)
from modelrollout.controller.cache import Cache, Key
from modelrollout.controller.candidate import Candidate, candidate_of
from modelrollout.controller.gates import GateKeeper
from modelrollout.controller.load import BURSTS
from modelrollout.controller.measurements import Measurements
from modelrollout.ports import (
    Answer,
    Burst,
    BurstReport,
    DeniedError,
    Manifest,
    ModelError,
    ObjectReference,
    PodTarget,
    Signature,
    Tensor,
    TensorSpec,
    TransientError,
    WarmReport,
)
from modelrollout.rollout.gates import asked
from modelrollout.rollout.observed import Evaluation, Gate, GateName, GateState, GuardResult
from modelrollout.rollout.plan import Plan
from tests.builders import modeldeployment, settings
from tests.simulation.virtualtime import VirtualClock, run

KEY = Key("demo", "digits")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SIGNATURE = Signature("1", (TensorSpec("x", "FP32", (-1,)),), (TensorSpec("y", "FP32", (-1,)),), 8)
GOLDEN = {"goldenSet": {"configMap": {"name": "golden", "key": "g"}}}
FINE = BurstReport(100, 0, 0.01, 0.02, 0.03)


def golden_set(count: int = 1, size: int = 1) -> str:
    tensor = {"datatype": "FP32", "shape": [size], "data": [0.5] * size}
    entry = {"inputs": [{"name": "x", **tensor}], "outputs": [{"name": "y", **tensor}]}
    return json.dumps({"version": 1, "requests": [entry] * count})


@dataclass
class Servers:
    """Triton. ``hang`` are the questions, and the pods, that give no answer; ``refuse`` answer with an error."""

    hang: set[str] = field(default_factory=set)
    refuse: set[str] = field(default_factory=set)
    batch: int = 8
    asked: list[tuple[str, str]] = field(default_factory=list)
    warm_fails: int = 0
    answer: float = 0.5
    error: Exception | None = None
    reports: list[BurstReport] = field(default_factory=list)
    bursts: list[Burst] = field(default_factory=list)
    at_once: list[int] = field(default_factory=list)
    under_way: int = 0
    parameters: dict[str, str] = field(default_factory=dict)

    async def _ask(self, what: str, target: PodTarget) -> None:
        self.asked.append((what, target.pod))
        if {what, target.pod} & self.hang:
            await asyncio.Event().wait()
        if {what, target.pod} & self.refuse and what != "warm":
            raise TransientError(f"pod {target.pod} does not answer")

    async def warm(self, target: PodTarget) -> WarmReport:
        await self._ask("warm", target)
        self.warm_fails -= 1
        return WarmReport(target.pod, self.warm_fails < 0, "out of memory" if self.warm_fails >= 0 else "settled")

    async def signature(self, target: PodTarget) -> Signature:
        await self._ask("signature", target)
        return Signature("1", SIGNATURE.inputs, SIGNATURE.outputs, self.batch, parameters=self.parameters)

    async def infer(self, target: PodTarget, inputs: Sequence[Tensor], outputs: Sequence[str]) -> tuple[Tensor, ...]:
        await self._ask("infer", target)
        if self.error is not None:
            raise self.error
        size = len(inputs[0].data)
        return tuple(Tensor(name, "FP32", (size,), (self.answer,) * size) for name in outputs)

    async def burst(self, targets: Sequence[PodTarget], burst: Burst) -> BurstReport:
        await self._ask("burst", targets[0])
        self.bursts.append(burst)
        self.under_way += 1
        self.at_once.append(self.under_way)
        await asyncio.sleep(burst.seconds)
        self.under_way -= 1
        return self.reports.pop(0) if self.reports else FINE


class Cluster:
    """One ConfigMap."""

    def __init__(self) -> None:
        self.text: str | None = golden_set()
        self.denied = False
        self.reads = 0

    async def read(self, reference: ObjectReference) -> Manifest | None:
        self.reads += 1
        if self.denied:
            raise DeniedError("not allowed to get configmaps in namespace demo: grant it to operator")
        return None if self.text is None else {"data": {"g": self.text}}


class Prometheus:
    async def query(self, query: str, at: datetime) -> Answer:
        raise TransientError("down")

    async def query_range(self, query: str, start: datetime, end: datetime, step: timedelta) -> Answer:
        raise TransientError("down")


class Bench:
    def __init__(self) -> None:
        self.servers, self.cluster, self.cache = Servers(), Cluster(), Cache()
        self.seen: list[Gate] = []
        self.measurements = Measurements(self._wake)
        self.keeper = GateKeeper(
            self.measurements,
            self.cache,
            VirtualClock(),
            settings(),
            self.servers,
            self.cluster,  # type: ignore[arg-type]
            {"default": Prometheus()},
        )
        self.pods("digits-b", 2)
        self.pods("digits-a", 1)

    def _wake(self, key: Key) -> None:
        self.seen += self.measurements.of(key).gates.values()

    def pods(self, revision: str, count: int, **metadata: Any) -> None:
        for number in range(count):
            labels = {"modelrollout.io/revision": revision}
            name = f"{revision}-{number}"
            about = {"name": name, "uid": name, "resourceVersion": str(len(metadata)), "labels": labels, **metadata}
            status = {"podIP": f"10.0.0.{number}", "conditions": [{"type": "Ready", "status": "True"}]}
            self.cache.put(KEY, {"kind": "Pod", "metadata": about, "status": status})

    async def passed(self, *, stable: str | None = "digits-a", attempt: Any = None, **rollout: Any) -> Gate:
        wish = modeldeployment("1.1.0", **rollout)
        status = ModelDeploymentStatus(
            revisions=RevisionsStatus(stable=stable),
            rollout=RolloutStatus(**(attempt or {})),
            traffic=(TrafficStatus(revision="digits-a", slot=0),),
        )
        candidate = candidate_of(KEY, wish, Plan(status, gate="digits-b"), self.cache)
        assert candidate is not None
        await self.keeper.pass_gates(KEY, wish, candidate)
        return self.seen[-1]


def play(act: Callable[[Bench], Awaitable[None]]) -> Bench:
    async def main() -> Bench:
        bench = Bench()
        await act(bench)
        return bench

    return run(main())


def told(gate: Gate) -> dict[GateName, GateState]:
    return {check.name: check.state for check in gate.checks}


def test_gates_are_passed_in_order_and_each_is_reported() -> None:
    async def act(bench: Bench) -> None:
        gate = await bench.passed(gates={**GOLDEN, "load": {"duration": "5s"}})
        assert gate.state is GateState.PASSED
        assert gate.finished_at is not None
        assert told(gate) == dict.fromkeys(GateName, GateState.PASSED)
        assert [tuple(told(each).values())[-1] for each in bench.seen[:-1]] == [GateState.RUNNING] * 4
        assert [len(each.checks) for each in bench.seen] == [1, 2, 3, 4, 4]
        assert bench.servers.asked == [
            *(("warm", f"digits-b-{number}") for number in (0, 1)),
            *(("signature", f"digits-{each}-0") for each in "ab"),
            ("signature", "digits-b-0"),
            ("infer", "digits-b-0"),
            ("burst", "digits-b-0"),
        ]
        assert bench.cluster.reads == 1
        assert bench.servers.bursts[0].requests == ((Tensor("x", "FP32", (1,), (0.5,)),),)

    play(act)


ASKED = {"contract": {"mode": "Enforce"}, "goldenSet": GOLDEN["goldenSet"], "load": {"duration": "5s"}}


@pytest.mark.parametrize("size", range(len(ASKED) + 1))
def test_a_candidate_goes_through_the_gates_that_the_spec_asks_for_and_no_others(size: int) -> None:
    """What is tried and what is kept of a status are known in one place; a gate in neither would never be passed."""
    names = {"contract": GateName.CONTRACT, "goldenSet": GateName.GOLDEN_SET, "load": GateName.LOAD}
    for chosen in combinations(ASKED, size):
        spec: dict[str, Any] = {"contract": {"mode": "Disabled"}, **{name: ASKED[name] for name in chosen}}
        wanted = [GateName.WARM, *(names[name] for name in ASKED if name in chosen)]
        bench = play(lambda bench, spec=spec: _passed(bench, spec))  # type: ignore[misc]
        assert list(told(bench.seen[-1])) == wanted
        assert asked(modeldeployment("1.1.0", gates=spec).spec.rollout.gates) == tuple(wanted)


async def _passed(bench: Bench, spec: dict[str, Any]) -> None:
    assert (await bench.passed(gates=spec)).state is GateState.PASSED


def test_the_warm_gate_comes_first_and_is_tried_again() -> None:
    async def act(bench: Bench) -> None:
        bench.servers.warm_fails = 3
        gate = await bench.passed()
        assert gate.state is GateState.PASSED
        failed = [each for each in bench.seen if each.state is GateState.FAILED]
        assert [each.message for each in failed] == ["digits-b-0: out of memory"] * 2
        assert not any(each.final for each in failed)
        assert [what for what, _ in bench.servers.asked] == ["warm"] * 6 + ["signature"] * 2

    play(act)


@pytest.mark.parametrize(
    ("question", "gates", "name", "seconds"),
    [
        ("signature", {"contract": {"timeout": "7s"}}, GateName.CONTRACT, 7),
        ("infer", {"goldenSet": {**GOLDEN["goldenSet"], "timeout": "9s"}}, GateName.GOLDEN_SET, 9),
        ("burst", {"load": {"duration": "1s", "timeout": "50s"}}, GateName.LOAD, 50),
    ],
)
def test_a_gate_that_is_not_done_in_time_fails_and_is_tried_again(
    question: str, gates: dict[str, Any], name: GateName, seconds: int
) -> None:
    async def act(bench: Bench) -> None:
        bench.servers.hang = {question}
        task = asyncio.create_task(bench.passed(gates=gates))
        await asyncio.sleep(seconds + 1)
        last = bench.seen[-1]
        assert (last.state, last.final) == (GateState.FAILED, False)
        assert last.checks[-1].name is name
        assert last.message == f"not done within its timeout of {seconds} s"
        bench.servers.hang = set()
        assert (await task).state is GateState.PASSED

    play(act)


def test_pauses_between_tries_grow_to_half_a_minute() -> None:
    async def act(bench: Bench) -> None:
        bench.cluster.text = None
        task = asyncio.create_task(bench.passed(gates=GOLDEN))
        await asyncio.sleep(600)
        assert 20 <= bench.cluster.reads <= 24
        assert bench.seen[-1].message.startswith("ConfigMap golden of the golden set is not there")
        bench.cluster.text = golden_set()
        assert (await task).state is GateState.PASSED

    play(act)


def test_a_missing_permission_is_told_and_waited_for() -> None:
    async def act(bench: Bench) -> None:
        bench.cluster.denied = True
        task = asyncio.create_task(bench.passed(gates=GOLDEN))
        await asyncio.sleep(1)
        assert "cannot be fetched: not allowed to get configmaps" in bench.seen[-1].message
        bench.cluster.denied = False
        assert (await task).state is GateState.PASSED

    play(act)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "the golden set (ConfigMap golden, key g) cannot be used: line 1, column 2"),
        (golden_set().replace("FP32", "FP64"), "input x is FP64, the model's is FP32"),
        (golden_set().replace('"y"', '"z"'), "output z is not one of the model: it has y"),
    ],
)
def test_a_config_map_that_cannot_be_used_is_waited_for_until_it_is_mended(text: str, sentence: str) -> None:
    async def act(bench: Bench) -> None:
        bench.cluster.text = text
        task = asyncio.create_task(bench.passed(gates=GOLDEN))
        await asyncio.sleep(300)
        last = bench.seen[-1]
        assert (last.state, last.final) == (GateState.FAILED, False)
        assert sentence in last.message
        assert last.message.endswith("it is read again at each try")
        assert ("infer", "digits-b-0") not in bench.servers.asked
        bench.cluster.text = golden_set()
        assert (await task).state is GateState.PASSED

    play(act)


def test_another_set_that_is_readable_and_answered_otherwise_is_final_also_after_a_broken_one() -> None:
    async def act(bench: Bench) -> None:
        bench.cluster.text = "{"
        task = asyncio.create_task(bench.passed(gates=GOLDEN))
        await asyncio.sleep(5)
        bench.cluster.text = golden_set()
        bench.servers.answer = 0.6
        assert (await task).final

    play(act)


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({}, "there is no such parameter with a string_value"),
        ({"set": "{"}, "line 1, column 2"),
        (
            {"set": golden_set().replace("FP32", "FP64")},
            "requests[0] (request 0): input x is FP64, the model's is FP32",
        ),
    ],
)
def test_a_set_of_the_model_s_own_config_that_cannot_be_used_is_final(
    parameters: dict[str, str], sentence: str
) -> None:
    async def act(bench: Bench) -> None:
        bench.servers.parameters = parameters
        gate = await bench.passed(gates={"goldenSet": {"parameter": "set"}})
        assert gate.final
        assert f"in parameter set of the model's config.pbtxt cannot be used: {sentence}" in gate.message
        assert gate.message.endswith("it is part of the revision, so it takes another one to mend it")

    play(act)


@pytest.mark.parametrize(
    ("text", "sentence"), [("{", "cannot be used: line 1, column 2"), (None, "is not there: apply it")]
)
def test_users_whom_nobody_answers_do_not_wait_for_a_config_map(text: str | None, sentence: str) -> None:
    """With Recreate stable was stopped: it comes back at once. A first deployment has nobody to come back."""

    async def act(bench: Bench) -> None:
        bench.cluster.text = text
        gate = await bench.passed(gates=GOLDEN, strategy="Recreate")
        assert gate.final
        assert sentence in gate.message
        assert gate.message.endswith("nobody answers meanwhile (strategy Recreate): mend it, then command retry")
        task = asyncio.create_task(bench.passed(gates=GOLDEN, strategy="Recreate", stable=None))
        await asyncio.sleep(100)
        assert not bench.seen[-1].final
        task.cancel()

    play(act)


def test_a_golden_set_that_may_not_be_read_ends_an_attempt_where_nobody_answers_meanwhile() -> None:
    async def act(bench: Bench) -> None:
        bench.cluster.denied = True
        task = asyncio.create_task(bench.passed(gates=GOLDEN, strategy="Recreate"))
        await asyncio.sleep(100)
        gate = bench.seen[-1]
        task.cancel()
        assert gate.final
        assert "cannot be fetched: not allowed to get configmaps" in gate.message
        assert gate.message.endswith("nobody answers meanwhile (strategy Recreate): mend it, then command retry")

    play(act)


def test_a_fault_of_our_own_is_told_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(bench: Bench) -> None:
        def broken(text: str) -> None:
            raise ZeroDivisionError("division by zero")

        with monkeypatch.context() as patch:
            patch.setattr("modelrollout.controller.golden.read_golden", broken)
            task = asyncio.create_task(bench.passed(gates=GOLDEN))
            await asyncio.sleep(100)
            last = bench.seen[-1]
            assert (last.state, last.final) == (GateState.FAILED, False)
            assert last.message == "it could not be tried: ZeroDivisionError: division by zero"
        assert (await task).state is GateState.PASSED

    play(act)


def test_the_load_is_made_of_what_the_model_answers() -> None:
    async def act(bench: Bench) -> None:
        bench.servers.error = ModelError("INTERNAL", "division by zero")
        wanted = {"goldenSet": {**GOLDEN["goldenSet"], "maxFailures": 1}, "load": {"duration": "5s"}}
        assert (await bench.passed(gates=wanted)).state is GateState.PASSED
        assert bench.servers.bursts[-1].requests == ()

    play(act)


def test_a_set_of_the_model_s_own_config_needs_no_cluster() -> None:
    async def act(bench: Bench) -> None:
        bench.servers.parameters = {"set": golden_set(3)}
        gate = await bench.passed(gates={"goldenSet": {"parameter": "set"}})
        assert gate.state is GateState.PASSED
        assert bench.cluster.reads == 0
        assert "3 golden requests answered as expected, the greatest difference is 0" in gate.message

    play(act)


def test_an_output_that_is_ignored_need_not_exist() -> None:
    async def act(bench: Bench) -> None:
        bench.cluster.text = golden_set(2).replace('"name": "y"', '"name": "renamed"')
        wanted = {**GOLDEN["goldenSet"], "tolerances": [{"output": "renamed", "ignore": True}]}
        assert (await bench.passed(gates={"goldenSet": wanted})).state is GateState.PASSED
        task = asyncio.create_task(bench.passed(gates=GOLDEN))
        await asyncio.sleep(1)
        assert "output renamed is not one of the model" in bench.seen[-1].message
        task.cancel()

    play(act)


def test_as_many_failures_as_are_allowed_pass() -> None:
    async def act(bench: Bench) -> None:
        bench.servers.answer = 0.6
        bench.cluster.text = golden_set(4)
        allowed = {"goldenSet": {**GOLDEN["goldenSet"], "maxFailures": 4}}
        gate = await bench.passed(gates=allowed)
        assert gate.state is GateState.PASSED
        assert "request 0, output y: expected 0.5, got 0.6 (0.1 off)" in gate.message
        assert gate.message.endswith("; and 1 more, on pod digits-b-0")
        gate = await bench.passed(gates={"goldenSet": {**GOLDEN["goldenSet"], "maxFailures": 3}})
        assert gate.final
        assert "4 of 4 golden requests answered otherwise than expected (at most 3 may be): " in gate.message

    play(act)


def test_an_error_is_a_wrong_answer_and_silence_is_not() -> None:
    async def act(bench: Bench) -> None:
        bench.servers.error = ModelError("INTERNAL", "division by zero")
        gate = await bench.passed(gates=GOLDEN)
        assert gate.final
        assert "request 0: INTERNAL: division by zero" in gate.message
        bench.servers.error = TransientError("pod digits-b-0 did not answer within 10 s")
        task = asyncio.create_task(bench.passed(gates=GOLDEN))
        await asyncio.sleep(1)
        assert not bench.seen[-1].final
        bench.servers.error = None
        assert (await task).state is GateState.PASSED

    play(act)


async def test_a_large_set_is_read_and_compared_beside_the_loop() -> None:
    bench = Bench()
    bench.cluster.text = golden_set(1, 100_000)
    bench.servers.batch = 0
    bench.servers.answer = 0.75
    gate = await bench.passed(gates=GOLDEN)
    assert "expected 0.5 at [0], got 0.75 (0.25 off); 100000 of 100000 entries differ" in gate.message


def test_the_rate_is_that_of_the_pods_there_are() -> None:
    async def act(bench: Bench) -> None:
        gate = await bench.passed(gates={"load": {"duration": "10s", "rate": 200.0}}, replicas=10)
        assert bench.servers.bursts[-1] == Burst(40.0, 10.0)
        assert "at 40/s for 10 s on 2 pods (the spec's rate of 200/s, the share of 2 of 10 pods)" in gate.message
        gate = await bench.passed(gates={"load": {"duration": "10s"}})
        assert bench.servers.bursts[-1].rate == 5.0
        assert "(the rate where stable's is not known)" in gate.message

    play(act)


@pytest.mark.parametrize(
    ("seen", "rate", "origin"),
    [
        (0.2, 0.5, "the least rate"),
        (2.0, 2.0, "stable's rate"),
        (30.0, 30.0, "stable's rate"),
        (1e7, 2000.0, "the most that is sent; stable's rate is 1e+07/s"),
        (math.nan, 5.0, "the rate where stable's is not known"),
        (math.inf, 5.0, "the rate where stable's is not known"),
    ],
)
def test_a_slow_model_gets_the_rate_that_it_has(
    monkeypatch: pytest.MonkeyPatch, seen: float, rate: float, origin: str
) -> None:
    async def evaluated(*_: Any) -> Evaluation:
        return Evaluation(0, "digits-a", NOW, (GuardResult("load", Verdict.PASS, NOW, seen),))

    async def act(bench: Bench) -> None:
        monkeypatch.setattr("modelrollout.controller.load.evaluate", evaluated)
        gate = await bench.passed(gates={"load": {"duration": "10s"}})
        assert bench.servers.bursts[-1].rate == rate
        assert f"at {rate:.4g}/s for 10 s on 2 pods ({origin})" in gate.message

    play(act)


def test_a_burst_that_could_not_begin_is_no_verdict() -> None:
    async def act(bench: Bench) -> None:
        bench.servers.reports = [BurstReport(again="pod digits-b-0 did not answer within 10 s"), FINE]
        assert (await bench.passed(gates={"load": {"duration": "5s", "maxLatencyP99": 0.1}})).state is GateState.PASSED
        (failed,) = [gate for gate in bench.seen if gate.state is GateState.FAILED]
        assert (failed.final, failed.checks[-1].name) == (False, GateName.LOAD)
        assert failed.message == "the burst could not begin: pod digits-b-0 did not answer within 10 s"

    play(act)


def test_the_longest_burst_is_done_twice_in_the_default_timeout() -> None:
    async def act(bench: Bench) -> None:
        bench.servers.reports = [BurstReport(100, 0, 0.01, 0.02, 0.5), FINE]
        gate = await bench.passed(gates={"load": {"duration": "1m", "maxLatencyP99": 0.1}})
        assert gate.state is GateState.PASSED
        assert not any(each.state is GateState.FAILED for each in bench.seen)
        assert len(bench.servers.bursts) == 2

    play(act)


def test_slow_once_is_measured_again() -> None:
    async def act(bench: Bench) -> None:
        load = {"load": {"duration": "5s", "maxLatencyP99": 0.1}}
        slow = BurstReport(100, 0, 0.01, 0.02, 0.5)
        bench.servers.reports = [slow, FINE]
        assert (await bench.passed(gates=load)).state is GateState.PASSED
        bench.servers.reports = [slow, slow]
        gate = await bench.passed(gates=load)
        assert gate.final
        assert "too slow twice, p99 must be <= 0.1 s" in gate.message
        assert len(bench.servers.bursts) == 4

    play(act)


def test_failures_within_the_bound_pass_and_beyond_are_final() -> None:
    async def act(bench: Bench) -> None:
        load = {"load": {"duration": "5s", "maxErrorRatio": 0.05}}
        bench.servers.reports = [BurstReport(100, 5, 0.01, 0.02, 0.03, "INTERNAL: x")]
        assert (await bench.passed(gates=load)).state is GateState.PASSED
        bench.servers.reports = [BurstReport(100, 6, 0.01, 0.02, 0.03, "INTERNAL: x")]
        gate = await bench.passed(gates=load)
        assert gate.final
        assert "at most 0.05 of the requests may fail: 100 requests, 6 failed (INTERNAL: x)" in gate.message

    play(act)


def test_latencies_are_told_in_plain_numbers() -> None:
    async def act(bench: Bench) -> None:
        bench.servers.reports = [BurstReport(100, 0, 0.00512, 2.0812, 12.345)]
        gate = await bench.passed(gates={"load": {"duration": "5s"}})
        assert "none failed, p50 5.12 ms, p95 2080 ms, p99 12300 ms, at" in gate.message

    play(act)


def test_a_pod_that_was_taken_away_is_not_the_model_s_fault() -> None:
    async def act(bench: Bench) -> None:
        bench.servers.reports = [BurstReport(100, 50, None, None, None, "UNAVAILABLE: gone")]
        task = asyncio.create_task(bench.passed(gates={"load": {"duration": "5s"}}))
        await asyncio.sleep(2)
        bench.pods("digits-b", 1, deletionTimestamp="2026-01-01T00:00:00Z")
        await asyncio.sleep(4)
        last = bench.seen[-1]
        assert (last.state, last.final, last.message) == (
            GateState.FAILED,
            False,
            "pod digits-b-0 was taken away during the burst",
        )
        assert (await task).state is GateState.PASSED
        assert bench.servers.asked[-1] == ("burst", "digits-b-1")

    play(act)


def test_what_cannot_be_loaded_is_skipped_with_why() -> None:
    async def act(bench: Bench) -> None:
        bench.servers.reports = [BurstReport(unsent="it takes no made-up input (x must be an image)")]
        gate = await bench.passed(gates={"load": {"duration": "5s"}})
        assert told(gate)[GateName.LOAD] is GateState.SKIPPED
        assert "nothing was sent: it takes no made-up input" in gate.message

    play(act)


def test_no_more_than_a_few_bursts_at_a_time() -> None:
    async def act(bench: Bench) -> None:
        load = {"gates": {"load": {"duration": "30s", "timeout": "15s"}}}
        gates = await asyncio.gather(*(bench.passed(**load) for _ in range(9)))
        assert max(bench.servers.at_once) == BURSTS
        # the last waited 120 s, more than the 100 s that it may take, which count from its own beginning
        assert {gate.state for gate in gates} == {GateState.PASSED}
        assert not any(gate.state is GateState.FAILED for gate in bench.seen)

    play(act)


@pytest.mark.parametrize("attempt", [{"fast_track": True}, {"instead_of": "digits-c"}])
def test_going_back_is_not_stopped(attempt: dict[str, Any]) -> None:
    async def act(bench: Bench) -> None:
        bench.servers.answer = 0.9
        gate = await bench.passed(gates={**GOLDEN, "load": {"duration": "10s"}}, attempt=attempt)
        assert gate.state is GateState.PASSED
        assert told(gate) == {
            GateName.WARM: GateState.PASSED,
            GateName.CONTRACT: GateState.PASSED,
            GateName.GOLDEN_SET: GateState.WARNED,
            GateName.LOAD: GateState.SKIPPED,
        }

    play(act)


@pytest.mark.parametrize(
    ("hang", "text", "contract", "golden"),
    [
        (set(), None, "fit those of digits-a", "ConfigMap golden of the golden set is not there"),
        ({"digits-a-0"}, golden_set(), "not done within its timeout of 10 s", "answered as expected"),
        ({"infer"}, golden_set(), "fit those of digits-a", "not done within its timeout of 10 s"),
        (set(), "{", "fit those of digits-a", "the golden set (ConfigMap golden, key g) cannot be used"),
    ],
)
def test_going_back_is_not_held_by_what_cannot_be_checked(
    hang: set[str], text: str | None, contract: str, golden: str
) -> None:
    async def act(bench: Bench) -> None:
        bench.servers.hang, bench.cluster.text = hang, text
        began = asyncio.get_running_loop().time()
        gate = await bench.passed(gates=GOLDEN, attempt={"fast_track": True})
        assert asyncio.get_running_loop().time() - began <= 10.5
        assert gate.state is GateState.PASSED
        checks = {check.name: check for check in gate.checks}
        for name, words in ((GateName.CONTRACT, contract), (GateName.GOLDEN_SET, golden)):
            assert words in checks[name].message
            warned = checks[name].state is GateState.WARNED
            assert warned is checks[name].message.endswith("; told only, since it served before")
            assert not checks[name].final
        assert GateState.WARNED in told(gate).values()

    play(act)


CONTRACT = {
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}, {"name": "z", "datatype": "FP32", "shape": [-1]}],
    "maxBatchSize": 8,
}


def recorded(bench: Bench, contract: object) -> None:
    """A record of digits-a, whose model had an output z."""
    about = {"name": "digits-a", "uid": "a", "resourceVersion": str(contract)}
    record = {"kind": "ModelRevision", "metadata": about, "spec": {"version": "1.0.0"}}
    bench.cache.put(KEY, {**record, "status": {"contract": contract}})


def gone(bench: Bench) -> None:
    bench.cache.remove(KEY, "Pod", "digits-a-0", "digits-a-0")


@pytest.mark.parametrize("why", ["gone", "hangs", "refuses"])
def test_what_stable_cannot_tell_is_read_from_its_record(why: str) -> None:
    async def act(bench: Bench) -> None:
        recorded(bench, CONTRACT)
        if why == "gone":
            gone(bench)
        else:
            (bench.servers.hang if why == "hangs" else bench.servers.refuse).add("digits-a-0")
        began = asyncio.get_running_loop().time()
        gate = await bench.passed()
        assert asyncio.get_running_loop().time() - began <= 6
        assert gate.final
        assert "(1.0.0 -> 1.1.0): output z: gone, it was FP32[?] against digits-a, as its ModelRev" in gate.message

    play(act)


def test_what_stable_tells_counts_more_than_its_record() -> None:
    async def act(bench: Bench) -> None:
        recorded(bench, CONTRACT)
        gate = await bench.passed()
        assert gate.state is GateState.PASSED
        assert "ModelRevision" not in gate.message

    play(act)


@pytest.mark.parametrize("damaged", [None, "x", {"inputs": [{"name": "x"}]}, {"inputs": 3}])
def test_a_record_without_a_contract_that_can_be_read_is_no_verdict(damaged: object) -> None:
    async def act(bench: Bench) -> None:
        recorded(bench, damaged)
        gone(bench)
        gate = await bench.passed()
        assert told(gate)[GateName.CONTRACT] is GateState.SKIPPED
        assert "digits-a has no ready pod that could be asked" in gate.message
        assert gate.contract is not None  # the next one is compared with it

    play(act)


@pytest.mark.parametrize("hang", [set(), {"signature"}])
def test_a_first_deployment_tells_its_contract_and_is_not_held_by_it(hang: set[str]) -> None:
    async def act(bench: Bench) -> None:
        bench.servers.hang = hang
        began = asyncio.get_running_loop().time()
        gate = await bench.passed(stable=None)
        assert asyncio.get_running_loop().time() - began <= 6
        assert told(gate)[GateName.CONTRACT] is GateState.SKIPPED
        assert (gate.contract is None) is bool(hang)
        assert ("not told within 5 s" in gate.message) is bool(hang)

    play(act)


def test_another_pod_is_asked_where_one_refuses() -> None:
    async def act(bench: Bench) -> None:
        bench.pods("digits-a", 2)
        bench.servers.refuse = {"digits-a-0", "digits-b-0"}
        assert (await bench.passed()).state is GateState.PASSED
        asked = [pod for what, pod in bench.servers.asked if what == "signature"]
        assert sorted(asked) == [f"digits-{each}-{number}" for each in "ab" for number in (0, 1)]

    play(act)


def test_going_back_waits_for_the_warm_gate() -> None:
    async def act(bench: Bench) -> None:
        bench.servers.warm_fails = 3
        assert (await bench.passed(attempt={"fast_track": True})).state is GateState.PASSED
        assert [gate.state for gate in bench.seen].count(GateState.FAILED) == 2

    play(act)


def test_scaling_does_not_begin_the_gates_again() -> None:
    def candidate(slot: int, replicas: int, **rollout: Any) -> Candidate | None:
        traffic = (TrafficStatus(revision="digits-a", slot=slot),)
        status = ModelDeploymentStatus(revisions=RevisionsStatus(stable="digits-a"), traffic=traffic)
        wish = modeldeployment("1.1.0", replicas=replicas, **rollout)
        return candidate_of(KEY, wish, Plan(status, gate="digits-b"), Cache())

    assert candidate(0, 2) == candidate(1, 9)
    assert candidate(0, 2, gates=GOLDEN) != candidate(0, 2)


def test_the_models_are_asked_by_the_names_of_their_records() -> None:
    bench = Bench()
    for revision, name, version in (("digits-a", "old", "1.0.0"), ("digits-b", "new", "2.0.0")):
        spec = {"model": {"name": name}, "version": version}
        bench.cache.put(KEY, {"kind": "ModelRevision", "metadata": {"name": revision, "uid": revision}, "spec": spec})
    status = ModelDeploymentStatus(revisions=RevisionsStatus(stable="digits-a"))
    candidate = candidate_of(KEY, modeldeployment("3.0.0"), Plan(status, gate="digits-b"), bench.cache)
    assert candidate is not None
    assert (candidate.model.name, candidate.model.version) == ("new", "2.0.0")
    assert candidate.stable is not None
    assert (candidate.stable.name, candidate.stable.version) == ("old", "1.0.0")
    assert candidate_of(KEY, modeldeployment(), Plan(status), bench.cache) is None
