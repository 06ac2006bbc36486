from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from deploy.demo.chronicle import Chronicle, Moment, Weights
from deploy.demo.drawing import draw, steps_of
from deploy.demo.expectations import Facts, judged, lost_answers
from deploy.demo.outcome import guard_bound, seconds
from deploy.demo.recording import TRITON_FAILURE, Answer, Recording
from deploy.demo.report import Expectation, Report, VersionResult, write
from deploy.demo.view import Scene, line, picture
from rich.console import Console

REVISIONS = {"1.0.0": "digits-a", "1.1.0": "digits-b", "1.2.0": "digits-c"}


def good_recording() -> Recording:
    recording = Recording()
    for second in range(30):
        revision = "digits-a" if second < 10 else "digits-b"
        label = 9 if revision == "digits-a" and second % 2 else 1
        recording.add(Answer(100.0 + second, 100.02 + second, "200", revision, 1, label))
        if 15 <= second < 18:
            text = f"{TRITON_FAILURE} 'digits'"
            recording.add(Answer(100.2 + second, 100.3 + second, "500", "digits-c", 1, None, text))
    return recording


def good_status() -> dict[str, Any]:
    return {
        "phase": "RolledBack",
        "message": "1.2.0 was taken back",
        "quarantined": ["digits-c"],
        "history": [
            {"revision": "digits-c", "outcome": "RolledBack", "reason": "GuardBreached", "message": "0.14 > 0.02"},
            {"revision": "digits-b", "outcome": "Promoted"},
            {"revision": "digits-a", "outcome": "Promoted"},
        ],
        "rollout": {
            "stepOf": "1/3",
            "guards": [{"name": "errors", "verdict": "Breach", "value": 0.14, "threshold": "<= 0.02", "samples": 55}],
        },
    }


def good_facts(status: dict[str, Any] | None = None, recording: Recording | None = None) -> Facts:
    chronicle = Chronicle("demo", "digits")
    chronicle.see_deployment({"metadata": {"name": "digits"}, "status": status or good_status()}, 1.0)
    recording = recording or good_recording()
    return Facts(REVISIONS, chronicle, recording, recording.between(125, 200), "kubectl -n demo")


def failed(facts: Facts) -> list[str]:
    return [one.name for one in judged(facts) if not one.met]


def test_a_story_that_went_right() -> None:
    assert failed(good_facts()) == []


def test_each_promise_can_fail() -> None:
    status = good_status()
    status["history"][1]["outcome"] = "RolledBack"
    assert failed(good_facts(status)) == ["1.1.0 is Promoted"]
    status = good_status()
    status["history"][0]["outcome"] = "Promoted"
    assert "1.2.0 is RolledBack" in failed(good_facts(status))
    assert failed(good_facts(good_status() | {"quarantined": []})) == ["1.2.0 is quarantined"]
    status = good_status()
    status["history"][0]["reason"] = "CandidateUnavailable"
    assert failed(good_facts(status)) == ["1.2.0 was taken back because a guard said so"]


def test_lost_requests_and_a_wrong_server_at_the_end_are_seen() -> None:
    recording = good_recording()
    recording.add(Answer(130.0, 130.1, "503", "digits-b", 1, None, "upstream connect error"))
    assert failed(good_facts(recording=recording)) == [
        "1.1.0 serves alone at the end",
        "no request was lost by moving traffic",
    ]
    assert len(lost_answers(recording, REVISIONS)) == 1
    recording = good_recording()
    recording.add(Answer(130.0, 130.1, "200", "digits-c", 1, 1))
    assert failed(good_facts(recording=recording)) == ["1.1.0 serves alone at the end"]


def test_a_story_without_traffic_did_not_go_right() -> None:
    names = failed(good_facts(recording=Recording()))
    assert "no request was lost by moving traffic" in names
    assert "1.1.0 serves alone at the end" in names


def report() -> Report:
    return Report(
        versions=(VersionResult("1.0.0", "digits-a", "Promoted", 0.78, "<b>weak</b>"),),
        total=3,
        by_revision={"digits-a": {"200": 3}},
        failed_by_traffic=0,
        write_seconds=0.5,
        last_answer_seconds=None,
        explanation="measured",
        expectations=(Expectation("it works", True, "yes", "yes"),),
        events=(Moment(101.0, "Promoted", "all of it"),),
        record={"attempts": [{"outcome": "RolledBack"}]},
        began=100.0,
    )


def test_the_json_report_has_exactly_the_agreed_keys(tmp_path: Path) -> None:
    write(report(), tmp_path)
    assert json.loads((tmp_path / "report.json").read_text()) == {
        "versions": [{"version": "1.0.0", "revision": "digits-a", "outcome": "Promoted", "accuracy": 0.78}],
        "requests": {"total": 3, "byRevision": {"digits-a": {"200": 3}}, "failedByTraffic": 0},
        "rollback": {"firstBadSampleToWriteSeconds": 0.5, "firstBadSampleToLastAnswerSeconds": None},
    }


def test_the_page_is_self_contained_and_escaped(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    write(report(), tmp_path)
    text = (tmp_path / "report.html").read_text()
    assert "data:image/png;base64," in text
    assert "&lt;b&gt;weak&lt;/b&gt;" in text
    assert "http" not in text
    assert "not measured" in text


def test_a_story_is_right_only_if_every_expectation_is() -> None:
    assert report().went_right
    assert not replace(report(), expectations=()).went_right
    assert not replace(report(), expectations=(Expectation("x", False, "", ""),)).went_right


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    weights = [Weights(90.0, {"digits-a": 100.0}), Weights(110.0, {"digits-b": 100.0})]
    names = {revision: version for version, revision in REVISIONS.items()}
    draw(tmp_path / "p.png", good_recording(), weights, names, [Moment(110, "applied", "", True)], (100.0, 130.0))
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    assert steps_of("digits-a", weights, 100.0, 130.0) == [(0.0, 100.0), (10.0, 0.0), (30.0, 0.0)]


def scene() -> Scene:
    facts = good_facts()
    facts.chronicle.events.append(Moment(120.0, "RolledBack", "errors 0.14 > 0.02", True))
    facts.chronicle.weights.append(Weights(120.0, {"digits-b": 95.0, "digits-c": 5.0}))
    names = {revision: version for version, revision in REVISIONS.items()}
    return Scene(began=100.0, names=names, chronicle=facts.chronicle, recording=facts.recording)


def test_the_plain_line_says_what_moves() -> None:
    text = line(scene(), 118.5)
    assert "RolledBack" in text
    assert "1.1.0 95%" in text
    assert "1.2.0 5% 1/s 100.0% errors p99 100 ms" in text
    assert "errors Breach 0.14 (<= 0.02)" in text
    assert line(Scene(began=1.0), 2.0) == "starting"


def test_the_live_view_renders() -> None:
    out = io.StringIO()
    Console(file=out, width=120).print(picture(scene(), 118.5))
    text = out.getvalue()
    for part in ("1.1.0", "95 %", "Breach", "errors 0.14 > 0.02", "1.2.0 was taken back", "100.0%"):
        assert part in text


@pytest.mark.parametrize(
    ("text", "expected"), [("20s", 20.0), ("1m30s", 90.0), ("500ms", 0.5), ("1h", 3600.0), ("2m", 120.0)]
)
def test_durations(text: str, expected: float) -> None:
    assert seconds(text) == expected


def test_guards_as_bounds() -> None:
    bound = guard_bound({"name": "e", "sli": "error-ratio", "max": 0.02, "window": "20s", "minSamples": 50})
    assert bound is not None
    assert (bound.maximum, bound.window, bound.least) == (0.02, 20.0, 50)
    assert guard_bound({"name": "q", "query": "up", "max": 1}) is None
    assert guard_bound({"name": "r", "sli": "request-rate", "min": 1}) is None
