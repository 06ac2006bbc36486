"""Turns what was told into the report: measures the rollback, judges the expectations, draws the picture."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
from deploy.demo.chronicle import Moment, outcome_of
from deploy.demo.drawing import draw
from deploy.demo.evidence import Bound, arm_counters, write_seen_at
from deploy.demo.expectations import Facts, judged, lost_answers
from deploy.demo.install import NAMESPACE, RELEASE
from deploy.demo.kube import Kube, KubeError, Object
from deploy.demo.report import Expectation, Report, VersionResult, write
from deploy.demo.story import Story
from deploy.demo.training import RECIPES, V3

TAIL = 5.0
"""The last seconds of traffic by which it is judged who serves at the end."""


SHOWN = ("Promoted", "RolledBack")
"""Events that get a mark in the picture."""


@dataclass(frozen=True)
class RollbackTimes:
    """Seconds from the first bad sample; None where it could not be measured, and ``explanation`` says why."""

    to_write: float | None
    to_last_answer: float | None
    explanation: str
    first_bad: float | None = None


async def concluded(story: Story, kube: Kube, folder: Path) -> Report:
    """Measure, judge, draw and write the report; works too when the story ended early."""
    told, chronicle = story.told, story.chronicle
    record = await _record(story, kube)
    times = await rollback_times(story)
    answers = told.recording.answers
    end = answers[-1].at if answers else 0.0
    facts = Facts(
        told.revisions,
        chronicle,
        told.recording,
        told.recording.between(end - TAIL, end + 1),
        f"{story.place.kubectl} -n {story.options.namespace}",
    )
    expectations = judged(facts)
    if told.stopped:
        look = f"{facts.look} get mdep,mrev,pods,events; {story.place.kubectl} -n {NAMESPACE} logs deploy/{RELEASE}"
        expectations = (
            Expectation("the story came to its end", False, "all chapters", told.stopped, look),
            *expectations,
        )
    report = Report(
        versions=tuple(
            VersionResult(
                recipe.version,
                told.revisions[recipe.version],
                outcome_of(chronicle.status, told.revisions[recipe.version]) or "none",
                told.recording.accuracy(told.revisions[recipe.version]),
                recipe.story,
            )
            for recipe in RECIPES
            if recipe.version in told.revisions
        ),
        total=len(answers),
        by_revision=told.recording.by_revision(),
        failed_by_traffic=len(lost_answers(told.recording, told.revisions)),
        write_seconds=times.to_write,
        last_answer_seconds=times.to_last_answer,
        explanation=times.explanation,
        expectations=expectations,
        events=tuple(chronicle.events),
        record=record,
        began=story.screen.scene.began,
        note=_note(story),
    )
    await asyncio.to_thread(_drawn, story, times, folder)
    await asyncio.to_thread(write, report, folder)
    return report


def _note(story: Story) -> str:
    recording = story.told.recording
    held = f"; {recording.held_back} were not sent because too many were under way" if recording.held_back else ""
    return f"Steady traffic of {story.options.rate:.0f} requests/s of held-out images, no retries{held}."


def _drawn(story: Story, times: RollbackTimes, folder: Path) -> None:
    recording = story.told.recording
    if not recording.answers:
        return
    folder.mkdir(parents=True, exist_ok=True)
    marks = [Moment(at, f"{version} applied") for version, at in story.told.applied.items()]
    marks += [Moment(e.at, e.title, "", e.warning) for e in story.chronicle.events if e.title in SHOWN]
    if times.first_bad is not None:
        marks.append(Moment(times.first_bad, "first bad sample", "", True))
    start, end = recording.answers[0].sent, recording.answers[-1].at
    shown = [mark for mark in marks if mark.at >= start]
    draw(folder / "picture.png", recording, story.chronicle.weights, story.screen.scene.names, shown, (start, end))


async def rollback_times(story: Story) -> RollbackTimes:
    """Measure the rollback of v3 against Prometheus' samples and the API server's log."""
    told, chronicle = story.told, story.chronicle
    revision = told.revisions.get(V3.version)
    applied = told.applied.get(V3.version, 0.0)
    seen = chronicle.taken_off(revision, applied) if revision else None
    if revision is None or seen is None:
        return RollbackTimes(None, None, "There was no rollback to measure: no weight was taken off the bad version.")
    place = story.place
    wrote = write_seen_at(place.audit_log, chronicle.namespace, chronicle.name, seen)
    source = "the API server's audit log" if place.audit_log else "a watch on the HTTPRoute"
    rollout = chronicle.status.get("rollout") or {}
    since = _seconds(rollout.get("trafficStartedAt")) or applied
    bounds = [guard_bound(guard) for guard in _guards(chronicle.deployment)]
    cluster = f"httproute/{chronicle.namespace}/{chronicle.name}/rule/0/backend/{chronicle.slots[revision]}"
    try:
        counters = await arm_counters(place.prometheus_here, cluster, since, wrote + 5)
    except (aiohttp.ClientError, TimeoutError, ValueError, KeyError) as error:
        return RollbackTimes(None, None, f"Prometheus could not be asked afterwards: {error!r}")
    firsts = [counters.first_breach(bound, since) for bound in bounds if bound is not None]
    found = [first for first in firsts if first is not None]
    if not found:
        return RollbackTimes(None, None, "Prometheus stored no sample that shows the breach.")
    first, last = min(found), told.recording.last_answer(revision)
    explanation = (
        f"The first bad sample is the first scrape in Prometheus that shows a guard's breach, worked out from the raw "
        f"counters of {revision} at the gateway; the write is from {source}."
    )
    return RollbackTimes(wrote - first, last - first if last is not None else None, explanation, first)


def _guards(deployment: Object | None) -> list[Object]:
    found: list[Object] = (deployment or {}).get("spec", {}).get("rollout", {}).get("guards", [])
    return found


def guard_bound(guard: Object) -> Bound | None:
    """A guard of the spec as a bound; None where it is none on errors or latency."""
    if guard.get("sli") not in ("error-ratio", "latency-p50", "latency-p95", "latency-p99") or "max" not in guard:
        return None
    return Bound(guard["sli"], guard["max"], seconds(guard.get("window", "1m")), guard.get("minSamples", 0))


UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(duration: str) -> float:
    """A duration like ``1m30s`` in seconds."""
    return sum(float(number) * UNITS[unit] for number, unit in re.findall(r"([\d.]+)(ms|s|m|h)", duration))


def _seconds(text: str | None) -> float | None:
    return datetime.fromisoformat(text).timestamp() if text else None


async def _record(story: Story, kube: Kube) -> dict[str, Any] | None:
    """What the operator wrote down about v3: the status of its ModelRevision."""
    revision = story.told.revisions.get(V3.version)
    if revision is None:
        return None
    try:
        found = await kube.get("ModelRevision", story.options.namespace, revision)
    except (KubeError, aiohttp.ClientError, TimeoutError):
        return None
    return (found or {}).get("status")
