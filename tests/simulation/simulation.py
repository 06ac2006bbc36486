"""A run: the world, one operator process (and its successors), the people who write specs, and what must hold."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

from typing_extensions import override

from modelrollout.api.status import ModelDeploymentStatus, Phase, status_from
from modelrollout.controller.cache import Key
from modelrollout.render.readback import backends_of
from modelrollout.settings import Settings
from tests.builders import NAME, NAMESPACE, Manifest, manifest, name_of, settings
from tests.simulation.invariants import Invariants
from tests.simulation.process import Process
from tests.simulation.store import ApiClient, Faults, Store, Write
from tests.simulation.world import Behaviour, GatewayModel, Kubelet, PrometheusModel, TritonModel

RESTING = (Phase.IDLE, Phase.ROLLED_BACK, Phase.INVALID, Phase.AWAITING_APPROVAL)
QUIET = 900.0
LONGEST = 8 * 3600.0
TOTALS: Counter[str] = Counter()
"""What all runs of this session did together."""


class _Errors(logging.Handler):
    """Errors that the controller logs and survives are errors of the controller all the same."""

    def __init__(self, found: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._found = found

    @override
    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self._found.append(f"logged: {self.format(record)}")


@dataclass(frozen=True)
class End:
    """What a run comes to: equal for a run with faults and the same run without."""

    phase: str
    stable: str | None
    candidate: str | None
    traffic: tuple[tuple[str, int, float], ...]
    routes: tuple[tuple[str, Any], ...]
    replicas: tuple[tuple[str, int], ...]
    quarantined: tuple[str, ...]
    outcomes: tuple[tuple[str, str], ...]


class Simulation:
    """One ModelDeployment in one world."""

    def __init__(self, seed: int = 0, watch_delay: tuple[float, float] = (0.002, 0.02), **options: Any) -> None:
        self.random = Random(seed)
        self.store = Store(self.random, watch_delay)
        self.behaviours: dict[str, Behaviour] = {}
        self.kubelet = Kubelet(self.store, self.behaviours)
        self.metrics = PrometheusModel(self.behaviours)
        self.gateway = GatewayModel(self.store, self.kubelet, self.metrics, **options)
        self.triton = TritonModel(self.kubelet, self.behaviours)
        self._changed = asyncio.Event()
        self.store.internal += [self.kubelet.changed, self.gateway.changed, lambda *_: self._changed.set()]
        self.settings: Settings = settings()
        self.key = Key(NAMESPACE, NAME)
        self.log: list[Write] = []
        self.faults = Faults(crash=self._crash)
        self.invariants = Invariants(self)
        self.downtime = 2.0
        self.restarts = 0
        self._edited_at = 0.0
        self._crashing: asyncio.Task[None] | None = None
        self._handler = _Errors(self.invariants.violations)
        self.process = self._new_process()

    # -- people ---------------------------------------------------------------------------------------------------

    def wish(self) -> Manifest:
        return self.store.objects["ModelDeployment", NAME]

    def apply(self, version: str, **changes: Any) -> None:
        """A person (or Git) applies the spec."""
        body = manifest(version, **changes)
        old = self.store.get("ModelDeployment", NAME)
        if old is not None and old["spec"]["rollout"]["guards"] != body["spec"]["rollout"]["guards"]:
            self._edited_at = asyncio.get_running_loop().time()
        self.store.write(body)
        self.invariants.spec_changed()

    def edit(self, **changes: Any) -> None:
        """Change fields of spec.rollout."""
        body = {key: self.wish()[key] for key in ("apiVersion", "kind", "metadata", "spec")}
        self.store.write({**body, "spec": {**body["spec"], "rollout": {**body["spec"]["rollout"], **changes}}})
        self.invariants.spec_changed()

    def command(self, text: str) -> None:
        self.store.annotate("ModelDeployment", NAME, {"modelrollout.io/command": text})
        self.invariants.spec_changed()

    def behave(self, version: str, **changes: Any) -> None:
        """From now on the pods of ``version`` do like this."""
        found = self.behaviours.setdefault(name_of(version), Behaviour())
        for key, value in changes.items():
            setattr(found, key, value)
        self.metrics.recount()

    # -- time -----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def running(self) -> Any:
        logger = logging.getLogger("modelrollout")
        logger.addHandler(self._handler)
        propagate, logger.propagate = logger.propagate, False
        self.process.start()
        try:
            yield self
            self.check()
        finally:
            logger.removeHandler(self._handler)
            logger.propagate = propagate
            if self._crashing is not None:
                self._crashing.cancel()
            await self.process.kill()
            TOTALS.update(
                runs=1,
                writes=len(self.log),
                checks=self.invariants.checked,
                restarts=self.restarts,
                turns=self.process.turns,
                virtual_seconds=int(asyncio.get_running_loop().time()),
            )

    async def advance(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.check()

    async def until(self, condition: Callable[[], bool], limit: float = LONGEST) -> None:
        try:
            async with asyncio.timeout(limit):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"not in {limit} s; {self.describe()}") from None
        await self.advance(0.0)

    async def settle(self) -> End:
        """Wait until nothing is written any more, and look at I8."""
        loop = asyncio.get_running_loop()
        end = loop.time() + LONGEST
        while True:
            before = len(self.log)
            await self.advance(QUIET)
            if len(self.log) == before and self.status.phase in RESTING:
                break
            assert loop.time() < end, f"does not settle; {self.describe()}"
        before = len(self.log)
        await self.advance(2 * 3600)
        assert len(self.log) == before, f"I8: writes in a quiet system; {self.describe()}"
        return self.end()

    def check(self) -> None:
        broken = [*self.invariants.violations, *(f"I9: {each}" for each in self.gateway.lost)]
        assert not broken, "\n".join([*broken[:6], self.describe()])

    # -- looking --------------------------------------------------------------------------------------------------

    @property
    def status(self) -> ModelDeploymentStatus:
        return status_from(self.wish().get("status"))

    def at(self, phase: Phase, step: int | None = None) -> Callable[[], bool]:
        def reached() -> bool:
            status = self.status
            return status.phase is phase and (
                step is None or (status.rollout is not None and status.rollout.step == step)
            )

        return reached

    def weights(self, kind: str = "HTTPRoute") -> dict[str, int]:
        route = self.store.get(kind, NAME)
        found: dict[str, int] = {}
        for backend in (backends_of(route) or ()) if route else ():
            found[backend.revision] = found.get(backend.revision, 0) + backend.weight
        return found

    def end(self) -> End:
        status = self.status
        routes = [route for kind in ("HTTPRoute", "GRPCRoute") for route in self.store.every(kind)]
        deployments = self.store.every("Deployment")
        return End(
            phase=str(status.phase),
            stable=status.revisions.stable,
            candidate=status.revisions.candidate,
            traffic=tuple((entry.revision, entry.slot, entry.weight) for entry in status.traffic),
            routes=tuple((route["kind"], backends_of(route)) for route in routes),
            replicas=tuple(sorted((each["metadata"]["name"], each["spec"]["replicas"]) for each in deployments)),
            quarantined=status.quarantined,
            outcomes=tuple((entry.revision, str(entry.outcome)) for entry in status.history),
        )

    def describe(self) -> str:
        lines = [f"phase {self.status.phase}: {self.status.message}", f"weights {self.weights()}"]
        return "\n".join([*lines, *(str(write) for write in self.log[-40:])])

    # -- death ----------------------------------------------------------------------------------------------------

    def holds_lease(self) -> bool:
        return self.process.client.alive

    def guards_edited_lately(self) -> bool:
        return asyncio.get_running_loop().time() - self._edited_at < 1.0

    def _crash(self) -> None:
        self.process.client.alive = False
        self._crashing = asyncio.get_running_loop().create_task(self.restart())

    async def restart(self) -> None:
        """Kill the process and start another after a while."""
        self.restarts += 1
        await self.process.kill()
        await asyncio.sleep(self.downtime)
        TOTALS.update(turns=self.process.turns)
        self.process = self._new_process()
        self.process.start()

    def _new_process(self) -> Process:
        client = ApiClient(self.store, self.faults, self.log, self.invariants.check)
        return Process(self.store, client, self.settings, self.metrics, self.triton, self.gateway)
