"""Canary: rising weights, pods without traffic, waits for a person."""

from __future__ import annotations

from modelrollout.api.rolloutspec import Rollout
from modelrollout.api.strategies import Canary, Step
from modelrollout.rollout.strategies.stage import Course, Stage
from modelrollout.rollout.weights import share


def course(rollout: Rollout) -> Course:
    """The steps of ``rollout.canary``."""
    return Course(stages(rollout), room=rollout.canary or Canary())


def stages(rollout: Rollout) -> tuple[Stage, ...]:
    """One stage a step; what a step does not give (weight, pods) stays as it was before."""
    found: list[Stage] = []
    weight, replicas = 0, None
    for number, step in enumerate((rollout.canary or Canary()).steps, start=1):
        weight = share(step.weight) if step.weight is not None else weight
        replicas = step.replicas if step.replicas is not None else replicas
        found.append(
            Stage(
                _words(step),
                weight=weight,
                hold=step.hold,
                replicas=replicas,
                approval="the step asks for it" if step.pause is not None else "",
                canary_step=number,
            )
        )
    return tuple(found)


def _words(step: Step) -> str:
    if step.pause is not None:
        return "a pause with"
    if step.weight is None:
        return "1 pod of" if step.replicas == 1 else f"{step.replicas} pods of"
    return f"{step.weight:g} % on"
