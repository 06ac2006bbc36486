"""Calling a webhook after the status that asks for it was written: at most once, in the background, told as an event.

A process that dies between the write and the call does not call again: a training run twice is dear, and a person sees
DriftDetected without RetrainingRequested and commands ``retrain``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from modelrollout.api.base import format_instant
from modelrollout.api.reasons import EventReason
from modelrollout.controller.cache import Key
from modelrollout.ports import Manifest, PortError, RejectedError, Webhooks
from modelrollout.rollout.drift import subjects
from modelrollout.rollout.plan import EventPlan, Notification

_LOGGER = logging.getLogger(__name__)

Tell = Callable[[Manifest, EventPlan], Awaitable[None]]


class Notifier:
    """Calls webhooks; ``tell`` posts an event on the ModelDeployment."""

    def __init__(self, webhooks: Webhooks, tell: Tell) -> None:
        self._webhooks = webhooks
        self._tell = tell
        self._calls: set[asyncio.Task[None]] = set()

    def notify(self, key: Key, raw: Manifest, notification: Notification) -> None:
        """Begin the call; its result is an event on ``raw``."""
        task = asyncio.create_task(self._call(key, raw, notification))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def close(self) -> None:
        """Give up what is still under way."""
        calls = tuple(self._calls)
        for task in calls:
            task.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

    async def _call(self, key: Key, raw: Manifest, asked: Notification) -> None:
        what = f"webhook {asked.webhook} for {asked.revision}, asked by {asked.by}"
        what += f", drift of {subjects(asked.drift)}" if asked.drift else ""
        try:
            said = await self._webhooks.call(asked.webhook, body_of(key, asked))
            event = EventPlan(EventReason.RETRAINING_REQUESTED, f"{what}: {said}")
        except PortError as error:
            event = EventPlan(EventReason.RETRAINING_FAILED, f"{what}: {error}", warning=True)
        except Exception:
            _LOGGER.exception("calling webhook %s failed", asked.webhook)
            event = EventPlan(EventReason.RETRAINING_FAILED, f"{what}: the operator's log says why", warning=True)
        _LOGGER.info("%s/%s: %s", key.namespace, key.name, event.message)
        try:
            await self._tell(raw, event)
        except PortError as error:
            _LOGGER.warning("event %s was not stored: %s", event.reason, error)


def body_of(key: Key, asked: Notification) -> dict[str, Any]:
    """What a webhook is sent."""
    return {
        "namespace": key.namespace,
        "name": key.name,
        "revision": asked.revision,
        "requestedBy": asked.by,
        "drift": [
            {
                "subject": entry.subject,
                "sli": entry.sli,
                "value": entry.value,
                "threshold": entry.threshold,
                "since": None if entry.since is None else format_instant(entry.since),
            }
            for entry in asked.drift
        ],
    }


class NoWebhooks:
    """``ports.Webhooks`` of a process that has none."""

    async def call(self, name: str, body: Mapping[str, Any]) -> str:
        """Refuse."""
        raise RejectedError(f"the settings have no webhook {name!r}")
