"""A pretend Envoy and its Prometheus: counters that are scraped, and the raw samples a query would answer."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from datetime import UTC, datetime, timedelta

import promql_parser as promql

from modelrollout.api.guard import Guard
from modelrollout.evidence.context import Context
from modelrollout.evidence.judge import judge_guard
from modelrollout.evidence.queries import Query, guard_queries
from modelrollout.ports import Answer, Series
from modelrollout.rollout.observed import GuardResult

T0 = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
HTTP = "httproute/demo/digits/rule/0/backend/1"
GRPC = "grpcroute/demo/digits/rule/0/backend/1"

Labels = tuple[tuple[str, str], ...]


def labels(name: str, **more: str) -> Labels:
    return tuple(sorted({"__name__": name, **more}.items()))


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def context(
    since: float = 0, interval: float = 10, http: bool = True, grpc: bool = False, namespace: str = "demo"
) -> Context:
    return Context(
        namespace=namespace,
        name="digits",
        revision="digits-new",
        stable="digits-old",
        http=http,
        grpc=grpc,
        slot=1,
        profile="envoy-gateway",
        interval=timedelta(seconds=interval),
        since=at(since),
    )


class Envoy:
    """One proxy; counters appear when they first count, except the total, which is there from the start."""

    def __init__(self, instance: str = "10.0.0.1:19001", cluster: str = HTTP) -> None:
        self.place = {"instance": instance, "job": "gateway", "envoy_cluster_name": cluster}
        self.restart()

    def beside(self, cluster: str) -> Envoy:
        """Another cluster of the same proxy."""
        return Envoy(self.place["instance"], cluster)

    def restart(self) -> None:
        self.counts: dict[Labels, float] = {}
        self.uptime = 0.0
        self.make_cluster()

    def make_cluster(self) -> None:
        """The slot gets weight: its counters begin at 0, whatever was there before."""
        self.counts = {self._labels("envoy_cluster_upstream_rq_total"): 0.0}

    def remove_cluster(self) -> None:
        """The slot has no weight any more."""
        self.counts = {}

    def uptime_labels(self) -> Labels:
        own = {name: value for name, value in self.place.items() if name != "envoy_cluster_name"}
        return labels("envoy_server_uptime", **own)

    def _labels(self, name: str, **more: str) -> Labels:
        return labels(name, **self.place, **more)

    def add(self, name: str, count: float, **more: str) -> None:
        key = self._labels(name, **more)
        self.counts[key] = self.counts.get(key, 0.0) + count

    def serve(self, good: int = 0, bad: int = 0, status: str | None = None, milliseconds: float = 20) -> None:
        """Answer requests; a bad one is HTTP 500, or the gRPC ``status`` in an HTTP 200."""
        count = good + bad
        if not count:
            return
        self.add("envoy_cluster_upstream_rq_total", count)
        self.add("envoy_cluster_upstream_rq_completed", count)
        by_class = {"2": count} if status else {"2": good, "5": bad}
        for code, number in by_class.items():
            if number:
                self.add("envoy_cluster_upstream_rq_xx", number, envoy_response_code_class=code)
        if status and bad:
            self.add(f"envoy_cluster_grpc_ModelInfer_{status}", bad)
        for bound in ("0.5", "1", "5", "10", "25", "50", "100", "250", "500", "1000", "+Inf"):
            self.add("envoy_cluster_upstream_rq_time_bucket", count if milliseconds <= float(bound) else 0, le=bound)

    def take(self, count: int) -> None:
        """Send requests to the arm, which does not answer them yet."""
        self.add("envoy_cluster_upstream_rq_total", count)
        self.add("envoy_cluster_upstream_rq_active", count)

    def leave(self, count: int) -> None:
        """Clients give up: as measured on a real Envoy, nothing counts that."""
        self.add("envoy_cluster_upstream_rq_active", -count)

    def begin(self, count: int) -> None:
        """The first bytes of answers are sent; they are active until the last."""
        self.add("envoy_cluster_upstream_rq_completed", count)
        self.add("envoy_cluster_upstream_rq_xx", count, envoy_response_code_class="2")

    def finish(self, count: int) -> None:
        """The arm answers requests that it took."""
        self.leave(count)
        self.begin(count)

    def turn_away(self, count: int) -> None:
        """Answer requests for which no pod can be reached; Envoy does not count them in its total."""
        self.add("envoy_cluster_upstream_rq_completed", count)
        self.add("envoy_cluster_upstream_rq_xx", count, envoy_response_code_class="5")


class Storage:
    """A Prometheus with nothing but raw samples in it."""

    def __init__(self) -> None:
        self.samples: dict[Labels, list[tuple[float, float]]] = {}
        self.ends: dict[Labels, list[float]] = {}

    def scrape(self, seconds: float, *proxies: Envoy) -> None:
        """Scrape these clusters; a series of theirs that is gone gets Prometheus' mark that it ended."""
        now, present = at(seconds).timestamp(), dict[Labels, float]()
        for proxy in proxies:
            proxy.uptime += 1.0
            present |= {**proxy.counts, proxy.uptime_labels(): proxy.uptime}
        for key, value in present.items():
            self.samples.setdefault(key, []).append((now, value))
        scraped = {dict(key)["instance"] for key in present}
        for key in self.samples.keys() - present.keys():
            if dict(key)["instance"] in scraped:
                self.ends.setdefault(key, []).append(now)

    def answer(self, text: str, end: datetime) -> Answer:
        """What Prometheus answers to a range selector."""
        node = promql.parse(text)
        assert isinstance(node, promql.MatrixSelector)
        first = end.timestamp() - node.range.total_seconds()
        found = []
        for key in self._selected(node.vector_selector):
            inside = tuple((when, value) for when, value in self.samples[key] if first < when <= end.timestamp())
            if inside:
                found.append(Series(dict(key), inside))
        return Answer("matrix", tuple(found))

    def answer_range(self, text: str, start: datetime, end: datetime, step: timedelta) -> Answer:
        """What Prometheus answers to a selector in a range query: at each point the newest sample of five minutes.

        With last_over_time() that of its range, also of a series that has ended since.
        """
        node = promql.parse(text)
        look = None
        if isinstance(node, promql.Call):
            assert node.func.name == "last_over_time"
            (matrix,) = node.args
            assert isinstance(matrix, promql.MatrixSelector)
            look, node = matrix.range.total_seconds(), matrix.vector_selector
        assert isinstance(node, promql.VectorSelector)
        points = [(start + count * step).timestamp() for count in range((end - start) // step + 1)]
        found = []
        for key in self._selected(node):
            inside = tuple((point, value) for point in points if (value := self._at(key, point, look)) is not None)
            if inside:
                found.append(Series(dict(key), inside))
        return Answer("matrix", tuple(found))

    def _at(self, key: Labels, point: float, look: float | None) -> float | None:
        if look is None:
            return self._newest(key, point)
        samples = self.samples[key]
        index = bisect_right(samples, (point, math.inf)) - 1
        return samples[index][1] if index >= 0 and point - samples[index][0] < look else None

    def _newest(self, key: Labels, point: float) -> float | None:
        samples = self.samples[key]
        index = bisect_right(samples, (point, math.inf)) - 1
        if index < 0 or point - samples[index][0] >= 300:
            return None
        ended = any(samples[index][0] < end <= point for end in self.ends.get(key, ()))
        return None if ended else samples[index][1]

    def _selected(self, node: promql.VectorSelector) -> list[Labels]:
        matchers = [(m.name, str(m), m.value) for m in node.matchers.matchers]
        if node.name:
            matchers.append(("__name__", "=", node.name))
        return [
            key
            for key in self.samples
            if all(_fits(dict(key).get(name, ""), written, value) for name, written, value in matchers)
        ]

    def judge(self, guard: Guard, where: Context, seconds: float) -> GuardResult:
        now = at(seconds)
        queries = guard_queries(guard, where, now)
        return judge_guard(guard, where, {query.name: self.asked(query) for query in queries}, now)

    def asked(self, query: Query) -> Answer:
        """The answer to one question of a guard."""
        if query.start is None or query.step is None:
            return self.answer(query.text, query.end)
        return self.answer_range(query.text, query.start, query.end, query.step)


def _fits(own: str, written: str, value: str) -> bool:
    return re.fullmatch(value, own) is not None if "=~" in written else own == value
