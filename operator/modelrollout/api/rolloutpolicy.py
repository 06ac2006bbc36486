"""RolloutPolicy and ClusterRolloutPolicy: guards and SLIs that a platform team gives to many ModelDeployments."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, ValidationError

from modelrollout.api.base import API_VERSION, ApiModel, SpecModel
from modelrollout.api.errors import InvalidSpec, Problem, explain
from modelrollout.api.guard import Guard, SliName
from modelrollout.api.modeldeployment import Metadata
from modelrollout.api.rules import ListKey, Rule, matches

Query = Annotated[str, Field(min_length=1, max_length=4096)]

_LABEL_KEY = "^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
LABEL_KEYS = Rule(
    f"self.all(key, key.matches(r'{_LABEL_KEY}'))",
    "keys must be names of labels like team or example.com/team: no label of a ModelDeployment could be another",
    lambda self: all(re.fullmatch(_LABEL_KEY, key) for key in self),
)
LabelValue = Annotated[
    str,
    Field(max_length=63),
    matches(
        "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$",
        "must be the value of a label: letters, digits, dashes, dots and underscores, a letter or digit at both ends",
    ),
]
"""The value of a label, as Kubernetes takes it."""


class Direction(StrEnum):
    """Which way is worse."""

    HIGHER_IS_WORSE = "HigherIsWorse"
    LOWER_IS_WORSE = "LowerIsWorse"


class SliDefinition(SpecModel):
    """An SLI of the platform team's own, or one that takes the place of a catalog's."""

    name: SliName
    """Name by which guards use it. One of the catalog is overridden."""
    description: Annotated[str, Field(max_length=256)] = ""
    """One line for people."""
    unit: Annotated[str, Field(min_length=1, max_length=32)]
    """Unit of its value, like ``ratio``, ``s`` or ``requests/s``."""
    direction: Direction = Direction.HIGHER_IS_WORSE
    """Which way is worse."""
    query: Query
    """PromQL that answers one number for one arm. Placeholders: ``$revision`` (the arm), ``$stable``, ``$namespace``,
    ``$name``, ``$window``, in ``pod=~"$pods"`` the pods of the arm, and in a label matcher list ``$where`` (the guard's
    where). ``growth(x)`` is how much counter x grew in the window, to the unit."""
    samples: Query | None = None
    """PromQL that answers how many requests the value is made of; needed for minSamples. The same placeholders."""


class Selector(SpecModel):
    """Which ModelDeployments, by their labels."""

    match_labels: Annotated[dict[str, LabelValue], Field(max_length=16), LABEL_KEYS] = Field(default_factory=dict)
    """All of these labels; empty selects every ModelDeployment in reach."""


class PolicySpec(SpecModel):
    """Guards and SLIs, and whom they are for."""

    selector: Selector | None = None
    """ModelDeployments that it applies to by itself. Without it only those that name it in rollout.policies."""
    slis: Annotated[tuple[SliDefinition, ...], Field(max_length=50), ListKey("name")] = ()
    """SLIs that guards may use. At most 50."""
    guards: Annotated[tuple[Guard, ...], Field(max_length=20), ListKey("name")] = ()
    """Guards that every such ModelDeployment gets. At most 20."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(has(self.slis) && size(self.slis) > 0) || (has(self.guards) && size(self.guards) > 0)",
            "set slis, guards or both: an empty policy does nothing",
            lambda self: bool(self.slis or self.guards),
        ),
        Rule(
            "!has(self.guards) || self.guards.all(guard, !has(guard.fromStep) && !has(guard.toStep))",
            "fromStep and toStep count the steps of one canary: a policy's guards must not have them",
            lambda self: all(guard.from_step is None and guard.to_step is None for guard in self.guards),
        ),
    )


class RolloutPolicy(ApiModel):
    """Guards and SLIs for the ModelDeployments of its namespace."""

    model_config = ConfigDict(extra="forbid")

    api_version: Literal["modelrollout.io/v1alpha1"] = API_VERSION
    kind: Literal["RolloutPolicy"] = "RolloutPolicy"
    metadata: Metadata
    spec: PolicySpec
    """What it gives to whom."""


class ClusterRolloutPolicy(ApiModel):
    """Guards and SLIs for the ModelDeployments of all namespaces."""

    model_config = ConfigDict(extra="forbid")

    api_version: Literal["modelrollout.io/v1alpha1"] = API_VERSION
    kind: Literal["ClusterRolloutPolicy"] = "ClusterRolloutPolicy"
    metadata: Metadata
    spec: PolicySpec
    """What it gives to whom."""


Policy = RolloutPolicy | ClusterRolloutPolicy


def parse_policy(raw: Any) -> Policy:
    """Read a policy as the API server gives it; raises InvalidSpec with all problems."""
    if not isinstance(raw, dict):
        raise InvalidSpec((Problem("", "must be an object with metadata and spec"),))
    kind: type[Policy] = ClusterRolloutPolicy if raw.get("kind") == "ClusterRolloutPolicy" else RolloutPolicy
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise explain(error) from None
