"""Whatever happens, in whatever order: the invariants hold after every write, and in the end the right one serves."""

from __future__ import annotations

from hypothesis import given, settings

from modelrollout.api.modeldeployment import parse_modeldeployment, revision_name
from tests.builders import NAME
from tests.simulation.schedules import Schedule, play, problems, schedules
from tests.simulation.simulation import Simulation
from tests.simulation.virtualtime import run


def check(schedule: Schedule) -> None:
    async def main() -> None:
        simulation = Simulation(
            schedule.seed,
            (0.001, schedule.watch_lag),
            accept_after=schedule.gateway_lag,
            program_after=schedule.gateway_lag + 0.02,
        )
        async with simulation.running():
            end = await play(simulation, schedule)
            desired = revision_name(NAME, parse_modeldeployment(simulation.wish()).spec)
            found = problems(simulation, end, desired)
            assert not found, "\n".join([*found, simulation.describe()])

    run(main())


@settings(settings.get_profile("simulation"))
@given(schedules)
def test_any_schedule(schedule: Schedule) -> None:
    check(schedule)
