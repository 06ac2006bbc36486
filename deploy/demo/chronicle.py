"""What the cluster showed, in order: the ModelDeployment's status, the route's weights, the operator's events.

Three watches feed it; the view shows it, the story waits on it, the report is made of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TypeVar

from deploy.demo.kube import Kube, Object, WaitError, describe

T = TypeVar("T")


@dataclass(frozen=True)
class Weights:
    """The weighted rule as a watch saw it at ``at`` (unix seconds): percent by revision."""

    at: float
    percent: dict[str, float]


@dataclass(frozen=True)
class Moment:
    """Something that happened at ``at`` (unix seconds): an event of the operator, or a chapter of the story."""

    at: float
    title: str
    text: str = ""
    warning: bool = False


class Chronicle:
    """Follows one ModelDeployment. Use as ``async with chronicle.following(kube):``."""

    def __init__(self, namespace: str, name: str) -> None:
        self.namespace = namespace
        self.name = name
        self.deployment: Object | None = None
        self.weights: list[Weights] = []
        self.events: list[Moment] = []
        self.phases: list[Moment] = []
        self.slots: dict[str, int] = {}
        self._seen: set[str] = set()
        self._waiting: list[Callable[[], None]] = []
        self._trouble: WaitError | None = None

    @property
    def status(self) -> Object:
        """The last status seen; empty before the first."""
        found: Object = (self.deployment or {}).get("status") or {}
        return found

    @property
    def generation(self) -> int:
        """The generation of the spec last seen."""
        return int((self.deployment or {}).get("metadata", {}).get("generation", 0))

    @contextlib.asynccontextmanager
    async def following(self, kube: Kube) -> AsyncIterator[None]:
        """Follow the cluster inside the block."""
        kinds = (
            ("ModelDeployment", self.see_deployment),
            ("HTTPRoute", self.see_route),
            ("Event", self.see_event),
        )
        tasks = [asyncio.create_task(self._follow(kube, kind, see)) for kind, see in kinds]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, kube: Kube, kind: str, see: Callable[[Object, float], None]) -> None:
        try:
            async for change, item in kube.watch(kind, self.namespace):
                if change == "DELETED":
                    continue
                see(item, time.time())
                self._changed()
        except Exception as error:  # noqa: BLE001 - whoever waits must learn of it, whatever it is
            self._trouble = WaitError(f"cannot follow {kind} in {self.namespace}: {error!r}")
            self._changed()

    def see_deployment(self, item: Object, at: float) -> None:
        """Take note of a ModelDeployment."""
        if item["metadata"]["name"] != self.name:
            return
        self.deployment = item
        phase, message = self.status.get("phase", ""), self.status.get("message", "")
        if phase and (not self.phases or self.phases[-1].title != phase):
            self.phases.append(Moment(at, phase, message))

    def see_route(self, item: Object, at: float) -> None:
        """Take note of the weights of a route, and of the slot of each revision that has any."""
        rules = item.get("spec", {}).get("rules", [])
        if item["metadata"]["name"] != self.name or not rules:
            return
        backends = rules[0].get("backendRefs", [])
        whole = sum(backend.get("weight", 1) for backend in backends) or 1
        percent: dict[str, float] = {}
        for slot, backend in enumerate(backends):
            share = 100.0 * backend.get("weight", 1) / whole
            if share > 0:  # an empty slot repeats the stable Service with weight 0
                self.slots[backend["name"]] = slot
            percent[backend["name"]] = percent.get(backend["name"], 0.0) + share
        if not self.weights or self.weights[-1].percent != percent:
            self.weights.append(Weights(at, percent))

    def see_event(self, item: Object, at: float) -> None:
        """Take note of an event about our ModelDeployment."""
        regarding = item.get("regarding", {})
        if regarding.get("kind") != "ModelDeployment" or regarding.get("name") != self.name:
            return
        key = f"{item['metadata']['uid']}/{item['metadata'].get('resourceVersion')}"
        if key not in self._seen:
            self._seen.add(key)
            warning = item.get("type") == "Warning"
            self.events.append(Moment(at, item.get("reason", ""), item.get("note", ""), warning))

    async def until(self, met: Callable[[Object], bool], expected: str, within: float) -> Object:
        """Wait until ``met`` holds for the status, and return the one for which it held: there may be a newer one.

        Raises WaitError after ``within`` seconds, naming what was ``expected`` and what is.
        """
        return await self._until(
            lambda: self.status if met(self.status) else None, expected, within, lambda: describe(self.deployment)
        )

    async def until_told(self, title: str, within: float) -> Moment:
        """Wait for an event of this reason; returns the first, whenever it came."""
        return await self._until(
            lambda: next((event for event in self.events if event.title == title), None),
            f"event {title}",
            within,
            lambda: f"events {[event.title for event in self.events]}",
        )

    async def until_weights(self, met: Callable[[dict[str, float]], bool], expected: str, within: float) -> float:
        """Wait until ``met`` holds for the weights (percent by revision); returns when that was seen (unix seconds)."""
        return await self._until(
            lambda: self.weights[-1].at if self.weights and met(self.weights[-1].percent) else None,
            expected,
            within,
            lambda: f"weights {self.weights[-1].percent}" if self.weights else "no route",
        )

    def _changed(self) -> None:
        for look in [*self._waiting]:
            look()

    async def _until(self, found: Callable[[], T | None], expected: str, within: float, seen: Callable[[], str]) -> T:
        """Wait until there is something to be ``found``, looked for at each change: they come in bursts."""
        waiting: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def look() -> None:
            if waiting.done():
                return
            try:
                what = found()
            except Exception as error:  # noqa: BLE001 - it is the waiter's own, and not the watch's
                waiting.set_exception(error)
                return
            if what is not None:
                waiting.set_result(what)
            elif self._trouble is not None:
                waiting.set_exception(self._trouble)

        self._waiting.append(look)
        try:
            look()
            return await asyncio.wait_for(waiting, within)
        except TimeoutError:
            raise WaitError(f"expected within {within:.0f} s: {expected}; is: {seen()}") from None
        finally:
            self._waiting.remove(look)

    def taken_off(self, revision: str, after: float) -> float | None:
        """When a watch saw ``revision`` fall from a real weight (1 % or more) to less, first after ``after``."""
        before = 0.0
        for weights in self.weights:
            now = weights.percent.get(revision, 0.0)
            if weights.at > after and before >= 1.0 > now:
                return weights.at
            before = now
        return None


def outcome_of(status: Object, revision: str) -> str | None:
    """How the last finished attempt of ``revision`` ended; None while none has."""
    for entry in status.get("history", []):
        if entry.get("revision") == revision:
            outcome: str | None = entry.get("outcome")
            return outcome
    return None
