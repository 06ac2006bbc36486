"""The metrics port in virtual time: answers from what was scraped, or as badly as the world's outages say."""

from __future__ import annotations

import asyncio
import math
import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
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


Samples = tuple[tuple[float, float], ...]


@dataclass
class _Grid:
    """What one series was at points a step apart, ``origin`` being one; ``place`` is how far it was read."""

    origin: float
    place: int = 0
    points: list[tuple[float, float]] = field(default_factory=list)


class Prometheus:
    """``ports.Metrics`` over one fleet of proxies."""

    def __init__(self, fleet: Fleet, candidate: str = "") -> None:
        self.fleet = fleet
        self.candidate = candidate
        self._found: dict[tuple[str, int], list[Key]] = {}
        self._grids: dict[tuple[Key, float, float, float], _Grid] = {}

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
        found = re.fullmatch(r"last_over_time\((.*)\[(\d+)ms\]\)", query, re.DOTALL)
        if found is None:
            raise InvalidQueryError(f"this Prometheus does not know {query!r}")
        if mode == "empty":
            return Answer("matrix", ())
        look, first, last = int(found[2]) / 1000, start.timestamp(), end.timestamp()
        answered = []
        for key in self._keys(found[1]):
            samples = self._points(key, first, last, step.total_seconds(), look)
            if mode == "nan":
                samples = tuple((when, math.nan) for when, _ in samples)
            if samples:
                answered.append(Series(self.fleet.labels[key], samples))
        return Answer("matrix", tuple(answered))

    def _points(self, key: Key, start: float, end: float, step: float, look: float) -> Samples:
        """The newest sample of the last ``look`` seconds at each point, where there is one.

        ``look`` is at most ``step``, so that a sample shows at one point at most. Most of the points of one evaluation
        are those of one before it: they are kept.
        """
        grid = self._grids.setdefault((key, step, look, round(start % step, 4)), _Grid(start))
        samples = self.fleet.series[key]
        for when, value in samples[grid.place :]:
            point = grid.origin + math.ceil((when - grid.origin) / step - 1e-9) * step
            if point - when < look - 1e-6:
                if grid.points and grid.points[-1][0] == point:
                    grid.points.pop()
                grid.points.append((point, value))
        grid.place = len(samples)
        first = bisect_left(grid.points, (start - 1e-6, -math.inf))
        return tuple(grid.points[first : bisect_right(grid.points, (end + 1e-6, math.inf))])

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
        found = (self.fleet.find(key, start, end, spoiled=spoiled) for key in self._keys(text))
        return [series for series in found if series is not None]

    def _keys(self, text: str) -> list[Key]:
        """The series that a selector takes."""
        known = (text, len(self.fleet.series))
        if known not in self._found:
            matchers = _matchers(text)
            self._found[known] = [key for key, labels in self.fleet.labels.items() if _fits(labels, matchers)]
        return self._found[known]


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
