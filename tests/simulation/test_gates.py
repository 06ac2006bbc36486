"""Gates on the whole controller: what refuses a candidate before any user meets it, what waits, what only tells."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from modelrollout.api.modelrevision import revision_status_from
from modelrollout.api.status import Outcome, Phase
from modelrollout.evidence.contract import as_signature
from modelrollout.ports import BurstReport, Signature, TensorSpec
from tests.builders import NAMESPACE, name_of
from tests.simulation.simulation import Simulation
from tests.simulation.triton import SIGNATURE
from tests.simulation.virtualtime import run

V1, V2 = (name_of(version) for version in ("1.0.0", "1.1.0"))
MAJOR = name_of("2.0.0")
WIDER = replace(SIGNATURE, outputs=(TensorSpec("score", "FP32", (-1, 2)),))
GOLDEN = {"goldenSet": {"configMap": {"name": "golden", "key": "golden.json"}}}
UNASKED = {"contract": {"mode": "Disabled"}}
LOAD = {"load": {"duration": "10s", "maxLatencyP99": 0.1}}


def story(tell: Callable[[Simulation], Awaitable[None]]) -> Simulation:
    async def main() -> Simulation:
        simulation = Simulation()
        async with simulation.running():
            await tell(simulation)
        return simulation

    return run(main())


def golden(run: Simulation, score: float = 0.5, text: str | None = None) -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0.0, 1.0]}
    answer = {"name": "score", "datatype": "FP32", "shape": [1, 1], "data": [score]}
    found = {"version": 1, "requests": [{"name": "first", "inputs": [tensor], "outputs": [answer]}]}
    data = {"golden.json": json.dumps(found) if text is None else text}
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "golden", "namespace": NAMESPACE}}
    run.store.write({**body, "data": data})


def conditions(run: Simulation) -> dict[str, tuple[str, str]]:
    return {each.type: (str(each.status), each.reason) for each in run.status.conditions}


def states(run: Simulation) -> dict[str, str]:
    assert run.status.rollout is not None
    return {gate.name: gate.state for gate in run.status.rollout.gates}


def weighed(run: Simulation, revision: str) -> bool:
    """Whether a route ever named the revision."""
    return any(revision in json.dumps(write.after) for write in run.log if write.kind == "HTTPRoute")


def events(run: Simulation, reason: str) -> list[str]:
    return [write.note for write in run.log if write.kind == "Event" and write.name == reason]


async def served(run: Simulation, version: str, **changes: Any) -> None:
    run.apply(version, **changes)
    await run.settle()


def test_all_gates_pass_and_ride_on_the_writes_that_happen_anyway() -> None:
    async def tell(run: Simulation) -> None:
        golden(run)
        await served(run, "1.0.0")
        before = len(run.log)
        await served(run, "1.1.0")
        plain = len(run.log) - before
        run.delete()
        await run.settle()
        await served(run, "1.0.0", gates={**GOLDEN, **LOAD})
        assert states(run) == {"Warm": "Passed", "Contract": "Skipped", "GoldenSet": "Passed", "Load": "Passed"}
        before = len(run.log)
        await served(run, "1.1.0", gates={**GOLDEN, **LOAD})
        assert len(run.log) - before == plain
        assert states(run) == dict.fromkeys(("Warm", "Contract", "GoldenSet", "Load"), "Passed")
        told = conditions(run)
        for kind in ("Warm", "ContractKept", "GoldenSetPassed", "LoadTestPassed"):
            assert told[kind] == ("True", "Passed")
        assert not any(events(run, f"Gate{word}") for word in ("Skipped", "Retrying", "Warned"))
        record = revision_status_from((run.store.get("ModelRevision", V2) or {}).get("status"))
        assert [gate.state for gate in record.attempts[0].gates] == ["Passed"] * 4
        assert "100/s for 10 s on 2 pods (stable's rate)" in record.attempts[0].gates[3].message

    story(tell)


def test_a_broken_contract_is_refused_with_its_difference() -> None:
    async def tell(run: Simulation) -> None:
        await served(run, "1.0.0")
        run.triton.signatures[V2] = WIDER
        await served(run, "1.1.0")
        attempt = run.status.rollout
        assert attempt is not None
        assert (run.status.phase, attempt.outcome, attempt.reason) == (
            Phase.ROLLED_BACK,
            Outcome.ROLLED_BACK,
            "ContractBroken",
        )
        assert "(1.0.0 -> 1.1.0): output score: FP32[?, 1] -> FP32[?, 2]" in attempt.message
        assert run.status.quarantined == (V2,)
        assert conditions(run)["ContractKept"] == ("False", "Failed")
        assert not weighed(run, V2)
        record = revision_status_from((run.store.get("ModelRevision", V2) or {}).get("status"))
        assert record.attempts[0].gates[1].state == "Failed"
        # the command gives it another try, which ends the same way
        run.command("retry/1")
        await run.settle()
        assert run.status.rollout is not None
        assert run.status.rollout.attempt == attempt.attempt + 1
        assert run.status.quarantined == (V2,)

    story(tell)


def test_a_new_major_version_may_break_it() -> None:
    async def tell(run: Simulation) -> None:
        await served(run, "1.0.0")
        run.triton.signatures[MAJOR] = WIDER
        await served(run, "2.0.0")
        assert run.status.revisions.stable == MAJOR
        assert run.status.rollout is not None
        assert "clients must change: output score" in run.status.rollout.gates[1].message

    story(tell)


def test_warn_goes_on_and_says_so_once() -> None:
    async def tell(run: Simulation) -> None:
        await served(run, "1.0.0")
        run.triton.signatures[V2] = WIDER
        await served(run, "1.1.0", gates={"contract": {"mode": "Warn"}})
        assert run.status.revisions.stable == V2
        assert conditions(run)["ContractKept"] == ("False", "Warned")
        (told,) = events(run, "GateWarned")
        assert "gate Contract: the contract is broken" in told

    story(tell)


def test_disabled_does_not_ask() -> None:
    async def tell(run: Simulation) -> None:
        await served(run, "1.0.0", gates={"contract": {"mode": "Disabled"}})
        await served(run, "1.1.0", gates={"contract": {"mode": "Disabled"}})
        assert run.triton.asked == []
        assert "ContractKept" not in conditions(run)

    story(tell)


def test_going_back_to_what_served_before_is_not_refused() -> None:
    """A known good revision (Git went back) has passed its gates; what changed since is told."""

    async def tell(run: Simulation) -> None:
        golden(run)
        await served(run, "1.0.0", gates=GOLDEN)
        run.triton.signatures[V2] = replace(SIGNATURE, outputs=(*SIGNATURE.outputs, TensorSpec("why", "BYTES", (-1,))))
        await served(run, "1.1.0", gates=GOLDEN)
        golden(run, score=0.9)
        await served(run, "1.0.0", gates={**GOLDEN, **LOAD})
        assert run.status.revisions.stable == V1
        assert states(run) == {"Warm": "Passed", "Contract": "Warned", "GoldenSet": "Warned", "Load": "Skipped"}
        assert len(events(run, "GateWarned")) == 2

    story(tell)


def test_other_answers_than_the_golden_ones_end_the_attempt() -> None:
    async def tell(run: Simulation) -> None:
        golden(run)
        await served(run, "1.0.0", gates=GOLDEN)
        run.triton.scores[V2] = 0.75
        began = run.clock.monotonic()
        await served(run, "1.1.0", gates=GOLDEN)
        attempt = run.status.rollout
        assert attempt is not None
        assert (attempt.reason, attempt.outcome) == ("GoldenSetFailed", Outcome.ROLLED_BACK)
        assert "first, output score: expected 0.5, got 0.75 (0.25 off)" in attempt.message
        assert attempt.finished_at is not None
        assert attempt.started_at is not None
        assert (attempt.finished_at - attempt.started_at).total_seconds() < 30
        assert run.clock.monotonic() > began
        assert not weighed(run, V2)

    story(tell)


def test_a_first_deployment_with_other_answers_serves_nobody_and_may_be_retried() -> None:
    async def tell(run: Simulation) -> None:
        golden(run, score=0.9)
        await served(run, "1.1.0", gates=GOLDEN)
        assert (run.status.phase, run.status.revisions.stable) == (Phase.ROLLED_BACK, None)
        assert conditions(run)["GoldenSetPassed"] == ("False", "Failed")
        assert not weighed(run, V2)
        golden(run, score=0.5)
        run.command("retry/1")
        await run.settle()
        assert (run.status.phase, run.status.revisions.stable) == (Phase.IDLE, V2)

    story(tell)


def test_a_broken_config_map_holds_the_attempt_and_it_goes_on_by_itself_once_mended() -> None:
    async def tell(run: Simulation) -> None:
        await served(run, "1.0.0")
        golden(run, text='{"version": 1,\n "requests": [}')
        run.apply("1.1.0", gates=GOLDEN)
        await run.until(run.at(Phase.VERIFYING))
        await run.advance(5)
        writes = len(run.log)
        await run.advance(120)
        assert len(run.log) == writes
        sentence = "the golden set (ConfigMap golden, key golden.json) cannot be used: line 2, column 15"
        assert sentence in run.status.message
        assert conditions(run)["GoldenSetPassed"] == ("False", "Retrying")
        (told,) = events(run, "GateRetrying")
        assert told.startswith(f"gate GoldenSet: {sentence}")
        assert not weighed(run, V2)
        assert run.status.quarantined == ()
        run._crash()
        await run.advance(30)
        assert len(events(run, "GateRetrying")) == 1
        await mended(run)

    story(tell)


async def mended(run: Simulation) -> None:
    """The ConfigMap is put right, and the attempt goes on by itself."""
    golden(run)
    await run.settle()
    assert run.status.revisions.stable == V2
    assert conditions(run)["GoldenSetPassed"] == ("True", "Passed")


def test_a_broken_config_map_that_nobody_mends_ends_the_attempt_at_the_deadline() -> None:
    async def tell(run: Simulation) -> None:
        await served(run, "1.0.0")
        golden(run, text="{")
        await served(run, "1.1.0", gates=GOLDEN)
        attempt = run.status.rollout
        assert attempt is not None
        assert (attempt.reason, run.status.quarantined) == ("GatesFailed", (V2,))
        assert "did not pass its gates in 5m: the golden set gate fails" in attempt.message
        # nothing is tried any more
        assert states(run)["GoldenSet"] == "Failed"
        assert conditions(run)["GoldenSetPassed"] == ("False", "Failed")
        record = revision_status_from((run.store.get("ModelRevision", V2) or {}).get("status"))
        assert record.attempts[0].gates[-1].state == "Failed"
        golden(run)
        run.command("retry/1")
        await run.settle()
        assert run.status.revisions.stable == V2

    story(tell)


def test_a_set_in_the_model_s_own_config_is_final_and_says_so() -> None:
    async def tell(run: Simulation) -> None:
        await served(run, "1.0.0")
        run.triton.signatures[V2] = replace(SIGNATURE, parameters={"set": "{"})
        await served(run, "1.1.0", gates={"goldenSet": {"parameter": "set"}})
        attempt = run.status.rollout
        assert attempt is not None
        assert attempt.reason == "GoldenSetFailed"
        assert "it takes another one to mend it" in attempt.message
        assert conditions(run)["GoldenSetPassed"] == ("False", "Failed")

    story(tell)


def test_a_config_map_that_comes_late_is_waited_for_and_told_once() -> None:
    async def tell(run: Simulation) -> None:
        await served(run, "1.0.0")
        run.apply("1.1.0", gates=GOLDEN)
        await run.until(run.at(Phase.VERIFYING))
        await run.advance(5)
        writes = len(run.log)
        await run.advance(120)
        assert len(run.log) == writes
        assert "ConfigMap golden of the golden set is not there" in run.status.message
        assert conditions(run)["GoldenSetPassed"] == ("False", "Retrying")
        await mended(run)

    story(tell)


def test_a_config_map_that_never_comes_ends_the_attempt_at_the_deadline() -> None:
    async def tell(run: Simulation) -> None:
        await served(run, "1.0.0")
        await served(run, "1.1.0", gates=GOLDEN)
        assert run.status.rollout is not None
        assert run.status.rollout.reason == "GatesFailed"
        assert "did not pass its gates in 5m: the golden set gate fails" in run.status.rollout.message

    story(tell)


def kept(run: Simulation, revision: str) -> Signature | None:
    """The contract in the record of a revision."""
    status = revision_status_from((run.store.get("ModelRevision", revision) or {}).get("status"))
    return None if status.contract is None else as_signature(status.contract)


def test_a_stable_revision_that_does_not_answer_is_waited_for_where_nothing_was_kept() -> None:
    async def tell(run: Simulation) -> None:
        await served(run, "1.0.0", gates=UNASKED)
        assert kept(run, V1) is None
        run.triton.silent.add(V1)
        run.apply("1.1.0")
        await run.until(run.at(Phase.VERIFYING))
        await run.advance(100)
        assert f"{V1} does not tell its inputs and outputs" in run.status.message
        run.triton.silent.clear()
        await run.settle()
        assert run.status.revisions.stable == V2

    story(tell)


def test_where_nothing_was_kept_a_stable_revision_without_pods_stops_nobody_from_replacing_it() -> None:
    async def tell(run: Simulation) -> None:
        await served(run, "1.0.0", strategy="Recreate", gates=UNASKED)
        run.triton.signatures[V2] = WIDER
        await served(run, "1.1.0", strategy="Recreate")
        assert run.status.revisions.stable == V2
        assert run.status.rollout is not None
        contract = run.status.rollout.gates[1]
        assert contract.state == "Skipped"
        assert f"{V1} has no ready pod that could be asked for its contract" in contract.message
        (told,) = events(run, "GateSkipped")
        assert told == f"gate Contract: {contract.message}"
        # from here on it is known
        run.triton.signatures[V1] = SIGNATURE
        await served(run, "1.2.0", strategy="Recreate")
        assert run.status.rollout is not None
        assert run.status.rollout.reason == "ContractBroken"
        assert run.status.revisions.stable == V2

    story(tell)


@pytest.mark.parametrize("crash", [False, True])
def test_recreate_brings_the_old_revision_back_where_the_contract_is_broken(crash: bool) -> None:
    """Stable's pods are gone by then; what its own gate was told is in its ModelRevision, also of the first one."""

    async def tell(run: Simulation) -> None:
        await served(run, "1.0.0", strategy="Recreate")
        assert kept(run, V1) == replace(SIGNATURE, version="")
        assert run.status.rollout is not None
        assert run.status.rollout.contract is None
        run.triton.signatures[V2] = WIDER
        run.apply("1.1.0", strategy="Recreate")
        await run.until(run.at(Phase.VERIFYING))
        if crash:
            run._crash()
        await run.settle()
        attempt = run.status.rollout
        assert attempt is not None
        assert (run.status.phase, attempt.reason) == (Phase.ROLLED_BACK, "ContractBroken")
        assert (
            f"output score: FP32[?, 1] -> FP32[?, 2] against {V1}, as its ModelRevision keeps them" in attempt.message
        )
        assert not weighed(run, V2)
        assert (run.status.revisions.stable, run.kubelet.ready(V1), run.kubelet.ready(V2)) == (V1, 2, 0)
        # what fits is promoted by the same way
        run.triton.signatures.clear()
        await served(run, "1.2.0", strategy="Recreate")
        assert run.status.revisions.stable == name_of("1.2.0")
        assert "as its ModelRevision keeps them" in run.status.rollout.gates[1].message

    story(tell)


def test_a_broken_stable_revision_is_no_leave_to_break_its_clients() -> None:
    async def tell(run: Simulation) -> None:
        await served(run, "1.0.0")
        run.kubelet.crash(V1, 100_000.0)
        run.triton.signatures[V2] = WIDER
        run.apply("1.1.0")
        await run.until(lambda: run.status.phase in (Phase.ROLLED_BACK, Phase.ROLLING_BACK))
        assert run.status.rollout is not None
        assert run.status.rollout.reason == "ContractBroken"
        assert not weighed(run, V2)

    story(tell)


def test_the_contract_of_a_promoted_revision_outlives_the_operator_that_asked_for_it() -> None:
    async def tell(run: Simulation) -> None:
        await served(run, "1.0.0")
        wider = replace(SIGNATURE, outputs=(*SIGNATURE.outputs, TensorSpec("why", "BYTES", (-1,))))
        run.triton.signatures[V2] = wider
        run.apply("1.1.0")
        await run.until(run.at(Phase.PROGRESSING))
        assert run.status.rollout is not None
        assert run.status.rollout.contract is not None
        run._crash()
        await run.settle()
        assert run.status.revisions.stable == V2
        assert kept(run, V2) == replace(wider, version="")

    story(tell)


def test_too_slow_twice_or_failing_requests_end_the_attempt() -> None:
    for report, sentence in (
        (BurstReport(50, 0, 0.01, 0.1, 0.4), "too slow twice, p99 must be <= 0.1 s: 50 requests, none failed"),
        (BurstReport(50, 3, 0.01, 0.02, 0.03, "INTERNAL: boom"), "50 requests, 3 failed (INTERNAL: boom)"),
    ):

        async def tell(run: Simulation, report: BurstReport = report, sentence: str = sentence) -> None:
            await served(run, "1.0.0", gates=LOAD)
            run.triton.bursts[V2] = report
            await served(run, "1.1.0", gates=LOAD)
            attempt = run.status.rollout
            assert attempt is not None
            assert (attempt.reason, attempt.outcome) == ("LoadTestFailed", Outcome.ROLLED_BACK)
            assert sentence in attempt.message
            assert conditions(run)["LoadTestPassed"] == ("False", "Failed")
            assert not weighed(run, V2)

        story(tell)


def test_pods_that_die_of_the_burst_are_its_result() -> None:
    async def tell(run: Simulation) -> None:
        await served(run, "1.0.0", gates=LOAD)
        run.apply("1.1.0", gates=LOAD)
        await run.until(run.at(Phase.VERIFYING))
        await run.until(lambda: ("burst", V2) in run.triton.asked)
        run.triton.bursts[V2] = BurstReport(50, 40, None, None, None, "UNAVAILABLE: connection reset")
        run.kubelet.crash(V2, 20.0)
        await run.settle()
        assert run.status.rollout is not None
        assert run.status.rollout.reason == "LoadTestFailed"

    story(tell)


def test_a_new_operator_passes_the_gates_again() -> None:
    async def tell(run: Simulation) -> None:
        golden(run)
        await served(run, "1.0.0", gates={**GOLDEN, **LOAD})
        run.apply("1.1.0", gates={**GOLDEN, **LOAD})
        await run.until(lambda: ("burst", V2) in run.triton.asked)
        run._crash()
        await run.settle()
        assert run.status.revisions.stable == V2
        assert run.triton.asked.count(("burst", V2)) == 2

    story(tell)


@pytest.mark.parametrize("strategy", ["Canary", "Recreate"])
def test_a_golden_request_that_kills_the_pods_is_not_sent_for_ever(strategy: str) -> None:
    """Each time that they came back the deadline began anew; and nobody else answers with Recreate."""

    async def tell(run: Simulation) -> None:
        golden(run)
        await served(run, "1.0.0", strategy=strategy)
        run.triton.deadly[V2] = 60.0
        await served(run, "1.1.0", strategy=strategy, gates=GOLDEN)
        attempt = run.status.rollout
        assert attempt is not None
        assert (attempt.reason, attempt.outcome, attempt.setbacks) == (
            "CandidateUnavailable",
            Outcome.ROLLED_BACK,
            2,
        )
        assert "lost all its ready pods 3 times, last in the golden set gate: " in attempt.message
        assert (run.status.revisions.stable, run.status.quarantined) == (V1, (V2,))
        assert len(events(run, "CandidateUnavailable")) == 2
        assert attempt.started_at is not None
        assert attempt.finished_at is not None
        assert (attempt.finished_at - attempt.started_at).total_seconds() < 300
        assert not weighed(run, V2)
        assert states(run)["GoldenSet"] == "Failed"

    story(tell)


def test_a_gate_that_is_removed_from_the_spec_leaves_nothing_behind() -> None:
    async def tell(run: Simulation) -> None:
        await served(run, "1.0.0")
        run.apply("1.1.0", gates=GOLDEN)
        await run.until(run.at(Phase.VERIFYING))
        await run.advance(30)
        assert conditions(run)["GoldenSetPassed"] == ("False", "Retrying")
        await served(run, "1.1.0")
        assert run.status.revisions.stable == V2
        assert states(run) == {"Warm": "Passed", "Contract": "Passed"}
        assert "GoldenSetPassed" not in conditions(run)
        record = revision_status_from((run.store.get("ModelRevision", V2) or {}).get("status"))
        assert [gate.name for gate in record.attempts[0].gates] == ["Warm", "Contract"]

    story(tell)
