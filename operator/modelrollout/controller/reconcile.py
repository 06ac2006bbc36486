"""One turn for one ModelDeployment: gather -> decide -> apply -> status -> events, and what to measure next."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from modelrollout.api.errors import InvalidSpec
from modelrollout.api.modeldeployment import ModelDeployment, parse_modeldeployment
from modelrollout.api.status import ModelDeploymentStatus, status_from, status_to_dict
from modelrollout.controller.applying import Applier, status_body
from modelrollout.controller.cache import Cache, Key
from modelrollout.controller.claims import Claims
from modelrollout.controller.gather import gather
from modelrollout.controller.measure import Measurer
from modelrollout.controller.measurements import Measurements
from modelrollout.controller.notifying import Notifier, NoWebhooks
from modelrollout.controller.observers import Observers
from modelrollout.controller.obstacles import Obstacles
from modelrollout.controller.policies import Policies
from modelrollout.ports import (
    Clock,
    Cluster,
    ConflictError,
    EventRecord,
    Manifest,
    PortError,
    TerminatingError,
    TransientError,
    Webhooks,
)
from modelrollout.rollout.decide import decide
from modelrollout.rollout.drift import watch_guards
from modelrollout.rollout.plan import EventPlan, Plan
from modelrollout.rollout.unreadable import unreadable
from modelrollout.settings import Settings
from modelrollout.telemetry import Telemetry

_LOGGER = logging.getLogger(__name__)

CONFLICT_DELAY = 0.05
LONGEST_CONFLICT_DELAY = 5.0
OBSTACLE_DELAY = 15.0
TRANSIENT_DELAY = 0.5
LONGEST_TRANSIENT_DELAY = 15.0


class Reconciler:
    """Turns wakes into writes. ``reconcile`` never learns which event woke it.

    Parameters
    ----------
    cluster, clock, cache, settings
        The write side of the cluster, time, what the watches saw, the platform team's settings.
    measurements, measurer
        Where results are kept, and how they are made.
    telemetry
        The operator's own metrics.
    may_act
        Whether this process leads now; while it does not, a turn does nothing and looks again.
    webhooks
        Who is called for retraining; None: nobody can be.

    """

    def __init__(
        self,
        cluster: Cluster,
        clock: Clock,
        cache: Cache,
        settings: Settings,
        measurements: Measurements,
        measurer: Measurer,
        telemetry: Telemetry,
        may_act: Callable[[], bool] = lambda: True,
        webhooks: Webhooks | None = None,
    ) -> None:
        self._cluster = cluster
        self._clock = clock
        self._cache = cache
        self._settings = settings
        self._measurements = measurements
        self._measurer = measurer
        self._telemetry = telemetry
        self._may_act = may_act
        self._claims = Claims(measurements.wake)
        self._observers = Observers(measurements.wake)
        cache.follow(self._claims)
        cache.follow(self._observers)
        self.policies = Policies(measurements.wake)
        """Which policies there are."""
        cache.follow(self.policies)
        self._applier = Applier(cluster, cache, settings, self._observers.there)
        self._notifier = Notifier(webhooks or NoWebhooks(), self._tell)
        self._obstacles: dict[Key, Obstacles] = {}
        self._delays: dict[Key, float] = {}
        self._going: dict[Key, str] = {}

    async def reconcile(self, key: Key) -> float | None:
        """One turn; the seconds after which another is due, None for none until the next wake."""
        raw = self._cache.get(key, "ModelDeployment", key.name)
        if raw is None or raw["metadata"].get("deletionTimestamp"):
            self.forget(key)
            return None
        if self._going.get(key) == raw["metadata"]["uid"]:
            return None
        if not self._may_act():
            return 1.0
        with self._telemetry.reconciling():
            try:
                await self._applier.unobserve(key, raw["metadata"]["uid"])
                return await self._turn(key, raw)
            except ConflictError as error:
                self._telemetry.reconcile_failed("Conflict")
                _LOGGER.info("%s/%s: %s; looking again", key.namespace, key.name, error)
                return self._longer(key, CONFLICT_DELAY, LONGEST_CONFLICT_DELAY)
            except TerminatingError as error:
                _LOGGER.info("%s/%s: %s; left alone from now on", key.namespace, key.name, error)
                self.forget(key)
                self._going[key] = raw["metadata"]["uid"]
                return None
            except TransientError as error:
                self._telemetry.reconcile_failed("Transient")
                _LOGGER.warning("%s/%s: %s; trying again", key.namespace, key.name, error)
                return max(self._longer(key, TRANSIENT_DELAY, LONGEST_TRANSIENT_DELAY), error.retry_after or 0)
            except PortError as error:
                self._telemetry.reconcile_failed("Refused")
                _LOGGER.error("%s/%s: the status cannot be written: %s", key.namespace, key.name, error)
                return OBSTACLE_DELAY

    def forget(self, key: Key) -> None:
        """The ModelDeployment is gone; owner references take its children along."""
        self._measurements.forget(key)
        self._telemetry.forget(key.namespace, key.name)
        self._obstacles.pop(key, None)
        self._delays.pop(key, None)
        self._going.pop(key, None)

    async def close(self) -> None:
        """End what this process does besides its turns."""
        await self._notifier.close()

    def _longer(self, key: Key, first: float, longest: float) -> float:
        """Twice the delay of the turn before, if that failed too, within these bounds."""
        delay = self._delays[key] = min(max(self._delays.get(key, 0) * 2, first), longest)
        return delay

    async def _turn(self, key: Key, raw: Manifest) -> float | None:
        try:
            wish = parse_modeldeployment(raw)
        except InvalidSpec as error:
            old = status_from(raw.get("status"))
            await self._write_status(key, raw, old, unreadable(old, raw["metadata"], str(error), self._clock.now()))
            return None
        resolution = self.policies.resolve(wish)
        wish = resolution.wish
        obstacles = self._obstacles.get(key, Obstacles())
        now, record = self._clock.now(), self._measurements.of(key)
        observer = self._observers.there(key.namespace) is not None
        observed = gather(
            key, resolution, self._cache, self._claims, record, obstacles, self._settings, now, observer=observer
        )
        plan = decide(wish, wish.status, observed, now)
        slots = () if plan.route is None else plan.route.slots
        if any(slot.weight > observed.route.weight_of(slot.revision) for slot in slots):
            record.rested = observed.evaluation  # in force only later, when the newest one may be another
        obstacle = await self._apply(key, wish, plan)
        await self._finish(key, raw, wish, plan)
        if obstacle != self._obstacles.get(key):
            # The status of this turn was made before the obstacle came, or went: the next turn tells.
            if obstacle is None:
                del self._obstacles[key]
            else:
                self._obstacles[key] = obstacle
            return CONFLICT_DELAY
        self._delays.pop(key, None)
        self._measurer.want(key, wish, plan, resolution.definitions)
        guards = (*wish.spec.rollout.guards, *watch_guards(wish.spec.observation))
        self._telemetry.observe(key.namespace, key.name, plan.status, record.evaluation, guards)
        seconds = None if plan.requeue_after is None else plan.requeue_after.total_seconds()
        return seconds if obstacle is None else min(seconds or OBSTACLE_DELAY, OBSTACLE_DELAY)

    async def _apply(self, key: Key, wish: ModelDeployment, plan: Plan) -> Obstacles | None:
        uncopied = self._obstacles.get(key, Obstacles()).uncopied
        try:
            late = await self._applier.apply(key, wish, plan)
        except PortError as error:
            obstacle = Obstacles.of(error)
            if obstacle is None:
                raise
            _LOGGER.warning("%s/%s: %s", key.namespace, key.name, error)
            return replace(obstacle, uncopied=uncopied)
        if late is not None:
            return Obstacles.of_copies(late)
        # A turn that leaves the routes alone tries nothing.
        return Obstacles(uncopied=uncopied) if uncopied and plan.route is None else None

    async def _finish(self, key: Key, raw: Manifest, wish: ModelDeployment, plan: Plan) -> None:
        """Records first, then the one status write, then what people are told: an event never precedes its cause."""
        for name, status in plan.revision_status.items():
            await self._applier.revision_status(key, name, status)
        await self._write_status(key, raw, wish.status, plan.status)
        for event in plan.events:
            await self._tell(raw, event)
        if plan.notify is not None:
            self._notifier.notify(key, raw, plan.notify)

    async def _write_status(
        self, key: Key, raw: Manifest, old: ModelDeploymentStatus, new: ModelDeploymentStatus
    ) -> None:
        if new == old:
            return
        self._cache.put(key, await self._cluster.apply_status(status_body(raw, new)))
        _LOGGER.info("%s/%s is %s: %s", key.namespace, key.name, new.phase, new.message)
        for fields in told(key, old, new):
            text = "%s/%s: decision %s: %s"
            _LOGGER.info(text, key.namespace, key.name, fields["decision"], fields["why"], extra={"fields": fields})

    async def _tell(self, raw: Manifest, event: EventPlan) -> None:
        try:
            await self._cluster.emit(EventRecord(raw, str(event.reason), event.message, event.warning))
        except TerminatingError:
            raise
        except PortError as error:
            _LOGGER.warning("event %s was not stored: %s", event.reason, error)


def told(key: Key, old: ModelDeploymentStatus, new: ModelDeploymentStatus) -> list[dict[str, Any]]:
    """The decisions that ``new`` has and ``old`` has not, oldest first, as the fields of a log line each."""
    attempt, before = new.rollout, old.rollout
    if attempt is None:
        return []
    known = {(each.at, each.decision) for each in before.decisions} if before is not None else set()
    queries = {guard.name: guard.query for guard in attempt.guards}
    return [
        {
            "namespace": key.namespace,
            "name": key.name,
            "attempt": attempt.attempt,
            "revision": attempt.revision,
            "decision": each.decision,
            "phase": str(new.phase),
            "step": each.step,
            "weight": each.weight,
            "why": each.message,
            "guards": [
                {**status_to_dict(guard), "query": guard.query or queries.get(guard.name, "")} for guard in each.guards
            ],
        }
        for each in reversed(attempt.decisions)
        if (each.at, each.decision) not in known
    ]
