"""A trial says what guards on the observer's counters would not see: the catalog's faults, in a real Prometheus."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

import numpy as np
import orjson
import pytest

from modelrollout.api.guard import Guard
from modelrollout.evidence.needs import missing, needed
from modelrollout.observer.intake import Protocol
from modelrollout.observer.process import Observer
from modelrollout.observer.wishes import Arms
from tests.component.prometheus import Prometheus
from tests.component.test_observer_in_prometheus import CANDIDATE, NOW, STABLE, WHERE, profile_of, write
from tests.unit.observer.stage import json_body, observing, outcomes, post, until, wish

REQUESTS = 20
GOOD = json_body({"X": ("FP32", [[0.5, 0.2]])})
Send = Callable[[Observer], Awaitable[object]]


def body(**changes: object) -> Send:
    return lambda observer: post(observer, orjson.dumps({**orjson.loads(GOOD), **changes}))


def told(outcome: str) -> Send:
    async def send(observer: Observer) -> None:
        observer.registry.outcome(Protocol.HTTP, outcome, "digits.example.com", "digits")

    return send


@pytest.mark.parametrize(
    ("minute", "send", "others", "sentences"),
    # Minutes of their own: the cases share one Prometheus.
    [
        (10, body(parameters={"sequence_id": 7}), 2, ["guards flips, outputs: more than a tenth of the requests"]),
        (20, told("unsupported"), 2, ["guards flips, outputs, inputs: of more than a tenth of the copies"]),
        (30, told("too_large"), 2, ["guards flips, outputs, inputs: of more than a tenth of the copies"]),
        (
            40,
            lambda observer: post(observer, json_body({"X": ("FP32", [0.5])})),
            2,
            ["guard inputs: the inputs of more than a tenth of the requests"],
        ),
        # A stray one is nobody's fault.
        (50, body(parameters={"sequence_id": 7}), REQUESTS, []),
        (60, told("too_large"), REQUESTS, []),
    ],
    ids=["sequences", "streams", "large", "short", "a stray sequence", "a stray large one"],
)
async def test_what_would_not_be_seen(
    server: Prometheus, minute: int, send: Send, others: int, sentences: list[str]
) -> None:
    profile = profile_of(np.random.default_rng(11).normal(size=(5000, 2)))
    now = NOW + timedelta(minutes=minute)
    asked = wish(arms=Arms(STABLE, CANDIDATE), per_second=500.0)
    guards = [
        Guard.model_validate({"name": name, "sli": sli, "max": 0.9})
        for name, sli in (("flips", "label-flips"), ("outputs", "output-psi"), ("inputs", "input-psi"))
    ]
    async with observing(asked, profile=profile) as observer:
        await write(server, observer, now - timedelta(seconds=70))
        number = 1 if others == REQUESTS else 3
        for _ in range(number):
            await send(observer)
        for _ in range(others):
            await post(observer, GOOD)
        await until(lambda: sum(outcomes(observer).values()) == number + others)
        await write(server, observer, now - timedelta(seconds=5))
    needs = needed(guards, WHERE)
    found = missing(needs, {need.selector: server.query(need.question(now).text, now) for need in needs}, "default")
    assert found is not None
    assert [sentence[: len(own)] for sentence, own in zip(found, sentences, strict=True)] == sentences
