"""Webhooks called in the background: what they are sent, what people are told, and that nothing is called twice."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from modelrollout.api.status import DriftStatus
from modelrollout.controller.cache import Key
from modelrollout.controller.notifying import Notifier
from modelrollout.ports import Manifest, RejectedError, TransientError
from modelrollout.rollout.plan import EventPlan, Notification
from tests.builders import START

KEY = Key("demo", "digits")
DRIFT = DriftStatus(subject="feature age", sli="input-psi", value=0.31, threshold="<= 0.2", since=START)
ASKED = Notification("pipeline", "digits-a", (DRIFT,), "anna@example.com")


class Webhooks:
    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.bodies: list[tuple[str, Mapping[str, Any]]] = []

    async def call(self, name: str, body: Mapping[str, Any]) -> str:
        self.bodies.append((name, body))
        if self.error is not None:
            raise self.error
        return "HTTP 202 queued"


async def told(webhooks: Webhooks) -> list[EventPlan]:
    events: list[EventPlan] = []

    async def tell(raw: Manifest, event: EventPlan) -> None:
        events.append(event)

    notifier = Notifier(webhooks, tell)
    notifier.notify(KEY, {}, ASKED)
    for _ in range(5):
        await asyncio.sleep(0)
    await notifier.close()
    return events


def test_what_is_sent_and_told() -> None:
    webhooks = Webhooks()
    (event,) = asyncio.run(told(webhooks))
    assert event.reason == "RetrainingRequested"
    assert event.message == (
        "webhook pipeline for digits-a, asked by anna@example.com, drift of feature age: HTTP 202 queued"
    )
    drift = {"subject": "feature age", "sli": "input-psi", "value": 0.31, "threshold": "<= 0.2"}
    assert webhooks.bodies == [
        (
            "pipeline",
            {
                "namespace": "demo",
                "name": "digits",
                "revision": "digits-a",
                "requestedBy": "anna@example.com",
                "drift": [{**drift, "since": "2026-01-01T00:00:00.000000Z"}],
            },
        )
    ]


@pytest.mark.parametrize("error", [TransientError("nobody there"), RejectedError("no"), RuntimeError("a bug")])
def test_a_failure_is_an_event_and_no_second_call(error: Exception) -> None:
    webhooks = Webhooks(error)
    (event,) = asyncio.run(told(webhooks))
    assert (event.reason, event.warning) == ("RetrainingFailed", True)
    assert len(webhooks.bodies) == 1
