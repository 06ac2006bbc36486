"""The queue in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from modelrollout.controller.cache import Key
from modelrollout.controller.queue import FIRST_BACKOFF, LONGEST_BACKOFF, Queue
from tests.simulation.virtualtime import run

A, B = Key("demo", "a"), Key("demo", "b")


class Recorder:
    """Work that notes when its turns begin and end, and does as told."""

    def __init__(self, lasts: float = 0.0, answers: Callable[[int], float | None] = lambda _: None) -> None:
        self.begun: list[tuple[float, Key]] = []
        self.at_once: dict[Key, int] = {}
        self.most_at_once = 0
        self.most_in_all = 0
        self._lasts = lasts
        self._answers = answers

    async def __call__(self, key: Key) -> float | None:
        self.begun.append((asyncio.get_running_loop().time(), key))
        self.at_once[key] = self.at_once.get(key, 0) + 1
        self.most_at_once = max(self.most_at_once, self.at_once[key])
        self.most_in_all = max(self.most_in_all, sum(self.at_once.values()))
        await asyncio.sleep(self._lasts)
        self.at_once[key] -= 1
        return self._answers(len(self.begun))

    @property
    def times(self) -> list[float]:
        return [round(when, 3) for when, _ in self.begun]


def play(work: Recorder, act: Callable[[Queue], Coroutine[Any, Any, None]], workers: int = 2) -> Recorder:
    async def main() -> None:
        queue = Queue(work, workers)
        running = asyncio.create_task(queue.run())
        await act(queue)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    run(main())
    return work


def test_wakes_before_the_turn_are_one_turn() -> None:
    async def act(queue: Queue) -> None:
        for _ in range(5):
            queue.wake(A)
        await asyncio.sleep(1)

    assert play(Recorder(), act).times == [0.0]


def test_wakes_during_the_turn_are_one_more_turn() -> None:
    async def act(queue: Queue) -> None:
        queue.wake(A)
        await asyncio.sleep(0.5)
        for _ in range(5):
            queue.wake(A)
        await asyncio.sleep(5)

    assert play(Recorder(lasts=1.0), act).times == [0.0, 1.0]


def test_one_key_never_has_two_turns_at_once() -> None:
    async def act(queue: Queue) -> None:
        for _ in range(50):
            queue.wake(A)
            await asyncio.sleep(0.03)

    assert play(Recorder(lasts=0.1), act, workers=4).most_at_once == 1


def test_different_keys_have_turns_at_once() -> None:
    async def act(queue: Queue) -> None:
        queue.wake(A)
        queue.wake(B)
        await asyncio.sleep(3)

    assert play(Recorder(lasts=1.0), act).most_in_all == 2


def test_no_more_turns_at_once_than_workers() -> None:
    async def act(queue: Queue) -> None:
        for number in range(20):
            queue.wake(Key("demo", str(number)))
        await asyncio.sleep(30)

    work = play(Recorder(lasts=1.0), act, workers=3)
    assert work.most_in_all == 3
    assert len(work.begun) == 20


def test_a_turn_that_asks_for_another_gets_it_then() -> None:
    async def act(queue: Queue) -> None:
        queue.wake(A)
        await asyncio.sleep(100)

    assert play(Recorder(answers=lambda number: 7.0 if number == 1 else None), act).times == [0.0, 7.0]


def test_a_wake_takes_the_place_of_the_timer() -> None:
    async def act(queue: Queue) -> None:
        queue.wake(A)
        await asyncio.sleep(3)
        queue.wake(A)
        await asyncio.sleep(100)

    assert play(Recorder(answers=lambda number: 7.0 if number == 1 else None), act).times == [0.0, 3.0]


def test_failures_back_off_and_are_forgotten_by_a_success() -> None:
    def answers(number: int) -> float | None:
        if number in (1, 2, 3, 5):
            raise RuntimeError("no")
        return 1.0 if number == 4 else None

    async def act(queue: Queue) -> None:
        queue.wake(A)
        await asyncio.sleep(100)

    first = FIRST_BACKOFF
    expected = [0.0, first, 3 * first, 7 * first, 7 * first + 1, 8 * first + 1]
    assert play(Recorder(answers=answers), act).times == [round(when, 3) for when in expected]


def test_the_backoff_has_an_end_and_never_overflows() -> None:
    def answers(_: int) -> float | None:
        raise RuntimeError("no")

    async def act(queue: Queue) -> None:
        queue.wake(A)
        await asyncio.sleep(2000 * LONGEST_BACKOFF)

    times = play(Recorder(answers=answers), act).times
    assert len(times) > 1900
    assert times[-1] - times[-2] == LONGEST_BACKOFF


def test_a_key_that_fails_keeps_nobody_waiting() -> None:
    class Failing(Recorder):
        async def __call__(self, key: Key) -> float | None:
            await super().__call__(key)
            if key == A:
                raise RuntimeError("no")
            return None

    async def act(queue: Queue) -> None:
        queue.wake(A)
        await asyncio.sleep(0)
        queue.wake(B)
        await asyncio.sleep(1)

    work = play(Failing(), act, workers=1)
    assert work.begun[1] == (0.0, B)


def test_a_forgotten_key_has_no_timer() -> None:
    async def act(queue: Queue) -> None:
        queue.wake(A)
        await asyncio.sleep(1)
        queue.forget(A)
        await asyncio.sleep(100)

    assert play(Recorder(answers=lambda _: 7.0), act).times == [0.0]


def test_the_depth_and_the_wait_are_told() -> None:
    told: list[tuple[str, float]] = []

    class Observer:
        def queue_depth(self, depth: int) -> None:
            told.append(("depth", depth))

        def queue_wait(self, seconds: float) -> None:
            told.append(("wait", seconds))

    async def main() -> None:
        queue = Queue(Recorder(lasts=2.0), 1, Observer())
        running = asyncio.create_task(queue.run())
        queue.wake(A)
        queue.wake(B)
        await asyncio.sleep(5)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    run(main())
    assert told == [("depth", 1), ("depth", 2), ("depth", 1), ("wait", 0.0), ("depth", 0), ("wait", 2.0)]
