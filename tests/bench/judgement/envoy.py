"""Envoy's counters of both arms as Prometheus scrapes them: several proxies, births of series, restarts, gaps.

Requests are on their way for as long as the median of their latency: sent, then begun to be answered, then over.
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from modelrollout.ports import Series
from tests.bench.judgement.traffic import CANDIDATE, EDGES, STABLE, Part, Parts, World, bucket_shares
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


Counts = npt.NDArray[np.int64]

SLICE, SLICES = 2.0, 8
"""Requests that are on their way are followed in groups sent within so many seconds, at most so many groups."""


@dataclass(frozen=True)
class _Later:
    """What becomes of some requests of an arm at a time: they begin to be answered, are over, or are given up."""

    at: float
    arm: int
    begun: int = 0
    failed: int = 0
    over: Counts | None = None
    given_up: int = 0


@dataclass
class _Proxy:
    """One proxy: the requests by arm since it began. As measured, Envoy has each in its total once it is sent.

    It is completed and in a class once its answer begins, no more active once it is over or given up, and then in the
    histogram, unless it was given up. ``counts`` are, by arm, those whose answers failed and those in each bucket.
    """

    number: int
    share: float
    next_scrape: float
    lives: int = 0
    began: float = 0.0
    now: float = 0.0
    counts: Counts = field(default_factory=lambda: _nothing())
    sent: list[int] = field(default_factory=lambda: [0, 0])
    begun: list[int] = field(default_factory=lambda: [0, 0])
    given_up: list[int] = field(default_factory=lambda: [0, 0])
    later: list[_Later] = field(default_factory=list)

    def restart(self, at: float) -> None:
        """Nobody gets an answer any more that was on its way."""
        self.counts, self.began, self.later = _nothing(), at, []
        self.sent, self.begun, self.given_up = [0, 0], [0, 0], [0, 0]

    def plan(self, change: _Later) -> None:
        """Have this come about once its time has come."""
        insort(self.later, change, key=lambda each: each.at)

    def catch_up(self) -> None:
        """Have everything come about whose time has come."""
        ready = bisect_right(self.later, self.now, key=lambda each: each.at)
        for change in self.later[:ready]:
            self.begun[change.arm] += change.begun
            self.counts[change.arm, 0] += change.failed
            if change.over is not None:
                self.counts[change.arm, 1:] += change.over
            self.given_up[change.arm] += change.given_up
        del self.later[:ready]

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
        (self._order,) = random.spawn(1)
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
            proxy.catch_up()
            for restart in self.world.restarts:
                if restart.at == stop and restart.proxy == proxy.number:
                    proxy.restart(stop)
                    proxy.lives += restart.pod

    def _serve(self, proxy: _Proxy, stop: float) -> None:
        middle = (proxy.now + stop) / 2
        expected = (stop - proxy.now) * self.world.load(middle) * proxy.share
        age = 0.0 if self.began is None else max(middle - self.began, 0.0)
        for arm in (STABLE, CANDIDATE):
            if self._weights[arm] > UNUSED:
                count = int(self._random.poisson(expected * self._weights[arm]))
                failed = self._answer(proxy, arm, count, self.world.answers(arm, middle, age), stop)
                if arm == CANDIDATE:
                    self.answered += count
                    self.failed += failed

    def _answer(self, proxy: _Proxy, arm: int, count: int, parts: Parts, stop: float) -> int:
        """How many of these requests, which are sent from now until ``stop``, fail or will fail."""
        if not count:
            return 0
        proxy.sent[arm] += count
        counts = [count] if len(parts) == 1 else self._random.multinomial(count, [part.share for part in parts])
        bad = 0
        for number, part in zip(counts, parts, strict=True):
            if part.hangs:
                hung = int(self._random.binomial(number, part.hangs))
                number -= hung
                for sent, group in self._lately(hung, stop - proxy.now, part.patience, stop):
                    proxy.plan(_Later(sent + part.patience, arm, given_up=group))
                    hung -= group
                proxy.given_up[arm] += hung
            failed = int(self._random.binomial(number, part.errors))
            times = bucket_shares(part.median + 1000 * part.streams, part.sigma)
            self._on_their_way(proxy, arm, failed, self._random.multinomial(number, times), part, stop)
            bad += failed
        return bad

    def _on_their_way(self, proxy: _Proxy, arm: int, failed: int, over: Counts, part: Part, stop: float) -> None:
        """Count those answers that are over by ``stop``, and plan the others."""
        number, begins = int(over.sum()), part.median / 1000
        for sent, group in self._lately(number, stop - proxy.now, begins + part.streams, stop):
            bad = int(self._order.hypergeometric(failed, number - failed, group))
            times = self._order.multivariate_hypergeometric(over, group, method="marginals")
            proxy.plan(_Later(sent + begins, arm, begun=group, failed=bad))
            proxy.plan(_Later(max(sent + begins + part.streams, stop + 1e-6), arm, over=times))
            number, failed, over = number - group, failed - bad, over - times
        proxy.begun[arm] += number
        proxy.counts[arm, 0] += failed
        proxy.counts[arm, 1:] += over

    def _lately(self, count: int, length: float, lasts: float, stop: float) -> list[tuple[float, int]]:
        """When those were sent that take so long and are not over by ``stop``, of so many sent evenly before it."""
        since = min(lasts, length)
        rest = int(self._order.binomial(count, since / length)) if count and length > 0 else 0
        if not rest:
            return []
        groups = min(max(math.ceil(since / SLICE), 1), SLICES)
        numbers = self._order.multinomial(rest, np.full(groups, 1 / groups))
        return [
            (stop - since + since * (place + 0.5) / groups, int(number))
            for place, number in enumerate(numbers)
            if number
        ]

    # -- scrapes ----------------------------------------------------------------------------------------------

    def _scrape(self, proxy: _Proxy) -> None:
        when = EPOCH + proxy.now
        self._note(proxy, -1, "envoy_server_uptime", "", when, round(proxy.now - proxy.began))
        for arm in (STABLE, CANDIDATE):
            if not proxy.sent[arm]:
                continue  # Envoy makes the counters of a cluster with its first request
            failed, begun, sent = int(proxy.counts[arm, 0]), proxy.begun[arm], proxy.sent[arm]
            cumulative = np.cumsum(proxy.counts[arm, 1:]).tolist()
            active = sent - cumulative[-1] - proxy.given_up[arm]
            self._note(proxy, arm, "envoy_cluster_upstream_rq_total", "", when, sent)
            self._note(proxy, arm, "envoy_cluster_upstream_rq_active", "", when, active)
            self._note(proxy, arm, "envoy_cluster_upstream_rq_retry", "", when, 0)
            self._note(proxy, arm, "envoy_cluster_upstream_rq_completed", "", when, begun)
            if begun > failed:
                self._note(proxy, arm, "envoy_cluster_upstream_rq_xx", "2", when, begun - failed)
            if failed:
                self._note(proxy, arm, "envoy_cluster_upstream_rq_xx", "5", when, failed)
            for bound, number in zip(BOUNDS, cumulative, strict=True):
                self._note(proxy, arm, "envoy_cluster_upstream_rq_time_bucket", bound, when, number)
            self._note(proxy, arm, "envoy_cluster_upstream_rq_time_count", "", when, cumulative[-1])

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


def _nothing() -> Counts:
    return np.zeros((2, 1 + len(EDGES)), dtype=np.int64)
