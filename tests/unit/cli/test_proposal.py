"""What applying a file would do, against every state of the live object."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from modelrollout.api.modeldeployment import ModelDeployment, parse_modeldeployment, revision_name
from modelrollout.api.modelrevision import ModelRevisionStatus, RevisionAttempt
from modelrollout.api.status import Outcome
from modelrollout.cli.view.plan import Outlook, plan_document, plan_lines
from modelrollout.cli.view.proposal import Effect, propose
from modelrollout.cli.view.snapshot import Pods, Revision, Snapshot
from modelrollout.cli.view.text import render
from tests.unit.cli.cases import load, read


def wish(version: str = "1.6.0", replicas: int = 2, **rollout: Any) -> ModelDeployment:
    raw = load("canary-step")["deployment"]
    raw["spec"]["model"]["version"] = version
    raw["spec"]["replicas"] = replicas
    raw["spec"]["rollout"].update(rollout)
    return parse_modeldeployment({key: value for key, value in raw.items() if key != "status"})


def name_of(found: ModelDeployment) -> str:
    return revision_name(found.metadata.name, found.spec)


def live(stable: str, candidate: str | None = None, **known: Revision) -> Snapshot:
    """At rest with ``stable``, or with ``candidate`` on trial."""
    found = read("canary-step")
    parts = found.status.revisions.model_copy(
        update={"stable": stable, "candidate": candidate, "desired": candidate or stable}
    )
    assert found.status.rollout is not None
    attempt = found.status.rollout.model_copy(
        update={"revision": candidate or stable, "outcome": None if candidate else Outcome.PROMOTED}
    )
    status = found.status.model_copy(update={"revisions": parts, "rollout": attempt, "quarantined": ("digits-bad",)})
    revisions = (Revision(stable, pods=Pods(2, 2)), *known.values())
    return replace(found, status=status, revisions=revisions)


def test_nothing_serves_yet() -> None:
    proposal = propose(wish(), None)
    assert proposal.effect is Effect.FIRST
    assert (proposal.extra, proposal.changes) == (2, ())


def test_a_new_revision_goes_by_its_strategy() -> None:
    proposal = propose(wish(), live("digits-old"))
    assert proposal.effect is Effect.ROLLOUT
    assert [planned.stop.label for planned in proposal.way] == ["5 %", "25 %", "50 %", "100 %", "bake"]
    assert [planned.begins for planned in proposal.way][-1] == timedelta(minutes=12)
    assert proposal.takes == timedelta(minutes=22)
    assert proposal.extra == 2
    assert ("model.version", "1.5.0", "1.6.0") in proposal.changes


def test_what_serves_needs_no_rollout() -> None:
    same = wish()
    proposal = propose(same, live(name_of(same)))
    assert (proposal.effect, proposal.way, proposal.extra) == (Effect.NONE, (), 0)


def test_back_to_what_serves_aborts_the_attempt() -> None:
    same = wish()
    assert propose(same, live(name_of(same), "digits-new")).effect is Effect.BACK


def test_the_revision_on_trial_goes_on() -> None:
    same = wish()
    assert propose(same, live("digits-old", name_of(same))).effect is Effect.GOES_ON


def test_an_attempt_of_another_ends_first() -> None:
    proposal = propose(wish(), live("digits-old", "digits-other"))
    assert proposal.effect is Effect.ROLLOUT
    assert "digits-other ends first" in proposal.sentences[0]


def test_a_quarantined_one_needs_retry() -> None:
    same = wish()
    found = live("digits-old")
    found = replace(found, status=found.status.model_copy(update={"quarantined": (name_of(same),)}))
    proposal = propose(same, found)
    assert (proposal.effect, proposal.way) == (Effect.QUARANTINED, ())
    assert "command retry" in proposal.sentences[-1]


@pytest.mark.parametrize(
    ("ends", "effect"),
    [
        ([Outcome.PROMOTED], Effect.FAST_TRACK),
        ([Outcome.SUPERSEDED, Outcome.PROMOTED], Effect.FAST_TRACK),
        ([Outcome.ROLLED_BACK, Outcome.PROMOTED], Effect.ROLLOUT),
        ([], Effect.ROLLOUT),
    ],
)
def test_a_revision_in_the_history_that_was_promoted_is_known_good(ends: list[Outcome], effect: Effect) -> None:
    same = wish()
    attempts = tuple(RevisionAttempt(attempt=9 - place, outcome=end) for place, end in enumerate(ends))
    kept = Revision(name_of(same), status=ModelRevisionStatus(outcome=ends[0] if ends else None, attempts=attempts))
    proposal = propose(same, live("digits-old", kept=kept))
    assert proposal.effect is effect
    if effect is Effect.FAST_TRACK:
        assert [planned.stop.label for planned in proposal.way] == ["100 %", "bake"]


def test_scaled_to_zero_tries_nothing() -> None:
    assert propose(wish(replicas=0), live("digits-old")).effect is Effect.WAITS


@pytest.mark.parametrize(
    ("rollout", "extra"),
    [
        ({"canary": {"steps": [{"weight": 5}], "maxSurge": "50%"}}, 1),
        ({"canary": {"steps": [{"weight": 5}], "maxSurge": 0}}, 0),
        ({"strategy": "Recreate", "canary": None}, 0),
        ({"strategy": "BlueGreen", "canary": None}, 2),
    ],
)
def test_the_room_that_a_strategy_takes(rollout: dict[str, Any], extra: int) -> None:
    given = {key: value for key, value in rollout.items() if value is not None}
    found = wish()
    raw = load("canary-step")["deployment"]
    raw["spec"]["model"]["version"] = "1.6.0"
    raw["spec"]["rollout"].pop("canary")
    raw["spec"]["rollout"].update(given)
    found = parse_modeldeployment({key: value for key, value in raw.items() if key != "status"})
    assert propose(found, live("digits-old")).extra == extra


def test_every_stop_of_every_strategy_has_a_word() -> None:
    ways = {
        "ABTest": ["A/B 50 %", "approval", "100 %", "bake"],
        "Shadow": ["mirror 10 %", "approval", "100 %", "bake"],
        "BlueGreen": ["mirror 10 %", "approval", "100 %", "bake"],
        "Recreate": ["100 %", "bake"],
    }
    blocks = {"BlueGreen": {"blueGreen": {"prePromotion": {}, "approval": True}}}
    for strategy, labels in ways.items():
        raw = load("canary-step")["deployment"]
        raw["spec"]["rollout"].pop("canary")
        raw["spec"]["rollout"].update({"strategy": strategy, **blocks.get(strategy, {})})
        found = parse_modeldeployment({key: value for key, value in raw.items() if key != "status"})
        assert [planned.stop.label for planned in propose(found, live("digits-old")).way] == labels


def test_steps_of_pods_and_waits_have_words_too() -> None:
    found = wish(canary={"steps": [{"replicas": 2, "hold": "1m"}, {"pause": {}}, {"weight": 0.5}]})
    proposal = propose(found, live("digits-old"))
    assert [planned.stop.label for planned in proposal.way] == ["2 pods", "approval", "0.5 %", "100 %", "bake"]


LATE = {"name": "accuracy", "sli": "accuracy", "min": 0.9, "window": "24h", "labelDelay": "24h"}


def test_what_a_guard_waits_for_is_told_with_the_stop_that_it_holds() -> None:
    """Also where a policy brings the guard: the file alone knows nothing of it."""
    merged = wish(guards=[LATE]).spec.rollout
    outlook = Outlook("demo", "digits", "cpu", propose(wish(), live("digits-old"), merged))
    text = render(plan_lines(outlook))
    assert "held until +1d: guard accuracy can say nothing before (labelDelay 24h)" in text
    assert "at least 1d from the first step to the end" in text
    found = plan_document(outlook)
    assert [(each["endsAfterSeconds"], each["waitsForGuard"]) for each in found["steps"]] == [
        (86_400, "accuracy"),
        (86_400 + 300, None),
        (86_400 + 600, None),
        (86_400 + 600, None),
        (86_400 + 1200, None),
    ]
    assert found["secondsAtLeast"] == 86_400 + 1200
