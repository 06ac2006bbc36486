"""The command annotation: written so that it acts once, and read back with what came of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from modelrollout.api.base import clean
from modelrollout.api.status import WORD_LIMIT, CommandRecord, ModelDeploymentStatus, status_from
from modelrollout.cli.exits import Exit
from modelrollout.cli.view.snapshot import COMMAND
from modelrollout.ports import Manifest
from modelrollout.render.reading import get


@dataclass(frozen=True)
class Result:
    """What came of a command, as an exit code and a sentence."""

    code: Exit
    sentence: str


def annotation(wish: str, nonce: str, who: str) -> str:
    """``<verb>[:<argument>]/<nonce>@<who>`` as the status will keep it; a longer one would never equal its record."""
    by = "".join(letter for letter in who if letter.isprintable()).strip()
    return f"{wish}/{nonce}@{by}"[:WORD_LIMIT].strip()


def pending(deployment: Manifest) -> str:
    """The command of the annotation that was not handled yet; empty where there is none."""
    value = clean(str(get(deployment, "metadata", "annotations", COMMAND) or ""), WORD_LIMIT)
    return "" if value == (status_from(deployment.get("status")).handled_command or "") else value


def result_of(deployment: Manifest, value: str) -> Result | None:
    """What came of the command ``value``; None while it is not handled."""
    status = status_from(deployment.get("status"))
    if status.handled_command == value:
        return _handled(status, value)
    now = get(deployment, "metadata", "annotations", COMMAND)
    if now == value:
        return None
    if now:
        return Result(
            Exit.TIMED_OUT, f"another command took its place before it was handled: {clean(str(now), WORD_LIMIT)}"
        )
    return Result(Exit.TIMED_OUT, f"somebody (Git, perhaps) took the annotation {COMMAND} away before it was handled")


def _handled(status: ModelDeploymentStatus, value: str) -> Result:
    wish, _, rest = value.partition("/")
    record = next((found for found in status.commands if _is_of(found, wish, rest.partition("@")[2])), None)
    if record is None:
        return Result(
            Exit.OTHER, f"{wish} was handled, but its result is not recorded; {status.phase}: {status.message}"
        )
    if record.accepted:
        return Result(Exit.DONE, f"{wish}: {record.message}")
    return Result(Exit.TAKEN_BACK, f"{wish} was refused: {record.message}")


def _is_of(record: CommandRecord, wish: str, by: str) -> bool:
    return record.command == wish and record.by == by


def meant(target: str, records: Iterable[Manifest]) -> list[str]:
    """The names of the revisions that a person may mean by a name, a hash (or its beginning) or a version."""
    names = {str(record["metadata"]["name"]): str(get(record, "spec", "version") or "") for record in records}
    if target in names:
        return [target]
    versions = sorted(name for name, version in names.items() if version == target)
    return versions or sorted(name for name in names if name.rpartition("-")[2].startswith(target))
