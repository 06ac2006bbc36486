"""The reference scenarios: what people do, as scripts over a run. Each ends when everything is settled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from modelrollout.api.status import Phase
from tests.builders import name_of
from tests.simulation.simulation import End, Simulation
from tests.simulation.wishes import Wish

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


async def _changed(run: Simulation, wish: Wish) -> None:
    """Version 1 serves, and ``wish`` for version 2 is applied."""
    wish.but(version="1.0.0").apply(run)
    await run.settle()
    wish.apply(run)


async def _approved(run: Simulation) -> End:
    """A person lets the rollout go on where it waits for one."""
    await run.until(run.at(Phase.AWAITING_APPROVAL))
    await run.advance(20)
    run.command("promote/1")
    return await run.settle()


async def blue_green(run: Simulation) -> End:
    await _changed(run, Wish("2.0.0", "BlueGreen", trial="Mirror", preview=True))
    return await run.settle()


async def blue_green_by_approval(run: Simulation) -> End:
    await _changed(run, Wish("2.0.0", "BlueGreen", trial="Preview", approval=True))
    return await _approved(run)


async def blue_green_back_in_the_bake(run: Simulation) -> End:
    await _changed(run, Wish("2.0.0", "BlueGreen"))
    await run.until(run.at(Phase.BAKING))
    run.behave("2.0.0", errors=0.3)
    return await run.settle()


async def shadow_then_canary(run: Simulation) -> End:
    await _changed(run, Wish("2.0.0", "Shadow", steps="whole", then="Canary"))
    return await run.settle()


async def shadow_that_ends(run: Simulation) -> End:
    await _changed(run, Wish("2.0.0", "Shadow", then="End"))
    return await run.settle()


async def shadow_that_shows_a_bad_one(run: Simulation) -> End:
    await _changed(run, Wish("2.0.0", "Shadow", then="BlueGreen"))
    await run.until(run.at(Phase.PROGRESSING, step=1))
    run.behave("2.0.0", errors=0.3)
    return await run.settle()


async def two_arms(run: Simulation) -> End:
    await _changed(run, Wish("2.0.0", "ABTest", decide="Approval"))
    return await _approved(run)


async def recreate(run: Simulation) -> End:
    await _changed(run, Wish("2.0.0", "Recreate", bake="30s"))
    return await run.settle()


async def recreate_taken_back(run: Simulation) -> End:
    await _changed(run, Wish("2.0.0", "Recreate", guards="drift"))
    await run.until(run.at(Phase.BAKING))
    run.behave("2.0.0", drift=0.9)
    return await run.settle()


async def by_a_service(run: Simulation) -> End:
    await _changed(run, Wish("2.0.0", "BlueGreen", guards="drift", service=True))
    return await run.settle()


async def by_a_service_taken_back(run: Simulation) -> End:
    await _changed(run, Wish("2.0.0", "BlueGreen", guards="drift", service=True))
    await run.until(run.at(Phase.BAKING))
    run.behave("2.0.0", drift=0.9)
    return await run.settle()


async def canary_with_a_pause(run: Simulation) -> End:
    await _changed(run, Wish("2.0.0", steps="pause"))
    return await _approved(run)


async def canary_without_room(run: Simulation) -> End:
    await _changed(run, Wish("2.0.0", replicas=3, steps="whole", surge="0"))
    return await run.settle()


async def canary_with_little_room(run: Simulation) -> End:
    await _changed(run, Wish("2.0.0", replicas=3, surge="1"))
    await run.until(run.at(Phase.PROGRESSING, step=3))
    run.behave("2.0.0", errors=0.3)
    return await run.settle()


async def back_by_the_fast_track(run: Simulation) -> End:
    await _changed(run, Wish("2.0.0", steps="whole"))
    await run.settle()
    Wish("1.0.0", steps="whole").apply(run)
    return await run.settle()


async def rollback_by_command(run: Simulation) -> End:
    await _changed(run, Wish("2.0.0", steps="whole"))
    await run.settle()
    run.command("rollback/1@somebody")
    return await run.settle()


async def to_zero_and_back(run: Simulation) -> End:
    await _changed(run, Wish("2.0.0"))
    await run.until(run.at(Phase.PROGRESSING, step=2))
    Wish("2.0.0", replicas=0).apply(run)
    await run.settle()
    Wish("2.0.0").apply(run)
    return await run.settle()


async def another_strategy_on_the_way(run: Simulation) -> End:
    await _changed(run, Wish("2.0.0"))
    await run.until(run.at(Phase.PROGRESSING, step=2))
    Wish("2.0.0", "BlueGreen").apply(run)
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
        blue_green,
        blue_green_by_approval,
        blue_green_back_in_the_bake,
        shadow_then_canary,
        shadow_that_ends,
        shadow_that_shows_a_bad_one,
        two_arms,
        recreate,
        recreate_taken_back,
        by_a_service,
        by_a_service_taken_back,
        canary_with_a_pause,
        canary_without_room,
        canary_with_little_room,
        back_by_the_fast_track,
        rollback_by_command,
        to_zero_and_back,
        another_strategy_on_the_way,
    )
}
