"""Durations as people write them in Kubernetes (90s, 5m, 1h30m, 500ms), to and from ``timedelta``."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from modelrollout.api.rules import Rule

PATTERN = "^([0-9]{1,5}(h|m|s|ms)){1,4}$"
FORM_SENTENCE = "must be a duration of whole numbers with units h, m, s or ms, like 90s, 5m, 1h30m or 500ms"

_WHOLE = re.compile(PATTERN)
_PART = re.compile("([0-9]{1,5})(ms|h|m|s)")
_MILLISECONDS = {"h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}


def parse_duration(text: str) -> timedelta:
    """Read ``1h30m``; raises ValueError with a sentence for anything else (signs, fractions, spaces)."""
    if not _WHOLE.fullmatch(text):
        raise ValueError(FORM_SENTENCE)
    total = sum(int(number) * _MILLISECONDS[unit] for number, unit in _PART.findall(text))
    return timedelta(milliseconds=total)


def format_duration(value: timedelta) -> str:
    """Write the shortest form (``1h30m``); parts of a millisecond are dropped, nothing at all is ``0s``."""
    rest = value // timedelta(milliseconds=1)
    if rest < 0:
        raise ValueError(f"a duration is not negative: {value}")
    parts = []
    for unit, size in _MILLISECONDS.items():
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def _read(value: Any) -> timedelta:
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str):
        # not TypeError: pydantic turns only ValueError into a validation error
        raise ValueError(FORM_SENTENCE)
    return parse_duration(value)


_FORM = {"rule": f"self.matches('{PATTERN}')", "message": FORM_SENTENCE}

Duration = Annotated[
    timedelta,
    BeforeValidator(_read),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "minLength": 2, "maxLength": 32, "x-kubernetes-validations": [_FORM]}),
]
"""A ``timedelta`` in Python, a string like ``1h30m`` in YAML."""


def between(shortest: str, longest: str) -> Rule:
    """The rule that a duration is not shorter or longer than these (inclusive)."""
    low, high = parse_duration(shortest), parse_duration(longest)
    # The form has its own rule; without the first clause a malformed text would be an evaluation error too.
    cel = (
        f"!self.matches('{PATTERN}') || "
        f"(duration(self) >= duration('{shortest}') && duration(self) <= duration('{longest}'))"
    )
    return Rule(cel, f"must be at least {shortest} and at most {longest}", lambda value: low <= value <= high)
