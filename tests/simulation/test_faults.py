"""Like Sieve: a fault at every single write of the reference scenarios, and the end is that of the run without."""

from __future__ import annotations

import pytest

from tests.simulation.faults import KINDS, once
from tests.simulation.scenarios import REFERENCE, first_deployment
from tests.simulation.simulation import End, Simulation
from tests.simulation.virtualtime import run

WRITES_OF_THE_FIRST_DEPLOYMENT = 12
NAMES = list(REFERENCE)


def play(name: str, *, crash_after: int = 0, fault: str = "", number: int = 0) -> tuple[End, int]:
    """The end of a scenario, and how many writes it took."""

    async def main() -> tuple[End, int]:
        simulation = Simulation()
        simulation.faults.crash_after = crash_after
        if fault:
            simulation.faults.plan = once(fault, number)
        async with simulation.running():
            end = await REFERENCE[name](simulation)
        assert simulation.restarts == bool(crash_after)
        return end, len(simulation.log)

    return run(main())


def positions(name: str, count: int) -> range:
    """Where to put a fault: the writes of the first deployment have a scenario of their own."""
    first = 1 if REFERENCE[name] is first_deployment else WRITES_OF_THE_FIRST_DEPLOYMENT + 1
    return range(first, count + 1)


@pytest.mark.parametrize("name", NAMES)
def test_a_crash_after_any_write_ends_in_the_same_place(name: str) -> None:
    expected, count = play(name)
    for number in positions(name, count):
        end, _ = play(name, crash_after=number)
        assert end == expected, f"killed after write {number}"


@pytest.mark.parametrize("name", NAMES)
def test_an_error_at_any_write_ends_in_the_same_place(name: str) -> None:
    """Every other write of each scenario, with every kind of error in turn."""
    expected, count = play(name)
    kinds = list(KINDS)
    for number in positions(name, count)[NAMES.index(name) % 2 :: 2]:
        fault = kinds[(number // 2 + NAMES.index(name)) % len(kinds)]
        end, _ = play(name, fault=fault, number=number)
        assert end == expected, f"{fault} at write {number}"
