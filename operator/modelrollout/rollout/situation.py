"""One decision's inputs with the words the rules are written in: stable, candidate, slots, layouts, confirmed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Any

from modelrollout.api.base import clean
from modelrollout.api.modeldeployment import Canary, ModelDeployment, Rollout
from modelrollout.api.status import WORD_LIMIT, ModelDeploymentStatus, Phase, RolloutStatus
from modelrollout.rollout.observed import Backend, Observed, Workload
from modelrollout.rollout.plan import ARMED, WHOLE, RoutePlan, Slot

SLOW_GATEWAY = timedelta(seconds=5)
"""A gateway that has not confirmed a route after this long is worth a line in the status."""

PPM_PER_PERCENT = WHOLE // 100
FULL = WHOLE - ARMED
"""All users' traffic, while the other arm stays armed."""

BEFORE_TRAFFIC = (Phase.PREPARING, Phase.VERIFYING, Phase.ARMING)
WITH_TRAFFIC = (Phase.PROGRESSING, Phase.AWAITING_APPROVAL, Phase.PROMOTING, Phase.BAKING)
ACTIVE = (*BEFORE_TRAFFIC, *WITH_TRAFFIC)
"""Phases of an attempt that may still be promoted."""


def share(percent: float) -> int:
    """Parts per million of ``percent``, kept between armed and full so that no arm drops out of the data plane."""
    return min(max(round(percent * PPM_PER_PERCENT), ARMED), FULL)


def percent(weight: int) -> float:
    """What people read: an armed arm is 0, a full one 100."""
    if weight <= ARMED:
        return 0.0
    if weight >= FULL:
        return 100.0
    return round(weight / PPM_PER_PERCENT, 2)


@dataclass(frozen=True)
class Situation:
    """The arguments of a decision. ``desired`` is the name of the revision that the spec asks for."""

    deployment: ModelDeployment
    desired: str
    status: ModelDeploymentStatus
    observed: Observed
    now: datetime

    @property
    def spec(self) -> Rollout:
        """The rollout part of the spec."""
        return self.deployment.spec.rollout

    @property
    def steps(self) -> tuple[Any, ...]:
        """Bridge."""
        return tuple(step for step in (self.spec.canary or Canary()).steps if step.weight is not None)

    @property
    def replicas(self) -> int:
        """Pods of a whole fleet."""
        return self.deployment.spec.replicas

    @property
    def stable(self) -> str | None:
        """The revision that serves."""
        return self.status.revisions.stable

    @property
    def candidate(self) -> str | None:
        """The revision on trial, while it is not promoted."""
        return self.status.revisions.candidate

    @property
    def last_good(self) -> str | None:
        """During the bake: the revision to go back to."""
        return self.status.revisions.last_good

    @property
    def attempt(self) -> RolloutStatus:
        """The attempt under way (or the last one)."""
        return self.status.rollout or RolloutStatus(revision=self.desired)

    @property
    def baking(self) -> bool:
        """Whether the attempt has all traffic already and its predecessor is kept warm."""
        waiting_in_bake = self.status.phase is Phase.AWAITING_APPROVAL and self.candidate is None
        return self.status.phase is Phase.BAKING or waiting_in_bake

    @property
    def subject(self) -> Workload:
        """The pods of the attempt's revision."""
        return self.observed.workload(self.attempt.revision)

    @property
    def command(self) -> tuple[str, str] | None:
        """The (verb, whole annotation) of a command that was not handled yet."""
        # Cut as the status keeps it: otherwise a long one, or one with a line break at its end, acts at every turn.
        value = clean(self.deployment.metadata.annotations.get("modelrollout.io/command") or "", WORD_LIMIT)
        if not value or value == self.status.handled_command:
            return None
        return value.partition("/")[0], value

    @property
    def heard_by(self) -> datetime | None:
        """When a gateway that says nothing of the routes as they are is worth a line; None when it did."""
        since = self.observed.silent_since
        return None if since is None else since + SLOW_GATEWAY

    @property
    def silence(self) -> str | None:
        """One sentence about a gateway that has said nothing of the routes for longer than people expect."""
        if self.heard_by is None or self.now < self.heard_by:
            return None
        gateway = self.deployment.spec.traffic.gateway
        if gateway is None:
            return None
        name = f"{gateway.namespace or self.deployment.metadata.namespace}/{gateway.name}"
        return f"Gateway {name} says nothing of the routes: does it exist, and does its controller run?"

    def slot_of(self, revision: str | None) -> int:
        """The place of ``revision`` in the route; one without a place gets the one the stable revision leaves."""
        places = {entry.revision: entry.slot for entry in self.status.traffic}
        if revision in places:
            return places[revision]
        if self.stable in places:
            return 1 - places[self.stable]
        # A status that lost its places: the route still has them, and swapping them at full weight loses requests.
        backends = self.observed.route.backends or ()
        heaviest = max(range(len(backends)), key=lambda slot: backends[slot].weight, default=0)
        main = backends[heaviest].revision if backends else revision
        return heaviest if revision == main else 1 - heaviest

    def layout(self, main: str, other: str | None = None, weight: int = 0) -> RoutePlan:
        """Both slots: ``other`` with ``weight``, ``main`` with the rest; without ``other`` its slot is empty."""
        main_slot = Slot(main, WHOLE - weight)
        other_slot = Slot(other, weight) if other and weight else Slot(None, 0)
        first = self.slot_of(main) == 0
        return RoutePlan((main_slot, other_slot) if first else (other_slot, main_slot), main)

    @property
    def settled_at(self) -> datetime:
        """When even the slowest proxy carries out the routes as they are, once they are accepted."""
        since = self.observed.route.accepted_since or self.attempt.step_started_at or self.now
        return since + self.observed.settle

    def other_than(self, main: str) -> str | None:
        """The revision that has weight besides ``main``."""
        return next((name for name, weight in self.observed.route.weights.items() if name != main and weight), None)

    def homeward(self, main: str) -> RoutePlan:
        """All traffic on ``main``; another revision that users met is only armed until that is in force everywhere."""
        route = self.observed.route
        other = self.other_than(main)
        settled = route.accepted and self.now >= self.settled_at
        if other is None or (route.weight_of(other) == ARMED and settled):
            return self.layout(main)
        return self.layout(main, other, ARMED)

    def settling(self, main: str) -> tuple[datetime, ...]:
        """When to look at a homeward route again."""
        due = self.other_than(main) and self.observed.route.accepted and self.now < self.settled_at
        return (self.settled_at,) if due else ()

    def written(self, route: RoutePlan) -> bool:
        """Whether the routes read back are ``route``, gateway or not."""
        expected = tuple(Backend(slot.revision or route.stable, slot.weight) for slot in route.slots)
        return self.observed.route.backends == expected

    def confirmed(self, route: RoutePlan) -> bool:
        """Whether ``route`` was read back and every gateway accepted and resolved this very generation."""
        return self.written(route) and self.observed.route.accepted

    def seen(self, revision: str) -> bool:
        """Whether the data plane answered with ``revision`` while the routes were as they are now."""
        probe = self.observed.probe
        return probe is not None and probe.token == self.observed.route.token and revision in probe.seen

    def capacity_for(self, weight: int) -> int:
        """Ready pods that a share of ``weight`` parts per million needs, of a fleet of ``replicas``."""
        return max(1, ceil(self.replicas * weight / WHOLE))

    def since(self, moment: datetime | None) -> timedelta:
        """Time gone by; zero where nothing was noted, so that a lost timestamp delays and never hurries."""
        return self.now - moment if moment is not None else timedelta(0)
