"""Columns, wrapping, colours, and times as people say them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from modelrollout.cli.view.text import Row, Span, Tone, amount, clipped, clock, line, paragraph, render, spoken, table

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def test_columns_are_aligned_and_numbers_stand_right() -> None:
    rows = [Row(("a", "10 %", "x")), Row(("long", "5 %", "y"), lead="- ")]
    assert render(table(rows, right=(1,))) == "a       10 %  x\n- long   5 %  y"


def test_an_empty_column_takes_no_room() -> None:
    assert render(table([Row(("a", "", "b")), Row(("c", "", "d"))])) == "a  b\nc  d"


def test_a_long_tail_is_wrapped_under_itself() -> None:
    rows = [Row(("name",), "one two three four five six seven eight nine ten", lead="+ ", under="| ")]
    assert render(table(rows, width=40)).split("\n") == [
        "+ name  one two three four five six",
        "|       seven eight nine ten",
    ]


def test_without_a_terminal_nothing_is_wrapped() -> None:
    assert len(paragraph("word " * 100)) == 1


def test_colours_only_where_asked_for() -> None:
    found = [line("plain ", Span("bad", Tone.BAD))]
    assert render(found) == "plain bad"
    assert render(found, color=True) == "plain \x1b[31mbad\x1b[0m"


def test_a_terminal_that_knows_ascii_only_gets_that() -> None:
    drawn = render([line("├─ ✔ ✖ ▶ ○ ⏸ … → ü")], plain=True)
    assert drawn == "|- + x > o = ... -> ?"


def test_a_line_is_cut_to_the_terminal() -> None:
    assert render([clipped(line("abc", "def", "ghi"), 5)]) == "abcd…"[:3] + "d…"
    assert render([clipped(line("abc", "def"), 6)]) == "abcdef"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-5, "0s"), (0, "0s"), (0.9, "0s"), (59, "59s"), (60, "1m"), (130, "2m10s"), (7200, "2h"), (90061, "1d1h")],
)
def test_a_span_of_time_in_its_two_greatest_units(seconds: float, words: str) -> None:
    assert spoken(timedelta(seconds=seconds)) == words


def test_the_date_is_told_when_it_is_another_day() -> None:
    assert clock(NOW, NOW) == "12:00:00"
    assert clock(NOW - timedelta(days=1), NOW) == "2026-11-20 12:00:00"
    assert clock(None, NOW) == "-"


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (0.0, "0"), (0.00213, "0.00213"), (812.0, "812"), (123456.0, "123456")]
)
def test_numbers_are_short(value: float | None, text: str) -> None:
    assert amount(value) == text
