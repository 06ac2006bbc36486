"""Policies in the middle of a rollout: a changed one acts like an edited guard, one that is gone like a broken spec."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from modelrollout.api.status import Outcome, Phase, Verdict
from modelrollout.ports import Answer
from tests.builders import ERRORS, NAME, NAMESPACE, Manifest
from tests.simulation.simulation import Simulation
from tests.simulation.test_stories import LONG, V1, V2, V3, story

NAMED = {"policies": [{"kind": "ClusterRolloutPolicy", "name": "house"}], "unguarded": False, "guards": ()}


def put(run: Simulation, most: float, *, kind: str = "ClusterRolloutPolicy", name: str = "house", **more: Any) -> None:
    namespace = "" if kind == "ClusterRolloutPolicy" else NAMESPACE
    body: Manifest = {"apiVersion": "modelrollout.io/v1alpha1", "kind": kind}
    body["metadata"] = {"name": name, "namespace": namespace, "labels": more.pop("labels", {})}
    run.store.write({**body, "spec": {"guards": [{**ERRORS, "max": most}], **more}})


async def served_by_policy(run: Simulation) -> None:
    put(run, 0.05)
    run.apply("1.0.0", steps=LONG, **NAMED)
    await run.settle()
    run.behave("2.0.0", errors=0.03)
    run.apply("2.0.0", steps=LONG, **NAMED)
    await run.until(run.at(Phase.PROGRESSING, step=2))


def test_guards_of_a_policy_let_a_good_one_pass() -> None:
    async def tell(run: Simulation) -> None:
        await served_by_policy(run)
        end = await run.settle()
        assert (end.stable, end.quarantined) == (V2, ())
        assert run.status.rollout is not None
        assert [guard.name for guard in run.status.rollout.guards] == ["errors"]

    story(tell)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_policy_that_gets_stricter_in_the_middle_takes_the_candidate_back(restarted: bool) -> None:
    async def tell(run: Simulation) -> None:
        await served_by_policy(run)
        if restarted:
            await run.restart()
        put(run, 0.01)
        end = await run.settle()
        assert (end.phase, end.stable, end.quarantined) == (Phase.ROLLED_BACK, V1, (V2,))

    story(tell)


@pytest.mark.parametrize("before", [{"onBreach": "Warn"}, {"onBreach": "Pause"}])
def test_what_broke_the_old_bound_is_not_taken_back_by_the_new_one(before: Manifest) -> None:
    """One edit gives a guard that is in breach a bound that the candidate keeps, and the right to take it back."""

    async def tell(run: Simulation) -> None:
        await served_by_policy(run)
        policy = run.store.get("ClusterRolloutPolicy", "house")
        assert policy is not None
        run.store.write({**policy, "spec": {"guards": [{**ERRORS, "max": 0.01, **before}]}})
        await run.advance(30)
        assert run.status.rollout is not None
        assert [guard.verdict for guard in run.status.rollout.guards] == [Verdict.BREACH]
        put(run, 0.05)
        await run.advance(30)
        assert run.status.rollout is not None
        assert [guard.verdict for guard in run.status.rollout.guards] == [Verdict.PASS]
        end = await run.settle()
        assert (end.stable, end.quarantined) == (V2, ())

    story(tell)


def test_one_that_is_selected_in_the_middle_counts_from_then_on() -> None:
    async def tell(run: Simulation) -> None:
        await served_by_policy(run)
        put(run, 0.01, kind="RolloutPolicy", name="all", selector={"matchLabels": {}})
        await run.advance(60)
        assert run.status.phase is Phase.PROGRESSING, "house is named, and what is named goes before what is selected"
        run.store.write({**_policy(run, "all"), "spec": {**_policy(run, "all")["spec"], "guards": [_other(0.01)]}})
        end = await run.settle()
        assert (end.phase, end.stable, end.quarantined) == (Phase.ROLLED_BACK, V1, (V2,))

    story(tell)


def _policy(run: Simulation, name: str) -> Manifest:
    found = run.store.get("RolloutPolicy", name)
    assert found is not None
    return found


def _other(most: float) -> Manifest:
    return {**ERRORS, "name": "others", "max": most}


def test_one_that_goes_takes_traffic_home_and_begins_anew_when_it_is_back() -> None:
    async def tell(run: Simulation) -> None:
        await served_by_policy(run)
        run.store.remove("ClusterRolloutPolicy", "house")
        end = await run.settle()
        assert (end.phase, end.stable, end.quarantined) == (Phase.INVALID, V1, ())
        assert "rollout.policies names ClusterRolloutPolicy house, which does not exist here" in run.status.message
        assert run.status.history[0].outcome is Outcome.ABORTED
        put(run, 0.05)
        end = await run.settle()
        assert (end.stable, end.quarantined) == (V2, ())

    story(tell)


SELECTED = {"selectedPolicies": True, "unguarded": False, "guards": ()}
GOLD = {"selector": {"matchLabels": {"tier": "gold"}}}


def give(run: Simulation, most: float, **spec: Any) -> None:
    """A policy of the namespace that takes ModelDeployments by their labels."""
    body: Manifest = {"apiVersion": "modelrollout.io/v1alpha1", "kind": "RolloutPolicy"}
    body["metadata"] = {"name": "gold", "namespace": NAMESPACE}
    run.store.write({**body, "spec": {"guards": [{**ERRORS, "max": most}], **GOLD, **spec}})


def label(run: Simulation, **labels: str) -> None:
    found = run.store.get("ModelDeployment", NAME)
    assert found is not None
    run.store.write({**found, "metadata": {**found["metadata"], "labels": labels}})


def test_a_rollout_that_relies_on_selectors_waits_for_a_policy_and_is_guarded_by_it() -> None:
    async def tell(run: Simulation) -> None:
        run.apply("1.0.0", steps=LONG, **SELECTED)
        end = await run.settle()
        assert end.phase == Phase.INVALID
        assert "In reach: no policy" in run.status.message
        give(run, 0.05, selector={"matchLabels": {"tier": "silver"}})
        await run.settle()
        assert "In reach: RolloutPolicy gold (tier=silver)" in run.status.message
        give(run, 0.05)
        end = await run.settle()
        assert end.phase == Phase.INVALID
        label(run, tier="gold")
        end = await run.settle()
        assert (end.phase, end.stable) == (Phase.IDLE, V1)
        run.behave("2.0.0", errors=0.1)
        run.apply("2.0.0", steps=LONG, **SELECTED)
        label(run, tier="gold")
        end = await run.settle()
        assert (end.phase, end.stable, end.quarantined) == (Phase.ROLLED_BACK, V1, (V2,))

    story(tell)


async def on_trial(run: Simulation) -> None:
    """A second version begins beside the first, guarded by the policy that their label selects."""
    give(run, 0.05)
    for version in ("1.0.0", "2.0.0"):
        run.apply(version, steps=LONG, **SELECTED)
        label(run, tier="gold")
        if version == "1.0.0":
            await run.settle()


@pytest.mark.parametrize("loss", ["policy", "selector", "label"])
@pytest.mark.parametrize("restarted", [False, True])
def test_selected_guards_that_go_in_the_middle_take_traffic_home(loss: str, restarted: bool) -> None:
    async def tell(run: Simulation) -> None:
        await on_trial(run)
        await run.until(run.at(Phase.PROGRESSING, step=2))
        if loss == "policy":
            run.store.remove("RolloutPolicy", "gold")
        elif loss == "selector":
            give(run, 0.05, selector={"matchLabels": {"tier": "silver"}})
        else:
            label(run, tier="silver")
        if restarted:
            await run.restart()
        end = await run.settle()
        assert (end.phase, end.stable, end.quarantined) == (Phase.INVALID, V1, ())
        assert "no policy gives it a guard by its labels" in run.status.message
        assert run.status.history[0].outcome is Outcome.ABORTED
        give(run, 0.05)
        label(run, tier="gold")
        end = await run.settle()
        assert (end.stable, end.quarantined) == (V2, ())

    story(tell)


def test_selected_guards_that_go_in_the_bake_hold_it_until_they_are_back() -> None:
    async def tell(run: Simulation) -> None:
        await on_trial(run)
        await run.until(run.at(Phase.BAKING))
        run.store.remove("RolloutPolicy", "gold")
        await run.advance(7200)
        assert run.status.phase == Phase.BAKING
        assert run.status.message.startswith("the bake is held: rollout.selectedPolicies is true")
        give(run, 0.05)
        end = await run.settle()
        assert (end.phase, end.stable, end.quarantined) == (Phase.IDLE, V2, ())

    story(tell)


def test_a_query_that_a_policy_corrects_is_tried_by_itself() -> None:
    """It answers many series: that shows only when it is asked, and the spec of the ModelDeployment never changes."""

    async def tell(run: Simulation) -> None:
        ask = run.metrics.query_range

        async def many(query: str, start: datetime, end: datetime, step: timedelta) -> Answer:
            answer = await ask(query, start, end, step)
            return Answer("matrix", answer.series * 2) if "many_series" in query else answer

        run.metrics.query_range = many  # type: ignore[method-assign]
        await served_by_policy(run)
        await run.settle()
        put(run, 0.05, kind="RolloutPolicy", name="all", selector={"matchLabels": {}})
        body = _policy(run, "all")
        guard = {"name": "load", "query": 'many_series{revision="$revision"}', "max": 9}
        run.store.write({**body, "spec": {**body["spec"], "guards": [guard]}})
        run.apply("3.0.0", steps=LONG, **NAMED)
        end = await run.settle()
        assert (end.phase, end.stable) == (Phase.INVALID, V2)
        assert run.status.message.endswith("(the guard is of RolloutPolicy all)")
        await run.restart()
        await run.advance(600)
        assert run.status.phase == Phase.INVALID
        guard = {**guard, "query": 'max(one_series{revision="$revision"})'}
        run.store.write({**body, "spec": {**body["spec"], "guards": [guard]}})
        end = await run.settle()
        assert (end.phase, end.stable) == (Phase.IDLE, V3)

    story(tell)


def test_a_policy_that_says_the_same_or_is_for_others_makes_no_write() -> None:
    async def tell(run: Simulation) -> None:
        await served_by_policy(run)
        await run.settle()
        count = len(run.log)
        put(run, 0.05, labels={"reviewed": "yes"})
        put(run, 0.2, labels={"reviewed": "yes"})
        put(run, 0.01, kind="RolloutPolicy", name="others", selector={"matchLabels": {"team": "others"}})
        put(run, 0.01, kind="RolloutPolicy", name="nobodys")
        await run.settle()
        assert len(run.log) == count

    story(tell)
