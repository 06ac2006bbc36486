"""Every phase and every reason that the operator gives has its sentence in ``explain``."""

from __future__ import annotations

import ast
import inspect
import re

import pytest

from modelrollout.api.reasons import EventReason
from modelrollout.api.status import Phase
from modelrollout.cli.view.explain import sections
from modelrollout.cli.view.meanings import PHASES, REASONS
from modelrollout.rollout import bake, commands, draft, holding, rollback, steps, verifying
from tests.unit.cli.cases import CASES, changed, read

MODULES = (bake, commands, draft, holding, rollback, steps, verifying)


def given_reasons() -> set[str]:
    """The words that these modules use as the reason of an attempt: constants, and literals of ``reason``."""
    found: set[str] = set()
    for module in MODULES:
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if (
                isinstance(node, ast.Assign)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            ):
                found.add(node.value.value)
            if isinstance(node, ast.keyword) and node.arg == "reason" and isinstance(node.value, ast.Constant):
                found.add(str(node.value.value))
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "roll_back":
                found |= _reason_of(node)
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "closed":
                found |= {str(part.value) for part in node.args[3:4] if isinstance(part, ast.Constant)}
    return {word for word in found if re.fullmatch("[A-Z][A-Za-z]+", word)}


def _reason_of(call: ast.Call) -> set[str]:
    given = call.args[1]
    if isinstance(given, ast.Constant):
        return {str(given.value)}
    if isinstance(given, ast.Attribute):
        return {str(EventReason[given.attr])}
    return set()


def test_the_reasons_are_found_at_all() -> None:
    assert {"GuardBreached", "AbortCommanded", "FirstDeployment", "Interrupted", "ApprovalStep"} <= given_reasons()


def test_every_reason_has_a_sentence() -> None:
    assert given_reasons() - set(REASONS) == set()


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


def test_evidence_that_the_status_lost_is_taken_from_the_record() -> None:
    found = read("rolled-back")
    assert found.status.rollout is not None
    bare = found.status.rollout.model_copy(update={"revision": "digits-77aa00bb11", "attempt": 2, "guards": ()})
    evidence = dict(sections(changed("rolled-back", rollout=bare)))["Evidence"]
    assert evidence[0].startswith("Guard errors (error-ratio over 1m) was 0.21 from 240 requests")
