"""Measures the rollback afterwards, from what Prometheus stored and what the API server's audit log says.

The first bad sample is the first scrape that shows the breach, with the guard's own bound, window and least number
of samples, worked out here from raw counters and not by the operator's code.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp

Samples = Sequence[tuple[float, float]]
"""(unix seconds, value) of one counter, oldest first."""


@dataclass(frozen=True)
class Bound:
    """A guard's condition: ``window`` in seconds, ``least`` samples, breached above ``maximum``."""

    sli: str
    maximum: float
    window: float
    least: int


def increase(samples: Samples, start: float, end: float) -> float:
    """How much a counter grew in (start, end]: one that is born in it starts at 0, and a reset starts again at 0."""
    times = [at for at, _ in samples]
    first, last = bisect_right(times, start), bisect_right(times, end)
    before = samples[first - 1][1] if first else 0.0
    grown = 0.0
    for _, value in samples[first:last]:
        grown += value - before if value >= before else value
        before = value
    return grown


def quantile(share: float, buckets: Sequence[tuple[float, float]]) -> float | None:
    """The quantile of cumulative (upper bound, count) buckets, by Prometheus' rule; None without requests."""
    total = buckets[-1][1] if buckets else 0.0
    if total <= 0:
        return None
    rank, lower, below = share * total, 0.0, 0.0
    for upper, count in buckets:
        if count >= rank:
            if upper == float("inf"):
                return lower
            return lower + (upper - lower) * ((rank - below) / (count - below) if count > below else 0.0)
        lower, below = upper, count
    return lower


@dataclass(frozen=True)
class ArmCounters:
    """Raw counters of one arm, by proxy: answers by class of status, latency buckets by bound in seconds."""

    classes: dict[str, list[Samples]]
    buckets: dict[float, list[Samples]]

    def value(self, bound: Bound, since: float, at: float) -> tuple[float | None, float]:
        """The guard's value as a scrape at ``at`` shows it, and the samples it is made of."""
        start = max(since, at - bound.window)
        total = sum(_grown(proxies, start, at) for proxies in self.classes.values())
        if total <= 0:
            return None, 0.0
        if bound.sli == "error-ratio":
            return _grown(self.classes.get("5", []), start, at) / total, total
        share = {"latency-p50": 0.5, "latency-p95": 0.95, "latency-p99": 0.99}[bound.sli]
        counts = [(upper, _grown(proxies, start, at)) for upper, proxies in sorted(self.buckets.items())]
        return quantile(share, counts), counts[-1][1] if counts else 0.0

    def first_breach(self, bound: Bound, since: float) -> float | None:
        """The time of the first scrape after ``since`` that shows the breach."""
        scrapes = sorted({at for proxies in self.classes.values() for one in proxies for at, _ in one if at > since})
        for at in scrapes:
            value, total = self.value(bound, since, at)
            if value is not None and total >= bound.least and value > bound.maximum:
                return at
        return None


async def arm_counters(prometheus: str, cluster: str, start: float, end: float) -> ArmCounters:
    """Read the raw counters of an Envoy cluster between two times (unix seconds)."""
    chosen = f'{{envoy_cluster_name="{cluster}"}}[{int(end - start) + 30}s]'
    classes: dict[str, list[Samples]] = defaultdict(list)
    buckets: dict[float, list[Samples]] = defaultdict(list)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
        for series in await _query(session, prometheus, f"envoy_cluster_upstream_rq_xx{chosen}", end):
            classes[series["metric"]["envoy_response_code_class"]].append(_samples(series))
        for series in await _query(session, prometheus, f"envoy_cluster_upstream_rq_time_bucket{chosen}", end):
            buckets[float(series["metric"]["le"]) / 1000].append(_samples(series))
    return ArmCounters(classes, buckets)


def _grown(proxies: list[Samples], start: float, end: float) -> float:
    return sum(increase(samples, start, end) for samples in proxies)


async def _query(session: aiohttp.ClientSession, base: str, query: str, at: float) -> list[Any]:
    parameters = {"query": query, "time": f"{at:.3f}"}
    async with session.get(f"{base}/api/v1/query", params=parameters) as answer:
        answer.raise_for_status()
        result: list[Any] = (await answer.json())["data"]["result"]
        return result


def _samples(series: Any) -> Samples:
    return [(float(at), float(value)) for at, value in series["values"]]


@dataclass(frozen=True)
class RouteWrite:
    """A write of the operator to our HTTPRoute: when the API server got it and when it was done (unix seconds)."""

    received: float
    done: float


def route_writes(lines: Iterable[str], namespace: str, name: str) -> Iterator[RouteWrite]:
    """The operator's successful writes of one HTTPRoute in an audit log, in the order of the log."""
    for line in lines:
        if '"httproutes"' not in line or "modelrollout/" not in line:
            continue
        try:
            entry = json.loads(line)
        except ValueError:  # the last line while it is being written
            continue
        where = entry.get("objectRef", {})
        if (
            entry.get("stage") == "ResponseComplete"
            and entry.get("verb") in ("patch", "update", "create")
            and entry.get("userAgent", "").startswith("modelrollout/")
            and (where.get("namespace"), where.get("name")) == (namespace, name)
            and where.get("subresource") is None
            and entry.get("responseStatus", {}).get("code", 0) < 300
        ):
            received, done = (_seconds(entry[key]) for key in ("requestReceivedTimestamp", "stageTimestamp"))
            yield RouteWrite(received, done)


def write_seen_at(audit_log: Path | None, namespace: str, name: str, seen: float) -> float:
    """When the write was done that a watch saw at ``seen``; without an audit log, ``seen`` itself."""
    if audit_log is None:
        return seen
    with audit_log.open(encoding="utf-8") as lines:
        done = [write.done for write in route_writes(lines, namespace, name) if write.received <= seen]
    return min(done[-1], seen) if done else seen


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
