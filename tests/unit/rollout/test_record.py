"""Which evidence the record of a decision keeps."""

from __future__ import annotations

import pytest

from modelrollout.api.status import Verdict
from modelrollout.rollout.plan import ARMED, WHOLE
from tests.unit.rollout.given import NOW, V1, V2, Given, seconds


@pytest.mark.parametrize(("ago", "told"), [(5, Verdict.PASS), (65, Verdict.PROVIDER_DOWN)])
def test_a_decision_in_force_keeps_what_it_rests_on_and_not_what_is_silent_since(ago: float, told: Verdict) -> None:
    given = Given().stepping(3).judged(Verdict.PASS, at=NOW - seconds(ago))
    rested = given.observed.evaluation
    given.judged(Verdict.PROVIDER_DOWN, value=None, samples=None)
    given.route({V1: ARMED, V2: WHOLE - ARMED}).seeing(rested=rested)
    newest = given.decide().status.rollout.decisions[0]  # type: ignore[union-attr]
    assert (newest.decision, [guard.verdict for guard in newest.guards]) == ("Promote", [told])
