"""How much counters grew in a window, in PromQL: to the unit, over restarts, and cheap however long the window is.

``increase()`` extrapolates to the edges of the window, and less so where a counter was near zero: it changes the shares
of bins. So growth here is the last sample of a series in the window less the last one before it, and all of it where
the series was born in the window (or, without a label of its own for each process, began anew from 0).
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

_STEP = timedelta(minutes=5)
_BACK = 3
"""How often Prometheus' look-back of 5 minutes is tried for the last sample before the window."""

_MACRO = re.compile(r"\b(growth|last|before)\(([a-zA-Z_:][a-zA-Z0-9_:]*(?:\{[^{}]*\})?)\)")

MEANINGS = {
    "growth": "growth(x) is (last(x) - before(x) >= 0 or last(x))",
    "last": f"last(x) is the last sample of x in $window (over {format_duration(EXACT)}: at one of {POINTS} points)",
    "before": f"before(x) is the last sample of x before $window, at most {format_duration(_STEP * _BACK)} older",
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
    return _first(selector, [window * number // POINTS for number in range(POINTS)])


def _before(selector: str, window: timedelta) -> str:
    return _first(selector, [window + number * _STEP for number in range(_BACK)])


def _first(selector: str, offsets: list[timedelta]) -> str:
    """Each series at the first of these times at which it is there."""
    parts = (f"{selector} offset {format_duration(offset)}" if offset else selector for offset in offsets)
    return f"({' or '.join(parts)})"
