"""Stories of evidence: a world that moves, drift at rest, an observer that comes and goes, the record of an attempt."""

from __future__ import annotations

from typing import Any

import pytest

from modelrollout.api.modelrevision import revision_status_from
from modelrollout.api.status import ConditionStatus, Phase, Verdict
from modelrollout.render.names import observer
from modelrollout.rollout.plan import WHOLE, Source
from tests.builders import NAME, NAMESPACE, name_of
from tests.simulation.actions import CopiesDeleted, FeatureMoves, WorldMoves
from tests.simulation.gateway import observed_by
from tests.simulation.simulation import Simulation
from tests.simulation.test_stories import story
from tests.simulation.wishes import Wish

V1, V2 = name_of("1.0.0"), name_of("2.0.0")
OBSERVED = Wish("1.0.0", observed=True, guards="inputs")


def events(run: Simulation) -> list[str]:
    return [write.name for write in run.log if write.verb == "event"]


def condition(run: Simulation, kind: str) -> Any:
    return next((each for each in run.status.conditions if each.type == kind), None)


async def serving(run: Simulation, wish: Wish = OBSERVED) -> None:
    run.observer(True)
    wish.apply(run)
    await run.settle()


def test_errors_of_both_arms_hold_and_the_rest_goes_on_when_the_world_is_back() -> None:
    async def tell(run: Simulation) -> None:
        await serving(run, Wish("1.0.0"))
        Wish("2.0.0").apply(run)
        await run.until(run.at(Phase.PROGRESSING, step=2))
        await run.advance(25)
        WorldMoves(0.3).do(run)
        await run.advance(60)
        assert run.status.phase is Phase.PROGRESSING
        assert "the world moved" in run.status.message
        told = condition(run, "GuardsPassing")
        assert (told.status, told.reason) == (ConditionStatus.FALSE, "WorldMoved")
        assert events(run).count("WorldMoved") == 1
        WorldMoves(0.0).do(run)
        end = await run.settle()
        assert (end.stable, end.quarantined) == (V2, ())
        assert events(run).count("WorldMoved") == 1

    story(tell)


def test_a_world_that_stays_moved_waits_for_a_person() -> None:
    async def tell(run: Simulation) -> None:
        await serving(run, Wish("1.0.0"))
        Wish("2.0.0").apply(run)
        await run.until(run.at(Phase.PROGRESSING, step=2))
        await run.advance(25)
        WorldMoves(0.3).do(run)
        await run.until(run.at(Phase.AWAITING_APPROVAL))
        rollout = run.status.rollout
        assert rollout is not None
        assert rollout.reason == "WorldMoved"
        assert [each.decision for each in rollout.decisions][:2] == ["AwaitApproval", "Hold"]
        run.command("abort/1")
        end = await run.settle()
        assert end.stable == V1

    story(tell)


def test_a_worse_candidate_in_a_moved_world_is_held_not_blamed_until_the_world_is_back() -> None:
    async def tell(run: Simulation) -> None:
        await serving(run, Wish("1.0.0"))
        Wish("2.0.0").apply(run)
        await run.until(run.at(Phase.PROGRESSING, step=2))
        await run.advance(25)
        WorldMoves(0.3).do(run)
        await run.advance(60)
        run.behave("1.0.0", errors=0.0)
        end = await run.settle()
        assert (end.stable, end.quarantined) == (V1, (V2,))

    story(tell)


def test_inputs_that_drift_under_both_arms_hold_and_are_told() -> None:
    async def tell(run: Simulation) -> None:
        await serving(run)
        OBSERVED.but(version="2.0.0").apply(run)
        await run.until(run.at(Phase.PROGRESSING, step=1))
        FeatureMoves(0.5).do(run)
        await run.advance(90)
        assert run.status.phase is Phase.PROGRESSING
        assert [(each.subject, each.sli, each.value) for each in run.status.drift] == [
            ("feature age", "input-psi", 0.5)
        ]
        told = condition(run, "DriftDetected")
        assert told.status is ConditionStatus.TRUE
        assert "feature age" in told.message
        assert "webhook pipeline is asked for retraining" in told.message
        assert (events(run).count("DriftDetected"), events(run).count("RolledBack")) == (1, 0)
        FeatureMoves(0.02).do(run)
        end = await run.settle()
        assert end.stable == V2
        assert run.status.drift == ()
        assert events(run).count("DriftEnded") == 1

    story(tell)


def test_drift_at_rest_is_told_once_and_a_value_around_the_bound_does_not_flap() -> None:
    async def tell(run: Simulation) -> None:
        await serving(run)
        quiet = len(run.log)
        await run.advance(3600)
        assert len(run.log) == quiet
        for psi in (0.5, 0.19, 0.21, 0.17, 0.3, 0.19):
            FeatureMoves(psi).do(run)
            await run.advance(180)
            assert condition(run, "DriftDetected").status is ConditionStatus.TRUE
        assert len(run.log) == quiet + 3, "one status, one event, one call of the webhook"
        assert run.status.phase is Phase.IDLE
        assert "drift of feature age" in run.status.message
        FeatureMoves(0.1).do(run)
        await run.advance(180)
        assert condition(run, "DriftDetected").status is ConditionStatus.FALSE
        assert len(run.log) == quiet + 5
        assert run.status.message == f"{V1} serves all traffic"

    story(tell)


def test_an_outage_of_prometheus_neither_begins_nor_ends_drift() -> None:
    async def tell(run: Simulation) -> None:
        await serving(run)
        FeatureMoves(0.5).do(run)
        await run.advance(120)
        for mode in ("refused", "hung", "empty", "nan", "garbage"):
            run.metrics.become(mode)
            await run.advance(300)
            assert [each.subject for each in run.status.drift] == ["feature age"]
        quiet = len(run.log)
        run.metrics.become("ok")
        await run.advance(300)
        assert len(run.log) == quiet

    story(tell)


@pytest.mark.parametrize("grpc", [False, True])
def test_an_observer_that_comes_and_goes_costs_no_user_anything(grpc: bool) -> None:
    async def tell(run: Simulation) -> None:
        wish = OBSERVED.but(grpc=grpc)
        wish.apply(run)
        await run.settle()
        assert run.copied() == set()
        assert condition(run, "Observed").status is ConditionStatus.FALSE
        assert events(run).count("ObserverMissing") == 1
        run.observer(True)
        await run.advance(1)
        assert run.copied() == {observer(NAME)}
        for route in (route for kind in ("HTTPRoute", "GRPCRoute") for route in run.routes(kind)):
            assert observed_by(route) == [observer(NAME)]
        assert condition(run, "Observed").status is ConditionStatus.TRUE
        run.observer(False)
        await run.advance(2)
        assert run.copied() == set()
        assert run.store.get("Service", observer(NAME)) is None
        run.observer(True)
        await run.advance(1)
        assert run.copied() == {observer(NAME)}
        CopiesDeleted().do(run)
        await run.advance(1)
        assert run.copied() <= {each["metadata"]["name"] for each in run.store.every("Service")}

    story(tell)


def test_an_observer_that_goes_during_a_rollout_does_not_stall_it() -> None:
    async def tell(run: Simulation) -> None:
        await serving(run, Wish("1.0.0", observed=True))
        Wish("2.0.0", observed=True).apply(run)
        await run.until(run.at(Phase.PROGRESSING, step=2))
        run.observer(False)
        await run.advance(5)
        assert run.copied() == set()
        run.observer(True)
        end = await run.settle()
        assert end.stable == V2
        assert run.copied() == {observer(NAME)}

    story(tell)


def test_somebody_elses_service_of_that_name_keeps_copies_away_and_no_rollout() -> None:
    async def tell(run: Simulation) -> None:
        await serving(run, Wish("1.0.0"))
        foreign = {"name": observer(NAME), "namespace": NAMESPACE, "labels": {}}
        run.store.write({"apiVersion": "v1", "kind": "Service", "metadata": foreign, "spec": {"selector": {"a": "b"}}})
        Wish("2.0.0", observed=True).apply(run)
        end = await run.settle()
        assert end.stable == V2
        assert run.copied() == set()
        found = run.store.get("Service", observer(NAME))
        assert found is not None
        assert found["spec"] == {"selector": {"a": "b"}}

    story(tell)


def test_a_spec_that_cannot_be_read_keeps_no_copies_to_a_service_that_is_gone() -> None:
    async def tell(run: Simulation) -> None:
        await serving(run)
        body = run.wish()
        run.store.write({**body, "spec": {**body["spec"], "replicas": "many"}})
        await run.advance(5)
        assert "replicas" in run.status.message
        CopiesDeleted().do(run)
        await run.advance(1)
        assert run.copied() == set()

    story(tell)


def test_the_shadow_stays_the_first_mirror() -> None:
    async def tell(run: Simulation) -> None:
        wish = Wish("1.0.0", "Shadow", observed=True, then="End")
        await serving(run, wish)
        wish.but(version="2.0.0").apply(run)
        await run.until(run.at(Phase.PROGRESSING, step=1))
        (route,) = run.routes("HTTPRoute")
        filters = route["spec"]["rules"][0]["filters"]
        assert [each["requestMirror"]["backendRef"]["name"] for each in filters] == [V2, observer(NAME)]
        assert all("filters" not in rule for rule in route["spec"]["rules"][1:])
        await run.settle()

    story(tell)


def test_the_record_of_an_attempt_says_every_step_with_its_evidence() -> None:
    async def tell(run: Simulation) -> None:
        await serving(run, Wish("1.0.0"))
        Wish("2.0.0").apply(run)
        spans = []
        await run.until(run.at(Phase.PROGRESSING, step=3))
        await run.advance(1)
        question = run.process.measurements.of(run.key).running["evaluation"].identity
        spans = question.request.spans  # type: ignore[attr-defined]
        assert question.request.source is Source.WEIGHTED  # type: ignore[attr-defined]
        assert [span.share for span in spans] == [WHOLE // 10, WHOLE // 4, WHOLE // 2]
        assert [span.since for span in spans] == sorted(span.since for span in spans)
        run.behave("2.0.0", errors=0.3)
        await run.settle()
        record = revision_status_from(run.store.objects["ModelRevision", V2]["status"])
        decisions = record.attempts[0].decisions
        assert [each.decision for each in reversed(decisions)] == ["Step", "Step", "Step", "RollBack"]
        assert [each.weight for each in reversed(decisions)][:3] == [10.0, 25.0, 50.0]
        (guard,) = decisions[0].guards
        assert (guard.name, guard.verdict, guard.threshold) == ("errors", Verdict.BREACH, "<= 0.05")
        assert guard.value is not None
        assert guard.value > 0.05
        assert guard.samples

    story(tell)


def test_the_pipeline_is_called_once_when_drift_begins_and_once_a_command() -> None:
    async def tell(run: Simulation) -> None:
        await serving(run)
        FeatureMoves(0.5).do(run)
        await run.advance(600)
        (call,) = run.webhooks.calls
        assert (call["webhook"], call["revision"], call["requestedBy"]) == ("pipeline", V1, "modelrollout")
        assert call["drift"][0]["subject"] == "feature age"
        assert events(run).count("RetrainingRequested") == 1
        run.webhooks.fails = True
        run.command("retrain/1@anna")
        await run.advance(60)
        assert [each["requestedBy"] for each in run.webhooks.calls] == ["modelrollout", "anna"]
        assert events(run).count("RetrainingFailed") == 1

    story(tell)


def test_an_operator_that_dies_after_the_status_does_not_call_again() -> None:
    async def tell(run: Simulation) -> None:
        await serving(run)
        run.faults.crash_after = len(run.log) + 1
        FeatureMoves(0.5).do(run)
        await run.advance(600)
        assert run.restarts == 1
        assert [each.subject for each in run.status.drift] == ["feature age"]
        assert run.webhooks.calls == []
        run.command("retrain/1@anna")
        await run.advance(60)
        assert len(run.webhooks.calls) == 1

    story(tell)
