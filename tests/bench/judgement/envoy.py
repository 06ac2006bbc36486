"""Envoy's counters of both arms as Prometheus scrapes them: several proxies, births of series, restarts, gaps."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from modelrollout.ports import Series
from tests.bench.judgement.traffic import CANDIDATE, EDGES, STABLE, Parts, World, bucket_shares
from tests.builders import NAME, NAMESPACE, START

EPOCH = START.timestamp()
CLUSTERS = tuple(f"httproute/{NAMESPACE}/{NAME}/rule/0/backend/{slot}" for slot in (STABLE, CANDIDATE))
UNUSED = 1e-5
"""A share of the traffic so small that nobody is meant to meet it: the armed weight."""

Samples = list[tuple[float, float]]
Key = tuple[str, int, str, str]
"""Instance, arm (-1: the proxy itself), metric, and the value of its one more label."""

LABEL = {
    "envoy_cluster_upstream_rq_xx": "envoy_response_code_class",
    "envoy_cluster_upstream_rq_time_bucket": "le",
}
BOUNDS = tuple("+Inf" if math.isinf(edge) else f"{edge:g}" if edge < 1e6 else f"{edge:.0f}" for edge in EDGES)


@dataclass
class _Proxy:
    """One proxy: ``counts`` are, by arm, the failed requests and those in each bucket since it began.

    ``given_up`` are, by arm, those that nobody answered: as measured, Envoy counts them in its total only.
    """

    number: int
    share: float
    next_scrape: float
    lives: int = 0
    began: float = 0.0
    now: float = 0.0
    counts: npt.NDArray[np.int64] = field(default_factory=lambda: _nothing())
    given_up: list[int] = field(default_factory=lambda: [0, 0])

    @property
    def instance(self) -> str:
        return f"10.0.{self.lives}.{self.number}:19001"


class Fleet:
    """All proxies. Time is only ever asked to go forward; ``series`` holds what was scraped so far."""

    def __init__(self, world: World, random: np.random.Generator) -> None:
        self.world = world
        self.series: dict[Key, Samples] = {}
        self.labels: dict[Key, dict[str, str]] = {}
        self.began: float | None = None
        self.answered = 0
        self.failed = 0
        self.outputs = np.zeros((2, len(world.outputs[0]) if world.outputs else 0), dtype=np.int64)
        self.output_samples: list[tuple[float, npt.NDArray[np.int64]]] = []
        self._random = random
        self._weights = [1.0, 0.0]
        shares = random.dirichlet(np.full(world.proxies, 50.0))
        self._proxies = [
            _Proxy(number, float(share), float(random.uniform(0, world.scrape))) for number, share in enumerate(shares)
        ]
        self._next_output = world.scrape
        self._breaks = sorted({*world.breaks, *(each.at for each in world.restarts)})

    def shift(self, at: float, candidate: float) -> None:
        """From ``at`` on the candidate gets this share of the requests."""
        self.scraped(at)
        for proxy in self._proxies:
            self._until(proxy, at)
        self._weights = [1 - candidate, candidate]
        if self.began is None and candidate > UNUSED:
            self.began = at

    def scraped(self, until: float) -> None:
        """Go on to the last scrape at or before ``until``."""
        for proxy in self._proxies:
            while proxy.next_scrape <= until:
                self._until(proxy, proxy.next_scrape)
                if self.world.outage(proxy.now) not in ("gap", "down"):
                    self._scrape(proxy)
                proxy.next_scrape += self.world.scrape
        while self.world.outputs and self._next_output <= until:
            self._observe(self._next_output)
            self._next_output += self.world.scrape

    def find(self, key: Key, start: float, end: float, *, spoiled: bool = False) -> Series | None:
        """The samples of one series after ``start`` and until ``end`` (unix seconds); None where there are none."""
        samples = self.series[key]
        inside = samples[bisect_right(samples, (start, math.inf)) : bisect_right(samples, (end, math.inf))]
        if spoiled:
            inside = [(when, math.nan) for when, _ in inside]
        return Series(self.labels[key], tuple(inside)) if inside else None

    # -- traffic ----------------------------------------------------------------------------------------------

    def _until(self, proxy: _Proxy, end: float) -> None:
        """The requests of this proxy until ``end``, piece by piece between the moments at which something jumps."""
        while proxy.now < end:
            index = bisect_right(self._breaks, proxy.now)
            stop = min(end, self._breaks[index]) if index < len(self._breaks) else end
            self._serve(proxy, stop)
            proxy.now = stop
            for restart in self.world.restarts:
                if restart.at == stop and restart.proxy == proxy.number:
                    proxy.counts, proxy.began, proxy.given_up = _nothing(), stop, [0, 0]
                    proxy.lives += restart.pod

    def _serve(self, proxy: _Proxy, stop: float) -> None:
        middle = (proxy.now + stop) / 2
        expected = (stop - proxy.now) * self.world.load(middle) * proxy.share
        age = 0.0 if self.began is None else max(middle - self.began, 0.0)
        for arm in (STABLE, CANDIDATE):
            if self._weights[arm] > UNUSED:
                count = int(self._random.poisson(expected * self._weights[arm]))
                failed = self._answer(proxy, arm, count, self.world.answers(arm, middle, age))
                if arm == CANDIDATE:
                    self.answered += count
                    self.failed += failed

    def _answer(self, proxy: _Proxy, arm: int, count: int, parts: Parts) -> int:
        if not count:
            return 0
        counts = [count] if len(parts) == 1 else self._random.multinomial(count, [part.share for part in parts])
        before = int(proxy.counts[arm, 0])
        for number, part in zip(counts, parts, strict=True):
            if part.hangs:
                hung = int(self._random.binomial(number, part.hangs))
                number, proxy.given_up[arm] = number - hung, proxy.given_up[arm] + hung
            proxy.counts[arm, 0] += self._random.binomial(number, part.errors)
            proxy.counts[arm, 1:] += self._random.multinomial(number, bucket_shares(part.median, part.sigma))
        return int(proxy.counts[arm, 0]) - before

    # -- scrapes ----------------------------------------------------------------------------------------------

    def _scrape(self, proxy: _Proxy) -> None:
        when = EPOCH + proxy.now
        self._note(proxy, -1, "envoy_server_uptime", "", when, round(proxy.now - proxy.began))
        for arm in (STABLE, CANDIDATE):
            failed = int(proxy.counts[arm, 0])
            cumulative = np.cumsum(proxy.counts[arm, 1:]).tolist()
            total = cumulative[-1]
            if not total + proxy.given_up[arm]:
                continue  # Envoy makes the counters of a cluster with its first request
            self._note(proxy, arm, "envoy_cluster_upstream_rq_total", "", when, total + proxy.given_up[arm])
            self._note(proxy, arm, "envoy_cluster_upstream_rq_completed", "", when, total)
            if total > failed:
                self._note(proxy, arm, "envoy_cluster_upstream_rq_xx", "2", when, total - failed)
            if failed:
                self._note(proxy, arm, "envoy_cluster_upstream_rq_xx", "5", when, failed)
            for bound, number in zip(BOUNDS, cumulative, strict=True):
                self._note(proxy, arm, "envoy_cluster_upstream_rq_time_bucket", bound, when, number)

    def _note(self, proxy: _Proxy, arm: int, metric: str, more: str, when: float, value: float) -> None:
        key = (proxy.instance, arm, metric, more)
        if key not in self.series:
            labels = {"__name__": metric, "job": "envoy-gateway", "instance": proxy.instance}
            if arm >= 0:
                labels["envoy_cluster_name"] = CLUSTERS[arm]
            if more:
                labels[LABEL[metric]] = more
            self.series[key], self.labels[key] = [], labels
        self.series[key].append((when, float(value)))

    def _observe(self, when: float) -> None:
        """The observer asks both arms about a sample of the requests, once there are two."""
        if self.world.outputs is None or self.began is None or when < self.began:
            return
        count = int(self._random.poisson(self.world.scrape * min(self.world.observed, self.world.load(when))))
        for arm in (STABLE, CANDIDATE):
            self.outputs[arm] += self._random.multinomial(count, self.world.outputs[arm])
        if self.world.outage(when) not in ("gap", "down"):
            self.output_samples.append((EPOCH + when, self.outputs.copy()))


def _nothing() -> npt.NDArray[np.int64]:
    return np.zeros((2, 1 + len(EDGES)), dtype=np.int64)
