"""Counts of both arms since the attempt's first traffic, piece by piece, from one range query a protocol.

Raw samples of days would be more than an answer may have, so each series is asked for at no more than 480 points.
All times here are unix seconds unless they are datetimes.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import accumulate, chain, pairwise

from typing_extensions import override

from modelrollout.evidence.context import LEAST_SHARE, Context
from modelrollout.evidence.counters import Scrapes
from modelrollout.evidence.measure import STALE_AFTER
from modelrollout.evidence.question import Query
from modelrollout.evidence.sides import both_selector, pattern_of
from modelrollout.evidence.slis import Catalog, Counters, Indicator
from modelrollout.evidence.statistics.starts import Cuts, cuts
from modelrollout.ports import Answer, Series
from modelrollout.rollout.plan import WHOLE, Source

POINTS = 480
"""A series is asked for at half so many points, up to so many: the time between two doubles with the attempt."""

SHORTEST_STEP = 1.0
LONGEST_LOOK = timedelta(seconds=60)
"""No point shows a sample older than this."""

SURELY_LOST = 10.0
"""So many requests of each process may seem to be lost for no reason but when their counters were read."""

CANDIDATE, STABLE = 0, 1

Counts = dict[str, list[float]]
"""By role, and by ``le <bound>`` for buckets: one count for each piece."""


@dataclass(frozen=True)
class Counted:
    """What both arms counted in each piece of the evidence, protocols and processes added up.

    ``candidate`` and ``stable`` have one list by role (``total``, ``errors``, ``lost``, ``le <bound>``), one number a
    piece.
    ``compared`` says of each piece whether both arms had a share of the traffic there; ``shares`` are the candidate's
    by span, in parts per million (empty: not known).
    """

    cuts: Cuts
    candidate: Mapping[str, Sequence[float]]
    stable: Mapping[str, Sequence[float]]
    compared: tuple[bool, ...]
    shares: tuple[int, ...] = ()

    def of(self, arm: int, role: str) -> Sequence[float]:
        """The counts of one role by piece; zeros where there are none."""
        return (self.candidate, self.stable)[arm].get(role) or [0.0] * len(self.cuts.times)

    def unanswered(self, arm: int) -> Sequence[float]:
        """The requests by piece that were sent to an arm, and that nobody waits for any more without an answer.

        Nothing where the gateway does not tell.
        """
        return self.of(arm, "lost")

    def without(self, pieces: Collection[int]) -> Counted:
        """The same, had nothing been counted in these pieces."""

        def rest(counts: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
            return {
                role: [0.0 if piece in pieces else count for piece, count in enumerate(column)]
                for role, column in counts.items()
            }

        return replace(self, candidate=rest(self.candidate), stable=rest(self.stable))

    @property
    def bounds(self) -> tuple[str, ...]:
        """The bucket bounds, as labels, that either arm has; the lowest first."""
        roles = {*self.candidate, *self.stable}
        return tuple(sorted((role.removeprefix("le ") for role in roles if role.startswith("le ")), key=float))


def counted_queries(entry: Indicator, context: Context, known: Catalog, now: datetime) -> tuple[Query, ...]:
    """The questions about both arms at ``now``, one a protocol, named ``both <protocol>``; raises CatalogError."""
    step = point_distance(context, now)
    look = min(step, LONGEST_LOOK) // timedelta(milliseconds=1)
    start = now - -((context.since - now) // step) * step
    queries = []
    for protocol in context.protocols:
        selector = both_selector(entry.counters(protocol), known, protocol, context)
        text = f"last_over_time({selector}[{look}ms])"
        queries.append(Query(f"both {protocol}", text, now, min(start, now), step))
    return tuple(queries)


def point_distance(context: Context, now: datetime) -> timedelta:
    """How far apart the points are, so that there are at most POINTS: halves or multiples of the interval.

    The next evaluation then asks about the same times again.
    """
    interval = context.interval.total_seconds()
    seconds = max((now - context.since).total_seconds(), 1.0)
    step = interval * 2.0 ** math.ceil(math.log2(seconds / (POINTS - 1) / interval))
    while step < SHORTEST_STEP:
        step *= 2
    return timedelta(milliseconds=math.ceil(step * 1000))


def read_counted(
    entry: Indicator,
    answers: Mapping[str, Answer],
    context: Context,
    known: Catalog,
    now: datetime,
    begin: datetime,
    *,
    either: bool = False,
    finest: float = math.inf,
) -> Counted | str:
    """The counts of both arms from ``begin`` (not before the first traffic) until ``now``, or why there are none.

    Pieces are no longer than ``finest`` seconds, as ``cuts`` says.

    The candidate must have series of every protocol, and lately: evidence about half of the traffic is none. With
    ``either`` those of one arm are enough: what has no series got no request.
    """
    counters = tuple(entry.counters(protocol) for protocol in context.protocols)
    given = tuple(answers[f"both {protocol}"] for protocol in context.protocols)
    return _read(_Asked(counters, given, context, known, now, begin, either, finest))


@dataclass(frozen=True, eq=False)
class _Asked:
    """What a reading depends on; answers are told apart as objects, for several guards are judged by the same ones."""

    counters: tuple[Counters, ...]
    answers: tuple[Answer, ...]
    context: Context
    known: Catalog
    now: datetime
    begin: datetime
    either: bool
    finest: float

    @override
    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, _Asked)
            and len(self.answers) == len(other.answers)
            and all(mine is theirs for mine, theirs in zip(self.answers, other.answers, strict=True))
            and (self.begin, self.now, self.either, self.finest, self.context)
            == (other.begin, other.now, other.either, other.finest, other.context)
            and self.known is other.known
            and self.counters == other.counters
        )

    @override
    def __hash__(self) -> int:
        return hash((self.begin, self.now, *(id(answer) for answer in self.answers)))


@lru_cache(maxsize=4)
def _read(asked: _Asked) -> Counted | str:
    context, now, begin = asked.context, asked.now, asked.begin
    spans = sorted({max(span.since.timestamp(), begin.timestamp()): span.share for span in context.spans}.items())
    begins = [since for since, _ in spans] or [begin.timestamp()]
    pieces = cuts(begin.timestamp(), max(now, begin).timestamp(), begins, asked.finest)
    weighted = context.source is Source.WEIGHTED and spans
    apart = [not weighted or LEAST_SHARE <= spans[span][1] <= WHOLE - LEAST_SHARE for span in pieces.spans]
    look = min(point_distance(context, now), LONGEST_LOOK).total_seconds()
    arms: tuple[Counts, Counts] = ({}, {})
    senders = [0, 0]
    for protocol, counters, answer in zip(context.protocols, asked.counters, asked.answers, strict=True):
        patterns = [pattern_of(counters, asked.known, protocol, arm) for arm in (context, context.other)]
        reader = _Reader(counters, asked.known, patterns, pieces, begins, look, now.timestamp(), senders)
        found = reader.read(answer.series, arms, asked.either)
        if found:
            return f"{found} for {protocol} at the gateway"
    for counts, processes in zip(arms, senders, strict=True):
        if "sent" in counts:
            counts["lost"] = _lost(counts, len(pieces.times), processes * SURELY_LOST)
    return Counted(pieces, arms[CANDIDATE], arms[STABLE], tuple(apart), tuple(share for _, share in spans))


def _lost(counts: Counts, size: int, few: float) -> list[float]:
    """The requests by piece that were sent and are neither answered nor waited for: those missing ever since.

    Envoy counts an answer when it begins, and its request as active until it ends. So of what was sent since counting
    began two things are known. Not begun to be answered are those that nobody answered, and those whose answer is still
    waited for: as many as at the beginning, if nothing changed. Not active either are those that nobody answered, but
    for answers that go on now, and besides answers that went on at the beginning and are over. Lost is what both say.

    Counters are read one after the other: on a busy machine up to 6 requests of a process seemed to be missing for a
    scrape. So only what all later pieces miss too was lost, of the newest nobody knows yet, and the first ``few`` do
    not count: the scrape that counting began with may be the one that was off. Requests that met no pod are answered
    without having been sent: they hide as many that hang, being errors themselves.
    """
    roles = (counts.get(role) or [0.0] * size for role in ("sent", "total", "waiting", "retried"))
    columns = [(sent - begun - again, waits) for sent, begun, waits, again in zip(*roles, strict=True)]
    unanswered = accumulate(missing for missing, _ in columns)
    inactive = accumulate(missing - waits for missing, waits in columns)
    least = list(accumulate(reversed(list(map(min, unanswered, inactive))), min))[::-1]
    known = [0.0, *(max(level - few, 0.0) for level in least[: size - 1])]
    return [*(after - before for before, after in pairwise(known)), 0.0]


@dataclass(frozen=True)
class _Reader:
    """Reads the answer of one protocol into counts by piece; ``senders`` counts the processes that sent an arm any."""

    counters: Counters
    known: Catalog
    arms: Sequence[re.Pattern[str]]
    pieces: Cuts
    spans: Sequence[float]
    look: float
    now: float
    senders: list[int]

    def read(self, series: Sequence[Series], arms: tuple[Counts, Counts], either: bool) -> str:
        """Add what grew to ``arms``; the sentence that says why nothing can be said, if so."""
        processes: dict[tuple[str, ...], list[Series]] = defaultdict(list)
        for one in series:
            processes[tuple(one.labels.get(label, "") for label in self.known.target)].append(one)
        newest, gap = -math.inf, 0.0
        for members in processes.values():
            there, last, longest = self._process(members, arms)
            if not there and not either:
                continue
            newest, gap = max(newest, last), max(gap, longest)
        if newest == -math.inf:
            return "no series"
        if self.now - newest > max(STALE_AFTER, gap):
            return f"the newest sample is {self.now - newest:.0f} s old"
        return ""

    def _process(self, members: Sequence[Series], arms: tuple[Counts, Counts]) -> tuple[bool, float, float]:
        """Whether one process knows the candidate, when it was seen last, and what is a gap in its scrapes."""
        roles = [(self.counters.roles_of(one), one) for one in members]
        alive = [one for names, one in roles if names == ("alive",)]
        own: dict[str, list[Series]] = defaultdict(list)
        for names, one in roles:
            if "sentinel" in names:
                own[one.labels.get(self.known.clusters.label, "")].append(one)
        seen = {at for one in (*alive, *chain(*own.values())) for at, _ in one.samples}
        scrapes = Scrapes(tuple(sorted(seen)), _drops(alive))
        steps = _Steps.of(scrapes.times, self.pieces, self.spans, self.look)
        restarts = {cluster: tuple(sorted(scrapes.restarts + _drops(found))) for cluster, found in own.items()}
        there, sent = False, set[int]()
        for names, one in roles:
            cluster = one.labels.get(self.known.clusters.label, "")
            arm = next((place for place, mine in enumerate(self.arms) if cluster and mine.fullmatch(cluster)), None)
            if arm is None or names == ("alive",):
                continue
            there = there or arm == CANDIDATE
            if "sent" in names:
                sent.add(arm)
            keys = [name for name in names if name in ("total", "errors", "sent", "retried")]
            if "buckets" in names:
                keys.append(f"le {one.labels.get('le', '')}")
            if "waiting" in names:
                keys, grown = ["waiting"], steps.change(one.samples)
            elif keys:
                grown = steps.growth(one.samples, restarts.get(cluster, scrapes.restarts))
            for key in keys:
                have = arms[arm].get(key)
                arms[arm][key] = grown if have is None else [a + b for a, b in zip(have, grown, strict=True)]
        for arm in sent:
            self.senders[arm] += 1
        return there, scrapes.newest() or -math.inf, scrapes.gap


def _drops(sentinels: Sequence[Series]) -> tuple[float, ...]:
    """When any of these counters was seen lower than before: its process or cluster began anew."""
    found: list[float] = []
    for one in sentinels:
        values = [value for _, value in one.samples]
        if values != sorted(values):
            found += [at for (_, before), (at, value) in pairwise(one.samples) if value < before]
    return tuple(found)


@dataclass(frozen=True)
class _Steps:
    """The times between two scrapes of a process: ``pieces`` has the piece each belongs to, -1 for none.

    What was counted between a scrape under one weight and the next under another belongs to neither. ``runs`` are
    (piece, index of the scrape before its first time, index of its last scrape).
    """

    times: tuple[float, ...]
    pieces: tuple[int, ...]
    count: int
    runs: tuple[tuple[int, int, int], ...]

    @classmethod
    def of(cls, times: tuple[float, ...], cut: Cuts, spans: Sequence[float], look: float) -> _Steps:
        """The steps of a process that was scraped at these times; a point shows a sample up to ``look`` before it."""
        found: list[int] = []
        before = -math.inf
        for at in times:
            span = bisect_right(spans, before - look)
            found.append(cut.piece(at) if span and span == bisect_right(spans, at) else -1)
            before = at
        runs: list[tuple[int, int, int]] = []
        for index, piece in enumerate(found):
            if piece < 0:
                continue
            if runs and runs[-1][0] == piece and runs[-1][2] == index - 1:
                runs[-1] = (piece, runs[-1][1], index)
            else:
                runs.append((piece, index - 1, index))
        return cls(times, tuple(found), len(cut.times), tuple(runs))

    def growth(self, samples: Sequence[tuple[float, float]], restarts: Sequence[float]) -> list[float]:
        """How much one counter grew in each piece.

        A series that was not there at the scrape before was born, or made anew, since: it counts from 0. So it does
        where its value dropped and where its process restarted.
        """
        grown = [0.0] * self.count
        if not samples:
            return grown
        born = len(self.times) - len(samples)
        times, values = zip(*samples, strict=True)
        level = list(values)
        even = born >= 0 and not restarts and self.times[born:] == times and level == sorted(level)
        if not even or not math.isfinite(sum(level)):
            return self._uneven(samples, restarts, grown)
        level = [0.0] * born + level
        for piece, before, last in self.runs:
            grown[piece] += level[last] - level[before]
        return grown

    def change(self, samples: Sequence[tuple[float, float]]) -> list[float]:
        """How much one gauge changed in each piece; where it is not there it is 0."""
        changed, level = [0.0] * self.count, dict(samples)
        for piece, before, last in self.runs:
            found = [level.get(self.times[index], 0.0) for index in (before, last)]
            if all(map(math.isfinite, found)):
                changed[piece] += found[1] - found[0]
        return changed

    def _uneven(
        self, samples: Sequence[tuple[float, float]], restarts: Sequence[float], grown: list[float]
    ) -> list[float]:
        """The same for a series with gaps, drops or values that are no numbers."""
        index, last, seen = 0, 0.0, -1
        for at, value in samples:
            while index < len(self.times) and self.times[index] < at:
                index += 1
            if index == len(self.times):
                break
            if not math.isfinite(value):
                seen = index
                continue
            if self.pieces[index] >= 0:
                goes_on = seen >= index - 1 and value >= last
                if goes_on and bisect_right(restarts, at) > bisect_right(restarts, self.times[seen]):
                    goes_on = False
                grown[self.pieces[index]] += value - last if goes_on else value
            last, seen = value, index
        return grown
