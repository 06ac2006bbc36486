"""How much counters grew in a window, in PromQL: to the unit, over restarts, and cheap however long the window is.

``increase()`` extrapolates to the edges of the window, and less so where a counter was near zero: it changes the shares
of bins. So growth here is the last sample of a series in the window less what it had when that began. What a Prometheus
that is new, or lost its data, cannot date is not counted: growth is a lower bound then.
"""

from __future__ import annotations

import re
from datetime import timedelta

from modelrollout.api.durations import format_duration

EXACT = timedelta(hours=6)
"""Up to this window every sample is looked through for the last one of a series that has ended."""

POINTS = 8
"""Over a longer window the last sample is looked for at so many points only: of a process that ended, what it counted
after the last of them (an eighth of the window at most) is left out, of all its bins alike."""

_FIRST = (56, 48, 40, 32, 24, 16, 8, 2, 0)
"""In parts of 64 of a longer window, how old a series is looked for that was not there when the window began: nearer to
its end they are closer, since most is lost of what is known for a short time only. The last one is looked for at none
but these: what were found there and not here would count whole, however old."""

_OBSERVER = "modelrollout_observer_"
STARTED = f"{_OBSERVER}started_timestamp_seconds"
"""When the counters with a label ``process`` began from 0, by that label."""

_STEP = timedelta(minutes=5)
"""How far back Prometheus looks for the sample of a time."""

_MACRO = re.compile(r"\b(growth|last|before)\(([a-zA-Z_:][a-zA-Z0-9_:]*(?:\{[^{}]*\})?)\)")
_OWNER = re.compile(r'[{,]\s*(modeldeployment="[^"]*")')

MEANINGS = {
    "growth": "growth(x) is (last(x) - before(x) >= 0 or last(x))",
    "last": f"last(x) is the last sample of x in $window (over {format_duration(EXACT)}: at one of {POINTS} points)",
    "before": (
        f"before(x) is the sample of x when $window began, at most {format_duration(_STEP)} older; without one it is "
        "nothing where the counter began from 0 in $window, else the first sample in it"
    ),
}
"""In words, for people."""


def expanded(text: str, window: timedelta) -> str:
    """``text`` with PromQL in place of growth(x), last(x) and before(x), where x is one selector."""

    def replace(match: re.Match[str]) -> str:
        selector = match[2]
        if match[1] == "last":
            return _last(selector, window)
        if match[1] == "before":
            return _before(selector, window)
        last = _last(selector, window)
        return f"({last} - {_before(selector, window)} >= 0 or {last})"

    return _MACRO.sub(replace, text)


def _last(selector: str, window: timedelta) -> str:
    if window <= EXACT:
        return f"last_over_time({selector}[$window])"
    return _at_first_of(selector, [window * number // POINTS for number in range(POINTS)])


def _before(selector: str, window: timedelta) -> str:
    """What a counter had when the window began; nothing for one that counts from 0 since.

    A series without a sample then (and there may be one gone by for a scrape that failed) was born in the window only
    if its process was scraped then, or began later. Else what it had may be of any age.
    """
    first, began = _first(selector, window), _offset(selector, window)
    if not selector.startswith(_OBSERVER):
        # Such a counter begins anew under the same labels: from 0, if it was lower later on than it began with.
        scraped = f"{_offset('up', window)} == 1"
        return f"({began} <= {first} or ({first} unless {began} unless on (job, instance) ({scraped})))"
    owner = _OWNER.search(selector)
    started = f"{STARTED}{{{owner[1]}}}" if owner else STARTED
    young = f"{_whenever(started, window)} > time() - {window.total_seconds():.10g}"
    return f"({began} or ({first} unless on (process) ({_offset(started, window)} or {young})))"


def _first(selector: str, window: timedelta) -> str:
    """The first sample in the window, where the series had none before: counters only grow."""
    if window <= EXACT:
        return f"min_over_time({selector}[$window])"
    return _at_first_of(selector, [window - _STEP, *(window * part // 64 for part in _FIRST)])


def _whenever(gauge: str, window: timedelta) -> str:
    """A gauge that never changes, of all that had it in the window. They are few: a long one is looked at closely."""
    if window <= EXACT:
        return f"last_over_time({gauge}[$window])"
    return f"({gauge} or last_over_time({gauge}[$window:{format_duration(window // 64)}]))"


def _at_first_of(selector: str, offsets: list[timedelta]) -> str:
    """Each series at the first of these times at which it is there."""
    return f"({' or '.join(_offset(selector, offset) for offset in offsets)})"


def _offset(selector: str, offset: timedelta) -> str:
    return f"{selector} offset {format_duration(offset)}" if offset else selector
