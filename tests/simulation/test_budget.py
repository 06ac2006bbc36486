"""What a rollout costs the API server (limits from the issue), and that nothing is ever read."""

from __future__ import annotations

from tests.builders import name_of
from tests.simulation.simulation import Simulation
from tests.simulation.store import Write
from tests.simulation.virtualtime import run

FIVE = ((5, "30s"), (10, "30s"), (25, "30s"), (50, "30s"), (75, "30s"))


def writes(kind: str, log: list[Write]) -> int:
    return sum(write.kind == kind for write in log)


def test_a_canary_of_five_steps_takes_at_most_27_writes() -> None:
    async def main() -> None:
        simulation = Simulation()
        async with simulation.running():
            simulation.apply("1.0.0", steps=FIVE)
            await simulation.settle()
            before = len(simulation.log)
            simulation.apply("2.0.0", steps=FIVE)
            end = await simulation.settle()
        log = simulation.log[before:]
        assert end.stable == name_of("2.0.0")
        assert writes("HTTPRoute", log) == 8
        assert len(log) <= 27, simulation.describe()

    run(main())


def test_a_rollback_at_step_3_takes_at_most_22_writes() -> None:
    async def main() -> None:
        simulation = Simulation()
        async with simulation.running():
            simulation.apply("1.0.0", steps=FIVE)
            await simulation.settle()
            before = len(simulation.log)
            simulation.apply("2.0.0", steps=FIVE)
            await simulation.until(lambda: simulation.weights().get(name_of("2.0.0")) == 250_000)
            await simulation.advance(10)
            simulation.behave("2.0.0", errors=0.5)
            end = await simulation.settle()
        assert end.quarantined == (name_of("2.0.0"),)
        assert len(simulation.log) - before <= 22, simulation.describe()

    run(main())


def test_hours_of_peace_take_nothing() -> None:
    async def main() -> None:
        simulation = Simulation()
        async with simulation.running():
            simulation.apply("1.0.0")
            await simulation.settle()
            turns, asked, count = simulation.process.turns, simulation.metrics.asked, len(simulation.log)
            await simulation.advance(24 * 3600)
        assert (simulation.process.turns, simulation.metrics.asked, len(simulation.log)) == (turns, asked, count)

    run(main())
