"""What to ask of Prometheus for an SLI that it computes, and what the answers say at each evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from modelrollout.api.base import clean
from modelrollout.api.durations import format_duration
from modelrollout.api.guard import Guard
from modelrollout.api.rolloutpolicy import Direction
from modelrollout.evidence.context import Context
from modelrollout.evidence.measure import Reading
from modelrollout.evidence.queried import CatalogError, QueryIndicator, Scope
from modelrollout.evidence.question import Query, evaluation_times
from modelrollout.evidence.slis import find
from modelrollout.ports import Answer

LONGEST_SUBJECT = 64


def query_indicator(guard: Guard, context: Context) -> QueryIndicator:
    """The entry of the guard's SLI, which must be one that Prometheus computes; raises CatalogError."""
    entry = find(guard.sli or "", context)
    if not isinstance(entry, QueryIndicator):
        raise CatalogError(f"{guard.sli} is made of counters, not of a query")
    return entry


def questions(guard: Guard, context: Context, now: datetime) -> tuple[Query, ...]:
    """The questions for one evaluation of ``guard`` at ``now``; raises QueryError and CatalogError.

    ``value`` and, where the SLI knows it, ``samples`` are asked for each evaluation that counts: those whose window is
    whole by one range query, the others (of an arm that had no traffic for so long) by one instant query each, with
    the time's number in the name.
    """
    entry = query_indicator(guard, context)
    found = []
    for window, times in _windows(guard, entry, context, now).items():
        for name, text in _texts(entry):
            sent = entry.compiled(text, context, window, guard.where)
            if len(times) > 1:
                found.append(Query(_name(name, times), sent, times[0][1], times[-1][1], context.interval))
            else:
                found.append(Query(_name(name, times), sent, times[0][1]))
    return tuple(found)


def readings(guard: Guard, context: Context, answers: Mapping[str, Answer], now: datetime) -> list[Reading] | str:
    """One reading an evaluation, newest first, from the answers to ``questions`` by name.

    Of several subjects the worst one that has enough samples counts. A sentence instead of readings says why the SLI
    can never be judged. Raises CatalogError.
    """
    entry = query_indicator(guard, context)
    found: dict[int, Reading] = {}
    for times in _windows(guard, entry, context, now).values():
        value, samples = (answers.get(_name(name, times)) for name in ("value", "samples"))
        if value is None or (samples is None and entry.samples is not None):
            found.update((place, Reading(None, None, "the query was not asked")) for place, _ in times)
            continue
        for answer in (value, samples):
            if answer is not None and answer.kind not in ("matrix", "vector", "scalar"):
                return f"the query of {guard.sli} answers a {clean(answer.kind, 20)}, not a number"
        for place, at in times:
            near = context.interval.total_seconds() / 2
            values = _at(value, entry, at, near)
            counts = None if samples is None else _at(samples, entry, at, near)
            # Our own count by slice, of which a value takes as many as its ``where`` chose.
            own = any(definition.name == guard.sli for definition in context.definitions)
            for query, answered in (("query", values), ("samples query", (counts or {}) if own else {})):
                if entry.subject is None and len(answered) > 1:
                    return (
                        f"the {query} of {guard.sli} answers {len(answered)} series at once; aggregate them into one, "
                        "with max() or sum()"
                    )
            found[place] = _reading(guard, entry, values, counts)
    return [found[place] for place in sorted(found)]


def worst(guard: Guard, direction: Direction, values: Mapping[str, float]) -> str:
    """Which of ``values`` (not empty, finite) speaks most against the candidate."""
    if guard.min is not None and guard.max is not None:
        low, high = guard.min, guard.max
        return max(values, key=lambda name: (max(low - values[name], values[name] - high), name))
    sign = -1.0 if guard.min is not None or (guard.max is None and direction is Direction.LOWER_IS_WORSE) else 1.0
    return max(values, key=lambda name: (sign * values[name], name))


def window_at(guard: Guard, entry: QueryIndicator, context: Context, at: datetime) -> timedelta:
    """How far back the evaluation at ``at`` looks.

    An arm is not judged by what it did before its traffic began (in an earlier attempt, say), inputs are. Between
    rollouts ``since`` is when the last drift ended.
    """
    if entry.scope is Scope.INPUTS and not context.watch:
        return guard.window
    began = context.spans[0].since if context.spans else context.since
    return guard.window if at - began >= guard.window else min(guard.window, rounded(at - began))


def rounded(span: timedelta) -> timedelta:
    """A little less than ``span`` (an eighth at most), so that a window that grows is rarely another query.

    A query of a new window is parsed, checked and printed anew, which takes some milliseconds.
    """
    seconds = max(int(span.total_seconds()), 1)
    step = max((1 << (seconds.bit_length() - 1)) // 8, 1)
    return timedelta(seconds=seconds // step * step)


_Times = tuple[tuple[int, datetime], ...]
"""Evaluations by their number (0 is the newest) with their time, newest first."""


def _windows(guard: Guard, entry: QueryIndicator, context: Context, now: datetime) -> dict[timedelta, _Times]:
    """The evaluations that count by the length of their window."""
    found: dict[timedelta, _Times] = {}
    for place, at in enumerate(evaluation_times(guard, context, now)):
        window = window_at(guard, entry, context, at)
        found[window] = (*found.get(window, ()), (place, at))
    return found


def _texts(entry: QueryIndicator) -> tuple[tuple[str, str], ...]:
    own = (("value", entry.query),)
    return own if entry.samples is None else (*own, ("samples", entry.samples))


def _name(name: str, times: _Times) -> str:
    """``value``, and for older evaluations than the newest ``value 3``."""
    return name if times[0][0] == 0 else f"{name} {times[0][0]}"


def _at(answer: Answer, entry: QueryIndicator, at: datetime, near: float) -> dict[str, float]:
    """The numbers of ``answer`` at a time by their subject; without one by a running number."""
    found: dict[str, float] = {}
    for series in answer.series:
        for when, value in series.samples:
            if abs(when - at.timestamp()) < near or answer.kind != "matrix":
                label = series.labels.get(entry.subject, "") if entry.subject is not None else str(len(found))
                found[label] = value
    return found


def _reading(
    guard: Guard, entry: QueryIndicator, values: Mapping[str, float], counts: Mapping[str, float] | None
) -> Reading:
    parts = {name: value for name, value in values.items() if name} if entry.whole else {}
    values = {name: value for name, value in values.items() if name not in parts}
    if not values:
        return Reading(None, _total(counts), _nothing(guard, entry))
    finite = {name: value for name, value in values.items() if math.isfinite(value)}
    if not finite:
        return Reading(None, _total(counts), "the query answers no finite number")
    enough = {name: value for name, value in finite.items() if _count(entry, counts, name) >= guard.min_samples}
    if not enough:
        most = max((_count(entry, counts, name) for name in finite), default=0.0)
        return Reading(None, most, f"{most:.0f} of at least {guard.min_samples} requests in the window")
    name = worst(guard, entry.direction, enough)
    samples = None if counts is None else _count(entry, counts, name)
    subject = _worst_part(guard, entry, parts) if entry.whole else _subject(guard, entry, name)
    return Reading(enough[name], samples, subject=subject)


def _worst_part(guard: Guard, entry: QueryIndicator, parts: Mapping[str, float]) -> str:
    """Which part of the value speaks most against the candidate, and its own; empty where none says anything."""
    told = {name: value for name, value in parts.items() if math.isfinite(value) and value}
    if not told:
        return ""
    name = worst(guard, entry.direction, told)
    return f"worst {_subject(guard, entry, name)}: {told[name]:.6g}"


def _count(entry: QueryIndicator, counts: Mapping[str, float] | None, name: str) -> float:
    """How many requests the value of subject ``name`` is made of; without any knowledge no number is enough."""
    if counts is None:
        return 0.0
    count = counts.get(name, 0.0) if entry.subject is not None else _total(counts)
    return count if count is not None and math.isfinite(count) else 0.0


def _total(counts: Mapping[str, float] | None) -> float | None:
    return None if counts is None else math.fsum(value for value in counts.values() if math.isfinite(value))


def _subject(guard: Guard, entry: QueryIndicator, name: str) -> str:
    """What the value is about: what ``where`` chose (a slice), and the worst of the rest."""
    chosen = {key: value for key, value in sorted(guard.where.items()) if key != entry.subject_name}
    known = {**chosen, entry.subject_name: name} if entry.subject is not None else chosen
    return ", ".join(f"{key} {clean(value, LONGEST_SUBJECT)}" for key, value in known.items())


def _nothing(guard: Guard, entry: QueryIndicator) -> str:
    chosen: Sequence[str] = [f"{name} {clean(value, LONGEST_SUBJECT)}" for name, value in sorted(guard.where.items())]
    about = f" of {' and '.join(chosen)}" if chosen else ""
    made = "counted" if entry.samples is not None else "found"
    return f"nothing{about} was {made} in the last {format_duration(guard.window)}"
