"""Commands act once, and what makes no sense is refused with a reason."""

from __future__ import annotations

import pytest

from modelrollout.api.status import Phase, Verdict
from modelrollout.rollout.plan import ARMED, WHOLE
from tests.builders import ERRORS
from tests.unit.rollout.given import FULL, V1, V2, Given, layout, reasons

PAUSING = ({**ERRORS, "onBreach": "Pause"},)


def waiting(command: str) -> Given:
    given = Given(guards=PAUSING, command=command).stepping(1, reason="GuardPaused").judged(Verdict.BREACH)
    return given.having(phase=Phase.AWAITING_APPROVAL, message="waiting")


def test_promote_takes_the_next_step_against_the_guard() -> None:
    plan = waiting("promote/1").decide()
    assert layout(plan) == {V1: 750_000, V2: 250_000}
    assert plan.status.handled_command == "promote/1"
    assert reasons(plan) == ["CommandAccepted"]


def test_promote_acts_once() -> None:
    given = waiting("promote/1").having(handled_command="promote/1")
    plan = given.decide()
    assert plan.status.phase is Phase.AWAITING_APPROVAL
    assert layout(plan) == {V1: 900_000, V2: 100_000}


def test_an_approval_is_for_one_step() -> None:
    given = waiting("promote/1")
    given.after(given.decide()).route({V1: 750_000, V2: 250_000})
    plan = given.decide()
    assert plan.status.rollout is not None
    assert (plan.status.rollout.step, plan.status.rollout.approved) == (2, False)


def test_abort_takes_the_candidate_back_and_quarantines_it() -> None:
    given = Given(command="abort/1").stepping(2)
    plan = given.decide()
    assert (plan.status.phase, layout(plan)) == (Phase.ROLLING_BACK, {V1: FULL, V2: ARMED})
    given.after(plan).at(5).route({V1: WHOLE})
    ended = given.decide()
    assert (ended.status.history[0].outcome, ended.status.quarantined) == ("Aborted", (V2,))


def test_abort_before_traffic_ends_at_once() -> None:
    plan = Given(command="abort/1").serving().trying(Phase.PREPARING).decide()
    assert (plan.status.phase, plan.status.quarantined) == (Phase.ROLLED_BACK, (V2,))


def test_abort_in_the_bake_goes_back() -> None:
    assert layout(Given(command="abort/1").baking().decide()) == {V1: FULL, V2: ARMED}


def test_retry_lifts_the_quarantine() -> None:
    plan = Given(command="retry/1").serving().having(phase=Phase.ROLLED_BACK, quarantined=(V2,)).decide()
    assert (plan.status.phase, plan.status.quarantined) == (Phase.PREPARING, ())


@pytest.mark.parametrize(
    "given",
    [
        Given("1.0.0", command="promote/1").serving(),
        Given(command="promote/1").stepping(1),
        Given("1.0.0", command="abort/1").serving(),
        Given("1.0.0", command="abort/1").trying(Phase.PREPARING, V1),
        Given("1.0.0", command="retry/1").serving(),
        Given(command="retry/1").rolling_back().having(quarantined=(V2,)).route({V1: FULL, V2: ARMED}),
        Given(command="dance/1").stepping(1),
        Given(command="noslash").stepping(1),
    ],
    ids=["promote-idle", "promote-step", "abort-idle", "abort-first", "retry-good", "retry-early", "unknown", "bare"],
)
def test_what_makes_no_sense_is_refused_once(given: Given) -> None:
    plan = given.decide()
    assert "CommandRefused" in reasons(plan)
    assert plan.status.handled_command
    assert "CommandRefused" not in reasons(given.after(plan).decide())
