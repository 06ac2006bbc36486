"""Who served when, and which rollouts are on record: read off the ModelRevisions."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from modelrollout.api.modelrevision import revision_status_from
from modelrollout.api.status import RevisionsStatus
from modelrollout.cli.view.past import Past
from modelrollout.cli.view.snapshot import Revision, Snapshot
from modelrollout.rollout.plan import WHOLE
from tests.unit.cli.cases import changed

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
STEP = timedelta(minutes=1)


def ago(hours: float) -> str:
    return (NOW - timedelta(hours=hours)).isoformat()


def decision(hours: float, kind: str, weight: float) -> dict[str, Any]:
    return {"at": ago(hours), "decision": kind, "weight": weight}


def attempt(number: int, outcome: str, finished: float, *decisions: dict[str, Any], **more: Any) -> dict[str, Any]:
    entry = {"attempt": number, "outcome": outcome, "finishedAt": ago(finished), "decisions": list(decisions)}
    return entry | more


def revision(name: str, slot: int | None, *attempts: dict[str, Any], created: float = 100) -> Revision:
    status = revision_status_from({"attempts": list(attempts)} | ({} if slot is None else {"slot": slot}))
    return Revision(name, slot=None, status=status, created=NOW - timedelta(hours=created))


def past(*revisions: Revision, stable: str | None, since: float = 48) -> Past:
    found: Snapshot = replace(changed("first", revisions=RevisionsStatus(stable=stable)), revisions=revisions)
    assert found.wish is not None
    return Past(found, found.wish, NOW - timedelta(hours=since), NOW, STEP, "envoy-gateway")


FIRST = revision("a", 0, attempt(1, "Promoted", 60, reason="FirstDeployment"))
SECOND = revision(
    "b",
    1,
    attempt(2, "Promoted", 20, decision(21, "Promote", 100), decision(22, "Step", 50), decision(23, "Step", 5)),
)
THIRD = revision(
    "c", 0, attempt(3, "RolledBack", 5, decision(5, "RollBack", 0), decision(5.5, "Ramp", 25), decision(6, "Step", 5))
)


def hours(moment: datetime) -> float:
    return (NOW - moment) / timedelta(hours=1)


def test_who_served_when() -> None:
    found = past(FIRST, SECOND, THIRD, stable="b").reigns()
    assert [(each.revision, each.slot, hours(each.begin), hours(each.end)) for each in found] == [
        ("a", 0, 48, 21),
        ("b", 1, 21, 0),
    ]


def test_what_serves_counts_from_its_making_where_no_attempt_is_on_record() -> None:
    (reign,) = past(revision("a", 1, created=10), stable="a").reigns()
    assert (reign.slot, hours(reign.begin)) == (1, 10)
    assert past(revision("a", None, created=10), stable="a").reigns() == [], "its place in the route is not known"


def test_one_that_never_served_has_no_past() -> None:
    made = past(revision("a", 1, created=10), stable=None)
    assert (made.reigns(), made.pretended(), made.recorded()) == ([], [], [])


def test_rollouts_are_pretended_one_after_the_other_while_one_revision_served() -> None:
    made = past(FIRST, SECOND, stable="b")
    trials = made.pretended()
    assert {trial.end - trial.begin for trial in trials} == {made.length}
    assert {trial.context.revision: trial.context.slot for trial in trials} == {"a": 0, "b": 1}
    assert all(trial.context.stable == trial.context.revision for trial in trials)
    assert all(one.end <= other.begin for one, other in itertools.pairwise(trials))
    assert len(trials) == 27 * 60 // (made.length / STEP) + 21 * 60 // (made.length / STEP)


def test_rollouts_on_record_have_their_arms_and_weights() -> None:
    promoted, taken_back = past(FIRST, SECOND, THIRD, stable="b").recorded()
    assert (promoted.title, taken_back.title) == ("b, attempt 2: Promoted", "c, attempt 3: RolledBack")
    assert (promoted.context.stable, promoted.context.slot) == ("a", 1)
    assert (taken_back.context.stable, taken_back.context.slot) == ("b", 0)
    assert [(hours(span.since), span.share / WHOLE) for span in promoted.context.spans[:2]] == [(23, 0.05), (22, 0.5)]
    assert [span.share for span in taken_back.context.spans] == [WHOLE // 20, 0], "nothing is compared on a ramp"
    assert (hours(taken_back.begin), hours(taken_back.end)) == (6, 5)


def test_what_lies_before_the_time_asked_for_is_left_out() -> None:
    assert [trial.title for trial in past(FIRST, SECOND, THIRD, stable="b", since=22).recorded()] == [
        "c, attempt 3: RolledBack"
    ]
    assert past(FIRST, stable="a").recorded() == [], "a first deployment has nothing beside it"
