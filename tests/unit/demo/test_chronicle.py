from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from deploy.demo.chronicle import Chronicle, outcome_of
from deploy.demo.kube import WaitError


def route(*backends: tuple[str, int], name: str = "digits") -> dict[str, Any]:
    refs = [{"name": revision, "weight": weight} for revision, weight in backends]
    return {"metadata": {"name": name}, "spec": {"rules": [{"backendRefs": refs}, {"backendRefs": [{"name": "pin"}]}]}}


def test_weights_are_percent_of_the_weighted_rule_and_slots_those_with_weight() -> None:
    chronicle = Chronicle("demo", "digits")
    chronicle.see_route(route(("a", 1_000_000), ("a", 0)), 1.0)
    chronicle.see_route(route(("a", 1_000_000), ("a", 0)), 2.0)
    chronicle.see_route(route(("a", 750_000), ("b", 250_000)), 3.0)
    chronicle.see_route(route(("x", 1), name="other"), 4.0)
    assert [one.at for one in chronicle.weights] == [1.0, 3.0]
    assert chronicle.weights[-1].percent == {"a": 75.0, "b": 25.0}
    assert chronicle.slots == {"a": 0, "b": 1}


def test_a_rollback_is_when_a_real_weight_goes_away() -> None:
    chronicle = Chronicle("demo", "digits")
    for at, weight in ((1.0, 1), (2.0, 50_000), (3.0, 250_000), (4.0, 1), (5.0, 0)):
        chronicle.see_route(route(("a", 1_000_000 - weight), ("b", weight)), at)
    assert chronicle.taken_off("b", 0.0) == 4.0
    assert chronicle.taken_off("a", 0.0) is None
    assert chronicle.taken_off("b", 4.0) is None


def test_events_of_others_and_repeats_are_left_out() -> None:
    chronicle = Chronicle("demo", "digits")
    event = {
        "metadata": {"uid": "1", "resourceVersion": "5"},
        "reason": "Promoted",
        "note": "all of it",
        "type": "Normal",
        "regarding": {"kind": "ModelDeployment", "name": "digits"},
    }
    other = event | {"metadata": {"uid": "2"}, "regarding": {"kind": "Pod", "name": "digits"}}
    for one in (event, event, other):
        chronicle.see_event(one, 1.0)
    assert [(one.title, one.text, one.warning) for one in chronicle.events] == [("Promoted", "all of it", False)]


class FakeKube:
    """Watches that tell what was put into them."""

    def __init__(self) -> None:
        self.queues: dict[str, asyncio.Queue[tuple[str, dict[str, Any]]]] = {}

    async def watch(self, kind: str, namespace: str) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        queue = self.queues.setdefault(kind, asyncio.Queue())
        while True:
            yield await queue.get()


async def test_waiting_ends_when_the_watch_shows_it() -> None:
    chronicle, kube = Chronicle("demo", "digits"), FakeKube()
    kube.queues["ModelDeployment"] = asyncio.Queue()
    async with chronicle.following(kube):  # type: ignore[arg-type]
        waiting = asyncio.create_task(chronicle.until(lambda status: status.get("phase") == "Idle", "it is Idle", 5))
        for phase in ("Preparing", "Preparing", "Idle"):
            item = {"metadata": {"name": "digits", "generation": 2}, "status": {"phase": phase}}
            kube.queues["ModelDeployment"].put_nowait(("MODIFIED", item))
        assert (await waiting)["phase"] == "Idle"
    assert [one.title for one in chronicle.phases] == ["Preparing", "Idle"]
    assert chronicle.generation == 2


async def test_a_phase_that_was_over_before_the_waiter_woke_was_seen() -> None:
    """A busy machine reads several changes of a watch at once."""
    chronicle, kube = Chronicle("demo", "digits"), FakeKube()
    queue = kube.queues["ModelDeployment"] = asyncio.Queue()
    async with chronicle.following(kube):  # type: ignore[arg-type]
        waiting = asyncio.create_task(chronicle.until(lambda status: status.get("phase") == "Baking", "it bakes", 5))
        await asyncio.sleep(0)
        for phase in ("Promoting", "Baking", "Idle"):
            queue.put_nowait(("MODIFIED", {"metadata": {"name": "digits"}, "status": {"phase": phase}}))
        assert (await waiting)["phase"] == "Baking", "that status, not the newest"
        assert chronicle.status["phase"] == "Idle"


async def test_what_a_look_raises_is_the_waiters_and_ends_no_watch() -> None:
    chronicle, kube = Chronicle("demo", "digits"), FakeKube()
    queue = kube.queues["ModelDeployment"] = asyncio.Queue()
    async with chronicle.following(kube):  # type: ignore[arg-type]
        waiting = asyncio.create_task(chronicle.until(lambda status: bool(status["none"]), "never", 5))
        with pytest.raises(KeyError):
            await waiting
        queue.put_nowait(("MODIFIED", {"metadata": {"name": "digits"}, "status": {"phase": "Idle"}}))
        await chronicle.until(lambda status: status.get("phase") == "Idle", "it is seen", 5)


async def test_an_event_is_waited_for_and_found_again() -> None:
    chronicle, kube = Chronicle("demo", "digits"), FakeKube()
    queue = kube.queues["Event"] = asyncio.Queue()
    event = {"metadata": {"uid": "1", "resourceVersion": "5"}, "reason": "Promoted", "note": "all of it"}
    queue.put_nowait(("ADDED", event | {"regarding": {"kind": "ModelDeployment", "name": "digits"}}))
    async with chronicle.following(kube):  # type: ignore[arg-type]
        for _ in range(2):
            assert (await chronicle.until_told("Promoted", 5)).text == "all of it"
        with pytest.raises(WaitError, match=r"event RolledBack; is: events \['Promoted'\]"):
            await chronicle.until_told("RolledBack", 0.01)


async def test_a_wait_that_fails_says_what_is() -> None:
    chronicle = Chronicle("demo", "digits")
    chronicle.see_deployment({"metadata": {"name": "digits"}, "status": {"phase": "Pending", "message": "no pool"}}, 1)
    with pytest.raises(WaitError, match="expected within 0 s: it serves; is: phase Pending: no pool"):
        await chronicle.until(lambda status: False, "it serves", 0.01)


def test_outcome_is_the_newest() -> None:
    history = [{"revision": "b", "outcome": "RolledBack"}, {"revision": "b", "outcome": "Promoted"}]
    assert outcome_of({"history": history}, "b") == "RolledBack"
    assert outcome_of({"history": history}, "a") is None
    assert outcome_of({}, "a") is None
