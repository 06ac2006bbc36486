"""``slis`` as lines: a table of all, and everything about one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from modelrollout.cli.view.text import Line, Row, Span, Tone, line, paragraph, table
from modelrollout.evidence.growth import MEANINGS
from modelrollout.evidence.listing import Described

_HEADS = ("NAME", "UNIT", "WORSE", "ABOUT")


def overview(found: Sequence[Described], width: int | None) -> list[Line]:
    """All of them, by catalog."""
    lines: list[Line] = []
    for origin, members in groupby(found, key=lambda one: one.origin):
        rows = [Row(tuple(Span(word, Tone.FAINT) for word in _HEADS), Span("DESCRIPTION", Tone.FAINT))]
        for one in members:
            if one.absent:
                rows.append(Row((one.name, "-", "-", "-"), Span(f"not there: {one.absent}", Tone.FAINT)))
            else:
                rows.append(Row((one.name, one.unit, one.worse, _about(one)), one.description))
        lines += [line(Span(origin, Tone.STRONG)), *table(rows, width), line("")]
    return lines[:-1]


def detail(one: Described, width: int | None) -> list[Line]:
    """Everything about one."""
    lines = [line(Span(one.name, Tone.STRONG), f"  of {one.origin}")]
    if one.absent:
        return [*lines, *paragraph(f"not there: {one.absent}", width)]
    lines += paragraph(one.description, width)
    facts = {
        "unit": one.unit,
        "worse": one.worse,
        "kind": one.kind,
        "about": _about(one),
        "formula": one.formula,
        "where": ", ".join(one.where),
        "requires": ", ".join(one.requires),
    }
    lines += table([Row((Span(key, Tone.FAINT),), value) for key, value in facts.items() if value], width)
    lines += _list("Must exist before any request", one.needs, width)
    for name, query in one.queries.items():
        lines += _list(f"Query: {name}", [query], width)
        for role, labels in one.series.get(name, {}).items():
            words = ", ".join(f'{label}=~"{pattern}"' for label, pattern in labels.items())
            lines += paragraph(f"{role}: {words}", width, "    ", Tone.FAINT)
        for source, names in one.clusters.get(name, {}).items():
            lines += paragraph(f"$cluster for {source}: {' or '.join(names)}", width, "    ", Tone.FAINT)
        for source, why in one.blind.get(name, {}).items():
            lines += paragraph(f"not for {source}: {why}", width, "    ", Tone.WARNING)
    used = [meaning for name, meaning in MEANINGS.items() if any(f"{name}(" in query for query in one.queries.values())]
    if used:
        if used[0].startswith("growth"):
            used = list(MEANINGS.values())
        lines += [line(""), *(found for meaning in used for found in paragraph(meaning, width, "  ", Tone.FAINT))]
    return lines


def _about(one: Described) -> str:
    if one.subject:
        return f"{one.scope}, worst {one.subject}"
    return one.scope


def _list(title: str, texts: Sequence[str], width: int | None) -> list[Line]:
    if not texts:
        return []
    lines = [line(""), line(Span(title, Tone.STRONG))]
    for text in texts:
        lines += paragraph(text, width, "  ")
    return lines
