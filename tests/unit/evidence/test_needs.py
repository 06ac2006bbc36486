"""Series that guards need: each is asked for once, and only silence about one that must be there is a finding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from modelrollout.api.guard import Guard
from modelrollout.evidence.needs import missing, needed
from modelrollout.ports import Answer, Series
from tests.unit.evidence.envoy import at, context

THERE = Answer("vector", (Series({}, ((0.0, 3.0),)),))
NOTHING = Answer("vector", ())


def guard(name: str, sli: str, **more: Any) -> Guard:
    return Guard.model_validate({"name": name, "sli": sli, "max": 0.2, **more})


def test_what_is_missing_is_said_once_with_what_to_look_at() -> None:
    needs = needed([guard("inputs", "input-psi"), guard("age", "input-psi", where={"feature": "age"})], context())
    absent, *_, blind = needs
    assert absent.question(at(0)).text == f"count({absent.selector})"
    assert absent.question(at(0)).start is None
    answers: dict[str, object] = {need.selector: NOTHING for need in needs}
    (sentence,) = missing(needs, answers, "default")
    assert sentence == (
        'guards inputs, age need modelrollout_observer_feature_total{modeldeployment="digits",namespace="demo"}, which '
        "Prometheus default does not have: is the observer scraped, and could it read the profile (its log says)?"
    )
    assert missing(needs, {**answers, absent.selector: THERE}, "default") == ()
    (sentence,) = missing(needs, {**answers, absent.selector: THERE, blind.selector: THERE}, "default")
    assert sentence.startswith("guards inputs, age: the profile that spec.observation.profile names is not there")


def test_between_rollouts_only_what_keeps_the_observer_from_counting_is_looked_for() -> None:
    (need,) = needed([guard("inputs", "input-psi"), guard("errors", "error-ratio")], context(), blind=True)
    assert need.selector.startswith("modelrollout_observer_profile_unusable{")
    assert need.question(at(0)).text == f"count({need.selector} > 0)"
    assert missing((need,), {need.selector: NOTHING}, "default") == ()


def test_a_profile_that_fits_in_part_is_said() -> None:
    absent, *others = needed([guard("outputs", "output-psi")], context())
    (fault,) = (need for need in others if "profile_misfits" in need.selector)
    assert fault.question(at(0)).text == f"count({fault.selector} > 0)"
    (sentence,) = missing((absent, fault), {absent.selector: THERE, fault.selector: THERE}, "default")
    assert sentence.startswith("guard outputs: parts of the profile do not fit the model")


def test_a_provider_that_is_down_says_nothing() -> None:
    needs = needed([guard("errors", "error-ratio"), guard("inputs", "input-psi")], context())
    assert len({need.selector for need in needs}) == len(needs) > 2
    refused: dict[str, object] = {need.selector: RuntimeError("refused") for need in needs}
    assert missing(needs, refused, "default") is None
    assert missing(needs, {}, "default") is None
    assert missing((), {}, "default") == ()
    # What is known to be missing is, whatever the others would say; and all must say that nothing is.
    (sentence,) = missing(needs, {**refused, needs[0].selector: NOTHING}, "default") or ()
    assert sentence.startswith("guard errors needs ")
    assert missing(needs, {**refused, needs[0].selector: THERE}, "default") is None


def test_an_arm_is_looked_for_at_the_stable_one() -> None:
    """The candidate has no pods yet."""
    (need,) = needed([guard("failures", "triton-failure-ratio")], replace(context(), profile=None))
    assert 'pod=~"digits-old-[a-z0-9]{1,10}-[a-z0-9]{5}"' in need.selector
    assert "are the pods of Triton scraped" in need.hint


def test_counters_of_a_gateway_need_what_it_exports_at_rest() -> None:
    where = replace(context(grpc=True), profile="nginx-gateway-fabric")
    (need,) = needed([guard("rate", "request-rate")], where)
    assert need.selector == '{__name__=~"nginx_config_reloads_total"}'
    assert "only NGINX Plus counts by upstream" in need.sentence("default")
    (need,) = needed([guard("errors", "error-ratio"), guard("slow", "latency-p99")], context(grpc=True))
    assert need.guards == ("errors", "slow")
    assert need.selector == '{__name__=~"envoy_server_uptime"}'


def test_a_guard_that_can_never_be_judged_needs_nothing() -> None:
    assert needed([guard("x", "no-such-sli"), guard("p99", "latency-p99")], replace(context(), profile=None)) == ()
    own = Guard.model_validate({"name": "q", "query": "vector(1)", "max": 1})
    assert needed([own], context()) == ()
