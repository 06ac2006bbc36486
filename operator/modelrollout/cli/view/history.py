"""``history``: what was tried and how it ended, the revisions that are kept, the last commands."""

from __future__ import annotations

from modelrollout.api.status import CommandRecord, HistoryEntry
from modelrollout.cli.view import marks
from modelrollout.cli.view.snapshot import CANDIDATE, LAST_GOOD, QUARANTINED, STABLE, Revision, Snapshot
from modelrollout.cli.view.text import Cell, Line, Row, Span, Tone, ago, line, spoken, stamp, table

COMMANDED = ("AbortCommanded", "RollbackCommanded")
ROLE_TONES = {QUARANTINED: Tone.BAD, STABLE: Tone.GOOD, CANDIDATE: Tone.BUSY, LAST_GOOD: Tone.GOOD}


def history(snapshot: Snapshot, width: int | None = None) -> list[Line]:
    """Three tables, newest first; ``width`` None wraps nothing."""
    return [
        line("ModelDeployment ", Span(f"{snapshot.namespace}/{snapshot.name}", Tone.STRONG)),
        line(""),
        *_section("Attempts", _attempts(snapshot), "no attempt has ended yet", width, right=(0,)),
        line(""),
        *_section("Revisions", _revisions(snapshot), "no revision is kept yet", width),
        line(""),
        *_section("Commands", _commands(snapshot), "no command was given yet", width),
        *([line("")] if snapshot.unreadable else []),
        *table([Row((Span("?", Tone.WARNING), "Not read"), text) for text in snapshot.unreadable], width),
    ]


def _section(title: str, rows: list[Row], none: str, width: int | None, right: tuple[int, ...] = ()) -> list[Line]:
    head = line(Span(title, Tone.STRONG))
    if len(rows) <= 1:
        return [head, line("  ", Span(none, Tone.FAINT))]
    return [head, *((Span("  "), *found) for found in table(rows, None if width is None else width - 2, right))]


def _headings(*names: str, tail: str = "") -> Row:
    return Row(tuple(Span(name, Tone.FAINT) for name in names), Span(tail, Tone.FAINT))


def _attempts(snapshot: Snapshot) -> list[Row]:
    rows = [_headings("#", "OUTCOME", "REVISION", "VERSION", "STRATEGY", "BEGAN", "TOOK", "BY", tail="WHY")]
    current = snapshot.under_way
    if current is not None:
        took = spoken(snapshot.now - current.started_at) if current.started_at else "-"
        rows.append(
            Row(
                (
                    str(current.attempt),
                    marks.outcome(None),
                    current.revision,
                    current.version or "-",
                    current.strategy or "-",
                    stamp(current.started_at),
                    took,
                    "-",
                ),
                snapshot.status.message,
            )
        )
    rows += [_attempt(snapshot, entry) for entry in snapshot.status.history]
    return rows


def _attempt(snapshot: Snapshot, entry: HistoryEntry) -> Row:
    took = spoken(entry.finished_at - entry.started_at) if entry.started_at and entry.finished_at else "-"
    why = f"{entry.reason}: {entry.message}" if entry.reason and entry.message else entry.reason or entry.message
    return Row(
        (
            str(entry.attempt),
            marks.outcome(entry.outcome),
            entry.revision,
            entry.version or "-",
            entry.strategy or "-",
            stamp(entry.started_at),
            took,
            commanded_by(snapshot, entry) or "-",
        ),
        why,
    )


def commanded_by(snapshot: Snapshot, entry: HistoryEntry) -> str:
    """Who gave the command that decided how the attempt ended (or began); empty where none did."""
    record = next((revision for revision in snapshot.revisions if revision.name == entry.revision), None)
    tries = record.status.attempts if record else ()
    kept = next((attempt.commands for attempt in tries if attempt.attempt == entry.attempt), ())
    during = [command for command in (*kept, *snapshot.status.commands) if _within(command, entry)]
    verbs = ("abort", "rollback") if entry.reason in COMMANDED else ("promote:full", "promote", "rollback", "retry")
    found = next((command for command in during if _verb(command).startswith(verbs)), None)
    return found.by if found else ""


def _verb(command: CommandRecord) -> str:
    return command.command


def _within(command: CommandRecord, entry: HistoryEntry) -> bool:
    if not command.accepted or command.at is None or entry.started_at is None or entry.finished_at is None:
        return False
    return entry.started_at <= command.at <= entry.finished_at


def _revisions(snapshot: Snapshot) -> list[Row]:
    rows = [_headings("NAME", "VERSION", "ROLE", "LAST OUTCOME", "TRIED", "MADE", "SOURCE", tail="LINEAGE")]
    rows += [_revision(snapshot, revision) for revision in snapshot.revisions if revision.recorded]
    return rows


def _revision(snapshot: Snapshot, revision: Revision) -> Row:
    outcome: Cell = marks.outcome(revision.status.outcome) if revision.status.outcome else "-"
    tone = next((tone for role, tone in ROLE_TONES.items() if role in revision.roles), Tone.PLAIN)
    count = len(revision.status.attempts)
    tried = "once" if count == 1 else f"{count} times"
    if snapshot.under_way is not None and snapshot.under_way.revision == revision.name:
        tried = f"now, {tried} before" if count else "now"
    return Row(
        (
            revision.name,
            revision.version or "-",
            Span(", ".join(revision.roles) or "-", tone),
            outcome,
            tried,
            ago(revision.created, snapshot.now),
            revision.source or "-",
        ),
        " ".join(f"{key}={value}" for key, value in revision.lineage.items()) or "-",
    )


def _commands(snapshot: Snapshot) -> list[Row]:
    rows = [_headings("GIVEN", "COMMAND", "BY", "RESULT", tail="MESSAGE")]
    if snapshot.pending_command:
        wish, _, rest = snapshot.pending_command.partition("/")
        rows.append(Row(("-", wish, rest.partition("@")[2] or "-", Span("waits", Tone.WARNING)), "not handled yet"))
    rows += [
        Row(
            (
                stamp(command.at),
                command.command,
                command.by or "-",
                Span("accepted", Tone.GOOD) if command.accepted else Span("refused", Tone.BAD),
            ),
            command.message,
        )
        for command in snapshot.status.commands
    ]
    return rows
