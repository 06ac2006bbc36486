"""``status``: the ModelDeployment with its revisions, pods, weights and guards as a tree."""

from __future__ import annotations

from modelrollout.api.guard import Guard
from modelrollout.api.status import ArmStatus, GuardStatus, Outcome, RolloutStatus
from modelrollout.cli.view import marks
from modelrollout.cli.view.evidence import comparison_cell, drift_cell, gate_rows, is_bad, is_good, weighed
from modelrollout.cli.view.progress import hold_words, mirrored, stops_line
from modelrollout.cli.view.snapshot import CANDIDATE, DESIRED, LAST_GOOD, QUARANTINED, STABLE, Pods, Revision, Snapshot
from modelrollout.cli.view.text import (
    Cell,
    Line,
    Row,
    Span,
    Tone,
    ago,
    amount,
    line,
    paragraph,
    percent,
    spoken,
    table,
)

Node = tuple[list[Line], list["Node"]]
"""Lines and what hangs below them."""

ROLE_TONES = {STABLE: Tone.GOOD, CANDIDATE: Tone.BUSY, QUARANTINED: Tone.BAD}
UNITS = {
    "latency-p50": " s",
    "latency-p95": " s",
    "latency-p99": " s",
    "request-rate": "/s",
    "triton-queue-time": " s",
    "triton-compute-time": " s",
}


def tree(snapshot: Snapshot, width: int | None = None) -> list[Line]:
    """All that ``status`` shows; ``width`` None wraps nothing."""
    return [
        *_head(snapshot, width),
        line(""),
        *_facts(snapshot, width),
        *_notes(snapshot, width),
        *_body(snapshot, width),
    ]


def _head(snapshot: Snapshot, width: int | None) -> list[Line]:
    name = Span(f"{snapshot.namespace}/{snapshot.name}", Tone.STRONG)
    title = line("ModelDeployment ", name, "  ", marks.phase(snapshot.status.phase))
    if snapshot.deleting:
        title = (*title, Span("  is being deleted", Tone.WARNING))
    message = snapshot.status.message or "the operator has not looked at it yet: is it running?"
    return [title, *paragraph(message, width)]


def _facts(snapshot: Snapshot, width: int | None) -> list[Line]:
    parts, spec = snapshot.status.revisions, snapshot.spec
    rows = [
        Row(("Desired",), _named(snapshot, parts.desired)),
        Row(("Stable",), _named(snapshot, parts.stable)),
        Row(("Last good",), _named(snapshot, parts.last_good)),
    ]
    if spec is not None:
        reached = spec.traffic.service is not None and f"Service {snapshot.name}"
        hosts = [name for part in (spec.traffic.http, spec.traffic.grpc) if part for name in part.hostnames]
        rows.append(
            Row(("Serves",), f"{_counted(spec.replicas, 'pod')} on pool {spec.pool}, {reached or ', '.join(hosts)}")
        )
    attempt = snapshot.attempt
    if attempt is not None and attempt.revision:
        rows.append(Row(("Attempt",), _attempt(snapshot, attempt)))
    if attempt is not None and attempt.comparison is not None:
        rows.append(Row(("Answers",), comparison_cell(attempt.comparison, snapshot.now)))
    if snapshot.status.drift:
        rows.append(Row(("Drift",), drift_cell(snapshot.status.drift, snapshot.retraining, snapshot.now)))
    lines = table(rows, width)
    steps = stops_line(snapshot)
    if steps is not None and (snapshot.under_way or _taken_back(snapshot)):
        lines.append((Span("Steps      "), *steps))
    hold = hold_words(snapshot)
    if hold is not None:
        lines.append(line("Hold       ", hold))
    return lines


def _named(snapshot: Snapshot, name: str | None) -> Cell:
    if not name:
        return Span("-", Tone.FAINT)
    version = snapshot.version_of(name)
    return f"{name}  {version}" if version else name


def _attempt(snapshot: Snapshot, attempt: RolloutStatus) -> Span:
    words = f"{attempt.attempt}, {attempt.strategy}" if attempt.strategy else str(attempt.attempt)
    words += ", fast track" if attempt.fast_track else ""
    words += f", instead of {attempt.instead_of}" if attempt.instead_of else ""
    if attempt.outcome is None:
        step = f", step {attempt.step}/{attempt.steps}" if attempt.step else ""
        began = f", began {ago(attempt.started_at, snapshot.now)}" if attempt.started_at else ""
        return Span(f"{words}{step}{began}")
    took = ""
    if attempt.started_at and attempt.finished_at:
        took = f" after {spoken(attempt.finished_at - attempt.started_at)}"
    return Span(
        f"{words}: {attempt.outcome}{took}, {ago(attempt.finished_at, snapshot.now)}",
        marks.outcome(attempt.outcome).tone,
    )


def _notes(snapshot: Snapshot, width: int | None) -> list[Line]:
    """What is not as it should be: conditions that are not True, a command or a spec that waits, what was not read."""
    rows = []
    for condition in snapshot.status.conditions:
        if not is_good(condition):
            mark = Span("✖", Tone.BAD) if is_bad(condition) else Span("?", Tone.WARNING)
            since = (
                f"{condition.status} for {spoken(snapshot.now - condition.last_transition_time)}: "
                if condition.last_transition_time
                else ""
            )
            rows.append(Row((mark, condition.type), f"{since}{condition.message or condition.reason}"))
    if snapshot.problem:
        rows.append(Row((Span("✖", Tone.BAD), "Spec"), snapshot.problem))
    if snapshot.status.observed_generation and not snapshot.seen:
        rows.append(
            Row((Span("…", Tone.WARNING), "Spec"), "the operator has not seen the newest change of the spec yet")
        )
    if snapshot.pending_command:
        rows.append(Row((Span("…", Tone.WARNING), "Command"), f"{snapshot.pending_command} is not handled yet"))
    if snapshot.paused:
        by = "command pause; resume lifts it" if snapshot.status.paused else "spec.rollout.paused"
        rows.append(Row((Span("⏸", Tone.WARNING), "Paused"), f"by {by}; guards stay on"))
    rows += [Row((Span("?", Tone.WARNING), "Not read"), text) for text in snapshot.unreadable]
    return [line(""), *table(rows, width)] if rows else []


def _body(snapshot: Snapshot, width: int | None) -> list[Line]:
    shown = [
        revision
        for revision in snapshot.revisions
        if revision.plays(STABLE, CANDIDATE, LAST_GOOD, DESIRED)
        or revision.weight
        or revision.pods.ready
        or revision.pods.desired
    ]
    if not shown:
        return [line(""), line(Span("no revision yet", Tone.FAINT))]
    rows, below = [], []
    for place, revision in enumerate(shown):
        last = place == len(shown) - 1
        lead, under = ("└─ ", "   ") if last else ("├─ ", "│  ")
        details = _details(snapshot, revision, None if width is None else width - 3)
        roles = ", ".join(revision.roles) or "-"
        tone = next(
            (ROLE_TONES[role] for role in (QUARANTINED, CANDIDATE, STABLE) if role in revision.roles), Tone.PLAIN
        )
        cells = (
            Span(revision.name, Tone.STRONG),
            Span(roles, tone),
            revision.version,
            _weight(snapshot, revision),
            _pods(revision.pods),
        )
        rows.append(Row(cells, Span(revision.pods.trouble, Tone.WARNING), lead, under + ("│  " if details else "   ")))
        below.append([(Span(under), *found) for found in details])
    return [line(""), *_interleaved(rows, below, width)]


def _weight(snapshot: Snapshot, revision: Revision) -> str:
    copies = mirrored(snapshot, revision.name)
    return f"{percent(copies)} copied, {percent(revision.weight)}" if copies else percent(revision.weight)


def _interleaved(rows: list[Row], below: list[list[Line]], width: int | None) -> list[Line]:
    """The aligned rows with what hangs below each: rows are aligned together, so they are laid out together."""
    lines: list[Line] = []
    widths_kept = [Row(row.cells, "", row.lead, row.under) for row in rows]
    for place, row in enumerate(rows):
        others = [*widths_kept[:place], *widths_kept[place + 1 :]]
        laid = table([row, *others], width, right=(3,))
        lines += laid[: len(laid) - len(others)]
        lines += below[place]
    return lines


def _pods(pods: Pods) -> Span:
    if not pods.known:
        return Span("? pods", Tone.FAINT)
    words = f"{pods.ready}/{pods.desired} pods"
    if pods.ready >= pods.desired:
        return Span(words, Tone.FAINT if not pods.desired else Tone.PLAIN)
    return Span(words, Tone.WARNING if pods.ready else Tone.BAD)


def _details(snapshot: Snapshot, revision: Revision, width: int | None) -> list[Line]:
    """Guards and arms of the attempt, below the revision that is or was tried."""
    attempt = snapshot.attempt
    if attempt is None or attempt.revision != revision.name:
        return []
    telling = bool(snapshot.under_way) or _taken_back(snapshot)
    gates = gate_rows(attempt.gates) if telling else []
    rows = _guards(snapshot, attempt) if telling else []
    arms = _arms(snapshot, attempt)
    lines: list[Line] = []
    if gates:
        lines += table(_hung(gates, last=not rows and not arms), width)
    if rows:
        last = not arms
        lines += table(_hung(rows, last=last), width, right=(2, 4))
    if arms:
        lines += [
            line("└─ ", "arms"),
            *[(Span("   "), *found) for found in table(_hung(arms, last=True), width, right=(2, 3, 4, 5))],
        ]
    return lines


def _taken_back(snapshot: Snapshot) -> bool:
    """Whether the last attempt is why the spec's revision does not serve: its evidence is still of interest."""
    attempt, parts = snapshot.attempt, snapshot.status.revisions
    if attempt is None or attempt.outcome in (None, Outcome.PROMOTED, Outcome.SUPERSEDED):
        return False
    return attempt.revision == parts.desired != parts.stable


def _hung(rows: list[Row], *, last: bool) -> list[Row]:
    leads = [("├─ ", "│  ")] * len(rows)
    if last:
        leads[-1] = ("└─ ", "   ")
    return [Row(row.cells, row.tail, lead, under) for row, (lead, under) in zip(rows, leads, strict=True)]


def _guards(snapshot: Snapshot, attempt: RolloutStatus) -> list[Row]:
    wished = {guard.name: guard for guard in snapshot.spec.rollout.guards} if snapshot.spec else {}
    told = {guard.name: guard for guard in attempt.guards}
    return [_guard(snapshot, wished.get(name), told.get(name), name) for name in dict.fromkeys([*wished, *told])]


def _guard(snapshot: Snapshot, guard: Guard | None, told: GuardStatus | None, name: str) -> Row:
    bound = threshold(guard) if guard is not None else ""
    if told is None:
        return Row(
            (Span("○", Tone.FAINT), name, Span("-", Tone.FAINT), bound, ""), Span("not recorded yet", Tone.FAINT)
        )
    unit = UNITS.get(str(guard.sli), "") if guard is not None else ""
    value = f"{amount(told.value)}{unit}" if told.value is not None else "-"
    samples = f"{amount(told.samples, 7)} requests" if told.samples is not None else ""
    why = f", {told.message}" if told.message and told.verdict not in ("Pass", "Breach") else ""
    why += weighed(told)
    tail = f"{told.verdict} {ago(told.at, snapshot.now)}{why}" if told.at else f"{told.verdict}{why}"
    mark = marks.verdict_mark(told.verdict)
    return Row((mark, name, Span(value, mark.tone), told.threshold or bound, samples), tail)


def threshold(guard: Guard) -> str:
    """The bounds in words: ``<= 0.01``, ``>= 5``, or both."""
    parts = [] if guard.min is None else [f">= {guard.min:.12g}"]
    parts += [] if guard.max is None else [f"<= {guard.max:.12g}"]
    return " and ".join(parts)


def _arms(snapshot: Snapshot, attempt: RolloutStatus) -> list[Row]:
    return [_arm(snapshot, arm) for arm in attempt.arms]


def _arm(snapshot: Snapshot, arm: ArmStatus) -> Row:
    found = snapshot.revision(arm.revision)
    role = next((role for role in found.roles if role in (STABLE, CANDIDATE)), "") if found else ""
    return Row(
        (
            arm.revision,
            role,
            f"{amount(arm.requests, 9)} requests",
            f"{percent(round(arm.error_ratio * 100, 3))} errors" if arm.error_ratio is not None else "- errors",
            f"p50 {_seconds(arm.latency_p50)}",
            f"p99 {_seconds(arm.latency_p99)}",
        ),
        Span(ago(arm.at, snapshot.now), Tone.FAINT) if arm.at else "",
    )


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{amount(value * 1000, 3)} ms" if value < 1 else f"{amount(value, 3)} s"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def short(snapshot: Snapshot) -> str:
    """The whole in one line, for logs: phase, message, traffic, guards."""
    status, attempt = snapshot.status, snapshot.under_way
    parts = [str(status.phase), status.message]
    parts += [f"{entry.revision} {percent(entry.weight)}" for entry in status.traffic if len(status.traffic) > 1]
    parts += [
        f"{revision.name} {revision.pods.ready}/{revision.pods.desired} pods"
        for revision in snapshot.revisions
        if revision.pods.known and revision.pods.ready < revision.pods.desired
    ]
    if attempt is not None:
        parts += [
            f"{guard.name} {guard.verdict}"
            + (f" ({amount(guard.value)}, must be {guard.threshold})" if guard.value is not None else "")
            for guard in attempt.guards
            if guard.verdict != "Pass"
        ]
    if snapshot.paused and attempt is not None:
        parts.append("paused")
    return "; ".join(part for part in parts if part)
