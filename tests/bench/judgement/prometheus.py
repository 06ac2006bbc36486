"""The metrics port in virtual time: answers from what was scraped, or as badly as the world's outages say."""

from __future__ import annotations

import asyncio
import math
import re
from bisect import bisect_left, bisect_right
from datetime import datetime, timedelta
from functools import lru_cache

import numpy as np
import promql_parser as promql

from modelrollout.ports import Answer, InvalidQueryError, Series, TransientError
from tests.bench.judgement.envoy import EPOCH, Fleet, Key
from tests.bench.judgement.traffic import CANDIDATE, STABLE, Floats

LOOKBACK = 300.0

Matchers = tuple[tuple[str, bool, re.Pattern[str]], ...]
"""Label, whether it must match, pattern."""


class Prometheus:
    """``ports.Metrics`` over one fleet of proxies."""

    def __init__(self, fleet: Fleet, candidate: str = "") -> None:
        self.fleet = fleet
        self.candidate = candidate
        self._found: dict[tuple[str, int], list[Key]] = {}

    async def query(self, query: str, at: datetime) -> Answer:
        mode = await self._weather(at)
        text, span = _split(query)
        end = at.timestamp()
        if mode == "empty":
            return Answer("vector" if span is None else "matrix", ())
        if span is None:
            return Answer("vector", self._outputs(query, end, mode == "nan"))
        return Answer("matrix", tuple(self._select(text, end - span, end, mode == "nan")))

    async def query_range(self, query: str, start: datetime, end: datetime, step: timedelta) -> Answer:
        mode = await self._weather(end)
        if mode == "empty":
            return Answer("matrix", ())
        points = [(start + count * step).timestamp() for count in range((end - start) // step + 1)]
        found = []
        for series in self._select(query, points[0] - LOOKBACK, points[-1], mode == "nan"):
            times = [when for when, _ in series.samples]
            samples = []
            for point in points:
                index = bisect_left(times, point + 1e-9) - 1
                if index >= 0 and point - times[index] < LOOKBACK:
                    samples.append((point, series.samples[index][1]))
            if samples:
                found.append(Series(series.labels, tuple(samples)))
        return Answer("matrix", tuple(found))

    async def _weather(self, at: datetime) -> str:
        now = at.timestamp() - EPOCH
        mode = self.fleet.world.outage(now)
        if mode in ("refused", "down"):
            raise TransientError("connection refused")
        if mode == "hung":
            await asyncio.sleep(3600)
        self.fleet.scraped(now)
        return mode

    def _outputs(self, query: str, end: float, spoiled: bool) -> tuple[Series, ...]:
        """The catalog's output-psi (or how many answers it is made of), worked out from the observer's counts.

        That its PromQL equals this is tested elsewhere (tests/component/test_catalog_in_prometheus.py).
        """
        revision = re.search(r'modelrollout_observer_output_total\{[^}]*revision="([^"]+)"', query)
        window = re.search(r"\[(\d+)(ms|s|m)\]", query)
        if revision is None or window is None or self.fleet.world.outputs is None:
            raise InvalidQueryError(f"this Prometheus does not know {query!r}")
        seconds = int(window[1]) * {"ms": 0.001, "s": 1.0, "m": 60.0}[window[2]]
        arm = CANDIDATE if revision[1] == self.candidate else STABLE
        times = [when for when, _ in self.fleet.output_samples]
        newest, oldest = bisect_right(times, end) - 1, bisect_right(times, end - seconds) - 1
        if newest < 0 or end - times[newest] >= LOOKBACK:
            return ()
        counts = self.fleet.output_samples[newest][1][arm]
        if oldest >= 0:
            counts = counts - self.fleet.output_samples[oldest][1][arm]
        total = float(counts.sum())
        if not total:
            return ()
        value = total if "ln(" not in query else psi(counts / total, np.array(self.fleet.world.outputs[STABLE]))
        return (Series({"output": "DECISION"}, ((end, math.nan if spoiled else value),)),)

    def _select(self, text: str, start: float, end: float, spoiled: bool) -> list[Series]:
        known = (text, len(self.fleet.series))
        if known not in self._found:
            matchers = _matchers(text)
            self._found[known] = [key for key, labels in self.fleet.labels.items() if _fits(labels, matchers)]
        found = (self.fleet.find(key, start, end, spoiled=spoiled) for key in self._found[known])
        return [series for series in found if series is not None]


def psi(actual: Floats, expected: Floats) -> float:
    """Population stability index: the sum of (a - e) ln(a / e), shares floored at 0.0001."""
    actual, expected = np.maximum(actual, 1e-4), np.maximum(expected, 1e-4)
    return float(((actual - expected) * np.log(actual / expected)).sum())


def _split(query: str) -> tuple[str, float | None]:
    """A selector and its range in seconds; None where there is no range."""
    found = re.fullmatch(r"(.*)\[(\d+)ms\]", query, re.DOTALL)
    return (found[1], int(found[2]) / 1000) if found else (query, None)


@lru_cache(maxsize=256)
def _matchers(text: str) -> Matchers:
    node = promql.parse(text)
    if not isinstance(node, promql.VectorSelector):
        raise InvalidQueryError(f"this Prometheus answers selectors, not {text!r}")
    found = [(m.name, str(m.op), m.value) for m in node.matchers.matchers]
    if node.name:
        found.append(("__name__", str(promql.MatchOp.Equal), node.name))
    regular = {str(promql.MatchOp.Re), str(promql.MatchOp.NotRe)}
    wanted = {str(promql.MatchOp.Equal), str(promql.MatchOp.Re)}
    return tuple(
        (name, sign in wanted, re.compile(value if sign in regular else re.escape(value)))
        for name, sign, value in found
    )


def _fits(labels: dict[str, str], matchers: Matchers) -> bool:
    return all((pattern.fullmatch(labels.get(name, "")) is not None) == wanted for name, wanted, pattern in matchers)
