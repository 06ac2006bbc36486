"""Prometheus: answers from the counters of Envoy's clusters as they were scraped, late, wrongly or not at all."""

from __future__ import annotations

import asyncio
import math
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache

from modelrollout.ports import Answer, InvalidQueryError, Series, TransientError
from tests.builders import START
from tests.simulation.kubelet import NEVER, Behaviours, now

SCRAPE = 5.0
OBSERVER = "modelrollout_observer_"
MODES = ("ok", "refused", "hung", "empty", "nan", "garbage", "stale")
BUCKETS = (("1", 0.0), ("5", 0.5), ("10", 0.9), ("25", 0.999), ("+Inf", 1.0))
"""Latency in milliseconds: which share of the requests took at most so long."""

Rates = dict[str, tuple[str, float]]
"""By Envoy cluster: which revision answers there, and requests per second."""


@dataclass
class _Counter:
    """Requests and errors of one Envoy cluster, exact at every moment: linear between changes."""

    times: list[float] = field(default_factory=list)
    totals: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    rates: list[tuple[float, float]] = field(default_factory=list)

    def change(self, rate: float, errors: float) -> None:
        if self.rates and self.rates[-1] == (rate, errors):
            return
        total, failed = self.at(now())
        self.times.append(now())
        self.totals.append(total)
        self.errors.append(failed)
        self.rates.append((rate, errors))

    def at(self, when: float) -> tuple[float, float]:
        index = bisect_right(self.times, when) - 1
        if index < 0:
            return 0.0, 0.0
        passed = when - self.times[index]
        rate, errors = self.rates[index]
        return math.floor(self.totals[index] + passed * rate), math.floor(self.errors[index] + passed * errors)


@dataclass
class PrometheusModel:
    """``ports.Metrics``. ``answered_at`` is when it last told the truth."""

    behaviours: Behaviours
    asked: int = 0
    answered_at: float = NEVER
    mode: str = "ok"
    features: dict[str, float] = field(default_factory=lambda: {"age": 0.02, "income": 0.05})
    """What the observer's counters come to for each feature of the inputs, as PSI; empty without an observer."""
    observing: bool = False
    _stale_since: float = 0.0
    _counters: dict[str, _Counter] = field(default_factory=dict)
    _rates: dict[str, Rates] = field(default_factory=dict)

    def become(self, mode: str) -> None:
        if mode == "stale" != self.mode:
            self._stale_since = now()
        self.mode = mode

    def serve(self, route: str, rates: Rates) -> None:
        """The proxies carry out ``route`` with these rates from now on."""
        for gone in self._rates.get(route, {}).keys() - rates.keys():
            self._counters.pop(gone, None)  # Envoy drops the cluster with its counters
        self._rates[route] = rates
        self.recount()

    def recount(self) -> None:
        """A weight or a behaviour changed: other rates from now on."""
        for rates in self._rates.values():
            for name, (revision, rate) in rates.items():
                self._counters.setdefault(name, _Counter()).change(rate, rate * self.behaviours[revision].errors)

    async def query(self, query: str, at: datetime) -> Answer:
        await self._weather()
        if OBSERVER in query:
            return self._observed(query, at)
        found = _read(query)
        if found is None:
            raise InvalidQueryError(f"this Prometheus does not know {query!r}")
        matchers, span = found
        if self.mode == "empty":
            return Answer("matrix", ())
        end = (at - START).total_seconds()
        latest = min(end, now(), self._stale_since if self.mode == "stale" else math.inf)
        return Answer("matrix", tuple(self._select(matchers, end - span, latest)))

    async def query_range(self, query: str, start: datetime, end: datetime, step: timedelta) -> Answer:
        await self._weather()
        if OBSERVER in query:
            return self._observed(query, end)
        if query.startswith("last_over_time("):
            return self._counters_at_points(query, start, end, step)
        if self.mode in ("empty", "stale"):
            return Answer("matrix", ())
        found = re.search(r'revision="([^"]+)"', query)
        value = self.behaviours[found[1]].drift if found else 0.0
        value = {"nan": math.nan, "garbage": math.inf}.get(self.mode, value)
        return Answer("matrix", (Series({}, ((end.timestamp(), value),)),))

    def _observed(self, query: str, at: datetime) -> Answer:
        """PSI of each feature, how many requests it is made of, or whether there is such a series."""
        if not self.observing or self.mode in ("empty", "stale") or "misfits" in query or "unusable" in query:
            return Answer("vector", ())
        lie = {"nan": math.nan, "garbage": math.inf}.get(self.mode)
        when, counted = at.timestamp(), "ln(" not in query
        values = {name: 10_000.0 if counted else psi if lie is None else lie for name, psi in self.features.items()}
        return Answer("vector", tuple(Series({"feature": name}, ((when, value),)) for name, value in values.items()))

    def _counters_at_points(self, query: str, start: datetime, end: datetime, step: timedelta) -> Answer:
        """At each point the newest sample of the range, if there is one."""
        known = _read(query.removeprefix("last_over_time(").removesuffix(")"))
        if known is None:
            raise InvalidQueryError(f"this Prometheus does not know {query!r}")
        if self.mode == "empty":
            return Answer("matrix", ())
        matchers, look = known
        begin, last = (start - START).total_seconds(), (end - START).total_seconds()
        latest = min(last, now(), self._stale_since if self.mode == "stale" else math.inf)
        points = [(start + count * step).timestamp() for count in range((end - start) // step + 1)]
        found = []
        for series in self._select(matchers, begin - look, latest):
            times = [when for when, _ in series.samples]
            told = []
            for point in points:
                index = bisect_right(times, point) - 1
                if index >= 0 and point - times[index] < look:
                    told.append((point, series.samples[index][1]))
            if told:
                found.append(Series(series.labels, tuple(told)))
        return Answer("matrix", tuple(found))

    async def _weather(self) -> None:
        self.asked += 1
        if self.mode == "hung":
            await asyncio.sleep(3600)
        await asyncio.sleep(0.01)
        if self.mode == "refused":
            raise TransientError("connection refused")
        if self.mode == "ok":
            self.answered_at = now()

    def _select(self, matchers: dict[str, re.Pattern[str]], start: float, end: float) -> Iterator[Series]:
        cluster = matchers["envoy_cluster_name"]
        scrapes = range(max(math.ceil(start / SCRAPE), 1), int(end // SCRAPE) + 1)
        if _matches(matchers, {"__name__": "envoy_server_uptime"}) and scrapes:
            yield self._series("envoy_server_uptime", [(number * SCRAPE, number * SCRAPE) for number in scrapes])
        for name, counter in self._counters.items():
            if not cluster.fullmatch(name):
                continue
            times = [number * SCRAPE for number in scrapes if number * SCRAPE >= counter.times[0]]
            values = [(when, *counter.at(when)) for when in times]
            for metric, labels, samples in _families(values):
                if samples and _matches(matchers, {"__name__": metric, "envoy_cluster_name": name, **labels}):
                    yield self._series(metric, samples, envoy_cluster_name=name, **labels)

    def _series(self, metric: str, samples: list[tuple[float, float]], **labels: str) -> Series:
        lie = {"nan": math.nan, "garbage": math.inf}.get(self.mode)
        told = tuple((START.timestamp() + when, value if lie is None else lie) for when, value in samples)
        return Series({"__name__": metric, "job": "envoy", "instance": "one", **labels}, told)


def _families(
    values: list[tuple[float, float, float]],
) -> Iterator[tuple[str, dict[str, str], list[tuple[float, float]]]]:
    totals = [(when, total) for when, total, _ in values]
    yield "envoy_cluster_upstream_rq_total", {}, totals
    born = [(when, total) for when, total in totals if total]
    yield "envoy_cluster_upstream_rq_completed", {}, born
    failures = [(when, failed) for when, _, failed in values if failed]
    yield "envoy_cluster_upstream_rq_xx", {"envoy_response_code_class": "5"}, failures
    for limit, share in BUCKETS:
        yield (
            "envoy_cluster_upstream_rq_time_bucket",
            {"le": limit},
            [(when, math.floor(total * share)) for when, total in born],
        )


@cache
def _read(query: str) -> tuple[dict[str, re.Pattern[str]], float] | None:
    span = re.search(r"\[(\d+)ms\]$", query)
    matchers = {
        label: re.compile(re.escape(text) if sign == "=" else text.replace("\\\\", "\\"))
        for label, sign, text in re.findall(r'(\w+)(=~|=)"((?:[^"\\]|\\.)*)"', query)
    }
    if span is None or "envoy_cluster_name" not in matchers:
        return None
    return matchers, int(span[1]) / 1000


def _matches(matchers: dict[str, re.Pattern[str]], labels: dict[str, str]) -> bool:
    return all(pattern.fullmatch(labels.get(label, "")) for label, pattern in matchers.items())
