"""Guards: what is watched while a candidate is tried, with the rules that refuse bounds that mean nothing."""

from __future__ import annotations

import re
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from modelrollout.api.base import Duration, SpecModel, StrictFloat, StrictInt
from modelrollout.api.durations import PATTERN, between
from modelrollout.api.rules import Rule, matches
from modelrollout.api.scalars import Label

LONGEST_LATENCY = 60.0
DEFAULT_CONFIDENCE = 0.999
"""How sure a comparison with stable is before it counts, where the guard names no confidence."""

_LABEL_NAME = "^[a-zA-Z_][a-zA-Z0-9_]{0,62}$"
Where = Annotated[
    dict[str, Annotated[str, Field(min_length=1, max_length=128)]],
    Field(max_length=4),
    Rule(
        f"self.all(name, name.matches(r'{_LABEL_NAME}'))",
        "where: a key must be the name of a label like feature: letters, digits and underscores",
        lambda self: all(re.fullmatch(_LABEL_NAME, name) for name in self),
    ),
]
"""Labels that the series of an SLI must have, like ``{feature: age}``."""

SliName = Annotated[
    str,
    Field(min_length=1, max_length=63),
    matches("^[a-z][a-z0-9-]*$", "must be the name of an SLI like error-ratio: `modelrollout slis` lists them"),
]
"""Name of an SLI of a catalog or a policy."""


class Sli(StrEnum):
    """What every gateway's catalog measures of one arm; catalogs and policies name more (``modelrollout slis``)."""

    ERROR_RATIO = "error-ratio"
    REQUEST_RATE = "request-rate"
    LATENCY_P50 = "latency-p50"
    LATENCY_P95 = "latency-p95"
    LATENCY_P99 = "latency-p99"


class RelativeTo(StrEnum):
    """What a guard compares the candidate with."""

    STABLE = "stable"


class WhenBothBreach(StrEnum):
    """What a breach means that the stable revision shows too."""

    HOLD = "Hold"
    ROLLBACK = "Rollback"


class OnBreach(StrEnum):
    """What a breach does."""

    ROLLBACK = "Rollback"
    PAUSE = "Pause"
    WARN = "Warn"


_RAW = (Sli.ERROR_RATIO, Sli.REQUEST_RATE)
_LATENCIES = [str(sli) for sli in Sli if sli not in _RAW]
SHARES = [
    "accuracy",
    "answer-differences",
    "calibration-error",
    "gpu-memory",
    "gpu-utilization",
    "input-ks",
    "label-flips",
    "output-ks",
    "precision",
    "recall",
    "triton-failure-ratio",
]
"""Computed SLIs that lie between 0 and 1; a policy's SLI of one of these names does too."""
INDEXES = ["input-psi", "output-psi"]


class Guard(SpecModel):
    """A metric condition that is watched while the candidate has traffic, until the bake ends."""

    name: Label
    """Name of the guard, unique among the guards, for events, status and metrics."""
    sli: SliName | None = None
    """A ready-made measure: error-ratio (0 to 1), request-rate (requests per second), latency-p50, latency-p95,
    latency-p99 (seconds) of the candidate's own traffic at the gateway, or another one that ``modelrollout slis``
    lists or a policy brings. Exactly one of sli and query."""
    where: Where = Field(default_factory=dict)
    """Labels that the series of the SLI must have, like ``{feature: age}``; without it an SLI of many series (one a
    feature, one a class) is judged by its worst. Only with sli. At most 4."""
    query: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """PromQL that answers one number. Placeholders: ``$revision``, ``$stable``, ``$namespace``, ``$name``,
    ``$window``, and ``$pods`` in ``pod=~"$pods"``. Exactly one of sli and query."""
    max: StrictFloat | None = None
    """Greatest good value, in the unit of the SLI or query. At least one of max, min and relativeTo."""
    min: StrictFloat | None = None
    """Smallest good value, in the unit of the SLI or query. At least one of max, min and relativeTo."""
    relative_to: RelativeTo | None = None
    """``stable``: the candidate is compared with the stable revision over the same time. Counts of both arms since
    the attempt's first traffic are weighed by a sequential test, so that looking often does no harm; a breach is a
    rise beyond ``minEffect`` with ``confidence``. Only with sli, and without max and min."""
    confidence: StrictFloat | None = None
    """How sure a breach must be, above 0.5 and below 1: at most 1 - confidence of all good candidates are ever taken
    for bad ones by this guard, however often it looks. Only with sli. Default with relativeTo: 0.999; else a value
    outside the bounds counts as it is."""
    min_effect: StrictFloat | None = None
    """The smallest rise over stable worth caring about: for ratios in their unit (0.005 is half a percentage point),
    for latencies as a share of stable's (0.2 is 20 percent slower). Only with relativeTo. Default: 0.002 for ratios,
    0.1 for latencies."""
    warm_up: Annotated[Duration, between("0s", "1h")] = timedelta(0)
    """Nothing that the candidate does this long after its first traffic is judged by this guard: cold caches are no
    regression. 0s to 1h. Steps wait for it."""
    when_both_breach: WhenBothBreach = WhenBothBreach.HOLD
    """Hold (the world moved: hold the step and say so) or Rollback, where the stable revision breaks the same bound
    at the same time."""
    label_delay: Annotated[Duration, between("0s", "720h")] = timedelta(0)
    """How long after a request its true label is known: until then the guard waits, however long noDataDeadline is.
    For quality SLIs (accuracy, precision, recall, calibration-error). 0s to 720h."""
    window: Annotated[Duration, between("1s", "720h")] = timedelta(minutes=1)
    """How far back each evaluation looks, 1s to 1h; to 720h for the SLIs that Prometheus computes (of Triton, the
    observer and policies). In a query it is ``$window``."""
    min_samples: Annotated[StrictInt, Field(ge=0, le=1_000_000)] = 0
    """Fewer requests than this in the window are no data, neither pass nor breach. Only with sli. 0 to
    1000000."""
    breaches: Annotated[StrictInt, Field(ge=1, le=10)] = 1
    """How many of the last ``of`` evaluations must be outside the bounds to count as a breach, 1 to 10. With
    relativeTo or confidence 1: there the evidence adds up by itself."""
    of: Annotated[StrictInt, Field(ge=1, le=10)] = 1
    """How many of the last evaluations are looked at, 1 to 10."""
    on_breach: OnBreach = OnBreach.ROLLBACK
    """Rollback (take the candidate back at once), Pause (hold and wait for approval) or Warn (only tell: neither its
    breach nor its lack of data holds)."""
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
            "has(self.max) || has(self.min) || has(self.relativeTo)",
            "set max, min or both, or relativeTo: a guard without a bound can never be breached",
            lambda self: self.max is not None or self.min is not None or self.relative_to is not None,
        ),
        Rule(
            "!has(self.relativeTo) || (!has(self.max) && !has(self.min))",
            "relativeTo compares with stable, max and min with a number: write two guards",
            lambda self: self.relative_to is None or (self.max is None and self.min is None),
        ),
        Rule(
            "!has(self.query) || (!has(self.relativeTo) && !has(self.confidence) && (!has(self.where) || "
            "size(self.where) == 0))",
            "relativeTo, confidence and where need the counts of an sli: remove them from a guard with a query",
            lambda self: (
                self.query is None or (self.relative_to is None and self.confidence is None and not self.where)
            ),
        ),
        Rule(
            "!has(self.relativeTo) || !has(self.sli) || self.sli != 'request-rate'",
            "the request-rate of an arm is what its weight says: compare it with min or max",
            lambda self: self.relative_to is None or self.sli != Sli.REQUEST_RATE,
        ),
        Rule(
            "!has(self.minEffect) || has(self.relativeTo)",
            "minEffect is a rise over stable: set relativeTo: stable, or use max",
            lambda self: self.min_effect is None or self.relative_to is not None,
        ),
        Rule(
            "!has(self.minEffect) || (self.minEffect >= 0.0 && self.minEffect <= 10.0)",
            "minEffect must be from 0 to 10",
            lambda self: self.min_effect is None or 0 <= self.min_effect <= 10,
        ),
        Rule(
            "!has(self.minEffect) || !has(self.sli) || self.sli != 'error-ratio' || self.minEffect < 1.0",
            "minEffect of an error-ratio is a share below 1: write half a percentage point as 0.005",
            lambda self: self.min_effect is None or self.sli != Sli.ERROR_RATIO or self.min_effect < 1,
        ),
        Rule(
            "!has(self.relativeTo) || self.whenBothBreach == 'Hold'",
            "relativeTo: stable is breached by the candidate alone: remove whenBothBreach",
            lambda self: self.relative_to is None or self.when_both_breach is WhenBothBreach.HOLD,
        ),
        Rule(
            "(!has(self.relativeTo) && !has(self.confidence)) || self.of == 1",
            "relativeTo and confidence add up the evidence of all evaluations: remove breaches and of",
            lambda self: (self.relative_to is None and self.confidence is None) or self.of == 1,
        ),
        Rule(
            "!has(self.confidence) || (self.confidence > 0.5 && self.confidence < 1.0)",
            "confidence must be above 0.5 and below 1: write 99.9 percent as 0.999",
            lambda self: self.confidence is None or 0.5 < self.confidence < 1,
        ),
        Rule(
            f"!self.window.matches('{PATTERN}') || duration(self.window) <= duration('1h') || "
            "(has(self.sli) && !self.sli.startsWith('latency-') && "
            "!(self.sli in ['error-ratio', 'request-rate']))",
            "a window longer than 1h is for computed SLIs (of Triton, the observer, policies): shorten it",
            lambda self: (
                self.window <= timedelta(hours=1)
                or (self.sli is not None and not self.sli.startswith("latency-") and self.sli not in _RAW)
            ),
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
            "self.max <= 1.0)) && (!has(self.min) || (self.min >= 0.0 && self.min <= 1.0)))",
            "an error-ratio is a share from 0 to 1: write 1 percent as 0.01",
            lambda self: (
                self.sli != Sli.ERROR_RATIO
                or ((self.max is None or 0 <= self.max <= 1) and (self.min is None or 0 <= self.min <= 1))
            ),
        ),
        Rule(
            f"!has(self.sli) || !(self.sli in {SHARES}) || ((!has(self.max) || (self.max >= 0.0 && "
            "self.max <= 1.0)) && (!has(self.min) || (self.min >= 0.0 && self.min <= 1.0)))",
            "this SLI is a share from 0 to 1: write 95 percent as 0.95",
            lambda self: (
                self.sli not in SHARES
                or ((self.max is None or 0 <= self.max <= 1) and (self.min is None or 0 <= self.min <= 1))
            ),
        ),
        Rule(
            f"!has(self.sli) || !(self.sli == 'error-ratio' || self.sli in {SHARES}) || !has(self.max) || "
            "self.max != 1.0",
            "max must be below 1: no share is above it, so nothing could be a breach (write 1 percent as 0.01)",
            lambda self: self.max != 1 or not (self.sli == Sli.ERROR_RATIO or self.sli in SHARES),
        ),
        Rule(
            f"!has(self.sli) || !(self.sli in {INDEXES}) || !has(self.max) || self.max > 0.0",
            "the max of a PSI must be above 0: 0.2 is the usual bound of significant drift",
            lambda self: self.sli not in INDEXES or self.max is None or self.max > 0,
        ),
        Rule(
            f"!has(self.sli) || !(self.sli in {_LATENCIES}) || ((!has(self.max) || (self.max > 0.0 && "
            f"self.max <= {LONGEST_LATENCY})) && (!has(self.min) || (self.min >= 0.0 && self.min <= "
            f"{LONGEST_LATENCY})))",
            "the max of a latency is in seconds, above 0 and at most 60 (min from 0): write 500 ms as 0.5 (for longer "
            "ones use a query)",
            lambda self: (
                self.sli not in _LATENCIES
                or (
                    (self.max is None or 0 < self.max <= LONGEST_LATENCY)
                    and (self.min is None or 0 <= self.min <= LONGEST_LATENCY)
                )
            ),
        ),
    )

    @property
    def silent_for(self) -> timedelta:
        """How long from the first traffic on the guard says nothing, and is waited for."""
        return max(self.warm_up, self.label_delay)
