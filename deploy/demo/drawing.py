"""The picture of the story: weights, requests, errors and latency over time, with marks for what happened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deploy.demo.chronicle import Moment, Weights
from deploy.demo.recording import Recording

COLOURS = ("#4477aa", "#228833", "#ee6677", "#aa3377", "#ccbb44")


def draw(
    path: Path,
    recording: Recording,
    weights: list[Weights],
    names: dict[str, str],
    marks: list[Moment],
    span: tuple[float, float],
) -> None:
    """Write the picture as PNG. ``span`` is (start, end) in unix seconds; ``names`` gives revisions their versions."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    start, end = span
    figure, axes = pyplot.subplots(4, 1, figsize=(11, 10), sharex=True, layout="constrained")
    titles = ("share of the route, %", "requests/s, as clients saw", "errors, % of answers", "p99 latency, ms")
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title(title, loc="left", fontsize=10)
        axis.grid(alpha=0.25)
        axis.set_xlim(0, end - start)
    for place, (revision, name) in enumerate(names.items()):
        _draw_revision(axes, revision, name, COLOURS[place % len(COLOURS)], recording, weights, span)
    for axis in axes:
        axis.set_ylim(bottom=0)
        for mark in marks:
            style = {"color": "#bb2222" if mark.warning else "#555555", "linestyle": "--", "linewidth": 1}
            axis.axvline(mark.at - start, **style)
    top = axes[0].get_ylim()[1]
    for mark in marks:
        axes[0].annotate(
            mark.title, (mark.at - start, top), rotation=90, fontsize=8, ha="right", va="top", xytext=(-2, -4),
            textcoords="offset points", color="#bb2222" if mark.warning else "#333333",
        )  # fmt: skip
    axes[1].legend(*axes[0].get_legend_handles_labels(), loc="center left", fontsize=9)
    axes[-1].set_xlabel("seconds since the first request")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _draw_revision(
    axes: Any,
    revision: str,
    name: str,
    colour: str,
    recording: Recording,
    weights: list[Weights],
    span: tuple[float, float],
) -> None:
    start, end = span
    steps = steps_of(revision, weights, start, end)
    axes[0].step([at for at, _ in steps], [percent for _, percent in steps], where="post", color=colour, label=name)
    bins = recording.bins(revision, start, end)
    times = [one.start - start + 0.5 for one in bins]
    axes[1].plot(times, [one.requests for one in bins], color=colour, linewidth=1.2)
    errors = [100 * one.errors / one.requests if one.requests else float("nan") for one in bins]
    axes[2].plot(times, errors, color=colour, linewidth=1.2, marker=".", markersize=3)
    latencies = [one.p99 * 1000 if one.p99 is not None else float("nan") for one in bins]
    axes[3].plot(times, latencies, color=colour, linewidth=1.2, marker=".", markersize=3)


def steps_of(revision: str, weights: list[Weights], start: float, end: float) -> list[tuple[float, float]]:
    """Percent of a revision as (seconds since start, percent), from the start to the end."""
    before = [one for one in weights if one.at <= start]
    points = [(0.0, before[-1].percent.get(revision, 0.0) if before else 0.0)]
    points += [(one.at - start, one.percent.get(revision, 0.0)) for one in weights if start < one.at <= end]
    return [*points, (end - start, points[-1][1])]
