"""Decisions in bad company: foreign objects, statuses and annotations written by hand, pods that died on both sides."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from modelrollout.api.reasons import ConditionType, EventReason
from modelrollout.api.status import ModelDeploymentStatus, Phase, status_from, status_to_dict
from modelrollout.controller.measurements import Record
from modelrollout.rollout.decide import decide
from modelrollout.rollout.observed import Backend, Observed, Route, Workload
from modelrollout.rollout.plan import WHOLE, Plan
from tests.builders import START, modeldeployment, name_of

ONE, TWO = name_of("1.0.0"), name_of("2.0.0")
LATER = START + timedelta(seconds=1)
QUARTER = WHOLE // 4


def pods(revision: str, ready: int = 2, **changes: Any) -> Workload:
    return Workload(revision, desired=2, ready=ready, progressed_at=START, **changes)


def route(first: str, second: str, weight: int) -> Route:
    """``second`` has ``weight``, ``first`` the rest, accepted."""
    weights = {first: WHOLE - weight, second: weight}
    return Route((Backend(first, WHOLE - weight), Backend(second, weight)), weights, weights, "token", accepted=True)


def at_rest(**changes: Any) -> ModelDeploymentStatus:
    content = {
        "observedGeneration": 1,
        "phase": "Idle",
        "revisions": {"desired": ONE, "stable": ONE},
        "traffic": [{"revision": ONE, "slot": 0, "weight": 100}],
        **changes,
    }
    return status_from(content)


def canary(**rollout: Any) -> ModelDeploymentStatus:
    """The candidate has a quarter of the traffic."""
    moment = "2026-01-01T00:00:00.000000Z"
    attempt = {
        "attempt": 2,
        "revision": TWO,
        "version": "2.0.0",
        "step": 1,
        "steps": 2,
        "weight": 25,
        "startedAt": moment,
        "stepStartedAt": moment,
        "trafficStartedAt": moment,
        **rollout,
    }
    return status_from(
        {
            "observedGeneration": 1,
            "phase": "Progressing",
            "revisions": {"desired": TWO, "stable": ONE, "candidate": TWO},
            "traffic": [
                {"revision": ONE, "slot": 0, "weight": 75},
                {"revision": TWO, "slot": 1, "weight": 25},
            ],
            "rollout": attempt,
        }
    )


def observed(*workloads: Workload, route: Route, **changes: Any) -> Observed:
    known = {workload.revision: workload for workload in workloads}
    return Observed(workloads=known, route=route, records=tuple(known), **changes)


def weight_of(plan: Plan, revision: str) -> int | None:
    return None if plan.route is None else sum(s.weight for s in plan.route.slots if s.revision == revision)


def test_pods_behind_a_service_of_somebody_else_are_never_verified() -> None:
    status = at_rest(phase="Preparing", revisions={"desired": TWO, "stable": ONE, "candidate": TWO}, **_attempt())
    seen = observed(
        pods(ONE),
        pods(TWO, addressed=False),
        route=route(ONE, ONE, 0),
        foreign=f"Service demo/{TWO} exists and has no owner, so it is not ours",
    )
    wish = modeldeployment("2.0.0")
    plan = decide(wish, status, seen, LATER)
    assert plan.status.phase is Phase.PREPARING
    assert "not ours" in plan.status.message
    told = [event for event in plan.events if event.reason is EventReason.FOREIGN_OBJECT]
    assert [(event.warning, event.message) for event in told] == [(True, seen.foreign)]
    again = decide(wish, plan.status, seen, LATER)
    assert (again.status, again.events) == (plan.status, ())
    freed = replace(seen, foreign=None, workloads={ONE: pods(ONE), TWO: pods(TWO)})
    assert decide(wish, plan.status, freed, LATER).status.phase is Phase.VERIFYING


def test_a_missing_permission_is_an_event() -> None:
    seen = observed(pods(ONE), route=route(ONE, ONE, 0), denied="cannot patch services")
    plan = decide(modeldeployment("1.0.0"), at_rest(), seen, LATER)
    assert [event.reason for event in plan.events] == [EventReason.PERMISSION_DENIED]
    assert plan.status.message == f"cannot patch services; {ONE} serves all traffic"


@pytest.mark.parametrize("command", ["retry/1\n", "retry/" + "9" * 100_000, "retry/1\u0007"])
def test_a_command_acts_once_however_it_is_written(command: str) -> None:
    wish = modeldeployment("2.0.0", command=command)
    status = at_rest(phase="RolledBack", revisions={"desired": TWO, "stable": ONE}, quarantined=[TWO])
    seen = observed(pods(ONE), route=route(ONE, ONE, 0))
    stored = status_from(status_to_dict(decide(wish, status, seen, LATER).status))
    assert stored.phase is Phase.PREPARING
    quarantined_again = stored.model_copy(update={"phase": Phase.ROLLED_BACK, "quarantined": (TWO,)})
    plan = decide(wish, quarantined_again, seen, LATER)
    assert plan.status.phase is Phase.ROLLED_BACK
    assert EventReason.COMMAND_ACCEPTED not in [event.reason for event in plan.events]


def test_a_text_that_is_cut_on_the_way_is_written_once() -> None:
    seen = observed(pods(ONE), route=route(ONE, ONE, 0), problem="x" * 5000)
    wish = modeldeployment("1.0.0")
    stored = status_from(status_to_dict(decide(wish, at_rest(), seen, LATER).status))
    assert decide(wish, stored, seen, LATER).status == stored


@pytest.mark.parametrize("version", ["1.0.0", "2.0.0"])
def test_a_stable_revision_that_never_was_gets_no_traffic(version: str) -> None:
    """Somebody wrote nonsense into the status: what the routes serve is what serves."""
    status = at_rest(revisions={"desired": ONE, "stable": "nonsense"})
    plan = decide(modeldeployment(version), status, observed(pods(ONE), route=route(ONE, ONE, 0)), LATER)
    assert plan.status.revisions.stable == ONE
    assert plan.route is None or weight_of(plan, ONE) == WHOLE


def test_a_stable_revision_that_never_was_gets_no_traffic_in_a_canary() -> None:
    status = canary()
    revisions = status.revisions.model_copy(update={"stable": "nonsense"})
    status = status.model_copy(update={"revisions": revisions})
    plan = decide(
        modeldeployment("2.0.0"), status, observed(pods(ONE), pods(TWO), route=route(ONE, TWO, QUARTER)), LATER
    )
    assert plan.status.revisions.stable == ONE
    assert weight_of(plan, "nonsense") in (None, 0)


def test_a_stable_revision_without_its_deployment_stays_stable() -> None:
    """Its record is there, so its pods come back; the candidate that has users must not become stable by it."""
    seen = replace(observed(pods(TWO), route=route(ONE, TWO, QUARTER)), records=(ONE, TWO))
    assert decide(modeldeployment("2.0.0"), canary(), seen, LATER).status.revisions.stable == ONE


@pytest.mark.parametrize("candidate_ready", [0, 2])
def test_a_rollback_gives_no_users_to_a_stable_revision_without_pods(candidate_ready: int) -> None:
    wish = modeldeployment("2.0.0", command="abort/1")
    seen = observed(pods(ONE, ready=0), pods(TWO, ready=candidate_ready), route=route(ONE, TWO, QUARTER))
    plan = decide(wish, canary(), seen, LATER)
    assert plan.status.phase is Phase.ROLLING_BACK
    assert plan.route is None
    assert f"{ONE} has no ready pods" in plan.status.message or "frozen" in plan.status.message
    back = decide(wish, plan.status, replace(seen, workloads={ONE: pods(ONE, 1), TWO: pods(TWO)}), LATER)
    assert weight_of(back, TWO) == 1


@pytest.mark.parametrize("status", [at_rest(), canary()], ids=["at rest", "in a canary"])
def test_the_line_says_that_users_get_no_answers(status: ModelDeploymentStatus) -> None:
    version = "1.0.0" if status.phase is Phase.IDLE else "2.0.0"
    home = pods(ONE, ready=0, trouble="pod digits-0: container triton failed (exit code 137)")
    shown = route(ONE, ONE, 0) if status.phase is Phase.IDLE else route(ONE, TWO, QUARTER)
    plan = decide(modeldeployment(version), status, observed(home, pods(TWO), route=shown), LATER)
    assert plan.status.message.startswith(f"{ONE} has no ready pods (pod digits-0: container triton failed")
    assert "serves all traffic" not in plan.status.message
    ready = {condition.type: condition for condition in plan.status.conditions}[ConditionType.READY]
    assert ready.status == "False"


def _attempt() -> dict[str, Any]:
    moment = "2026-01-01T00:00:00.000000Z"
    return {"rollout": {"attempt": 2, "revision": TWO, "version": "2.0.0", "startedAt": moment}}


def test_a_gateway_that_says_nothing_is_told_after_a_while_and_once() -> None:
    """Its name was changed to one that is not there: the condition of the old one must not stay as it was."""
    wish = modeldeployment("1.0.0")
    accepted = decide(wish, at_rest(), observed(pods(ONE), route=route(ONE, ONE, 0)), START).status
    silent = replace(route(ONE, ONE, 0), accepted=False)
    soon = decide(wish, accepted, observed(pods(ONE), route=silent, silent_since=START), LATER)
    assert soon.status == accepted
    assert soon.requeue_after == timedelta(seconds=4)
    late = START + timedelta(seconds=5)
    told = decide(wish, accepted, observed(pods(ONE), route=silent, silent_since=START), late)
    assert told.status.message.startswith("Gateway gateways/inference says nothing of the routes")
    assert [event.reason for event in told.events] == [EventReason.ROUTE_UNANSWERED]
    state = {condition.type: condition.status for condition in told.status.conditions}
    assert (state[ConditionType.ROUTE_ACCEPTED], told.requeue_after) == ("False", None)
    again = decide(wish, told.status, observed(pods(ONE), route=silent, silent_since=START), late + timedelta(hours=1))
    assert (again.status, again.events) == (told.status, ())
    back = decide(wish, told.status, observed(pods(ONE), route=route(ONE, ONE, 0)), late)
    assert back.status.message == f"{ONE} serves all traffic"


def test_silence_is_counted_from_the_last_change_of_the_routes() -> None:
    record = Record()
    silent = replace(route(ONE, ONE, 0), accepted=False)
    assert record.silent_since(silent, START) == START
    assert record.silent_since(silent, LATER) == START
    assert record.silent_since(replace(silent, token="another"), LATER) == LATER
    assert record.silent_since(route(ONE, ONE, 0), LATER) is None
    assert record.silent_since(replace(silent, rejection="no"), LATER) is None
    assert record.silent_since(Route(), LATER) is None
