"""How a change moves: the steps, the deadlines and the guards, with the rules that refuse contradictions."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, ClassVar

from pydantic import Field

from modelrollout.api.base import Duration, SpecModel, StrictBool, StrictFloat, StrictInt
from modelrollout.api.durations import between
from modelrollout.api.rules import ListKey, Rule
from modelrollout.api.scalars import Label

LONGEST_LATENCY = 60.0
GUARDS_NEEDED = (
    "a canary needs guards: set at least one, or unguarded: true to move traffic without looking at any metric"
)


class Strategy(StrEnum):
    """How traffic moves to a new revision."""

    CANARY = "Canary"


class Sli(StrEnum):
    """What can be measured of one arm without writing a query."""

    ERROR_RATIO = "error-ratio"
    REQUEST_RATE = "request-rate"
    LATENCY_P50 = "latency-p50"
    LATENCY_P95 = "latency-p95"
    LATENCY_P99 = "latency-p99"


class OnBreach(StrEnum):
    """What a breach does."""

    ROLLBACK = "Rollback"
    PAUSE = "Pause"
    WARN = "Warn"


class Step(SpecModel):
    """One step of a canary."""

    weight: Annotated[StrictInt, Field(ge=1, le=100)]
    """Percent of the traffic for the candidate, 1 to 100."""
    hold: Annotated[Duration, between("0s", "168h")] = timedelta(0)
    """How long the step lasts at least, counted from when the gateway carries it out, 0s to 168h. It ends
    only when every guard passes."""


def _rising(steps: tuple[Step, ...]) -> bool:
    return all(before.weight < after.weight for before, after in pairwise(steps))


class Canary(SpecModel):
    """The steps of a canary."""

    steps: Annotated[
        tuple[Step, ...],
        Field(min_length=1, max_length=20),
        Rule(
            "self.map(step, step.weight).isSorted() && "
            "self.all(step, self.exists_one(other, other.weight == step.weight))",
            "weights must rise from step to step: put the steps in order and give each a greater weight "
            "than the one before",
            _rising,
        ),
    ] = (
        Step(weight=5, hold=timedelta(minutes=2)),
        Step(weight=25, hold=timedelta(minutes=5)),
        Step(weight=50, hold=timedelta(minutes=5)),
    )
    """1 to 20 steps with rising weights. After the last one the candidate is promoted to 100 percent.
    Default: 5 percent for 2m, 25 for 5m, 50 for 5m."""


class Guard(SpecModel):
    """A metric condition that is watched while the candidate has traffic, until the bake ends."""

    name: Label
    """Name of the guard, unique among the guards, for events, status and metrics."""
    sli: Sli | None = None
    """A ready-made measure of the candidate's own traffic at the gateway: error-ratio (0 to 1), request-rate
    (requests per second), latency-p50, latency-p95 or latency-p99 (seconds). Exactly one of sli and query."""
    query: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """PromQL that answers one number. Placeholders: ``$revision``, ``$stable``, ``$namespace``, ``$name``,
    ``$window``. Exactly one of sli and query."""
    max: StrictFloat | None = None
    """Greatest good value, in the unit of the SLI or query. At least one of max and min."""
    min: StrictFloat | None = None
    """Smallest good value, in the unit of the SLI or query. At least one of max and min."""
    window: Annotated[Duration, between("1s", "1h")] = timedelta(minutes=1)
    """How far back each evaluation looks, 1s to 1h. In a query it is ``$window``."""
    min_samples: Annotated[StrictInt, Field(ge=0, le=1_000_000)] = 0
    """Fewer requests than this in the window are no data, neither pass nor breach. Only with sli. 0 to
    1000000."""
    breaches: Annotated[StrictInt, Field(ge=1, le=10)] = 1
    """How many of the last ``of`` evaluations must be outside the bounds to count as a breach, 1 to 10."""
    of: Annotated[StrictInt, Field(ge=1, le=10)] = 1
    """How many of the last evaluations are looked at, 1 to 10."""
    on_breach: OnBreach = OnBreach.ROLLBACK
    """Rollback (take the candidate back at once), Pause (hold and wait for approval) or Warn (only tell)."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.sli) != has(self.query)",
            "set exactly one of sli and query",
            lambda self: (self.sli is None) != (self.query is None),
        ),
        Rule(
            "has(self.max) || has(self.min)",
            "set max, min or both: a guard without a bound can never be breached",
            lambda self: self.max is not None or self.min is not None,
        ),
        Rule(
            "!has(self.max) || !has(self.min) || self.min <= self.max",
            "min must not be greater than max: no value could pass",
            lambda self: self.max is None or self.min is None or self.min <= self.max,
        ),
        Rule(
            "!has(self.query) || !has(self.minSamples) || self.minSamples == 0",
            "minSamples does something with an sli only: remove it, or count samples in the query",
            lambda self: self.query is None or self.min_samples == 0,
        ),
        Rule(
            "self.breaches <= self.of",
            "breaches must not be greater than of: it could never be reached",
            lambda self: self.breaches <= self.of,
        ),
        Rule(
            "!has(self.sli) || self.sli != 'error-ratio' || ((!has(self.max) || (self.max >= 0.0 && "
            "self.max < 1.0)) && (!has(self.min) || (self.min >= 0.0 && self.min <= 1.0)))",
            "an error-ratio is a share from 0 to 1: write 1 percent as 0.01",
            lambda self: (
                self.sli is not Sli.ERROR_RATIO
                or ((self.max is None or 0 <= self.max < 1) and (self.min is None or 0 <= self.min <= 1))
            ),
        ),
        Rule(
            "!has(self.sli) || !self.sli.startsWith('latency-') || !has(self.max) || "
            f"(self.max > 0.0 && self.max <= {LONGEST_LATENCY})",
            "the max of a latency is in seconds, above 0 and at most 60: write 500 ms as 0.5 (for longer "
            "ones use a query)",
            lambda self: (
                self.sli not in (Sli.LATENCY_P50, Sli.LATENCY_P95, Sli.LATENCY_P99)
                or self.max is None
                or 0 < self.max <= LONGEST_LATENCY
            ),
        ),
    )


class Rollout(SpecModel):
    """How a change of the model moves through the traffic."""

    strategy: Strategy = Strategy.CANARY
    """How traffic moves to a new revision: Canary."""
    canary: Canary = Canary()
    """The steps. Default: 5 percent for 2m, 25 for 5m, 50 for 5m."""
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
    """What is watched while traffic flows. At most 20. Required unless unguarded is true."""
    unguarded: StrictBool = False
    """True moves traffic by time alone, without any guard."""
    paused: StrictBool = False
    """True freezes the steps; guards stay on and still take a bad candidate back."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.unguarded || (has(self.guards) && size(self.guards) > 0)",
            GUARDS_NEEDED,
            lambda self: self.unguarded or len(self.guards) > 0,
        ),
        Rule(
            "!self.unguarded || !has(self.guards) || size(self.guards) == 0",
            "unguarded: true contradicts guards: remove one of them",
            lambda self: not self.unguarded or len(self.guards) == 0,
        ),
    )
