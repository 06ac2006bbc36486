"""What people do to a status by hand, by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.builders import name_of

Status = dict[str, Any]


def _rollout(status: Status, **changes: Any) -> Status:
    return {**status, "rollout": {**(status.get("rollout") or {}), **changes}}


def _revisions(status: Status, **changes: Any) -> Status:
    return {**status, "revisions": {**(status.get("revisions") or {}), **changes}}


def _swapped(status: Status) -> Status:
    traffic = [{**entry, "slot": 1 - entry["slot"]} for entry in status.get("traffic") or () if "slot" in entry]
    return {**status, "traffic": traffic}


DAMAGES: dict[str, Callable[[Status], Status]] = {
    "wiped": lambda _: {},
    "history gone": lambda status: {**status, "history": []},
    "history garbage": lambda status: {**status, "history": [5, None, {"attempt": "x"}, {"revision": ["a"]}, "b"]},
    "history twice": lambda status: {**status, "history": [*status.get("history", []), *status.get("history", [])]},
    "quarantine gone": lambda status: {**status, "quarantined": []},
    "quarantine garbage": lambda status: {**status, "quarantined": [name_of("2.0.0"), name_of("1.0.0"), 7, "x" * 400]},
    "rollout gone": lambda status: {key: value for key, value in status.items() if key != "rollout"},
    "step 99": lambda status: _rollout(status, step=99, steps=99),
    "step -1": lambda status: _rollout(status, step=-1),
    "attempt garbage": lambda status: _rollout(status, attempt="first", startedAt="yesterday"),
    "outcome": lambda status: _rollout(status, outcome="Promoted"),
    "no outcome": lambda status: _rollout(status, outcome=None),
    "another revision": lambda status: _rollout(status, revision="digits-0000000000"),
    "later": lambda status: _rollout(status, stepStartedAt="2026-01-02T00:00:00Z", waitingSince="2026-01-02T00:00:00Z"),
    "earlier": lambda status: _rollout(status, stepStartedAt="2020-01-01T00:00:00Z"),
    "baking": lambda status: {**status, "phase": "Baking"},
    "progressing": lambda status: {**status, "phase": "Progressing"},
    "verifying": lambda status: {**status, "phase": "Verifying"},
    "awaiting": lambda status: {**status, "phase": "AwaitingApproval"},
    "rolling back": lambda status: {**status, "phase": "RollingBack"},
    "idle": lambda status: {**status, "phase": "Idle"},
    "pending": lambda status: {**status, "phase": "Pending"},
    "unknown phase": lambda status: {**status, "phase": "Dreaming"},
    "stable nobody": lambda status: _revisions(status, stable="digits-0000000000"),
    "stable gone": lambda status: _revisions(status, stable=None),
    "stable is candidate": lambda status: _revisions(status, stable=(status.get("revisions") or {}).get("candidate")),
    "candidate gone": lambda status: _revisions(status, candidate=None),
    "last good nobody": lambda status: _revisions(status, lastGood="digits-0000000000"),
    "slots swapped": _swapped,
    "traffic garbage": lambda status: {**status, "traffic": [{"revision": 1, "slot": 7}, "x"]},
    "command handled": lambda status: {**status, "handledCommand": None},
    "commands garbage": lambda status: {**status, "commands": [{"command": 1}, "x", {"at": "never"}]},
    "paused": lambda status: {**status, "paused": True},
}


def damaged(status: Status, how: str) -> Status:
    """The status as somebody left it: plain JSON, without empty fields."""
    copied: Status = json.loads(json.dumps(DAMAGES[how](status)))
    return _without_none(copied)  # type: ignore[no-any-return]


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return value
