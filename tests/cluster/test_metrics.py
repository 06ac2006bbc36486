"""Evidence from Prometheus alone: away for three minutes, compared with stable, and asked by a policy's guards."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from deploy.demo import loans
from deploy.demo.place import Place

from tests.bench.prometheus import Mode, StubPrometheus
from tests.cluster.applicants import USUAL, applicants
from tests.cluster.conftest import Staging
from tests.cluster.observing import run
from tests.cluster.stage import Stage, lost, rollout
from tests.cluster.test_faults import condition

AWAY = {Mode.REFUSED: 60.0, Mode.HUNG: 60.0, Mode.ERROR: 30.0, Mode.EMPTY: 30.0}
"""The three minutes: how Prometheus is away, and for how many seconds."""


async def test_three_minutes_without_prometheus_change_no_weight(loans_staging: Staging, place: Place) -> None:
    with StubPrometheus(upstream=place.prometheus_here).serving() as prometheus:
        async with loans_staging(prometheus=prometheus.url) as stage:
            first = await stage.apply(loans.GOOD)
            await stage.until_serves(first)
            async with applicants(place.gateway_here, stage.hostname, rate=20) as flow:
                second = await stage.apply(loans.BETTER, rollout=rollout(25, 50, hold="12s"))
                await stage.until_weight(second, 25)
                await stage.until_phase("Progressing")
                begun = len(stage.chronicle.weights)
                for mode, seconds in AWAY.items():
                    prometheus.become(mode)
                    back = time.monotonic() + seconds  # an outage has a length: it is what is tested
                    while time.monotonic() < back:
                        assert len(stage.chronicle.weights) == begun, f"{mode}: neither a step nor a rollback"
                        await asyncio.sleep(1)
                    assert stage.chronicle.status["phase"] == "Progressing"
                    reachable = condition(stage.chronicle.status, "MetricsReachable")["status"]
                    assert (reachable == "True") == (mode is Mode.EMPTY), "nothing found is an answer, too"
                prometheus.become(Mode.GOOD)
                await stage.until_serves(second)
            assert not lost(flow.recording)
            told = [event.title for event in stage.chronicle.events]
            # More than once only where the machine was too busy for an answer in time; of some 150 looks.
            assert 1 <= told.count("MetricsUnreachable") <= 3, "not at every look"


ABSOLUTE = {"name": "errors", "sli": "error-ratio", "max": 0.1, "window": "10s", "minSamples": 50}
RELATIVE = {"name": "more-errors", "sli": "error-ratio", "relativeTo": "stable", "minSamples": 200}


def policy(stage: Stage) -> dict[str, Any]:
    """A platform team's guard for everything of one team."""
    return {
        "apiVersion": "modelrollout.io/v1alpha1",
        "kind": "ClusterRolloutPolicy",
        "metadata": {"name": stage.name},
        "spec": {"selector": {"matchLabels": {"team": stage.name}}, "guards": [RELATIVE]},
    }


async def planned(stage: Stage, body: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What ``modelrollout plan`` says of applying ``body``."""
    file = folder / "wish.json"
    file.write_text(json.dumps(body))
    program = str(Path(sys.executable).with_name("modelrollout"))
    prometheus = ["--prometheus", stage.place.prometheus_here]
    assert stage.operator is not None
    settings = ["--settings", str(stage.operator.folder / "settings.yaml")]
    place = ["-n", stage.name, "--kubeconfig", str(stage.place.kubeconfig)]
    found: dict[str, Any] = json.loads(
        await run(program, "plan", "-f", str(file), "-o", "json", *prometheus, *settings, *place)
    )[0]
    return found


async def test_a_policys_relative_guard_sees_two_points_more_errors_where_a_bound_does_not(
    loans_staging: Staging, tmp_path: Path
) -> None:
    async with loans_staging() as stage:
        await stage.kube.apply(policy(stage))
        try:
            changes: Any = {"labels": {"team": stage.name}, "rollout": rollout(50, hold="400s", guards=[ABSOLUTE])}
            first = await stage.apply(loans.GOOD, **changes)
            await stage.until_serves(first)
            async with applicants(stage.place.gateway_here, stage.hostname, rate=100) as flow:
                wish = stage.wish(loans.FAILING, **changes)
                shown = json.dumps(await planned(stage, wish, tmp_path))
                assert "more-errors" in shown, "the policy's guard is resolved"
                assert stage.name in shown, "and where it comes from"
                second = await stage.apply(loans.FAILING, **changes)
                at = await stage.until_weight(second, 50)
                await stage.until_outcome(second, "RolledBack", within=390)
                exposed = stage.chronicle.taken_off(second, at)
            assert exposed is not None
            status = stage.chronicle.status
            guards = {guard["name"]: guard for guard in status["rollout"]["guards"]}
            assert guards["more-errors"]["verdict"] == "Breach"
            assert guards["more-errors"]["confidence"] >= 0.999
            assert guards["errors"]["verdict"] == "Pass", "it is under the bound"
            assert "more-errors" in status["history"][0]["message"]
            print(f"taken back after {exposed - at:.1f} s, {flow.met(second)} requests of it")
            assert not lost(flow.recording, second)
        finally:
            await stage.kube.delete("ClusterRolloutPolicy", None, stage.name)


async def test_what_both_arms_break_holds_and_blames_nobody(loans_staging: Staging) -> None:
    async with loans_staging() as stage:
        await stage.until_serves(await stage.apply(loans.FAILING))
        async with applicants(stage.place.gateway_here, stage.hostname) as flow:
            # The first step lasts until the world has surely moved; before that the guard may pass.
            steps = [{"weight": 25, "hold": "20s"}, {"weight": 50, "hold": "4s"}]
            plan = rollout(canary={"steps": steps}, guards=[{**ABSOLUTE, "minSamples": 30}])
            candidate = await stage.apply(loans.FAILING_MORE, rollout=plan)
            await stage.until_weight(candidate, 25)
            flow.sender.world = replace(USUAL, regions=("islands", "north") * (len(USUAL) // 2))
            await stage.chronicle.until_told("WorldMoved", 120)

            def both_break(status: dict[str, Any]) -> bool:
                (guard,) = status["rollout"]["guards"]
                return (guard["verdict"], guard.get("both")) == ("Breach", True)

            await stage.chronicle.until(both_break, "the guard tells of both", 60)
            assert stage.weights_of(candidate)[-1] == 25.0, "neither on nor back"
            flow.sender.world = USUAL
            await stage.until_serves(candidate)
        assert [event.title for event in stage.chronicle.events].count("WorldMoved") == 1
        assert not lost(flow.recording, *flow.recording.revisions())
