"""What explain and plan show of a guard: the texts that are sent, or what is wrong."""

from __future__ import annotations

from datetime import timedelta

from modelrollout.api.modeldeployment import ModelDeployment
from modelrollout.evidence.context import Context
from modelrollout.evidence.queries import guard_queries
from modelrollout.evidence.resolve import resolve_guards
from modelrollout.rollout.plan import EvaluationRequest, Source
from tests.builders import DRIFT, ERRORS, modeldeployment
from tests.unit.evidence.envoy import at


def about(wish: ModelDeployment, source: Source = Source.WEIGHTED) -> Context:
    request = EvaluationRequest(1, "digits-b", "digits-a", 1, at(0), timedelta(seconds=10), source=source)
    return Context.of(wish, request, "envoy-gateway")


def test_the_texts_are_those_that_are_sent() -> None:
    wish = modeldeployment(grpc=True, guards=[ERRORS, DRIFT])
    where = about(wish)
    errors, drift = resolve_guards(wish.spec.rollout.guards, where, at(60))
    assert drift.queries == {
        "query": 'max(feature_psi{namespace="demo",revision="digits-b"})',
        "stable query": 'max(feature_psi{namespace="demo",revision="digits-a"})',
    }
    assert list(errors.queries) == ["http", "grpc"]
    for found in (errors, drift):
        assert found.problem is None
        assert list(found.queries.values()) == [query.text for query in guard_queries(found.guard, where, at(60))]


def test_what_is_wrong_with_one_guard_is_said_beside_the_others() -> None:
    bad = {**DRIFT, "name": "bad", "query": "sum(x"}
    wish = modeldeployment(grpc=True, guards=[ERRORS, bad, DRIFT])
    errors, broken, drift = resolve_guards(wish.spec.rollout.guards, about(wish, Source.MIRROR), at(60))
    assert (errors.queries, broken.queries) == ({}, {})
    assert "cannot be measured by the source Mirror" in (errors.problem or "")
    assert broken.problem == "the query does not parse: unclosed left parenthesis"
    assert drift.problem is None


def test_a_context_is_what_the_request_and_the_routes_say() -> None:
    where = about(modeldeployment(grpc=True), Source.SPLIT)
    assert (where.namespace, where.name, where.protocols, where.slot) == ("demo", "digits", ("http", "grpc"), 1)
    assert (where.source, where.profile) == (Source.SPLIT, "envoy-gateway")
    service = about(modeldeployment(service=True, strategy="Recreate", guards=[DRIFT]))
    assert (service.protocols, service.profile) == ((), None)
