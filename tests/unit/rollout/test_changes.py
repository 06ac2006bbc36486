"""What changes under an attempt: the spec, the pods, the routes, the permissions, the status itself."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modelrollout.api.status import ModelDeploymentStatus, Outcome, Phase, Verdict
from modelrollout.rollout.observed import GateState, Observed, Route, Workload
from modelrollout.rollout.plan import ARMED, WHOLE
from modelrollout.rollout.weights import share
from tests.unit.rollout.states import (
    FULL,
    A,
    B,
    C,
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

WITH_TRAFFIC = {
    "progressing": (status(Phase.PROGRESSING, step=1, weight=10.0), share(10)),
    "awaiting": (status(Phase.AWAITING_APPROVAL, step=1, weight=10.0, reason="NoData"), share(10)),
    "promoting": (status(Phase.PROMOTING, step=3, weight=50.0), FULL),
    "baking": (status(Phase.BAKING), FULL),
}


@pytest.mark.parametrize(("state", "weight"), WITH_TRAFFIC.values(), ids=WITH_TRAFFIC.keys())
@pytest.mark.parametrize(("asked", "outcome"), [("1.2.0", Outcome.SUPERSEDED), ("1.0.0", Outcome.ABORTED)])
def test_another_spec_takes_the_traffic_home_in_one_write(
    state: ModelDeploymentStatus, weight: int, asked: str, outcome: Outcome
) -> None:
    plan = decided(wish(asked), state, seen(weight, evaluation=verdicts(1, Verdict.PASS)), 2)
    assert plan.status.phase is Phase.ROLLING_BACK
    assert weights(plan) == {A: FULL, B: ARMED}
    disarmed = decided(wish(asked), plan.status, seen(ARMED), 9)
    assert weights(disarmed) == {A: WHOLE}
    ended = decided(wish(asked), plan.status, seen(0), 10)
    assert ended.status.phase is Phase.IDLE
    assert ended.status.history[0].outcome is outcome
    assert ended.status.history[0].version == "1.1.0"
    assert ended.status.quarantined == (), "nobody found it bad"
    after_that = decided(wish(asked), ended.status, seen(0), 11)
    if asked == "1.0.0":
        assert after_that.status.phase is Phase.IDLE
    else:
        assert after_that.status.phase is Phase.PREPARING
        assert after_that.status.revisions.candidate == C


@pytest.mark.parametrize("phase", [Phase.PREPARING, Phase.VERIFYING, Phase.ARMING])
def test_another_spec_before_any_traffic_ends_the_attempt_at_once(phase: Phase) -> None:
    plan = decided(wish("1.2.0"), status(phase), seen(0, gate=GateState.RUNNING), 2)
    assert plan.status.phase is Phase.IDLE
    assert plan.retire == (B,)
    assert plan.requeue_after is not None


def test_a_rollback_that_is_overtaken_is_finished_first() -> None:
    state = status(Phase.ROLLING_BACK, reason="GuardBreached", message="errors")
    plan = decided(wish("1.2.0"), state, seen(share(25)), 0.2)
    assert weights(plan) == {A: FULL, B: ARMED}
    ended = decided(wish("1.2.0"), state, seen(0), 5)
    assert ended.status.quarantined == (B,)


class TestPods:
    """Traffic never goes to pods that cannot take it, in either direction."""

    def test_a_candidate_that_loses_its_pods_loses_its_traffic(self) -> None:
        state = status(Phase.PROGRESSING, step=2, weight=25.0)
        plan = decided(wish(), state, seen(share(25), ready_b=0), 5)
        assert plan.status.phase is Phase.PREPARING
        assert weights(plan) == {A: FULL, B: ARMED}
        assert plan.status.rollout is not None
        assert (plan.status.rollout.setbacks, plan.status.rollout.step) == (1, 0)
        assert reasons(plan) == ["CandidateUnavailable"]

    def test_the_third_time_it_is_taken_back(self) -> None:
        state = status(Phase.PROGRESSING, step=2, weight=25.0, setbacks=2)
        plan = decided(wish(), state, seen(share(25), ready_b=0), 5)
        assert plan.status.phase is Phase.ROLLING_BACK

    def test_it_gets_no_more_weight_than_its_pods_can_take(self) -> None:
        spec = wish(replicas=4)
        state = status(Phase.PROGRESSING, step=2, weight=25.0)
        plan = decided(spec, state, seen(share(25), ready_b=1, evaluation=verdicts(31, Verdict.PASS)), 32)
        assert weights(plan)[B] == share(25)
        assert "held" in plan.status.message

    def test_home_without_pods_gets_them_before_the_traffic(self) -> None:
        state = status(Phase.ROLLING_BACK, reason="GuardBreached", message="errors")
        waiting = decided(wish(), state, seen(FULL, ready_a=0, route=replace(seen(FULL).route, accepted=True)), 1)
        assert waiting.route is None or weights(waiting)[B] == FULL
        assert {each.revision for each in waiting.workloads} == {A, B}
        assert condition(waiting, "Progressing") == "False"
        shifted = decided(wish(), state, seen(FULL, ready_a=1), 2)
        assert weights(shifted) == {A: FULL, B: ARMED}

    def test_with_no_pods_anywhere_it_freezes(self) -> None:
        state = status(Phase.ROLLING_BACK, reason="GuardBreached", message="errors")
        plan = decided(wish(), state, seen(FULL, ready_a=0, ready_b=0), 1)
        assert "frozen" in plan.status.message

    def test_no_progress_for_the_deadline_ends_the_attempt(self) -> None:
        stuck = replace(
            seen(0, ready_b=0), workloads={A: Workload(A, 2, 2), B: Workload(B, 2, 0, trouble="no such image")}
        )
        assert decided(wish(), status(Phase.PREPARING), stuck, 299).status.phase is Phase.PREPARING
        plan = decided(wish(), status(Phase.PREPARING), stuck, 301)
        assert plan.status.phase is Phase.ROLLED_BACK
        assert "no such image" in plan.status.history[0].message
        assert plan.status.history[0].reason == "ProgressDeadlineExceeded"

    def test_gates_that_never_pass_end_the_attempt(self) -> None:
        observed = seen(0, gate=GateState.FAILED)
        assert decided(wish(), status(Phase.VERIFYING), observed, 299).status.phase is Phase.VERIFYING
        plan = decided(wish(), status(Phase.VERIFYING), observed, 301)
        assert plan.status.phase is Phase.ROLLED_BACK
        assert plan.status.history[0].reason == "GatesFailed"

    def test_pods_go_only_when_the_route_without_them_is_in_force(self) -> None:
        left_over = replace(seen(0), route=replace(seen(0).route, accepted=False))
        assert decided(wish("1.0.0"), serving(), left_over, 1).retire == ()
        assert decided(wish("1.0.0"), serving(), seen(0), 1).retire == (B,)


class TestSurroundings:
    """Specs that cannot be carried out, routes that are refused, objects that are not ours."""

    def test_an_unknown_pool_creates_nothing(self) -> None:
        plan = decided(wish(), ModelDeploymentStatus(), Observed(problem="there is no pool gpu"), 0)
        assert plan.status.phase is Phase.INVALID
        assert (plan.workloads, plan.route, plan.create_revision) == ((), None, None)
        assert reasons(plan) == ["SpecInvalid"]

    def test_a_spec_that_becomes_unusable_brings_users_home(self) -> None:
        state = status(Phase.PROGRESSING, step=1, weight=10.0)
        plan = decided(wish(), state, seen(share(10), problem="there is no Prometheus east"), 1)
        assert weights(plan) == {A: FULL, B: ARMED}
        ended = decided(wish(), plan.status, seen(0, problem="there is no Prometheus east"), 5)
        assert ended.status.quarantined == ()

    def test_a_refused_route_is_told_in_the_gateways_words(self) -> None:
        refused = Route(None, {}, {}, "t", accepted=False, rejection="Gateway x refuses: no listener")
        state = decided(wish("1.0.0"), ModelDeploymentStatus(), Observed(), 0).status
        observed = Observed(workloads={A: Workload(A, 2, 2)}, route=refused)
        plan = decided(wish("1.0.0"), state, observed, 1)
        assert condition(plan, "RouteAccepted") == "False"
        assert "RouteRejected" in reasons(plan)

    def test_a_foreign_object_is_named(self) -> None:
        plan = decided(wish(), status(Phase.PREPARING), seen(0, ready_b=0, foreign="Service demo/x belongs to y"), 1)
        assert condition(plan, "Progressing") == "False"
        assert "belongs to y" in plan.status.message

    def test_a_lost_status_is_read_off_the_routes(self) -> None:
        plan = decided(wish("1.0.0"), ModelDeploymentStatus(), seen(0), 1)
        assert plan.status.phase is Phase.IDLE
        assert plan.status.revisions.stable == A
        assert weights(plan) == {A: WHOLE}

    def test_the_oldest_records_go_at_rest(self) -> None:
        names = tuple(f"old-{number}" for number in range(11))
        observed = replace(seen(0), workloads={A: Workload(A, 2, 2)}, records=(*names, A))
        assert decided(wish("1.0.0"), serving(), observed, 1).prune == names[:2]
        assert decided(wish(), status(Phase.PREPARING), replace(observed, records=names), 1).prune == ()
