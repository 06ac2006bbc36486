"""Decisions before users meet a candidate, and those that end an attempt."""

from __future__ import annotations

from copy import copy
from dataclasses import replace

import pytest

from modelrollout.api.rolloutpolicy import SliDefinition
from modelrollout.api.status import Condition, ConditionStatus, Phase, Verdict
from modelrollout.rollout.observed import GateState, Route
from modelrollout.rollout.plan import ARMED, WHOLE
from tests.builders import START
from tests.unit.rollout.given import FULL, NOW, V1, V2, V3, Given, condition, fleets, layout, reasons, seconds, slots

BEFORE = (Phase.PREPARING, Phase.VERIFYING, Phase.ARMING)


def verifying(**spec: object) -> Given:
    """Gates passed, the trial of the guards done."""
    given = Given(**spec).serving().trying(Phase.VERIFYING)  # type: ignore[arg-type]
    return given.gate(GateState.PASSED).judged(Verdict.NO_DATA)


def test_the_first_deployment_makes_pods_and_no_route() -> None:
    plan = Given("1.0.0").decide()
    assert (plan.status.phase, plan.create_revision, fleets(plan), plan.route) == (Phase.PREPARING, V1, {V1: 2}, None)


def test_the_first_deployment_gets_everything_once_its_gates_passed() -> None:
    given = Given("1.0.0").trying(Phase.VERIFYING, V1).gate(GateState.PASSED, V1).judged(Verdict.NO_DATA)
    assert layout(given.decide()) == {V1: WHOLE}


def test_the_first_deployment_is_done_when_the_gateway_answers_with_it() -> None:
    given = Given("1.0.0").trying(Phase.VERIFYING, V1).gate(GateState.PASSED, V1).judged(Verdict.NO_DATA)
    plan = given.route({V1: WHOLE}).decide()
    assert (plan.status.phase, plan.status.revisions.stable) == (Phase.IDLE, V1)
    assert reasons(plan) == ["RolloutCompleted"]


def test_another_spec_before_the_first_deployment_is_done_starts_over() -> None:
    plan = Given("2.0.0").trying(Phase.PREPARING, V1).decide()
    assert plan.status.phase is Phase.IDLE
    assert plan.status.history[0].outcome == "Superseded"


def test_another_spec_waits_for_a_first_deployment_that_users_may_be_on() -> None:
    """Found by the simulation: the second revision took all traffic from the first in one write."""
    given = Given("2.0.0").trying(Phase.VERIFYING, V1).gate(GateState.PASSED, V1).judged(Verdict.NO_DATA)
    plan = given.route({V1: WHOLE}, accepted=False).decide()
    assert plan.status.rollout is not None
    assert plan.status.rollout.outcome is None
    assert layout(plan) == {V1: WHOLE}


def test_a_new_spec_starts_an_attempt_beside_what_serves() -> None:
    plan = Given().serving().decide()
    assert (plan.status.phase, plan.status.revisions.candidate) == (Phase.PREPARING, V2)
    assert layout(plan) == {V1: WHOLE}
    assert fleets(plan) == {V1: 2, V2: 2}


def test_the_candidate_gets_the_slot_that_the_stable_leaves() -> None:
    plan = verifying().decide()
    assert [slot.revision for slot in slots(plan)] == [V1, V2]


def test_the_stable_keeps_the_second_slot() -> None:
    given = Given("3.0.0").serving(V2)
    given.having(traffic=tuple(entry.model_copy(update={"slot": 1}) for entry in given.status.traffic))
    plan = given.decide()
    assert slots(plan)[1].revision == V2


def test_all_pods_must_be_ready_before_the_gates() -> None:
    assert Given().serving().trying(Phase.PREPARING).pods(V2, 1).decide().status.phase is Phase.PREPARING


def test_ready_pods_are_verified() -> None:
    plan = Given().serving().trying(Phase.PREPARING).decide()
    assert (plan.status.phase, plan.gate) == (Phase.VERIFYING, V2)
    assert plan.evaluate is not None
    assert plan.evaluate.trial


def test_no_progress_until_the_deadline_is_a_rollback() -> None:
    given = Given().serving().trying(Phase.PREPARING, step_started_at=None).pods(V2, 0, trouble="image not found")
    plan = given.decide()
    assert plan.status.phase is Phase.ROLLED_BACK
    assert "image not found" in plan.status.history[0].message
    assert plan.status.quarantined == (V2,)


def test_progress_defers_the_deadline() -> None:
    given = Given().serving().trying(Phase.PREPARING, step_started_at=None)
    assert given.pods(V2, 0, progressed_at=NOW - seconds(200)).decide().status.phase is Phase.PREPARING


def test_without_a_stable_the_deadline_only_tells() -> None:
    given = Given("1.0.0").trying(Phase.PREPARING, V1, step_started_at=None).pods(V1, 0)
    plan = given.decide()
    assert plan.status.phase is Phase.PREPARING
    assert condition(plan, "Progressing").status == "False"


@pytest.mark.parametrize("state", [GateState.RUNNING, GateState.FAILED])
def test_gates_that_have_not_passed_keep_the_route_as_it_is(state: GateState) -> None:
    plan = verifying().gate(state, message="wrong shape").decide()
    assert plan.route is None
    assert plan.status.phase is Phase.VERIFYING


def test_gates_that_fail_until_the_deadline_are_a_rollback() -> None:
    given = verifying().gate(GateState.FAILED, message="wrong shape").having_attempt(step_started_at=NOW - seconds(301))
    plan = given.decide()
    assert plan.status.phase is Phase.ROLLED_BACK
    assert "wrong shape" in plan.status.message


def test_gates_come_first_then_the_trial_then_the_arming() -> None:
    given = verifying()
    assert given.seeing(evaluation=None).decide().route is None
    assert layout(verifying().decide()) == {V1: FULL, V2: ARMED}


def test_a_query_that_can_never_work_ends_the_attempt_before_any_weight() -> None:
    plan = verifying().judged(Verdict.NO_DATA, invalid="answers 7 series").decide()
    assert plan.status.phase is Phase.INVALID
    assert layout(plan) == {V1: WHOLE}
    assert condition(plan, "SpecValid").status == "False"
    assert "7 series" in plan.status.message


def test_a_query_that_can_never_work_is_not_tried_again_before_the_spec_changes() -> None:
    given = verifying().judged(Verdict.NO_DATA, invalid="answers 7 series")
    given.after(given.decide())
    again = given.decide()
    assert again.status == given.status
    other = Given(generation=2, guards=()).having(**dict(given.status))
    assert other.decide().status.phase is Phase.PREPARING


def test_a_query_that_can_never_work_is_tried_again_when_a_policy_changes_it() -> None:
    """The generation of the spec does not change then."""
    given = verifying().judged(Verdict.NO_DATA, invalid="answers 7 series")
    given.after(given.decide())
    rollout = given.wish.spec.rollout
    guards = tuple(guard.model_copy(update={"min_samples": 7}) for guard in rollout.guards)
    spec = given.wish.spec.model_copy(update={"rollout": rollout.model_copy(update={"guards": guards})})
    assert guards
    definition = SliDefinition(name="price", unit="eur", query="max(price)")
    other_guards, other_sli = copy(given), copy(given).seeing(definitions=(definition,))
    other_guards.wish = given.wish.model_copy(update={"spec": spec})
    for changed in (other_guards, other_sli):
        assert changed.decide().status.phase is Phase.PREPARING
    assert given.decide().status == given.status


def test_a_trial_of_guards_that_were_mended_since_refuses_nobody() -> None:
    """Its answer is the newest until the next one: it would be taken for one of the mended guards, for ever."""
    given = verifying().judged(Verdict.NO_DATA, invalid="answers 7 series")
    mended = SliDefinition(name="price", unit="eur", query="max(price)")
    plan = given.seeing(definitions=(mended,)).decide()
    assert (plan.status.phase, plan.route) == (Phase.VERIFYING, None)
    assert plan.evaluate is not None
    found = given.judged(Verdict.NO_DATA).observed.evaluation
    assert found is not None
    assert found.digest == plan.evaluate.digest
    assert layout(given.decide()) == {V1: FULL, V2: ARMED}


def test_what_was_asked_with_users_on_it_is_no_trial() -> None:
    """After a setback the newest answer is still about the traffic that the candidate had."""
    given = verifying().judged(Verdict.NO_DATA, invalid="answers 7 series")
    found = given.observed.evaluation
    assert found is not None
    plan = given.seeing(evaluation=replace(found, digest="")).decide()
    assert (plan.status.phase, plan.route) == (Phase.VERIFYING, None)


def test_why_prometheus_does_not_answer_is_told_once_for_each_spec() -> None:
    refused, slow = "Prometheus answered HTTP 401", "Prometheus did not answer within 5 s"
    given = verifying(prometheus="eu").judged(Verdict.PROVIDER_DOWN, message=refused)
    plan = given.decide()
    assert condition(plan, "MetricsReachable").message == (
        f"Prometheus eu does not answer ({refused}); the rollout holds its step until it does"
    )
    given.after(plan).at(5).judged(Verdict.PROVIDER_DOWN, message=slow)
    assert refused in condition(given.decide(), "MetricsReachable").message
    given.wish = given.wish.model_copy(update={"metadata": given.wish.metadata.model_copy(update={"generation": 9})})
    assert slow in condition(given.decide(), "MetricsReachable").message


def test_a_provider_that_is_down_delays_the_first_weight() -> None:
    plan = verifying().judged(Verdict.PROVIDER_DOWN).decide()
    assert plan.route is None
    assert condition(plan, "MetricsReachable").status == "False"


def test_paused_delays_the_first_weight() -> None:
    assert verifying(paused=True).decide().route is None


@pytest.mark.parametrize(("accepted", "seen"), [(False, {V1, V2}), (True, {V1})])
def test_an_armed_place_gets_weight_only_when_the_data_plane_knows_it(accepted: bool, seen: set[str]) -> None:
    plan = verifying().route({V1: FULL, V2: ARMED}, accepted=accepted, seen=seen).decide()
    assert layout(plan) == {V1: FULL, V2: ARMED}


def test_an_armed_place_that_is_known_gets_the_first_weight() -> None:
    assert layout(verifying().route({V1: FULL, V2: ARMED}).decide()) == {V1: 900_000, V2: 100_000}


def test_the_first_step_begins_when_its_weight_is_in_force() -> None:
    plan = verifying().route({V1: 900_000, V2: 100_000}).decide()
    assert plan.status.phase is Phase.PROGRESSING
    assert plan.status.rollout is not None
    assert (plan.status.rollout.step, plan.status.rollout.traffic_started_at) == (1, NOW)
    assert plan.evaluate is not None
    assert not plan.evaluate.trial


@pytest.mark.parametrize("hindrance", ["paused", "provider", "gate"])
def test_users_on_the_candidate_are_guarded_whatever_else_is_waited_for(hindrance: str) -> None:
    given = verifying(paused=hindrance == "paused").route({V1: 900_000, V2: 100_000})
    if hindrance == "provider":
        given.judged(Verdict.PROVIDER_DOWN)
    if hindrance == "gate":
        given.seeing(gates={})
    assert given.decide().status.phase is Phase.PROGRESSING


def test_a_gateway_that_refuses_is_told_with_its_own_words() -> None:
    plan = verifying().route({V1: FULL, V2: ARMED}, accepted=False, rejection="no such listener").decide()
    assert plan.status.phase is Phase.ARMING
    assert plan.status.message == "no such listener"
    assert reasons(plan) == ["RouteRejected"]


def test_pods_lost_while_verifying_are_waited_for_again() -> None:
    plan = verifying().pods(V2, 0).decide()
    assert plan.status.phase is Phase.PREPARING


@pytest.mark.parametrize("weight", [100_000, ARMED])
def test_after_a_setback_the_candidate_is_armed_until_that_has_settled(weight: int) -> None:
    given = Given().serving().trying(Phase.PREPARING, setbacks=1, step_started_at=NOW - seconds(0.2)).pods(V2, 0)
    assert layout(given.route({V1: WHOLE - weight, V2: weight}).decide()) == {V1: FULL, V2: ARMED}


def test_settled_after_a_setback_the_candidate_leaves_the_route() -> None:
    given = Given().serving().trying(Phase.PREPARING, setbacks=1, step_started_at=NOW - seconds(2)).pods(V2, 0)
    assert layout(given.route({V1: FULL, V2: ARMED}).decide()) == {V1: WHOLE}


@pytest.mark.parametrize("phase", BEFORE)
@pytest.mark.parametrize(("version", "outcome"), [("3.0.0", "Superseded"), ("1.0.0", "Aborted")])
def test_another_spec_before_traffic_ends_the_attempt(phase: Phase, version: str, outcome: str) -> None:
    plan = Given(version).serving().trying(phase).decide()
    assert plan.status.rollout is not None
    assert plan.status.rollout.outcome == outcome
    assert plan.status.revisions.candidate is None
    assert plan.retire == (V2,)


@pytest.mark.parametrize(("version", "reason"), [("3.0.0", "Superseded"), ("1.0.0", "Aborted")])
@pytest.mark.parametrize("phase", [Phase.PROGRESSING, Phase.AWAITING_APPROVAL, Phase.PROMOTING])
def test_another_spec_with_traffic_brings_it_home_first(phase: Phase, version: str, reason: str) -> None:
    given = Given(version).stepping(2).having(phase=phase)
    plan = given.decide()
    assert (plan.status.phase, layout(plan)) == (Phase.ROLLING_BACK, {V1: FULL, V2: ARMED})
    assert plan.status.rollout is not None
    assert plan.status.rollout.reason == reason
    assert V3 not in fleets(plan)


@pytest.mark.parametrize("version", ["3.0.0", "1.0.0"])
def test_another_spec_in_the_bake_goes_back_to_the_last_good(version: str) -> None:
    plan = Given(version).baking().decide()
    assert (plan.status.phase, layout(plan)) == (Phase.ROLLING_BACK, {V1: FULL, V2: ARMED})


def test_another_spec_in_a_rollback_does_not_disturb_it() -> None:
    plan = Given("3.0.0").rolling_back().route({V1: FULL, V2: ARMED}).decide()
    assert (plan.status.phase, layout(plan)) == (Phase.ROLLING_BACK, {V1: WHOLE})


def test_an_unusable_spec_in_an_attempt_brings_users_home() -> None:
    plan = Given().stepping(2).seeing(problem="spec.pool: no pool").decide()
    assert (plan.status.phase, layout(plan)) == (Phase.ROLLING_BACK, {V1: FULL, V2: ARMED})


def test_an_unusable_spec_at_rest_keeps_what_serves() -> None:
    plan = Given().serving().seeing(problem="spec.pool: no pool").decide()
    assert (plan.status.phase, layout(plan), fleets(plan)) == (Phase.INVALID, {V1: WHOLE}, {V1: 2})
    assert plan.create_revision is None


def test_a_rollback_is_armed_until_it_has_settled() -> None:
    plan = Given().rolling_back(ago=0.3).route({V1: FULL, V2: ARMED}).decide()
    assert layout(plan) == {V1: FULL, V2: ARMED}
    assert plan.requeue_after == seconds(0.7)


def test_a_rollback_that_has_settled_leaves_the_route() -> None:
    assert layout(Given().rolling_back().route({V1: FULL, V2: ARMED}).decide()) == {V1: WHOLE}


def test_a_rollback_ends_when_the_gateway_took_the_route() -> None:
    given = Given().rolling_back().route({V1: WHOLE}, accepted=False)
    assert given.decide().status.phase is Phase.ROLLING_BACK
    plan = given.route({V1: WHOLE}).decide()
    assert (plan.status.phase, plan.status.quarantined, plan.retire) == (Phase.ROLLED_BACK, (V2,), (V2,))


def test_a_rollback_of_two_routes_ends_only_with_both() -> None:
    """Found by the simulation: routes that differ were taken for routes that are gone."""
    plan = Given(grpc=True).rolling_back().differing({V1: FULL, V2: ARMED}, {V1: WHOLE}).decide()
    assert plan.status.phase is Phase.ROLLING_BACK
    assert plan.retire == ()


@pytest.mark.parametrize("reason", ["Superseded", "Aborted", "SpecInvalid"])
def test_who_was_not_bad_is_not_quarantined(reason: str) -> None:
    plan = Given().rolling_back(reason).route({V1: WHOLE}).decide()
    assert (plan.status.phase, plan.status.quarantined) == (Phase.IDLE, ())


@pytest.mark.parametrize(
    ("reason", "passing"),
    [("GuardBreached", "False"), ("Superseded", "True"), ("Aborted", "True"), ("SpecInvalid", "True")],
)
def test_a_breach_is_told_of_who_was_taken_back_for_it_and_of_nobody_else(reason: str, passing: str) -> None:
    breach = Condition(type="GuardsPassing", status=ConditionStatus.FALSE, reason="WorldMoved")
    plan = Given().rolling_back(reason).having(conditions=(breach,)).route({V1: WHOLE}).decide()
    assert plan.status.rollout is not None
    assert plan.status.rollout.outcome is not None
    assert condition(plan, "GuardsPassing").status == passing


def test_a_home_without_pods_gets_them_before_the_traffic() -> None:
    plan = Given().rolling_back().route({V1: 0, V2: WHOLE}).pods(V1, 0, 0).decide()
    assert plan.route is None
    assert fleets(plan) == {V1: 2, V2: 2}


def test_a_home_that_left_the_route_is_armed_before_it_gets_the_traffic() -> None:
    plan = Given().rolling_back().route({V1: 0, V2: WHOLE}).decide()
    assert layout(plan) == {V2: FULL, V1: ARMED}


def test_a_home_that_is_armed_gets_the_traffic() -> None:
    plan = Given().rolling_back().route({V1: ARMED, V2: FULL}).decide()
    assert layout(plan) == {V1: FULL, V2: ARMED}


def test_with_no_pods_anywhere_a_rollback_freezes_and_says_so() -> None:
    plan = Given().rolling_back().route({V1: ARMED, V2: FULL}).pods(V1, 0).pods(V2, 0).decide()
    assert plan.route is None
    assert "frozen" in plan.status.message
    assert condition(plan, "Progressing").status == "False"


def test_a_quarantined_revision_is_not_tried_again() -> None:
    given = Given().serving().having(quarantined=(V2,))
    plan = given.decide()
    assert (plan.status.phase, fleets(plan)) == (Phase.ROLLED_BACK, {V1: 2})
    assert "retry" in plan.status.message


def test_a_status_that_was_lost_is_read_off_the_route() -> None:
    plan = Given("1.0.0").route({V1: WHOLE}).pods(V1, 2).decide()
    assert (plan.status.phase, plan.status.revisions.stable) == (Phase.IDLE, V1)


def test_a_status_lost_in_a_canary_brings_users_home_by_way_of_the_armed_weight() -> None:
    plan = Given("1.0.0").route({V1: 750_000, V2: 250_000}).pods(V1, 2).pods(V2, 2).decide()
    assert layout(plan) == {V1: FULL, V2: ARMED}
    assert plan.retire == ()


def test_pods_are_not_retired_while_the_gateway_may_still_use_them() -> None:
    given = Given("1.0.0").serving().pods(V2, 2).route({V1: WHOLE}, accepted=False)
    assert given.decide().retire == ()
    assert given.route({V1: WHOLE}).decide().retire == (V2,)


def test_peace_is_zero_writes() -> None:
    given = Given("1.0.0").serving()
    given.after(given.decide())
    again = given.at(3600).decide()
    assert (again.status, again.events, again.requeue_after) == (given.status, (), None)


def test_a_deleted_route_at_rest_is_made_again() -> None:
    assert layout(Given("1.0.0").serving().seeing(route=Route()).decide()) == {V1: WHOLE}


def test_an_attempt_has_the_next_number() -> None:
    given = Given("3.0.0").rolling_back("Superseded").route({V1: WHOLE})
    given.after(given.decide())
    plan = given.decide()
    assert plan.status.rollout is not None
    assert (plan.status.rollout.attempt, plan.status.rollout.revision) == (3, V3)
    assert START < NOW
