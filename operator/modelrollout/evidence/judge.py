"""From the answers of Prometheus to the verdict on one guard."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache

from modelrollout.api.base import clean
from modelrollout.api.durations import format_duration
from modelrollout.api.guard import Guard
from modelrollout.api.status import Verdict
from modelrollout.evidence.bounds import (
    is_sequential,
    latency_as_bad,
    outside,
    ratio_as_bad,
    threshold,
    waits_until,
    warmed_up,
)
from modelrollout.evidence.context import Context
from modelrollout.evidence.finding import Finding
from modelrollout.evidence.measure import Reading, Window, read_window
from modelrollout.evidence.queried import QueryIndicator, Scope
from modelrollout.evidence.queries import OTHER, compares, evaluation_times
from modelrollout.evidence.query_slis import readings
from modelrollout.evidence.sequential import judge_sequential
from modelrollout.evidence.sides import series_of
from modelrollout.evidence.slis import CatalogError, Indicator, Kind, catalog, find
from modelrollout.ports import Answer
from modelrollout.rollout.observed import GuardResult

__all__ = ["Failure", "judge_guard", "threshold"]

LONGEST_MESSAGE = 300


@dataclass(frozen=True)
class Failure:
    """A question without an answer: why, in the operator's own words, and whether it can never be answered."""

    message: str
    invalid: bool = False


@dataclass(frozen=True)
class _Unusable(Exception):  # noqa: N818
    """The guard can never be judged; ``sentence`` says why."""

    sentence: str


def judge_guard(guard: Guard, context: Context, answers: Mapping[str, Answer | Failure], now: datetime) -> GuardResult:
    """The verdict on ``guard`` at ``now`` from the answers to its ``guard_queries``, by name.

    A bound without confidence: Breach is outside it in ``breaches`` of the last ``of`` evaluations, Pass is the newest
    one inside. With confidence, or relative to stable: Breach is what the sequential test is sure of, Pass what does
    not lean that way. A query that can never work is NoData with ``invalid`` set; a question without an answer is
    ProviderDown.
    """
    failures = [answer for answer in answers.values() if isinstance(answer, Failure)]
    for failure in sorted(failures, key=lambda failure: not failure.invalid):
        if failure.invalid:
            return _invalid(guard, now, failure.message)
        return _result(guard, now, Finding(Verdict.PROVIDER_DOWN, failure.message))
    given = {name: answer for name, answer in answers.items() if isinstance(answer, Answer)}
    try:
        result = _judge(guard, context, given, now)
    except CatalogError as error:
        return _invalid(guard, now, str(error))
    except _Unusable as error:
        return _invalid(guard, now, error.sentence)
    due = waits_until(guard, context, now)
    if due is None:
        return result
    why = "warms up" if guard.warm_up >= guard.label_delay else "waits for the labels"
    message = f"{guard.name} {why} until {due:%Y-%m-%d %H:%M:%S} UTC"
    return replace(_result(guard, now, Finding(Verdict.NO_DATA, message)), waits_until=due)


def _judge(guard: Guard, context: Context, given: Mapping[str, Answer], now: datetime) -> GuardResult:
    if guard.sli is None:
        own = warmed_up(guard, context)
        return _weigh(
            guard, now, _query_readings(guard, own, given.get("query"), now), _stable_query(guard, own, given, now)
        )
    entry = find(guard.sli, context)
    if isinstance(entry, QueryIndicator):
        return _judge_queried(guard, entry, warmed_up(guard, context), given, now)
    if is_sequential(guard):
        return _result(guard, now, judge_sequential(guard, entry, context, given, now))
    own = warmed_up(guard, context)
    mine = _sli_readings(guard, entry, own, given, now)

    def read(arm: Context) -> list[Reading]:
        return _sli_readings(guard, entry, arm, given, now)

    @cache
    def stable(place: int) -> Reading | None:
        return read(own.other)[place] if compares(guard, context) else None

    def as_bad(place: int, shown: Reading, theirs: Reading) -> bool:
        # Where weights changed in the window, an arm has more of its requests in the bad part of it than the other.
        at = evaluation_times(guard, own, now)[place]
        lately = replace(own, since=max([own.since, *(span.since for span in own.spans if span.since < at)]))
        found = [read(arm) for arm in (lately, lately.other)]
        newer = [readings[place] for readings in found if place < len(readings) and readings[place].value is not None]
        return _as_bad(entry)(guard, *(newer if len(newer) == len(found) else (shown, theirs)))

    return _weigh(guard, now, mine, stable, as_bad)


def _judge_queried(
    guard: Guard, entry: QueryIndicator, context: Context, given: Mapping[str, Answer], now: datetime
) -> GuardResult:
    """The verdict on an SLI that Prometheus computes; inputs are the same for both arms: they drift for both."""
    found = readings(guard, context, given, now)
    if isinstance(found, str):
        raise _Unusable(found)

    def stable(place: int) -> Reading | None:
        if not compares(guard, context):
            return None
        theirs = {name.removeprefix(OTHER): answer for name, answer in given.items() if name.startswith(OTHER)}
        others = readings(guard, context.other, theirs, now)
        return None if isinstance(others, str) or place >= len(others) else others[place]

    result = _weigh(guard, now, found, stable)
    subject = next((one.subject for one in found if one.subject and one.value == result.value), "")
    drift = subject if entry.drift else ""
    inputs = entry.scope is Scope.INPUTS and result.verdict is Verdict.BREACH
    message = f"{result.message} ({subject})" if subject and result.value is not None else result.message
    return replace(result, drift=drift, both=result.both or inputs, message=clean(message, LONGEST_MESSAGE))


def _breaks_too(guard: Guard, mine: Reading, theirs: Reading) -> bool:
    return outside(guard, theirs.value)


def _as_bad(entry: Indicator) -> Callable[[Guard, Reading, Reading], bool]:
    """How to tell that stable is as bad as the candidate."""

    def ratio(guard: Guard, mine: Reading, theirs: Reading) -> bool:
        return ratio_as_bad(guard, mine.value or 0.0, mine.samples or 0.0, theirs.value, theirs.samples or 0.0)

    def latency(guard: Guard, mine: Reading, theirs: Reading) -> bool:
        return latency_as_bad(guard, mine.value or 0.0, theirs.value)

    return {Kind.RATIO: ratio, Kind.QUANTILE: latency, Kind.RATE: _breaks_too}[entry.kind]


def _weigh(
    guard: Guard,
    now: datetime,
    readings: Sequence[Reading],
    stable: Callable[[int], Reading | None],
    as_bad: Callable[[int, Reading, Reading], bool] | None = None,
) -> GuardResult:
    """The verdict from the readings of the last evaluations, newest first; ``stable`` gives the other arm's of one.

    A breach is of both arms unless enough evaluations are outside while stable is not as bad at that time.
    """
    newest = readings[0]
    places = [place for place, reading in enumerate(readings) if outside(guard, reading.value)]

    def of_both(place: int) -> bool:
        mine, theirs = readings[place], stable(place)
        if theirs is None or theirs.value is None:
            return False
        return _breaks_too(guard, mine, theirs) if as_bad is None else as_bad(place, mine, theirs)

    if len(places) >= guard.breaches:
        alone = [place for place in places if not of_both(place)]
        both = len(alone) < guard.breaches
        place = places[0] if both else alone[0]
        shown, theirs = readings[place], stable(place)
        message = _comparison(guard, shown, len(places)) + ("; stable is as bad" if both else "")
        baseline = None if theirs is None else theirs.value
        return _result(
            guard, now, Finding(Verdict.BREACH, message, shown.value, shown.samples, baseline=baseline, both=both)
        )
    if newest.value is None:
        return _result(guard, now, Finding(Verdict.NO_DATA, newest.why, samples=newest.samples))
    theirs = stable(0)
    baseline = None if theirs is None else theirs.value
    verdict, message = Verdict.PASS, _comparison(guard, newest)
    if places and places[0] == 0:
        verdict = Verdict.NO_DATA
        message = f"{_comparison(guard, newest, len(places))}; {guard.breaches} make a breach"
    return _result(guard, now, Finding(verdict, message, newest.value, newest.samples, baseline=baseline))


def _comparison(guard: Guard, reading: Reading, outside: int = 0) -> str:
    message = f"{_amount(guard, reading)}, must be {threshold(guard)}"
    return f"{message}; outside in {outside} of the last {guard.of}" if outside and guard.of > 1 else message


def _amount(guard: Guard, reading: Reading) -> str:
    subject = "query" if guard.sli is None else str(guard.sli)
    span = "" if guard.sli is None else f" over {format_duration(guard.window)}"
    made_of = "" if reading.samples is None else f" ({reading.samples:.0f} requests)"
    return f"{subject} is {reading.value:.6g}{span}{made_of}"


def _sli_readings(
    guard: Guard, entry: Indicator, context: Context, answers: Mapping[str, Answer], now: datetime
) -> list[Reading]:
    known = catalog(context.profile)
    given = [
        (protocol, series_of(answers[protocol].series, entry.counters(protocol), known, protocol, context))
        for protocol in context.protocols
        if protocol in answers
    ]
    times = evaluation_times(guard, context, now)
    if len(given) < len(context.protocols) or not given:
        return [Reading(None, None, "not every protocol of the route was asked about")] * len(times)
    since = context.since.timestamp()
    found = []
    for at in times:
        end = at.timestamp()
        wished = end - guard.window.total_seconds()
        window = Window(max(wished, since), end, full=wished >= since)
        reading = read_window(entry, given, known, window)
        found.append(_with_enough(guard, entry.kind, reading, window))
    return found


def _with_enough(guard: Guard, kind: Kind, reading: Reading, window: Window) -> Reading:
    """The reading, without its value where it rests on too little."""
    if reading.value is None:
        return reading
    if not math.isfinite(reading.value):
        return Reading(None, reading.samples, "the value is not a finite number")
    if (reading.samples or 0.0) < guard.min_samples:
        why = f"{reading.samples or 0:.0f} of at least {guard.min_samples} requests in the window"
        return Reading(None, reading.samples, why)
    if kind is Kind.RATE and not window.full and guard.min is not None and reading.value < guard.min:
        # The first scrapes after a weight change catch a few requests or none; that is no lack of traffic yet.
        why = f"under the minimum, but traffic began less than {format_duration(guard.window)} ago"
        return Reading(None, reading.samples, why)
    return reading


def _stable_query(
    guard: Guard, context: Context, given: Mapping[str, Answer], now: datetime
) -> Callable[[int], Reading | None]:
    def stable(place: int) -> Reading | None:
        answer = given.get(f"{OTHER}query")
        if answer is None or not compares(guard, context):
            return None
        try:
            return _query_readings(guard, context, answer, now)[place]
        except _Unusable:
            return None

    return stable


def _query_readings(guard: Guard, context: Context, answer: Answer | None, now: datetime) -> list[Reading]:
    """One reading an evaluation; raises _Unusable where the query can never be judged."""
    if answer is None:
        return [Reading(None, None, "the query was not asked")]
    if answer.kind not in ("matrix", "vector", "scalar"):
        raise _Unusable(f"the query answers a {clean(answer.kind, 20)}, not a number")
    found = []
    for at in evaluation_times(guard, context, now):
        near = context.interval.total_seconds() / 2
        values = [
            value for series in answer.series for when, value in series.samples if abs(when - at.timestamp()) < near
        ]
        if len(values) > 1:
            raise _Unusable(
                f"the query answers {len(values)} series at once; aggregate them into one, with max() or sum()"
            )
        if not values:
            found.append(Reading(None, None, "the query answers nothing"))
        elif not math.isfinite(values[0]):
            found.append(Reading(None, None, "the query answers no finite number"))
        else:
            found.append(Reading(values[0]))
    return found


def _invalid(guard: Guard, now: datetime, sentence: str) -> GuardResult:
    line = clean(sentence, LONGEST_MESSAGE)
    return GuardResult(guard.name, Verdict.NO_DATA, now, None, threshold(guard), None, line, line)


def _result(guard: Guard, now: datetime, finding: Finding) -> GuardResult:
    return GuardResult(
        guard.name,
        finding.verdict,
        now,
        finding.value,
        threshold(guard),
        finding.samples,
        clean(finding.message, LONGEST_MESSAGE),
        confidence=finding.confidence,
        baseline=finding.baseline,
        both=finding.both,
    )
