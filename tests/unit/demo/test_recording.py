from __future__ import annotations

import pytest
from deploy.demo.recording import TRITON_FAILURE, Answer, Recording, failed_by_traffic, percentile

MODEL_ERROR = f'{{"error":"{TRITON_FAILURE} \'digits_0_0\', message: ZeroDivisionError"}}'
GATEWAY_ERROR = "upstream connect error or disconnect/reset before headers"


def answer(at: float, status: str = "200", revision: str | None = "a", label: int | None = 1, text: str = "") -> Answer:
    return Answer(at - 0.01, at, status, revision, 1, label, text)


@pytest.mark.parametrize(
    ("one", "lost"),
    [
        (answer(1), False),
        (answer(1, "500", "bad", None, MODEL_ERROR), False),
        (answer(1, "INTERNAL", "bad", None, f"{TRITON_FAILURE} 'digits'"), False),
        (answer(1, "500", "good", None, MODEL_ERROR), True),
        (answer(1, "503", "bad", None, GATEWAY_ERROR), True),
        (answer(1, "503", None, None, ""), True),
        (answer(1, "500", None, None, MODEL_ERROR), True),
        (answer(1, "404", None, None), True),
        (answer(1, "timeout", None, None), True),
        (answer(1, "connection", None, None), True),
        (answer(1, "garbage", "bad", None), True),
    ],
)
def test_only_the_bad_models_own_errors_are_not_lost_requests(one: Answer, lost: bool) -> None:
    assert bool(failed_by_traffic([one], {"bad"})) is lost


def test_counts_by_revision_and_status() -> None:
    recording = Recording()
    for one in (answer(1), answer(2), answer(3, "500", "b", None), answer(4, "timeout", None, None)):
        recording.add(one)
    assert recording.by_revision() == {"a": {"200": 2}, "b": {"500": 1}, "none": {"timeout": 1}}
    assert recording.revisions() == ["a", "b"]
    assert recording.last_answer("a") == 2
    assert recording.last_answer("c") is None


def test_accuracy_is_over_answers_only() -> None:
    recording = Recording()
    for one in (answer(1, label=1), answer(2, label=7), answer(3, "500", label=None)):
        recording.add(one)
    assert recording.accuracy("a") == 0.5
    assert recording.accuracy("b") is None


def test_bins_cover_the_span_and_hold_each_answer_once() -> None:
    recording = Recording()
    for at in (10.0, 10.5, 11.2, 12.999):
        recording.add(answer(at))
    recording.add(answer(12.9995, "500", label=None))
    bins = recording.bins("a", 10.0, 13.0)
    assert [one.requests for one in bins] == [2, 1, 2]
    assert [one.errors for one in bins] == [0, 0, 1]
    assert [one.start for one in bins] == [10.0, 11.0, 12.0]
    assert bins[0].p99 == pytest.approx(0.01)


def test_recent_forgets_what_is_old() -> None:
    recording = Recording()
    for one in (answer(1), answer(9), answer(9.5, revision=None, status="503", label=None)):
        recording.add(one)
    recent = recording.recent(10.0, 3.0)
    assert {name: one.requests for name, one in recent.items()} == {"a": 1, "none": 1}


def test_percentile() -> None:
    assert percentile([], 0.99) is None
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([float(i) for i in range(100)], 0.99) == 99.0
