"""A spec that cannot even be read: say so, and touch nothing (the CRD refuses nearly all of these at apply)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from modelrollout.api.reasons import ConditionType
from modelrollout.api.status import Condition, ConditionStatus, ModelDeploymentStatus


def unreadable(
    status: ModelDeploymentStatus, metadata: Mapping[str, Any], problem: str, now: datetime
) -> ModelDeploymentStatus:
    """The status with SpecValid False; phase, traffic and everything else stay as they are."""
    generation = int(metadata.get("generation", 0))
    others = tuple(condition for condition in status.conditions if condition.type != ConditionType.SPEC_VALID)
    was = next((c for c in status.conditions if c.type == ConditionType.SPEC_VALID), None)
    same = was is not None and was.status is ConditionStatus.FALSE
    condition = Condition(
        type=ConditionType.SPEC_VALID,
        status=ConditionStatus.FALSE,
        reason="Unreadable",
        message=problem,
        observed_generation=generation,
        last_transition_time=was.last_transition_time if was is not None and same else now,
    )
    return status.model_copy(
        update={"observed_generation": generation, "message": problem, "conditions": (condition, *others)}
    )
