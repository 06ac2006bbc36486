"""One decision's inputs with the words the rules are written in: stable, candidate, slots, layouts, confirmed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from math import ceil

from modelrollout.api.base import clean
from modelrollout.api.guard import Guard
from modelrollout.api.modeldeployment import ModelDeployment
from modelrollout.api.rolloutspec import Rollout
from modelrollout.api.status import WORD_LIMIT, ModelDeploymentStatus, Phase, RolloutStatus
from modelrollout.rollout.observed import Backend, Observed, Workload
from modelrollout.rollout.plan import ARMED, WHOLE, Mirror, RoutePlan, Slot, Source
from modelrollout.rollout.strategies import Course, Stage, course_of
from modelrollout.rollout.timing import watched
from modelrollout.rollout.weights import FULL, share

SLOW_GATEWAY = timedelta(seconds=5)
"""A gateway that has not confirmed a route after this long is worth a line in the status."""

BEFORE_TRAFFIC = (Phase.PREPARING, Phase.VERIFYING, Phase.ARMING)
WITH_TRAFFIC = (Phase.PROGRESSING, Phase.AWAITING_APPROVAL, Phase.PROMOTING, Phase.BAKING)
ACTIVE = (*BEFORE_TRAFFIC, *WITH_TRAFFIC)
"""Phases of an attempt that may still be promoted."""


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

    @cached_property
    def course(self) -> Course:
        """The way of the attempt under way."""
        return course_of(self.spec, fast_track=self.attempt.fast_track)

    @cached_property
    def stage(self) -> Stage | None:
        """The stage in force; None before the first, between copies and users, and with all traffic."""
        number = self.position
        if number == 0 or self.baking:
            return None
        stage = self.course.stages[number - 1]
        before_users = stage.weight == 0 and (stage.preview or stage.source is Source.MIRROR)
        return None if before_users and self.in_force else stage

    @cached_property
    def position(self) -> int:
        """Number of the stage in force, counted from 1; 0 before the first.

        Steps may have been edited meanwhile: a number whose weight is not the one that users get says nothing.
        """
        stages, attempt = self.course.stages, self.attempt
        now = share(attempt.weight) if attempt.weight > 0 else 0
        number = min(max(attempt.step, 0), len(stages))
        if number and (stages[number - 1].weight == now or stages[number - 1].split):
            return number
        ramp = share(attempt.ramp) if attempt.ramp > 0 else 0
        if number == 0 and max(now, ramp) == 0:
            return 0
        # A weight on its way to users is that of a stage to come.
        reached = (n for n, stage in enumerate(stages, start=1) if stage.weight <= now or stage.weight < ramp)
        return max(reached, default=0)

    @cached_property
    def in_force(self) -> int:
        """Parts per million of the users' requests that the candidate was given so far, as the status has it."""
        given = max(self.attempt.weight, self.attempt.ramp)
        return share(given) if given > 0 else 0

    @property
    def first_target(self) -> int:
        """The weight that the candidate's first pods are for."""
        stages = self.course.stages
        return stages[0].load if stages else FULL

    @property
    def paused(self) -> str:
        """Who froze the steps; empty for nobody."""
        if self.spec.paused:
            return "spec.rollout.paused"
        return "by command, resume goes on" if self.status.paused else ""

    @cached_property
    def guards(self) -> tuple[Guard, ...]:
        """The guards that are watched now."""
        return watched(self.spec, self.course, self.stage, users=self.in_force > 0, baking=self.baking)

    @property
    def source(self) -> Source:
        """By which requests the candidate is judged now."""
        return self.stage.source if self.stage is not None else Source.WEIGHTED

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

    @cached_property
    def wanted(self) -> str:
        """The revision that people want: what the spec asks for, or what a commanded rollback went to instead."""
        attempt = self.status.rollout
        if attempt is not None and attempt.instead_of == self.desired and attempt.outcome is None:
            return attempt.revision
        return self.desired

    @cached_property
    def problem(self) -> str | None:
        """The sentence that makes the spec unusable here and now; None where it can be carried out."""
        return self.observed.problem or self.observed.claimed or self._renamed

    @property
    def _renamed(self) -> str | None:
        """Clients call a model by its name: another one is another contract."""
        serving = self.observed.models.get(self.home or "")
        model = self.deployment.spec.model
        name = model.name or self.deployment.metadata.name
        if serving is None or self.desired == self.home or serving[0] == name:
            return None
        if serving[1].partition(".")[0] != model.version.partition(".")[0]:
            return None
        return (
            f"model.name changes from {serving[0]} to {name}, so nobody who calls {serving[0]} would be answered: "
            f"give it a new MAJOR version (it is {model.version}), or keep the name"
        )

    @cached_property
    def home(self) -> str | None:
        """The revision that the traffic of the attempt goes back to."""
        return self.last_good if self.baking else self.stable

    @property
    def subject(self) -> Workload:
        """The pods of the attempt's revision."""
        return self.observed.workload(self.attempt.revision)

    @cached_property
    def command(self) -> str | None:
        """The annotation of a command that was not handled yet."""
        # Cut as the status keeps it: otherwise a long one, or one with a line break at its end, acts at every turn.
        value = clean(self.deployment.metadata.annotations.get("modelrollout.io/command") or "", WORD_LIMIT)
        if not value or value == self.status.handled_command:
            return None
        return value

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
        """Both slots: ``other`` with ``weight`` (perhaps 0), ``main`` with the rest; without ``other`` one is empty."""
        main_slot = Slot(main, WHOLE - weight)
        other_slot = Slot(other, weight) if other else Slot(None, 0)
        first = self.slot_of(main) == 0
        return RoutePlan((main_slot, other_slot) if first else (other_slot, main_slot), main)

    def trial(self, stage: Stage | None, weight: int) -> RoutePlan:
        """The candidate with ``weight`` and all that ``stage`` gives it besides; None is all traffic."""
        revision = self.attempt.revision
        route = self.layout(self.stable or revision, revision, weight)
        if stage is None:
            return replace(route, preview=revision)
        mirror = Mirror(revision, stage.mirror) if stage.mirror else None
        return replace(
            route,
            mirror=mirror,
            split=revision if stage.split else None,
            preview=revision if stage.preview else None,
        )

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
        live, mirror = self.observed.route, route.mirror
        copied = None if mirror is None else (mirror.revision, mirror.weight)
        return live.backends == expected and live.mirror == copied and live.split == route.split

    def confirmed(self, route: RoutePlan) -> bool:
        """Whether ``route`` was read back and every gateway accepted and resolved this very generation."""
        return self.written(route) and self.observed.route.accepted

    def seen(self, revision: str) -> bool:
        """Whether the data plane answered with ``revision`` while the routes were as they are now."""
        if not self.observed.route.probed:
            return True
        probe = self.observed.probe
        return probe is not None and probe.token == self.observed.route.token and revision in probe.seen

    def capacity_for(self, weight: int) -> int:
        """Ready pods that a share of ``weight`` parts per million needs, of a fleet of ``replicas``."""
        # A third of the traffic is not a whole number of parts per million: the one that is too much needs no pod.
        return max(1, ceil(self.replicas * (weight - ARMED) / WHOLE))

    def patience(self, pods: Workload) -> datetime:
        """Until when ``pods`` are waited for that get no nearer to ready."""
        moments = (self.attempt.step_started_at, pods.progressed_at)
        return max((moment for moment in moments if moment), default=self.now) + self.spec.progress_deadline

    def since(self, moment: datetime | None) -> timedelta:
        """Time gone by; zero where nothing was noted or the clock went back, so that this delays and never hurries."""
        return max(self.now - moment, timedelta(0)) if moment is not None else timedelta(0)
