"""The whole story on a pretend cluster: an API server that plays the operator, and a gateway that answers."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from deploy.demo import outcome, story
from deploy.demo.evidence import ArmCounters
from deploy.demo.kube import KubeError
from deploy.demo.place import Place, existing_place
from deploy.demo.recording import TRITON_FAILURE
from deploy.demo.report import Report
from deploy.demo.story import Options, Story
from deploy.demo.view import Scene, Screen
from rich.console import Console

from tests.unit.demo.test_place import environment

PLAYS = {"1.0.0": "Promoted", "1.1.0": "Promoted", "1.2.0": "RolledBack"}


class Pretend:
    """Answers as an API server and a gateway would, while ``plays`` says how each attempt ends."""

    def __init__(self, plays: dict[str, str]) -> None:
        self.plays = plays
        self.namespaces: dict[str, dict[str, Any]] = {}
        self.applied: list[dict[str, Any]] = []
        self.changes: dict[str, asyncio.Queue[tuple[str, dict[str, Any]]]] = {}
        self.history: list[dict[str, Any]] = []
        self.quarantined: list[str] = []
        self.serving = ""
        self.refuse: KubeError | None = None

    def queue(self, kind: str) -> asyncio.Queue[tuple[str, dict[str, Any]]]:
        return self.changes.setdefault(kind, asyncio.Queue())

    async def watch(self, kind: str, namespace: str) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        while True:
            yield await self.queue(kind).get()

    async def get(self, kind: str, namespace: str | None, name: str) -> dict[str, Any] | None:
        return self.namespaces.get(name) if kind == "Namespace" else {"status": {"outcome": "RolledBack"}}

    async def list(self, kind: str, namespace: str) -> list[dict[str, Any]]:
        return []

    async def delete(self, kind: str, namespace: str | None, name: str, grace: int | None = None) -> bool:
        return self.namespaces.pop(name, None) is not None

    async def wait_gone(self, kind: str, namespace: str | None, name: str) -> None:
        assert name not in self.namespaces

    async def apply(self, body: dict[str, Any]) -> dict[str, Any]:
        if body["kind"] == "Namespace":
            self.namespaces[body["metadata"]["name"]] = body
        if body["kind"] == "ModelDeployment":
            if self.refuse is not None:
                raise self.refuse
            self.applied.append(body)
            self.play(body, len(self.applied))
        return {**body, "metadata": {**body["metadata"], "generation": len(self.applied)}}

    def play(self, body: dict[str, Any], generation: int) -> None:
        version = body["spec"]["model"]["version"]
        revision = f"digits-{version}"
        self.show(body, generation, "Preparing", revision)
        ending = self.plays[version]
        if ending == "RolledBack":
            for weight in (1, 50_000, 1):
                self.route((self.serving, 1_000_000 - weight), (revision, weight))
            self.event("RolledBack", "errors 0.14 > 0.02")
            self.quarantined.insert(0, revision)
        else:
            self.serving = revision
            self.route((revision, 1_000_000))
        reason = "GuardBreached" if ending == "RolledBack" else "Promoted"
        self.history.insert(0, {"revision": revision, "outcome": ending, "reason": reason, "message": "because"})
        self.show(body, generation, "RolledBack" if ending == "RolledBack" else "Idle", revision)

    def show(self, body: dict[str, Any], generation: int, phase: str, revision: str) -> None:
        status = {"observedGeneration": generation, "phase": phase, "revisions": {"desired": revision}}
        status |= {"history": list(self.history), "quarantined": list(self.quarantined)}
        item = {**body, "metadata": {**body["metadata"], "generation": generation}, "status": status}
        self.queue("ModelDeployment").put_nowait(("MODIFIED", item))

    def route(self, *backends: tuple[str, int]) -> None:
        refs = [{"name": name, "weight": weight} for name, weight in backends]
        item = {"metadata": {"name": "digits"}, "spec": {"rules": [{"backendRefs": refs}]}}
        self.queue("HTTPRoute").put_nowait(("MODIFIED", item))

    def event(self, reason: str, note: str) -> None:
        about = {"kind": "ModelDeployment", "name": "digits"}
        item = {"metadata": {"uid": reason}, "reason": reason, "note": note, "type": "Warning", "regarding": about}
        self.queue("Event").put_nowait(("ADDED", item))

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        headers = {"x-model-revision": self.serving}
        if self.quarantined and sum(body["inputs"][0]["data"]) % 7 == 0:
            text = json.dumps({"error": f"{TRITON_FAILURE} 'digits', message: x"})
            return web.Response(status=500, text=text, headers={"x-model-revision": self.quarantined[0]})
        return web.json_response({"outputs": [{"data": [len(self.history)]}]}, headers=headers)


@contextlib.asynccontextmanager
async def told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pretend: Pretend
) -> AsyncIterator[tuple[Story, Report, str]]:
    app = web.Application()
    app.router.add_post("/v2/models/digits/infer", pretend.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    place = replace(
        existing_place(environment(tmp_path / "kubeconfig")), gateway_here=f"127.0.0.1:{runner.addresses[0][1]}"
    )

    async def installed(place: Place, kube: object, folder: Path) -> str:
        return "installed"

    async def counters(prometheus: str, cluster: str, start: float, end: float) -> ArmCounters:
        return ArmCounters({"5": [[(start + 1, 60.0)]]}, {})

    monkeypatch.setattr(story, "install", installed)
    monkeypatch.setattr(story, "open_store", lambda *_: None)
    monkeypatch.setattr(story, "upload", lambda store, folder, prefix: 1024)
    monkeypatch.setattr(outcome, "arm_counters", counters)
    out = io.StringIO()
    screen = Screen(Scene(began=0.0), Console(file=out, width=200))
    options = Options(rate=400.0, tail=0.2, alone=0.2)
    one = Story(place, pretend, screen, options, tmp_path)  # type: ignore[arg-type]
    try:
        await one.tell()
        yield one, await outcome.concluded(one, pretend, tmp_path), out.getvalue()  # type: ignore[arg-type]
    finally:
        await runner.cleanup()


async def test_the_story_as_it_should_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with told(tmp_path, monkeypatch, Pretend(PLAYS)) as (one, report, said):
        assert one.told.stopped == ""
        assert [(v.version, v.outcome) for v in report.versions] == list(PLAYS.items())
        assert report.failed_by_traffic == 0
        assert report.write_seconds is not None
        assert report.last_answer_seconds is not None
        assert "unit checks pass" in said
    assert all((tmp_path / name).exists() for name in ("report.json", "report.html", "picture.png"))
    # A pretend model only guesses, and a story of a second has no five quiet seconds at its end.
    unmet = {one.name for one in report.expectations if not one.met}
    assert unmet <= {"1.1.0 answers better than 1.0.0", "1.1.0 serves alone at the end"}
    promises = {expectation.name: expectation.met for expectation in report.expectations}
    assert promises["1.2.0 is quarantined"]
    assert promises["no request was lost by moving traffic"]


@pytest.mark.parametrize(("version", "ending"), [("1.1.0", "RolledBack"), ("1.2.0", "Promoted")])
async def test_another_ending_is_a_failure_with_a_report(
    version: str, ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with told(tmp_path, monkeypatch, Pretend(PLAYS | {version: ending})) as (one, report, _):
        assert version in one.told.stopped
        assert not report.went_right
        assert (tmp_path / "report.json").exists()


async def test_a_refused_spec_is_a_failure_with_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend = Pretend(PLAYS)
    pretend.refuse = KubeError(422, "spec.rollout.guards: must not be empty")
    async with told(tmp_path, monkeypatch, pretend) as (one, report, _):
        assert "must not be empty" in one.told.stopped
        assert not report.went_right
        assert report.write_seconds is None
        assert "no rollback to measure" in report.explanation


async def test_a_namespace_of_somebody_else_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend = Pretend(PLAYS)
    pretend.namespaces["modelrollout-demo"] = {"metadata": {"name": "modelrollout-demo"}}
    async with told(tmp_path, monkeypatch, pretend) as (one, _, _):
        assert "is not the demo's" in one.told.stopped
    assert pretend.namespaces["modelrollout-demo"] == {"metadata": {"name": "modelrollout-demo"}}
