"""The end of a run: the world is mended, everything settles, the right one serves, and nothing is left behind."""

from __future__ import annotations

from collections.abc import Iterator

from modelrollout.api.modeldeployment import parse_modeldeployment, revision_name
from modelrollout.api.status import Outcome, Phase
from modelrollout.render.names import OBSERVER, observer
from modelrollout.rollout.plan import WHOLE
from tests.builders import NAME
from tests.simulation.actions import Command, act
from tests.simulation.faults import NONE
from tests.simulation.gateway import ROUTES
from tests.simulation.simulation import End, Simulation
from tests.simulation.wishes import VERSIONS, Wish

NEWEST = Wish("9.0.0")
"""What must be possible from wherever a run ended."""
APPROVALS = 6
LIMIT = 24 * 3600.0


async def finish(run: Simulation, last: Wish) -> None:
    """Mend the world, look at where it settles; then one more change, which must go through from there."""
    if run.store.get("ModelDeployment", NAME) is None:
        await run.advance(30)
        left = [f"{kind}/{name}" for kind, name in run.store.objects if name != OBSERVER]
        assert not left, f"left behind by a deleted ModelDeployment: {left}"
    mend(run)
    last.but(paused=False, pool="cpu").apply(run)
    await run.advance(30)
    run.command(f"resume/{run.store.version}")
    end = await _settled(run)
    found = list(problems(run, end))
    assert not found, "\n".join([*found, run.describe()])
    NEWEST.apply(run)
    end = await _settled(run)
    found = list(problems(run, end))
    assert not found, "\n".join([*found, run.describe()])
    assert end.stable == end_of(NEWEST), f"{NEWEST} was not promoted from there\n{run.describe()}"


def end_of(wish: Wish) -> str:
    """The revision that a wish asks for."""
    return revision_name(NAME, parse_modeldeployment(wish.manifest()).spec)


def mend(run: Simulation) -> None:
    """Whatever was broken is whole again, the API server, the clock and the models too."""
    run.faults.plan = lambda _: NONE
    run.faults.crash_before = run.faults.crash_after = 0
    run.clock.error = 0.0
    run.metrics.become("ok")
    run.metrics.features = dict.fromkeys(run.metrics.features, 0.01)
    for version in VERSIONS:
        run.behave(version, errors=0.0, drift=0.0, warm=True, ready_after=4.0)
    run.kubelet.mend()
    run.gateway.mend()


async def _settled(run: Simulation) -> End:
    """Where it settles when a person approves what waits for one."""
    end = await run.settle(LIMIT)
    for _ in range(APPROVALS):
        if run.status.phase is not Phase.AWAITING_APPROVAL:
            break
        await act(run, Command("promote"))
        end = await run.settle(LIMIT)
    return end


def problems(run: Simulation, end: End) -> Iterator[str]:
    """What is wrong with the end: the desired revision serves, or was given up for a reason and the stable one does."""
    wish = parse_modeldeployment(run.wish())
    desired = revision_name(NAME, wish.spec)
    status = run.status
    concluded = bool(status.history) and (status.history[0].revision, status.history[0].outcome) == (
        desired,
        Outcome.CONCLUDED,
    )
    if end.stable == desired:
        if end.phase != Phase.IDLE:
            yield f"{desired} serves and the phase is {end.phase}"
    elif end.phase == Phase.INVALID and "model.name changes" in status.message:
        return  # another name needs another MAJOR version: refused, and what serves goes on
    elif wish.spec.replicas == 0 or concluded:
        if end.phase not in (Phase.IDLE, Phase.PENDING, Phase.ROLLED_BACK):
            yield f"{desired} is not tried, and the phase is {end.phase}"
    elif end.phase != Phase.ROLLED_BACK or desired not in end.quarantined:
        yield f"{desired} neither serves nor is it quarantined, and the phase is {end.phase}"
    yield from _traffic(run, end)
    for name, count in end.replicas:
        if count != (wish.spec.replicas if name == end.stable else 0):
            yield f"{name} has {count} replicas"


def _traffic(run: Simulation, end: End) -> Iterator[str]:
    spec = parse_modeldeployment(run.wish()).spec
    asked = {"HTTPRoute": spec.traffic.http, "GRPCRoute": spec.traffic.grpc}
    for kind in ROUTES:
        there = bool(run.routes(kind))
        if there != (asked[kind] is not None) and end.stable:
            yield f"the {kind} is {'there' if there else 'missing'}"
        plane = run.gateway.plane(kind)
        copies = {observer(NAME)} if spec.observation is not None and run.metrics.observing else set()
        if plane.mirror != copies and (there or plane.mirror):
            yield f"the data plane of the {kind} copies to {sorted(plane.mirror)} instead of {sorted(copies)}"
        users = {name for name, weight in plane.backends if weight}
        if end.stable and (users not in (set(), {end.stable}) or (there and not users)):
            yield f"the data plane of the {kind} has {plane.backends}"
    if bool(run.store.get("Service", NAME)) != (spec.traffic.service is not None) and end.stable:
        yield "the Service with the name of the ModelDeployment is there or missing wrongly"
    if end.stable:
        yield from (f"the traffic is {way}" for way in run.traffic() if way != {end.stable: WHOLE})
    previews = [route for kind in ROUTES for route in run.store.every(kind) if route["metadata"]["name"] != NAME]
    blue_green = spec.rollout.blue_green
    if previews and (blue_green is None or blue_green.preview is None):
        yield f"routes of a preview are left: {[route['metadata']['name'] for route in previews]}"
