"""What each verdict does, in each phase with traffic."""

from __future__ import annotations

import pytest

from modelrollout.api.status import Outcome, Phase, Verdict
from modelrollout.rollout.plan import ARMED, WHOLE
from modelrollout.rollout.weights import share
from tests.builders import DRIFT, ERRORS
from tests.unit.rollout.states import (
    FULL,
    A,
    B,
    condition,
    decided,
    reasons,
    seen,
    status,
    verdicts,
    weights,
    wish,
)

STEPPING = status(Phase.PROGRESSING, step=2, weight=25.0)


@pytest.mark.parametrize("weight", [10.0, 25.0, 50.0])
def test_a_breach_takes_the_traffic_off_in_the_same_decision(weight: float) -> None:
    state = status(Phase.PROGRESSING, step=1, weight=weight)
    plan = decided(wish(), state, seen(share(weight), evaluation=verdicts(2, Verdict.BREACH)), 3)
    assert plan.status.phase is Phase.ROLLING_BACK
    assert weights(plan) == {A: FULL, B: ARMED}
    assert reasons(plan) == ["RolledBack"]
    assert "errors is 0.5 from 100 samples, must be <= 0.05" in plan.status.message
    assert condition(plan, "GuardsPassing") == "False"


def test_a_breach_in_the_bake_goes_back_to_the_last_good() -> None:
    plan = decided(wish(), status(Phase.BAKING), seen(FULL, evaluation=verdicts(2, Verdict.BREACH)), 3)
    assert plan.status.phase is Phase.ROLLING_BACK
    assert plan.status.revisions.stable == A
    assert weights(plan) == {A: FULL, B: ARMED}


def test_a_rollback_ends_in_quarantine_after_the_settle_time() -> None:
    state = status(Phase.ROLLING_BACK, reason="GuardBreached", message="errors")
    assert weights(decided(wish(), state, seen(ARMED), 0.5)) == {A: FULL, B: ARMED}
    assert weights(decided(wish(), state, seen(ARMED), 2)) == {A: WHOLE}
    plan = decided(wish(), state, seen(0), 3)
    assert plan.status.phase is Phase.ROLLED_BACK
    assert plan.status.quarantined == (B,)
    assert plan.retire == (B,)
    assert plan.revision_status[B].outcome is Outcome.ROLLED_BACK
    later = decided(wish(), plan.status, seen(0), 9999)
    assert later.status.phase is Phase.ROLLED_BACK, "the same spec is not tried again"
    assert weights(later) == {A: WHOLE}


def test_a_breach_from_before_the_traffic_is_nobodys() -> None:
    state = status(Phase.PROGRESSING, step=1, weight=10.0).model_copy(deep=True)
    assert state.rollout is not None
    late = state.model_copy(
        update={"rollout": state.rollout.model_copy(update={"traffic_started_at": state.rollout.started_at})}
    )
    plan = decided(wish(), late, seen(share(10), evaluation=verdicts(-5, Verdict.BREACH)), 3)
    assert plan.status.phase is Phase.PROGRESSING


def test_a_breach_of_another_attempt_is_nobodys() -> None:
    from dataclasses import replace

    other = replace(verdicts(2, Verdict.BREACH), attempt=7)
    assert decided(wish(), STEPPING, seen(share(25), evaluation=other), 3).status.phase is Phase.PROGRESSING


@pytest.mark.parametrize("verdict", [Verdict.NO_DATA, Verdict.PROVIDER_DOWN])
@pytest.mark.parametrize("at", [31, 100, 170])
def test_silence_holds(verdict: Verdict, at: float) -> None:
    plan = decided(wish(), STEPPING, seen(share(25), evaluation=verdicts(at - 1, verdict)), at)
    assert weights(plan)[B] == share(25)
    assert plan.status.phase is Phase.PROGRESSING


def test_no_evaluation_at_all_holds() -> None:
    assert weights(decided(wish(), STEPPING, seen(share(25)), 500))[B] == share(25)


def test_a_provider_that_is_down_is_a_condition_and_spends_no_budget() -> None:
    state = STEPPING
    for at in (60, 600, 6000):
        plan = decided(wish(), state, seen(share(25), evaluation=verdicts(at - 1, Verdict.PROVIDER_DOWN)), at)
        assert condition(plan, "MetricsReachable") == "False"
        assert plan.status.phase is Phase.PROGRESSING
        state = plan.status
    back = decided(wish(), state, seen(share(25), evaluation=verdicts(6010, Verdict.PASS)), 6011)
    assert condition(back, "MetricsReachable") == "True"
    assert weights(back)[B] == share(50)


def test_no_data_for_long_asks_a_person_and_data_lets_it_go_on() -> None:
    silent = Verdict.NO_DATA
    held = decided(wish(), STEPPING, seen(share(25), evaluation=verdicts(99, silent)), 100)
    assert reasons(held) == ["StepHeld"]
    asked = decided(wish(), held.status, seen(share(25), evaluation=verdicts(300, silent)), 301)
    assert asked.status.phase is Phase.AWAITING_APPROVAL
    assert reasons(asked) == ["AwaitingApproval"]
    again = decided(wish(), asked.status, seen(share(25), evaluation=verdicts(400, silent)), 401)
    assert again.events == ()
    on = decided(wish(), asked.status, seen(share(25), evaluation=verdicts(400, Verdict.PASS)), 401)
    assert weights(on)[B] == share(50)


def test_a_guard_that_pauses_waits_for_a_person_even_if_it_recovers() -> None:
    spec = wish(guards=({**ERRORS, "onBreach": "Pause"},))
    waiting = decided(spec, STEPPING, seen(share(25), evaluation=verdicts(40, Verdict.BREACH)), 41)
    assert waiting.status.phase is Phase.AWAITING_APPROVAL
    assert weights(waiting)[B] == share(25)
    still = decided(spec, waiting.status, seen(share(25), evaluation=verdicts(80, Verdict.PASS)), 81)
    assert still.status.phase is Phase.AWAITING_APPROVAL


def test_a_guard_that_only_warns_moves_on() -> None:
    spec = wish(guards=(ERRORS, {**DRIFT, "onBreach": "Warn"}))
    evaluation = verdicts(40, Verdict.PASS, Verdict.BREACH)
    plan = decided(spec, STEPPING, seen(share(25), evaluation=evaluation), 41)
    assert weights(plan)[B] == share(50)
    assert condition(plan, "GuardsPassing") == "False"


def test_one_breach_among_passes_and_silence_rolls_back() -> None:
    spec = wish(guards=(ERRORS, DRIFT))
    for first, second in ((Verdict.PROVIDER_DOWN, Verdict.BREACH), (Verdict.BREACH, Verdict.NO_DATA)):
        plan = decided(spec, STEPPING, seen(share(25), evaluation=verdicts(5, first, second)), 6)
        assert plan.status.phase is Phase.ROLLING_BACK


def test_a_query_that_can_never_work_is_terminal_before_any_weight() -> None:
    bad = verdicts(1, Verdict.NO_DATA, invalid="it answers many series")
    plan = decided(wish(), status(Phase.VERIFYING), seen(0, evaluation=bad), 2)
    assert plan.status.phase is Phase.INVALID
    assert condition(plan, "SpecValid") == "False"
    assert "many series" in plan.status.message
    assert weights(plan) == {A: WHOLE}
    again = decided(wish(), plan.status, seen(0, evaluation=bad), 60)
    assert again.status.phase is Phase.INVALID, "not tried again until the spec changes"
    changed = decided(wish(generation=2, bake="61s"), plan.status, seen(0), 61)
    assert changed.status.phase is Phase.PREPARING


def test_no_first_weight_while_the_provider_is_down() -> None:
    plan = decided(wish(), status(Phase.VERIFYING), seen(0, evaluation=verdicts(1, Verdict.PROVIDER_DOWN)), 2)
    assert plan.status.phase is Phase.VERIFYING
    assert plan.route is None or weights(plan) == {A: WHOLE}
    assert condition(plan, "MetricsReachable") == "False"
