"""Guards replayed over history say what they would have said then; what they need is fetched in few questions."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from modelrollout.api.guard import Guard
from modelrollout.api.status import Verdict
from modelrollout.evidence.backtest import (
    LOOKS,
    Fetch,
    History,
    Tally,
    Trial,
    as_on_trial,
    can_be_replayed,
    looks,
    needed,
    replay,
    resolution_of,
)
from modelrollout.evidence.context import Context
from modelrollout.evidence.queries import guard_queries
from modelrollout.ports import Series
from modelrollout.rollout.observed import GuardResult
from modelrollout.rollout.plan import WHOLE, Span
from tests.unit.evidence.envoy import HTTP, Envoy, Storage, at, context

STEP = timedelta(seconds=30)
SCRAPE = timedelta(seconds=5)
STABLE = HTTP.removesuffix("1") + "0"


def guard(**fields: Any) -> Guard:
    return Guard.model_validate({"name": "errors", "sli": "error-ratio", "window": "1m", **fields})


def storage(seconds: int = 3600, bad: tuple[int, int] = (1800, 1920)) -> Storage:
    """Both arms answer 10 requests a second; the candidate's slot fails one of five between ``bad``."""
    found, mine, theirs = Storage(), Envoy(cluster=HTTP), Envoy(cluster=STABLE)
    for second in range(-600, seconds + 1, 5):
        failing = 10 if bad[0] <= second < bad[1] else 0
        mine.serve(good=50 - failing, bad=failing, milliseconds=20 if second < 2400 else 200)
        theirs.serve(good=50)
        found.scrape(second, mine, theirs)
    return found


STORED = storage()


def fetched(wishes: tuple[Fetch, ...]) -> History:
    return History(
        {wish.text: STORED.answer_range(wish.text, wish.start, wish.end, wish.step).series for wish in wishes}
    )


def trial(begin: int, end: int, where: Context | None = None, title: str = "") -> Trial:
    where = where or replace(context(), stable="digits-new")
    return Trial(replace(where, since=at(begin), interval=STEP), at(begin), at(end), title)


def said(results: list[GuardResult]) -> list[tuple[Verdict, float | None, float | None]]:
    return [(result.verdict, result.value, result.samples) for result in results]


RECORDED = replace(context(), spans=(Span(at(1200), 500_000),))
GUARDS = [
    pytest.param(guard(max=0.05), trial(1200, 2700), id="bound"),
    pytest.param(guard(max=0.05, breaches=2, of=4), trial(1200, 2700), id="several evaluations"),
    pytest.param(guard(max=0.05, minSamples=400), trial(1200, 2700), id="samples"),
    pytest.param(guard(sli="latency-p95", max=0.1), trial(1200, 2700), id="latency"),
    pytest.param(guard(sli="request-rate", min=5), trial(1200, 2700), id="rate"),
    pytest.param(guard(max=0.01, confidence=0.999), trial(1200, 2700), id="confidence"),
    pytest.param(guard(max=0.01, confidence=0.999, warmUp="2m"), trial(1200, 2700), id="warm-up"),
    pytest.param(guard(relativeTo="stable"), trial(1200, 2700, RECORDED, "v2"), id="relative"),
    pytest.param(guard(sli="latency-p95", relativeTo="stable"), trial(1200, 2700, RECORDED, "v2"), id="slower"),
]


@pytest.mark.parametrize(("judged", "tried"), GUARDS)
def test_a_replay_says_what_an_evaluation_at_that_time_says(judged: Guard, tried: Trial) -> None:
    wishes = needed(judged, [tried], STEP, SCRAPE)
    assert len(wishes) == 1, "one question for all evaluations"
    results = replay(judged, tried, fetched(wishes), STEP, SCRAPE)
    where, origin = as_on_trial(judged, tried), at(0)
    live = [STORED.judge(judged, where, (result.at - origin).total_seconds()) for result in results]
    assert said(results) == said(live)
    assert {result.verdict for result in results} >= {Verdict.PASS} if judged.sli != "latency-p95" else results


def test_a_breach_is_found_when_it_was() -> None:
    judged, tried = guard(max=0.05), trial(600, 3300)
    tally = Tally()
    tally.add(judged, replay(judged, tried, fetched(needed(judged, [tried], STEP, SCRAPE)), STEP, SCRAPE))
    assert (tally.trials, tally.fired, tally.looks, tally.silent) == (1, 1, 90, 0)
    assert tally.first is not None
    assert tally.last is not None
    assert tally.worst is not None
    assert at(1800) <= tally.first.at <= at(1860) < tally.last.at <= at(2010)
    assert tally.worst.value == pytest.approx(0.2)


def test_nothing_after_an_evaluation_is_known_to_it() -> None:
    judged, tried = guard(max=0.05), trial(600, 3300)
    early = trial(600, 1790)
    (wide,), (narrow,) = needed(judged, [tried], STEP, SCRAPE), needed(judged, [early], STEP, SCRAPE)
    assert wide.text == narrow.text
    both = [replay(judged, early, fetched((wish,)), STEP, SCRAPE) for wish in (wide, narrow)]
    assert said(both[0]) == said(both[1])
    assert all(result.verdict is Verdict.PASS for result in both[0])


def test_time_without_samples_is_no_data_and_what_was_not_read_is_told_apart() -> None:
    judged, tried = guard(max=0.05), trial(3000, 7200)
    wishes = needed(judged, [tried], STEP, SCRAPE)
    tally = Tally()
    tally.add(judged, replay(judged, tried, fetched(wishes), STEP, SCRAPE))
    assert (tally.fired, tally.looks, tally.unread) == (0, 140, 0)
    assert 118 <= tally.silent <= 120
    missing = History({}, {wishes[0].text: "Prometheus did not answer"})
    tally = Tally()
    tally.add(judged, replay(judged, tried, missing, STEP, SCRAPE))
    assert (tally.fired, tally.silent, tally.unread) == (0, 0, 140)


def test_a_query_is_fetched_as_it_is() -> None:
    judged = Guard.model_validate({"name": "drift", "query": 'max(psi{revision="$revision"})', "max": 0.2, "of": 3})
    tried = trial(600, 1200)
    (wish,) = needed(judged, [tried], STEP, SCRAPE)
    assert (wish.text, wish.step) == ('max(psi{namespace="demo",revision="digits-new"})', STEP)
    assert (wish.start, wish.end) == (at(630) - 2 * STEP, at(1200))
    points = tuple((at(second).timestamp(), 0.3 if second == 900 else 0.1) for second in range(570, 1201, 30))
    results = replay(judged, tried, History({wish.text: [Series({}, points)]}), STEP, SCRAPE)
    assert [result.verdict for result in results].count(Verdict.BREACH) == 3
    series = [Series({"a": str(number)}, points) for number in range(2)]
    (first, *_) = replay(judged, tried, History({wish.text: series}), STEP, SCRAPE)
    assert "answers 2 series at once" in (first.invalid or "")


def test_a_window_that_grows_in_a_rollout_on_record_is_fetched_as_it_grows() -> None:
    judged = Guard.model_validate({"name": "outputs", "sli": "output-psi", "max": 0.2, "window": "10m"})
    tried = trial(600, 1500, RECORDED, "v2")
    wishes = needed(judged, [tried], STEP, SCRAPE)
    known = {wish.text for wish in wishes}
    for when in looks(tried, judged, STEP):
        for query in guard_queries(judged, as_on_trial(judged, tried), when):
            assert query.text in known
            (wish,) = (wish for wish in wishes if wish.text == query.text)
            assert wish.start <= query.end <= wish.end
    (constant,) = {len(needed(judged, [trial(begin, begin + 900)], STEP, SCRAPE)) for begin in (600, 1500)}
    assert constant < len(wishes), "what served had its traffic long before: its window is whole"


def test_times_of_a_rollout_on_record_are_found_however_prometheus_rounds_them() -> None:
    judged = Guard.model_validate({"name": "drift", "query": 'max(psi{revision="$revision"})', "max": 0.2})
    odd = timedelta(microseconds=761_731)
    tried = Trial(replace(RECORDED, since=at(600) + odd, spans=()), at(600) + odd, at(900) + odd, "v2")
    times = [round((at(600) + odd + number * STEP).timestamp(), 3) for number in range(11)]
    series = [Series({}, tuple((time, 0.3) for time in times))]
    known = History({wish.text: series for wish in needed(judged, [tried], STEP, SCRAPE)})
    assert {result.verdict for result in replay(judged, tried, known, STEP, SCRAPE)} == {Verdict.BREACH}


def test_stable_is_asked_for_as_long_as_it_had_traffic() -> None:
    judged = Guard.model_validate({"name": "outputs", "sli": "output-psi", "max": 0.2, "window": "10m"})
    bake = Span(at(1200), WHOLE)
    tried = trial(600, 1500, replace(RECORDED, spans=(Span(at(600), 500_000), bake)), "v2")
    texts = {wish.text for wish in needed(judged, [tried], STEP, SCRAPE)}
    assert any('revision="digits-old"' in text for text in texts)
    series = {
        text: [Series({"output": "a"}, tuple((at(s).timestamp(), 900.0) for s in range(600, 1501, 30)))]
        for text in texts
    }
    both = {result.at: result.both for result in replay(judged, tried, History(series), STEP, SCRAPE)}
    assert both[at(900)], "stable was as bad: the rollout held"
    assert not both[at(1500)], "in the bake stable is no witness"


def test_a_guard_that_can_never_be_judged_is_told() -> None:
    judged = Guard.model_validate({"name": "x", "query": "rate(x[5m", "max": 1})
    tally = Tally()
    tally.add(judged, replay(judged, trial(0, 60), History({}), STEP, SCRAPE))
    assert "does not parse" in (tally.invalid or "")


def test_a_relative_guard_needs_two_revisions() -> None:
    assert not can_be_replayed(guard(relativeTo="stable"), trial(0, 60))
    assert can_be_replayed(guard(relativeTo="stable"), trial(0, 60, RECORDED))
    assert can_be_replayed(guard(max=0.1), trial(0, 60))


def test_a_test_is_looked_at_a_few_times_a_trial_and_everything_else_each_step() -> None:
    assert len(looks(trial(0, 3600), guard(max=0.1), STEP)) == 120
    times = looks(trial(0, 3600), guard(max=0.1, confidence=0.99), STEP)
    assert (len(times), times[-1]) == (LOOKS, at(3600))
    assert len(looks(trial(0, 3600, title="v2"), guard(max=0.1, confidence=0.99), STEP)) == 120


@pytest.mark.parametrize(
    ("windows", "step", "expected"),
    [(("1m",), 60, 30), (("10m",), 60, 60), (("10m",), 300, 60), (("5s",), 60, 5), (("1m",), 100, 25), (("1s",), 2, 2)],
    ids=str,
)
def test_samples_are_fetched_as_fine_as_the_shortest_window_needs(
    windows: tuple[str, ...], step: int, expected: float
) -> None:
    found = resolution_of([guard(max=0.1, window=window) for window in windows], timedelta(seconds=step))
    assert found.total_seconds() == expected
    assert timedelta(seconds=step) % found == timedelta(0)


def test_a_question_is_cut_in_two_parts_that_share_nothing() -> None:
    whole = Fetch("up", at(0), at(600), STEP)
    one, other = whole.halves() or (whole, whole)
    assert (one.start, one.end, other.start, other.end) == (at(0), at(300), at(330), at(600))
    assert Fetch("up", at(0), at(30), STEP).halves() is None
