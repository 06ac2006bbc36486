"""Guards: what is watched while a candidate is tried, with the rules that refuse bounds that mean nothing."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from modelrollout.api.base import Duration, SpecModel, StrictFloat, StrictInt
from modelrollout.api.durations import between
from modelrollout.api.rules import Rule
from modelrollout.api.scalars import Label

LONGEST_LATENCY = 60.0


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
    from_step: Annotated[StrictInt, Field(ge=1, le=20)] | None = None
    """The step of the canary from which on this guard is watched, counted from 1. Default: from the first."""
    to_step: Annotated[StrictInt, Field(ge=1, le=20)] | None = None
    """The last step of the canary in which this guard is watched, counted from 1. Default: until the bake ends."""

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
            "!has(self.fromStep) || !has(self.toStep) || self.fromStep <= self.toStep",
            "fromStep must not be greater than toStep: the guard would never be watched",
            lambda self: self.from_step is None or self.to_step is None or self.from_step <= self.to_step,
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
