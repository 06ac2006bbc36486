"""What happens to a rollout from outside: no pods wanted, pods gone, the operator gone and come back another."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.demo.kube import Object
from deploy.demo.training import MODEL_NAME, V1, V2

from tests.cluster.conftest import Staging
from tests.cluster.stage import Stage, lost, rollout

WRITTEN_BEFORE = Path(__file__).resolve().parents[1] / "data" / "api" / "previous_release.json"


async def pods_of(stage: Stage, revision: str) -> list[Object]:
    """Pods of a revision that do not end already."""
    found = await stage.kube.list("Pod", stage.name, f"modelrollout.io/revision={revision}")
    return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]


async def test_candidates_pods_deleted_then_scaled_to_zero_and_back(staging: Staging) -> None:
    async with staging() as stage:
        plan = rollout(50, hold="90s")
        first = await stage.apply(V1, rollout=plan)
        await stage.until_serves(first)
        async with stage.traffic() as recording:
            second = await stage.apply(V2, rollout=plan)
            await stage.until_weight(second, 50)
            await stage.until_phase("Progressing")
            for pod in await pods_of(stage, second):
                await stage.kube.delete("Pod", stage.name, pod["metadata"]["name"])
            await stage.chronicle.until_weights(lambda now: now.get(second, 0) < 1, "its traffic is back", 90)
            await stage.until_weight(second, 50)
            status = await stage.until_phase("Progressing")
            assert status["rollout"]["setbacks"] == 1
        assert not lost(recording)
        await stage.apply(V2, rollout=plan, replicas=0)
        await stage.chronicle.until(
            lambda status: status.get("phase") == "Idle" and "replicas is 0" in status.get("message", ""),
            "at rest",
            120,
        )
        await stage.gone("Pod")
        assert stage.chronicle.status["history"][0]["outcome"] == "Superseded"
        assert stage.chronicle.status["revisions"]["stable"] == first
        await stage.apply(V2, rollout=plan)
        async with stage.traffic() as recording:
            await stage.until_weight(second, 50)
            await stage.command("promote", "--full")
            await stage.until_serves(second)
        assert stage.chronicle.status["revisions"]["stable"] == second


def without(now: Any, before: Any) -> Any:
    """``now`` with the fields only that ``before`` has, too."""
    if isinstance(now, dict) and isinstance(before, dict):
        return {key: without(value, before[key]) for key, value in now.items() if key in before}
    if isinstance(now, list) and isinstance(before, list):
        known: dict[str, Any] = {}
        for each in before:
            known |= each if isinstance(each, dict) else {}
        return [without(each, known) if known else each for each in now]
    return now


async def replace_status(stage: Stage, kind: str, name: str, before: Mapping[str, Any]) -> set[str]:
    """Write the status as the release before would have; returns which fields it did not know."""
    found = await stage.kube.get(kind, stage.name, name)
    assert found is not None
    old = without(found["status"], before["status"])
    body = {**found, "status": old}
    path = f"apis/modelrollout.io/v1alpha1/namespaces/{stage.name}/{kind.lower()}s/{name}/status"
    await stage.kube.request("PUT", path, body)
    rollout_now, rollout_old = (each.get("rollout", {}) for each in (found["status"], old))
    return set(found["status"]) - set(old) | set(rollout_now) - set(rollout_old)


async def test_an_operator_killed_mid_canary_goes_on_from_what_the_release_before_wrote(staging: Staging) -> None:
    before = json.loads(WRITTEN_BEFORE.read_text())
    async with staging(lasting=20) as stage:
        assert stage.operator is not None
        first = await stage.apply(V1)
        await stage.until_serves(first)
        async with stage.traffic() as recording:
            second = await stage.apply(V2, rollout=rollout(25, 50, hold="8s"))
            await stage.until_weight(second, 25)
            await stage.until_phase("Progressing")
            stage.operator.kill()
            unknown = await replace_status(stage, "ModelDeployment", MODEL_NAME, before["modelDeployment"])
            assert {"strategy", "stepEndsAt"} <= unknown, "that release did not write them"
            await replace_status(stage, "ModelRevision", first, before["modelRevisions"][0])
            await stage.operator.start()
            await stage.until_serves(second)
        assert stage.weights_of(second)[-3:] == [25.0, 50.0, 100.0], "no step skipped, none twice"
        assert [entry["outcome"] for entry in stage.chronicle.status["history"]] == ["Promoted", "Promoted"]
        assert not lost(recording)


async def test_a_known_good_revision_comes_back_in_one_step_by_spec_and_by_command(staging: Staging) -> None:
    async with staging() as stage:
        plan = rollout(25, 50, hold="2s", bake="3s")
        first = await stage.apply(V1, rollout=plan)
        await stage.until_serves(first)
        async with stage.traffic() as recording, stage.drawn("rollback"):
            second = await stage.apply(V2, rollout=plan)
            await stage.until_serves(second)
            assert await stage.apply(V1, rollout=plan) == first
            await stage.until_serves(first)
            status = stage.chronicle.status
            assert status["rollout"]["fastTrack"]
            assert [entry["outcome"] for entry in status["history"]] == ["Promoted"] * 3
            said = await stage.command("rollback")
            assert second in said
            await stage.chronicle.until(
                lambda status: status["revisions"].get("stable") == second and status["phase"] == "RolledBack",
                f"{second} serves by command",
                180,
            )
        weights = stage.weights_of(first)
        assert weights[-2:] == [100.0, 0.0], weights
        assert 25.0 not in weights, "no steps on the way back"
        status = stage.chronicle.status
        assert status["revisions"]["desired"] == first, "the spec still asks for it"
        assert first in status["quarantined"]
        assert status["commands"][0]["command"] == "rollback"
        assert not lost(recording)
