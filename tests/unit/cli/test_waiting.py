"""When a pipeline may go on, and with which exit code."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modelrollout.api.status import Condition, ConditionStatus, ModelDeploymentStatus, Outcome, Phase
from modelrollout.cli.exits import Exit
from modelrollout.cli.view.snapshot import Snapshot
from modelrollout.cli.view.waiting import ended
from tests.unit.cli.cases import read

DESIRED, STABLE = "digits-5d1f0c9a3e", "digits-a15d15ce70"


def given(case: str = "canary-step", **changes: object) -> Snapshot:
    found = read(case)
    return replace(found, status=found.status.model_copy(update=changes))


def revisions(found: Snapshot, desired: str, stable: str | None) -> ModelDeploymentStatus:
    parts = found.status.revisions.model_copy(update={"desired": desired, "stable": stable, "candidate": None})
    return found.status.model_copy(update={"revisions": parts})


def at_rest(desired: str, stable: str, **attempt: object) -> Snapshot:
    found = given(phase=Phase.IDLE, conditions=())
    status = revisions(found, desired, stable)
    rollout = status.rollout.model_copy(update={"outcome": Outcome.PROMOTED, **attempt}) if status.rollout else None
    return replace(found, status=status.model_copy(update={"rollout": rollout}))


def code(found: Snapshot) -> Exit | None:
    end = ended(found)
    return None if end is None else end.code


def test_what_the_spec_asks_for_serves() -> None:
    assert code(at_rest(DESIRED, DESIRED)) is Exit.DONE


@pytest.mark.parametrize(
    "phase",
    [
        Phase.PREPARING,
        Phase.VERIFYING,
        Phase.ARMING,
        Phase.PROGRESSING,
        Phase.PROMOTING,
        Phase.BAKING,
        Phase.ROLLING_BACK,
    ],
)
def test_a_rollout_under_way_is_waited_for(phase: Phase) -> None:
    assert code(given(phase=phase)) is None


def test_a_status_of_an_older_spec_is_no_end() -> None:
    assert code(replace(at_rest(DESIRED, DESIRED), generation=5)) is None


def test_a_command_that_is_not_handled_yet_is_waited_for() -> None:
    assert code(replace(given("rolled-back"), command="retry/1")) is None


def test_without_ready_pods_nothing_serves() -> None:
    found = at_rest(DESIRED, DESIRED)
    sick = Condition(type="Ready", status=ConditionStatus.FALSE)
    assert code(replace(found, status=found.status.model_copy(update={"conditions": (sick,)}))) is None


def test_rolled_back() -> None:
    end = ended(read("rolled-back"))
    assert end is not None
    assert end.code is Exit.TAKEN_BACK
    assert "latency is 0.731" in end.sentence


def test_a_person_is_waited_for() -> None:
    assert code(read("ab-approval")) is Exit.WAITS
    assert code(given(paused=True)) is Exit.WAITS
    assert code(given(paused=True, phase=Phase.ROLLING_BACK)) is None


def test_an_invalid_spec_is_told_also_while_what_was_before_serves() -> None:
    assert code(given(phase=Phase.INVALID)) is Exit.INVALID
    bad = Condition(type="SpecValid", status=ConditionStatus.FALSE)
    assert code(given(conditions=(bad,))) is Exit.INVALID


def test_at_rest_with_another_revision_than_the_spec_asks_for() -> None:
    assert code(at_rest(DESIRED, STABLE, outcome=Outcome.ABORTED)) is Exit.TAKEN_BACK
    assert code(at_rest(DESIRED, STABLE, outcome=Outcome.CONCLUDED)) is Exit.DONE
    assert code(at_rest(DESIRED, STABLE, revision=STABLE, instead_of=DESIRED)) is Exit.TAKEN_BACK
    # The spec changed a moment ago, and the next attempt has not begun.
    assert code(at_rest(DESIRED, STABLE, revision=STABLE)) is None


def test_scaled_to_zero_with_something_to_try_waits_for_a_person() -> None:
    found = at_rest(DESIRED, STABLE, revision=STABLE)
    assert found.wish is not None
    spec = found.wish.spec.model_copy(update={"replicas": 0})
    assert code(replace(found, wish=found.wish.model_copy(update={"spec": spec}))) is Exit.WAITS


def test_nothing_was_looked_at_yet() -> None:
    assert code(read("pending")) is None
