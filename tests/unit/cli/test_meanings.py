"""Every phase and every reason that the operator gives has its sentence in ``explain``."""

from __future__ import annotations

import pytest

from modelrollout.api.reasons import AttemptReason
from modelrollout.api.status import Phase
from modelrollout.cli.view.explain import sections
from modelrollout.cli.view.meanings import PHASES, REASONS
from tests.unit.cli.cases import CASES, changed, read


def test_every_reason_has_a_sentence() -> None:
    assert {str(reason) for reason in AttemptReason} - set(REASONS) == set()


def test_every_phase_has_a_sentence() -> None:
    assert set(PHASES) == set(Phase)


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("case", CASES)
def test_every_phase_is_explained_whatever_else_is_known(case: str, phase: Phase) -> None:
    titles = [title for title, _ in sections(changed(case, phase=phase))]
    assert titles[0] == "What serves"
    assert "What you can do" in titles


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_is_explained(reason: str) -> None:
    found = read("canary-step")
    assert found.status.rollout is not None
    rollout = found.status.rollout.model_copy(update={"reason": reason})
    why = dict(sections(changed("canary-step", rollout=rollout)))["Why"]
    assert any(REASONS[reason][:20] in sentence for sentence in why)


def test_the_evidence_of_a_rollback_has_value_threshold_samples_and_time() -> None:
    evidence = dict(sections(read("rolled-back")))["Evidence"]
    assert evidence[0] == (
        "Guard latency (latency-p99 over 1m) was 0.731 s from 812 requests at 12:07:08 UTC; it must be <= 0.5. "
        "Verdict Breach, which only tells."
    )


def test_drift_at_rest_is_no_nothing_to_do() -> None:
    webhook = dict(sections(changed("drift-automatic", phase=Phase.IDLE)))["What you can do"]
    assert webhook[0].startswith("Look at what drifts")
    assert webhook[1:] == ["kubectl modelrollout retrain digits -n demo"]
    alone = dict(sections(changed("world-moved", phase=Phase.IDLE)))["What you can do"]
    assert len(alone) == 1
    assert alone[0].startswith("Look at what drifts")
    quiet = dict(sections(changed("drift-automatic", phase=Phase.IDLE, drift=())))["What you can do"]
    assert quiet == ["Nothing. Apply another version to start a rollout."]


def test_evidence_that_the_status_lost_is_taken_from_the_record() -> None:
    found = read("rolled-back")
    assert found.status.rollout is not None
    bare = found.status.rollout.model_copy(update={"revision": "digits-77aa00bb11", "attempt": 2, "guards": ()})
    evidence = dict(sections(changed("rolled-back", rollout=bare)))["Evidence"]
    assert evidence[0].startswith("Guard errors (error-ratio over 1m) was 0.21 from 240 requests")
