"""BlueGreen: the new revision whole beside the old one, looked at without users, then one switch."""

from __future__ import annotations

from modelrollout.api.rolloutspec import Rollout
from modelrollout.api.strategies import BlueGreen, PrePromotionSource
from modelrollout.rollout.plan import Source
from modelrollout.rollout.strategies.stage import Course, Stage
from modelrollout.rollout.weights import share

DEFAULT_PERCENT = 10.0


def course(rollout: Rollout) -> Course:
    """Guards before the switch, then a person, each if the spec asks for it."""
    return Course(stages(rollout))


def stages(rollout: Rollout) -> tuple[Stage, ...]:
    """At most two stages; users meet the candidate in none of them."""
    spec = rollout.blue_green or BlueGreen()
    trial = spec.pre_promotion
    mirror, source = 0, Source.WEIGHTED
    found: list[Stage] = []
    if trial is not None:
        mirrored = trial.source is PrePromotionSource.MIRROR
        mirror = share(trial.percent or DEFAULT_PERCENT) if mirrored else 0
        source = Source.MIRROR if mirrored else Source.PREVIEW
        words = f"{trial.percent or DEFAULT_PERCENT:g} % of the requests are copied to" if mirrored else "a preview of"
        found.append(Stage(words, mirror=mirror, hold=trial.hold, source=source, preview=True))
    if spec.approval:
        asked = "blueGreen.approval asks for it before the switch"
        found.append(Stage("the switch to", mirror=mirror, approval=asked, source=source, preview=True))
    return tuple(found)
