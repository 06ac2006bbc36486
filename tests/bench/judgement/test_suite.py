"""The suite itself: counters are what users did, worlds are what they are labelled, peers do what is documented."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import numpy as np
import pytest

from modelrollout.ports import TransientError
from tests.bench.judgement.envoy import CLUSTERS, EPOCH, Fleet
from tests.bench.judgement.looking import fixed_sample, look
from tests.bench.judgement.peers import FLAGGER, ArgoRollouts, Metric, irate, rate, slowest, success_rate
from tests.bench.judgement.prometheus import Prometheus
from tests.bench.judgement.report import exposure_ratios
from tests.bench.judgement.scenarios import BY_NAME, SCENARIOS, Label
from tests.bench.judgement.suite import HELD_OUT, TUNING, Case, carry_out, seeds_of, summarise
from tests.bench.judgement.traffic import CANDIDATE, EDGES, STABLE, Outage, Part, Restart, World, bucket_shares
from tests.bench.judgement.verdicts import BEFORE, STEPS, Ended, Found
from tests.builders import START

FAILING = World(lambda now: 200.0, lambda arm, now, age: (Part(errors=0.1 if arm == CANDIDATE else 0.001),))
HEALTHY = World(lambda now: 200.0, lambda arm, now, age: (Part(errors=0.001),))


def fleet(world: World, seed: int = 1) -> Fleet:
    return Fleet(world, np.random.default_rng(seed))


def last(of: Fleet, arm: int, metric: str, more: str = "") -> float:
    return sum(samples[-1][1] for key, samples in of.series.items() if key[1:] == (arm, metric, more))


def test_counters_are_what_users_did() -> None:
    served = fleet(FAILING)
    served.shift(100.0, 0.25)
    served.scraped(1100.0)
    completed = last(served, CANDIDATE, "envoy_cluster_upstream_rq_completed")
    assert completed == pytest.approx(1000 * 200 * 0.25, rel=0.03)
    assert last(served, CANDIDATE, "envoy_cluster_upstream_rq_xx", "5") == pytest.approx(0.1 * completed, rel=0.05)
    over = last(served, CANDIDATE, "envoy_cluster_upstream_rq_time_bucket", "+Inf")
    assert over == last(served, CANDIDATE, "envoy_cluster_upstream_rq_time_count") == completed
    fast = last(served, CANDIDATE, "envoy_cluster_upstream_rq_time_bucket", "25")
    assert fast / completed == pytest.approx(bucket_shares(20.0, 0.5)[: EDGES.index(25.0) + 1].sum(), abs=0.01)
    assert last(served, STABLE, "envoy_cluster_upstream_rq_completed") == pytest.approx(170_000, rel=0.03)


@pytest.mark.parametrize(("median", "streams"), [(20.0, 0.0), (3000.0, 0.0), (30.0, 60.0), (20_000.0, 40.0)])
def test_requests_on_their_way_are_active_until_their_answer_is_over(median: float, streams: float) -> None:
    """As many as by Little's law; it is completed when it begins, and in the histogram when it is over."""
    part = Part(median=median, streams=streams)
    served = fleet(World(lambda now: 200.0 if now < 500 else 0.0, lambda arm, now, age: (part,), scrape=5.0))
    served.scraped(495.0)
    total, active, completed, over = (
        last(served, STABLE, f"envoy_cluster_upstream_rq_{name}")
        for name in ("total", "active", "completed", "time_count")
    )
    assert active == pytest.approx(200 * (median / 1000 + streams), rel=0.15, abs=20)
    assert total - completed == pytest.approx(200 * median / 1000, rel=0.15, abs=20)
    assert over == total - active
    served.scraped(700.0)
    assert last(served, STABLE, "envoy_cluster_upstream_rq_active") == 0
    assert last(served, STABLE, "envoy_cluster_upstream_rq_completed") == last(
        served, STABLE, "envoy_cluster_upstream_rq_total"
    )
    for (_, _, metric, _), samples in served.series.items():
        values = [value for _, value in samples]
        assert metric == "envoy_cluster_upstream_rq_active" or values == sorted(values), metric


def test_requests_that_hang_are_active_until_they_are_given_up() -> None:
    part = Part(hangs=0.1, patience=30.0)
    served = fleet(World(lambda now: 100.0 if now < 500 else 0.0, lambda arm, now, age: (part,), scrape=5.0))
    served.scraped(495.0)
    assert last(served, STABLE, "envoy_cluster_upstream_rq_active") == pytest.approx(300, rel=0.15)
    served.scraped(700.0)
    assert last(served, STABLE, "envoy_cluster_upstream_rq_active") == 0
    total, completed = (last(served, STABLE, f"envoy_cluster_upstream_rq_{name}") for name in ("total", "completed"))
    assert (total - completed) / total == pytest.approx(0.1, abs=0.01)


def test_a_proxy_that_restarts_counts_from_nothing_and_a_new_pod_has_a_new_name() -> None:
    world = replace(HEALTHY, proxies=2, restarts=(Restart(300.0, 0), Restart(300.0, 1, pod=True)))
    served = fleet(world)
    served.scraped(600.0)
    totals = {key[0]: s for key, s in served.series.items() if key[1:3] == (STABLE, "envoy_cluster_upstream_rq_total")}
    falls = {name: sum(b < a for (_, a), (_, b) in pairwise(s)) for name, s in totals.items()}
    assert falls == {"10.0.0.0:19001": 1, "10.0.0.1:19001": 0, "10.0.1.1:19001": 0}


async def test_an_outage_leaves_a_gap_or_no_answer() -> None:
    world = replace(HEALTHY, outages=(Outage(100.0, 200.0, "gap"), Outage(300.0, 400.0, "refused")))
    prometheus = Prometheus(fleet(world))
    text = f'{{__name__="envoy_cluster_upstream_rq_total",envoy_cluster_name=~"{CLUSTERS[0]}|"}}[250000ms]'
    answer = await prometheus.query(text, START + timedelta(seconds=250))
    assert len(answer.series) == 2
    for series in answer.series:
        times = [when - EPOCH for when, _ in series.samples]
        assert times
        assert not [when for when in times if 100 <= when < 200]
    with pytest.raises(TransientError):
        await prometheus.query(text, START + timedelta(seconds=350))


def test_rate_extrapolates_as_prometheus_does() -> None:
    samples = [(5.0, 10.0), (15.0, 20.0), (25.0, 5.0), (55.0, 15.0)]
    # Grown 10 + 5 + 10 over 50 s, with 5 s on either side: both are less than the gap between samples.
    assert rate(samples, 0.0, 60.0) == pytest.approx(25 * (60 / 50) / 60)
    assert irate(samples, 0.0, 60.0) == pytest.approx(10 / 30)
    assert rate(samples[:1], 0.0, 60.0) is None


def argo(good: bool, **changes: object) -> ArgoRollouts:
    metric = Metric(success_rate(60, rate), lambda value: good, 60.0, failure_limit=3, initial_delay=60.0)
    return ArgoRollouts((replace(metric, **changes),))  # type: ignore[arg-type]


def test_argo_rollouts_fails_at_the_measurement_after_its_limit_and_errs_at_the_fifth() -> None:
    assert argo(good=True).roll_out(HEALTHY, [1]).ended is Ended.PROMOTED
    assert argo(good=False).roll_out(HEALTHY, [1]).seconds == 4 * 60
    down = replace(HEALTHY, outages=(Outage(0.0, 10_000.0, "refused"),))
    aborted = argo(good=True).roll_out(down, [1])
    assert (aborted.ended, aborted.seconds) == (Ended.ROLLED_BACK, 60 + 4 * 10)
    assert argo(good=True, failure_limit=0).roll_out(HEALTHY, [1]).seconds == sum(hold for _, hold in STEPS)


def test_flagger_takes_back_a_tick_after_its_threshold_and_halts_meanwhile() -> None:
    bad = FLAGGER.roll_out(FAILING, [1])
    assert (bad.ended, bad.seconds) == (Ended.ROLLED_BACK, 6 * 60)
    assert bad.exposed == pytest.approx(200 * 0.05 * 360, rel=0.1), "it never went beyond the first weight"
    assert FLAGGER.roll_out(HEALTHY, [1]).ended is Ended.PROMOTED
    silent = replace(HEALTHY, outages=(Outage(BEFORE + 30, BEFORE + 200, "empty"),))
    late = FLAGGER.roll_out(silent, [1])
    assert (late.ended, late.seconds) == (Ended.PROMOTED, sum(hold for _, hold in STEPS) + 2 * 60)


def test_the_slowest_requests_are_read_as_the_histogram_has_them() -> None:
    slow = World(lambda now: 500.0, lambda arm, now, age: (Part(median=100.0, sigma=0.5),))
    served = fleet(slow)
    served.shift(100.0, 0.5)
    # 96.66 % are faster than 250 ms and 99.94 % than 500; it is interpolated in between, the truth is 320 ms.
    assert slowest(60)(served, 400.0) == pytest.approx(250 + 250 * (0.99 - 0.9666) / (0.9994 - 0.9666), rel=0.03)


def test_bad_worlds_are_as_bad_as_they_say() -> None:
    for name, errors, slower in (("errors +5", 0.05, 1.0), ("latency +20 %", 0.0, 1.2), ("noise", 0.0, 1.0)):
        world = BY_NAME[name].world(7)
        (stable,), (candidate,) = world.answers(STABLE, 500.0, 10.0), world.answers(CANDIDATE, 500.0, 10.0)
        assert candidate.errors - stable.errors == pytest.approx(errors)
        assert candidate.median / stable.median == pytest.approx(slower)
    for scenario in SCENARIOS:
        parts = scenario.world(3).answers(CANDIDATE, 700.0, 300.0)
        assert sum(part.share for part in parts) == pytest.approx(1.0), scenario.name


def test_a_seed_gives_the_same_rollout_again_and_the_held_out_ones_are_others() -> None:
    for judge in ("modelrollout", "Flagger"):
        case = Case("errors +5", 11, judge)
        assert carry_out(case) == carry_out(case)
    assert len(set(seeds_of(TUNING)) | set(seeds_of(HELD_OUT))) == 200


def test_exposure_is_held_against_the_better_rule_set() -> None:
    results = {
        Case("errors +5", 1, "modelrollout"): Found(Ended.ROLLED_BACK, 100, None, 10.0),
        Case("errors +5", 1, "Flagger"): Found(Ended.ROLLED_BACK, 400, None, 10.0),
        Case("errors +5", 1, "Argo Rollouts, strict"): Found(Ended.PROMOTED, 900, 900, 10.0),
        Case("latency +20 %", 1, "modelrollout"): Found(Ended.ROLLED_BACK, 300, None, 10.0),
        Case("latency +20 %", 1, "Flagger"): Found(Ended.PROMOTED, 5000, 1000, 10.0),
    }
    rows = summarise(results)
    assert exposure_ratios(rows) == {"errors +5": (0.25, True), "latency +20 %": (0.3, False)}
    assert [row.wrong for row in rows if row.judge == "Flagger"] == [(), (1,)]
    assert all(scenario.label is not Label.GOOD for scenario in SCENARIOS if scenario.name in exposure_ratios(rows))


def test_a_rise_is_found_by_looking_and_needs_less_than_a_fixed_sample() -> None:
    found = look(0.003, 0.05, 0.002, 0.999, np.random.default_rng(5))
    assert found.ours is not None
    assert found.ours < fixed_sample(0.003, 0.05, 0.002, 0.999, 0.05) < found.requests
    assert look(0.003, 0.0, 0.002, 0.999, np.random.default_rng(5)).ours is None
