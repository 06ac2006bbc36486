"""Draws how a strategy went on a real cluster: docs/strategies/<name>.png from what the cluster tests recorded.

``python deploy/demo/timelines.py [FOLDER] [TO]``. The recordings are those of tests/cluster/timeline.py: one JSON a
story, each list with an entry a change, at seconds since it began.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    # Started as a file: its own folder hides the standard library's names otherwise.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from deploy.demo.place import LOCAL, REPO

Entry = dict[str, Any]
FROM, TO = LOCAL / "timelines", REPO / "docs" / "strategies"

COLOURS = ("#4477aa", "#228833", "#ee7733", "#aa3377", "#ccbb44")
VERDICTS = {"Pass": "#7fbf7b", "Breach": "#cc3333", "NoData": "#cccccc", "ProviderDown": "#998ec3"}
PHASES = {
    "Preparing": "#d9e6f2",
    "Verifying": "#b3cde3",
    "Arming": "#8cb3d9",
    "Progressing": "#ffe0a3",
    "AwaitingApproval": "#f4b6c2",
    "Promoting": "#fdd0a2",
    "Baking": "#c7e9c0",
    "RollingBack": "#f29488",
    "RolledBack": "#f7cfc9",
    "Idle": "#eeeeee",
}
ARMED_PERCENT = 0.0001
LEAD, TAIL = 2.0, 4.0
WARNING, PERSON, TOLD = "#bb2222", "#1f3b8a", "#444444"


@dataclass(frozen=True)
class Span:
    """A value and how long it lasted, in seconds of the picture."""

    start: float
    end: float
    value: Any


@dataclass(frozen=True)
class Timeline:
    """One recording. ``start`` and ``end`` are the part of it that is drawn."""

    raw: Entry
    start: float
    end: float

    @classmethod
    def read(cls, path: Path) -> Timeline:
        """The recording from its last attempts on; a first deployment before them is nothing to look at."""
        raw = json.loads(path.read_text())
        started = [each["at"] for each in raw["events"] if each["reason"] == "RolloutStarted"]
        first = started[1] if len(started) > 1 else started[0] if started else 0.0
        marks = [each["at"] for each in raw["marks"] if each["at"] <= first]
        begun = max(0.0, min(first, *marks[-1:]) - LEAD) if marks else max(0.0, first - LEAD)
        last = max((each["at"] for name in ("weights", "pods", "phases") for each in raw[name]), default=0.0)
        return cls(raw, begun, max(begun + 1.0, min(raw["ended"], last + TAIL)))

    @property
    def length(self) -> float:
        return self.end - self.start

    @property
    def revisions(self) -> list[str]:
        """Those that had pods or weight in the part that is drawn, in order of appearance."""
        seen: dict[str, None] = {}
        for span in (*self.spans("weights"), *self.spans("pods")):
            for name in (*(span.value.get("percent") or ()), *(span.value.get("pods") or ())):
                seen[name] = None
        known = list(self.raw["versions"])
        return sorted(seen, key=lambda name: known.index(name) if name in known else len(known))

    def name(self, revision: str) -> str:
        version = self.raw["versions"].get(revision)
        return f"v{version}" if version else revision

    def spans(self, series: str, **only: str) -> Iterator[Span]:
        """The entries of ``series`` as stretches inside the picture, with times counted from its start."""
        entries = [each for each in self.raw[series] if all(each.get(name) == value for name, value in only.items())]
        for entry, following in zip(entries, [*entries[1:], None], strict=True):
            until = following["at"] if following else self.end
            start, end = max(entry["at"], self.start), min(until, self.end)
            if start < end:
                yield Span(start - self.start, end - self.start, entry)

    def phases(self) -> list[Span]:
        """Phases; entries that differ in their message only are one."""
        merged: list[Span] = []
        for span in self.spans("phases"):
            phase = span.value["phase"]
            if merged and merged[-1].value == phase:
                merged[-1] = Span(merged[-1].start, span.end, phase)
            else:
                merged.append(Span(span.start, span.end, phase))
        return merged

    def told(self) -> list[tuple[float, str, str]]:
        """(second, text, colour) of what people did and what the operator told from then on, in order of time."""
        found = [(each["at"], each["text"], PERSON) for each in self.raw["marks"]]
        # Events of what was before are there too: a watch begins with all that is known.
        first = min((at for at, _, _ in found), default=self.start)
        found += [(each["at"], each["reason"], WARNING if each["warning"] else TOLD) for each in self.raw["events"]]
        return sorted(
            (at - self.start, text, colour) for at, text, colour in found if max(first, self.start) <= at <= self.end
        )


def steps(spans: Sequence[Span], values: Sequence[float]) -> tuple[list[float], list[float]]:
    """Points of a line that jumps where a stretch begins."""
    times: list[float] = []
    heights: list[float] = []
    for span, value in zip(spans, values, strict=True):
        times += [span.start, span.end]
        heights += [value, value]
    return times, heights


def apart(times: Sequence[float], least: float) -> list[float]:
    """Where labels go so that they keep ``least`` from each other, moved to the right as little as needed."""
    places: list[float] = []
    for time in times:
        places.append(max(time, places[-1] + least) if places else time)
    return places


def draw(timeline: Timeline, path: Path) -> None:
    """Write the picture as PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    guards = list(dict.fromkeys(each["name"] for each in timeline.raw["guards"]))
    asked = any(each["requests"] for each in timeline.raw["requests"])
    ratios = [1.05, 0.28, 1.7, 1.0, *([1.1] if asked else []), *([0.12 + 0.26 * len(guards)] if guards else [])]
    figure, axes = pyplot.subplots(
        len(ratios), 1, figsize=(10, 1.2 * sum(ratios)), sharex=True, height_ratios=ratios, layout="constrained"
    )
    panels = list(axes)
    _draw_told(panels[0], timeline)
    _draw_phases(panels[1], timeline)
    _draw_weights(panels[2], timeline)
    _draw_pods(panels[3], timeline)
    if asked:
        _draw_requests(panels[4], timeline)
    if guards:
        _draw_guards(panels[-1], timeline, guards)
    for panel in panels:
        panel.set_xlim(0, timeline.length)
    for panel in panels[1:]:
        for at, _, colour in timeline.told():
            panel.axvline(at, color=colour, linestyle=":", linewidth=0.8, alpha=0.7, zorder=0)
    for panel in panels[2:]:
        panel.grid(axis="y", alpha=0.2)
        for side in ("top", "right"):
            panel.spines[side].set_visible(False)
    panels[-1].set_xlabel("seconds", fontsize=9)
    figure.savefig(path, dpi=100, pil_kwargs={"optimize": True})
    pyplot.close(figure)


def _colour(timeline: Timeline, revision: str) -> str:
    return COLOURS[timeline.revisions.index(revision) % len(COLOURS)]


def _draw_told(axis: Any, timeline: Timeline) -> None:
    told = timeline.told()
    axis.axis("off")
    axis.set_ylim(0, 1)
    for (at, text, colour), place in zip(told, apart([at for at, _, _ in told], timeline.length / 62), strict=True):
        axis.plot([at, place], [0, 0.14], color=colour, linewidth=0.8, clip_on=False)
        axis.text(place, 0.16, text, rotation=55, fontsize=8, color=colour, ha="left", va="bottom", clip_on=False)


def _draw_phases(axis: Any, timeline: Timeline) -> None:
    axis.set_yticks([])
    axis.set_ylim(0, 1)
    axis.set_ylabel("phase", fontsize=9, rotation=0, ha="right", va="center")
    for span in timeline.phases():
        width = span.end - span.start
        axis.axvspan(span.start, span.end, color=PHASES.get(span.value, "#ffffff"), linewidth=0)
        if width > len(span.value) * timeline.length / 125:
            axis.text(span.start + width / 2, 0.5, span.value, ha="center", va="center", fontsize=8)


def _draw_weights(axis: Any, timeline: Timeline) -> None:
    spans = list(timeline.spans("weights"))
    axis.set_ylabel("users, %", fontsize=9)
    axis.set_ylim(0, 106)
    axis.set_yticks([0, 25, 50, 75, 100])
    for revision in timeline.revisions:
        colour, name = _colour(timeline, revision), timeline.name(revision)
        shares = [(span.value.get("percent") or {}).get(revision, 0.0) for span in spans]
        times, heights = steps(spans, shares)
        axis.plot(times, heights, color=colour, linewidth=2, label=name)
        axis.fill_between(times, heights, color=colour, alpha=0.12, linewidth=0)
        _annotate_small(axis, spans, shares, colour)
        copied = [(span.value.get("mirror") or {}).get(revision, 0.0) for span in spans]
        if any(copied):
            axis.plot(*steps(spans, copied), color=colour, linewidth=1.5, linestyle="--", label=f"copies to {name}")
        split = [span for span in spans if span.value.get("split") == revision]
        for span in split:
            axis.hlines(103, span.start, span.end, color=colour, linewidth=3, label=f"A/B rules and cookies: {name}")
    handles = dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    axis.legend(handles.values(), handles, loc="center left", fontsize=8, framealpha=0.85)


def _annotate_small(axis: Any, spans: Sequence[Span], shares: Sequence[float], colour: str) -> None:
    """Shares that nobody would see, in figures; an armed backend (one in a million) gets none."""
    for span, share, before in zip(spans, shares, [None, *shares], strict=False):
        if ARMED_PERCENT < share < 10 and share != before:
            axis.text(span.start, share + 2, f"{share:g} %", fontsize=8, color=colour, va="bottom")


def _draw_pods(axis: Any, timeline: Timeline) -> None:
    spans = list(timeline.spans("pods"))
    axis.set_ylabel("pods", fontsize=9)
    top = 1
    for place, revision in enumerate(timeline.revisions):
        colour = _colour(timeline, revision)
        pods = [span.value["pods"].get(revision, {}) for span in spans]
        ready, wanted = [each.get("ready") or 0 for each in pods], [each.get("wanted") or 0 for each in pods]
        top = max(top, *ready, *wanted)
        lift = 0.03 * place  # two fleets of one size are two lines
        times, heights = steps(spans, ready)
        axis.plot(times, [height + lift for height in heights], color=colour, linewidth=2)
        axis.fill_between(times, heights, color=colour, alpha=0.12, linewidth=0)
        times, heights = steps(spans, wanted)
        axis.plot(times, [height + lift for height in heights], color=colour, linewidth=1, linestyle=":")
    axis.set_ylim(0, top * 1.15)
    axis.set_yticks(range(0, top + 1, 1 if top < 5 else 2))
    _note(axis, "solid: ready, dotted: asked for")


def _draw_requests(axis: Any, timeline: Timeline) -> None:
    axis.set_ylabel("answers/s", fontsize=9)
    errors: dict[float, int] = {}
    for revision in dict.fromkeys(each["revision"] for each in timeline.raw["requests"]):
        seconds = [
            each
            for each in timeline.raw["requests"]
            if each["revision"] == revision and timeline.start <= each["at"] <= timeline.end
        ]
        times = [each["at"] - timeline.start + 0.5 for each in seconds]
        colour = _colour(timeline, revision) if revision in timeline.revisions else "#888888"
        good = [each["requests"] - each["errors"] for each in seconds]
        if revision is not None or any(good):  # without a gateway answers do not tell their revision
            axis.plot(times, good, color=colour, linewidth=1.2)
        for time, each in zip(times, seconds, strict=True):
            errors[time] = errors.get(time, 0) + each["errors"]
    failed = {time: count for time, count in errors.items() if count}
    axis.bar(list(failed), list(failed.values()), width=1.0, color=WARNING)
    _note(axis, f"good ones, as clients saw; red: {sum(failed.values())} failed")
    axis.set_ylim(bottom=0)


def _note(axis: Any, text: str) -> None:
    axis.text(1.0, 1.0, text, transform=axis.transAxes, fontsize=7, ha="right", va="bottom")


def _draw_guards(axis: Any, timeline: Timeline, guards: Sequence[str]) -> None:
    axis.set_ylim(len(guards), 0)
    axis.set_yticks([place + 0.5 for place in range(len(guards))], [f"guard {name}" for name in guards], fontsize=8)
    axis.tick_params(axis="y", length=0)
    for place, name in enumerate(guards):
        for span in timeline.spans("guards", name=name):
            guard, width = span.value, span.end - span.start
            colour = VERDICTS.get(guard["verdict"], "#ffffff")
            axis.barh(place + 0.5, width, left=span.start, height=0.8, color=colour, edgecolor="white", linewidth=0.8)
            value = "" if guard["value"] is None else f"{guard['value']:.3g} {guard['threshold']}"
            text = value if guard["verdict"] in ("Pass", "Breach") else f"{guard['verdict']} {value}".strip()
            if width > len(text) * timeline.length / 140:
                axis.text(span.start + width / 2, place + 0.5, text, ha="center", va="center", fontsize=7)


def main(arguments: Sequence[str]) -> int:
    """Draw every recording of a folder; 1 where there is none."""
    folder = Path(arguments[0]) if arguments else FROM
    to = Path(arguments[1]) if len(arguments) > 1 else TO
    recordings = sorted(folder.glob("*.json"))
    if not recordings:
        print(f"no recordings in {folder}: the cluster tests write them (make test)", file=sys.stderr)
        return 1
    for recording in recordings:
        picture = to / f"{recording.stem}.png"
        draw(Timeline.read(recording), picture)
        print(f"{picture}: {picture.stat().st_size // 1024} kB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
