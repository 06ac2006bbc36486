"""Observation: copies of requests for the observer, which counts features, compares answers and joins labels."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from modelrollout.api.base import Duration, SpecModel, StrictBool, StrictFloat, StrictInt
from modelrollout.api.durations import between
from modelrollout.api.gates import ConfigMapKey, OutputTolerance
from modelrollout.api.rules import ListKey, Rule
from modelrollout.api.scalars import Label

LABELS_TOO_LATE = (
    "labelDelay must not be longer than spec.observation.labels.window (1h unless set): no answer would still wait for "
    "its label; set a longer window there"
)


class Approval(StrEnum):
    """Whether a person is asked first."""

    REQUIRED = "Required"
    AUTOMATIC = "Automatic"


class Profile(SpecModel):
    """The reference that inputs and outputs are compared with, made by ``modelrollout profile make``."""

    config_map: ConfigMapKey | None = None
    """A ConfigMap that holds the profile. Exactly one of configMap and parameter."""
    parameter: Annotated[str, Field(min_length=1, max_length=63)] | None = None
    """The parameter of the model's config.pbtxt that holds the profile: it is then versioned in the model's own
    repository. Exactly one of configMap and parameter."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.configMap) != has(self.parameter)",
            "set exactly one of configMap and parameter",
            lambda self: (self.config_map is None) != (self.parameter is None),
        ),
    )


class Comparison(SpecModel):
    """Both arms are asked for their answer to the same request, and the answers are compared."""

    max_per_second: StrictFloat = 10.0
    """At most so many requests a second are asked of each arm, above 0 and at most 500: the load it costs them."""
    tolerances: Annotated[tuple[OutputTolerance, ...], Field(max_length=64), ListKey("output")] = ()
    """When two answers count as the same, by output; one that is not named: numbers to 1 part in 100,000."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.maxPerSecond > 0.0 && self.maxPerSecond <= 500.0",
            "maxPerSecond must be above 0 and at most 500",
            lambda self: 0 < self.max_per_second <= 500,
        ),
    )


class Labels(SpecModel):
    """True labels that arrive later (``modelrollout labels``), joined with what the arms had answered."""

    window: Annotated[Duration, between("1s", "720h")] = timedelta(hours=1)
    """How long an answer waits for its label, 1s to 720h."""
    max_pending: Annotated[StrictInt, Field(ge=1, le=1_000_000)] = 100_000
    """How many answers wait at most; the oldest go first. 1 to 1000000."""


class Retraining(SpecModel):
    """Who is told when the stable revision drifts."""

    webhook: Label
    """Name of a webhook in the operator's settings."""
    approval: Approval = Approval.REQUIRED
    """Required (the command ``retrain`` calls it) or Automatic (once each time DriftDetected becomes true)."""


class Drift(SpecModel):
    """What is watched on the stable revision all the time. PSI: under 0.1 none, to 0.2 moderate, over significant."""

    enabled: StrictBool = True
    """False watches nothing between rollouts."""
    max_psi: StrictFloat = 0.2
    """Greatest good population stability index of any feature or output, above 0 and at most 10."""
    window: Annotated[Duration, between("1m", "168h")] = timedelta(hours=1)
    """How far back it looks, 1m to 168h."""
    min_samples: Annotated[StrictInt, Field(ge=1, le=1_000_000)] = 500
    """Fewer observed requests than this in the window say nothing. 1 to 1000000."""
    interval: Annotated[Duration, between("5s", "1h")] = timedelta(minutes=1)
    """Time between two looks while no rollout is under way, 5s to 1h."""
    retraining: Retraining | None = None
    """Who is told; none: condition, event and metric only."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.maxPsi > 0.0 && self.maxPsi <= 10.0",
            "maxPsi must be above 0 and at most 10: 0.2 is the usual bound of significant drift",
            lambda self: 0 < self.max_psi <= 10,
        ),
    )


class Observation(SpecModel):
    """Copies of requests go to the observer of this namespace (Helm value ``observer.namespaces``)."""

    percent: StrictFloat = 10.0
    """Share of the users' requests that is copied, above 0 and at most 100."""
    profile: Profile | None = None
    """The reference of inputs and outputs; without it no drift is known."""
    comparison: Comparison | None = None
    """Compare the answers of both arms; without it outputs are not known."""
    labels: Labels | None = None
    """Take true labels; needs comparison."""
    drift: Drift = Drift()
    """What is watched on the stable revision between rollouts; needs profile."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.percent > 0.0 && self.percent <= 100.0",
            "percent must be above 0 and at most 100: leave observation out to copy nothing",
            lambda self: 0 < self.percent <= 100,
        ),
        Rule(
            "!has(self.labels) || has(self.comparison)",
            "labels are joined with answers: set comparison too",
            lambda self: self.labels is None or self.comparison is not None,
        ),
        Rule(
            "!has(self.drift) || !has(self.drift.retraining) || self.drift.retraining.approval != 'Automatic' || "
            "has(self.profile)",
            "retraining with approval: Automatic waits for drift, which is known by a profile only: set profile, or "
            "approval: Required",
            lambda self: (
                self.drift.retraining is None
                or self.drift.retraining.approval is not Approval.AUTOMATIC
                or self.profile is not None
            ),
        ),
    )

    def label_is_late(self, delay: timedelta) -> bool:
        """Whether a label that comes so long after its request finds no answer that still waits for it."""
        return self.labels is not None and delay > self.labels.window
