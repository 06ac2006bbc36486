"""Validation problems as data: field path and sentence, safe to put into a status, an event or a log line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from typing_extensions import override

from modelrollout.api.base import clean

MESSAGE_LIMIT = 1024
SHOWN = 5


@dataclass(frozen=True)
class Problem:
    """One finding: a ``path`` like ``spec.rollout.guards[0].max`` and a ``sentence`` on what to change."""

    path: str
    sentence: str

    @override
    def __str__(self) -> str:
        return f"{self.path}: {self.sentence}" if self.path else self.sentence


class InvalidSpec(Exception):  # noqa: N818 - a finding about the user's text, not a failure of ours
    """The object cannot be carried out as written. ``problems`` has it all, ``str()`` at most 1024 letters."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        shown = "; ".join(str(problem) for problem in problems[:SHOWN])
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        super().__init__(clean(shown, MESSAGE_LIMIT - len(more)) + more)


def explain(error: ValidationError) -> InvalidSpec:
    """Turn pydantic's findings into ours. Values are never repeated: they may be long or not printable."""
    entries = error.errors(include_url=False, include_input=False)
    places = [entry["loc"] for entry in entries]
    # pydantic counts only items without faults: one faulty step would also be reported as too few steps
    echoes = {
        entry["loc"]
        for entry in entries
        if entry["type"] == "too_short" and any(_below(place, entry["loc"]) for place in places)
    }
    return InvalidSpec(
        tuple(Problem(_path(entry["loc"]), _sentence(entry)) for entry in entries if entry["loc"] not in echoes)
    )


def _below(place: tuple[int | str, ...], other: tuple[int | str, ...]) -> bool:
    return len(place) > len(other) and place[: len(other)] == other


def _path(place: tuple[int | str, ...]) -> str:
    path = ""
    for part in place:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += ("." if path else "") + clean(part, 64)
    return path


def _sentence(entry: Mapping[str, Any]) -> str:
    match entry["type"]:
        case "missing":
            return "is required"
        case "extra_forbidden":
            return "unknown field: remove it or correct its spelling"
        case "value_error":
            return str(entry["ctx"]["error"])
        case "enum" | "literal_error":
            return f"unsupported value, supported values: {entry['ctx']['expected']}"
        case _:
            message = str(entry["msg"])
            return message.removeprefix("Input ").removeprefix("Value ")
