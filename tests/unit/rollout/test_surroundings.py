"""What is around an attempt: a spec that cannot be carried out, routes that are refused, records that grow old."""

from __future__ import annotations

import pytest

from modelrollout.api.status import ModelDeploymentStatus, Phase, Verdict
from modelrollout.rollout.observed import GateState, Observed, Route
from modelrollout.rollout.plan import ARMED, WHOLE
from modelrollout.rollout.weights import percent, share
from tests.builders import DRIFT, ERRORS
from tests.unit.rollout.given import FULL, V1, V2, V3, Given, condition, layout, reasons


def test_an_unknown_pool_creates_nothing() -> None:
    plan = Given("1.0.0").seeing(problem="there is no pool gpu").decide()
    assert plan.status.phase is Phase.INVALID
    assert (plan.workloads, plan.route, plan.create_revision) == ((), None, None)
    assert reasons(plan) == ["SpecInvalid"]


def test_a_spec_that_became_unusable_is_no_fault_of_the_revision() -> None:
    given = Given().stepping(1).seeing(problem="there is no Prometheus east")
    given.after(given.decide()).at(5).route({V1: WHOLE})
    assert given.decide().status.quarantined == ()


def test_a_refused_route_is_told_in_the_gateways_words() -> None:
    refused = Route(None, {}, {}, "t", accepted=False, rejection="Gateway x refuses: no listener")
    plan = Given("1.0.0").trying(Phase.PREPARING, V1).seeing(route=refused).decide()
    assert condition(plan, "RouteAccepted").status == "False"
    assert "RouteRejected" in reasons(plan)


def test_a_foreign_object_is_named() -> None:
    plan = Given().serving().trying(Phase.PREPARING).pods(V2, 0).seeing(foreign="Service demo/x belongs to y").decide()
    assert condition(plan, "Progressing").status == "False"
    assert "belongs to y" in plan.status.message


def test_the_oldest_records_go_at_rest() -> None:
    names = tuple(f"old-{number}" for number in range(11))
    given = Given("1.0.0").serving().seeing(records=(*names, V1))
    assert given.decide().prune == names[:2]
    assert Given().serving().trying(Phase.PREPARING).seeing(records=names).decide().prune == ()


def test_the_first_attempt_of_all_starts_from_nothing() -> None:
    plan = Given("1.0.0").decide()
    assert reasons(plan) == ["RolloutStarted"]
    assert Given("1.0.0").status == ModelDeploymentStatus()
    assert Given("1.0.0").observed == Observed()


def test_an_overtaken_rollback_is_finished_and_its_revision_quarantined() -> None:
    given = Given("3.0.0").rolling_back().route({V1: 750_000, V2: 250_000})
    assert layout(given.decide()) == {V1: FULL, V2: ARMED}
    ended = given.route({V1: WHOLE}).decide()
    assert ended.status.quarantined == (V2,)
    given.after(ended)
    assert given.decide().status.revisions.candidate == V3


@pytest.mark.parametrize("version", ["1.0.0", "3.0.0"])
def test_another_spec_ends_in_peace_with_what_was_tried(version: str) -> None:
    given = Given(version).stepping(2)
    ended = given.after(given.decide()).at(5).route({V1: WHOLE}).decide()
    assert (ended.status.phase, ended.status.quarantined) == (Phase.IDLE, ()), "nobody found it bad"


def test_a_breach_of_another_attempt_is_nobodys() -> None:
    given = Given().stepping(2).judged(Verdict.BREACH)
    given.having_attempt(attempt=7)
    assert given.decide().status.phase is Phase.PROGRESSING


def test_one_breach_among_silence_rolls_back() -> None:
    for silent in (Verdict.NO_DATA, Verdict.PROVIDER_DOWN):
        given = Given(guards=(ERRORS, DRIFT)).stepping(2).judged(silent, Verdict.BREACH)
        assert given.decide().status.phase is Phase.ROLLING_BACK


def test_a_provider_that_answers_again_is_told_and_lets_it_go_on() -> None:
    given = Given().stepping(2).judged(Verdict.PROVIDER_DOWN)
    given.after(given.decide()).judged(Verdict.PASS)
    plan = given.decide()
    assert layout(plan) == {V1: 500_000, V2: 500_000}
    given.after(plan).route({V1: 500_000, V2: 500_000})
    assert condition(given.decide(), "MetricsReachable").status == "True"


def test_a_query_that_was_mended_by_another_spec_is_tried() -> None:
    given = Given().serving().trying(Phase.VERIFYING).gate(GateState.PASSED)
    plan = given.judged(Verdict.NO_DATA, invalid="it answers many series").decide()
    changed = Given(generation=2, bake="61s").having(**dict(plan.status)).seeing(**vars(given.observed)).decide()
    assert changed.status.phase is Phase.PREPARING


@pytest.mark.parametrize(("given", "ppm", "told"), [(1, 10_000, 1.0), (50, 500_000, 50.0), (100, FULL, 100.0)])
def test_shares(given: float, ppm: int, told: float) -> None:
    assert share(given) == ppm
    assert percent(ppm) == told
    assert percent(ARMED) == 0.0
