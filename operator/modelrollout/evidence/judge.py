"""From the answers of Prometheus to the verdict on one guard."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from modelrollout.api.base import clean
from modelrollout.api.durations import format_duration
from modelrollout.api.guard import Guard
from modelrollout.api.status import Verdict
from modelrollout.evidence.context import Context
from modelrollout.evidence.measure import Reading, Window, read_window
from modelrollout.evidence.queries import evaluation_times, indicator
from modelrollout.evidence.slis import CatalogError, Kind, catalog
from modelrollout.ports import Answer
from modelrollout.rollout.observed import GuardResult

LONGEST_MESSAGE = 300


@dataclass(frozen=True)
class Failure:
    """A question without an answer: why, in the operator's own words, and whether it can never be answered."""

    message: str
    invalid: bool = False


def threshold(guard: Guard) -> str:
    """The bounds in words: ``<= 0.01``, ``>= 5``, or both."""
    parts = []
    if guard.min is not None:
        parts.append(f">= {guard.min:.12g}")
    if guard.max is not None:
        parts.append(f"<= {guard.max:.12g}")
    return " and ".join(parts)


def judge_guard(guard: Guard, context: Context, answers: Mapping[str, Answer | Failure], now: datetime) -> GuardResult:
    """The verdict on ``guard`` at ``now`` from the answers to its ``guard_queries``, by name.

    Breach: outside the bounds in ``breaches`` of the last ``of`` evaluations. Pass: the newest evaluation is inside
    them. A query that can never work is NoData with ``invalid`` set; a question without an answer is ProviderDown.
    """
    failures = [answer for answer in answers.values() if isinstance(answer, Failure)]
    for failure in sorted(failures, key=lambda failure: not failure.invalid):
        if failure.invalid:
            return _invalid(guard, now, failure.message)
        return _result(guard, now, Verdict.PROVIDER_DOWN, Reading(None), failure.message)
    given = {name: answer for name, answer in answers.items() if isinstance(answer, Answer)}
    if guard.query is None:
        try:
            readings = _sli_readings(guard, context, given, now)
        except CatalogError as error:
            return _invalid(guard, now, str(error))
    else:
        found = _query_readings(guard, context, given.get("query"), now)
        if isinstance(found, str):
            return _invalid(guard, now, found)
        readings = found
    return _weigh(guard, now, readings)


def _weigh(guard: Guard, now: datetime, readings: list[Reading]) -> GuardResult:
    """The verdict from the readings of the last evaluations, newest first."""
    newest = readings[0]
    outside = [reading for reading in readings if _is_outside(guard, reading.value)]
    if len(outside) >= guard.breaches:
        shown = newest if newest.value is not None else outside[0]
        return _result(guard, now, Verdict.BREACH, shown, _comparison(guard, shown, len(outside)))
    if newest.value is None:
        return _result(guard, now, Verdict.NO_DATA, newest, newest.why)
    if outside and outside[0] is newest:
        message = f"{_comparison(guard, newest, len(outside))}; {guard.breaches} make a breach"
        return _result(guard, now, Verdict.NO_DATA, newest, message)
    return _result(guard, now, Verdict.PASS, newest, _comparison(guard, newest))


def _comparison(guard: Guard, reading: Reading, outside: int = 0) -> str:
    message = f"{_amount(guard, reading)}, must be {threshold(guard)}"
    return f"{message}; outside in {outside} of the last {guard.of}" if outside and guard.of > 1 else message


def _amount(guard: Guard, reading: Reading) -> str:
    subject = "query" if guard.sli is None else str(guard.sli)
    span = "" if guard.sli is None else f" over {format_duration(guard.window)}"
    made_of = "" if reading.samples is None else f" ({reading.samples:.0f} requests)"
    return f"{subject} is {reading.value:.6g}{span}{made_of}"


def _is_outside(guard: Guard, value: float | None) -> bool:
    if value is None or not math.isfinite(value):
        return False
    return (guard.max is not None and value > guard.max) or (guard.min is not None and value < guard.min)


def _sli_readings(guard: Guard, context: Context, answers: Mapping[str, Answer], now: datetime) -> list[Reading]:
    entry = indicator(guard, context)
    given = [(protocol, answers[protocol].series) for protocol in context.protocols if protocol in answers]
    if len(given) < len(context.protocols) or not given:
        return [Reading(None, None, "not every protocol of the route was asked about")]
    known = catalog(context.profile)
    since = context.since.timestamp()
    readings = []
    for at in evaluation_times(guard, context, now):
        end = at.timestamp()
        wished = end - guard.window.total_seconds()
        window = Window(max(wished, since), end, full=wished >= since)
        reading = read_window(entry, given, known, window)
        readings.append(_with_enough(guard, entry.kind, reading, window))
    return readings


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


def _query_readings(guard: Guard, context: Context, answer: Answer | None, now: datetime) -> list[Reading] | str:
    """One reading an evaluation, or the sentence that says why the query can never be judged."""
    if answer is None:
        return [Reading(None, None, "the query was not asked")]
    if answer.kind not in ("matrix", "vector", "scalar"):
        return f"the query answers a {clean(answer.kind, 20)}, not a number"
    readings = []
    for at in evaluation_times(guard, context, now):
        near = context.interval.total_seconds() / 2
        values = [
            value for series in answer.series for when, value in series.samples if abs(when - at.timestamp()) < near
        ]
        if len(values) > 1:
            return f"the query answers {len(values)} series at once; aggregate them into one, with max() or sum()"
        if not values:
            readings.append(Reading(None, None, "the query answers nothing"))
        elif not math.isfinite(values[0]):
            readings.append(Reading(None, None, "the query answers no finite number"))
        else:
            readings.append(Reading(values[0]))
    return readings


def _invalid(guard: Guard, now: datetime, sentence: str) -> GuardResult:
    line = clean(sentence, LONGEST_MESSAGE)
    return GuardResult(guard.name, Verdict.NO_DATA, now, None, threshold(guard), None, line, line)


def _result(guard: Guard, now: datetime, verdict: Verdict, reading: Reading, message: str) -> GuardResult:
    line = clean(message, LONGEST_MESSAGE)
    return GuardResult(guard.name, verdict, now, reading.value, threshold(guard), reading.samples, line)
