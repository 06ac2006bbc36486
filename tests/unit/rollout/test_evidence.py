"""What evidence does besides passing and breaking: both arms, waits that were to be expected, weights, drift, spans."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from modelrollout.api.modeldeployment import ModelDeployment, parse_modeldeployment
from modelrollout.api.observation import Observation
from modelrollout.api.status import (
    CONDITION_LIMIT,
    DECISION_LIMIT,
    Condition,
    ConditionStatus,
    Decision,
    DriftStatus,
    GuardRecord,
    Phase,
    Verdict,
)
from modelrollout.rollout.drift import watch_guards
from modelrollout.rollout.observed import Allocation, Comparison, Evaluation, GuardResult
from modelrollout.rollout.plan import WHOLE, Notification, Span
from modelrollout.rollout.record import KEPT_AFTER_THE_END, QUERIES_KEPT, spans
from tests.builders import ERRORS, manifest, modeldeployment
from tests.unit.rollout.given import NOW, V1, V2, Given, condition, layout, reasons, seconds

PSI = {"name": "inputs", "sli": "input-psi", "max": 0.2}
OBSERVATION: dict[str, Any] = {
    "percent": 12.5,
    "profile": {"parameter": "profile"},
    "comparison": {},
    "drift": {"retraining": {"webhook": "pipeline", "approval": "Automatic"}, "interval": "30s"},
}


def observed(version: str = "2.0.0", **changes: Any) -> ModelDeployment:
    body = manifest(version, guards=[ERRORS, PSI], **changes)
    body["spec"]["observation"] = OBSERVATION
    return parse_modeldeployment(body)


def both(given: Given, **more: Any) -> Given:
    return given.judged(Verdict.BREACH, both=True, **more)


# -- both arms ----------------------------------------------------------------------------------------------------


def test_a_breach_of_both_arms_holds_says_so_once_and_asks_a_person_in_the_end() -> None:
    given = both(Given().stepping(2))
    plan = given.decide()
    assert plan.status.phase is Phase.PROGRESSING
    assert layout(plan) == {V1: 750_000, V2: 250_000}
    assert "held: both arms break errors: the world moved" in plan.status.message
    assert condition(plan, "GuardsPassing").reason == "WorldMoved"
    assert reasons(plan) == ["WorldMoved"]
    assert reasons(given.after(plan).decide()) == []
    later = both(given.at(181)).decide()
    assert later.status.phase is Phase.AWAITING_APPROVAL
    assert later.status.rollout is not None
    assert later.status.rollout.reason == "WorldMoved"
    assert reasons(both(given.after(later).at(200)).decide()) == []


def test_who_is_taken_back_is_told_the_words_of_the_guard_for_they_name_what_moved() -> None:
    words = "output-psi is 0.31 over 1m (200 requests), must be <= 0.2 (output PRICE)"
    plan = Given().stepping(2).judged(Verdict.BREACH, message=words).decide()
    assert plan.status.rollout is not None
    assert plan.status.rollout.message == f"guard errors is in breach: {words}"
    assert words in plan.events[0].message


def test_a_guard_may_want_a_rollback_all_the_same() -> None:
    stubborn = {**ERRORS, "whenBothBreach": "Rollback"}
    plan = both(Given(guards=[stubborn]).stepping(2)).decide()
    assert plan.status.phase is Phase.ROLLING_BACK


def test_what_the_candidate_breaks_alone_counts_beside_what_both_break() -> None:
    given = Given(guards=[ERRORS, PSI]).stepping(2)
    at = given.now - seconds(1)
    results = (
        GuardResult("inputs", Verdict.BREACH, at, 0.5, both=True, drift="feature age"),
        GuardResult("errors", Verdict.BREACH, at, 0.5),
    )
    plan = given.seeing(evaluation=Evaluation(2, V2, at, results)).decide()
    assert plan.status.phase is Phase.ROLLING_BACK
    assert plan.status.rollout is not None
    assert "guard errors is in breach" in plan.status.rollout.message


@pytest.mark.parametrize(("on_breach", "phase"), [("Pause", Phase.AWAITING_APPROVAL), ("Warn", Phase.PROGRESSING)])
def test_pause_asks_at_once_and_warn_goes_on(on_breach: str, phase: Phase) -> None:
    plan = both(Given(guards=[{**ERRORS, "onBreach": on_breach}]).stepping(2)).decide()
    assert plan.status.phase is phase
    assert condition(plan, "GuardsPassing").reason == "WorldMoved"
    held = layout(plan) == {V1: 750_000, V2: 250_000}
    assert held is (on_breach == "Pause")


def test_in_the_bake_both_arms_hold_its_end_and_the_last_good_one_stays_armed() -> None:
    given = both(Given().baking())
    plan = given.decide()
    assert plan.status.phase is Phase.BAKING
    assert plan.status.revisions.last_good == V1
    assert "the world moved" in plan.status.message


def test_silence_after_it_is_no_word_that_the_world_is_back() -> None:
    given = both(Given().stepping(2))
    given.after(given.decide()).at(10).judged(Verdict.NO_DATA)
    assert condition(given.decide(), "GuardsPassing").reason == "WorldMoved"
    given.judged(Verdict.PASS)
    plan = given.decide()
    assert condition(plan, "GuardsPassing").status is ConditionStatus.TRUE
    assert layout(plan) == {V1: 500_000, V2: 500_000}


# -- guards by name -----------------------------------------------------------------------------------------------


def several(given: Given, *names: str) -> Given:
    """Guards of the spec, those named in breach, the others pass."""
    results = tuple(
        GuardResult(
            guard.name,
            Verdict.BREACH if guard.name in names else Verdict.PASS,
            given.now,
            message=f"{guard.name} is 7, must be <= 5",
        )
        for guard in given.wish.spec.rollout.guards
    )
    return given.seeing(evaluation=Evaluation(2, V2, given.now, results))


WARNING = [{**ERRORS, "onBreach": "Warn"}, {**PSI, "onBreach": "Warn"}]


def test_which_guards_are_in_breach_and_which_were_is_told_by_name_at_no_more_writes() -> None:
    given = Given(guards=WARNING).stepping(1, step_started_at=NOW - seconds(5))
    given.after(given.decide())
    first = several(given.at(10), "inputs").decide()
    assert reasons(first) == ["GuardWarned"]
    assert first.events[0].message == "guard inputs is in breach, and only warns: inputs is 7, must be <= 5"
    told = condition(first, "GuardsPassing")
    assert (told.reason, told.message) == ("GuardBreached", "guard inputs is in breach; see status.rollout.guards")
    given.after(first)
    for turn, names in enumerate((("errors", "inputs"), ("errors",), ("inputs",)), start=2):
        plan = several(given.at(10 * turn), *names).decide()
        assert (plan.status, reasons(plan)) == (first.status, []), "another guard alone is no write"
    over = several(given.at(50)).decide()
    told = condition(over, "GuardsPassing")
    assert (told.status, told.message) == (ConditionStatus.TRUE, "no guard is in breach any more (inputs was)")
    given.after(over)
    quiet = several(given.at(60)).decide()
    assert (quiet.status, reasons(quiet)) == (over.status, [])
    again = several(given.at(70), "errors", "inputs").decide()
    assert condition(again, "GuardsPassing").message.startswith("guards errors, inputs are in breach")
    assert reasons(again) == [], "what comes and goes is told anew after five good minutes"
    later = several(given.at(50 + 301), "errors", "inputs").decide()
    assert reasons(later) == ["GuardWarned"]


def test_the_guard_that_ends_an_attempt_is_named_and_not_the_one_that_only_warned() -> None:
    given = Given(guards=[ERRORS, {**PSI, "onBreach": "Warn"}]).stepping(1, step_started_at=NOW - seconds(5))
    given.after(given.decide())
    given.after(several(given.at(10), "inputs").decide())
    plan = several(given.at(20), "errors").decide()
    assert plan.status.phase is Phase.ROLLING_BACK
    assert condition(plan, "GuardsPassing").message == "guard errors is in breach; see status.rollout.guards"
    assert reasons(plan) == ["RolledBack"], "which names it with its value"


def test_a_breach_of_an_attempt_before_is_not_told_as_the_end_of_one_of_this() -> None:
    given = Given().stepping(2).judged(Verdict.BREACH)
    given.after(given.decide()).route({V1: WHOLE, V2: 0})
    while given.status.phase is Phase.ROLLING_BACK:
        given.after(given.decide()).route({V1: WHOLE})
    given.wish = modeldeployment("3.0.0")
    plan = given.decide()
    assert plan.status.phase is Phase.PREPARING
    assert condition(plan, "GuardsPassing").message == "no guard is in breach"


def test_a_breach_is_over_when_the_spec_asks_for_what_serves_again() -> None:
    given = Given().stepping(2).judged(Verdict.BREACH)
    given.after(given.decide()).route({V1: WHOLE, V2: 0})
    while given.status.phase is Phase.ROLLING_BACK:
        given.after(given.decide()).route({V1: WHOLE})
    given.seeing(evaluation=None)
    assert given.status.phase is Phase.ROLLED_BACK
    assert condition(given.decide(), "GuardsPassing").status is ConditionStatus.FALSE, "it still tells why"
    given.wish = modeldeployment("1.0.0")
    plan = given.decide()
    assert plan.status.phase is Phase.IDLE
    assert condition(plan, "GuardsPassing").status is ConditionStatus.TRUE
    assert given.after(plan).decide().status == plan.status, "told once"


# -- waits --------------------------------------------------------------------------------------------------------


def test_a_wait_that_was_to_be_expected_spends_no_deadline_and_says_until_when() -> None:
    until = NOW + timedelta(hours=30)
    given = Given().stepping(2).judged(Verdict.NO_DATA, waits_until=until)
    plan = given.decide()
    assert "guards errors can say nothing before 2026-01-02 07:00:00 UTC" in plan.status.message
    assert plan.status.rollout is not None
    assert plan.status.rollout.waiting_since is None
    assert plan.requeue_after == timedelta(hours=30) + 2 * given.wish.spec.rollout.evaluation_interval
    assert reasons(plan) == []
    given.after(plan).at(20 * 3600).judged(Verdict.NO_DATA, waits_until=until)
    later = given.decide()
    assert later.status.phase is Phase.PROGRESSING, "noDataDeadline is 3 minutes"
    assert later.status.message == plan.status.message
    given.after(later).at(31 * 3600).judged(Verdict.NO_DATA, waits_until=until)
    given.after(given.decide()).at(31 * 3600 + 200).judged(Verdict.NO_DATA, waits_until=until)
    assert given.decide().status.phase is Phase.AWAITING_APPROVAL


def test_the_end_of_a_wait_is_followed_by_the_evaluation_that_was_waited_for() -> None:
    until = NOW + seconds(600)
    given = Given().stepping(2).judged(Verdict.NO_DATA, waits_until=until)
    told = given.decide()
    given.after(told).at(600).judged(Verdict.NO_DATA, waits_until=until)
    over = given.decide()
    assert (reasons(over), over.status) == ([], told.status)
    assert over.requeue_after == 2 * given.wish.spec.rollout.evaluation_interval
    given.at(606).judged(Verdict.PASS)
    assert layout(given.decide()) == {V1: 500_000, V2: 500_000}
    given.at(621).judged(Verdict.NO_DATA)
    assert reasons(given.decide()) == ["StepHeld"]


@pytest.mark.parametrize("verdict", [Verdict.NO_DATA, Verdict.PROVIDER_DOWN, Verdict.BREACH])
def test_other_guards_in_the_same_trouble_are_no_news(verdict: Verdict) -> None:
    given = Given(guards=[ERRORS, PSI]).stepping(2).at(30)

    def seen(names: tuple[str, ...]) -> Given:
        results = tuple(
            GuardResult(name, verdict if name in names else Verdict.PASS, given.now, both=True)
            for name in ("errors", "inputs")
        )
        return given.seeing(evaluation=Evaluation(2, V2, given.now, results))

    first = seen(("errors",)).decide()
    assert "held: " in first.status.message
    for turn, names in enumerate((("inputs",), ("errors", "inputs"), ("errors",)), start=1):
        given.after(first).at(30 + 10 * turn)
        assert seen(names).decide().status == first.status


def test_a_graver_reason_of_a_hold_is_news_once() -> None:
    given = Given().stepping(2).at(30).judged(Verdict.NO_DATA)
    silent = given.decide()
    assert "held: no data for guards errors" in silent.status.message
    moved = both(given.after(silent).at(40)).decide()
    assert "held: both arms break errors" in moved.status.message
    assert moved.status.rollout is not None
    assert silent.status.rollout is not None
    assert moved.status.rollout.waiting_since == silent.status.rollout.waiting_since
    again = given.after(moved).at(50).judged(Verdict.NO_DATA).decide()
    assert again.status == moved.status
    assert both(given.after(again).at(60)).decide().status == moved.status


def test_another_guard_that_is_silent_without_reason_spends_it() -> None:
    given = Given(guards=[ERRORS, PSI]).stepping(2)
    given.after(given.decide()).at(20)
    at = given.now - seconds(1)
    late = GuardResult("errors", Verdict.NO_DATA, at, waits_until=NOW + timedelta(hours=1))
    plan = given.seeing(evaluation=Evaluation(2, V2, at, (late, GuardResult("inputs", Verdict.NO_DATA, at)))).decide()
    assert "no data for guards inputs" in plan.status.message
    assert plan.status.rollout is not None
    assert plan.status.rollout.waiting_since is not None


# -- weights ------------------------------------------------------------------------------------------------------


def test_arms_that_do_not_get_their_weights_hold_the_step() -> None:
    given = Given().stepping(2)
    assert given.observed.evaluation is not None
    crooked = Allocation(0.25, 0.61, 4000, effective=False)
    given.seeing(evaluation=replace(given.observed.evaluation, allocation=crooked))
    plan = given.decide()
    assert plan.status.phase is Phase.PROGRESSING
    assert layout(plan) == {V1: 750_000, V2: 250_000}
    told = condition(plan, "WeightEffective")
    assert (told.status, reasons(plan)) == (ConditionStatus.FALSE, ["WeightNotEffective"])
    assert told.message == f"{V2} got 61.00% of 4000 requests instead of 25.00%"
    worse = replace(given.observed.evaluation, allocation=replace(crooked, observed=0.7, samples=9000))
    again = given.after(plan).seeing(evaluation=worse).decide()
    assert again.status == plan.status, "the numbers of the moment in which it turned"
    unknown = replace(given.observed.evaluation, allocation=None, at=NOW + seconds(599))
    assert layout(given.at(600).seeing(evaluation=unknown).decide()) == {V1: 750_000, V2: 250_000}, "silence is no word"


def test_arms_that_get_them_cost_no_write() -> None:
    given = Given().stepping(2, step_started_at=NOW - seconds(5))
    assert given.observed.evaluation is not None
    given.after(given.decide())
    good = replace(given.observed.evaluation, allocation=Allocation(0.25, 0.26, 4000))
    assert given.seeing(evaluation=good).decide().status == given.status


def test_the_bake_shares_no_weight_and_tells_nothing_of_it() -> None:
    given = Given().baking()
    crooked = Condition(
        type="WeightEffective", status=ConditionStatus.FALSE, message="got 61 %", reason="WeightNotEffective"
    )
    given.status = given.status.model_copy(update={"conditions": (*given.status.conditions, crooked)})
    assert all(each.type != "WeightEffective" for each in given.decide().status.conditions)


# -- drift --------------------------------------------------------------------------------------------------------


def at_rest(wish: ModelDeployment | None = None) -> Given:
    given = Given().serving(V2)
    given.wish = wish or observed()
    return given.after(given.decide())


def watched(given: Given, verdict: Verdict, value: float | None, drift: str = "feature age", **more: Any) -> Given:
    result = GuardResult("input-drift", verdict, given.now, value, "<= 0.2", 900, drift=drift, both=True, **more)
    return given.seeing(evaluation=Evaluation(0, V2, given.now, (result,), watch=True))


def test_at_rest_the_stable_revision_is_watched_by_the_guards_of_the_observation() -> None:
    plan = at_rest().decide()
    request = plan.evaluate
    assert request is not None
    assert (request.watch, request.revision, request.stable) == (True, V2, V2)
    assert (request.interval, request.guards) == (seconds(30), ("input-drift", "output-drift"))
    guards = watch_guards(observed().spec.observation)
    assert [(guard.name, guard.sli, guard.max, guard.min_samples) for guard in guards] == [
        ("input-drift", "input-psi", 0.2, 500),
        ("output-drift", "output-psi", 0.2, 500),
    ]
    assert condition(plan, "DriftDetected").status is ConditionStatus.FALSE


@pytest.mark.parametrize(
    "observation",
    [None, {}, {"profile": {"parameter": "profile"}, "drift": {"enabled": False}}],
)
def test_nothing_is_watched_without_a_profile_or_when_it_is_off(observation: dict[str, Any] | None) -> None:
    assert watch_guards(Observation.model_validate(observation) if observation is not None else None) == ()


def test_nothing_is_watched_without_an_observer_or_pods() -> None:
    given = at_rest()
    assert given.seeing(observer=False).decide().evaluate is None
    given = at_rest(observed(replicas=0))
    assert given.decide().evaluate is None


def test_drift_begins_above_the_bound_and_ends_well_below_it() -> None:
    given = watched(at_rest(), Verdict.BREACH, 0.31)
    begun = given.decide()
    assert reasons(begun) == ["DriftDetected"]
    assert begun.status.drift == (
        DriftStatus(subject="feature age", sli="input-psi", value=0.31, threshold="<= 0.2", since=given.now),
    )
    assert condition(begun, "DriftDetected").status is ConditionStatus.TRUE
    assert begun.status.message == f"{V2} serves all traffic; drift of feature age"
    for verdict, value in ((Verdict.BREACH, 0.4), (Verdict.PASS, 0.17), (Verdict.NO_DATA, None)):
        assert watched(given.after(begun), verdict, value).decide().status == begun.status
    over = watched(given, Verdict.PASS, 0.15).decide()
    assert (over.status.drift, reasons(over)) == ((), ["DriftEnded"])


def test_a_drift_that_ended_is_not_in_what_is_looked_at_afterwards() -> None:
    given = watched(at_rest(), Verdict.BREACH, 0.31)
    request = given.after(given.decide()).decide().evaluate
    assert request is not None
    assert given.now - request.since > timedelta(days=365), "it drifts: the whole window says when it is over"
    given = watched(given.at(600), Verdict.PASS, 0.15)
    request = given.after(given.decide()).at(660).decide().evaluate
    assert request is not None
    assert given.now - request.since == seconds(60)


def test_another_feature_that_drifts_is_added_worst_first() -> None:
    given = watched(at_rest(), Verdict.BREACH, 0.31)
    given.after(given.decide())
    plan = watched(given, Verdict.BREACH, 0.9, "feature income").decide()
    assert [entry.subject for entry in plan.status.drift] == ["feature income", "feature age"]
    assert reasons(plan) == []


def test_the_webhook_is_asked_for_once_a_transition_and_by_command() -> None:
    given = watched(at_rest(), Verdict.BREACH, 0.31)
    begun = given.decide()
    assert begun.notify == Notification("pipeline", V2, begun.status.drift, "modelrollout")
    told = condition(begun, "DriftDetected").message
    assert told.startswith(
        "webhook pipeline is asked for retraining when drift begins: no longer as in the profile: feature age"
    ), "approval Automatic: no person is waited for"
    assert given.after(begun).decide().notify is None
    given.wish = observed(command="retrain/1@anna")
    plan = given.decide()
    assert plan.notify == Notification("pipeline", V2, begun.status.drift, "anna")
    assert reasons(plan) == ["CommandAccepted"]
    assert given.after(plan).decide().notify is None


def test_drift_under_both_arms_is_told_in_a_rollout_and_outputs_of_the_candidate_alone_are_not() -> None:
    for alone in (False, True):
        given = Given().stepping(2)
        given.wish = observed()
        at = given.now - seconds(1)
        results = (
            GuardResult("errors", Verdict.PASS, at, 0.0),
            GuardResult("inputs", Verdict.BREACH, at, 0.5, "<= 0.2", both=not alone, drift="feature age"),
        )
        plan = given.seeing(evaluation=Evaluation(2, V2, at, results)).decide()
        assert bool(plan.status.drift) is not alone
        assert plan.status.phase is (Phase.ROLLING_BACK if alone else Phase.PROGRESSING)


def test_drift_that_nothing_looks_for_any_more_is_forgotten() -> None:
    given = watched(at_rest(), Verdict.BREACH, 0.31)
    given.after(given.decide())
    given.wish = parse_modeldeployment(manifest("2.0.0"))
    plan = given.decide()
    assert plan.status.drift == ()
    assert all(each.type != "DriftDetected" for each in plan.status.conditions)
    assert len(plan.status.conditions) <= CONDITION_LIMIT


KS = {"name": "shape", "sli": "input-ks", "max": 0.1}


def observing(guards: list[dict[str, Any]], **observation: Any) -> ModelDeployment:
    body = manifest("2.0.0", guards=guards)
    body["spec"]["observation"] = {**OBSERVATION, **observation}
    return parse_modeldeployment(body)


def told_of(given: Given, sli: str) -> Given:
    return given.having(drift=(DriftStatus(subject="feature age", sli=sli, value=0.5, since=NOW - seconds(90)),))


@pytest.mark.parametrize(
    ("sli", "observation", "kept"),
    [
        ("input-psi", {}, True),
        ("input-ks", {}, False),
        ("output-psi", {}, True),
        ("output-psi", {"comparison": None}, False),
    ],
    ids=["watched", "by a guard of the rollout", "outputs", "outputs that are not compared any more"],
)
def test_drift_that_nobody_could_end_at_rest_does_not_stay(sli: str, observation: dict[str, Any], kept: bool) -> None:
    given = told_of(at_rest(observing([ERRORS, KS], **observation)), sli)
    plan = given.decide()
    assert bool(plan.status.drift) is kept
    assert reasons(plan) == [], "nobody measured that it ended"


def test_drift_of_a_guard_that_was_removed_from_the_rollout_does_not_stay() -> None:
    for guards, kept in (([ERRORS, KS], True), ([ERRORS], False)):
        given = Given().stepping(2)
        given.wish = observing(guards)
        assert bool(told_of(given, "input-ks").decide().status.drift) is kept


def test_the_end_of_an_attempt_is_no_end_of_its_drift() -> None:
    given = at_rest(observing([ERRORS, PSI], drift={"enabled": False}))
    plan = told_of(given, "input-psi").decide()
    assert (plan.status.drift, reasons(plan)) == ((), [])


# -- the observer -------------------------------------------------------------------------------------------------


def test_copies_go_out_with_every_route_while_there_is_an_observer_and_hold_nothing_up() -> None:
    given = Given().stepping(2)
    given.wish = observed()
    at = given.now - seconds(1)
    results = tuple(GuardResult(name, Verdict.PASS, at, 0.0) for name in ("errors", "inputs"))
    given.seeing(evaluation=Evaluation(2, V2, at, results))
    for there in (True, False):
        plan = given.seeing(observer=there).decide()
        assert plan.route is not None
        assert plan.route.observe == (WHOLE // 8 if there else 0)
        assert layout(plan) == {V1: 500_000, V2: 500_000}, "the next step, though no route copies anything yet"
    assert reasons(plan) == ["ObserverMissing"]


@pytest.mark.parametrize(
    ("there", "uncopied", "condition"),
    [
        (True, None, ("True", "Copied")),
        (False, None, ("False", "ObserverMissing")),
        (True, "Service demo/digits--observer exists: delete it", ("False", "NotCopied")),
        (False, "an older sentence", ("False", "ObserverMissing")),
    ],
)
def test_observed_is_true_only_where_copies_can_go_out(
    there: bool, uncopied: str | None, condition: tuple[str, str]
) -> None:
    given = at_rest(observing([ERRORS, PSI]))
    plan = given.seeing(observer=there, uncopied=uncopied).decide()
    (found,) = (each for each in plan.status.conditions if each.type == "Observed")
    assert (found.status, found.reason) == condition
    if condition[1] == "NotCopied":
        assert found.message == f"nothing is copied: {uncopied}"
    assert plan.route is not None
    assert bool(plan.route.observe) is there, "what is in the way is tried again"


def test_why_nothing_is_observed_is_told_once_a_reason_by_the_word_of_the_condition() -> None:
    given = at_rest(observing([ERRORS, PSI]))
    course: list[tuple[dict[str, Any], list[str]]] = [
        ({"observer": False}, ["ObserverMissing"]),
        ({"observer": False}, []),
        ({"observer": True, "uncopied": "Service demo/digits--observer exists: delete it"}, ["NotCopied"]),
        ({"observer": True, "uncopied": "Service demo/digits--observer exists still"}, []),
        ({"observer": False, "uncopied": None}, ["ObserverMissing"]),
        ({"observer": True, "uncopied": None}, []),
    ]
    for seen, told in course:
        plan = given.seeing(**seen).decide()
        assert reasons(plan) == told, seen
        if told:
            assert condition(plan, "Observed").reason == told[0]
            assert plan.events[-1].message == condition(plan, "Observed").message
        given.after(plan)


BLIND = "guards input-drift, output-drift: the profile is not there"


def blind(given: Given, *missing: str) -> Given:
    results = tuple(GuardResult(name, Verdict.NO_DATA, given.now) for name in ("input-drift", "output-drift"))
    return given.seeing(evaluation=Evaluation(0, V2, given.now, results, missing=missing, watch=True))


def unanswered(given: Given) -> Given:
    found = blind(given).observed.evaluation
    assert found is not None
    return given.seeing(evaluation=replace(found, missing=None))


def test_a_profile_that_cannot_be_used_is_told_and_ends_what_nobody_could_end() -> None:
    given = told_of(at_rest(observing([ERRORS, PSI])), "input-psi")
    assert blind(given).decide().status.drift, "no data alone ends nothing"
    plan = blind(given, BLIND).decide()
    found = condition(plan, "Observed")
    assert (found.status, found.reason, found.message) == (ConditionStatus.FALSE, "ProfileUnusable", BLIND)
    assert plan.status.drift == ()
    assert reasons(plan) == ["ProfileUnusable"], "nobody measured that the drift ended"
    # Where two observers answer, one of which can: what is measured counts, and is told once.
    given = watched(at_rest(observing([ERRORS, PSI])), Verdict.BREACH, 0.5)
    evaluation = given.observed.evaluation
    assert evaluation is not None
    given = given.seeing(evaluation=replace(evaluation, missing=(BLIND,)))
    drifting = given.decide()
    assert drifting.status.drift
    later = given.after(drifting).at(1).decide()
    assert later.status == drifting.status


def test_a_profile_is_told_as_unusable_as_long_as_no_watch_says_otherwise() -> None:
    given = at_rest(observing([ERRORS, PSI]))
    plan = blind(given, BLIND).decide()
    # An attempt, or a new operator, has no watch.
    given = given.after(plan)
    later = given.seeing(evaluation=None).decide()
    assert condition(later, "Observed").reason == "ProfileUnusable"
    again = blind(given).decide()
    assert (condition(again, "Observed").reason, reasons(again)) == ("Copied", [])


def test_an_outage_of_prometheus_says_nothing_of_the_profile() -> None:
    given = at_rest(observing([ERRORS, PSI]))
    assert condition(unanswered(given).decide(), "Observed").reason == "Copied", "nothing was told yet"
    given = told_of(given, "input-psi")
    given.after(blind(given, BLIND).decide())
    plan = unanswered(given).decide()
    assert (condition(plan, "Observed").message, reasons(plan)) == (BLIND, [])
    assert reasons(blind(given.after(plan), BLIND).decide()) == [], "it is back, and says the same"


def test_a_trial_that_got_no_answer_does_not_say_that_every_series_is_there() -> None:
    given = Given().serving().trying(Phase.VERIFYING)
    at = given.now - seconds(1)
    result = GuardResult("errors", Verdict.PROVIDER_DOWN, at)
    plan = given.seeing(evaluation=Evaluation(2, V2, at, (result,), missing=None)).decide()
    assert not any(each.type == "EvidenceAvailable" for each in plan.status.conditions)


@pytest.mark.parametrize("changes", [{"drift": {"enabled": False}}, {"drift": {}, "comparison": None, "profile": None}])
def test_a_profile_that_nobody_watches_any_more_is_not_told_as_unusable(changes: dict[str, Any]) -> None:
    """The last answer of the watch is still there."""
    given = at_rest(observing([ERRORS]))
    given.after(blind(given, BLIND).decide())
    given.wish = observing([ERRORS], **changes)
    found = condition(given.decide(), "Observed")
    assert (found.status, found.reason) == (ConditionStatus.TRUE, "Copied")


# -- the record ---------------------------------------------------------------------------------------------------


def test_answers_are_told_when_twice_as_many_were_compared() -> None:
    given = Given().stepping(2, step_started_at=NOW - seconds(5))
    given.wish = observed()
    at = given.now - seconds(1)
    for count, written in ((10.0, True), (19.0, False), (21.0, True)):
        found = Evaluation(2, V2, at, (), comparison=Comparison(count, 0.4, 0.3))
        plan = given.seeing(evaluation=found).decide()
        assert plan.evaluate is not None
        assert plan.evaluate.compare
        assert (plan.status != given.status) is written
        given.after(plan)
    told = given.status.rollout and given.status.rollout.comparison
    assert told is not None
    assert (told.compared, told.label_flips, told.differing) == (21.0, 0.3, 0.4)


def test_spans_are_the_weights_since_the_evidence_counts() -> None:
    given = Given().stepping(2)
    rollout = given.status.rollout
    assert rollout is not None

    def at(ago: float, kind: str, weight: float) -> Decision:
        return Decision(at=NOW - seconds(ago), decision=kind, weight=weight)

    decisions = (
        at(10, "Step", 50.0),
        at(30, "Ramp", 31.0),
        at(40, "Hold", 25.0),
        at(100, "Step", 25.0),
        at(150, "Step", 25.0),
        at(200, "Step", 10.0),
        at(300, "Step", 5.0),
    )
    found = spans(rollout.model_copy(update={"decisions": decisions}), NOW - seconds(190), 500_000)
    assert found == (
        Span(NOW - seconds(190), 100_000),
        Span(NOW - seconds(150), 250_000),
        Span(NOW - seconds(30), 0),
        Span(NOW - seconds(10), 500_000),
    )


def test_where_no_weight_was_written_down_only_that_of_this_step_is_known() -> None:
    rollout = Given().stepping(2).status.rollout
    assert rollout is not None
    assert spans(rollout, NOW - seconds(190), 250_000) == (Span(NOW - seconds(60), 250_000),)
    assert spans(rollout, NOW - seconds(30), 250_000) == (Span(NOW - seconds(30), 250_000),)
    ramping = rollout.model_copy(update={"ramp": 31.0})
    assert spans(ramping, NOW - seconds(190), 310_000) == (Span(NOW - seconds(60), 0),)


def test_holds_without_end_leave_the_weights_in_the_record() -> None:
    steps = tuple(
        Decision(at=NOW - seconds(ago), decision="Step", weight=weight) for ago, weight in ((60, 25.0), (300, 10.0))
    )
    given = Given().stepping(2, decisions=steps)
    for hold in range(DECISION_LIMIT + 10):
        for later, verdict in ((1, Verdict.NO_DATA), (40, Verdict.NO_DATA), (50, Verdict.PROVIDER_DOWN)):
            given.at(400 * hold + later).judged(verdict, value=None)
            plan = given.decide()
            given.after(plan)
    rollout = given.status.rollout
    assert rollout is not None
    assert len(rollout.decisions) == DECISION_LIMIT
    assert rollout.decisions[0].decision == "Hold"
    assert rollout.decisions[0].at == given.now - seconds(49)
    assert plan.evaluate is not None
    assert plan.evaluate.spans == (Span(NOW - seconds(300), 100_000), Span(NOW - seconds(60), 250_000))


def test_decisions_are_bounded_and_the_revision_has_all_of_them_at_the_end() -> None:
    old = tuple(Decision(at=NOW - seconds(60 + n), decision="Hold") for n in range(DECISION_LIMIT))
    given = Given().baking(decisions=old)
    given.route({V2: WHOLE})
    plan = given.decide()
    assert plan.status.rollout is not None
    assert len(plan.status.rollout.decisions) == KEPT_AFTER_THE_END
    attempt = plan.revision_status[V2].attempts[0]
    assert len(attempt.decisions) == DECISION_LIMIT
    assert attempt.decisions[0].decision == "Complete"
    assert [record.name for record in attempt.decisions[0].guards] == ["errors"]


def test_series_that_a_trial_did_not_find_are_told_once() -> None:
    given = Given().serving().trying(Phase.VERIFYING)
    at = given.now - seconds(1)
    missing = ("guard errors: no series envoy_cluster_upstream_rq_total",)
    trial = Evaluation(2, V2, at, (GuardResult("errors", Verdict.NO_DATA, at),), missing=missing)
    plan = given.seeing(evaluation=trial).decide()
    told = condition(plan, "EvidenceAvailable")
    assert (told.status, told.message) == (ConditionStatus.FALSE, missing[0])
    assert reasons(plan) == ["SeriesMissing"]
    assert reasons(given.after(plan).decide()) == []


@pytest.mark.parametrize(
    ("value", "samples", "known"),
    [
        (0.001, None, ConditionStatus.TRUE),
        (None, 7.0, ConditionStatus.TRUE),
        (None, 0.0, ConditionStatus.FALSE),
        (None, None, ConditionStatus.FALSE),
    ],
)
def test_series_that_came_back_are_no_longer_missing(
    value: float | None, samples: float | None, known: ConditionStatus
) -> None:
    given = Given().stepping(2)
    missing = Condition(type="EvidenceAvailable", status=ConditionStatus.FALSE, message="no series", reason="Missing")
    given.status = given.status.model_copy(update={"conditions": (*given.status.conditions, missing)})
    verdict = Verdict.NO_DATA if value is None else Verdict.PASS
    given.judged(verdict, value=value, samples=samples)
    assert condition(given.decide(), "EvidenceAvailable").status is known


def test_the_record_has_each_query_once_and_not_without_end() -> None:
    given = Given().stepping(2)
    for hold in range(40):
        for later, verdict in ((1, Verdict.NO_DATA), (40, Verdict.NO_DATA), (50, Verdict.PROVIDER_DOWN)):
            # What is asked changes with every fourth turn.
            given.at(400 * hold + later).judged(verdict, value=None, query=f"errors[{hold // 4}]")
            given.after(given.decide())
    rollout = given.status.rollout
    assert rollout is not None
    queries = [guard.query for decision in rollout.decisions for guard in decision.guards]
    told = [query for query in queries if query]
    assert told == [f"errors[{number}]" for number in range(9, 9 - len(told), -1)]
    assert len(told) < len(queries)
    many = tuple(
        Decision(at=NOW, decision="Hold", guards=tuple(record(name, f"{name}[{n}]") for name in "abcdef"))
        for n in range(20)
    )
    given = Given().stepping(2, decisions=many).judged(Verdict.BREACH)
    rollout = given.decide().status.rollout
    assert rollout is not None
    assert sum(bool(guard.query) for decision in rollout.decisions for guard in decision.guards) <= QUERIES_KEPT


def record(name: str, query: str) -> GuardRecord:
    return GuardRecord(name=name, verdict=Verdict.PASS, query=query)


def test_a_query_outlives_the_decision_that_told_it() -> None:
    """A step says nothing of its query, as it is that of the hold after it: when the hold goes, the step says it."""
    given = Given().stepping(
        2,
        decisions=(
            *(Decision(at=NOW, decision="Step", guards=(record("errors", ""),)) for _ in range(DECISION_LIMIT - 2)),
            Decision(at=NOW, decision="Hold", guards=(record("errors", "A"),)),
            Decision(at=NOW, decision="Step", guards=(record("errors", ""),)),
        ),
    )
    rollout = given.judged(Verdict.BREACH, query="B").decide().status.rollout
    assert rollout is not None
    assert [decision.decision for decision in rollout.decisions[:1]] == ["RollBack"]
    assert len(rollout.decisions) == DECISION_LIMIT
    assert rollout.decisions[0].guards[0].query == "B"
    assert rollout.decisions[-1].guards[0].query == "A"
