"""SLIs that Prometheus computes: what is asked, which subject counts, and what can never be judged."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from modelrollout.api.guard import Guard
from modelrollout.api.rolloutpolicy import SliDefinition
from modelrollout.api.status import Verdict
from modelrollout.evidence.context import Context
from modelrollout.evidence.judge import Failure, judge_guard
from modelrollout.evidence.measure import Reading
from modelrollout.evidence.promql import QueryError
from modelrollout.evidence.query_slis import questions, readings, rounded
from modelrollout.evidence.slis import CatalogError
from modelrollout.ports import Answer, Series
from modelrollout.rollout.plan import Span
from tests.unit.evidence.envoy import at, context

NOW = at(3600)


def guard(sli: str = "input-psi", **more: Any) -> Guard:
    return Guard.model_validate({"name": "g", "sli": sli, "max": 0.2, "window": "10m", **more})


def vector(label: str, **values: float) -> Answer:
    return Answer("vector", tuple(Series({label: name}, ((NOW.timestamp(), value),)) for name, value in values.items()))


def read(wished: Guard, values: Answer, samples: Answer, where: Context | None = None) -> Reading:
    found = readings(wished, where or context(), {"value": values, "samples": samples}, NOW)
    assert not isinstance(found, str)
    (reading,) = found
    return reading


MANY = vector("feature", age=900.0, income=900.0, region=20.0)


@pytest.mark.parametrize(
    ("wished", "expected"),
    [
        (guard(), ("feature region", 0.5, 20)),
        (guard(minSamples=100), ("feature age", 0.3, 900)),
        (guard(max=None, min=0.2), ("feature income", 0.1, 900)),
        # Between two bounds the worst is what lies furthest outside.
        (guard(min=0.29, max=0.6), ("feature income", 0.1, 900)),
        (guard(min=0.0, max=0.1), ("feature region", 0.5, 20)),
    ],
)
def test_the_worst_subject_with_enough_samples_counts(wished: Guard, expected: tuple[str, float, float]) -> None:
    reading = read(wished, vector("feature", age=0.3, income=0.1, region=0.5), MANY)
    assert (reading.subject, reading.value, reading.samples) == expected


def test_too_few_samples_of_all_are_no_data() -> None:
    reading = read(guard(minSamples=1000), vector("feature", age=0.3, region=0.5), MANY)
    assert (reading.value, reading.samples, reading.why) == (None, 900, "900 of at least 1000 requests in the window")


def test_what_where_chose_is_told_with_the_worst() -> None:
    chosen = guard("recall", max=None, min=0.7, where={"slice": "phone"})
    assert read(chosen, vector("label", billing=0.6, tech=0.9), MANY).subject == "slice phone, label billing"
    chosen = guard("accuracy", max=None, min=0.7, where={"slice": "phone"})
    assert read(chosen, Answer("vector", (Series({}, ((3600.0, 0.6),)),)), MANY).subject == "slice phone"


def test_nothing_and_no_number_are_no_data() -> None:
    empty = Answer("vector", ())
    chosen = guard(where={"feature": "age"})
    assert read(chosen, empty, empty).why == "nothing of feature age was counted in the last 10m"
    reading = read(guard(), vector("feature", age=float("nan")), MANY)
    assert (reading.value, reading.why) == (None, "the query answers no finite number")
    # A feature without a number does not hide another.
    assert read(guard(), vector("feature", age=float("nan"), income=0.4), MANY).subject == "feature income"


def test_inputs_are_looked_at_from_before_the_attempt_and_an_arm_is_not() -> None:
    where = context(since=3600 - 125)
    (value, _) = questions(guard(), where, NOW)
    assert "[10m]" in value.text
    (value, _) = questions(guard("output-psi"), where, NOW)
    assert "[2m]" in value.text
    assert 'revision="digits-new"' in value.text
    for sli in ("input-psi", "output-psi"):
        (value, _) = questions(guard(sli), replace(where, watch=True), NOW)
        assert "[2m]" in value.text, "between rollouts: since the last drift ended"
    spans = (Span(at(3600 - 300), 50_000), Span(at(3600 - 125), 250_000))
    (value, _) = questions(guard("output-psi"), replace(where, spans=spans), NOW)
    assert "[4m48s]" in value.text


@pytest.mark.parametrize(("span", "window"), [(0.2, 1), (1, 1), (7.9, 7), (15, 15), (16, 16), (125, 120), (599, 576)])
def test_a_window_that_grows_is_rarely_another_one(span: float, window: float) -> None:
    assert rounded(timedelta(seconds=span)) == timedelta(seconds=window)


def test_the_last_evaluations_are_one_question_as_far_as_their_windows_are_alike() -> None:
    wished = guard("label-flips", breaches=2, of=4)
    whole = questions(wished, context(since=0), NOW)
    assert [query.name for query in whole] == ["value", "samples"]
    assert {(query.end, query.start, query.step) for query in whole} == {(NOW, at(3570), timedelta(seconds=10))}
    cut = questions(wished, context(since=3600 - 615), NOW)
    # Windows of 10m (newest two); of 9m55s and 9m45s 9m36s is looked at.
    assert [query.name for query in cut] == ["value", "samples", "value 2", "samples 2"]
    assert [(query.start, query.end) for query in cut[1:3]] == [(at(3590), NOW), (at(3570), at(3580))]
    (newest, *_, oldest) = questions(wished, context(since=3600 - 35), NOW)
    assert (newest.start, oldest.start, oldest.end) == (None, None, at(3570))


def test_each_evaluation_finds_its_own_values() -> None:
    wished, where = guard("label-flips", breaches=2, of=3), context(since=0)
    times = [at(3600).timestamp(), at(3590).timestamp(), at(3580).timestamp()]
    values = Answer("matrix", (Series({}, tuple(zip(reversed(times), (0.3, 0.2, 0.1), strict=True))),))
    samples = Answer("matrix", (Series({}, tuple(zip(reversed(times), (30.0, 20.0, 10.0), strict=True))),))
    found = readings(wished, where, {"value": values, "samples": samples}, NOW)
    assert not isinstance(found, str)
    assert [(reading.value, reading.samples) for reading in found] == [(0.1, 10.0), (0.2, 20.0), (0.3, 30.0)]


def test_the_sli_of_a_policy_is_asked_like_any_other() -> None:
    own = SliDefinition(name="depth", unit="requests", query='depth{pod=~"$pods",$where}')
    where = replace(context(), definitions=(own,))
    (query,) = questions(guard("depth", where={"lane": 'a"b|$name', "zone": "z"}), where, NOW)
    assert query.text == (
        'depth{lane="a\\"b|$name",namespace="demo",pod=~"digits-new-[a-z0-9]{1,10}-[a-z0-9]{5}",zone="z"}'
    )
    (query,) = questions(guard("depth"), where, NOW)
    assert query.text == 'depth{namespace="demo",pod=~"digits-new-[a-z0-9]{1,10}-[a-z0-9]{5}"}'
    two = Answer(
        "vector", (Series({"a": "1"}, ((NOW.timestamp(), 1.0),)), Series({"a": "2"}, ((NOW.timestamp(), 2.0),)))
    )
    assert "answers 2 series at once; aggregate" in str(readings(guard("depth"), where, {"value": two}, NOW))
    one = Answer("vector", (Series({}, ((NOW.timestamp(), 1.0),)),))
    counting = replace(where, definitions=(own.model_copy(update={"samples": 'depth_count{pod=~"$pods"}'}),))
    summed = readings(guard("depth"), counting, {"value": one, "samples": two}, NOW)
    assert "the samples query of depth answers 2 series at once; aggregate" in str(summed)
    text = Answer("string", ())
    assert readings(guard("depth"), where, {"value": text}, NOW) == (
        "the query of depth answers a string, not a number"
    )


def test_a_sli_of_a_policy_stays_in_the_namespace() -> None:
    own = SliDefinition(name="depth", unit="requests", query='depth{namespace="kube-system"}')
    with pytest.raises(QueryError, match="its own namespace only"):
        questions(guard("depth"), replace(context(), definitions=(own,)), NOW)
    (query,) = questions(guard("depth"), replace(context(), definitions=(own,), enforce_namespace=False), NOW)
    assert query.text == 'depth{namespace="kube-system"}'
    own = SliDefinition(name="depth", unit="requests", query="depth{$where}")
    with pytest.raises(QueryError, match="its own namespace only"):
        questions(guard("depth", where={"namespace": "theirs"}), replace(context(), definitions=(own,)), NOW)


def test_labels_that_mean_nothing() -> None:
    with pytest.raises(CatalogError, match="where: 'slice' means nothing to this SLI; labels of it are feature"):
        questions(guard(where={"slice": "eu"}), context(), NOW)
    with pytest.raises(CatalogError, match="it has none: remove where"):
        questions(guard("answer-differences", where={"feature": "age"}), context(), NOW)


def of_outputs(whole: float | None, **parts: float) -> Answer:
    values = {"": whole, **parts}
    found = ((name, value) for name, value in values.items() if value is not None)
    return Answer(
        "vector",
        tuple(Series({"output": name} if name else {}, ((NOW.timestamp(), value),)) for name, value in found),
    )


@pytest.mark.parametrize(
    ("parts", "subject"),
    [
        ({"SCORES": 0.3, "CLASS": 0.05}, "worst output SCORES: 0.3"),
        ({"SCORES": 0.0, "CLASS": 0.0}, ""),
        ({"CLASS": float("nan")}, ""),
        ({}, ""),
    ],
    ids=["the worst one", "none differs", "no number", "an observer that tells of none"],
)
def test_of_several_outputs_the_value_is_that_of_all_and_the_worst_is_named(
    parts: dict[str, float], subject: str
) -> None:
    wished = guard("answer-differences", minSamples=100)
    count = Answer("vector", (Series({}, ((NOW.timestamp(), 900.0),)),))
    reading = read(wished, of_outputs(0.33, **parts), count)
    assert (reading.value, reading.samples, reading.subject) == (0.33, 900, subject)
    few = read(guard("answer-differences", minSamples=901), of_outputs(0.33, **parts), count)
    assert (few.value, few.samples) == (None, 900)


def test_outputs_without_the_value_of_all_are_no_value() -> None:
    count = Answer("vector", (Series({}, ((NOW.timestamp(), 900.0),)),))
    reading = read(guard("answer-differences"), of_outputs(None, SCORES=0.3), count)
    assert reading.value is None


def test_a_breach_names_the_worst_output_and_its_share() -> None:
    answers: dict[str, Answer | Failure] = {
        "value": of_outputs(0.33, SCORES=0.3, CLASS=0.05),
        "samples": Answer("vector", (Series({}, ((NOW.timestamp(), 900.0),)),)),
    }
    found = judge_guard(guard("answer-differences", breaches=1, of=1), context(), answers, NOW)
    assert (found.verdict, found.value, found.drift) == (Verdict.BREACH, 0.33, "")
    assert found.message == (
        "answer-differences is 0.33 over 10m (900 requests), must be <= 0.2 (worst output SCORES: 0.3)"
    )
