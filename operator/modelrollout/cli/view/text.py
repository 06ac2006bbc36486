"""Lines of coloured words: aligned columns, wrapped sentences, times as people say them."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

GAP = 2
NARROWEST = 30
"""A column of sentences is never wrapped to less than this, however narrow the terminal."""


class Tone(StrEnum):
    """What a word means; the colour follows from it."""

    PLAIN = ""
    STRONG = "1"
    FAINT = "2"
    GOOD = "32"
    WARNING = "33"
    BAD = "31"
    BUSY = "36"


@dataclass(frozen=True)
class Span:
    """Some text in one tone."""

    text: str
    tone: Tone = Tone.PLAIN


Cell = str | Span
Line = tuple[Span, ...]

_PLAINER = {
    "├─": "|-",
    "└─": "`-",
    "│": "|",
    "✔": "+",
    "✖": "x",
    "▶": ">",
    "○": "o",
    "●": "*",
    "⏸": "=",
    "…": "...",
    "→": "->",
    "≤": "<=",
    "≥": ">=",
}


def span(cell: Cell) -> Span:
    """A cell as a span."""
    return cell if isinstance(cell, Span) else Span(cell)


def line(*cells: Cell) -> Line:
    """A line of these, one behind the other."""
    return tuple(span(cell) for cell in cells)


@dataclass(frozen=True)
class Row:
    """Cells for columns, and a ``tail`` behind them that may be long.

    ``lead`` is drawn before the first cell, and ``under`` before each further line of a wrapped tail.
    """

    cells: tuple[Cell, ...]
    tail: Cell = ""
    lead: str = ""
    under: str = ""


def table(rows: Sequence[Row], width: int | None = None, right: Collection[int] = ()) -> list[Line]:
    """The rows as lines with aligned columns; ``right`` are the columns of numbers. ``width`` None wraps nothing."""
    if not rows:
        return []
    count = max(len(row.cells) for row in rows)
    widths = [max((_length(row, column) for row in rows), default=0) for column in range(count)]
    lines: list[Line] = []
    for row in rows:
        spans: list[Span] = []
        for column in range(count):
            cell = span(row.cells[column]) if column < len(row.cells) else Span("")
            lead = row.lead if column == 0 else ""
            if not widths[column]:
                continue
            room = " " * (widths[column] - len(lead) - len(cell.text))
            before, after = (room, "") if column in right else ("", room)
            spans += [Span(lead + before), cell, Span(after + " " * GAP)]
        lines += _with_tail(tuple(part for part in spans if part.text), row, width)
    return [_trimmed(found) for found in lines]


def _length(row: Row, column: int) -> int:
    text = len(span(row.cells[column]).text) if column < len(row.cells) else 0
    return text + (len(row.lead) if column == 0 and text else 0)


def _with_tail(head: Line, row: Row, width: int | None) -> list[Line]:
    tail = span(row.tail)
    if not tail.text:
        return [head]
    indent = sum(len(part.text) for part in head)
    first, *more = _wrapped(tail.text, None if width is None else max(width - indent, NARROWEST))
    under = row.under + " " * max(indent - len(row.under), 0)
    return [(*head, Span(first, tail.tone)), *((Span(under), Span(text, tail.tone)) for text in more)]


def paragraph(text: str, width: int | None = None, indent: str = "", tone: Tone = Tone.PLAIN) -> list[Line]:
    """A sentence or more, wrapped."""
    room = None if width is None else max(width - len(indent), NARROWEST)
    return [(Span(indent), Span(part, tone)) if indent else (Span(part, tone),) for part in _wrapped(text, room)]


def _wrapped(text: str, width: int | None) -> list[str]:
    if width is None:
        return [text]
    return textwrap.wrap(text, width, break_long_words=True, break_on_hyphens=False) or [""]


def _trimmed(found: Line) -> Line:
    spans = list(found)
    while spans and not spans[-1].text.rstrip():
        spans.pop()
    if spans:
        spans[-1] = Span(spans[-1].text.rstrip(), spans[-1].tone)
    return tuple(spans)


def render(lines: Iterable[Line], *, color: bool = False, plain: bool = False) -> str:
    """The lines as text; ``plain`` for terminals that know ASCII only."""
    return "\n".join("".join(_drawn(part, color=color, plain=plain) for part in found) for found in lines)


def _drawn(part: Span, *, color: bool, plain: bool) -> str:
    text = part.text
    if plain:
        for fine, simple in _PLAINER.items():
            text = text.replace(fine, simple)
        text = text.encode("ascii", "replace").decode("ascii")
    return f"\x1b[{part.tone}m{text}\x1b[0m" if color and part.tone and text.strip() else text


def clipped(found: Line, width: int) -> Line:
    """The line cut to ``width`` characters."""
    spans: list[Span] = []
    for part in found:
        if len(part.text) > width:
            spans.append(Span(part.text[: max(width - 1, 0)] + "…", part.tone))
            break
        spans.append(part)
        width -= len(part.text)
    return tuple(spans)


def spoken(duration: timedelta) -> str:
    """A span of time in its two greatest units, like ``2m10s`` or ``3d4h``; under a second it is ``0s``."""
    rest = max(int(duration.total_seconds()), 0)
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count or parts:
            parts.append(f"{count}{unit}" if count else "")
        if len(parts) == 2:
            break
    return "".join(parts) or "0s"


def ago(moment: datetime | None, now: datetime) -> str:
    """Like ``12s ago``; a dash where there is no time."""
    return "-" if moment is None else f"{spoken(now - moment)} ago"


def clock(moment: datetime | None, now: datetime) -> str:
    """The time of day in UTC, with the date when it is another day."""
    if moment is None:
        return "-"
    utc = moment.astimezone(UTC)
    same = utc.date() == now.astimezone(UTC).date()
    return utc.strftime("%H:%M:%S" if same else "%Y-%m-%d %H:%M:%S")


def stamp(moment: datetime | None) -> str:
    """Date and time in UTC; a dash where there is none."""
    return "-" if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def amount(value: float | None, digits: int = 4) -> str:
    """A number as short as it may be; a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}g}" if abs(value) < 10**digits else f"{value:.0f}"


def percent(value: float) -> str:
    """Like ``25 %``."""
    return f"{value:g} %"
