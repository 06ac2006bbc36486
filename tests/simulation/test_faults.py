"""Like Sieve: a fault at every single write of the reference scenarios, and the end is that of the run without."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from itertools import chain

import pytest

from tests.simulation.faults import KINDS, once
from tests.simulation.scenarios import REFERENCE, first_deployment
from tests.simulation.simulation import TOTALS, End, Simulation
from tests.simulation.virtualtime import run

WRITES_OF_THE_FIRST_DEPLOYMENT = 12
NAMES = list(REFERENCE)
CHUNK = 6

Disturbance = tuple[str, int]
"""What happens (a kind of error, or a crash) and at which write."""


def play(name: str, disturbance: Disturbance | None = None) -> tuple[End, int]:
    """The end of a scenario, and how many writes it took."""

    async def main() -> tuple[End, int]:
        simulation = Simulation()
        kind, number = disturbance or ("", 0)
        if kind == "crash":
            simulation.faults.crash_after = number
        elif kind:
            simulation.faults.plan = once(kind, number)
        async with simulation.running():
            end = await REFERENCE[name](simulation)
        assert simulation.restarts == (kind == "crash")
        return end, len(simulation.log)

    return run(main())


def compare(name: str, disturbances: list[Disturbance], expected: End) -> tuple[list[str], Counter[str]]:
    """Which of them end elsewhere or break something, and what was done."""
    TOTALS.clear()
    found = []
    for disturbance in disturbances:
        try:
            end, _ = play(name, disturbance)
        except Exception as error:
            found.append(f"{disturbance}: {error if isinstance(error, AssertionError) else repr(error)}"[:3000])
        else:
            if end != expected:
                found.append(f"{disturbance} ends at {end}\ninstead of {expected}")
    return found, Counter(TOTALS)


def positions(name: str, count: int) -> range:
    """Where to put a fault: the writes of the first deployment have a scenario of their own."""
    first = 1 if REFERENCE[name] is first_deployment else WRITES_OF_THE_FIRST_DEPLOYMENT + 1
    return range(first, count + 1)


def disturbed(workers: ProcessPoolExecutor, name: str, disturbances: list[Disturbance], expected: End) -> None:
    chunks = [disturbances[start : start + CHUNK] for start in range(0, len(disturbances), CHUNK)]
    results = list(workers.map(compare, [name] * len(chunks), chunks, [expected] * len(chunks)))
    for _, totals in results:
        TOTALS.update(totals)
    found = list(chain.from_iterable(failures for failures, _ in results))
    assert not found, f"{len(found)} of {len(disturbances)}:\n" + "\n\n".join(found[:3])


@pytest.mark.parametrize("name", NAMES)
def test_a_crash_after_any_write_ends_in_the_same_place(workers: ProcessPoolExecutor, name: str) -> None:
    expected, count = play(name)
    disturbed(workers, name, [("crash", number) for number in positions(name, count)], expected)


@pytest.mark.parametrize("name", NAMES)
def test_an_error_at_any_write_ends_in_the_same_place(workers: ProcessPoolExecutor, name: str) -> None:
    """Every third write of each scenario, with every kind of error in turn."""
    expected, count = play(name)
    kinds, place = list(KINDS), NAMES.index(name)
    numbers = positions(name, count)[place % 3 :: 3]
    disturbed(workers, name, [(kinds[(number // 3 + place) % len(kinds)], number) for number in numbers], expected)
