"""Queries asked of both arms: what the candidate does alone is a breach, what both do is the world."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import pytest

from modelrollout.api.guard import Guard
from modelrollout.api.status import Verdict
from modelrollout.evidence.judge import judge_guard
from modelrollout.evidence.queries import guard_queries
from modelrollout.ports import Answer, Series
from modelrollout.rollout.observed import GuardResult
from modelrollout.rollout.plan import WHOLE, Span
from tests.unit.evidence.envoy import at, context

OWN = Guard(name="own", query='max(drift{revision="$revision"})', max=0.2)
INPUTS = Guard(name="inputs", sli="input-psi", max=0.2, window=timedelta(minutes=1))
OUTPUTS = Guard(name="outputs", sli="output-psi", max=0.2, window=timedelta(minutes=1))
ACCURACY = Guard(name="accuracy", sli="accuracy", min=0.9, label_delay=timedelta(hours=1))

HALF = replace(context(), spans=(Span(at(0), 500_000),))


def vector(**values: float) -> Answer:
    """One series a subject, named by its label and value: ``feature_age=0.3``."""
    found = []
    for name, value in values.items():
        label, _, subject = name.partition("_")
        found.append(Series({label: subject} if subject else {}, ((at(100).timestamp(), value),)))
    return Answer("vector", tuple(found))


def judged(guard: Guard, answers: Mapping[str, Answer], where: object = HALF, now: float = 100) -> GuardResult:
    assert isinstance(where, type(HALF))
    asked = {query.name for query in guard_queries(guard, where, at(now))}
    assert asked == set(answers)
    return judge_guard(guard, where, answers, at(now))


class TestOwnQueries:
    def test_the_same_is_asked_of_stable(self) -> None:
        own, other = guard_queries(OWN, HALF, at(100))
        assert (own.name, other.name) == ("query", "stable query")
        assert 'revision="digits-new"' in own.text
        assert other.text == own.text.replace("digits-new", "digits-old")

    @pytest.mark.parametrize(("stable", "both"), [(0.5, True), (0.1, False)])
    def test_stable_breaks_the_bound_too(self, stable: float, both: bool) -> None:
        result = judged(OWN, {"query": vector(x=0.3), "stable query": vector(x=stable)})
        assert (result.verdict, result.both, result.baseline) == (Verdict.BREACH, both, stable)

    def test_stable_without_an_answer_is_no_witness(self) -> None:
        result = judged(OWN, {"query": vector(x=0.3), "stable query": vector()})
        assert (result.verdict, result.both) == (Verdict.BREACH, False)

    @pytest.mark.parametrize(
        "query",
        ["max(drift)", 'max(drift{revision="$revision"}) - max(drift{revision="$stable"})'],
        ids=["neither", "both"],
    )
    def test_a_query_about_neither_or_both_is_asked_once(self, query: str) -> None:
        assert len(guard_queries(OWN.model_copy(update={"query": query}), HALF, at(100))) == 1

    def test_in_the_bake_stable_is_not_asked(self) -> None:
        alone = replace(HALF, spans=(Span(at(0), WHOLE - 1),))
        result = judged(OWN, {"query": vector(x=0.3)}, alone)
        assert (result.verdict, result.both) == (Verdict.BREACH, False)

    def test_between_rollouts_there_is_no_other_arm(self) -> None:
        watch = replace(HALF, watch=True, stable="digits-new", spans=())
        assert len(guard_queries(OWN, watch, at(100))) == 1


class TestObserved:
    def test_inputs_drift_for_both_arms(self) -> None:
        value = vector(feature_age=0.3, feature_income=0.05)
        samples = vector(feature_age=500, feature_income=500)
        result = judged(INPUTS, {"value": value, "samples": samples})
        assert (result.verdict, result.both, result.drift, result.value) == (Verdict.BREACH, True, "feature age", 0.3)
        assert result.samples == 500
        assert "feature age" in result.message

    def test_inputs_within_the_bound_are_not_said_to_be_of_both(self) -> None:
        result = judged(INPUTS, {"value": vector(feature_age=0.1), "samples": vector(feature_age=500)})
        assert (result.verdict, result.both) == (Verdict.PASS, False)

    @pytest.mark.parametrize(("stable", "both"), [(0.4, True), (0.02, False)])
    def test_outputs_drift_for_one_arm_or_both(self, stable: float, both: bool) -> None:
        answers = {
            "value": vector(output_score=0.3),
            "samples": vector(output_score=500),
            "stable value": vector(output_score=stable),
            "stable samples": vector(output_score=900),
        }
        result = judged(OUTPUTS, answers)
        assert (result.verdict, result.both, result.drift) == (Verdict.BREACH, both, "output score")

    def test_stable_with_too_few_requests_is_no_witness(self) -> None:
        answers = {
            "value": vector(output_score=0.3),
            "samples": vector(output_score=500),
            "stable value": vector(output_score=0.4),
            "stable samples": vector(output_score=3),
        }
        assert judged(OUTPUTS.model_copy(update={"min_samples": 100}), answers).both is False

    def test_quality_waits_for_the_labels(self) -> None:
        names = ("value", "samples", "stable value", "stable samples")
        result = judged(ACCURACY, {name: vector() for name in names})
        assert (result.verdict, result.waits_until) == (Verdict.NO_DATA, at(3600))
