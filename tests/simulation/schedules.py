"""What people and the world may do to a run, as data: Hypothesis draws a schedule, ``play`` carries it out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import strategies as st

from modelrollout.api.status import Phase
from tests.builders import DRIFT, ERRORS, STEPS, Manifest, name_of
from tests.simulation.faults import KINDS, once
from tests.simulation.simulation import End, Simulation

VERSIONS = ("1.0.0", "2.0.0", "3.0.0")
OTHER_STEPS = ((5, "0s"), (40, "20s"), (100, "10s"))
PAUSING: Manifest = {**ERRORS, "onBreach": "Pause"}
WARNING: Manifest = {**ERRORS, "onBreach": "Warn"}
GUARDS: tuple[tuple[Manifest, ...], ...] = ((ERRORS,), (ERRORS, DRIFT), (PAUSING,), (WARNING,), ())


@dataclass(frozen=True)
class Wish:
    """The spec that a person applies."""

    version: str = "1.0.0"
    replicas: int = 2
    steps: tuple[tuple[int, str], ...] = STEPS
    guards: int = 0
    paused: bool = False
    bake: str = "60s"
    grpc: bool = False

    def apply(self, run: Simulation) -> None:
        run.apply(
            self.version,
            replicas=self.replicas,
            steps=self.steps,
            guards=GUARDS[self.guards],
            paused=self.paused,
            bake=self.bake,
            grpc=self.grpc,
        )


@dataclass(frozen=True)
class Apply:
    """A person applies a spec."""

    wish: Wish

    def do(self, run: Simulation) -> None:
        self.wish.apply(run)


@dataclass(frozen=True)
class Command:
    """A person gives a command."""

    verb: str

    def do(self, run: Simulation) -> None:
        run.command(f"{self.verb}/{run.store.version}")


@dataclass(frozen=True)
class Behave:
    """The pods of a version answer with errors, or well again."""

    version: str
    errors: float

    def do(self, run: Simulation) -> None:
        run.behave(self.version, errors=self.errors)


@dataclass(frozen=True)
class Crash:
    """All pods of a version crash, and come back later."""

    version: str
    back_after: float

    def do(self, run: Simulation) -> None:
        run.kubelet.crash(name_of(self.version), self.back_after)


@dataclass(frozen=True)
class Weather:
    """Prometheus does like this from now on."""

    mode: str

    def do(self, run: Simulation) -> None:
        run.metrics.become(self.mode)


@dataclass(frozen=True)
class GatewayRefuses:
    """The gateway refuses every route from now on, or takes them again."""

    refuses: bool

    def do(self, run: Simulation) -> None:
        if self.refuses:
            run.gateway.rejects = True
        else:
            run.gateway.mend()


@dataclass(frozen=True)
class ApiFails:
    """The next requests to the API server fail."""

    kind: str
    times: int

    def do(self, run: Simulation) -> None:
        run.faults.plan = once(self.kind, len(run.log) + 1, self.times)


@dataclass(frozen=True)
class KillAfter:
    """The operator dies right after one of its next writes."""

    writes: int

    def do(self, run: Simulation) -> None:
        run.faults.crash_after = len(run.log) + self.writes


Action = Apply | Command | Behave | Crash | Weather | GatewayRefuses | ApiFails | KillAfter


@dataclass(frozen=True)
class Schedule:
    """Actions, each with the seconds to wait before it, and the temper of the world."""

    actions: tuple[tuple[float, Action], ...]
    wishes: tuple[Wish, ...] = field(default=(Wish(),))
    seed: int = 0
    watch_lag: float = 0.02
    gateway_lag: float = 0.05


wishes = st.builds(
    Wish,
    version=st.sampled_from(VERSIONS),
    replicas=st.sampled_from((2, 1, 4)),
    steps=st.sampled_from((STEPS, OTHER_STEPS)),
    guards=st.integers(0, len(GUARDS) - 1),
    paused=st.sampled_from((False, False, False, True)),
    bake=st.sampled_from(("60s", "0s")),
    grpc=st.sampled_from((False, False, True)),
)
versions = st.sampled_from(VERSIONS)
actions: st.SearchStrategy[Action] = st.one_of(
    st.builds(Apply, wishes),
    st.builds(Apply, st.builds(Wish, version=versions)),
    st.builds(Command, st.sampled_from(("promote", "abort", "retry", "nonsense"))),
    st.builds(Behave, versions, st.sampled_from((0.3, 0.0))),
    st.builds(Crash, versions, st.sampled_from((3.0, 40.0, 600.0))),
    st.builds(Weather, st.sampled_from(("ok", "refused", "hung", "empty", "nan"))),
    st.builds(GatewayRefuses, st.booleans()),
    st.builds(ApiFails, st.sampled_from(sorted(KINDS)), st.integers(1, 4)),
    st.builds(KillAfter, st.integers(1, 12)),
)
pauses = st.sampled_from((0.0, 0.003, 0.02, 0.07, 0.3, 1.0, 4.2, 5.0, 10.0, 31.0, 33.0, 64.0, 200.0))
schedules = st.builds(
    Schedule,
    actions=st.lists(st.tuples(pauses, actions), max_size=14).map(tuple),
    wishes=st.just((Wish(),)),
    seed=st.integers(0, 99),
    watch_lag=st.sampled_from((0.02, 0.002, 0.25)),
    gateway_lag=st.sampled_from((0.05, 0.5, 3.0)),
)


async def play(run: Simulation, schedule: Schedule) -> End:
    """The schedule, then a world in order again; what it settles at."""
    schedule.wishes[0].apply(run)
    for pause, action in schedule.actions:
        await run.advance(pause)
        action.do(run)
    await run.advance(30)
    await _mend(run)
    end = await run.settle()
    for number in range(4):
        if run.status.phase is not Phase.AWAITING_APPROVAL:
            break
        run.command(f"promote/last-{number}")
        end = await run.settle()
    return end


async def _mend(run: Simulation) -> None:
    """Whatever was broken is whole again, and nobody has paused anything."""
    run.faults.plan = lambda _: (None, False, 0.0)
    run.metrics.become("ok")
    for version in VERSIONS:
        run.behave(version, errors=0.0)
    run.gateway.mend()
    run.edit(paused=False)
    await asyncio.sleep(0)


def problems(run: Simulation, end: End, desired: str) -> Sequence[str]:
    """What is wrong with the end: the desired revision serves, or was rolled back and the stable one serves."""
    found = []
    if end.stable == desired:
        if end.phase != Phase.IDLE:
            found.append(f"{desired} serves and the phase is {end.phase}")
    elif end.phase != Phase.ROLLED_BACK or desired not in end.quarantined:
        found.append(f"{desired} neither serves nor is it quarantined, and the phase is {end.phase}")
    for kind in ("HTTPRoute", "GRPCRoute"):
        if run.store.get(kind, "digits") and run.weights(kind) != {end.stable: 1_000_000}:
            found.append(f"the {kind} says {run.weights(kind)}")
        plane = run.gateway.planes.get((kind, "digits"))
        if plane and {name for name, weight in plane.backends if weight} != {end.stable}:
            found.append(f"the data plane of the {kind} has {plane.backends}")
    replicas = run.wish()["spec"]["replicas"]
    for name, count in end.replicas:
        if count != (replicas if name == end.stable else 0):
            found.append(f"{name} has {count} replicas")
    return found
