"""The command annotation: how it is written, and what is read back."""

from __future__ import annotations

from typing import Any

import pytest

from modelrollout.api.base import clean
from modelrollout.api.status import WORD_LIMIT
from modelrollout.cli.exits import Exit
from modelrollout.cli.view.snapshot import COMMAND
from modelrollout.cli.view.steering import annotation, meant, pending, result_of
from modelrollout.rollout.commands import Command

VALUE = "promote:full/20261121T120000-ab12cd@anna@example.com"


def deployment(given: str | None, handled: str | None, *records: dict[str, Any]) -> dict[str, Any]:
    return {
        "metadata": {"name": "digits", "annotations": {} if given is None else {COMMAND: given}},
        "status": {"phase": "Progressing", "message": "at work", "handledCommand": handled, "commands": list(records)},
    }


def record(accepted: bool, command: str = "promote:full", by: str = "anna@example.com") -> dict[str, Any]:
    return {"command": command, "by": by, "accepted": accepted, "message": "so it is"}


def test_the_operator_reads_what_is_written() -> None:
    read = Command.parse(annotation("rollback:digits-a1", "n1", "system:serviceaccount:ci:deployer"))
    assert (read.verb, read.argument, read.nonce) == ("rollback", "digits-a1", "n1")
    assert read.by == "system:serviceaccount:ci:deployer"


@pytest.mark.parametrize("who", ["x" * 400, "anna\n\x00b", "  anna ", ""])
def test_whoever_it_is_the_status_keeps_it_letter_by_letter(who: str) -> None:
    value = annotation("promote", "n1", who)
    assert value == clean(value, WORD_LIMIT)


def test_it_is_waited_for_until_it_is_handled() -> None:
    assert result_of(deployment(VALUE, "abort/0"), VALUE) is None
    assert pending(deployment(VALUE, "abort/0")) == VALUE
    assert pending(deployment(VALUE, VALUE)) == ""


def test_accepted_and_refused() -> None:
    done = result_of(deployment(VALUE, VALUE, record(True), record(False)), VALUE)
    assert done is not None
    assert (done.code, done.sentence) == (Exit.DONE, "promote:full: so it is")
    refused = result_of(deployment(VALUE, VALUE, record(False, by="somebody"), record(False)), VALUE)
    assert refused is not None
    assert (refused.code, refused.sentence) == (Exit.TAKEN_BACK, "promote:full was refused: so it is")


def test_a_result_that_was_not_recorded_is_no_success() -> None:
    result = result_of(deployment(VALUE, VALUE, record(True, "abort")), VALUE)
    assert result is not None
    assert result.code is Exit.OTHER


def test_a_command_of_somebody_else_took_its_place() -> None:
    result = result_of(deployment("abort/1@bert", "abort/0"), VALUE)
    assert result is not None
    assert result.code is Exit.TIMED_OUT
    assert "abort/1@bert" in result.sentence
    gone = result_of(deployment(None, "abort/0"), VALUE)
    assert gone is not None
    assert "took the annotation" in gone.sentence


def records(**versions: str) -> list[dict[str, Any]]:
    return [{"metadata": {"name": f"digits-{hash_}"}, "spec": {"version": v}} for hash_, v in versions.items()]


def test_what_a_person_may_mean_by_a_revision() -> None:
    known = records(a15d15ce70="1.4.0", a15fffffff="1.4.0", c4c3771842="1.5.0")
    assert meant("digits-c4c3771842", known) == ["digits-c4c3771842"]
    assert meant("c4c", known) == ["digits-c4c3771842"]
    assert meant("1.5.0", known) == ["digits-c4c3771842"]
    assert meant("a15", known) == ["digits-a15d15ce70", "digits-a15fffffff"]
    assert meant("1.4.0", known) == ["digits-a15d15ce70", "digits-a15fffffff"]
    assert meant("zzz", known) == []
