"""How a change moves: the strategy, the deadlines and the guards, with the rules that refuse contradictions."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from modelrollout.api.base import Duration, SpecModel, StrictBool
from modelrollout.api.durations import between
from modelrollout.api.gates import Gates
from modelrollout.api.guard import Guard
from modelrollout.api.rules import ListKey, Rule
from modelrollout.api.scalars import Label, ObjectName
from modelrollout.api.strategies import ABTest, BlueGreen, Canary, Decider, Shadow, ShadowEnd, Strategy

GUARDS_NEEDED = (
    "a rollout needs guards: set at least one, name a policy that has some, selectedPolicies: true to rely on those of "
    "policies by their selector, or unguarded: true to move traffic without looking at any metric"
)
_STEPS = f"(has(self.canary) ? size(self.canary.steps) : {len(Canary().steps)})"


class PolicyKind(StrEnum):
    """The two kinds of policy."""

    ROLLOUT_POLICY = "RolloutPolicy"
    CLUSTER_ROLLOUT_POLICY = "ClusterRolloutPolicy"


class PolicyReference(SpecModel):
    """A policy whose guards and SLIs the rollout uses."""

    kind: PolicyKind = PolicyKind.ROLLOUT_POLICY
    """RolloutPolicy (of this namespace) or ClusterRolloutPolicy."""
    name: ObjectName
    """Name of the policy."""


class Rollout(SpecModel):
    """How a change of the model moves through the traffic."""

    strategy: Strategy = Strategy.CANARY
    """Canary (rising weights), BlueGreen (a switch in one write), Shadow (copied requests first), ABTest (two arms
    for a time) or Recreate (the old pods go before the new ones come: nobody is answered in between)."""
    canary: Canary | None = None
    """Steps and room of a canary. Only with strategy Canary, or Shadow that goes on with one. Default: 5 percent
    for 2m, 25 for 5m, 50 for 5m."""
    blue_green: BlueGreen | None = None
    """What comes before the switch. Only with strategy BlueGreen, or Shadow that goes on with one."""
    shadow: Shadow | None = None
    """What is copied, and what follows. Only with strategy Shadow."""
    ab_test: ABTest | None = None
    """Arms, their clients and the end of the test. Only with strategy ABTest."""
    bake: Annotated[Duration, between("0s", "168h")] = timedelta(minutes=10)
    """How long guards stay on and the last good revision stays warm after the promotion, 0s to 168h."""
    progress_deadline: Annotated[Duration, between("1s", "24h")] = timedelta(minutes=15)
    """How long the candidate's pods may get no nearer to ready before the attempt is given up, 1s to 24h."""
    no_data_deadline: Annotated[Duration, between("1s", "168h")] = timedelta(minutes=10)
    """How long a step is held for guards without data before a person is asked (AwaitingApproval), 1s to
    168h."""
    evaluation_interval: Annotated[Duration, between("1s", "10m")] = timedelta(seconds=10)
    """Time between two evaluations of the guards, 1s to 10m."""
    prometheus: Label = "default"
    """Which Prometheus of the operator's settings answers the guards."""
    guards: Annotated[tuple[Guard, ...], Field(max_length=20), ListKey("name")] = ()
    """What is watched while traffic flows. At most 20. Required unless a policy is named, or selectedPolicies or
    unguarded is true."""
    policies: Annotated[tuple[PolicyReference, ...], Field(max_length=10)] = ()
    """Policies whose guards and SLIs are used besides those whose selector takes this ModelDeployment. Of guards (and
    SLIs) with the same name the last one counts: cluster policies by selector, policies by selector (each by name),
    then these in order, then guards. At most 10."""
    gates: Gates = Gates()
    """What is checked on the candidate's pods before any traffic."""
    selected_policies: StrictBool = False
    """True: guards come from the policies whose selector takes this ModelDeployment, and without any guard nothing is
    tried. Such policies apply in any case: true says that they are relied on, so that nothing else is required."""
    unguarded: StrictBool = False
    """True moves traffic by time alone, without any guard."""
    paused: StrictBool = False
    """True freezes the steps; guards stay on and still take a bad candidate back."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.unguarded || self.selectedPolicies || (has(self.guards) && size(self.guards) > 0) || "
            "(has(self.policies) && size(self.policies) > 0)",
            GUARDS_NEEDED,
            lambda self: self.unguarded or self.selected_policies or bool(self.guards) or bool(self.policies),
        ),
        Rule(
            "!self.unguarded || ((!has(self.guards) || size(self.guards) == 0) && (!has(self.policies) || "
            "size(self.policies) == 0))",
            "unguarded: true contradicts guards and policies: remove one of them",
            lambda self: not self.unguarded or (len(self.guards) == 0 and len(self.policies) == 0),
        ),
        Rule(
            "!self.unguarded || !self.selectedPolicies",
            "unguarded: true takes no guards, also none of policies by their selector, so it contradicts "
            "selectedPolicies: true: remove one of them",
            lambda self: not self.unguarded or not self.selected_policies,
        ),
        Rule(
            "!has(self.canary) || self.strategy == 'Canary' || (self.strategy == 'Shadow' && has(self.shadow) && "
            "self.shadow.then == 'Canary')",
            "canary does something with strategy Canary (or Shadow with then: Canary) only: set that strategy, or "
            "remove it (canary: null where an earlier apply left it)",
            lambda self: self.canary is None or self._uses(Strategy.CANARY, ShadowEnd.CANARY),
        ),
        Rule(
            "!has(self.blueGreen) || self.strategy == 'BlueGreen' || (self.strategy == 'Shadow' && "
            "has(self.shadow) && self.shadow.then == 'BlueGreen')",
            "blueGreen does something with strategy BlueGreen (or Shadow with then: BlueGreen) only: set that "
            "strategy, or remove it (blueGreen: null where an earlier apply left it)",
            lambda self: self.blue_green is None or self._uses(Strategy.BLUE_GREEN, ShadowEnd.BLUE_GREEN),
        ),
        Rule(
            "!has(self.shadow) || self.strategy == 'Shadow'",
            "shadow does something with strategy Shadow only: set that strategy, or remove it (shadow: null where an "
            "earlier apply left it)",
            lambda self: self.shadow is None or self.strategy is Strategy.SHADOW,
        ),
        Rule(
            "!has(self.abTest) || self.strategy == 'ABTest'",
            "abTest does something with strategy ABTest only: set that strategy, or remove it (abTest: null where an "
            "earlier apply left it)",
            lambda self: self.ab_test is None or self.strategy is Strategy.AB_TEST,
        ),
        Rule(
            "!has(self.guards) || self.guards.all(guard, !has(guard.fromStep) && !has(guard.toStep)) || "
            "self.strategy == 'Canary' || (self.strategy == 'Shadow' && has(self.shadow) && "
            "self.shadow.then == 'Canary')",
            "fromStep and toStep of a guard count the steps of a canary: remove them or set strategy: Canary",
            lambda self: (
                self._uses(Strategy.CANARY, ShadowEnd.CANARY)
                or all(guard.from_step is None and guard.to_step is None for guard in self.guards)
            ),
        ),
        Rule(
            f"!has(self.guards) || self.guards.all(guard, !has(guard.fromStep) || guard.fromStep <= {_STEPS})",
            "fromStep must not be greater than the number of steps: the guard would never be watched",
            lambda self: all((guard.from_step or 0) <= self._steps() for guard in self.guards),
        ),
        Rule(
            f"!has(self.guards) || self.guards.all(guard, !has(guard.toStep) || guard.toStep <= {_STEPS})",
            "toStep must not be greater than the number of steps: leave it out to watch until the bake ends",
            lambda self: all((guard.to_step or 0) <= self._steps() for guard in self.guards),
        ),
        Rule(
            "!self.unguarded || !has(self.abTest) || self.abTest.decide != 'Guards'",
            "decide: Guards needs guards: set at least one, or decide: Approval",
            lambda self: not self.unguarded or self.ab_test is None or self.ab_test.decide is not Decider.GUARDS,
        ),
    )

    def _uses(self, strategy: Strategy, end: ShadowEnd) -> bool:
        shadowed = self.strategy is Strategy.SHADOW and self.shadow is not None and self.shadow.then is end
        return self.strategy is strategy or shadowed

    def _steps(self) -> int:
        return len((self.canary or Canary()).steps)
