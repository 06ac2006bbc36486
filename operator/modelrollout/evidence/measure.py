"""From the raw samples of an answer to the value of an SLI in a window: pods and clusters summed, freshness checked."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from modelrollout.evidence.counters import Scrapes, growth, quantile
from modelrollout.evidence.slis import Catalog, Counters, Indicator, Kind
from modelrollout.ports import Series

STALE_AFTER = 30.0
"""Seconds after which the newest sample is too old, unless the scrape interval is so long that it is normal."""


_Member = tuple[tuple[str, ...], Series]
"""A series and its roles."""


@dataclass(frozen=True)
class Reading:
    """What was measured at one time: a value (None: there is none, and ``why`` says so) and its sample count.

    ``subject`` is what the value is about where that is one of several: ``feature age``.
    """

    value: float | None
    samples: float | None = None
    why: str = ""
    subject: str = ""


@dataclass(frozen=True)
class Window:
    """A span in unix seconds; ``full`` says that it is as long as it was asked to be."""

    start: float
    end: float
    full: bool = True


@dataclass(frozen=True)
class _Growth:
    """Growth by role, summed over processes and their clusters.

    ``rate`` is that of the total per second (None: too few scrapes to tell).
    """

    roles: Mapping[str, float]
    buckets: Mapping[float, float]
    rate: float | None


def read_window(
    indicator: Indicator,
    answers: Sequence[tuple[str, Sequence[Series]]],
    known: Catalog,
    window: Window,
) -> Reading:
    """The value of ``indicator`` in ``window``, from the series of each protocol's answer.

    Every protocol must have been scraped: evidence about half of the traffic is none.
    """
    found = []
    for protocol, series in answers:
        grown = _grow(indicator.counters(protocol), series, known, window)
        if isinstance(grown, str):
            return Reading(None, None, f"{grown} for {protocol} at the gateway")
        found.append(grown)
    roles = {role: math.fsum(grown.roles.get(role, 0.0) for grown in found) for role in ("total", "errors")}
    match indicator.kind:
        case Kind.RATIO:
            if roles["total"] <= 0:
                return Reading(None, 0.0, "no request was answered yet")
            return Reading(min(roles["errors"] / roles["total"], 1.0), roles["total"])
        case Kind.RATE:
            rates = [grown.rate for grown in found if grown.rate is not None]
            if len(rates) < len(found):
                return Reading(None, roles["total"], "not scraped twice yet")
            return Reading(math.fsum(rates), roles["total"])
        case Kind.QUANTILE:
            return _read_quantile(indicator, found)


def _read_quantile(indicator: Indicator, found: Sequence[_Growth]) -> Reading:
    buckets: dict[float, float] = defaultdict(float)
    for grown in found:
        for bound, count in grown.buckets.items():
            buckets[bound] += count
    count = buckets.get(math.inf, 0.0)
    value = quantile(indicator.quantile or 0.0, list(buckets.items()))
    if value is None:
        return Reading(None, count, "no request was answered yet")
    return Reading(value * indicator.scale, count)


def _grow(counters: Counters, series: Sequence[Series], known: Catalog, window: Window) -> _Growth | str:
    """The growth of all processes together, or the sentence that says why there is none."""
    processes: dict[tuple[str, ...], list[_Member]] = defaultdict(list)
    for one in series:
        processes[tuple(one.labels.get(label, "") for label in known.target)].append((counters.roles_of(one), one))
    roles: dict[str, float] = defaultdict(float)
    buckets: dict[float, float] = defaultdict(float)
    spans: list[tuple[float, float, float]] = []
    newest, fresh = -math.inf, False
    for members in processes.values():
        for cluster, scrapes in _clusters(members, known.clusters.label, window.end):
            last, baseline = scrapes.newest(), scrapes.baseline(window.start)
            if last is None:
                continue
            newest = max(newest, last)
            fresh = fresh or window.end - last <= max(STALE_AFTER, scrapes.gap)
            if baseline is None:
                continue
            for names, one in cluster:
                if not all(math.isfinite(value) for at, value in one.samples if baseline < at <= window.end):
                    return "samples that are no numbers"  # left out they would be no requests, and that is a rate
                grown = growth(one.samples, baseline, window.end, scrapes)
                for name in names:
                    roles[name] += grown
                if "buckets" in names and (bound := _bound(one)) is not None:
                    buckets[bound] += grown
            spans.extend(_spans(cluster, scrapes, window))
    if newest == -math.inf:
        return "no series"
    if not fresh:
        return f"the newest sample is {window.end - newest:.0f} s old"
    return _Growth(roles, buckets, _rate(spans))


def _clusters(members: Sequence[_Member], label: str, end: float) -> Iterator[tuple[list[_Member], Scrapes]]:
    """The series of one process by cluster, each with the scrapes that its growth is told from.

    All clusters share the times of the scrapes: one that was not there at a scrape of the process was born later. A
    restart of the process is one of all clusters, a cluster that was made anew one of its own series only.
    """
    times = Scrapes.of([one for names, one in members if {"alive", "sentinel"} & set(names)]).until(end)
    alive = [one for names, one in members if names == ("alive",)]
    clusters: dict[str, list[_Member]] = defaultdict(list)
    for names, one in members:
        if names != ("alive",):
            clusters[one.labels.get(label, "")].append((names, one))
    for cluster in clusters.values():
        own = Scrapes.of(alive + [one for names, one in cluster if "sentinel" in names])
        yield cluster, Scrapes(times.times, own.restarts)


def _spans(members: Sequence[_Member], scrapes: Scrapes, window: Window) -> list[tuple[float, float, float]]:
    """First scrape, last scrape and growth of the total between them, for scrapes that lie in the window.

    A scrape before it would stretch the time by seconds in which the arm had less weight.
    """
    first, last = scrapes.first_since(window.start), scrapes.newest()
    if first is None or last is None or last <= first:
        return []
    total = math.fsum(growth(one.samples, first, window.end, scrapes) for names, one in members if "total" in names)
    return [(first, last, total)]


def _rate(spans: Sequence[tuple[float, float, float]]) -> float | None:
    """All growth per second of the whole time watched: a pod that replaced another must not count twice."""
    if not spans:
        return None
    watched = max(last for _, last, _ in spans) - min(first for first, _, _ in spans)
    return math.fsum(total for _, _, total in spans) / watched


def _bound(series: Series) -> float | None:
    try:
        bound = float(series.labels.get("le", ""))
    except ValueError:
        return None
    return None if math.isnan(bound) else bound
