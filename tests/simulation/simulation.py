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

from modelrollout.api.modeldeployment import ModelDeployment, parse_modeldeployment
from modelrollout.api.status import ModelDeploymentStatus, Phase, status_from
from modelrollout.controller.cache import Key
from modelrollout.render.names import LABEL_REVISION, OBSERVER
from modelrollout.render.readback import backends_of
from modelrollout.rollout.plan import WHOLE
from modelrollout.settings import Settings
from tests.builders import NAME, NAMESPACE, Manifest, manifest, name_of, settings
from tests.simulation.gateway import ROUTES, GatewayModel, observed_by, weights_of
from tests.simulation.invariants import Invariants
from tests.simulation.kubelet import Behaviours, Kubelet
from tests.simulation.metrics import PrometheusModel
from tests.simulation.process import Process
from tests.simulation.store import ApiClient, Faults, Store, Write
from tests.simulation.triton import TritonModel
from tests.simulation.virtualtime import VirtualClock
from tests.simulation.webhooks import WebhookModel

RESTING = (Phase.IDLE, Phase.ROLLED_BACK, Phase.INVALID, Phase.AWAITING_APPROVAL)
QUIET = 900.0
WAITING = 60.0
LONGEST = 8 * 3600.0
LATELY = 1.0
HASTE_SPAN, HASTE_TURNS = 30.0, 150
RENAMED = "digits-again"
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
        self.behaviours = Behaviours()
        self.kubelet = Kubelet(self.store, self.behaviours)
        self.metrics = PrometheusModel(self.behaviours)
        self.gateway = GatewayModel(self.store, self.kubelet, self.metrics, **options)
        self.triton = TritonModel(self.kubelet, self.behaviours)
        self.webhooks = WebhookModel()
        self.clock = VirtualClock()
        self._changed = asyncio.Event()
        self.store.internal += [self.kubelet.changed, self.gateway.changed, self._note]
        self.settings: Settings = settings()
        self.key = Key(NAMESPACE, NAME)
        self.log: list[Write] = []
        self.faults = Faults(crash=self._crash)
        self.invariants = Invariants(self)
        self.downtime = 2.0
        self.restarts = 0
        self.uids: list[str] = []
        """Of every ModelDeployment of this name that there was."""
        self.records: dict[str, str] = {}
        """Of every ModelRevision that there was: its uid, and that of its owner."""
        self.touched: set[str] = set()
        """Kinds of route that somebody edited by hand since the operator last wrote them."""
        self._wishes: list[tuple[float, ModelDeployment]] = []
        self._last: Manifest = {}
        self._counted = (0.0, 0)
        self._read: tuple[Any, ModelDeploymentStatus] | None = None
        self._crashing: asyncio.Task[None] | None = None
        self._handler = _Errors(self.invariants.violations)
        self.process = self._new_process()

    # -- people ---------------------------------------------------------------------------------------------------

    def wish(self) -> Manifest:
        """The ModelDeployment, or the last that there was of it."""
        return self.store.get("ModelDeployment", NAME) or self._last

    @property
    def wishes(self) -> list[ModelDeployment]:
        """The specs that a late watch may still show, newest first."""
        oldest = asyncio.get_running_loop().time() - LATELY
        found = []
        for since, wish in reversed(self._wishes):
            found.append(wish)
            if since < oldest:
                break
        return found

    def apply(self, version: str, **changes: Any) -> None:
        """A person (or Git) applies the spec."""
        self.write(manifest(version, **changes))

    def write(self, body: Manifest) -> None:
        self.store.write(body)
        wish = parse_modeldeployment(self.wish())
        self._wishes.append((asyncio.get_running_loop().time(), wish))
        self.invariants.trial.spec_changed(wish)

    def edit(self, **changes: Any) -> None:
        """Change fields of spec.rollout."""
        body = {key: self.wish()[key] for key in ("apiVersion", "kind", "metadata", "spec")}
        self.write({**body, "spec": {**body["spec"], "rollout": {**body["spec"]["rollout"], **changes}}})

    def command(self, text: str) -> None:
        body = {key: self.wish()[key] for key in ("apiVersion", "kind", "metadata", "spec")}
        self.write({**body, "metadata": {**body["metadata"], "annotations": {"modelrollout.io/command": text}}})

    def observer(self, there: bool) -> None:
        """The platform brings an observer to the namespace, or takes it away."""
        self.metrics.observing = there
        if not there:
            self.store.remove("Service", OBSERVER)
            return
        labels = {
            "app.kubernetes.io/managed-by": "modelrollout",
            "app.kubernetes.io/name": OBSERVER,
            "app.kubernetes.io/component": "observer",
        }
        ports = [{"name": "http", "port": 8000}, {"name": "grpc", "port": 8001}, {"name": "metrics", "port": 9100}]
        metadata = {"name": OBSERVER, "namespace": NAMESPACE, "labels": labels}
        spec = {"selector": {"app.kubernetes.io/name": OBSERVER}, "ports": ports}
        self.store.write({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})

    def copied(self) -> set[str]:
        """The Services that get copies for the observer, by the routes as they are."""
        return {name for kind in ROUTES for route in self.routes(kind) for name in observed_by(route)}

    def delete(self) -> None:
        """A person deletes the ModelDeployment."""
        self.store.remove("ModelDeployment", NAME)

    def behave(self, version: str, **changes: Any) -> None:
        """From now on the pods of ``version`` do like this."""
        for model in (None, RENAMED):
            found = self.behaviours[name_of(version, model)]
            for key, value in changes.items():
                setattr(found, key, value)
        self.metrics.recount()

    # -- time -----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def running(self) -> Any:
        self.start()
        try:
            yield self
            self.check()
        finally:
            await self.stop()

    def start(self) -> None:
        logger = logging.getLogger("modelrollout")
        logger.addHandler(self._handler)
        self._propagate, logger.propagate = logger.propagate, False
        self.process.start()

    async def stop(self) -> None:
        logger = logging.getLogger("modelrollout")
        logger.removeHandler(self._handler)
        logger.propagate = self._propagate
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
        assert await self.reaches(condition, limit), f"not in {limit} s; {self.describe()}"

    async def reaches(self, condition: Callable[[], bool], limit: float) -> bool:
        """Whether ``condition`` comes true in time; looked at after every change of an object."""
        try:
            async with asyncio.timeout(limit):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        finally:
            self.check()
        return True

    async def settle(self, longest: float = LONGEST) -> End:
        """Wait until nothing is written any more, and look at I8."""
        loop = asyncio.get_running_loop()
        end = loop.time() + longest
        while True:
            before = len(self.log)
            # Who waits for a person goes on looking at the guards: hours of that take long and tell nothing.
            await self.advance(WAITING if self.status.phase is Phase.AWAITING_APPROVAL else QUIET)
            nothing = self.status.phase is Phase.PENDING and self.wishes[0].spec.replicas == 0
            if len(self.log) == before and (self.status.phase in RESTING or nothing):
                break
            assert loop.time() < end, f"does not settle; {self.describe()}"
        before = len(self.log)
        await self.advance(2 * WAITING if self.status.phase is Phase.AWAITING_APPROVAL else 2 * 3600)
        assert len(self.log) == before, f"I8: writes in a quiet system; {self.describe()}"
        return self.end()

    def check(self) -> None:
        self._look_for_haste()
        lost = () if self.invariants.trial.distrusted else self.gateway.lost
        self.invariants.look_for_calls(len(self.webhooks.calls))
        broken = [*self.invariants.violations, *(f"I9: {each}" for each in lost)]
        assert not broken, "\n".join([*broken[:6], self.describe()])
        self.gateway.lost.clear()

    def _look_for_haste(self) -> None:
        """I12: turns without end and without a reason would eat a processor."""
        moment, turns = self._counted
        passed, made = asyncio.get_running_loop().time() - moment, self.process.turns - turns
        if passed >= HASTE_SPAN or made < 0:
            self._counted = (asyncio.get_running_loop().time(), self.process.turns)
            allowed = HASTE_TURNS * max(passed / HASTE_SPAN, 1)
            if made > allowed:
                self.invariants.violations.append(f"I12: {made} turns in {passed:.0f} s")

    # -- looking --------------------------------------------------------------------------------------------------

    @property
    def status(self) -> ModelDeploymentStatus:
        # Looked at much more often than it changes.
        raw = self.wish().get("status")
        if self._read is None or self._read[0] is not raw:
            self._read = (raw, status_from(raw))
        return self._read[1]

    def at(self, phase: Phase, step: int | None = None) -> Callable[[], bool]:
        def reached() -> bool:
            status = self.status
            return status.phase is phase and (
                step is None or (status.rollout is not None and status.rollout.step == step)
            )

        return reached

    def routes(self, kind: str) -> list[Manifest]:
        """The route of ``kind`` that users come by, if there is one."""
        route = self.store.get(kind, NAME)
        return [route] if route else []

    def traffic(self, without: str = "", *, used: bool = False) -> list[dict[str, int]]:
        """Parts per million by revision, of every way that users come by (but the kind ``without``).

        With ``used`` only routes that some proxy carries out, as they are now or as they were.
        """
        kinds = [kind for kind in ROUTES if kind != without and (not used or self.gateway.plane(kind).backends)]
        found = [weights_of(route) for kind in kinds for route in self.routes(kind)]
        service = self.store.get("Service", NAME) if without != "Service" else None
        selected = ((service or {}).get("spec", {}).get("selector") or {}).get(LABEL_REVISION)
        return [*found, {selected: WHOLE}] if selected else found

    def left_behind(self) -> list[str]:
        """Ways that users still come by and that the spec does not ask for any more."""
        traffic = self.wishes[0].spec.traffic
        asked = {"HTTPRoute": traffic.http, "GRPCRoute": traffic.grpc, "Service": traffic.service}
        return [kind for kind, part in asked.items() if part is None and self.store.get(kind, NAME)]

    def weights(self, kind: str = "HTTPRoute") -> dict[str, int]:
        return weights_of(self.store.get(kind, NAME))

    def edited_lately(self) -> bool:
        """Whether the operator may not have seen the newest guards, steps and strategy yet."""
        wishes = self.wishes
        return any(wish.spec.rollout != wishes[0].spec.rollout for wish in wishes)

    def end(self) -> End:
        status = self.status
        routes = [route for kind in ROUTES for route in self.routes(kind)]
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
        lines = [f"phase {self.status.phase}: {self.status.message}", f"traffic {self.traffic()}"]
        return "\n".join([*lines, *(str(write) for write in self.log[-40:])])

    def _note(self, event: str, manifest: Manifest) -> None:
        self._changed.set()
        metadata = manifest["metadata"]
        if manifest["kind"] == "ModelRevision":
            owner = next((each["uid"] for each in metadata.get("ownerReferences") or ()), "")
            self.records[metadata["uid"]] = owner
        elif manifest["kind"] == "ModelDeployment":
            self._last = manifest
            if event == "ADDED":
                self.uids.append(metadata["uid"])
                if len(self.uids) > 1:
                    self.invariants.recreated()

    # -- death ----------------------------------------------------------------------------------------------------

    def holds_lease(self) -> bool:
        return self.process.client.alive

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
        return Process(
            self.store,
            client,
            self.settings,
            self.metrics,
            self.triton,
            self.gateway,
            webhooks=self.webhooks,
            clock=self.clock,
        )
