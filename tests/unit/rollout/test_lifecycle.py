"""The way of an attempt that nothing disturbs, decision by decision."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modelrollout.api.status import ModelDeploymentStatus, Outcome, Phase, Verdict
from modelrollout.rollout.observed import Backend, Gate, GateState, Observed, Probe, Route, Workload
from modelrollout.rollout.plan import ARMED, WHOLE
from modelrollout.rollout.weights import percent, share
from tests.unit.rollout.states import (
    FULL,
    TOKEN,
    A,
    B,
    after,
    condition,
    decided,
    reasons,
    seen,
    serving,
    status,
    verdicts,
    weights,
    wish,
)

PASS = Verdict.PASS


class TestFirstDeployment:
    """No strategy: straight to everything once the gates pass."""

    def test_begins_with_pods_and_no_route(self) -> None:
        plan = decided(wish("1.0.0"), ModelDeploymentStatus(), Observed(), 0)
        assert plan.status.phase is Phase.PREPARING
        assert plan.create_revision == A
        assert [(each.revision, each.replicas) for each in plan.workloads] == [(A, 2)]
        assert plan.route is None
        assert reasons(plan) == ["RolloutStarted"]

    def test_serves_everything_once_the_gateway_was_seen_to_know_it(self) -> None:
        state = decided(wish("1.0.0"), ModelDeploymentStatus(), Observed(), 0).status
        ready = Observed(
            workloads={A: Workload(A, 2, 2)},
            gates={A: Gate(A, GateState.PASSED, "", after(1))},
            evaluation=verdicts(1, Verdict.NO_DATA, revision=A),
        )
        state = decided(wish("1.0.0"), state, ready, 1).status
        assert state.phase is Phase.VERIFYING
        plan = decided(wish("1.0.0"), state, ready, 2)
        assert weights(plan) == {A: WHOLE}
        assert plan.status.phase is Phase.VERIFYING, "asked for is not in force"
        all_on_a = Route((Backend(A, WHOLE), Backend(A, 0)), {A: WHOLE}, {A: WHOLE}, TOKEN, accepted=True)
        there = replace(ready, route=all_on_a, probe=Probe(TOKEN, frozenset({A})))
        plan = decided(wish("1.0.0"), plan.status, there, 3)
        assert plan.status.phase is Phase.IDLE
        assert plan.status.revisions.stable == A
        assert plan.status.weight == 100.0

    def test_keeps_trying_when_nothing_else_can_serve(self) -> None:
        state = decided(wish("1.0.0"), ModelDeploymentStatus(), Observed(), 0).status
        stuck = Observed(workloads={A: Workload(A, 2, 0, trouble="pod x: no such image")})
        plan = decided(wish("1.0.0"), state, stuck, 301)
        assert plan.status.phase is Phase.PREPARING
        assert condition(plan, "Progressing") == "False"
        assert "no such image" in plan.status.message


class TestCanary:
    """Arming, steps, promotion, bake."""

    def test_begins_beside_the_stable_revision(self) -> None:
        only_a = Observed(workloads={A: Workload(A, 2, 2)}, route=seen(0).route)
        plan = decided(wish(), serving(), only_a, 0)
        assert plan.status.revisions.candidate == B
        assert [(each.revision, each.replicas) for each in plan.workloads] == [(A, 2), (B, 2)]
        assert weights(plan) == {A: WHOLE}

    def test_waits_for_all_pods(self) -> None:
        state = status(Phase.PREPARING)
        assert decided(wish(), state, seen(0, ready_b=1), 1).status.phase is Phase.PREPARING
        assert decided(wish(), state, seen(0, ready_b=2), 1).status.phase is Phase.VERIFYING

    def test_is_armed_before_it_gets_weight(self) -> None:
        trial = verdicts(1, Verdict.NO_DATA)
        state = status(Phase.VERIFYING)
        assert weights(decided(wish(), state, seen(0, evaluation=trial), 2)) == {A: WHOLE - ARMED, B: ARMED}
        unseen = decided(wish(), state, seen(ARMED, evaluation=trial, probed=False), 2)
        assert weights(unseen) == {A: WHOLE - ARMED, B: ARMED}, "not before the data plane answered with it"
        assert unseen.probe is not None
        assert unseen.probe.revisions == {B}
        armed = decided(wish(), state, seen(ARMED, evaluation=trial), 2)
        assert weights(armed) == {A: WHOLE - share(10), B: share(10)}
        assert armed.status.rollout is not None
        assert armed.status.rollout.step == 0, "the step begins when its weight is in force"

    def test_a_step_begins_when_its_weight_is_confirmed(self) -> None:
        state = status(Phase.VERIFYING)
        trial = verdicts(1, Verdict.NO_DATA)
        pending = replace(seen(share(10), evaluation=trial), route=replace(seen(share(10)).route, accepted=False))
        assert decided(wish(), state, pending, 3).status.phase is Phase.VERIFYING
        plan = decided(wish(), state, seen(share(10), evaluation=trial), 3)
        assert plan.status.phase is Phase.PROGRESSING
        assert plan.status.rollout is not None
        assert (plan.status.rollout.step_of, plan.status.rollout.weight) == ("1/3", 10.0)
        assert plan.status.rollout.traffic_started_at == after(3)

    def test_the_next_step_needs_the_hold_and_a_fresh_pass(self) -> None:
        state = status(Phase.PROGRESSING, step=1, weight=10.0, since=0)
        early = decided(wish(), state, seen(share(10), evaluation=verdicts(28, PASS)), 29)
        assert weights(early)[B] == share(10)
        stale = decided(wish(), state, seen(share(10), evaluation=verdicts(5, PASS)), 60)
        assert weights(stale)[B] == share(10)
        due = decided(wish(), state, seen(share(10), evaluation=verdicts(30, PASS)), 31)
        assert weights(due)[B] == share(25)
        assert due.status == decided(wish(), state, seen(share(10), evaluation=verdicts(30, PASS)), 31).status

    def test_a_pass_from_before_the_step_is_no_pass_of_the_step(self) -> None:
        state = status(Phase.PROGRESSING, step=2, weight=25.0, since=100)
        plan = decided(wish(), state, seen(share(25), evaluation=verdicts(99, PASS)), 131)
        assert weights(plan)[B] == share(25)

    def test_a_step_that_was_written_is_confirmed_even_if_the_guards_fall_silent(self) -> None:
        state = status(Phase.PROGRESSING, step=1, weight=10.0, since=0)
        plan = decided(wish(), state, seen(share(25), evaluation=verdicts(31, Verdict.NO_DATA)), 32)
        assert plan.status.rollout is not None
        assert plan.status.rollout.step == 2

    def test_promotion_keeps_the_last_good_armed_and_warm(self) -> None:
        state = status(Phase.PROGRESSING, step=3, weight=50.0, since=0)
        assert weights(decided(wish(), state, seen(share(50), evaluation=verdicts(30, PASS)), 31))[B] == FULL
        plan = decided(wish(), state, seen(FULL, evaluation=verdicts(30, PASS)), 32)
        assert plan.status.phase is Phase.BAKING
        assert (plan.status.revisions.stable, plan.status.revisions.last_good) == (B, A)
        assert weights(plan) == {A: ARMED, B: FULL}
        assert {each.revision for each in plan.workloads} == {A, B}
        assert reasons(plan) == ["Promoted"]

    def test_after_the_bake_the_last_good_loses_its_place_and_then_its_pods(self) -> None:
        state = status(Phase.BAKING)
        passing = verdicts(61, PASS)
        last = decided(wish(), state, seen(FULL, evaluation=passing), 62)
        assert weights(last) == {B: WHOLE}
        assert last.retire == ()
        off = replace(
            seen(0, evaluation=passing),
            route=Route((Backend(B, 0), Backend(B, WHOLE)), {B: WHOLE}, {B: WHOLE}, TOKEN, accepted=True),
        )
        done = decided(wish(), state, off, 63)
        assert done.status.phase is Phase.IDLE
        assert done.retire == (A,)
        assert done.status.rollout is not None
        assert done.status.rollout.outcome is Outcome.PROMOTED
        assert done.revision_status[B].outcome is Outcome.PROMOTED
        assert reasons(done) == ["RolloutCompleted"]

    def test_slots_are_for_life(self) -> None:
        plan = decided(wish(), status(Phase.BAKING), seen(FULL), 1)
        assert plan.route is not None
        assert [slot.revision for slot in plan.route.slots] == [A, B]

    def test_a_step_of_all_the_traffic_is_the_promotion(self) -> None:
        spec = wish(steps=((100, "10s"),))
        state = status(Phase.PROGRESSING, step=1, weight=100.0)
        plan = decided(spec, state, seen(FULL, evaluation=verdicts(10, PASS)), 11)
        assert plan.status.phase is Phase.BAKING

    def test_steps_edited_meanwhile_never_lower_the_weight(self) -> None:
        spec = wish(steps=((5, "10s"), (20, "10s"), (60, "10s")))
        state = status(Phase.PROGRESSING, step=2, weight=25.0)
        plan = decided(spec, state, seen(share(25), evaluation=verdicts(40, PASS)), 41)
        assert weights(plan)[B] == share(60)

    def test_steps_edited_below_what_users_have_ask_a_person(self) -> None:
        spec = wish(steps=((5, "10s"), (10, "10s")))
        state = status(Phase.PROGRESSING, step=2, weight=25.0)
        plan = decided(spec, state, seen(share(25), evaluation=verdicts(40, PASS)), 41)
        assert plan.status.phase is Phase.AWAITING_APPROVAL
        assert weights(plan)[B] == share(25)
        back = decided(wish(), plan.status, seen(share(25), evaluation=verdicts(50, PASS)), 51)
        assert weights(back)[B] == share(50), "the steps as they were let it go on"

    def test_without_guards_time_alone_moves_it(self) -> None:
        state = status(Phase.PROGRESSING, step=1, weight=10.0)
        plan = decided(wish(guards=()), state, seen(share(10)), 31)
        assert weights(plan)[B] == share(25)
        assert plan.evaluate is None

    def test_paused_freezes_steps_and_not_guards(self) -> None:
        spec = wish(paused=True)
        state = status(Phase.PROGRESSING, step=1, weight=10.0)
        held = decided(spec, state, seen(share(10), evaluation=verdicts(40, PASS)), 41)
        assert weights(held)[B] == share(10)
        assert "paused" in held.status.message
        broken = decided(spec, state, seen(share(10), evaluation=verdicts(40, Verdict.BREACH)), 41)
        assert broken.status.phase is Phase.ROLLING_BACK


def test_at_rest_there_is_nothing_to_write() -> None:
    state = decided(wish("1.0.0"), serving(), seen(0), 5).status
    plan = decided(wish("1.0.0"), state, seen(0), 3600)
    assert plan.status == state
    assert plan.events == ()
    assert plan.requeue_after is None


@pytest.mark.parametrize(("given", "ppm", "told"), [(1, 10_000, 1.0), (50, 500_000, 50.0), (100, FULL, 100.0)])
def test_shares(given: float, ppm: int, told: float) -> None:
    assert share(given) == ppm
    assert percent(ppm) == told
    assert percent(ARMED) == 0.0
