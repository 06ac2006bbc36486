"""Status: complete on the way out, tolerant on the way in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelrollout.api.base import format_instant
from modelrollout.api.modelrevision import ModelRevisionStatus, RevisionAttempt, revision_status_from
from modelrollout.api.status import (
    Condition,
    ConditionStatus,
    GuardStatus,
    HistoryEntry,
    ModelDeploymentStatus,
    Outcome,
    Phase,
    RevisionsStatus,
    RolloutStatus,
    TrafficStatus,
    Verdict,
    status_from,
    status_to_dict,
)

NOW = datetime(2026, 11, 21, 10, 30, 0, 123456, tzinfo=UTC)


def full() -> ModelDeploymentStatus:
    guard = GuardStatus(
        name="errors", verdict=Verdict.PASS, value=0.001, threshold="<= 0.01", samples=812, at=NOW, message="fine"
    )
    return ModelDeploymentStatus(
        observed_generation=3,
        phase=Phase.PROGRESSING,
        message="step 2/5",
        conditions=(
            Condition(type="Ready", status=ConditionStatus.TRUE, reason="AllPodsReady", last_transition_time=NOW),
        ),
        revisions=RevisionsStatus(desired="b", stable="a", candidate="b"),
        traffic=(TrafficStatus(revision="a", slot=0, weight=75), TrafficStatus(revision="b", slot=1, weight=25)),
        rollout=RolloutStatus(
            attempt=2, revision="b", started_at=NOW, step=2, steps=5, step_of="2/5", weight=25, guards=(guard,)
        ),
        quarantined=("c",),
        history=(HistoryEntry(attempt=1, revision="a", version="1.0.0", outcome=Outcome.PROMOTED, finished_at=NOW),),
        handled_command="promote/7",
    )


def test_the_empty_status_is_pending() -> None:
    assert ModelDeploymentStatus().phase is Phase.PENDING
    assert status_from(None) == status_from({}) == ModelDeploymentStatus()


def test_what_is_written_is_read_back() -> None:
    assert status_from(status_to_dict(full())) == full()


def test_written_as_kubernetes_writes() -> None:
    written = status_to_dict(full())
    assert written["observedGeneration"] == 3
    assert written["rollout"]["startedAt"] == "2026-11-21T10:30:00.123456Z"
    assert written["rollout"]["stepOf"] == "2/5"
    assert "finishedAt" not in written["rollout"]
    assert written["handledCommand"] == "promote/7"


def test_times_are_written_in_utc() -> None:
    tokyo = NOW.astimezone(timezone(timedelta(hours=9)))
    assert format_instant(tokyo) == "2026-11-21T10:30:00.123456Z"
    assert format_instant(NOW.replace(microsecond=0)) == "2026-11-21T10:30:00.000000Z"


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ({"phase": "Lost"}, {"phase": Phase.PENDING}),
        ({"conditions": "none"}, {"conditions": ()}),
        ({"observedGeneration": "many"}, {"observed_generation": 0}),
        ({"traffic": [{"revision": "a", "slot": 5}, {"revision": "b", "slot": 1, "weight": 25}]}, None),
        ({"quarantined": [1, "c", {}]}, {"quarantined": ("c",)}),
        ({"history": [{}, {"attempt": 1, "revision": "a", "outcome": "Promoted"}, {}]}, None),
        ({"rollout": "gone"}, {"rollout": None}),
        ({"fromTheFuture": {"a": 1}}, {}),
    ],
    ids=str,
)
def test_only_the_damaged_part_is_lost(damage: dict[str, Any], expected: dict[str, Any] | None) -> None:
    found = status_from({**status_to_dict(full()), **damage})
    if expected is not None:
        assert found == full().model_copy(update=expected)
    assert found.revisions.stable == "a"
    assert found.handled_command == "promote/7"
    if "traffic" in damage:
        assert [entry.revision for entry in found.traffic] == ["b"]
    if "history" in damage:
        assert [entry.attempt for entry in found.history] == [1]


def test_damage_inside_the_rollout_keeps_the_rest_of_it() -> None:
    raw = status_to_dict(full())
    raw["rollout"] |= {"startedAt": "yesterday", "guards": [{"name": "errors"}, *raw["rollout"]["guards"]]}
    rollout = status_from(raw).rollout
    assert rollout is not None
    assert rollout.started_at is None
    assert rollout.revision == "b"
    assert [guard.verdict for guard in rollout.guards] == [Verdict.PASS]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["phase", "rollout", "guards", "history", "conditions", "traffic", "revisions", "slot", "attempt", "x"]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=30,
)


@given(JSON)
def test_reading_never_raises(raw: Any) -> None:
    status_to_dict(status_from(raw))
    status_to_dict(revision_status_from(raw))


def test_texts_are_cut_on_writing() -> None:
    status = ModelDeploymentStatus().model_copy(update={"message": "a\x00b\n" + "ä" * 5000})
    message = status_to_dict(status)["message"]
    assert message.startswith("a b")
    assert len(message) == 1024
    assert message.endswith("...")


def test_lists_are_cut_on_writing() -> None:
    entry = HistoryEntry(attempt=1, revision="a", outcome=Outcome.PROMOTED)
    history = tuple(entry.model_copy(update={"attempt": number}) for number in range(30, 0, -1))
    status = ModelDeploymentStatus().model_copy(
        update={"history": history, "quarantined": tuple(f"r{number}" for number in range(50))}
    )
    written = status_to_dict(status)
    assert [each["attempt"] for each in written["history"]] == list(range(30, 20, -1))
    assert written["quarantined"] == [f"r{number}" for number in range(20)]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_value_without_json_form_is_no_value(value: float) -> None:
    guard = GuardStatus(name="a", verdict=Verdict.NO_DATA).model_copy(update={"value": value})
    assert "value" not in status_to_dict(guard)


def test_a_revision_status_round_trip() -> None:
    status = ModelRevisionStatus(
        outcome=Outcome.ROLLED_BACK,
        slot=1,
        attempts=(RevisionAttempt(attempt=1, outcome=Outcome.ROLLED_BACK, started_at=NOW),),
    )
    assert revision_status_from(status_to_dict(status)) == status
