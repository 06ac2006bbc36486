"""Shadow: requests are copied to the candidate, whose answers nobody sees; what follows is the spec's choice."""

from __future__ import annotations

from datetime import timedelta

from modelrollout.api.rolloutspec import Rollout
from modelrollout.api.strategies import Canary, Shadow, ShadowEnd
from modelrollout.rollout.plan import Source
from modelrollout.rollout.strategies import blue_green, canary
from modelrollout.rollout.strategies.stage import Course, Ending, Stage
from modelrollout.rollout.weights import share


def course(rollout: Rollout) -> Course:
    """The shadow, and what ``then`` says."""
    spec = rollout.shadow or Shadow()
    copied = f"{spec.percent:g} % of the requests are copied to"
    first = Stage(copied, mirror=share(spec.percent), hold=spec.hold, source=Source.MIRROR)
    match spec.then:
        case ShadowEnd.CANARY:
            return Course((first, *canary.stages(rollout)), room=rollout.canary or Canary())
        case ShadowEnd.BLUE_GREEN:
            return Course((first, *blue_green.stages(rollout)))
        case ShadowEnd.END:
            return Course((first,), Ending.CONCLUDE)
        case ShadowEnd.APPROVAL:
            asked = first._replace(words="the end of the shadow of", hold=timedelta(0), approval="the shadow is over")
            return Course((first, asked))
