"""The times that ``modelrollout plan`` tells, against those that the whole controller takes for the same spec."""

from __future__ import annotations

from datetime import timedelta

import pytest

from modelrollout.api.modeldeployment import parse_modeldeployment
from modelrollout.api.status import Outcome, Phase, status_from
from modelrollout.cli.view.proposal import propose
from tests.builders import ERRORS, Manifest, manifest, name_of
from tests.simulation.simulation import Simulation
from tests.simulation.test_stories import story

ACCURACY: Manifest = {"name": "accuracy", "sli": "accuracy", "min": 0.9, "minSamples": 100, "labelDelay": "8m"}
WARM: Manifest = {**ERRORS, "warmUp": "3m"}
LABELLED: Manifest = {"percent": 25, "comparison": {}, "labels": {"window": "9m"}}
SLACK = timedelta(seconds=25)
"""A stop: the guards are asked every 5 s and may take as long to answer, a route is confirmed within seconds."""

SPECS: dict[str, Manifest] = {
    "no guard waits": {},
    "warm-up": {"guards": [WARM]},
    "labels": {"guards": [ERRORS, ACCURACY]},
    "both, the longer counts": {"guards": [{**WARM, "warmUp": "5m"}, ACCURACY]},
    "labels in one later step": {"guards": [ERRORS, {**ACCURACY, "fromStep": 2, "toStep": 2}]},
    "labels from the last step on, counted from the first traffic": {"guards": [ERRORS, {**ACCURACY, "fromStep": 3}]},
    "holds longer than any guard waits": {"steps": [(10, "9m"), (50, "1m")], "guards": [ACCURACY]},
    "who only warns holds nothing": {"guards": [ERRORS, {**ACCURACY, "onBreach": "Warn"}]},
    "pods and a pause first": {
        "steps": [{"replicas": 1, "hold": "1m"}, {"weight": 20, "hold": "10s"}, {"pause": {}}, {"weight": 50}],
        "guards": [ACCURACY],
    },
    "copies, then users: counted twice": {
        "strategy": "Shadow",
        "shadow": {"percent": 20, "hold": "20s", "then": "Canary"},
        "guards": [WARM],
    },
    "a shadow that ends": {
        "strategy": "Shadow",
        "shadow": {"percent": 20, "hold": "20s", "then": "End"},
        "guards": [WARM],
    },
    "a preview, a person, the switch": {
        "strategy": "BlueGreen",
        "blueGreen": {"prePromotion": {"source": "Preview", "hold": "20s"}, "approval": True},
        "guards": [WARM],
    },
    "a switch": {"strategy": "BlueGreen", "guards": [ACCURACY]},
    "two arms": {
        "strategy": "ABTest",
        "abTest": {"weight": 50, "hold": "30s", "decide": "Guards"},
        "guards": [ACCURACY],
    },
    "two arms and a person": {
        "strategy": "ABTest",
        "abTest": {"weight": 50, "hold": "30s", "decide": "Approval"},
        "guards": [WARM],
    },
    "nobody beside it": {"strategy": "Recreate", "guards": [WARM]},
}


@pytest.mark.parametrize("name", SPECS)
def test_plan_tells_the_times_that_the_engine_takes(name: str) -> None:
    wish = _wish("2.0.0", SPECS[name])
    plan = propose(parse_modeldeployment(wish), None)
    began, over = _played(wish)
    told = [*(planned.begins for planned in plan.way), plan.takes]
    for number, (least, took) in enumerate(zip(told, [*began, over], strict=True)):
        assert least <= took <= least + (number + 1) * SLACK, (told, began, over)
    named = {planned.waits_for.name for planned in plan.way if planned.waits_for}
    assert bool(named) == (plan.takes > sum((planned.stop.hold for planned in plan.way), timedelta(0)))


def _wish(version: str, rollout: Manifest) -> Manifest:
    body = manifest(version, **rollout)
    if ACCURACY["name"] in str(rollout.get("guards")):
        body["spec"]["observation"] = LABELLED
    return body


def _played(wish: Manifest) -> tuple[list[timedelta], timedelta]:
    """When each stop began, and when the attempt was over, counted from the first stop."""
    ended: list[Simulation] = []

    async def tell(run: Simulation) -> None:
        run.observer(True)
        run.metrics.features = {"model": 0.95}
        run.write(_wish("1.0.0", {}))
        await run.settle()
        run.write(wish)
        candidate = name_of("2.0.0")

        def over() -> bool:
            attempt = run.status.rollout
            return attempt is not None and attempt.revision == candidate and attempt.outcome is not None

        waits = run.at(Phase.AWAITING_APPROVAL)
        for word in range(3):
            await run.until(lambda: over() or waits(), 1800)
            if over():
                break
            run.command(f"promote/{word}")
            await run.until(lambda: not waits())
        await run.until(over, 1800)
        ended.append(run)

    story(tell)
    (run,) = ended
    attempt = run.status.rollout
    assert attempt is not None
    assert attempt.outcome in (Outcome.PROMOTED, Outcome.CONCLUDED), attempt.message
    assert attempt.finished_at is not None
    # The record keeps the newest decisions only; every one of them was a write.
    writes = [write.after for write in run.log if write.kind == "ModelDeployment" and write.after]
    told = [status_from(after.get("status")).rollout for after in writes]
    mine = [each for each in told if each is not None and each.revision == attempt.revision and each.step_started_at]
    begun = {(each.step, each.weight): each.step_started_at for each in reversed(mine) if each.step or each.weight}
    moments = sorted(moment for moment in begun.values() if moment is not None)
    # The bake begins with all traffic; the end of a way that promotes nothing is a stop of its own.
    moments.append(moments[-1] if attempt.outcome == Outcome.PROMOTED else attempt.finished_at)
    return [moment - moments[0] for moment in moments], attempt.finished_at - moments[0]
