"""What the gates say, as decisions: final or not, told once, kept for the record, never a write of their own."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from modelrollout.api.contract import Contract
from modelrollout.api.reasons import EventReason
from modelrollout.api.status import GateStatus, Phase
from modelrollout.rollout.observed import Check, Gate, GateName, GateState
from modelrollout.rollout.plan import ARMED, WHOLE
from tests.unit.rollout.given import FULL, NOW, V1, V2, Given

WARM = Check(GateName.WARM, GateState.PASSED, "settled", NOW)
CONTRACT = Check(GateName.CONTRACT, GateState.PASSED, "2 inputs fit", NOW)
BROKEN = Check(GateName.CONTRACT, GateState.FAILED, "output y: gone", NOW, final=True)
LATE = Check(GateName.GOLDEN_SET, GateState.FAILED, "ConfigMap x is not there", NOW)
WARNED = replace(BROKEN, state=GateState.WARNED, final=False)


def gates(*checks: Check, state: GateState = GateState.FAILED, message: str = "") -> dict[str, Gate]:
    finished = NOW if state is GateState.PASSED else None
    return {V2: Gate(V2, state, message or checks[-1].message, finished, checks)}


def verifying(**changes: object) -> Given:
    return Given().serving().trying(Phase.VERIFYING, **changes)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (GateName.CONTRACT, "ContractBroken"),
        (GateName.GOLDEN_SET, "GoldenSetFailed"),
        (GateName.LOAD, "LoadTestFailed"),
        (GateName.WARM, "GatesFailed"),
    ],
)
@pytest.mark.parametrize("ready", [2, 0])
def test_a_failure_for_good_ends_the_attempt_at_once(name: GateName, reason: str, ready: int) -> None:
    """Also when its pods are gone meanwhile: they may have died of it."""
    before = () if name is GateName.WARM else (WARM,)
    found = gates(*before, replace(BROKEN, name=name))
    plan = verifying().pods(V2, ready).seeing(gates=found).decide()
    status = plan.status
    assert status.rollout is not None
    assert (status.phase, status.rollout.reason, status.quarantined) == (Phase.ROLLED_BACK, reason, (V2,))
    assert [each.reason for each in plan.events] == [EventReason.ROLLED_BACK]
    assert plan.revision_status[V2].attempts[0].gates[-1].message == "output y: gone"
    assert plan.route is None or plan.route.weight_of(V2) == 0


def test_users_that_met_it_are_not_left_unguarded() -> None:
    """Its first weight was written when all was well: the guards decide now."""
    given = verifying().route({V1: FULL, V2: 100_000}).seeing(gates=gates(WARM, BROKEN))
    assert given.decide().status.rollout.reason == ""  # type: ignore[union-attr]


def test_an_armed_candidate_has_no_users() -> None:
    given = verifying().route({V1: FULL, V2: ARMED}).seeing(gates=gates(WARM, BROKEN))
    assert given.decide().status.rollout.reason == "ContractBroken"  # type: ignore[union-attr]


def test_a_first_candidate_that_fails_for_good_serves_nobody() -> None:
    plan = Given().trying(Phase.VERIFYING).seeing(gates=gates(WARM, BROKEN)).decide()
    assert (plan.status.phase, plan.status.revisions.stable) == (Phase.ROLLED_BACK, None)
    assert [each.reason for each in plan.events] == [EventReason.ROLLED_BACK]
    assert "is refused: output y: gone" in plan.events[0].message


def test_what_may_pass_yet_is_waited_for_since_the_last_gate_that_was_passed() -> None:
    given = verifying(step_started_at=NOW - timedelta(minutes=6)).seeing(gates=gates(WARM, LATE))
    plan = given.decide()
    assert plan.status.phase is Phase.VERIFYING
    assert plan.status.message.endswith("the golden set gate fails: ConfigMap x is not there")
    late = replace(WARM, at=NOW - timedelta(minutes=6))
    ended = given.seeing(gates=gates(late, LATE)).decide().status.rollout
    assert ended is not None
    assert ended.reason == "GatesFailed"


@pytest.mark.parametrize("found", [{}, gates(Check(GateName.WARM, GateState.RUNNING), state=GateState.RUNNING)])
def test_a_try_under_way_is_not_cut_off(found: dict[str, Gate]) -> None:
    """It bounds itself: after a long pause of the operator it has only begun, and others' bursts may come first."""
    plan = verifying(step_started_at=NOW - timedelta(hours=3)).seeing(gates=found).decide()
    assert (plan.status.phase, plan.gate, plan.route and plan.route.weight_of(V2)) == (Phase.VERIFYING, V2, None)
    late = replace(LATE, name=GateName.WARM)
    ended = verifying(step_started_at=NOW - timedelta(hours=3)).seeing(gates=gates(late)).decide()
    assert ended.status.rollout is not None
    assert ended.status.rollout.reason == "GatesFailed"


def test_what_is_not_passed_yet_is_an_event_once_and_another_reason_than_what_is_refused() -> None:
    given = verifying().seeing(gates=gates(WARM, LATE))
    first = given.decide()
    assert [each.reason for each in first.events] == [EventReason.GATE_RETRYING]
    told = next(each for each in first.status.conditions if each.type == "GoldenSetPassed")
    assert (told.status, told.reason) == ("False", "Retrying")
    given.status = first.status
    assert not given.decide().events
    refused = given.seeing(gates=gates(WARM, replace(LATE, final=True))).decide()
    told = next(each for each in refused.status.conditions if each.type == "GoldenSetPassed")
    assert (told.status, told.reason) == ("False", "Failed")


def test_gates_that_pass_are_no_write_of_their_own() -> None:
    given = verifying()
    given.status = given.decide().status
    for found in (
        gates(WARM, replace(CONTRACT, state=GateState.RUNNING), state=GateState.RUNNING),
        gates(WARM, CONTRACT, replace(LATE, state=GateState.RUNNING), state=GateState.RUNNING),
    ):
        assert given.seeing(gates=found).decide().status is given.status


def test_a_burst_whose_pods_die_is_waited_for() -> None:
    load = Check(GateName.LOAD, GateState.RUNNING)
    running = verifying().pods(V2, 0).seeing(gates=gates(WARM, load, state=GateState.RUNNING)).decide()
    assert (running.status.phase, running.gate) == (Phase.VERIFYING, V2)
    other = replace(load, name=GateName.CONTRACT)
    elsewhere = verifying().pods(V2, 0).seeing(gates=gates(WARM, other, state=GateState.RUNNING)).decide()
    assert (elsewhere.status.phase, elsewhere.gate) == (Phase.PREPARING, None)


GOLDEN_RUNS = gates(WARM, replace(LATE, state=GateState.RUNNING), state=GateState.RUNNING)


def test_pods_lost_in_a_gate_are_counted_and_told() -> None:
    plan = verifying(setbacks=1).pods(V2, 0, trouble="pod a: exit code 139").seeing(gates=GOLDEN_RUNS).decide()
    attempt = plan.status.rollout
    assert attempt is not None
    assert (plan.status.phase, attempt.setbacks, attempt.step_started_at) == (Phase.PREPARING, 2, NOW)
    (told,) = plan.events
    assert (told.reason, told.warning) == (EventReason.CANDIDATE_UNAVAILABLE, True)
    assert told.message == (
        f"{V2} lost all its ready pods in the golden set gate: pod a: exit code 139; waiting for them to return"
    )
    assert attempt.decisions[0].message == told.message


@pytest.mark.parametrize("desired", [2, 0])
def test_a_third_loss_of_all_pods_in_a_gate_ends_the_attempt(desired: int) -> None:
    """Also where stable was stopped to make room (Recreate): nobody answers until then."""
    given = verifying(setbacks=2).pods(V1, desired, desired).pods(V2, 0).seeing(gates=GOLDEN_RUNS)
    attempt = given.decide().status.rollout
    assert attempt is not None
    assert attempt.reason == "CandidateUnavailable"
    assert attempt.message == f"{V2} lost all its ready pods 3 times, last in the golden set gate"


def test_what_takes_the_pods_of_stable_too_is_not_counted() -> None:
    plan = verifying(setbacks=2).pods(V1, 0).pods(V2, 0).seeing(gates=GOLDEN_RUNS).decide()
    assert plan.status.rollout is not None
    assert (plan.status.phase, plan.status.rollout.setbacks) == (Phase.PREPARING, 2)


def test_a_first_deployment_that_loses_its_pods_is_tried_on() -> None:
    plan = Given().trying(Phase.VERIFYING, setbacks=2).pods(V2, 0).seeing(gates=GOLDEN_RUNS).decide()
    assert plan.status.phase is Phase.PREPARING


def test_a_new_operator_keeps_what_was_told_until_it_knows_better() -> None:
    contract = GateStatus(name="Contract", state="Warned", message="output y: gone")
    given = verifying(gates=(GateStatus(name="Warm", state="Passed", message="settled at 3 ms"), contract))
    given.status = given.decide().status
    running = replace(CONTRACT, state=GateState.RUNNING)
    again = given.seeing(gates=gates(WARM, running, state=GateState.RUNNING)).decide()
    assert again.status is given.status
    assert not again.events


RETRYING = GateStatus(name="GoldenSet", state="Retrying", message="ConfigMap x is not there")


@pytest.mark.parametrize(("asked", "kept"), [({"goldenSet": {"parameter": "set"}}, True), ({}, False)])
def test_what_was_told_of_a_gate_stays_as_long_as_the_spec_asks_for_it(asked: dict[str, object], kept: bool) -> None:
    given = Given(gates=asked).serving().trying(Phase.VERIFYING, gates=(RETRYING,))
    told = given.seeing(gates=gates(WARM, replace(CONTRACT, state=GateState.RUNNING), state=GateState.RUNNING)).decide()
    assert told.status.rollout is not None
    assert [each.name for each in told.status.rollout.gates] == ["Warm", *(["GoldenSet"] if kept else [])]


def test_gates_removed_while_one_is_tried_are_gone_though_nothing_was_said_yet() -> None:
    told = Given().serving().trying(Phase.VERIFYING, gates=(RETRYING,)).decide().status
    assert told.rollout is not None
    assert told.rollout.gates == ()


def test_a_promoted_revision_failed_no_gate() -> None:
    """A new operator was passing them again when users had met it: what it could not pass was passed before."""
    given = Given().baking(gates=(GateStatus(name="Warm", state="Passed"), RETRYING))
    plan = given.route({V2: WHOLE}).decide()
    assert plan.status.rollout is not None
    assert (plan.status.rollout.outcome, [each.name for each in plan.status.rollout.gates]) == ("Promoted", ["Warm"])
    assert [each.name for each in plan.revision_status[V2].attempts[0].gates] == ["Warm"]


def test_a_warning_is_an_event_once() -> None:
    given = verifying().seeing(gates=gates(WARM, WARNED, state=GateState.PASSED))
    first = given.decide()
    assert [each.reason for each in first.events] == [EventReason.GATE_WARNED]
    given.status = first.status
    assert not given.decide().events
    condition = next(each for each in first.status.conditions if each.type == "ContractKept")
    assert (condition.status, condition.reason) == ("False", "Warned")


def test_conditions_of_gates_go_with_the_attempt_that_they_are_about() -> None:
    given = verifying().seeing(gates=gates(WARM, BROKEN))
    given.status = given.decide().status
    assert any(each.type == "ContractKept" for each in given.status.conditions)
    later = Given("3.0.0")
    later.status, later.observed = given.status, given.observed
    started = later.seeing(gates={}).decide().status
    assert started.phase is Phase.PREPARING
    assert not any(each.type in ("Warm", "ContractKept") for each in started.conditions)


@pytest.mark.parametrize(
    ("strategy", "sequences", "torn"),
    [
        ("Canary", True, True),
        ("ABTest", True, True),
        ("Shadow", True, True),
        ("BlueGreen", True, False),
        ("Recreate", True, False),
        ("Canary", False, False),
    ],
)
def test_weights_under_a_model_that_serves_sequences_are_warned_of_once(
    strategy: str, sequences: bool, torn: bool
) -> None:
    """A sequence that began on one arm is refused by the other with 400, which no guard counts as an error."""
    told = replace(CONTRACT, contract=Contract(sequences=sequences))
    given = Given(strategy=strategy).serving().trying(Phase.VERIFYING, strategy=strategy)
    running = Check(GateName.GOLDEN_SET, GateState.RUNNING)
    first = given.seeing(gates=gates(WARM, told, running, state=GateState.RUNNING)).decide()
    assert [each.reason for each in first.events] == ([EventReason.GATE_WARNED] if torn else [])
    if torn:
        condition = next(each for each in first.status.conditions if each.type == "ContractKept")
        assert (condition.status, condition.reason) == ("False", "Warned")
        assert "it serves sequences" in condition.message
        assert condition.message.endswith("; 2 inputs fit")
        given.status = first.status
        again = given.decide()
        assert (again.events, again.status is given.status) == ((), True)


def test_a_first_deployment_tears_no_sequences() -> None:
    told = replace(CONTRACT, contract=Contract(sequences=True))
    found = gates(WARM, told, Check(GateName.LOAD, GateState.RUNNING), state=GateState.RUNNING)
    assert not Given().trying(Phase.VERIFYING).seeing(gates=found).decide().events
