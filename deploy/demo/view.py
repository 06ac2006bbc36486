"""The live terminal view: chapters above, below them what moves now. Without a terminal, plain lines instead."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from deploy.demo.chronicle import Chronicle, Moment
from deploy.demo.recording import NO_REVISION, Bin, Recording
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

BAR = 30
COLOURS = ("cyan", "green", "red", "magenta", "yellow")
EVENTS_SHOWN = 7


@dataclass
class Scene:
    """What the view shows. ``names`` gives a revision its version for people; ``began`` is unix seconds."""

    began: float
    chapters: list[Moment] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    chronicle: Chronicle | None = None
    recording: Recording | None = None

    def name(self, revision: str) -> str:
        """The version of a revision, or its own name while the version is not known."""
        return self.names.get(revision, revision)

    def recent(self, now: float) -> dict[str, Bin]:
        """What clients saw in the last three seconds, by revision."""
        return self.recording.recent(now) if self.recording else {}

    def arms(self, now: float) -> list[str]:
        """The revisions to show, oldest first: those with weight and those that answered just now."""
        there = dict.fromkeys([*self.weights(), *self.recent(now)])
        return [*(name for name in self.names if name in there), *(name for name in there if name not in self.names)]

    def doing(self) -> str:
        """What is going on, in some words: the phase, or the chapter while there is none."""
        phase = self.chronicle.status.get("phase") if self.chronicle else None
        return str(phase or (self.chapters[-1].title if self.chapters else "starting"))

    def weights(self) -> dict[str, float]:
        """Percent by revision, as last seen."""
        seen = self.chronicle.weights if self.chronicle else []
        return seen[-1].percent if seen else {}


class Screen:
    """Shows a scene until closed. ``say`` prints a line that stays; ``chapter`` a heading with the time."""

    def __init__(self, scene: Scene, console: Console | None = None) -> None:
        self.scene = scene
        self.console = console or Console(highlight=False)

    def chapter(self, title: str, text: str = "") -> None:
        """Begin a chapter of the story."""
        now = time.time()
        self.scene.chapters.append(Moment(now, title, text))
        self.console.print()
        self.console.print(Text(f"[{clock(now - self.scene.began)}] {title}", style="bold"), soft_wrap=True)
        if text:
            self.say(text)

    def say(self, text: str, style: str = "") -> None:
        """Print a line that stays."""
        self.console.print(Text(f"        {text}", style=style), soft_wrap=True)

    @contextlib.asynccontextmanager
    async def shown(self) -> AsyncIterator[None]:
        """Show the scene inside the block: live on a terminal, else a line every three seconds."""
        if self.console.is_terminal:
            with Live(console=self.console, auto_refresh=False, transient=True) as live:
                async with _repeating(lambda: live.update(picture(self.scene, time.time()), refresh=True), 0.25):
                    yield
        else:
            async with _repeating(self._line, 3.0):
                yield

    def _line(self) -> None:
        print(f"[{clock(time.time() - self.scene.began)}] {line(self.scene, time.time())}", flush=True)


@contextlib.asynccontextmanager
async def _repeating(action: object, seconds: float) -> AsyncIterator[None]:
    if not callable(action):
        raise TypeError("action must be callable")

    async def repeat() -> None:
        while True:
            action()
            await asyncio.sleep(seconds)

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        task.cancel()
        (ended,) = await asyncio.gather(task, return_exceptions=True)
        if isinstance(ended, Exception):
            print(f"the view failed and was closed: {ended!r}", file=sys.stderr)


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"


def line(scene: Scene, now: float) -> str:
    """The scene in one plain line."""
    status = scene.chronicle.status if scene.chronicle else {}
    rollout = status.get("rollout") or {}
    step = f" step {rollout['stepOf']}" if rollout.get("stepOf") and not rollout.get("outcome") else ""
    parts = [f"{scene.doing()}{step}"]
    recent, weights = scene.recent(now), scene.weights()
    for revision in scene.arms(now):
        seen = recent.get(revision)
        text = f"{scene.name(revision)} {weights.get(revision, 0.0):.4g}%"
        parts.append(f"{text} {numbers(seen)}" if seen else text)
    guards = rollout.get("guards", [])
    parts += [f"{guard['name']} {guard['verdict']} {value_of(guard)}" for guard in guards]
    return " | ".join(parts)


def numbers(seen: Bin, seconds: float = 3.0) -> str:
    """Requests a second, errors and p99 of some seconds, in one phrase."""
    errors = 100.0 * seen.errors / seen.requests if seen.requests else 0.0
    p99 = f"{seen.p99 * 1000:.0f} ms" if seen.p99 is not None else "-"
    return f"{seen.requests / seconds:.0f}/s {errors:.1f}% errors p99 {p99}"


def value_of(guard: dict[str, object]) -> str:
    """A guard's value beside its bound."""
    value = guard.get("value")
    shown = f"{value:.4g}" if isinstance(value, int | float) else "-"
    return f"{shown} ({guard.get('threshold', '')})"


def picture(scene: Scene, now: float) -> RenderableType:
    """The scene for a terminal."""
    status = scene.chronicle.status if scene.chronicle else {}
    rollout = status.get("rollout") or {}
    head = Text(f" {clock(now - scene.began)} ", style="reverse")
    head.append(f" {scene.doing()}", style="bold")
    if rollout.get("stepOf") and not rollout.get("outcome"):
        head.append(f"  step {rollout['stepOf']}")
    head.append(f"  {status.get('message', '')}", style="dim")
    parts: list[RenderableType] = [Text(), head]
    if scene.recording or scene.weights():
        parts.append(_arms(scene, now))
    if rollout.get("guards"):
        parts.append(_guards(rollout["guards"]))
    if scene.chronicle and scene.chronicle.events:
        parts.append(_events(scene, scene.chronicle.events[-EVENTS_SHOWN:]))
    return Group(*parts)


def _arms(scene: Scene, now: float) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title, justify in (("version", "left"), ("weight", "left"), ("", "right"), ("requests/s", "right")):
        table.add_column(title, justify="left" if justify == "left" else "right")
    for title in ("errors", "p99"):
        table.add_column(title, justify="right")
    recent, weights = scene.recent(now), scene.weights()
    known = list(dict.fromkeys([*scene.names, *weights]))
    for revision in scene.arms(now):
        colour = COLOURS[known.index(revision) % len(COLOURS)] if revision in known else "red"
        percent = weights.get(revision, 0.0)
        filled = round(BAR * percent / 100)
        bar = Text("█" * filled, style=colour) + Text("·" * (BAR - filled), style="dim")
        seen = recent.get(revision)
        name = "no revision" if revision == NO_REVISION else scene.name(revision)
        cells = [Text(name, style=colour), bar, Text(f"{percent:.4g} %")]
        if seen and seen.requests:
            share = seen.errors / seen.requests
            p99 = f"{seen.p99 * 1000:.0f} ms" if seen.p99 is not None else ""
            errors = Text(f"{share:.1%}", style="bold red" if share else "")
            cells += [Text(f"{seen.requests / 3:.0f}"), errors, Text(p99)]
        table.add_row(*cells)
    return table


def _guards(guards: list[dict[str, object]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("guard", "verdict", "value", "samples"):
        table.add_column(title)
    styles = {"Pass": "green", "Breach": "bold red", "NoData": "yellow", "ProviderDown": "yellow"}
    for guard in guards:
        verdict, samples = str(guard["verdict"]), guard.get("samples")
        shown = f"{samples:.0f}" if isinstance(samples, int | float) else ""
        table.add_row(str(guard["name"]), Text(verdict, style=styles.get(verdict, "")), value_of(guard), shown)
    return table


def _events(scene: Scene, events: list[Moment]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", show_header=False)
    for event in events:
        style = "yellow" if event.warning else "dim"
        when = clock(event.at - scene.began)
        table.add_row(Text(when, style="dim"), Text(event.title, style=style), Text(event.text, style=style))
    return table
