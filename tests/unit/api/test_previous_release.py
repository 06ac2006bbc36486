"""The operator is upgraded in the middle of a canary: what the one before wrote is read without loss."""

from __future__ import annotations

from typing import Any

import pytest

from modelrollout.api.modeldeployment import parse_modeldeployment, revision_name
from modelrollout.api.modelrevision import parse_modelrevision
from modelrollout.api.status import Outcome, Phase, Verdict, status_from, status_to_dict
from tests.badspecs import Manifest, previous_release

WRITTEN = previous_release()
DEPLOYMENT: Manifest = WRITTEN["modelDeployment"]


def missing(written: Any, read: Any, path: str = "") -> list[str]:
    """The paths of what is in ``written`` and not, or not the same, in ``read``."""
    if isinstance(written, dict):
        known = read if isinstance(read, dict) else {}
        return [each for key, value in written.items() for each in missing(value, known.get(key), f"{path}.{key}")]
    if isinstance(written, list):
        if not isinstance(read, list) or len(read) != len(written):
            return [path]
        pairs = enumerate(zip(written, read, strict=True))
        return [each for index, (old, new) in pairs for each in missing(old, new, f"{path}[{index}]")]
    return [] if written == read else [path]


def test_the_attempt_is_still_where_it_was() -> None:
    status = parse_modeldeployment(DEPLOYMENT).status
    assert status.phase is Phase.PROGRESSING
    assert (status.revisions.stable, status.revisions.candidate) == ("digits-309a36ab19", "digits-4bd5b017bf")
    assert [(each.revision, each.slot, each.weight) for each in status.traffic] == [
        ("digits-309a36ab19", 0, 50.0),
        ("digits-4bd5b017bf", 1, 50.0),
    ]
    rollout = status.rollout
    assert rollout is not None
    assert (rollout.attempt, rollout.step, rollout.steps, rollout.weight) == (3, 2, 2, 50.0)
    assert rollout.step_started_at is not None
    assert rollout.traffic_started_at is not None
    assert [guard.verdict for guard in rollout.guards] == [Verdict.PASS]
    assert status.quarantined == ("digits-d7d755899e",)
    assert [entry.outcome for entry in status.history] == [Outcome.ROLLED_BACK, Outcome.PROMOTED]


def test_nothing_is_lost_on_the_next_write() -> None:
    assert missing(DEPLOYMENT["status"], status_to_dict(status_from(DEPLOYMENT["status"]))) == []


def test_what_it_did_not_know_is_not_asked_for() -> None:
    status = status_from(DEPLOYMENT["status"])
    rollout = status.rollout
    assert rollout is not None
    assert (status.paused, status.commands) == (False, ())
    assert (rollout.full, rollout.skip, rollout.fast_track) == (False, False, False)
    assert (rollout.strategy, rollout.instead_of, rollout.step_ends_at, rollout.arms) == ("", "", None, ())


def test_the_spec_asks_for_the_same_revision_and_steps() -> None:
    deployment = parse_modeldeployment(DEPLOYMENT)
    assert revision_name("digits", deployment.spec) == deployment.status.revisions.candidate
    assert deployment.spec.rollout.canary is not None
    assert [step.weight for step in deployment.spec.rollout.canary.steps] == [10, 50]


@pytest.mark.parametrize("written", WRITTEN["modelRevisions"], ids=lambda written: written["metadata"]["name"])
def test_its_revisions_are_read(written: Manifest) -> None:
    revision = parse_modelrevision(written)
    assert missing(written.get("status", {}), status_to_dict(revision.status)) == []
    assert missing(written["spec"], revision.model_dump(mode="json", by_alias=True)["spec"]) == []
