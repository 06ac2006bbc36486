"""Replays guards over history: what Prometheus kept is fetched in few questions, and evaluations are answered from it.

The questions and the verdicts are those of a rollout (``guard_queries``, ``judge_guard``); only who answers differs.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from modelrollout.api.guard import Guard
from modelrollout.api.status import Verdict
from modelrollout.evidence.bounds import is_sequential
from modelrollout.evidence.context import Context
from modelrollout.evidence.judge import Failure, judge_guard
from modelrollout.evidence.promql import QueryError
from modelrollout.evidence.queries import LOOKBACK, guard_queries
from modelrollout.evidence.question import Query
from modelrollout.evidence.slis import CatalogError, Indicator, find
from modelrollout.ports import Answer, Series
from modelrollout.rollout.observed import GuardResult

FINEST = timedelta(seconds=5)
COARSEST = timedelta(seconds=60)
"""How far apart the fetched samples of counters are at most: older than a minute counts as stale."""

_ROUNDED = 0.001
"""Prometheus keeps and answers whole milliseconds: a time may come back that much later than it was asked for."""

LOOKS = 10
"""So often a test of a whole trial is looked at: each look weighs all of its evidence."""

_RAW = re.compile(r"(?s)(?P<selector>.+)\[(?P<ms>\d+)ms\]")
_LAST = re.compile(r"(?s)last_over_time\((?P<selector>.+)\[(?P<ms>\d+)ms\]\)")


@dataclass(frozen=True)
class Trial:
    """A rollout that is replayed from ``begin`` to ``end``; ``context`` says who is judged, and since when.

    ``title`` names one that really was, with its outcome; it is empty where what served is judged as if it were on
    trial again.
    """

    context: Context
    begin: datetime
    end: datetime
    title: str = ""


@dataclass(frozen=True)
class Fetch:
    """One question to Prometheus: a range query."""

    text: str
    start: datetime
    end: datetime
    step: timedelta

    def halves(self) -> tuple[Fetch, Fetch] | None:
        """The same in two parts, where there are points enough."""
        points = (self.end - self.start) // self.step
        if points < 2:
            return None
        middle = self.start + points // 2 * self.step
        return replace(self, end=middle), replace(self, start=middle + self.step)


class History:
    """What was fetched, asked as Prometheus is: nothing after the time of a question is in its answer.

    ``missing`` are texts that could not be fetched, with why.
    """

    def __init__(self, fetched: Mapping[str, Iterable[Series]], missing: Mapping[str, str] | None = None) -> None:
        self._series = {text: _joined(series) for text, series in fetched.items()}
        self._missing = missing or {}

    def answer(self, query: Query, resolution: timedelta, *, counted: bool) -> Answer | Failure:
        """The answer to one question of a guard; Failure where it was not fetched.

        ``counted``: it asks for raw samples of counters, which were fetched ``resolution`` apart.
        """
        text = _source(query, resolution) if counted else query.text
        if text in self._missing:
            return Failure(self._missing[text])
        known = self._series.get(text, ())
        end = query.end.timestamp()
        if counted and query.start is None and (raw := _RAW.fullmatch(query.text)):
            return _answer(_between(one, end - int(raw["ms"]) / 1000, end) for one in known)
        if query.start is None or query.step is None:
            return _answer(_between(one, end - _ROUNDED, end) for one in known)
        first, step = query.start.timestamp(), query.step.total_seconds()
        if counted and (last := _LAST.fullmatch(query.text)):
            count = round((end - first) / step)
            points = [first + number * step for number in range(count + 1)]
            return _answer(_newest(one, points, int(last["ms"]) / 1000) for one in known)
        return _answer(_between(one, first - step / 2, end) for one in known)


_Known = tuple[Mapping[str, str], list[float], list[float]]
"""A series: labels, times, values."""


def _joined(series: Iterable[Series]) -> tuple[_Known, ...]:
    """Parts of the same series that were fetched one after the other, put together."""
    found: dict[tuple[tuple[str, str], ...], _Known] = {}
    for one in series:
        _, times, values = found.setdefault(tuple(sorted(one.labels.items())), (one.labels, [], []))
        for at, value in one.samples:
            if not times or at > times[-1]:
                times.append(at)
                values.append(value)
    return tuple(found.values())


def _answer(series: Iterable[Series]) -> Answer:
    return Answer("matrix", tuple(one for one in series if one.samples))


def _between(known: _Known, after: float, until: float) -> Series:
    labels, times, values = known
    first, last = bisect_right(times, after), bisect_right(times, until + _ROUNDED)
    return Series(labels, tuple(zip(times[first:last], values[first:last], strict=True)))


def _newest(known: _Known, points: Sequence[float], look: float) -> Series:
    labels, times, values = known
    found = []
    for point in points:
        place = bisect_right(times, point + _ROUNDED) - 1
        if place >= 0 and times[place] > point - look:
            found.append((point, values[place]))
    return Series(labels, tuple(found))


def resolution_of(guards: Iterable[Guard], step: timedelta) -> timedelta:
    """How far apart samples of counters are fetched: so that the shortest window has some, and a part of ``step``."""
    wished = min([step, COARSEST, *(guard.window / 2 for guard in guards if guard.sli is not None)])
    return step / math.ceil(step / max(wished, min(FINEST, step)))


def looks(trial: Trial, guard: Guard, step: timedelta) -> tuple[datetime, ...]:
    """When the guard is evaluated: every step, a test at most LOOKS times; a rollout on record to its very end."""
    length = trial.end - trial.begin
    steps = max(-(-length // step) if trial.title else length // step, 1)
    every = -(-steps // LOOKS) if is_sequential(guard) and not trial.title else 1
    return tuple(trial.begin + number * step for number in range(every, steps + 1, every))


def can_be_replayed(guard: Guard, trial: Trial) -> bool:
    """Whether there is what the guard compares: a guard relative to stable needs two revisions with traffic."""
    return guard.relative_to is None or trial.context.revision != trial.context.stable


def as_on_trial(guard: Guard, trial: Trial) -> Context:
    """Who is judged in the trial, and since when.

    A test counts from the begin of a trial. Everything else looks back by its window, so what served before counts too:
    it had its traffic long before.
    """
    context = trial.context
    if trial.title or is_sequential(guard):
        return context
    return replace(context, since=trial.begin - guard.window - guard.warm_up - guard.label_delay - LOOKBACK)


def _until(context: Context, at: datetime) -> Context:
    """The context as it was at a time: weights of later are not known yet, nor that stable is out."""
    known = tuple(span for span in context.spans if span.since <= at)
    return replace(context, spans=known or context.spans[:1])


def needed(guard: Guard, trials: Sequence[Trial], step: timedelta, resolution: timedelta) -> tuple[Fetch, ...]:
    """What must be fetched to replay ``guard`` in these trials, which follow each other; none twice.

    Raises QueryError and CatalogError where the guard can never be judged.
    """
    found: dict[str, Fetch] = {}
    for trial in trials:
        times, context = looks(trial, guard, step), as_on_trial(guard, trial)
        counted = _is_counted(guard, context)
        # In a rollout on record the window of a query grows from its first traffic on, and stable goes out in the end.
        for at in times if trial.title else (times[0], times[-1]):
            for query in guard_queries(guard, _until(context, at), at):
                text = _source(query, resolution) if counted else query.text
                width = resolution if counted else step
                start = _first(query, resolution) if counted else query.start or query.end
                start = at - max(-((start - at) // width), 0) * width
                before = found.get(text, Fetch(text, start, at, width))
                found[text] = replace(before, start=min(before.start, start), end=max(before.end, at))
    return tuple(found.values())


def _is_counted(guard: Guard, context: Context) -> bool:
    """Whether the SLI is made of counters; raises CatalogError."""
    return guard.sli is not None and isinstance(find(guard.sli, context), Indicator)


def _first(query: Query, resolution: timedelta) -> datetime:
    """The time of the oldest sample that the answer to ``query`` may rest on."""
    if raw := _RAW.fullmatch(query.text):
        return query.end - timedelta(milliseconds=int(raw["ms"]))
    start = query.start or query.end
    return start - resolution if _LAST.fullmatch(query.text) else start


def _source(query: Query, resolution: timedelta) -> str:
    """What is fetched to answer ``query``: for counters their newest sample at points, else the very query."""
    found = _LAST.fullmatch(query.text) or (_RAW.fullmatch(query.text) if query.start is None else None)
    if found is None:
        return query.text
    return f"last_over_time({found['selector']}[{resolution // timedelta(milliseconds=1)}ms])"


def replay(guard: Guard, trial: Trial, history: History, step: timedelta, resolution: timedelta) -> list[GuardResult]:
    """What the guard would have said at each look, oldest first."""
    whole = as_on_trial(guard, trial)
    results = []
    for at in looks(trial, guard, step):
        context = _until(whole, at)
        try:
            queries, counted = guard_queries(guard, context, at), _is_counted(guard, context)
        except (QueryError, CatalogError) as error:
            answers: dict[str, Answer | Failure] = {"query": Failure(str(error), invalid=True)}
        else:
            answers = {query.name: history.answer(query, resolution, counted=counted) for query in queries}
        results.append(judge_guard(guard, context, answers, at))
    return results


@dataclass(frozen=True)
class Moment:
    """What a guard said at one time."""

    at: datetime
    value: float | None
    message: str


@dataclass
class Tally:
    """What a guard would have said in all trials so far.

    ``fired`` counts trials with a breach, ``held`` those of them where stable broke the bound too (the rollout would
    have held); ``looks``, ``breaches``, ``silent`` (no data) and ``unread`` (history that could not be fetched) count
    evaluations. ``invalid`` says why the guard can never be judged.
    """

    trials: int = 0
    fired: int = 0
    held: int = 0
    looks: int = 0
    breaches: int = 0
    silent: int = 0
    unread: int = 0
    first: Moment | None = None
    last: Moment | None = None
    worst: Moment | None = None
    invalid: str | None = None
    _excess: float = -math.inf

    def add(self, guard: Guard, results: Sequence[GuardResult]) -> None:
        """Count the evaluations of one trial, oldest first."""
        self.trials += 1
        breached = [result for result in results if result.verdict is Verdict.BREACH]
        self.fired += bool(breached)
        self.held += bool(breached) and all(result.both for result in breached)
        self.looks += len(results)
        self.breaches += len(breached)
        self.silent += sum(result.verdict is Verdict.NO_DATA and result.value is None for result in results)
        self.unread += sum(result.verdict is Verdict.PROVIDER_DOWN for result in results)
        for result in breached:
            moment = _moment(result)
            self.first = self.first if self.first is not None and self.first.at <= moment.at else moment
            self.last = self.last if self.last is not None and self.last.at >= moment.at else moment
        for result in results:
            self.invalid = self.invalid or result.invalid
            excess = _excess(guard, result)
            if excess > self._excess:
                self._excess, self.worst = excess, _moment(result)


def _moment(result: GuardResult) -> Moment:
    return Moment(result.at, result.value, result.message)


def _excess(guard: Guard, result: GuardResult) -> float:
    """How bad a value is: how far beyond the bound, or above stable; minus infinity where there is none."""
    value = result.value
    if value is None or not math.isfinite(value):
        return -math.inf
    if guard.relative_to is not None:
        return -math.inf if result.baseline is None else value - result.baseline
    beyond = [value - guard.max] if guard.max is not None else []
    return max([*beyond, *([guard.min - value] if guard.min is not None else [])])
