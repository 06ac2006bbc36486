"""Both arms' answers to the same requests, since the candidate has traffic."""

from __future__ import annotations

import pytest

from modelrollout.evidence.compared import comparison_queries, read_comparison
from modelrollout.ports import Answer, Series
from modelrollout.rollout.observed import Comparison
from tests.unit.evidence.envoy import at, context

NOW = at(3600)


def number(value: float) -> Answer:
    return Answer("vector", (Series({}, ((NOW.timestamp(), value),)),))


def test_the_questions_are_about_the_time_of_the_arm() -> None:
    where = context(since=3600 - 240)
    asked = comparison_queries(where, NOW)
    assert [query.name for query in asked] == [
        "answer-differences value",
        "answer-differences samples",
        "label-flips value",
        "label-flips samples",
    ]
    assert all("[4m]" in query.text and 'stable="digits-old"' in query.text for query in asked)
    # A little later it is the same question, so that no query is compiled for each evaluation.
    assert [query.text for query in comparison_queries(where, at(3605))] == [query.text for query in asked]


@pytest.mark.parametrize(
    ("compared", "differing", "flips", "expected"),
    [
        (200.0, 0.25, 0.05, Comparison(200.0, 0.25, 0.05)),
        (200.0, 0.25, None, Comparison(200.0, 0.25, None)),
        (0.0, None, None, None),
    ],
)
def test_what_they_say(
    compared: float, differing: float | None, flips: float | None, expected: Comparison | None
) -> None:
    nothing = Answer("vector", ())
    answers = {
        "answer-differences value": nothing if differing is None else number(differing),
        "answer-differences samples": number(compared),
        "label-flips value": nothing if flips is None else number(flips),
        "label-flips samples": number(compared),
    }
    assert read_comparison(context(), answers, NOW) == expected
