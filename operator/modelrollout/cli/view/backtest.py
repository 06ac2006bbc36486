"""``backtest``: how often guards would have fired, as lines and as a document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from modelrollout.api.base import format_instant
from modelrollout.api.durations import format_duration
from modelrollout.api.guard import OnBreach
from modelrollout.api.status import Outcome
from modelrollout.cli.replaying import Replayed
from modelrollout.cli.view.text import Line, Row, Span, Tone, line, spoken, stamp, table
from modelrollout.evidence.backtest import Moment, Tally, Trial
from modelrollout.evidence.bounds import threshold


@dataclass(frozen=True)
class Report:
    """All that is told of one ModelDeployment. ``length`` is that of a replayed rollout; ``origins`` are by guard.

    ``problem`` is the sentence that says why it has no guards that could be replayed.
    """

    namespace: str
    name: str
    since: datetime
    until: datetime
    step: timedelta
    length: timedelta
    guards: Sequence[Replayed] = ()
    origins: Mapping[str, str] | None = None
    notes: tuple[str, ...] = ()
    problem: str = ""

    @property
    def invalid(self) -> bool:
        """Whether it has guards that can never be judged, or cannot be used at all."""
        return bool(self.problem) or any(found.problem or found.served.invalid for found in self.guards)

    @property
    def fired(self) -> bool:
        """Whether a guard would have taken back what was good: what served, or a promoted revision."""
        return any(
            found.guard.on_breach is not OnBreach.WARN
            and (found.served.fired or any(_takes_back(tally) and _was_good(trial) for trial, tally in found.recorded))
            for found in self.guards
        )


def _was_good(trial: Trial) -> bool:
    return trial.title.endswith(f": {Outcome.PROMOTED}")


def report_lines(report: Report, width: int | None = None) -> list[Line]:
    """For people; ``width`` None wraps nothing."""
    head = f"{stamp(report.since)} to {stamp(report.until)}, every {format_duration(report.step)}"
    lines = [line("ModelDeployment ", Span(f"{report.namespace}/{report.name}", Tone.STRONG), "  ", head)]
    lines += table([Row((Span("✖", Tone.BAD),), report.problem)], width) if report.problem else []
    lines += table([Row((Span("?", Tone.WARNING),), note) for note in report.notes], width)
    for found in report.guards:
        lines += [line("")]
        lines += _guard(report, found, width)
    return lines


def _guard(report: Report, found: Replayed, width: int | None) -> list[Line]:
    guard, served = found.guard, found.served
    subject = f"{guard.sli} over {format_duration(guard.window)}" if guard.sli is not None else "query"
    where = (report.origins or {}).get(guard.name, "")
    cells: tuple[str | Span, ...] = (Span(guard.name, Tone.STRONG), subject, threshold(guard), str(guard.on_breach))
    lines = [line(*_spaced(cells), *([Span(f"  {where}", Tone.FAINT)] if where else []))]
    if found.problem or served.invalid:
        return [
            *lines,
            *_under(Row((Span("✖", Tone.BAD),), f"can never be judged: {found.problem or served.invalid}"), width),
        ]
    if guard.relative_to is not None:
        words = "compares two revisions: replayed in the rollouts on record only"
        if not found.recorded:
            words = "compares two revisions, and no rollout with traffic is on record here: it cannot be replayed"
        lines += _under(Row((Span("○", Tone.FAINT),), words), width)
    elif not served.trials:
        lines += _under(Row((Span("?", Tone.WARNING),), "nobody served long enough for one rollout"), width)
    else:
        lines += _served(report, served, width)
    for trial, tally in found.recorded:
        lines += _under(Row((_mark(trial, tally),), f"{trial.title}: {_told(trial, tally)}"), width)
    return lines


def _served(report: Report, tally: Tally, width: int | None) -> list[Line]:
    silent = tally.silent + tally.unread == tally.looks
    mark = Span("✖", Tone.BAD) if tally.fired else Span("?", Tone.WARNING) if silent else Span("✔", Tone.GOOD)
    often = "none" if not tally.fired else f"{tally.fired} ({_share(tally.fired, tally.trials)})"
    lines = _under(
        Row(
            (mark,),
            f"fires in {often} of {tally.trials} rollouts of {spoken(report.length)} with what served on trial again, "
            f"in {tally.breaches} of {tally.looks} evaluations; {_gaps(tally)}",
        ),
        width,
    )
    for word, moment in (("first", tally.first), ("last", tally.last), ("worst", tally.worst)):
        if moment is not None:
            lines += _under(Row((" ", Span(f"{word} {stamp(moment.at)}", Tone.FAINT)), moment.message), width)
    return lines


def _told(trial: Trial, tally: Tally) -> str:
    if tally.first is None:
        return f"does not fire; {_gaps(tally)}"
    after = spoken(tally.first.at - trial.begin)
    what = "holds (stable is as bad)" if tally.held else "fires"
    return f"{what} {after} after its first traffic: {tally.first.message}"


def _mark(trial: Trial, tally: Tally) -> Span:
    if tally.silent + tally.unread == tally.looks:
        return Span("?", Tone.WARNING)
    if tally.fired and not _takes_back(tally):
        return Span("!", Tone.WARNING)
    if bool(tally.fired) is not _was_good(trial):
        return Span("✔", Tone.GOOD)
    return Span("✖", Tone.BAD) if tally.fired else Span("!", Tone.WARNING)


def _takes_back(tally: Tally) -> bool:
    """Whether it fires where stable is not as bad."""
    return tally.fired > tally.held


def _gaps(tally: Tally) -> str:
    unread = f", {_share(tally.unread, tally.looks)} could not be read" if tally.unread else ""
    return f"no data in {_share(tally.silent, tally.looks)}{unread}"


def _share(count: int, whole: int) -> str:
    return f"{100 * count / whole:.3g} %" if whole else "-"


def _spaced(cells: Sequence[str | Span]) -> list[str | Span]:
    return [part for cell in cells for part in ("  ", cell)][1:]


def _under(row: Row, width: int | None) -> list[Line]:
    return [(Span("  "), *found) for found in table([row], None if width is None else width - 2)]


def report_document(report: Report) -> dict[str, Any]:
    """``backtest -o json``."""
    return {
        "namespace": report.namespace,
        "name": report.name,
        "from": format_instant(report.since),
        "to": format_instant(report.until),
        "stepSeconds": report.step.total_seconds(),
        "rolloutSeconds": report.length.total_seconds(),
        "fired": report.fired,
        "problem": report.problem or None,
        "notes": list(report.notes),
        "guards": [_guard_document(report, found) for found in report.guards],
    }


def _guard_document(report: Report, found: Replayed) -> dict[str, Any]:
    guard = found.guard
    replayable = guard.relative_to is None and found.served.trials > 0
    return {
        "name": guard.name,
        "source": (report.origins or {}).get(guard.name) or None,
        "guard": guard.model_dump(mode="json", by_alias=True, exclude_defaults=True),
        "threshold": threshold(guard),
        "problem": found.problem or found.served.invalid,
        "served": _tally_document(found.served) if replayable else None,
        "recorded": [
            {"rollout": trial.title, "from": format_instant(trial.begin), "to": format_instant(trial.end)}
            | _tally_document(tally)
            for trial, tally in found.recorded
        ],
    }


def _tally_document(tally: Tally) -> dict[str, Any]:
    return {
        "rollouts": tally.trials,
        "fired": tally.fired,
        "held": tally.held,
        "evaluations": tally.looks,
        "breaches": tally.breaches,
        "noDataShare": tally.silent / tally.looks if tally.looks else None,
        "unreadShare": tally.unread / tally.looks if tally.looks else None,
        "first": _moment_document(tally.first),
        "last": _moment_document(tally.last),
        "worst": _moment_document(tally.worst),
    }


def _moment_document(moment: Moment | None) -> dict[str, Any] | None:
    if moment is None:
        return None
    return {"at": format_instant(moment.at), "value": moment.value, "message": moment.message}
