"""The arms of an A/B test: counted since it began, whatever the length of the test."""

from __future__ import annotations

from dataclasses import astuple, replace
from datetime import timedelta

import pytest

from modelrollout.evidence.arms import POINTS, arm_queries, read_arms, step_at
from modelrollout.evidence.context import Context
from modelrollout.evidence.slis import CatalogError
from modelrollout.ports import Answer
from modelrollout.rollout.observed import Arm
from modelrollout.rollout.plan import Source
from tests.unit.evidence.envoy import Envoy, Storage, at, context

BASE = "httproute/demo/digits/rule"


def split(since: float = 0) -> Context:
    return replace(context(since=since), source=Source.SPLIT)


def clusters() -> tuple[Envoy, Envoy, Envoy, Envoy]:
    """Stable by weight and pinned, candidate by weight and pinned."""
    stable = Envoy(cluster=f"{BASE}/0/backend/0")
    others = (stable.beside(f"{BASE}/{name}") for name in ("1/backend/0", "0/backend/1", "2/backend/0"))
    return (stable, *others)  # type: ignore[return-value]


def arms(storage: Storage, where: Context, seconds: float) -> tuple[Arm, Arm]:
    now = at(seconds)
    answers = {}
    for query in arm_queries(where, now):
        assert query.start is not None
        assert query.step is not None
        answers[query.name] = storage.answer_range(query.text, query.start, query.end, query.step)
    return read_arms(where, answers, now)


def test_both_arms_by_weight_and_by_pin() -> None:
    storage, (stable, stable_pinned, candidate, candidate_pinned) = Storage(), clusters()
    for second in range(-60, 121):
        stable.serve(good=9, bad=1)
        stable_pinned.serve(good=1)
        if second > 0:
            candidate.serve(good=3, bad=1, milliseconds=200)
            candidate_pinned.serve(good=1, milliseconds=200)
        storage.scrape(second, stable, stable_pinned, candidate, candidate_pinned)
    first, second_arm = arms(storage, split(), 120)
    assert (first.revision, second_arm.revision) == ("digits-old", "digits-new")
    assert astuple(first)[1:] == pytest.approx((1320, 1 / 11, 0.0175, 0.02485))
    assert astuple(second_arm)[1:] == pytest.approx((600, 1 / 5, 0.175, 0.2485))


def test_a_test_of_days_is_counted_with_few_points() -> None:
    storage, (stable, stable_pinned, candidate, candidate_pinned) = Storage(), clusters()
    everyone, day = (stable, stable_pinned, candidate, candidate_pinned), 86_400
    for second in range(-60, day + 1, 60):
        stable.serve(good=54, bad=6)
        if second > 0:
            candidate.serve(good=30)
        storage.scrape(second, *everyone)
    queries = arm_queries(split(), at(day))
    assert all(query.start is not None and query.step is not None for query in queries)
    assert {(query.end - query.start) // query.step for query in queries} == {POINTS + 1}  # type: ignore[operator]
    first, second_arm = arms(storage, split(), day)
    assert astuple(first)[1:3] == pytest.approx((86_400, 0.1))
    assert (second_arm.requests, second_arm.error_ratio) == (43_200, 0.0)


def test_a_restart_of_the_proxy_loses_no_more_than_a_point() -> None:
    storage, (stable, stable_pinned, candidate, candidate_pinned) = Storage(), clusters()
    everyone = (stable, stable_pinned, candidate, candidate_pinned)
    for second in range(3_601):
        if second == 1_800:
            for one in everyone:
                one.restart()
        if second:
            candidate.serve(good=1)
        storage.scrape(second, *everyone)
    _, arm = arms(storage, split(), 3_600)
    assert arm.requests is not None
    assert 3_600 - step_at(split(), at(3_600)).total_seconds() <= arm.requests <= 3_600


def test_an_arm_without_requests_is_not_known_and_one_just_begun_has_none() -> None:
    storage, (stable, stable_pinned, candidate, candidate_pinned) = Storage(), clusters()
    for one in (candidate, candidate_pinned):
        one.remove_cluster()
    for second in range(-10, 1):
        stable.serve(good=5)
        storage.scrape(second, stable, stable_pinned, candidate, candidate_pinned)
    assert arms(storage, split(), 0) == (Arm("digits-old", 0.0), Arm("digits-new"))


@pytest.mark.parametrize("elapsed", [0, 0.3, 1, 7.123456, 59.9, 499.9995, 500, 86_400.000001, 30 * 86_400 + 0.123])
def test_points_begin_just_before_the_test_and_end_now(elapsed: float) -> None:
    where = replace(split(), since=at(0) + timedelta(microseconds=123))
    now = where.since + timedelta(seconds=elapsed)
    step = step_at(where, now)
    for query in arm_queries(where, now):
        assert query.start is not None
        assert (query.end, query.step) == (now, step)
        parts, rest = divmod(now - query.start, step)
        assert rest == timedelta(0)
        assert 1 <= parts <= POINTS + 1
        begin = query.start + step
        assert begin <= where.since
        assert where.since - begin <= timedelta(seconds=1)


def test_since_in_the_future_is_asked_about_now() -> None:
    storage, (stable, *others) = Storage(), clusters()
    storage.scrape(0, stable, *others)
    assert arms(storage, split(since=60), 0)[0] == Arm("digits-old", 0.0)


def test_without_a_gateway_there_are_no_arms() -> None:
    with pytest.raises(CatalogError, match="there is none"):
        arm_queries(replace(split(), profile=None), at(10))


def test_what_the_gateway_does_not_count_is_left_out() -> None:
    where = replace(context(since=0), profile="nginx-gateway-fabric", source=Source.SPLIT)
    queries = arm_queries(where, at(60))
    assert [query.name for query in queries] == ["0 error-ratio http", "1 error-ratio http"]
    stable, candidate = read_arms(where, {query.name: Answer("matrix", ()) for query in queries}, at(60))
    assert (stable.latency_p99, candidate.latency_p50, candidate.error_ratio) == (None, None, None)
