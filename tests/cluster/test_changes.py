"""What users do in the middle of a canary, and what happens to the operator then. No request may be lost."""

from __future__ import annotations

import time

from deploy.demo.recording import Answer, Recording
from deploy.demo.training import V1, V2, V3

from tests.cluster.conftest import Staging
from tests.cluster.stage import lost, rollout
from tests.cluster.waiting import wait_for


async def test_a_new_spec_in_the_middle_of_a_canary_takes_the_candidate_off_in_one_write(staging: Staging) -> None:
    async with staging() as stage:
        first = await stage.apply(V1)
        await stage.until_serves(first)
        async with stage.traffic() as recording:
            second = await stage.apply(V2, rollout=rollout(25, 50, hold="60s"))
            await stage.until_weight(second, 25)
            third = await _lineage(stage, "another")
            await stage.until_outcome(second, "Superseded")
            await stage.until_serves(third)
        assert stage.weights_of(second) in ([0.0, 25.0, 0.0], [25.0, 0.0]), "off in one step, never more"
        assert stage.weights_of(third)[-1] == 100.0
        assert 25.0 in stage.weights_of(third), "the third starts its canary from the first step"
        assert not lost(recording)


async def _lineage(stage, text: str) -> str:  # type: ignore[no-untyped-def]
    """Ask for V2 with another lineage: the same model, another revision."""
    found = await stage.kube.get("ModelDeployment", stage.name, "digits")
    body = {
        "apiVersion": found["apiVersion"],
        "kind": found["kind"],
        "metadata": {"name": "digits", "namespace": stage.name},
        "spec": {**found["spec"], "rollout": rollout()},
    }
    body["spec"]["model"]["lineage"] = {"run": text}
    generation = (await stage.kube.apply(body))["metadata"]["generation"]
    status = await stage.chronicle.until(
        lambda status: status.get("observedGeneration", 0) >= generation, "the operator saw the spec", 90
    )
    return str(status["revisions"]["desired"])


async def test_going_back_to_the_stable_spec_aborts_in_one_write(staging: Staging) -> None:
    async with staging() as stage:
        first = await stage.apply(V1)
        await stage.until_serves(first)
        async with stage.traffic() as recording:
            second = await stage.apply(V2, rollout=rollout(50, hold="60s"))
            await stage.until_weight(second, 50)
            back = await stage.apply(V1)
            assert back == first, "the same spec is the same revision"
            await stage.until_outcome(second, "Aborted")
            await stage.until_serves(first)
        assert stage.weights_of(second) in ([0.0, 50.0, 0.0], [50.0, 0.0])
        assert stage.chronicle.status["quarantined"] == []
        assert not lost(recording)


async def test_another_strategy_in_the_middle_of_a_canary_starts_anew_by_it(staging: Staging) -> None:
    async with staging() as stage:
        first = await stage.apply(V1)
        await stage.until_serves(first)
        async with stage.traffic() as recording:
            second = await stage.apply(V2, rollout=rollout(50, hold="60s"))
            await stage.until_weight(second, 50)
            plan = {**rollout(), "strategy": "BlueGreen"}
            del plan["canary"]
            assert await stage.apply(V2, rollout=plan) == second
            await stage.until_serves(second)
        assert stage.weights_of(second)[-3:] == [50.0, 0.0, 100.0], "home first, then one switch"
        assert stage.chronicle.status["rollout"]["strategy"] == "BlueGreen"
        assert not lost(recording)


async def test_an_operator_killed_in_the_middle_of_a_step_goes_on_where_it_was(staging: Staging) -> None:
    async with staging(lasting=20) as stage:
        assert stage.operator is not None
        first = await stage.apply(V1)
        await stage.until_serves(first)
        async with stage.traffic() as recording:
            second = await stage.apply(V2, rollout=rollout(25, 50, hold="8s"))
            await stage.until_weight(second, 25)
            stage.operator.kill()
            await stage.operator.start()
            await stage.until_serves(second)
        assert stage.weights_of(second)[-3:] == [25.0, 50.0, 100.0], "no step skipped, none twice"
        history = [entry for entry in stage.chronicle.status["history"] if entry["revision"] == second]
        assert [entry["outcome"] for entry in history] == ["Promoted"]
        assert not lost(recording)


async def test_a_bad_version_is_taken_back_and_not_tried_again(staging: Staging) -> None:
    async with staging() as stage:
        assert stage.operator is not None
        second = await stage.apply(V2)
        await stage.until_serves(second)
        async with stage.traffic() as recording:
            third = await stage.apply(V3, rollout=rollout(25, 50, hold="20s"))
            await stage.until_outcome(third, "RolledBack")
            status = await stage.until_phase("RolledBack")
            assert third in status["quarantined"]
            assert status["revisions"]["stable"] == second
            back = time.time()
            await wait_for(lambda: len(sent_since(recording, back)) > 100, "100 users later", within=60)
        assert stage.chronicle.taken_off(third, 0.0) is not None
        assert {answer.revision for answer in sent_since(recording, back)} == {second}, "nobody meets it any more"
        assert not lost(recording, third)
        record = await stage.until_recorded(third, lambda status: status.get("attempts"), "its attempt is kept")
        guards = {guard["name"]: guard for guard in record["attempts"][0]["guards"]}
        assert guards["errors"]["verdict"] == "Breach"
        assert guards["errors"]["value"] > 0.02
        assert 'modelrollout_rollbacks_total{reason="GuardBreached"} 1.0' in stage.operator.metrics()


def sent_since(recording: Recording, begun: float) -> list[Answer]:
    """Answers to what was sent after that (unix seconds)."""
    return [answer for answer in recording.answers if answer.sent > begun]
