"""What a benchmark found: rows with their limits, as a table for people and JSON for everything else."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

Number = int | float

HEADINGS = ("figure", "value", "unit", "limit", "ok")


@dataclass(frozen=True)
class Row:
    """One figure. ``limit`` is the most that ``value`` may be (the least where ``figure`` says so); None has none."""

    figure: str
    value: Number
    unit: str
    limit: Number | None
    ok: bool


@dataclass
class Result:
    """All rows of one benchmark, in the order they were found."""

    name: str
    rows: list[Row] = field(default_factory=list)

    def at_most(self, figure: str, value: Number, unit: str, limit: Number) -> None:
        """A figure that may not be larger than ``limit``."""
        self.rows.append(Row(figure, _rounded(value), unit, limit, value <= limit))

    def at_least(self, figure: str, value: Number, unit: str, limit: Number) -> None:
        """A figure that may not be smaller than ``limit``."""
        self.rows.append(Row(f"{figure} (at least)", _rounded(value), unit, limit, value >= limit))

    def note(self, figure: str, value: Number, unit: str) -> None:
        """A figure without a limit, which explains others."""
        self.rows.append(Row(figure, _rounded(value), unit, None, True))

    def failed(self, why: str) -> None:
        """The benchmark could not be finished: a row that is not ok, whatever the others say."""
        self.rows.append(Row(f"not measured: {why}", 1, "failures", 0, False))

    @property
    def ok(self) -> bool:
        """Whether something was measured and every row is within its limit."""
        return bool(self.rows) and all(row.ok for row in self.rows)

    def write(self, folder: Path) -> None:
        """Keep it as ``<folder>/<name>.json``."""
        folder.mkdir(parents=True, exist_ok=True)
        content = {"name": self.name, "rows": [asdict(row) for row in self.rows]}
        (folder / f"{self.name}.json").write_text(json.dumps(content, indent=1) + "\n")


def table(results: Iterable[Result]) -> str:
    """All rows below each other, a headline for each benchmark."""
    lines: list[tuple[str, ...]] = [HEADINGS]
    for result in results:
        lines.append((f"[{result.name}]", "", "", "", ""))
        for row in result.rows:
            limit = "" if row.limit is None else f"{row.limit:g}"
            lines.append((row.figure, f"{row.value:g}", row.unit, limit, "yes" if row.ok else "NO"))
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    return "\n".join(
        f"{line[0]:<{widths[0]}}  {line[1]:>{widths[1]}}  {line[2]:<{widths[2]}}  {line[3]:>{widths[3]}}  {line[4]}"
        for line in lines
    )


def document(result: Result, file: Path) -> None:
    """Put the rows into the document, between the comments that name the benchmark."""
    begin, end = f"<!-- {result.name} -->", f"<!-- end of {result.name} -->"
    before, _, rest = file.read_text().partition(begin)
    _, found, after = rest.partition(end)
    assert found, f"{file} has no place for {result.name}: {begin} and {end}"
    lines = ["| figure | value | unit | limit | ok |", "|---|---:|---|---:|---|"]
    for row in result.rows:
        limit = "" if row.limit is None else f"{row.limit:g}"
        lines.append(f"| {row.figure} | {row.value:g} | {row.unit} | {limit} | {'yes' if row.ok else 'no'} |")
    file.write_text("\n".join([before + begin, *lines, end + after]))


def _rounded(value: Number) -> Number:
    return value if isinstance(value, int) else float(f"{value:.4g}") if abs(value) < 1000 else round(value, 1)
