"""A rollout whose only guards come from a policy, and the same guards replayed over its history by ``backtest``."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

from deploy.demo.kube import Object
from deploy.demo.training import V1, V2, V3

from tests.cluster.conftest import Staging
from tests.cluster.stage import Stage, lost, rollout

GUARDS = [
    {"name": "more-errors", "sli": "error-ratio", "relativeTo": "stable", "minSamples": 20},
    {"name": "error-limit", "sli": "error-ratio", "max": 0.1, "window": "10s", "minSamples": 10, "onBreach": "Pause"},
]


@contextlib.asynccontextmanager
async def policy(stage: Stage, *guards: Object) -> AsyncIterator[Object]:
    """A ClusterRolloutPolicy of the stage's name, gone afterwards: it belongs to the whole cluster."""
    reference = {"kind": "ClusterRolloutPolicy", "name": stage.name}
    body = {"apiVersion": "modelrollout.io/v1alpha1", **reference, "metadata": {"name": stage.name}}
    del body["name"]
    await stage.kube.apply({**body, "spec": {"guards": list(guards)}})
    try:
        yield reference
    finally:
        await stage.kube.delete("ClusterRolloutPolicy", None, stage.name)


async def replayed(stage: Stage, *arguments: str) -> tuple[int, Any]:
    """The exit code and document of ``backtest`` over the stage's ModelDeployment."""
    command = [sys.executable, "-m", "modelrollout", "backtest", f"--kubeconfig={stage.place.kubeconfig}"]
    command += [f"--deployment={stage.name}/{stage.model}", f"--prometheus={stage.place.prometheus_here}"]
    process = await asyncio.create_subprocess_exec(
        *command, *arguments, "-o", "json", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, complaint = await process.communicate()
    assert process.returncode in (0, 3), complaint.decode()
    (report,) = json.loads(out)
    return process.returncode, report


async def test_a_policy_guards_a_rollout_and_its_guards_are_replayed(staging: Staging) -> None:
    async with staging() as stage, policy(stage, *GUARDS) as reference:
        plan = rollout(25, 50, hold="10s", guards=[], policies=[reference])
        first = await stage.apply(V1, rollout=plan)
        await stage.until_serves(first)
        async with stage.traffic() as recording:
            second = await stage.apply(V2, rollout=plan)
            await stage.until_serves(second)
            third = await stage.apply(V3, rollout=rollout(25, 50, hold="60s", guards=[], policies=[reference]))
            await stage.until_outcome(third, "RolledBack")
        assert not lost(recording, third)
        status = stage.chronicle.status
        assert status["history"][0]["reason"] == "GuardBreached"
        assert "more-errors" in status["history"][0]["message"]
        assert {guard["name"] for guard in status["rollout"]["guards"]} == {"more-errors", "error-limit"}

        code, report = await replayed(stage, "--against=10m", "--step=5s")
        assert code == 0, "neither what served nor what was promoted would have been taken back"
        found = {guard["name"]: guard for guard in report["guards"]}
        assert f"of ClusterRolloutPolicy {stage.name}" in found["more-errors"]["source"]
        fired = {
            entry["rollout"].rpartition(": ")[2]: bool(entry["fired"]) for entry in found["more-errors"]["recorded"]
        }
        assert fired == {"Promoted": False, "RolledBack": True}, found["more-errors"]

        # The platform team deletes the policy: nothing is tried any more, what serves goes on serving.
        await stage.kube.delete("ClusterRolloutPolicy", None, stage.name)
        status = await stage.until_phase("Invalid")
        assert f"ClusterRolloutPolicy {stage.name}, which does not exist here" in status["message"]
        assert status["revisions"]["stable"] == second
        assert stage.errors() == []
