"""What a plan warns of before anything is applied."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from modelrollout.api.modeldeployment import ModelDeployment, parse_modeldeployment
from modelrollout.api.status import Verdict
from modelrollout.cli.view.cautions import cautions
from modelrollout.cli.view.plan import Checked
from modelrollout.evidence.resolve import Resolved
from modelrollout.rollout.observed import GuardResult
from tests.unit.cli.cases import load, read

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def wish() -> ModelDeployment:
    raw = load("canary-step")["deployment"]
    raw.pop("status")
    return parse_modeldeployment(raw)


def errors(samples: float, verdict: Verdict = Verdict.PASS, value: float = 0.001) -> Checked:
    guard = wish().spec.rollout.guards[0]
    return Checked(Resolved(guard, {}), GuardResult("errors", verdict, NOW, value, "<= 0.01", samples))


def test_a_guard_that_would_see_too_little_at_the_first_step() -> None:
    # What serves gets 75 %: its 900 requests are 1200 of all, and the 5 % of the first step are 60 of them.
    found = cautions(wish(), read("canary-step"), [errors(900)])
    assert len(found) == 1
    assert found[0].startswith("guard errors needs 100 requests in 1m; at 5 % it would see about 60 of today's 1200")


def test_a_guard_that_sees_enough_is_no_matter() -> None:
    assert cautions(wish(), read("canary-step"), [errors(1500)]) == ()


def test_what_the_observer_counts_does_not_follow_the_weight() -> None:
    queries = {"value": 'growth(modelrollout_observer_compared_total{revision="b"})'}
    few, enough = errors(90), errors(100)
    few, enough = (replace(each, resolved=replace(each.resolved, queries=queries)) for each in (few, enough))
    found = cautions(wish(), read("canary-step"), [few])
    assert len(found) == 1
    assert found[0].startswith("guard errors needs 100 requests in 1m; the observer gives it about 90, at any weight:")
    assert cautions(wish(), read("canary-step"), [enough]) == ()


def test_a_bound_that_what_serves_does_not_keep() -> None:
    found = cautions(wish(), read("canary-step"), [errors(9000, Verdict.BREACH, 0.05)])
    assert len(found) == 1
    assert found[0].endswith("outside its bound (0.05, must be <= 0.01): an equal candidate would be taken back")


def test_where_nothing_serves_or_nothing_was_asked_there_is_nothing_to_say() -> None:
    assert cautions(wish(), None, [errors(1)]) == ()
    assert cautions(wish(), read("pending"), [errors(1)]) == ()
    assert cautions(wish(), read("canary-step"), [replace(errors(1), result=None)]) == ()
