"""The report: report.json for programs, report.html (with everything in it) for people."""

from __future__ import annotations

import base64
import html
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.demo.chronicle import Moment


@dataclass(frozen=True)
class VersionResult:
    """What became of one version. ``accuracy`` is the share of right labels among its answers to clients."""

    version: str
    revision: str
    outcome: str
    accuracy: float | None
    what: str


@dataclass(frozen=True)
class Expectation:
    """One thing the story promised: whether it came true, what was expected, what is, and where to look."""

    name: str
    met: bool
    expected: str
    seen: str
    look: str = ""


@dataclass(frozen=True)
class Report:
    """Everything the demo found out. Times of ``rollback`` are seconds; None where they could not be measured."""

    versions: tuple[VersionResult, ...]
    total: int
    by_revision: dict[str, dict[str, int]]
    failed_by_traffic: int
    write_seconds: float | None
    last_answer_seconds: float | None
    explanation: str
    expectations: tuple[Expectation, ...]
    events: tuple[Moment, ...]
    record: dict[str, Any] | None
    began: float
    note: str = ""

    @property
    def went_right(self) -> bool:
        """Whether every expectation was met."""
        return bool(self.expectations) and all(one.met for one in self.expectations)

    def as_json(self) -> dict[str, Any]:
        """The content of report.json."""
        return {
            "versions": [
                {"version": v.version, "revision": v.revision, "outcome": v.outcome, "accuracy": v.accuracy}
                for v in self.versions
            ],
            "requests": {
                "total": self.total,
                "byRevision": self.by_revision,
                "failedByTraffic": self.failed_by_traffic,
            },
            "rollback": {
                "firstBadSampleToWriteSeconds": self.write_seconds,
                "firstBadSampleToLastAnswerSeconds": self.last_answer_seconds,
            },
        }


def write(report: Report, folder: Path) -> None:
    """Write report.json and report.html; picture.png of the folder, if it is there, goes into the page."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(report.as_json(), indent=1) + "\n")
    picture = folder / "picture.png"
    (folder / "report.html").write_text(page(report, picture.read_bytes() if picture.exists() else None))


STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:.5rem 0 1.5rem}td,th{padding:.25rem .8rem .25rem 0;text-align:left;
vertical-align:top;border-bottom:1px solid #ddd}th{font-weight:600;color:#555}img{max-width:100%}
.ok{color:#187a2f}.bad{color:#b3261e;font-weight:600}code,pre{font:13px ui-monospace,monospace}
"""


def page(report: Report, picture: bytes | None) -> str:
    """The whole HTML page."""
    verdict = '<p class="ok">The story went right.</p>'
    if not report.went_right:
        verdict = '<p class="bad">The story did not go right; see what failed below.</p>'
    image = ""
    if picture is not None:
        encoded = base64.b64encode(picture).decode()
        image = f'<img alt="weights, requests, errors and latency over time" src="data:image/png;base64,{encoded}">'
    sections = [
        "<h1>modelrollout: a good version promoted, a bad one taken back</h1>",
        verdict,
        f"<p>{html.escape(report.note)}</p>" if report.note else "",
        image,
        "<h2>Versions</h2>",
        _table(("version", "what it is", "revision", "outcome", "accuracy on what it answered"), _versions(report)),
        "<h2>Requests</h2>",
        f"<p>{report.total} requests; {report.failed_by_traffic} failed by moving traffic.</p>",
        _table(("revision", "answers by status"), _requests(report)),
        "<h2>The rollback</h2>",
        _table(("measured", "seconds"), _rollback(report)),
        f"<p>{html.escape(report.explanation)}</p>",
        _record(report.record),
        "<h2>What was expected</h2>",
        _table(("", "expectation", "expected", "is"), _expectations(report)),
        "<h2>Events</h2>",
        _table(("time", "reason", "message"), _events(report)),
    ]
    body = "\n".join(part for part in sections if part)
    head = f'<meta charset="utf-8"><title>modelrollout demo</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    titles = "".join(f"<th>{html.escape(title)}</th>" for title in head)
    lines = ["".join(f"<td>{cell}</td>" for cell in row) for row in rows]
    return f"<table><tr>{titles}</tr>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _versions(report: Report) -> list[tuple[str, ...]]:
    return [
        (
            html.escape(v.version),
            html.escape(v.what),
            f"<code>{html.escape(v.revision)}</code>",
            html.escape(v.outcome),
            f"{v.accuracy:.1%}" if v.accuracy is not None else "no answers",
        )
        for v in report.versions
    ]


def _requests(report: Report) -> list[tuple[str, ...]]:
    names = {v.revision: v.version for v in report.versions}
    return [
        (
            html.escape(f"{names.get(revision, '')} {revision}"),
            html.escape(", ".join(f"{count} x {status}" for status, count in statuses.items())),
        )
        for revision, statuses in report.by_revision.items()
    ]


def _rollback(report: Report) -> list[tuple[str, ...]]:
    shown = (
        ("first bad sample in Prometheus to the route write", report.write_seconds),
        ("first bad sample in Prometheus to the last answer of the bad version", report.last_answer_seconds),
    )
    return [(name, f"{value:.2f}" if value is not None else "not measured") for name, value in shown]


def _record(record: dict[str, Any] | None) -> str:
    if record is None:
        return ""
    return f"<p>What the operator wrote down about it:</p><pre>{html.escape(json.dumps(record, indent=1))}</pre>"


def _expectations(report: Report) -> list[tuple[str, ...]]:
    marks = {True: '<span class="ok">ok</span>', False: '<span class="bad">failed</span>'}
    return [
        (marks[one.met], html.escape(one.name), html.escape(one.expected), html.escape(one.seen))
        for one in report.expectations
    ]


def _events(report: Report) -> list[tuple[str, ...]]:
    return [
        (f"{event.at - report.began:.1f} s", html.escape(event.title), html.escape(event.text))
        for event in report.events
    ]
