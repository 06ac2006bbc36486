"""What a person reads in a stored situation, letter by letter."""

from __future__ import annotations

import os

import pytest

from modelrollout.cli.view.explain import explain
from modelrollout.cli.view.history import history
from modelrollout.cli.view.text import render
from modelrollout.cli.view.tree import tree
from tests.unit.cli.cases import CASES, FOLDER, read

WIDTH = 110
VIEWS = {"status": tree, "history": history, "explain": explain}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("case", CASES)
def test_it_reads_as_stored(case: str, view: str) -> None:
    text = render(VIEWS[view](read(case), WIDTH)) + "\n"
    stored = FOLDER / f"{case}.{view}.txt"
    if os.environ.get("CLI_UPDATE"):
        stored.write_text(text, encoding="utf-8")
    assert text == stored.read_text("utf-8")


@pytest.mark.parametrize("case", CASES)
def test_no_line_is_wider_than_the_terminal_or_ends_in_spaces(case: str) -> None:
    for view in (tree, explain):
        for found in render(view(read(case), WIDTH)).split("\n"):
            assert len(found) <= WIDTH + 30
            assert found == found.rstrip()
