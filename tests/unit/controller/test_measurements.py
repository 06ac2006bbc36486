"""Measurements: what is wanted runs once, what is not wanted stops, what died is begun again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any

from modelrollout.controller.cache import Key
from modelrollout.controller.measurements import Measurements
from modelrollout.ports import TransientError
from modelrollout.rollout.observed import Evaluation, Gate, GateState, Probe
from tests.builders import START
from tests.simulation.virtualtime import run

KEY = Key("demo", "digits")


class Bench:
    """Measurements whose tasks note their beginnings and ends."""

    def __init__(self) -> None:
        self.woken: list[tuple[float, Key]] = []
        self.begun: list[Hashable] = []
        self.stopped: list[Hashable] = []
        self.measurements = Measurements(lambda key: self.woken.append((asyncio.get_running_loop().time(), key)))

    def want(self, identity: Hashable | None, fails: Exception | None = None, lasts: float = 1000.0) -> None:
        async def measure() -> None:
            self.begun.append(identity)
            try:
                if fails:
                    raise fails
                await asyncio.sleep(lasts)
            except asyncio.CancelledError:
                self.stopped.append(identity)
                raise

        # A first result is what makes a record of the key.
        self.measurements.of(KEY)
        self.measurements.want(KEY, "thing", identity, measure)


def play(act: Callable[[Bench], Coroutine[Any, Any, None]]) -> Bench:
    async def main() -> Bench:
        bench = Bench()
        await act(bench)
        await bench.measurements.close()
        return bench

    return run(main())


def test_what_is_wanted_again_goes_on() -> None:
    async def act(bench: Bench) -> None:
        for _ in range(3):
            bench.want("a")
            await asyncio.sleep(1)
        assert bench.stopped == []

    assert play(act).begun == ["a"]


def test_another_wish_takes_its_place() -> None:
    async def act(bench: Bench) -> None:
        bench.want("a")
        await asyncio.sleep(1)
        bench.want("b")
        await asyncio.sleep(1)
        assert bench.stopped == ["a"]

    assert play(act).begun == ["a", "b"]


def test_what_is_not_wanted_stops() -> None:
    async def act(bench: Bench) -> None:
        bench.want("a")
        await asyncio.sleep(1)
        bench.want(None)
        await asyncio.sleep(1)
        assert bench.stopped == ["a"]

    play(act)


def test_what_is_done_is_not_done_again_until_it_was_not_wanted() -> None:
    async def act(bench: Bench) -> None:
        bench.want("a", lasts=1)
        await asyncio.sleep(5)
        bench.want("a", lasts=1)
        await asyncio.sleep(5)
        assert bench.begun == ["a"]
        bench.want(None)
        bench.want("a", lasts=1)
        await asyncio.sleep(5)

    assert play(act).begun == ["a", "a"]


def test_what_died_wakes_the_key_and_may_begin_again() -> None:
    async def act(bench: Bench) -> None:
        for error in (TransientError("down"), RuntimeError("a bug")):
            bench.want("a", fails=error)
            await asyncio.sleep(2)

    bench = play(act)
    assert bench.begun == ["a", "a"]
    assert [when for when, _ in bench.woken] == [1.0, 3.0]


def test_a_death_does_not_end_what_took_its_place() -> None:
    async def act(bench: Bench) -> None:
        bench.want("a", fails=TransientError("down"))
        await asyncio.sleep(0.5)
        bench.want("b")
        await asyncio.sleep(5)
        bench.want("b")

    assert play(act).begun == ["a", "b"]


def test_nothing_wanted_makes_no_record() -> None:
    async def act(bench: Bench) -> None:
        bench.measurements.want(KEY, "thing", None, lambda: asyncio.sleep(0))
        assert bench.measurements._records == {}

    play(act)


def test_results_are_kept_and_wake_the_key() -> None:
    evaluation = Evaluation(1, "r", START, ())
    gate = Gate("r", GateState.PASSED)
    probe = Probe("token", frozenset({"r"}))

    async def act(bench: Bench) -> None:
        for result in (evaluation, gate, probe):
            bench.measurements.report(KEY, result)
        record = bench.measurements.of(KEY)
        assert (record.evaluation, record.gates, record.probe) == (evaluation, {"r": gate}, probe)

    assert [key for _, key in play(act).woken] == [KEY, KEY, KEY]


def test_a_forgotten_key_has_no_results_and_nothing_runs() -> None:
    async def act(bench: Bench) -> None:
        bench.want("a")
        await asyncio.sleep(1)
        bench.measurements.report(KEY, Evaluation(1, "r", START, ()))
        bench.measurements.forget(KEY)
        await asyncio.sleep(0)
        assert bench.stopped == ["a"]
        assert bench.measurements.of(KEY).evaluation is None

    play(act)


def test_closing_waits_until_everything_has_stopped() -> None:
    async def act(bench: Bench) -> None:
        bench.want("a")
        await asyncio.sleep(1)
        await bench.measurements.close()
        assert bench.stopped == ["a"]

    play(act)
