"""Verdicts, from scrapes of pretend proxies to the result of a guard."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta

import pytest

from modelrollout.api.guard import Guard, Sli
from modelrollout.api.status import Verdict
from modelrollout.evidence.judge import Failure, judge_guard, threshold
from modelrollout.evidence.queries import Query, guard_queries
from modelrollout.ports import Answer, Series
from modelrollout.rollout.observed import GuardResult
from tests.unit.evidence.envoy import GRPC, HTTP, Envoy, Storage, at, context

ERRORS = Guard(name="errors", sli=Sli.ERROR_RATIO, max=0.01)
RATE = Guard(name="rate", sli=Sli.REQUEST_RATE, min=5.0)
LATENCY = Guard(name="latency", sli=Sli.LATENCY_P99, max=0.5)


def with_(guard: Guard, **changes: object) -> Guard:
    return Guard.model_validate(guard.model_dump() | changes)


def steady(storage: Storage, envoy: Envoy, first: int, last: int, good: int = 10, bad: int = 0, every: int = 1) -> None:
    """Serve every second and scrape every ``every`` seconds, both ends included."""
    for second in range(first, last + 1):
        envoy.serve(good, bad)
        if second % every == 0:
            storage.scrape(second, envoy)


class TestErrorRatio:
    def test_pass_says_what_it_rests_on(self) -> None:
        storage, envoy = Storage(), Envoy()
        storage.scrape(-1, envoy)
        steady(storage, envoy, 0, 60)
        result = storage.judge(ERRORS, context(), 60)
        assert result == GuardResult(
            "errors", Verdict.PASS, at(60), 0.0, "<= 0.01", 600.0,
            "error-ratio is 0 over 1m (600 requests), must be <= 0.01",
        )  # fmt: skip

    def test_the_burst_that_creates_the_series_is_seen_at_once(self) -> None:
        """rate() would show nothing here: the error series has a single sample."""
        storage, envoy = Storage(), Envoy()
        steady(storage, envoy, -30, 0, good=0)
        envoy.serve(good=72, bad=28)
        storage.scrape(1, envoy)
        result = storage.judge(ERRORS, context(), 1)
        assert (result.verdict, result.value, result.samples) == (Verdict.BREACH, 0.28, 100)
        assert result.message == "error-ratio is 0.28 over 1m (100 requests), must be <= 0.01"

    def test_an_arm_that_is_born_with_its_first_weight_counts_from_its_first_request(self) -> None:
        """Envoy Gateway makes the cluster of a slot anew: its first scrape already has errors in it."""
        storage, envoy = Storage(), Envoy()
        envoy.remove_cluster()
        for second in range(-30, 1):
            storage.scrape(second, envoy)
        envoy.make_cluster()
        envoy.serve(good=72, bad=28)
        storage.scrape(1, envoy)
        result = storage.judge(ERRORS, context(), 1)
        assert (result.verdict, result.value, result.samples) == (Verdict.BREACH, 0.28, 100)

    def test_an_arm_that_is_made_anew_does_not_inherit(self) -> None:
        storage, envoy = Storage(), Envoy()
        steady(storage, envoy, -60, -30, good=5, bad=5)
        envoy.remove_cluster()
        for second in range(-29, 1):
            storage.scrape(second, envoy)
        envoy.make_cluster()
        steady(storage, envoy, 1, 10)
        result = storage.judge(ERRORS, context(), 10)
        assert (result.verdict, result.value, result.samples) == (Verdict.PASS, 0.0, 100)

    def test_a_proxy_without_the_arm_is_no_evidence_of_no_requests(self) -> None:
        storage, envoy = Storage(), Envoy()
        envoy.remove_cluster()
        for second in range(-30, 30):
            storage.scrape(second, envoy)
        rate = Guard(name="rate", sli=Sli.REQUEST_RATE, min=1)
        assert storage.judge(rate, context(), 29).verdict is Verdict.NO_DATA

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_samples_that_are_no_numbers_are_no_rate_of_0(self, value: float) -> None:
        storage, envoy = Storage(), Envoy()
        steady(storage, envoy, -10, 60)
        rate = Guard(name="rate", sli=Sli.REQUEST_RATE, min=1, window=timedelta(seconds=30))
        assert storage.judge(rate, context(), 60).verdict is Verdict.PASS
        storage.samples = {key: [(when, value) for when, _ in samples] for key, samples in storage.samples.items()}
        result = storage.judge(rate, context(), 60)
        assert (result.verdict, result.message) == (
            Verdict.NO_DATA,
            "samples that are no numbers for http at the gateway",
        )

    def test_errors_of_an_earlier_attempt_in_the_slot_do_not_count(self) -> None:
        storage, envoy = Storage(), Envoy()
        steady(storage, envoy, -30, -10, good=5, bad=5)
        steady(storage, envoy, -9, 0, good=0)
        steady(storage, envoy, 1, 20, good=10)
        result = storage.judge(ERRORS, context(), 20)
        assert (result.verdict, result.value, result.samples) == (Verdict.PASS, 0.0, 200)

    def test_a_window_ends_what_counts(self) -> None:
        storage, envoy = Storage(), Envoy()
        steady(storage, envoy, -5, 0, good=0)
        steady(storage, envoy, 1, 10, good=5, bad=5)
        steady(storage, envoy, 11, 100, good=10)
        assert storage.judge(ERRORS, context(), 60).verdict is Verdict.BREACH
        assert storage.judge(ERRORS, context(), 75).value == 0.0
        assert storage.judge(with_(ERRORS, window=timedelta(minutes=5)), context(), 75).verdict is Verdict.BREACH

    def test_an_outage_of_prometheus_is_no_burst(self) -> None:
        """Errors of another attempt, made while nobody scraped, appear at once when scraping goes on."""
        storage, envoy = Storage(), Envoy()
        steady(storage, envoy, -120, -100)
        envoy.serve(good=0, bad=500)
        steady(storage, envoy, 10, 20)
        result = storage.judge(ERRORS, context(), 20)
        assert (result.verdict, result.value, result.samples) == (Verdict.PASS, 0.0, 100)

    def test_errors_made_during_an_outage_inside_the_window_count(self) -> None:
        storage, envoy = Storage(), Envoy()
        steady(storage, envoy, -10, 10)
        envoy.serve(good=0, bad=50)
        steady(storage, envoy, 40, 45)
        assert storage.judge(ERRORS, context(), 45).value == pytest.approx(50 / 210)

    def test_a_proxy_that_is_scraped_for_the_first_time_brings_no_old_counts(self) -> None:
        storage, old, new = Storage(), Envoy("10.0.0.1:19001"), Envoy("10.0.0.2:19001")
        new.serve(good=0, bad=900)
        steady(storage, old, -10, 20)
        steady(storage, new, 15, 20)
        result = storage.judge(ERRORS, context(), 20)
        assert (result.verdict, result.value, result.samples) == (Verdict.PASS, 0.0, 250)

    def test_a_restarted_proxy_counts_from_zero(self) -> None:
        storage, envoy = Storage(), Envoy()
        steady(storage, envoy, -10, 0, good=8, bad=2)
        steady(storage, envoy, 1, 10)
        envoy.restart()
        steady(storage, envoy, 11, 12, good=7, bad=3)
        result = storage.judge(ERRORS, context(), 12)
        assert (result.value, result.samples) == (6 / 120, 120)

    def test_proxies_are_summed(self) -> None:
        storage, one, two = Storage(), Envoy("10.0.0.1:19001"), Envoy("10.0.0.2:19001")
        steady(storage, one, -10, 0, good=0)
        steady(storage, two, -10, 0, good=0)
        steady(storage, one, 1, 10, good=10)
        steady(storage, two, 1, 10, good=5, bad=5)
        result = storage.judge(ERRORS, context(), 10)
        assert (result.value, result.samples) == (0.25, 200)

    def test_other_arms_do_not_count(self) -> None:
        storage, ours = Storage(), Envoy()
        stable = Envoy(cluster="httproute/demo/digits/rule/0/backend/0")
        steady(storage, ours, -1, 10)
        steady(storage, stable, -1, 10, good=0, bad=10)
        assert storage.judge(ERRORS, context(), 10).value == 0.0

    @pytest.mark.parametrize("status", ["2", "4", "8", "13", "14"])
    def test_grpc_faults_of_the_server_are_errors(self, status: str) -> None:
        storage, envoy = Storage(), Envoy(cluster=GRPC)
        storage.scrape(-1, envoy)
        envoy.serve(good=90, bad=10, status=status)
        storage.scrape(1, envoy)
        result = storage.judge(ERRORS, context(http=False, grpc=True), 1)
        assert (result.verdict, result.value) == (Verdict.BREACH, 0.1)

    @pytest.mark.parametrize("status", ["0", "1", "3", "5", "12", "16", "28"])
    def test_grpc_faults_of_the_client_are_not(self, status: str) -> None:
        storage, envoy = Storage(), Envoy(cluster=GRPC)
        storage.scrape(-1, envoy)
        envoy.serve(good=90, bad=10, status=status)
        storage.scrape(1, envoy)
        assert storage.judge(ERRORS, context(http=False, grpc=True), 1).value == 0.0

    @pytest.mark.parametrize(("cluster", "grpc"), [(HTTP, False), (GRPC, True)])
    def test_requests_that_reach_no_pod_are_errors(self, cluster: str, grpc: bool) -> None:
        storage, envoy = Storage(), Envoy(cluster=cluster)
        storage.scrape(-1, envoy)
        envoy.turn_away(50)
        storage.scrape(1, envoy)
        result = storage.judge(ERRORS, context(http=not grpc, grpc=grpc), 1)
        assert (result.verdict, result.value, result.samples) == (Verdict.BREACH, 1.0, 50)

    def test_both_protocols_are_summed(self) -> None:
        storage, http, grpc = Storage(), Envoy(), Envoy(cluster=GRPC)
        storage.scrape(-1, http, grpc)
        http.serve(good=80, bad=20)
        grpc.serve(good=295, bad=5, status="13")
        storage.scrape(1, http, grpc)
        result = storage.judge(ERRORS, context(grpc=True), 1)
        assert (result.value, result.samples) == (25 / 400, 400)

    def test_half_of_the_traffic_is_no_evidence(self) -> None:
        storage, envoy = Storage(), Envoy()
        steady(storage, envoy, -10, 10)
        result = storage.judge(ERRORS, context(grpc=True), 10)
        assert (result.verdict, result.message) == (Verdict.NO_DATA, "no series for grpc at the gateway")


class TestNoData:
    def test_no_series(self) -> None:
        result = Storage().judge(ERRORS, context(), 10)
        assert (result.verdict, result.value, result.message) == (
            Verdict.NO_DATA, None, "no series for http at the gateway",
        )  # fmt: skip

    @pytest.mark.parametrize("guard", [ERRORS, LATENCY])
    def test_no_request_is_never_a_pass(self, guard: Guard) -> None:
        storage, envoy = Storage(), Envoy()
        steady(storage, envoy, -10, 30, good=0)
        result = storage.judge(guard, context(), 30)
        assert (result.verdict, result.message) == (Verdict.NO_DATA, "no request was answered yet")

    @pytest.mark.parametrize(
        ("good", "bad", "verdict"),
        [(90, 9, Verdict.NO_DATA), (9, 90, Verdict.NO_DATA), (90, 10, Verdict.BREACH), (100, 0, Verdict.PASS)],
    )
    def test_too_few_samples_neither_pass_nor_breach(self, good: int, bad: int, verdict: Verdict) -> None:
        storage, envoy = Storage(), Envoy()
        storage.scrape(-1, envoy)
        envoy.serve(good, bad)
        storage.scrape(1, envoy)
        result = storage.judge(with_(ERRORS, min_samples=100), context(), 1)
        assert result.verdict is verdict
        if verdict is Verdict.NO_DATA:
            assert (result.value, result.samples) == (None, 99)
            assert result.message == "99 of at least 100 requests in the window"

    @pytest.mark.parametrize(
        ("every", "last", "now", "fresh"),
        [(1, 30, 59, True), (1, 30, 61, False), (15, 60, 104, True), (15, 60, 107, False)],
    )
    def test_old_samples_are_stale(self, every: int, last: int, now: int, fresh: bool) -> None:
        """30 s, or three scrape intervals where that is longer."""
        storage, envoy = Storage(), Envoy()
        steady(storage, envoy, -60, last, every=every)
        result = storage.judge(with_(ERRORS, window=timedelta(minutes=5)), context(), now)
        assert result.verdict is (Verdict.PASS if fresh else Verdict.NO_DATA)
        if not fresh:
            assert result.message == f"the newest sample is {now - last} s old for http at the gateway"

    def test_before_the_first_scrape_since_the_weight(self) -> None:
        storage, envoy = Storage(), Envoy()
        steady(storage, envoy, -60, 0, good=5, bad=5, every=15)
        assert storage.judge(ERRORS, context(since=1), 10).verdict is Verdict.NO_DATA


class TestRequestRate:
    def test_growth_by_time(self) -> None:
        storage, envoy = Storage(), Envoy()
        steady(storage, envoy, -60, 120, good=7, every=15)
        result = storage.judge(RATE, context(), 120)
        assert (result.verdict, result.value, result.threshold) == (Verdict.PASS, 7.0, ">= 5")

    def test_nothing_at_all_is_a_rate_of_zero(self) -> None:
        storage, envoy = Storage(), Envoy()
        steady(storage, envoy, -60, 120, good=0)
        result = storage.judge(RATE, context(), 120)
        assert (result.verdict, result.value, result.samples) == (Verdict.BREACH, 0.0, 0)

    def test_little_traffic_in_the_first_moments_is_no_breach(self) -> None:
        storage, envoy = Storage(), Envoy()
        steady(storage, envoy, -60, 0, good=0)
        steady(storage, envoy, 1, 60, good=1)
        early = storage.judge(RATE, context(), 30)
        assert early.verdict is Verdict.NO_DATA
        assert early.message == "under the minimum, but traffic began less than 1m ago"
        assert storage.judge(RATE, context(), 60).verdict is Verdict.BREACH

    def test_much_traffic_in_the_first_moments_is_a_breach_of_a_maximum(self) -> None:
        storage, envoy = Storage(), Envoy()
        steady(storage, envoy, -5, 5, good=50)
        guard = Guard(name="rate", sli=Sli.REQUEST_RATE, max=40.0)
        assert storage.judge(guard, context(), 5).verdict is Verdict.BREACH

    def test_one_scrape_is_no_rate(self) -> None:
        storage, envoy = Storage(), Envoy()
        steady(storage, envoy, -60, 15, every=15)
        assert storage.judge(RATE, context(since=1), 16).message == "not scraped twice yet"

    def test_a_proxy_that_replaces_another_is_not_counted_twice(self) -> None:
        storage, old, new = Storage(), Envoy("10.0.0.1:19001"), Envoy("10.0.0.2:19001")
        steady(storage, old, 0, 30, good=10)
        steady(storage, new, 30, 60, good=10)
        value = storage.judge(RATE, context(since=-60), 60).value
        assert value == pytest.approx(10, rel=0.05)


class TestLatency:
    def test_seconds_by_interpolation(self) -> None:
        storage, envoy = Storage(), Envoy()
        storage.scrape(-1, envoy)
        envoy.serve(good=90, milliseconds=20)
        envoy.serve(good=10, milliseconds=700)
        storage.scrape(1, envoy)
        result = storage.judge(LATENCY, context(), 1)
        assert (result.verdict, result.samples) == (Verdict.BREACH, 100)
        assert result.value == pytest.approx(0.95)  # 9 tenths of the way from 500 to 1000 ms
        median = storage.judge(Guard(name="p50", sli=Sli.LATENCY_P50, max=0.5), context(), 1)
        assert median.verdict is Verdict.PASS
        assert median.value == pytest.approx(0.010 + 0.015 * 50 / 90)

    def test_beyond_the_last_bound(self) -> None:
        storage, envoy = Storage(), Envoy()
        storage.scrape(-1, envoy)
        envoy.serve(good=10, milliseconds=5000)
        storage.scrape(1, envoy)
        assert storage.judge(LATENCY, context(), 1).value == 1.0

    def test_slow_requests_before_the_weight_do_not_count(self) -> None:
        storage, envoy = Storage(), Envoy()
        envoy.serve(good=1000, milliseconds=5000)
        steady(storage, envoy, -10, 10)
        result = storage.judge(LATENCY, context(), 10)
        assert (result.verdict, result.samples) == (Verdict.PASS, 100)


class TestSeveralEvaluations:
    """Two of the last three, ten seconds apart, from the same raw samples."""

    GUARD = with_(ERRORS, breaches=2, of=3, window=timedelta(seconds=10))

    def judge(self, *bad: int, since: float = 0) -> GuardResult:
        """``bad``: errors in each of the last spans of ten seconds, oldest first; a hundred requests in each."""
        storage, envoy = Storage(), Envoy()
        start = 100 - 10 * len(bad)
        steady(storage, envoy, start - 10, start, good=0)
        for index, errors in enumerate(bad):
            for second in range(1, 11):
                envoy.serve(good=10 - (errors if second == 5 else 0), bad=errors if second == 5 else 0)
                storage.scrape(start + 10 * index + second, envoy)
        return storage.judge(self.GUARD, context(since=since), 100)

    @pytest.mark.parametrize(
        ("bad", "verdict"),
        [
            ((0, 0, 0), Verdict.PASS),
            ((5, 0, 0), Verdict.PASS),
            ((0, 5, 0), Verdict.PASS),
            ((0, 0, 5), Verdict.NO_DATA),
            ((5, 5, 0), Verdict.BREACH),
            ((0, 5, 5), Verdict.BREACH),
            ((5, 0, 5), Verdict.BREACH),
            ((5, 5, 0, 0), Verdict.PASS),  # the first of four is too long ago
            ((5, 5, 5), Verdict.BREACH),
        ],
    )
    def test_verdict(self, bad: tuple[int, ...], verdict: Verdict) -> None:
        assert self.judge(*bad).verdict is verdict

    def test_a_value_outside_is_not_a_pass_even_if_it_is_no_breach_yet(self) -> None:
        result = self.judge(0, 0, 5)
        assert (result.verdict, result.value) == (Verdict.NO_DATA, 0.05)
        assert result.message.endswith("must be <= 0.01; outside in 1 of the last 3; 2 make a breach")

    def test_evaluations_before_the_weight_do_not_count(self) -> None:
        assert self.judge(5, 5, 0, since=0).verdict is Verdict.BREACH
        assert self.judge(5, 5, 0, since=85).verdict is Verdict.PASS

    def test_a_window_is_cut_where_the_weight_began(self) -> None:
        assert self.judge(0, 5, 0, since=86).value == 0.0


QUERY = Guard(name="drift", query='max(psi{revision="$revision"})', max=0.2)


def matrix(*series: list[tuple[float, float]]) -> Answer:
    found = (Series({"n": str(n)}, tuple((at(t).timestamp(), v) for t, v in one)) for n, one in enumerate(series))
    return Answer("matrix", tuple(found))


def judged(answer: Answer | Failure, guard: Guard = QUERY, now: float = 100) -> GuardResult:
    return judge_guard(guard, context(), {"query": answer}, at(now))


class TestQuery:
    def test_is_asked_for_the_evaluations_that_count(self) -> None:
        guard = with_(QUERY, breaches=2, of=5)
        query, other = guard_queries(guard, context(since=75), at(100))
        assert query == Query(
            "query", 'max(psi{namespace="demo",revision="digits-new"})', at(100), at(80), timedelta(seconds=10)
        )
        assert other == replace(query, name="stable query", text='max(psi{namespace="demo",revision="digits-old"})')
        trial, _ = guard_queries(guard, context(since=100), at(100))
        assert (trial.start, trial.end) == (at(100), at(100))

    @pytest.mark.parametrize(
        ("value", "verdict"),
        [
            (0.1, Verdict.PASS),
            (0.2, Verdict.PASS),
            (0.3, Verdict.BREACH),
            (math.nan, Verdict.NO_DATA),
            (math.inf, Verdict.NO_DATA),
            (-math.inf, Verdict.NO_DATA),
        ],
    )
    def test_value(self, value: float, verdict: Verdict) -> None:
        result = judged(matrix([(100, value)]))
        assert (result.verdict, result.value) == (verdict, value if math.isfinite(value) else None)
        assert result.samples is None
        assert result.invalid is None

    @pytest.mark.parametrize("answer", [matrix(), matrix([]), matrix([(90, 0.1)]), Answer("vector", ())])
    def test_nothing_is_no_data(self, answer: Answer) -> None:
        assert (judged(answer).verdict, judged(answer).invalid) == (Verdict.NO_DATA, None)

    def test_breaches_among_the_last(self) -> None:
        guard = with_(QUERY, breaches=2, of=3)
        assert judged(matrix([(80, 0.3), (90, 0.1), (100, 0.3)]), guard).verdict is Verdict.BREACH
        assert judged(matrix([(80, 0.3), (90, 0.1), (100, 0.1)]), guard).verdict is Verdict.PASS
        assert judged(matrix([(90, 0.1), (100, 0.3)]), guard).verdict is Verdict.NO_DATA
        # As the pods change, so may the labels: one series at each time is one series.
        assert judged(matrix([(80, 0.3)], [(90, 0.3), (100, 0.1)]), guard).verdict is Verdict.BREACH

    def test_many_series_can_never_be_judged(self) -> None:
        result = judged(matrix([(100, 0.1)], [(100, 0.5)]))
        assert (result.verdict, result.value) == (Verdict.NO_DATA, None)
        assert result.invalid == "the query answers 2 series at once; aggregate them into one, with max() or sum()"
        assert result.message == result.invalid

    def test_a_text_can_never_be_judged(self) -> None:
        assert judged(Answer("string", ())).invalid == "the query answers a string, not a number"


class TestFailures:
    def test_provider_down(self) -> None:
        result = judged(Failure("Prometheus cannot be reached"))
        assert (result.verdict, result.message, result.invalid) == (
            Verdict.PROVIDER_DOWN, "Prometheus cannot be reached", None,
        )  # fmt: skip

    def test_one_protocol_without_an_answer_is_provider_down(self) -> None:
        answers: dict[str, Answer | Failure] = {
            "http": Answer("matrix", ()),
            "grpc": Failure("Prometheus answered HTTP 500"),
        }
        assert judge_guard(ERRORS, context(grpc=True), answers, at(0)).verdict is Verdict.PROVIDER_DOWN

    def test_refused_by_prometheus(self) -> None:
        result = judged(Failure("Prometheus refuses the query (HTTP 400)", invalid=True))
        assert (result.verdict, result.invalid) == (Verdict.NO_DATA, "Prometheus refuses the query (HTTP 400)")

    def test_messages_are_one_bounded_line(self) -> None:
        result = judged(Failure("a\nb\x1b[31m" + "x" * 5000))
        assert "\n" not in result.message
        assert "\x1b" not in result.message
        assert len(result.message) <= 300


def test_what_is_asked_for_an_sli_reaches_back_far_enough_to_tell_a_birth() -> None:
    guard = with_(ERRORS, breaches=1, of=3)
    queries = guard_queries(guard, context(since=-1000, grpc=True), at(0))
    assert [(query.name, query.start, query.end) for query in queries] == [
        (name, None, at(0)) for name in ("http", "grpc")
    ]
    assert all(query.text.endswith("[380000ms]") for query in queries)  # 20 s + 1 min + 5 min
    assert guard_queries(guard, context(since=-15), at(0))[0].text.endswith("[315000ms]")
    assert guard_queries(guard, context(since=30), at(0))[0].text.endswith("[300000ms]")


@pytest.mark.parametrize(
    ("bounds", "text"),
    [
        ({"max": 0.01}, "<= 0.01"),
        ({"min": 5}, ">= 5"),
        ({"min": 0.5, "max": 2000000}, ">= 0.5 and <= 2000000"),
    ],
)
def test_threshold(bounds: dict[str, float], text: str) -> None:
    assert threshold(Guard(name="g", query="x", **{key: float(value) for key, value in bounds.items()})) == text


@pytest.mark.parametrize(("value", "verdict"), [(0.4, Verdict.BREACH), (0.5, Verdict.PASS), (2.1, Verdict.BREACH)])
def test_two_bounds(value: float, verdict: Verdict) -> None:
    assert judged(matrix([(100, value)]), Guard(name="g", query="x", min=0.5, max=2.0)).verdict is verdict
