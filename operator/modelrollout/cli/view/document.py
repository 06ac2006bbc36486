"""What ``-o json|yaml`` prints: the facts of the views under stable names, times as RFC 3339, durations in seconds."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from modelrollout.api.base import StatusModel, format_instant
from modelrollout.api.status import HistoryEntry, status_to_dict
from modelrollout.cli.view.progress import course, stops
from modelrollout.cli.view.snapshot import Revision, Snapshot
from modelrollout.cli.view.waiting import ended

Document = dict[str, Any]


def status_document(snapshot: Snapshot) -> Document:
    """``status -o json``."""
    status, attempt = snapshot.status, snapshot.attempt
    end = ended(snapshot)
    return {
        **_identity(snapshot),
        "observedGeneration": status.observed_generation,
        "phase": str(status.phase),
        "message": status.message,
        "end": None if end is None else {"exitCode": int(end.code), "message": end.sentence},
        "paused": snapshot.paused,
        "pendingCommand": snapshot.pending_command or None,
        "specProblem": snapshot.problem or None,
        "conditions": [_plain(condition) for condition in status.conditions],
        "desired": status.revisions.desired,
        "stable": status.revisions.stable,
        "candidate": status.revisions.candidate,
        "lastGood": status.revisions.last_good,
        "revisions": [_revision(revision) for revision in snapshot.revisions],
        "rollout": None if attempt is None else {**_plain(attempt), "stops": _stops(snapshot)},
        "holdSecondsLeft": _left(snapshot),
        "notRead": list(snapshot.unreadable),
        "at": format_instant(snapshot.now),
    }


def history_document(snapshot: Snapshot) -> Document:
    """``history -o json``."""
    return {
        **_identity(snapshot),
        "attempts": [_attempt(entry) for entry in snapshot.status.history],
        "revisions": [
            {**_revision(revision), "attempts": [_plain(attempt) for attempt in revision.status.attempts]}
            for revision in snapshot.revisions
        ],
        "commands": [_plain(command) for command in snapshot.status.commands],
        "notRead": list(snapshot.unreadable),
    }


def _identity(snapshot: Snapshot) -> Document:
    return {"namespace": snapshot.namespace, "name": snapshot.name, "generation": snapshot.generation}


def _attempt(entry: HistoryEntry) -> Document:
    seconds = None
    if entry.started_at and entry.finished_at:
        seconds = (entry.finished_at - entry.started_at).total_seconds()
    return {**_plain(entry), "seconds": seconds}


def _revision(revision: Revision) -> Document:
    pods = revision.pods
    return {
        "name": revision.name,
        "roles": list(revision.roles),
        "version": revision.version,
        "weight": revision.weight,
        "slot": revision.slot,
        "pods": {"ready": pods.ready, "desired": pods.desired, "trouble": pods.trouble} if pods.known else None,
        "outcome": str(revision.status.outcome) if revision.status.outcome else None,
        "source": revision.source,
        "lineage": dict(revision.lineage),
        "createdAt": _instant(revision.created),
    }


def _stops(snapshot: Snapshot) -> list[Document] | None:
    way = course(snapshot, snapshot.attempt) if snapshot.attempt is not None else None
    if way is None or snapshot.spec is None:
        return None
    return [
        {"label": stop.label, "holdSeconds": stop.hold.total_seconds(), "approval": stop.approval}
        for stop in stops(way, snapshot.spec.rollout)
    ]


def _left(snapshot: Snapshot) -> float | None:
    attempt = snapshot.under_way
    if attempt is None or attempt.step_ends_at is None:
        return None
    return round(max((attempt.step_ends_at - snapshot.now).total_seconds(), 0.0), 1)


def _plain(model: StatusModel) -> Document:
    return status_to_dict(model)


def _instant(moment: datetime | None) -> str | None:
    return None if moment is None else format_instant(moment)
