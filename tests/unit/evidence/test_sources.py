"""Requests that reach an arm by several clusters: summed, each with births and restarts of its own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modelrollout.api.guard import Guard, Sli
from modelrollout.api.status import Verdict
from modelrollout.evidence.context import Context
from modelrollout.evidence.slis import CatalogError
from modelrollout.rollout.plan import Source
from tests.unit.evidence.envoy import Envoy, Storage, context

PINNED = "httproute/demo/digits/rule/2/backend/0"
PREVIEW = "httproute/demo/digits--preview/rule/0/backend/0"
MIRROR = "httproute/demo/digits/rule/0-mirror-0"

ERRORS = Guard(name="errors", sli=Sli.ERROR_RATIO, max=0.5)
RATE = Guard(name="rate", sli=Sli.REQUEST_RATE, min=0)
LATENCY = Guard(name="latency", sli=Sli.LATENCY_P50, max=0.5)


def by(source: Source, http: bool = True, grpc: bool = False) -> Context:
    return replace(context(http=http, grpc=grpc), source=source)


def test_only_the_requests_of_the_source_count() -> None:
    storage, weighted = Storage(), Envoy()
    pinned, preview, mirror = (weighted.beside(name) for name in (PINNED, PREVIEW, MIRROR))
    for second in range(61):
        weighted.serve(good=10)
        pinned.serve(good=2, bad=1)
        preview.serve(good=1)
        mirror.serve(good=3, bad=4)
        storage.scrape(second, weighted, pinned, preview, mirror)
    read = {source: storage.judge(ERRORS, by(source), 60) for source in Source}
    assert {source: (result.value, result.samples) for source, result in read.items()} == {
        Source.WEIGHTED: (0.0, 600),
        Source.MIRROR: (pytest.approx(4 / 7), 420),
        Source.PREVIEW: (0.25, 240),
        Source.SPLIT: (pytest.approx(1 / 13), 780),
    }
    assert storage.judge(RATE, by(Source.SPLIT), 60).value == 13
    assert read[Source.MIRROR].verdict is Verdict.BREACH


def test_a_cluster_made_anew_is_no_restart_of_another() -> None:
    """The weighted cluster begins at 0 with its first weight; the 10,000 old requests of the pinned one stay old."""
    storage, weighted = Storage(), Envoy()
    pinned = weighted.beside(PINNED)
    pinned.serve(good=5_000, bad=5_000)
    weighted.serve(good=100)
    for second in range(-30, 1):
        storage.scrape(second, weighted, pinned)
    weighted.make_cluster()
    for second in range(1, 31):
        weighted.serve(good=10)
        pinned.serve(good=1)
        storage.scrape(second, weighted, pinned)
    result = storage.judge(ERRORS, by(Source.SPLIT), 30)
    assert (result.value, result.samples) == (0.0, 330)


def test_a_restart_of_the_proxy_is_one_of_all_its_clusters() -> None:
    storage, weighted = Storage(), Envoy()
    pinned = weighted.beside(PINNED)
    for second in range(31):
        weighted.serve(good=10)
        pinned.serve(bad=1)
        storage.scrape(second, weighted, pinned)
    for proxy in (weighted, pinned):
        proxy.restart()
    # More than before the restart: only the uptime of the process tells that this is no growth by 20.
    pinned.serve(bad=51)
    storage.scrape(31, weighted, pinned)
    result = storage.judge(ERRORS, by(Source.SPLIT), 31)
    assert (result.samples, result.value) == pytest.approx((300 + 30 + 51, 81 / 381))


def test_a_cluster_without_a_request_yet_has_no_counters_and_counts_from_its_birth() -> None:
    storage, weighted = Storage(), Envoy()
    pinned = weighted.beside(PINNED)
    pinned.remove_cluster()
    for second in range(21):
        weighted.serve(good=10)
        storage.scrape(second, weighted, pinned)
    assert storage.judge(ERRORS, by(Source.SPLIT), 20).samples == 200
    pinned.make_cluster()
    pinned.serve(bad=40)
    storage.scrape(21, weighted, pinned)
    result = storage.judge(ERRORS, by(Source.SPLIT), 21)
    assert (result.samples, result.value) == pytest.approx((240, 40 / 240))


def test_several_proxies_with_several_clusters() -> None:
    storage = Storage()
    first, second = Envoy("10.0.0.1:19001"), Envoy("10.0.0.2:19001")
    clusters = [first, first.beside(PINNED), second, second.beside(PINNED)]
    for at in range(31):
        for count, cluster in enumerate(clusters, start=1):
            cluster.serve(good=count)
        storage.scrape(at, *clusters)
    assert storage.judge(ERRORS, by(Source.SPLIT), 30).samples == 30 * 10
    assert storage.judge(RATE, by(Source.SPLIT), 30).value == 10


def test_a_histogram_of_several_clusters() -> None:
    storage, weighted = Storage(), Envoy()
    pinned = weighted.beside(PINNED)
    for second in range(31):
        weighted.serve(good=1, milliseconds=20)
        pinned.serve(good=3, milliseconds=200)
        storage.scrape(second, weighted, pinned)
    result = storage.judge(LATENCY, by(Source.SPLIT), 30)
    assert (result.value, result.samples) == pytest.approx((0.1 + 0.15 * 30 / 90, 120))


def test_copies_of_grpc_requests_have_no_status() -> None:
    with pytest.raises(CatalogError, match="cannot be measured by the source Mirror"):
        Storage().judge(ERRORS, by(Source.MIRROR, http=False, grpc=True), 10)
    assert Storage().judge(LATENCY, by(Source.MIRROR, http=False, grpc=True), 10).verdict is Verdict.NO_DATA
