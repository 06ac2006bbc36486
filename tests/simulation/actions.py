"""What people and the world may do to a run, as data: a script of them can be drawn, told, and played again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from modelrollout.api.status import Phase
from tests.builders import NAME, name_of
from tests.simulation.damage import damaged
from tests.simulation.faults import once
from tests.simulation.gateway import ROUTES
from tests.simulation.simulation import Simulation
from tests.simulation.wishes import VERSIONS, Wish


@dataclass(frozen=True)
class Wait:
    """Time passes."""

    seconds: float

    def do(self, run: Simulation) -> None:
        """Nothing happens at the beginning of it."""


@dataclass(frozen=True)
class WaitFor:
    """Time passes until the rollout is in a phase, at most some minutes."""

    phase: str
    longest: float = 90.0

    def do(self, run: Simulation) -> None:
        """Nothing happens at the beginning of it."""


@dataclass(frozen=True)
class Apply:
    """A person applies a spec (and makes the ModelDeployment again if it was deleted)."""

    wish: Wish

    def do(self, run: Simulation) -> None:
        self.wish.apply(run)


@dataclass(frozen=True)
class Command:
    """A person gives a command, with an argument or not; the nonce is new unless the text has one."""

    verb: str
    revision_of: str | None = None

    def do(self, run: Simulation) -> None:
        argument = f":{name_of(self.revision_of)}" if self.revision_of else ""
        nonce = "" if "/" in self.verb else f"/{run.store.version}@somebody"
        run.command(f"{self.verb}{argument}{nonce}")


@dataclass(frozen=True)
class Delete:
    """A person deletes the ModelDeployment."""

    def do(self, run: Simulation) -> None:
        run.delete()


@dataclass(frozen=True)
class Behave:
    """The pods of a version answer with errors, or well again."""

    version: str
    errors: float = 0.0
    drift: float = 0.0
    warm: bool = True

    def do(self, run: Simulation) -> None:
        run.behave(self.version, errors=self.errors, drift=self.drift, warm=self.warm)


@dataclass(frozen=True)
class Crash:
    """Pods of a version crash (all, or so many), and come back later, or never."""

    version: str
    back_after: float | None
    pods: int | None = None

    def do(self, run: Simulation) -> None:
        run.kubelet.crash(name_of(self.version), self.back_after, self.pods)


@dataclass(frozen=True)
class NeverReady:
    """New pods of a version do not become ready any more, or do again."""

    version: str
    ever: bool = False

    def do(self, run: Simulation) -> None:
        run.behave(self.version, ready_after=4.0 if self.ever else None)


@dataclass(frozen=True)
class Weather:
    """Prometheus does like this from now on."""

    mode: str

    def do(self, run: Simulation) -> None:
        run.metrics.become(self.mode)


@dataclass(frozen=True)
class WorldMoves:
    """All versions answer with errors, or well again: nobody's candidate is to blame."""

    errors: float

    def do(self, run: Simulation) -> None:
        for version in VERSIONS:
            run.behave(version, errors=self.errors)


@dataclass(frozen=True)
class FeatureMoves:
    """A feature of the inputs is no longer (or again) as in the profile, by this PSI."""

    psi: float

    def do(self, run: Simulation) -> None:
        run.metrics.features = {**run.metrics.features, "age": self.psi}


@dataclass(frozen=True)
class Observer:
    """The platform brings an observer to the namespace, or takes it away."""

    there: bool

    def do(self, run: Simulation) -> None:
        run.observer(self.there)


@dataclass(frozen=True)
class CopiesDeleted:
    """Somebody deletes the Service by which copies reach the observer."""

    def do(self, run: Simulation) -> None:
        for name in run.copied():
            run.gateway.deleted.add(name)
            run.store.remove("Service", name)


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
    """Requests to the API server fail: so many, after so many that do not."""

    kind: str
    times: int
    after: int = 0

    def do(self, run: Simulation) -> None:
        run.faults.plan = once(self.kind, len(run.log) + 1 + self.after, self.times)


@dataclass(frozen=True)
class KillAfter:
    """The operator dies right after one of its next writes."""

    writes: int

    def do(self, run: Simulation) -> None:
        run.faults.crash_after = len(run.log) + self.writes


@dataclass(frozen=True)
class KillBefore:
    """The operator dies right before one of its next writes."""

    writes: int

    def do(self, run: Simulation) -> None:
        run.faults.crash_before = len(run.log) + self.writes


@dataclass(frozen=True)
class ClockWrong:
    """The operator's host has a clock that is wrong by so many seconds from now on."""

    seconds: float

    def do(self, run: Simulation) -> None:
        run.clock.error = self.seconds


@dataclass(frozen=True)
class Scale:
    """Somebody scales the Deployment of a version by hand."""

    version: str
    replicas: int

    def do(self, run: Simulation) -> None:
        found = run.store.get("Deployment", name_of(self.version))
        if found is not None:
            spec = {**found["spec"], "replicas": self.replicas}
            run.store.write({"kind": "Deployment", "metadata": {"name": found["metadata"]["name"]}, "spec": spec})


@dataclass(frozen=True)
class Reweigh:
    """Somebody edits the weights of the routes by hand, slot by slot."""

    weights: tuple[int, int]

    def do(self, run: Simulation) -> None:
        for kind in ROUTES:
            for route in run.routes(kind):
                run.gateway.forgive()
                run.touched.add(kind)
                first, *others = route["spec"]["rules"]
                references = [
                    {**reference, "weight": weight}
                    for reference, weight in zip(first["backendRefs"], self.weights, strict=False)
                ]
                rules = [{**first, "backendRefs": references}, *others]
                run.store.write({"kind": kind, "metadata": {"name": NAME}, "spec": {**route["spec"], "rules": rules}})


@dataclass(frozen=True)
class Damage:
    """Somebody edits the status by hand."""

    how: str

    def do(self, run: Simulation) -> None:
        found = run.store.get("ModelDeployment", NAME)
        if found is not None:
            status = damaged(found.get("status") or {}, self.how)
            run.store.write({"kind": "ModelDeployment", "metadata": {"name": NAME}, "status": status}, status=True)
            run.invariants.trial.damaged(run.status)


Action = (
    Wait
    | WaitFor
    | Apply
    | Command
    | Delete
    | Behave
    | Crash
    | NeverReady
    | Weather
    | WorldMoves
    | FeatureMoves
    | Observer
    | CopiesDeleted
    | GatewayRefuses
    | ApiFails
    | KillAfter
    | KillBefore
    | ClockWrong
    | Scale
    | Reweigh
    | Damage
)
NEEDS_ONE = (Command, Scale, Reweigh, Damage, Delete)
"""What cannot be done while there is no ModelDeployment."""


async def act(run: Simulation, action: Action) -> None:
    """One line of a script."""
    if isinstance(action, NEEDS_ONE) and run.store.get("ModelDeployment", NAME) is None:
        return
    action.do(run)
    if isinstance(action, Wait):
        await run.advance(action.seconds)
    elif isinstance(action, WaitFor):
        await run.reaches(run.at(Phase(action.phase)), action.longest)
    else:
        await run.advance(0.0)


def told(script: list[Action], world: dict[str, Any]) -> str:
    """The script as a regression test that can be pasted."""
    lines = "\n".join(f"            {action!r}," for action in script)
    options = "".join(f", {name}={value!r}" for name, value in world.items())
    return "def test_to_be_named() -> None:\n    replay(\n        [\n" + lines + f"\n        ]{options},\n    )\n"
