"""The story: install, train, upload, v1 serves, v2 is promoted, v3 is taken back. Each chapter waits on the cluster."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from deploy.demo import manifests
from deploy.demo.chronicle import Chronicle, outcome_of
from deploy.demo.install import install
from deploy.demo.kube import Kube, KubeError, Object, WaitError
from deploy.demo.place import Place, UnusableError
from deploy.demo.recording import Recording
from deploy.demo.store import open_store, upload
from deploy.demo.traffic import RestSender, Traffic
from deploy.demo.training import (
    MODEL_NAME,
    RECIPES,
    V1,
    V2,
    V3,
    Digits,
    Recipe,
    load_digits_data,
    train,
    write_repository,
)
from deploy.demo.unitchecks import run_unit_checks
from deploy.demo.view import Screen
from obstore.exceptions import BaseError

FAILURES = (WaitError, KubeError, UnusableError, BaseError, aiohttp.ClientError, TimeoutError)
"""What a cluster can do to the story; anything else is a fault of the demo itself and may show its traceback."""

DEMO_LABEL = "modelrollout.io/demo"


@dataclass(frozen=True)
class Options:
    """What can be chosen. ``rate`` is in requests a second, ``tail`` the seconds to look on at the end.

    ``alone`` is how many seconds the first version serves before the second comes, for the picture.
    """

    namespace: str = "modelrollout-demo"
    hostname: str = "digits.modelrollout.example"
    rate: float = 100.0
    tail: float = 10.0
    alone: float = 5.0
    prefix: str = "modelrollout-demo"


@dataclass
class Told:
    """What came out of the story so far; ``stopped`` says why it ended early."""

    recording: Recording = field(default_factory=Recording)
    revisions: dict[str, str] = field(default_factory=dict)
    applied: dict[str, float] = field(default_factory=dict)
    stopped: str = ""


class Story:
    """Tells the story once. ``told`` and ``chronicle`` hold what is known, also when it ends early."""

    def __init__(self, place: Place, kube: Kube, screen: Screen, options: Options, folder: Path) -> None:
        self.place = place
        self.kube = kube
        self.screen = screen
        self.options = options
        self.folder = folder
        self.chronicle = Chronicle(options.namespace, MODEL_NAME)
        self.told = Told()

    async def tell(self) -> None:
        """Tell it from beginning to end; what goes wrong ends it and is noted in ``told.stopped``."""
        async with self.screen.shown():
            try:
                await self._serve(await self.prepare())
            except FAILURES as error:
                self.told.stopped = str(error) or repr(error)
                self.screen.say(f"FAILED: {self.told.stopped}", "bold red")

    async def _serve(self, digits: Digits) -> None:
        sender = RestSender(
            digits.held_out_images, digits.held_out_labels, self.place.gateway_here, self.options.hostname
        )
        traffic = Traffic(sender, len(digits.held_out_labels), self.options.rate)
        self.told.recording = traffic.recording
        self.screen.scene.chronicle = self.chronicle
        async with self.chronicle.following(self.kube):
            await self.first(sender)
            self.screen.scene.recording = traffic.recording
            async with traffic.flowing():
                await self.good()
                await self.bad()
                self.screen.say(f"Looking on for {self.options.tail:.0f} s.")
                await asyncio.sleep(self.options.tail)

    async def prepare(self) -> Digits:
        """Install the operator, clean up after an earlier run, train, check and upload the three versions."""
        self.screen.chapter("The operator is installed by its chart")
        self.screen.say(await install(self.place, self.kube, self.folder))
        await self._fresh_namespace()
        self.screen.chapter("Three versions are trained on handwritten digits")
        digits = await asyncio.to_thread(load_digits_data)
        with tempfile.TemporaryDirectory(prefix="modelrollout-demo-") as scratch:
            for recipe in RECIPES:
                await self._make(recipe, digits, Path(scratch) / recipe.version)
        return digits

    async def _make(self, recipe: Recipe, digits: Digits, folder: Path) -> None:
        trained = await asyncio.to_thread(train, recipe, digits)
        checks = await asyncio.to_thread(run_unit_checks, trained, digits)
        failed = [check for check in checks if not check.passed]
        if failed:
            raise UnusableError(f"{recipe.version} fails its unit checks: {failed}")
        await asyncio.to_thread(write_repository, trained, folder)
        place = self.place
        store = open_store(place.s3_here, place.s3_bucket, place.s3_access_key, place.s3_secret_key)
        size = await asyncio.to_thread(upload, store, folder, self._prefix(recipe))
        seen = "; ".join(f"{check.name}: {check.seen}" for check in checks)
        self.screen.say(f"{recipe.version}: {recipe.story}")
        self.screen.say(f"       {len(checks)} of {len(checks)} unit checks pass ({seen})", "dim")
        self.screen.say(
            f"       uploaded to s3://{place.s3_bucket}/{self._prefix(recipe)} ({size / 1024:.0f} KiB)", "dim"
        )

    async def _fresh_namespace(self) -> None:
        name = self.options.namespace
        found = await self.kube.get("Namespace", None, name)
        if found is not None:
            if (found["metadata"].get("labels") or {}).get(DEMO_LABEL) != "true":
                raise UnusableError(f"namespace {name} exists and is not the demo's: choose another with --namespace")
            self.screen.chapter(f"Namespace {name} of an earlier run is removed")
            await self.kube.delete("Namespace", None, name)
            # Nobody is served any more: without this each pod drains for 40 s first.
            for pod in await self.kube.list("Pod", name):
                await self.kube.delete("Pod", name, pod["metadata"]["name"], grace=1)
            await self.kube.wait_gone("Namespace", None, name)
        await self.kube.apply(manifests.namespace(name))
        await self.kube.apply(manifests.secret(name, self.place))

    async def first(self, sender: RestSender) -> None:
        """v1: no strategy, straight to 100 % once it is warm."""
        self.screen.chapter(f"{V1.version} is deployed", "Nothing serves yet, so it gets all traffic once it is warm.")
        revision = await self._apply(V1)
        await self.chronicle.until(
            lambda status: outcome_of(status, revision) is not None and status.get("phase") == "Idle",
            f"{V1.version} serves",
            180,
        )
        await answering(sender, revision, 30)
        self.screen.say(f"{V1.version} serves as {revision}; {self.options.rate:.0f} requests/s begin.", "green")

    async def good(self) -> None:
        """v2: must be promoted."""
        await asyncio.sleep(self.options.alone)
        self.screen.chapter(f"{V2.version} is applied", "Better, and it behaves: 5 %, 25 %, 50 %, all of it.")
        revision = await self._apply(V2)
        status = await self.chronicle.until(lambda status: over(status, revision), f"{V2.version} is promoted", 300)
        if outcome_of(status, revision) != "Promoted":
            raise WaitError(f"expected: {V2.version} is promoted; is: {last_word(status, revision)}")
        self.screen.say(f"{V2.version} is promoted.", "green")

    async def bad(self) -> None:
        """v3: must be rolled back by the operator alone."""
        self.screen.chapter(
            f"{V3.version} is applied", "It passed its unit checks. Some images make its preprocessing fail."
        )
        revision = await self._apply(V3)
        status = await self.chronicle.until(lambda status: over(status, revision), f"{V3.version} is rolled back", 300)
        if outcome_of(status, revision) != "RolledBack":
            raise WaitError(f"expected: {V3.version} is rolled back; is: {last_word(status, revision)}")
        self.screen.say(f"{V3.version} was taken back: {last_word(status, revision)}", "green")

    async def _apply(self, recipe: Recipe) -> str:
        """Apply a version and return the name the operator gives its revision."""
        body = manifests.model_deployment(
            self.place, self.options.namespace, recipe.version, self._prefix(recipe), self.options.hostname
        )
        applied = await self.kube.apply(body)
        self.told.applied[recipe.version] = time.time()
        generation = applied["metadata"]["generation"]
        status = await self.chronicle.until(
            lambda status: status.get("observedGeneration", 0) >= generation and bool(desired(status)),
            f"the operator takes note of {recipe.version}",
            30,
        )
        revision = str(desired(status))
        self.told.revisions[recipe.version] = revision
        self.screen.scene.names[revision] = recipe.version
        return revision

    def _prefix(self, recipe: Recipe) -> str:
        return f"{self.options.prefix}/{MODEL_NAME}/{recipe.version}"


def desired(status: Object) -> str | None:
    """The revision the spec asks for."""
    found: str | None = status.get("revisions", {}).get("desired")
    return found


def over(status: Object, revision: str) -> bool:
    """Whether the attempt of ``revision`` ended and nothing moves any more."""
    return outcome_of(status, revision) is not None and status.get("phase") in ("Idle", "RolledBack")


def last_word(status: Object, revision: str) -> str:
    """How the attempt of ``revision`` ended, and why."""
    entries: Sequence[Object] = status.get("history", [])
    for entry in entries:
        if entry.get("revision") == revision:
            return f"{entry.get('outcome')}: {entry.get('message') or entry.get('reason', '')}"
    return f"{status.get('phase')}: {status.get('message', '')}"


async def answering(sender: RestSender, revision: str, within: float) -> None:
    """Wait until clients get answers of ``revision`` through the gateway, five in a row."""
    end, row, last = time.monotonic() + within, 0, "nothing"
    async with sender.opened():
        while row < 5:
            answer = await sender.send(row)
            row = row + 1 if answer.good and answer.revision == revision else 0
            last = f"{answer.status} {answer.text}"
            if time.monotonic() > end:
                raise WaitError(f"expected within {within:.0f} s: {revision} answers at the gateway; is: {last}")
            await asyncio.sleep(0.1)
