"""The two arms of an A/B test since it began: what to ask for, and what the answers say of each."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from modelrollout.api.guard import Sli
from modelrollout.evidence.context import Context
from modelrollout.evidence.measure import Reading, Window, read_window
from modelrollout.evidence.queries import Query, counter_selectors
from modelrollout.evidence.slis import catalog
from modelrollout.ports import Answer
from modelrollout.rollout.observed import Arm

POINTS = 500
"""Into how many parts the time of a test is cut: raw samples of a day would be more than an answer may have."""

SHORTEST_STEP = timedelta(seconds=1)

MEASURED = (Sli.ERROR_RATIO, Sli.LATENCY_P50, Sli.LATENCY_P99)


def arm_queries(context: Context, now: datetime) -> tuple[Query, ...]:
    """The questions about both arms at ``now``; raises CatalogError.

    Counters are asked for at points that are ``step_at`` apart, from less than a second before the test began. The
    first point lies a step before that one.
    """
    step = step_at(context, now)
    parts = -(-max(now - context.since, timedelta(0)) // step)
    start = now - (parts + 1) * step
    return tuple(
        Query(_name(arm, sli, protocol), selector, now, start, step)
        for arm in (context.other, context)
        for sli in _measured(context)
        for protocol, selector in counter_selectors(catalog(context.profile).indicator(sli, arm), arm).items()
    )


def step_at(context: Context, now: datetime) -> timedelta:
    """How far apart the points are: the time of the test in at most POINTS parts, in whole milliseconds."""
    millisecond = timedelta(milliseconds=1)
    return max(SHORTEST_STEP, -((context.since - now) // (POINTS * millisecond)) * millisecond)


def read_arms(context: Context, answers: Mapping[str, Answer], now: datetime) -> tuple[Arm, Arm]:
    """The stable arm and the candidate's, from the answers to ``arm_queries`` by name."""
    window = Window(min(context.since, now).timestamp(), now.timestamp())
    return _arm(context.other, answers, window), _arm(context, answers, window)


def _arm(arm: Context, answers: Mapping[str, Answer], window: Window) -> Arm:
    nothing = Reading(None)
    readings = dict.fromkeys(MEASURED, nothing) | {sli: _read(arm, sli, answers, window) for sli in _measured(arm)}
    errors = readings[Sli.ERROR_RATIO]
    return Arm(
        arm.revision,
        requests=errors.samples,
        error_ratio=errors.value,
        latency_p50=readings[Sli.LATENCY_P50].value,
        latency_p99=readings[Sli.LATENCY_P99].value,
    )


def _read(arm: Context, sli: Sli, answers: Mapping[str, Answer], window: Window) -> Reading:
    known = catalog(arm.profile)
    given = [(protocol, answers[_name(arm, sli, protocol)].series) for protocol in arm.protocols]
    return read_window(known.indicator(sli, arm), given, known, window)


def _measured(context: Context) -> tuple[Sli, ...]:
    """Those of MEASURED that the gateway counts."""
    return tuple(sli for sli in MEASURED if sli not in catalog(context.profile).absent)


def _name(arm: Context, sli: Sli, protocol: str) -> str:
    return f"{arm.slot} {sli} {protocol}"
