"""``plan``: what applying a file would do, as lines and as a document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from modelrollout.api.durations import format_duration
from modelrollout.cli.view import marks
from modelrollout.cli.view.capacity import Room, spoken_amounts
from modelrollout.cli.view.origins import origin_words
from modelrollout.cli.view.proposal import Effect, Planned, Proposal
from modelrollout.cli.view.text import Line, Row, Span, Tone, amount, line, paragraph, spoken, table
from modelrollout.cli.view.tree import UNITS
from modelrollout.evidence.policies import Origin
from modelrollout.evidence.resolve import Resolved
from modelrollout.rollout.observed import GuardResult

EFFECT_TONES = {
    Effect.ROLLOUT: Tone.BUSY,
    Effect.FAST_TRACK: Tone.BUSY,
    Effect.FIRST: Tone.BUSY,
    Effect.GOES_ON: Tone.BUSY,
    Effect.QUARANTINED: Tone.BAD,
    Effect.BACK: Tone.WARNING,
    Effect.WAITS: Tone.WARNING,
    Effect.NONE: Tone.GOOD,
}

LONGEST_QUERY = 500
"""Characters of a query that people are shown: growth() of a policy's SLI makes thousands."""


@dataclass(frozen=True)
class Checked:
    """One guard with its queries as they would be sent, today's answer where it was asked, and whose it is."""

    resolved: Resolved
    result: GuardResult | None
    origin: Origin | None = None


@dataclass(frozen=True)
class Outlook:
    """All that is told of one ModelDeployment of the file. The ``..._note`` say what could not be found out."""

    namespace: str
    name: str
    pool: str
    proposal: Proposal
    problems: tuple[str, ...] = ()
    room: Room | None = None
    room_note: str = ""
    guards: tuple[Checked, ...] = ()
    guards_note: str = ""
    cautions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def plan_lines(outlook: Outlook, width: int | None = None) -> list[Line]:
    """For people; ``width`` None wraps nothing."""
    proposal = outlook.proposal
    lines = [
        line(
            "ModelDeployment ",
            Span(f"{outlook.namespace}/{outlook.name}", Tone.STRONG),
            "  ",
            Span(str(proposal.effect), EFFECT_TONES[proposal.effect]),
        )
    ]
    for sentence in proposal.sentences:
        lines += paragraph(sentence, width)
    lines += table([Row((Span("✖", Tone.BAD),), problem) for problem in outlook.problems], width)
    lines += table([Row((Span("?", Tone.WARNING),), note) for note in outlook.notes], width)
    for title, part in (
        ("Changes", _changes(proposal, width)),
        ("Steps of later changes" if proposal.effect is Effect.FIRST else "Steps", _steps(proposal, width)),
        ("Room", _room(outlook, width)),
        ("Guards", _guards(outlook, width)),
    ):
        if part:
            lines += [line(""), line(Span(title, Tone.STRONG)), *((Span("  "), *found) for found in part)]
    return lines


def _changes(proposal: Proposal, width: int | None) -> list[Line]:
    rows = [Row((path, Span(old or "-", Tone.FAINT), "→"), new or "-") for path, old, new in proposal.changes]
    return table(rows, None if width is None else width - 2)


def _steps(proposal: Proposal, width: int | None) -> list[Line]:
    if not proposal.way:
        return []
    rows = [Row(tuple(Span(word, Tone.FAINT) for word in ("#", "STOP", "HOLD", "BEGINS")))]
    for number, planned in enumerate(proposal.way, start=1):
        hold = "a person" if planned.stop.approval else format_duration(planned.stop.hold) if planned.stop.hold else "-"
        rows.append(Row((str(number), planned.stop.label, hold, f"+{spoken(planned.begins)}"), _waits(planned)))
    people = sum(planned.stop.approval for planned in proposal.way)
    waits = f", besides waiting for a person {'once' if people == 1 else f'{people} times'}" if people else ""
    last = f"at least {spoken(proposal.takes)} from the first step to the end{waits}"
    return [*table(rows, right=(0, 3)), *paragraph(last, None if width is None else width - 2)]


def _waits(planned: Planned) -> str:
    """Why the stop takes longer than its hold; empty where it does not."""
    guard = planned.waits_for
    if guard is None:
        return ""
    late = guard.label_delay > guard.warm_up
    why = f"labelDelay {format_duration(guard.label_delay)}" if late else f"warmUp {format_duration(guard.warm_up)}"
    return f"held until +{spoken(planned.ends)}: guard {guard.name} can say nothing before ({why})"


def _room(outlook: Outlook, width: int | None) -> list[Line]:
    extra = outlook.proposal.extra
    if not extra and outlook.room is None:
        return paragraph("no more pods than there are now", width)
    pods = f"{extra} more pod{'' if extra == 1 else 's'} at the peak"
    if outlook.room is None:
        return [*paragraph(pods, width), *table([Row((Span("?", Tone.WARNING),), outlook.room_note)], width)]
    room = outlook.room
    asked = spoken_amounts(room.each)
    lines = paragraph(f"{pods}, each asks for {asked or 'nothing'} on pool {outlook.pool}", width)
    rows = [Row(tuple(Span(word, Tone.FAINT) for word in ("NODE", "FREE", "FITS")))]
    rows += [Row((node.node, spoken_amounts(node.free) or "-", str(node.fits))) for node in room.nodes]
    lines += table(rows, right=(2,)) if room.nodes else []
    if not room.nodes:
        lines.append(line(Span("✖ no node of the pool takes them: labels, taints and readiness decide", Tone.BAD)))
    elif room.enough:
        lines.append(line(Span(f"✔ enough room: {room.fits} would fit", Tone.GOOD)))
    else:
        short = f"✖ not enough room: {room.fits} of {extra} fit; the others wait until nodes come or pods go"
        lines.append(line(Span(short, Tone.BAD)))
    return [*lines, *table([Row((Span("?", Tone.WARNING),), outlook.room_note)] if outlook.room_note else [], width)]


def _guards(outlook: Outlook, width: int | None) -> list[Line]:
    lines = paragraph(outlook.guards_note, None if width is None else width - 2) if outlook.guards_note else []
    for checked in outlook.guards:
        lines += _guard(checked, width)
    room = None if width is None else width - 2
    return [*lines, *table([Row((Span("!", Tone.WARNING),), caution) for caution in outlook.cautions], room)]


def _guard(checked: Checked, width: int | None) -> list[Line]:
    guard, result = checked.resolved.guard, checked.result
    if checked.resolved.problem is not None:
        return table([Row((Span("✖", Tone.BAD), guard.name), checked.resolved.problem)], width)
    subject = f"{guard.sli} over {format_duration(guard.window)}" if guard.sli is not None else "query"
    bound = result.threshold if result is not None else ""
    if result is None:
        head = Row((Span("○", Tone.FAINT), guard.name, subject), Span("not asked", Tone.FAINT))
    else:
        mark = marks.verdict_mark(result.verdict)
        value = f"{amount(result.value)}{UNITS.get(str(guard.sli), '')}" if result.value is not None else "-"
        samples = f"{amount(result.samples, 9)} requests" if result.samples is not None else ""
        why = result.invalid or (result.message if result.value is None else "")
        cells = (mark, guard.name, subject, Span(value, mark.tone), bound, samples, marks.verdict(result.verdict))
        head = Row(cells, why)
    lines = table([head], width)
    where = "" if checked.origin is None else origin_words(checked.origin)
    lines += paragraph(where, width, "      ") if where else []
    for name, query in checked.resolved.queries.items():
        label = "" if name == "query" else f"{name}: "
        told = query if len(query) <= LONGEST_QUERY else f"{query[:LONGEST_QUERY]} ... (all of it with -o json)"
        lines += paragraph(f"{label}{told}", width, "      ", Tone.FAINT)
    return lines


def plan_document(outlook: Outlook) -> dict[str, Any]:
    """``plan -o json``."""
    proposal, room = outlook.proposal, outlook.room
    return {
        "namespace": outlook.namespace,
        "name": outlook.name,
        "revision": proposal.revision,
        "effect": str(proposal.effect),
        "message": " ".join(proposal.sentences),
        "problems": list(outlook.problems),
        "notes": list(outlook.notes),
        "changes": [{"path": path, "old": old, "new": new} for path, old, new in proposal.changes],
        "steps": [
            {
                "label": planned.stop.label,
                "holdSeconds": planned.stop.hold.total_seconds(),
                "approval": planned.stop.approval,
                "beginsAfterSeconds": planned.begins.total_seconds(),
                "endsAfterSeconds": planned.ends.total_seconds(),
                "waitsForGuard": None if planned.waits_for is None else planned.waits_for.name,
            }
            for planned in proposal.way
        ],
        "secondsAtLeast": proposal.takes.total_seconds(),
        "room": {
            "pods": proposal.extra,
            "each": None if room is None else {name: str(value) for name, value in room.each.items()},
            "nodes": None
            if room is None
            else [
                {"name": node.node, "free": {kind: str(value) for kind, value in node.free.items()}, "fits": node.fits}
                for node in room.nodes
            ],
            "enough": None if room is None else room.enough,
            "note": outlook.room_note or None,
        },
        "guards": [_guard_document(checked) for checked in outlook.guards],
        "cautions": list(outlook.cautions),
        "guardsNote": outlook.guards_note or None,
    }


def _guard_document(checked: Checked) -> dict[str, Any]:
    result, origin = checked.result, checked.origin
    return {
        "name": checked.resolved.guard.name,
        "source": None if origin is None else origin.source,
        "selected": origin is not None and origin.selected,
        "insteadOf": [] if origin is None else list(origin.instead_of),
        "sliSource": None if origin is None else origin.definer or None,
        "guard": checked.resolved.guard.model_dump(mode="json", by_alias=True, exclude_defaults=True),
        "queries": checked.resolved.queries,
        "problem": checked.resolved.problem,
        "verdict": None if result is None else str(result.verdict),
        "value": None if result is None else result.value,
        "threshold": None if result is None else result.threshold,
        "samples": None if result is None else result.samples,
        "message": None if result is None else result.message,
    }
