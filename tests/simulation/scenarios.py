"""The reference scenarios: what people do, as scripts over a run. Each ends when everything is settled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from modelrollout.api.status import Phase
from tests.builders import name_of
from tests.simulation.simulation import End, Simulation

Scenario = Callable[[Simulation], Awaitable[End]]


async def first_deployment(run: Simulation) -> End:
    run.apply("1.0.0")
    return await run.settle()


async def promotion(run: Simulation) -> End:
    run.apply("1.0.0")
    await run.settle()
    run.apply("2.0.0")
    return await run.settle()


async def promotion_by_both_protocols(run: Simulation) -> End:
    run.apply("1.0.0", grpc=True)
    await run.settle()
    run.apply("2.0.0", grpc=True)
    return await run.settle()


async def rollback_at_step_2(run: Simulation) -> End:
    run.apply("1.0.0")
    await run.settle()
    run.apply("2.0.0")
    await run.until(run.at(Phase.PROGRESSING, step=2))
    run.behave("2.0.0", errors=0.3)
    return await run.settle()


async def rollback_at_step_2_by_both_protocols(run: Simulation) -> End:
    run.apply("1.0.0", grpc=True)
    await run.settle()
    run.apply("2.0.0", grpc=True)
    await run.until(run.at(Phase.PROGRESSING, step=2))
    run.behave("2.0.0", errors=0.3)
    return await run.settle()


async def rollback_in_the_bake(run: Simulation) -> End:
    run.apply("1.0.0")
    await run.settle()
    run.apply("2.0.0")
    await run.until(run.at(Phase.BAKING))
    run.behave("2.0.0", errors=0.3)
    return await run.settle()


async def superseded(run: Simulation) -> End:
    run.apply("1.0.0")
    await run.settle()
    run.apply("2.0.0")
    await run.until(run.at(Phase.PROGRESSING, step=2))
    run.apply("3.0.0")
    return await run.settle()


async def there_and_back(run: Simulation) -> End:
    run.apply("1.0.0")
    await run.settle()
    run.apply("2.0.0")
    await run.until(run.at(Phase.PROGRESSING, step=2))
    run.apply("1.0.0")
    return await run.settle()


async def aborted_by_command(run: Simulation) -> End:
    run.apply("1.0.0")
    await run.settle()
    run.apply("2.0.0")
    await run.until(run.at(Phase.PROGRESSING, step=2))
    run.command("abort/1")
    return await run.settle()


async def never_ready(run: Simulation) -> End:
    run.apply("1.0.0")
    await run.settle()
    run.behave("2.0.0", ready_after=None)
    run.apply("2.0.0")
    return await run.settle()


async def loses_its_pods(run: Simulation) -> End:
    """A setback, and a second way up the steps."""
    run.apply("1.0.0")
    await run.settle()
    run.apply("2.0.0")
    await run.until(run.at(Phase.PROGRESSING, step=2))
    run.kubelet.crash(name_of("2.0.0"), comes_back_after=20)
    return await run.settle()


REFERENCE: dict[str, Scenario] = {
    scenario.__name__: scenario
    for scenario in (
        first_deployment,
        promotion,
        promotion_by_both_protocols,
        rollback_at_step_2,
        rollback_at_step_2_by_both_protocols,
        rollback_in_the_bake,
        superseded,
        there_and_back,
        aborted_by_command,
        never_ready,
        loses_its_pods,
    )
}
