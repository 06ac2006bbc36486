"""Commands by annotation: each acts once, and one that makes no sense now is refused with a reason."""

from __future__ import annotations

import pytest

from modelrollout.api.status import ModelDeploymentStatus, Phase, Verdict
from modelrollout.rollout.plan import ARMED
from modelrollout.rollout.situation import share
from tests.unit.rollout.states import FULL, A, B, decided, reasons, seen, serving, status, verdicts, weights, wish

WAITING = status(Phase.AWAITING_APPROVAL, step=2, weight=25.0, reason="GuardPaused")
QUARANTINED = serving("1.0.0").model_copy(update={"phase": Phase.ROLLED_BACK, "quarantined": (B,)})


def test_promote_lets_a_waiting_rollout_go_on_once() -> None:
    spec = wish(
        command="promote/1", guards=({"name": "errors", "sli": "error-ratio", "max": 0.05, "onBreach": "Pause"},)
    )
    observed = seen(share(25), evaluation=verdicts(40, Verdict.BREACH))
    plan = decided(spec, WAITING, observed, 41)
    assert "CommandAccepted" in reasons(plan)
    assert weights(plan)[B] == share(50)
    assert plan.status.handled_command == "promote/1"
    begun = decided(spec, plan.status, seen(share(50), evaluation=verdicts(41, Verdict.BREACH)), 42)
    assert begun.status.rollout is not None
    assert begun.status.rollout.step == 3
    assert not begun.status.rollout.approved, "the approval was for one step"
    assert "CommandAccepted" not in reasons(begun)


def test_abort_takes_it_back_and_quarantines_it() -> None:
    plan = decided(wish(command="abort/1"), status(Phase.PROGRESSING, step=1, weight=10.0), seen(share(10)), 3)
    assert weights(plan) == {A: FULL, B: ARMED}
    ended = decided(wish(command="abort/1"), plan.status, seen(0), 9)
    assert ended.status.phase is Phase.ROLLED_BACK
    assert ended.status.quarantined == (B,)


def test_retry_gives_a_quarantined_revision_another_attempt() -> None:
    plan = decided(wish(command="retry/1"), QUARANTINED, seen(0), 3)
    assert plan.status.phase is Phase.PREPARING
    assert plan.status.quarantined == ()
    assert plan.status.handled_command == "retry/1"


@pytest.mark.parametrize(
    ("command", "state", "fragment"),
    [
        ("promote/1", serving(), "nothing waits"),
        ("abort/1", serving(), "no attempt"),
        ("retry/1", serving(), "not quarantined"),
        ("explode/1", serving(), "unknown command"),
        ("", serving(), ""),
    ],
)
def test_what_makes_no_sense_is_refused_once(command: str, state: ModelDeploymentStatus, fragment: str) -> None:
    plan = decided(wish("1.0.0", command=command), state, seen(0), 3)
    if not command:
        assert plan.events == ()
        return
    assert reasons(plan) == ["CommandRefused"]
    assert fragment in plan.events[0].message
    again = decided(wish("1.0.0", command=command), plan.status, seen(0), 4)
    assert again.events == ()
