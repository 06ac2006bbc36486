from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from deploy.demo.timelines import Timeline, apart, draw, main

OLD, NEW = "digits-aaaaaaaaaa", "digits-bbbbbbbbbb"


def recording(**changes: Any) -> dict[str, Any]:
    weights = [(8.0, {OLD: 100.0}, {}), (30.0, {OLD: 100.0, NEW: 0.0}, {NEW: 25.0}), (55.0, {NEW: 100.0}, {})]
    pods = [(7.0, {OLD: 2}), (21.0, {OLD: 2, NEW: 0}), (28.0, {OLD: 2, NEW: 2})]
    phases = [(0.0, "Preparing", "a"), (8.0, "Idle", ""), (20.0, "Preparing", "a"), (22.0, "Preparing", "b")]
    events = [(0.0, "RolloutStarted"), (20.0, "RolloutStarted"), (55.0, "Promoted")]
    return {
        "ended": 90.0,
        "versions": {OLD: "1.0.0", NEW: "1.1.0"},
        "weights": [
            {"at": at, "percent": percent, "mirror": mirror, "split": None, "preview": None}
            for at, percent, mirror in weights
        ],
        "pods": [
            {"at": at, "pods": {name: {"wanted": 2, "ready": ready} for name, ready in found.items()}}
            for at, found in pods
        ],
        "phases": [{"at": at, "phase": phase, "step": "", "message": text} for at, phase, text in phases],
        "guards": [{"at": 40.0, "name": "errors", "verdict": "Pass", "value": 0.001, "threshold": "<= 0.02"}],
        "arms": [],
        "events": [{"at": at, "reason": reason, "note": "", "warning": False} for at, reason in events],
        "marks": [{"at": 19.0, "text": "apply 1.1.0"}],
        "requests": [{"at": 10.0, "revision": OLD, "requests": 50, "errors": 1, "p99": 0.02}],
        **changes,
    }


def read(folder: Path, **changes: Any) -> Timeline:
    path = folder / "blue-green.json"
    path.write_text(json.dumps(recording(**changes)))
    return Timeline.read(path)


def test_it_begins_with_what_the_person_did_before_the_attempt_and_ends_soon_after_the_last_change(
    tmp_path: Path,
) -> None:
    timeline = read(tmp_path)
    assert (timeline.start, timeline.end) == (17.0, 59.0)
    assert timeline.revisions == [OLD, NEW]
    assert [text for _, text, _ in timeline.told()] == ["apply 1.1.0", "RolloutStarted", "Promoted"]


def test_phases_that_differ_in_their_message_only_are_one(tmp_path: Path) -> None:
    found = [(span.value, span.start, span.end) for span in read(tmp_path).phases()]
    assert found == [("Idle", 0.0, 3.0), ("Preparing", 3.0, 42.0)]


def test_labels_keep_apart_and_move_to_the_right_only() -> None:
    assert apart([0.0, 0.1, 5.0], 1.0) == [0.0, 1.0, 5.0]


def test_every_recording_becomes_a_small_picture(tmp_path: Path) -> None:
    read(tmp_path)
    assert main([str(tmp_path), str(tmp_path)]) == 0
    picture = tmp_path / "blue-green.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size < 150_000


def test_a_story_without_clients_and_guards_is_drawn_too(tmp_path: Path) -> None:
    draw(read(tmp_path, requests=[], guards=[], marks=[]), tmp_path / "bare.png")
    assert (tmp_path / "bare.png").exists()


def test_without_recordings_it_says_where_they_come_from(tmp_path: Path, capsys: Any) -> None:
    assert main([str(tmp_path)]) == 1
    assert "no recordings" in capsys.readouterr().err
