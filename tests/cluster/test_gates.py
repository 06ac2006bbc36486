"""What a candidate must show before any user meets it, asked of real Tritons: contract, golden answers, speed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from deploy.demo import loans
from deploy.demo.kube import Object

from tests.cluster.applicants import Flow, applicants
from tests.cluster.conftest import Staging
from tests.cluster.stage import Stage, lost, rollout
from tests.cluster.test_faults import condition

RECORDED = loans.population(20, seed=21)
TOLERANCES = [{"output": output, "absolute": 0.3} for output in ("SCORES", "RISK")]


NAMES = {"ContractKept": "Contract", "GoldenSetPassed": "GoldenSet", "LoadTestPassed": "Load"}
"""The gate of each condition."""


def golden(where: Object, **changes: Any) -> Object:
    """The gates with a golden set, which a good retraining passes."""
    return {"goldenSet": {**where, "tolerances": TOLERANCES, "maxFailures": 1, **changes}}


async def refused(stage: Stage, flow: Flow, recipe: loans.Recipe, reason: str, kind: str, **changes: Any) -> Object:
    """Apply a version that a gate must refuse before any user meets it; returns the gate's condition."""
    before = stage.chronicle.status["revisions"]["stable"]
    candidate = await stage.apply(recipe, **changes)
    await stage.until_outcome(candidate, "RolledBack")
    status = await stage.until_phase("RolledBack")
    assert status["history"][0]["reason"] == reason
    assert candidate in status["quarantined"]
    assert status["revisions"]["stable"] == before
    assert not any(stage.weights_of(candidate)), "it never had weight"
    assert flow.met(candidate) == 0, "no user ever met it"
    found = condition(status, kind)
    assert found["status"] == "False", status["conditions"]
    assert states(stage)[NAMES[kind]] == "Failed"
    return found


def states(stage: Stage) -> dict[str, str]:
    """How far each gate of the last attempt came."""
    return states_of(stage.chronicle.status)


def states_of(status: Object) -> dict[str, str]:
    """The same of one status."""
    return {gate["name"]: gate["state"] for gate in (status.get("rollout") or {}).get("gates", [])}


@pytest.fixture
def unlike(loans_store: Any, tmp_path: Path, loans_models: str) -> str:
    """Where a version lies that brings the answers of another one along, in its own config.pbtxt."""
    prefix = f"{loans_models}/with-golden-set"
    content = {"golden": loans.golden_set(loans.GOOD, RECORDED)}
    loans_store(loans.write_repository(loans.MONTHLY, tmp_path / "with-golden-set", content), prefix)
    return prefix


async def test_gates_keep_users_from_what_breaks_contract_answers_or_speed(loans_staging: Staging, unlike: str) -> None:
    async with loans_staging() as stage:
        body = {"golden.json": loans.golden_set(loans.GOOD, RECORDED)}
        where = {"configMap": {"name": "answers", "key": "golden.json"}}
        metadata = {"name": "answers", "namespace": stage.name}
        await stage.kube.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": body})
        first = await stage.apply(loans.GOOD, rollout=rollout(gates=golden(where)))
        await stage.until_serves(first)
        assert states(stage)["GoldenSet"] == "Passed", "also of the first deployment"
        async with applicants(stage.place.gateway_here, stage.hostname) as flow:
            found = await refused(stage, flow, loans.RENAMED, "ContractBroken", "ContractKept")
            assert "SCORES" in found["message"], "the difference: what is gone"
            assert "2.0.0" in found["message"] or "MAJOR" in found["message"], "and what to do"

            plan = rollout(gates=golden(where))
            found = await refused(stage, flow, loans.MONTHLY, "GoldenSetFailed", "GoldenSetPassed", rollout=plan)
            assert "applicant-" in found["message"], "which of the stored requests"

            plan = rollout(gates=golden({"parameter": "golden"}))
            changes: Any = {"rollout": plan, "prefix": unlike}
            await refused(stage, flow, loans.MONTHLY, "GoldenSetFailed", "GoldenSetPassed", **changes)

            bounds = {"duration": "2s", "rate": 20, "maxLatencyP99": 0.5}
            plan = rollout(gates={"load": bounds})
            found = await refused(stage, flow, loans.SLOW, "LoadTestFailed", "LoadTestPassed", rollout=plan)

            plan = rollout(50, hold="3s", bake="2s", gates={"load": bounds})
            major = await stage.apply(loans.RENAMED_MAJOR, rollout=plan)
            await stage.until_serves(major)
            assert states(stage) == {"Warm": "Passed", "Contract": "Passed", "Load": "Passed"}
            assert flow.met(major) > 0
        assert not lost(flow.recording)


async def test_what_stable_cannot_tell_any_more_still_binds_and_a_broken_set_waits_for_its_mending(
    loans_staging: Staging,
) -> None:
    """Recreate stops stable before anybody could ask it; a ConfigMap that is broken is nobody's rollback."""
    async with loans_staging() as stage:
        recreate = {"strategy": "Recreate", "unguarded": True, "bake": "2s", "progressDeadline": "3m"}
        first = await stage.apply(loans.GOOD, rollout=recreate)
        await stage.until_serves(first)
        record = await stage.until_recorded(first, lambda status: status.get("contract"), "its contract is kept")
        assert "SCORES" in [each["name"] for each in record["contract"]["outputs"]]

        renamed = await stage.apply(loans.RENAMED, rollout=recreate)
        await stage.until_outcome(renamed, "RolledBack")
        status = await stage.until_phase("RolledBack")
        assert status["history"][0]["reason"] == "ContractBroken"
        assert f"against {first}, as its ModelRevision keeps them" in condition(status, "ContractKept")["message"]
        assert not any(stage.weights_of(renamed)), "it never had weight"
        await stage.chronicle.until(
            lambda status: condition(status, "Ready").get("status") == "True", "the old revision answers again", 180
        )

        async def answers(text: str) -> None:
            body = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"golden.json": text}}
            await stage.kube.apply({**body, "metadata": {"name": "answers", "namespace": stage.name}})

        recorded = loans.golden_set(loans.GOOD, RECORDED)
        await answers(recorded[:-100])
        plan = rollout(50, hold="3s", bake="2s", gates=golden({"configMap": {"name": "answers", "key": "golden.json"}}))
        plan |= {"guards": [], "unguarded": True}
        better = await stage.apply(loans.BETTER, rollout=plan)
        status = await stage.chronicle.until(
            lambda status: states_of(status).get("GoldenSet") == "Retrying", "the set cannot be used", 180
        )
        found = condition(status, "GoldenSetPassed")
        assert (found["status"], found["reason"]) == ("False", "Retrying")
        assert "the golden set (ConfigMap answers, key golden.json) cannot be used: line " in found["message"]
        assert status["phase"] == "Verifying"
        assert not any(stage.weights_of(better)), "it has no weight meanwhile"
        await answers(recorded)
        await stage.until_serves(better)
        assert states(stage)["GoldenSet"] == "Passed"
