"""One operator process: the real controller on the fakes. It can die at any moment and be started anew."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from modelrollout.controller.cache import Cache, Key
from modelrollout.controller.gates import GateKeeper
from modelrollout.controller.measure import Measurer
from modelrollout.controller.measurements import Measurements
from modelrollout.controller.queue import Queue
from modelrollout.controller.reconcile import Reconciler
from modelrollout.handlers.watching import KINDS, key_of
from modelrollout.ports import Manifest
from modelrollout.render.names import LABEL_MANAGED_BY, MANAGED_BY
from modelrollout.render.trim import trim
from modelrollout.settings import Settings
from modelrollout.telemetry import Telemetry
from tests.simulation.gateway import GatewayModel
from tests.simulation.metrics import PrometheusModel
from tests.simulation.store import ApiClient, Store
from tests.simulation.triton import TritonModel
from tests.simulation.virtualtime import VirtualClock
from tests.simulation.webhooks import WebhookModel

WATCHED = {watched.kind: watched for watched in KINDS}


class Process:
    """What ``modelrollout run`` puts together, with the watches of the store instead of kopf."""

    def __init__(
        self,
        store: Store,
        client: ApiClient,
        settings: Settings,
        metrics: PrometheusModel,
        triton: TritonModel,
        gateway: GatewayModel,
        may_act: Callable[[], bool] = lambda: True,
        webhooks: WebhookModel | None = None,
        clock: VirtualClock | None = None,
    ) -> None:
        self._store = store
        self.client = client
        clock = clock or VirtualClock()
        self.cache = Cache(trim)
        telemetry = Telemetry(monotonic=clock.monotonic)
        self.queue = Queue(self._reconcile, 2, telemetry)
        self.measurements = Measurements(self.queue.wake)
        providers = {"default": metrics}
        gates = GateKeeper(self.measurements, self.cache, clock, settings, triton, client, providers)
        measurer = Measurer(self.measurements, self.cache, clock, settings, providers, gates, gateway)
        self.reconciler = Reconciler(
            client, clock, self.cache, settings, self.measurements, measurer, telemetry, may_act, webhooks
        )
        self.turns = 0
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """List everything, watch, and give every key a turn."""
        for kind in WATCHED:
            for manifest in self._store.every(kind):
                self._see("ADDED", manifest)
        self._store.watchers.append(self._see)
        self._running = asyncio.get_running_loop().create_task(self.queue.run())

    async def kill(self) -> None:
        """Die: nothing in memory is left, a request on its way may have been carried out."""
        self.client.alive = False
        if self._see in self._store.watchers:
            self._store.watchers.remove(self._see)
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        await self.measurements.close()
        await self.reconciler.close()

    async def _reconcile(self, key: Key) -> float | None:
        self.turns += 1
        return await self.reconciler.reconcile(key)

    def _see(self, event: str, manifest: Manifest) -> None:
        watched = WATCHED.get(manifest["kind"])
        if watched is None:
            return
        labels = manifest["metadata"].get("labels") or {}
        if watched.labelled and labels.get(LABEL_MANAGED_BY) != MANAGED_BY:
            return
        key = key_of(watched, manifest)
        if key is None:
            return
        if event == "DELETED":
            self.cache.remove(key, watched.kind, manifest["metadata"]["name"], manifest["metadata"]["uid"])
        else:
            self.cache.put(key, manifest)
        self.queue.wake(key)
