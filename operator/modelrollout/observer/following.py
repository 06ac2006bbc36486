"""Keeps the registry in step with the cluster: ModelDeployments by list and watch, profiles by looking each minute.

Level-triggered: whatever was missed is made good by the next list; while the API server is away everything stays.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Protocol

from modelrollout.api.errors import InvalidSpec
from modelrollout.observer.registry import Registry
from modelrollout.observer.rpc import Askers
from modelrollout.observer.target import Target
from modelrollout.observer.wishes import Wish, wish_of
from modelrollout.ports import Manifest, PortError
from modelrollout.profile.contract import misfits
from modelrollout.profile.model import Profile, ProfileError, parse

_LOGGER = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
PROFILE_SECONDS = 60.0
AT_ONCE = 8
LONGEST_PROBLEM = 300

Sleep = Callable[[float], Awaitable[None]]


class Source(Protocol):
    """What the observer reads of its namespace. All raise PortError."""

    async def list_deployments(self) -> tuple[list[Manifest], str]:
        """All ModelDeployments, and the version of the list."""

    def watch_deployments(self, version: str) -> AsyncIterator[tuple[str, Manifest]]:
        """Yield (ADDED, MODIFIED, DELETED; object) after ``version``; ends when the list must be read again."""

    async def config_map(self, name: str) -> Manifest | None:
        """One ConfigMap; None where there is none."""


class Follower:
    """Follows the ModelDeployments of one namespace."""

    def __init__(self, source: Source, registry: Registry, sleep: Sleep) -> None:
        self._source, self._registry, self._sleep = source, registry, sleep
        self._wishes: dict[str, Wish] = {}
        self._problems: dict[str, str] = {}
        self.changed = asyncio.Event()
        self.listed = asyncio.Event()

    async def run(self) -> None:
        """Follow for ever; whatever the API server does, what is known stays."""
        pause, trouble = FIRST_PAUSE, ""
        while True:
            try:
                items, version = await self._source.list_deployments()
                self._take({_name(item): self._wish(item) for item in items})
                self.listed.set()
                if trouble:
                    _LOGGER.info("the API server answers again")
                pause, trouble = FIRST_PAUSE, ""
                async for kind, item in self._source.watch_deployments(version):
                    self._change(kind, item)
                # A server that ends every watch at once must not be asked without a pause.
                await self._sleep(FIRST_PAUSE)
            except PortError as error:
                if str(error) != trouble:
                    trouble = str(error)
                    _LOGGER.warning("cannot follow the ModelDeployments, going on with what is known: %s", trouble)
                await self._sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    def _change(self, kind: str, item: Manifest) -> None:
        if kind in ("ADDED", "MODIFIED", "DELETED"):
            self._take({**self._wishes, _name(item): self._wish(item) if kind != "DELETED" else None})

    def _wish(self, item: Manifest) -> Wish | None:
        """What the object asks for; as it was before, where it cannot be read."""
        name = _name(item)
        try:
            wish = wish_of(item)
        except InvalidSpec as error:
            if self._problems.get(name) != str(error):
                self._problems[name] = str(error)
                _LOGGER.warning("ModelDeployment %s cannot be read: %s", name, _one_line(str(error)))
            return self._wishes.get(name)
        self._problems.pop(name, None)
        return wish

    def _take(self, found: Mapping[str, Wish | None]) -> None:
        wishes = {name: wish for name, wish in found.items() if wish is not None}
        self._problems = {name: problem for name, problem in self._problems.items() if name in found}
        if wishes != self._wishes:
            self._wishes = wishes
            self._registry.follow(wishes)
            self.changed.set()


class Profiles:
    """Reads the profile of each target: when its wish changes, and each minute."""

    def __init__(self, source: Source, registry: Registry, askers: Askers) -> None:
        self._source, self._registry, self._askers = source, registry, askers
        self._said: dict[str, str] = {}
        self._room = asyncio.Semaphore(AT_ONCE)

    async def run(self, changed: asyncio.Event) -> None:
        """Look for ever."""
        while True:
            changed.clear()
            await self.look()
            try:
                async with asyncio.timeout(PROFILE_SECONDS):
                    await changed.wait()
            except TimeoutError:
                continue

    async def look(self) -> None:
        """Read every profile once. A profile that cannot be had leaves the one in use as it is."""
        await asyncio.gather(*(self._attempt(name, target) for name, target in self._registry.targets.items()))
        self._said = {name: said for name, said in self._said.items() if name in self._registry.targets}

    async def _attempt(self, name: str, target: Target) -> None:
        async with self._room:
            try:
                await self._look(target)
            except _RefusedError as error:
                target.use(None)
                target.unusable = error.reason
                self._say(name, target, error.reason, str(error))
            except (PortError, OSError) as error:
                self._say(name, None, "", f"the profile cannot be read now: {error}")
            except asyncio.CancelledError:
                # gRPC cancels a call whose channel is closed; nobody wanted this task to end.
                if (task := asyncio.current_task()) is not None and task.cancelling():
                    raise
                self._say(name, None, "", "the profile cannot be read now: the call was broken off")
            except Exception as error:  # noqa: BLE001 - one profile must not end the reading of all others
                self._say(name, None, "", f"the profile cannot be read now: {type(error).__name__}")

    async def _look(self, target: Target) -> None:
        wish = target.wish
        if wish.profile is None:
            target.misfits, target.unusable = None, ""
            target.use(None)
            return
        text = await self._text(wish)
        try:
            profile = parse(text)
        except ProfileError as error:
            raise _RefusedError("invalid", f"the profile is not valid: {error}") from error
        if profile.model != wish.model:
            raise _RefusedError("model", f"the profile is about model {profile.model}, not {wish.model}")
        profile = await self._fitting(target, profile)
        self._use(target, profile)

    def _use(self, target: Target, profile: Profile) -> None:
        before = target.plan
        target.use(profile)
        target.unusable = ""
        if target.plan is not before and target.plan is not None:
            _LOGGER.info(
                "ModelDeployment %s: counting by profile %s: %d features, %d outputs",
                target.wish.name,
                target.plan.hash,
                len(profile.features),
                len(profile.outputs),
            )

    async def _text(self, wish: Wish) -> str:
        assert wish.profile is not None  # noqa: S101 - told by the caller
        if wish.profile.config_map is not None:
            name, key = wish.profile.config_map.name, wish.profile.config_map.key
            found = await self._source.config_map(name)
            text = ((found or {}).get("data") or {}).get(key)
            if not isinstance(text, str):
                what = f"has no key {key}" if found is not None else "does not exist"
                raise _RefusedError("missing", f"ConfigMap {name} {what}")
            return text
        if wish.arms.stable is None:
            raise OSError("there is no stable revision yet, whose model configuration holds it")
        _, parameters = await self._askers.contract(wish.namespace, wish.arms.stable, wish.model)
        text = parameters.get(wish.profile.parameter or "")
        if not text:
            raise _RefusedError("missing", f"the model's configuration has no parameter {wish.profile.parameter}")
        return text

    async def _fitting(self, target: Target, profile: Profile) -> Profile:
        """The parts of the profile that fit the model; all of it while nobody has told what the model is.

        Raises OSError where parts did not fit and nobody tells whether they do now.
        """
        wish = target.wish
        if wish.arms.stable is None:
            if target.misfits:
                raise OSError("parts of it did not fit, and there is no stable revision that tells whether they do now")
            return profile
        try:
            contract, _ = await self._askers.contract(wish.namespace, wish.arms.stable, wish.model)
        except OSError as error:
            if target.misfits:
                raise
            _LOGGER.debug("the profile of %s is not checked: %s", wish.name, error)
            return profile
        found = misfits(profile, contract)
        target.misfits = len(found)
        if not found:
            self._said.pop(wish.name, None)
            return profile
        sentence = "; ".join(f"{what} {why}" for what, why in list(found.items())[:5])
        left = {
            "features": tuple(part for part in profile.features if f"feature {part.name}" not in found),
            "outputs": tuple(part for part in profile.outputs if f"output {part.name}" not in found),
        }
        if not any(left.values()):
            raise _RefusedError("misfit", f"nothing of the profile fits the model: {sentence}")
        self._say(wish.name, target, "misfit", f"{len(found)} parts of the profile do not fit the model: {sentence}")
        return profile.model_copy(update=left)

    def _say(self, name: str, target: Target | None, reason: str, sentence: str) -> None:
        """Log and count a problem once, not each minute."""
        if self._said.get(name) != sentence:
            self._said[name] = sentence
            _LOGGER.warning("ModelDeployment %s: %s", name, _one_line(sentence))
            if target is not None:
                target.refused["profile", reason] += 1


class _RefusedError(Exception):
    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


def _name(item: Manifest) -> str:
    return str((item.get("metadata") or {}).get("name") or "")


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_PROBLEM else line[: LONGEST_PROBLEM - 1] + "…"
