"""ABTest: two arms beside each other for a time, each client on one of them; a person or the guards decide."""

from __future__ import annotations

from datetime import timedelta

from modelrollout.api.rolloutspec import Rollout
from modelrollout.api.strategies import ABTest, Decider
from modelrollout.rollout.plan import Source
from modelrollout.rollout.strategies.stage import Course, Stage
from modelrollout.rollout.weights import share


def course(rollout: Rollout) -> Course:
    """The test, and a wait for the person who reads its result."""
    spec = rollout.ab_test or ABTest()
    test = Stage(
        f"A/B test with {spec.weight:g} % on",
        weight=share(spec.weight) if spec.weight else 0,
        hold=spec.hold,
        source=Source.SPLIT,
        samples=spec.samples,
        split=True,
    )
    if spec.decide is Decider.GUARDS:
        return Course((test,))
    over = test._replace(words="the result of the A/B test of", hold=timedelta(0), approval="the A/B test is over")
    return Course((test, over))
