"""Asks the metrics provider everything that the guards want to know, at once, and has the answers judged."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from modelrollout.api.base import clean
from modelrollout.api.guard import Guard
from modelrollout.evidence.arms import arm_queries, read_arms
from modelrollout.evidence.context import Context
from modelrollout.evidence.judge import Failure, judge_guard
from modelrollout.evidence.promql import QueryError
from modelrollout.evidence.queries import Query, guard_queries
from modelrollout.evidence.slis import CatalogError
from modelrollout.ports import Answer, Clock, InvalidQueryError, Metrics, PortError
from modelrollout.rollout.observed import Arm, Evaluation, GuardResult
from modelrollout.rollout.plan import EvaluationRequest, Source

_LOGGER = logging.getLogger(__name__)

AT_ONCE = 8
LONGEST_WAIT = timedelta(seconds=5)
SHORTEST_WAIT = timedelta(seconds=2)
"""A query may take as long as the interval between two evaluations, but within these."""

Outcome = Answer | Failure


async def evaluate(
    metrics: Metrics,
    guards: Sequence[Guard],
    context: Context,
    request: EvaluationRequest,
    clock: Clock,
    *,
    with_arms: bool = True,
) -> Evaluation:
    """Evaluate the guards that ``request`` names once, all at the same time; the result has one entry each, in order.

    Both arms of a running A/B test are measured besides, unless ``with_arms`` is False. Never raises but for
    cancellation: what goes wrong is in the results, and leaves the arms out.
    """
    now = clock.now()
    guards = requested(guards, request)
    asked: dict[str, tuple[Query, ...] | Failure] = {guard.name: _queries(guard, context, now) for guard in guards}
    arms = _arm_queries(context, now) if with_arms and splits(request) else ()
    questions = {
        query.question: query for queries in asked.values() if not isinstance(queries, Failure) for query in queries
    }
    # After the guards: what they find is urgent.
    for query in arms:
        questions.setdefault(query.question, query)
    wait = max(SHORTEST_WAIT, min(LONGEST_WAIT, context.interval)).total_seconds()
    places = asyncio.Semaphore(AT_ONCE)
    outcomes = await asyncio.gather(*(_ask(metrics, query, wait, places) for query in questions.values()))
    answers = dict(zip(questions, outcomes, strict=True))
    results = []
    for guard in guards:
        queries = asked[guard.name]
        if isinstance(queries, Failure):
            mine: dict[str, Outcome] = {"query": queries}
        else:
            mine = {query.name: answers[query.question] for query in queries}
        results.append(_judge(guard, context, mine, now))
    found = _arms(context, {query.name: answers[query.question] for query in arms}, now) if arms else ()
    return Evaluation(request.attempt, request.revision, now, tuple(results), request.source, found)


def requested(guards: Sequence[Guard], request: EvaluationRequest) -> tuple[Guard, ...]:
    """Those of ``guards`` that ``request`` names, in order."""
    return tuple(guard for guard in guards if guard.name in request.guards)


def splits(request: EvaluationRequest) -> bool:
    """Whether ``request`` is about an A/B test that is under way."""
    return request.source is Source.SPLIT and not request.trial


def _arm_queries(context: Context, now: datetime) -> tuple[Query, ...]:
    try:
        return arm_queries(context, now)
    except CatalogError as error:
        _LOGGER.warning("the arms of %s/%s cannot be measured: %s", context.namespace, context.name, error)
        return ()


def _arms(context: Context, outcomes: Mapping[str, Outcome], now: datetime) -> tuple[Arm, ...]:
    """Both arms, or neither where a question had no answer: half a result would look like one."""
    answers = {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, Answer)}
    if len(answers) < len(outcomes):
        return ()
    try:
        return read_arms(context, answers, now)
    except Exception:
        _LOGGER.exception("measuring the arms of %s/%s failed", context.namespace, context.name)
        return ()


def _queries(guard: Guard, context: Context, now: datetime) -> tuple[Query, ...] | Failure:
    try:
        return guard_queries(guard, context, now)
    except (QueryError, CatalogError) as error:
        return Failure(str(error), invalid=True)


async def _ask(metrics: Metrics, query: Query, wait: float, places: asyncio.Semaphore) -> Outcome:
    try:
        async with places, asyncio.timeout(wait):
            if query.start is None or query.step is None:
                return await metrics.query(query.text, query.end)
            return await metrics.query_range(query.text, query.start, query.end, query.step)
    except InvalidQueryError as error:
        return Failure(clean(str(error), 200), invalid=True)
    except PortError as error:
        return Failure(clean(str(error), 200))
    except TimeoutError:
        return Failure(f"Prometheus did not answer within {wait:g} s")
    except Exception:
        _LOGGER.exception("asking Prometheus failed")
        return Failure("Prometheus could not be asked; the operator's log says why")


def _judge(guard: Guard, context: Context, answers: dict[str, Outcome], now: datetime) -> GuardResult:
    try:
        return judge_guard(guard, context, answers, now)
    except Exception:
        # Whatever an answer looked like, one guard must not keep the others from being judged.
        _LOGGER.exception("judging guard %s failed", guard.name)
        failed: dict[str, Outcome] = {"query": Failure("the answer could not be judged; the operator's log says why")}
        return judge_guard(guard, context, failed, now)
