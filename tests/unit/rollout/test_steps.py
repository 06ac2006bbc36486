"""Decisions while users meet the candidate: hold, go on, go back, wait."""

from __future__ import annotations

import pytest

from modelrollout.api.status import Outcome, Phase, Verdict
from modelrollout.rollout.plan import ARMED, WHOLE
from tests.builders import ERRORS
from tests.unit.rollout.given import FULL, NOW, V1, V2, Given, condition, fleets, layout, reasons, seconds

NEXT = {1: 250_000, 2: 500_000, 3: FULL}


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_pass_after_the_hold_asks_for_the_next_weight(step: int) -> None:
    plan = Given().stepping(step).decide()
    assert layout(plan) == {V1: WHOLE - NEXT[step], V2: NEXT[step]}
    assert plan.status.phase is Phase.PROGRESSING


@pytest.mark.parametrize("step", [1, 2, 3])
def test_asking_for_the_next_weight_tells_nothing_yet(step: int) -> None:
    given = Given().stepping(step)
    plan = given.decide()
    assert plan.status.rollout is not None
    assert plan.status.rollout.step == step
    assert plan.status.traffic == given.status.traffic


def test_a_pass_before_the_hold_is_over_changes_nothing() -> None:
    plan = Given().stepping(1, step_started_at=NOW - seconds(10)).decide()
    assert layout(plan) == {V1: 900_000, V2: 100_000}
    assert plan.requeue_after == seconds(20)


@pytest.mark.parametrize("verdict", [Verdict.NO_DATA, Verdict.PROVIDER_DOWN])
@pytest.mark.parametrize("step", [1, 2, 3])
def test_without_evidence_the_step_is_held(step: int, verdict: Verdict) -> None:
    given = Given().stepping(step)
    before = layout(given.judged(Verdict.PASS, at=NOW - seconds(1)).stepping(step, step_started_at=NOW).decide())
    plan = given.stepping(step).judged(verdict).decide()
    assert layout(plan) == before
    assert plan.status.phase is Phase.PROGRESSING


@pytest.mark.parametrize("step", [1, 2, 3])
@pytest.mark.parametrize("held", [5, 61])
def test_a_breach_takes_the_candidate_back_at_once(step: int, held: float) -> None:
    plan = Given().stepping(step, step_started_at=NOW - seconds(held)).judged(Verdict.BREACH).decide()
    assert layout(plan) == {V1: FULL, V2: ARMED}
    assert plan.status.phase is Phase.ROLLING_BACK
    assert reasons(plan) == ["RolledBack"]


def test_a_rollback_says_value_threshold_and_samples() -> None:
    plan = Given().stepping(2).judged(Verdict.BREACH, value=0.3, samples=120.0).decide()
    for part in ("errors", "0.3", "<= 0.05", "120 samples"):
        assert part in plan.status.message


def test_one_breach_among_passes_is_enough() -> None:
    plan = Given().stepping(2).judged(Verdict.PASS, Verdict.BREACH).decide()
    assert plan.status.phase is Phase.ROLLING_BACK


def test_an_old_pass_is_no_pass() -> None:
    given = Given().stepping(1, step_started_at=NOW - seconds(300)).judged(Verdict.PASS, at=NOW - seconds(60))
    assert layout(given.decide()) == {V1: 900_000, V2: 100_000}


def test_a_pass_from_before_the_step_is_no_pass() -> None:
    given = Given(steps=((10, "0s"), (25, "30s"))).stepping(1, step_started_at=NOW - seconds(2))
    assert layout(given.judged(Verdict.PASS, at=NOW - seconds(3)).decide()) == {V1: 900_000, V2: 100_000}


def test_a_pass_of_another_attempt_is_no_pass() -> None:
    given = Given().stepping(1)
    given.having_attempt(attempt=3)
    assert layout(given.decide()) == {V1: 900_000, V2: 100_000}


def test_a_breach_from_before_the_traffic_is_no_breach() -> None:
    given = Given().stepping(1).judged(Verdict.BREACH, at=NOW - seconds(301))
    assert given.decide().status.phase is Phase.PROGRESSING


def test_a_guard_that_was_not_evaluated_holds() -> None:
    given = Given(guards=(ERRORS, {"name": "late", "sli": "latency-p99", "max": 1.0})).stepping(1)
    assert layout(given.decide()) == {V1: 900_000, V2: 100_000}


def test_hold_zero_goes_on_with_the_first_pass() -> None:
    given = Given(steps=((10, "0s"), (25, "30s"), (50, "30s"))).stepping(1, step_started_at=NOW - seconds(2))
    assert layout(given.decide()) == {V1: 750_000, V2: 250_000}


def test_no_guards_go_on_by_time() -> None:
    assert layout(Given(guards=()).stepping(1).seeing(evaluation=None).decide()) == {V1: 750_000, V2: 250_000}


def test_guards_that_were_removed_hold_nothing() -> None:
    given = Given(guards=()).stepping(1).judged(Verdict.PASS, at=NOW - seconds(200))
    assert layout(given.decide()) == {V1: 750_000, V2: 250_000}


@pytest.mark.parametrize(("accepted", "seen"), [(False, {V1, V2}), (True, {V1})])
def test_a_step_does_not_begin_before_the_gateway_carries_it_out(accepted: bool, seen: set[str]) -> None:
    given = Given().stepping(1).route({V1: 750_000, V2: 250_000}, accepted=accepted, seen=seen)
    plan = given.decide()
    assert plan.status.rollout is not None
    assert plan.status.rollout.step == 1
    assert layout(plan) == {V1: 750_000, V2: 250_000}


def test_a_step_begins_when_it_is_in_force() -> None:
    plan = Given().stepping(1).route({V1: 750_000, V2: 250_000}).decide()
    rollout = plan.status.rollout
    assert rollout is not None
    assert (rollout.step, rollout.step_of, rollout.weight, rollout.step_started_at) == (2, "2/3", 25.0, NOW)
    assert [entry.weight for entry in plan.status.traffic] == [75.0, 25.0]


def test_all_weight_in_force_promotes() -> None:
    plan = Given().stepping(3).route({V1: ARMED, V2: FULL}).decide()
    assert plan.status.phase is Phase.BAKING
    assert (plan.status.revisions.stable, plan.status.revisions.last_good) == (V2, V1)
    assert fleets(plan) == {V1: 2, V2: 2}
    assert reasons(plan) == ["Promoted"]


def test_a_step_of_100_percent_is_still_a_step() -> None:
    given = Given(steps=((10, "30s"), (100, "30s"))).stepping(1).route({V1: ARMED, V2: FULL})
    plan = given.decide()
    assert plan.status.phase is Phase.PROGRESSING
    assert plan.status.rollout is not None
    assert (plan.status.rollout.step, plan.status.rollout.weight) == (2, 100.0)


def test_after_a_step_of_100_percent_comes_the_promotion() -> None:
    given = Given(steps=((10, "30s"), (100, "30s"))).stepping(2).having_attempt(weight=100.0)
    assert given.route({V1: ARMED, V2: FULL}).decide().status.phase is Phase.BAKING


def test_steps_edited_in_flight_count_by_weight() -> None:
    given = Given(steps=((5, "30s"), (20, "30s"), (40, "30s"), (60, "30s"))).stepping(2)
    assert layout(given.decide()) == {V1: 600_000, V2: 400_000}


def test_steps_that_end_below_what_users_have_ask_a_person() -> None:
    plan = Given(steps=((10, "30s"),)).stepping(2).decide()
    assert plan.status.phase is Phase.AWAITING_APPROVAL
    assert layout(plan) == {V1: 750_000, V2: 250_000}


def test_too_few_pods_for_the_next_weight_hold() -> None:
    given = Given(replicas=4).stepping(3).pods(V2, 3, 4)
    plan = given.decide()
    assert layout(plan) == {V1: 500_000, V2: 500_000}
    assert "3 ready pods of 4" in plan.status.message


def test_pods_enough_for_the_weight_do() -> None:
    assert layout(Given(replicas=4).stepping(1).pods(V2, 1, 4).decide()) == {V1: 750_000, V2: 250_000}


def test_paused_freezes_the_step() -> None:
    plan = Given(paused=True).stepping(1).decide()
    assert layout(plan) == {V1: 900_000, V2: 100_000}
    assert "paused" in plan.status.message


def test_paused_does_not_freeze_the_guards() -> None:
    plan = Given(paused=True).stepping(1).judged(Verdict.BREACH).decide()
    assert plan.status.phase is Phase.ROLLING_BACK


def test_paused_goes_on_evaluating() -> None:
    assert Given(paused=True).stepping(1).decide().evaluate is not None


def test_a_warning_goes_on_and_is_told() -> None:
    plan = Given(guards=({**ERRORS, "onBreach": "Warn"},)).stepping(1).judged(Verdict.BREACH).decide()
    assert layout(plan) == {V1: 750_000, V2: 250_000}
    assert condition(plan, "GuardsPassing").status == "False"


@pytest.mark.parametrize(("verdict", "goes_on"), [(Verdict.NO_DATA, True), (Verdict.PROVIDER_DOWN, False)])
def test_a_guard_that_only_warns_holds_nothing_by_its_silence(verdict: Verdict, goes_on: bool) -> None:
    plan = Given(guards=({**ERRORS, "onBreach": "Warn"},)).stepping(1).judged(verdict, value=None).decide()
    assert (layout(plan) == {V1: 750_000, V2: 250_000}) is goes_on


def test_a_breach_that_asks_for_a_pause_waits_for_a_person() -> None:
    plan = Given(guards=({**ERRORS, "onBreach": "Pause"},)).stepping(1).judged(Verdict.BREACH).decide()
    assert plan.status.phase is Phase.AWAITING_APPROVAL
    assert layout(plan) == {V1: 900_000, V2: 100_000}
    assert reasons(plan) == ["AwaitingApproval"]


def test_a_pause_of_a_guard_does_not_end_by_itself() -> None:
    given = Given(guards=({**ERRORS, "onBreach": "Pause"},)).stepping(1).judged(Verdict.BREACH)
    plan = given.after(given.decide()).judged(Verdict.PASS).decide()
    assert plan.status.phase is Phase.AWAITING_APPROVAL


def test_no_data_is_a_line_in_the_status_and_then_asks_a_person() -> None:
    given = Given().stepping(1).judged(Verdict.NO_DATA)
    held = given.decide()
    assert held.status.rollout is not None
    assert held.status.rollout.waiting_since == NOW
    assert reasons(held) == ["StepHeld"]
    later = given.after(held).at(181).judged(Verdict.NO_DATA).decide()
    assert later.status.phase is Phase.AWAITING_APPROVAL


def test_data_that_come_back_end_the_waiting() -> None:
    given = Given().stepping(1, waiting_since=NOW - seconds(200), reason="NoData")
    given.having(phase=Phase.AWAITING_APPROVAL)
    plan = given.decide()
    assert layout(plan) == {V1: 750_000, V2: 250_000}


def test_a_provider_that_is_down_spends_no_budget() -> None:
    given = Given().stepping(1, waiting_since=NOW - seconds(170)).judged(Verdict.PROVIDER_DOWN)
    plan = given.decide()
    assert plan.status.rollout is not None
    assert plan.status.rollout.waiting_since is None
    assert given.after(plan).at(10_000).judged(Verdict.PROVIDER_DOWN).decide().status.phase is Phase.PROGRESSING


def test_a_provider_that_is_down_is_a_condition_and_an_event() -> None:
    plan = Given().stepping(1).judged(Verdict.PROVIDER_DOWN).decide()
    assert condition(plan, "MetricsReachable").status == "False"
    assert "MetricsUnreachable" in reasons(plan)


def test_a_person_is_asked_about_the_silence_that_was_seen_and_not_about_that_of_a_new_operator() -> None:
    given = Given().stepping(1).judged(Verdict.NO_DATA, value=None)
    given.after(given.decide())
    plan = given.at(1000).seeing(evaluation=None).decide()
    assert plan.status.phase is Phase.AWAITING_APPROVAL
    assert "no data for guards errors" in plan.status.message


def test_no_rollout_is_said_to_hold_when_it_is_over() -> None:
    given = Given().stepping(1).judged(Verdict.PROVIDER_DOWN)
    given.after(given.decide()).having_attempt(outcome=Outcome.ROLLED_BACK, finished_at=NOW)
    plan = given.having(phase=Phase.ROLLED_BACK, quarantined=(V2,)).route({V1: WHOLE}).decide()
    assert plan.status.phase is Phase.ROLLED_BACK
    told = condition(plan, "MetricsReachable")
    assert (told.status, "holds" in told.message) == ("False", False)
    assert "did not answer when attempt 2 ended" in told.message


def test_a_provider_that_flaps_is_told_once_in_a_while() -> None:
    given, told, kept = Given().stepping(1), [], []
    for moment in range(0, 900, 10):
        silent = moment % 20 == 0
        given.at(moment).judged(Verdict.PROVIDER_DOWN if silent else Verdict.NO_DATA, value=None)
        plan = given.decide()
        given.after(plan)
        told += [(moment, reason) for reason in reasons(plan)]
        kept = [] if plan.status.rollout is None else [each.decision for each in plan.status.rollout.decisions]
    assert [moment for moment, reason in told if reason == "MetricsUnreachable"] == [0]
    assert [moment for moment, reason in told if reason == "StepHeld"] == [10, 330, 650]
    assert kept == ["Hold"] * 3


def test_a_candidate_without_pods_loses_its_traffic() -> None:
    plan = Given().stepping(2).pods(V2, 0).decide()
    assert layout(plan) == {V1: FULL, V2: ARMED}
    assert plan.status.phase is Phase.PREPARING
    assert plan.status.rollout is not None
    assert (plan.status.rollout.setbacks, plan.status.rollout.step) == (1, 0)


def test_a_third_loss_of_all_pods_is_a_rollback() -> None:
    plan = Given().stepping(2, setbacks=2).pods(V2, 0).decide()
    assert plan.status.phase is Phase.ROLLING_BACK


def test_with_no_pods_anywhere_nothing_moves() -> None:
    plan = Given().stepping(2).pods(V2, 0).pods(V1, 0).decide()
    assert layout(plan) == {V1: 750_000, V2: 250_000}


def test_traffic_that_was_taken_off_is_not_given_back() -> None:
    """Found by the simulation: killed between the route write of a rollback and its status write."""
    plan = Given().stepping(2).route({V1: FULL, V2: ARMED}).seeing(evaluation=None).decide()
    assert plan.status.phase is Phase.ROLLING_BACK
    assert layout(plan) == {V1: FULL, V2: ARMED}


def test_traffic_that_was_taken_off_one_route_of_two_is_taken_off_the_other() -> None:
    """Found by the simulation: killed between the two route writes of a rollback."""
    plan = Given(grpc=True).stepping(2).differing({V1: FULL, V2: ARMED}, {V1: 750_000, V2: 250_000}).decide()
    assert plan.status.phase is Phase.ROLLING_BACK
    assert layout(plan) == {V1: FULL, V2: ARMED}


def test_one_route_of_two_ahead_is_followed() -> None:
    given = Given(grpc=True).stepping(1).differing({V1: 750_000, V2: 250_000}, {V1: 900_000, V2: 100_000})
    assert layout(given.decide()) == {V1: 750_000, V2: 250_000}


def test_a_route_that_somebody_deleted_is_made_again() -> None:
    from modelrollout.rollout.observed import Route

    plan = Given().stepping(2, step_started_at=NOW).seeing(route=Route()).decide()
    assert layout(plan) == {V1: 750_000, V2: 250_000}


def test_the_bake_ends_with_a_pass() -> None:
    assert layout(Given().baking().decide()) == {V2: WHOLE}


def test_the_bake_keeps_the_last_good_warm() -> None:
    plan = Given().baking(step_started_at=NOW - seconds(30)).decide()
    assert layout(plan) == {V1: ARMED, V2: FULL}
    assert fleets(plan) == {V1: 2, V2: 2}
    assert plan.retire == ()


def test_after_the_bake_the_last_good_goes() -> None:
    plan = Given().baking().route({V2: WHOLE}).decide()
    assert plan.status.phase is Phase.IDLE
    assert plan.retire == (V1,)
    assert plan.status.history[0].outcome == "Promoted"


def test_the_last_good_stays_until_the_gateway_has_taken_the_route() -> None:
    plan = Given().baking().route({V2: WHOLE}, accepted=False).decide()
    assert plan.status.phase is Phase.BAKING
    assert plan.retire == ()


def test_a_bake_of_nothing_still_settles() -> None:
    given = Given(bake="0s").baking(step_started_at=NOW - seconds(0.5))
    assert layout(given.decide()) == {V1: ARMED, V2: FULL}


def test_a_breach_in_the_bake_goes_back_to_the_last_good() -> None:
    plan = Given().baking().judged(Verdict.BREACH).decide()
    assert layout(plan) == {V1: FULL, V2: ARMED}
    assert (plan.status.revisions.stable, plan.status.revisions.last_good) == (V1, None)


def test_no_data_hold_the_bake() -> None:
    assert layout(Given().baking().judged(Verdict.NO_DATA).decide()) == {V1: ARMED, V2: FULL}


def test_pods_lost_in_the_bake_are_a_rollback() -> None:
    assert Given().baking().pods(V2, 0).decide().status.phase is Phase.ROLLING_BACK


def test_an_unusable_spec_holds_the_bake() -> None:
    plan = Given().baking().seeing(problem="spec.pool: no pool").decide()
    assert layout(plan) == {V1: ARMED, V2: FULL}
    assert condition(plan, "SpecValid").status == "False"


@pytest.mark.parametrize("step", [1, 2, 3])
def test_nothing_new_is_nothing_written(step: int) -> None:
    given = Given().stepping(step, step_started_at=NOW - seconds(5))
    given.after(given.decide())
    again = given.at(1).judged(Verdict.PASS, value=0.01).decide()
    assert again.status == given.status
    assert again.events == ()
