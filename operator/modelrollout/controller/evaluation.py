"""Asks the metrics provider everything that the guards want to know, at once, and has the answers judged."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from modelrollout.api.base import clean
from modelrollout.api.guard import Guard
from modelrollout.evidence.context import Context
from modelrollout.evidence.judge import Failure, judge_guard
from modelrollout.evidence.promql import QueryError
from modelrollout.evidence.queries import Query, guard_queries
from modelrollout.evidence.slis import CatalogError
from modelrollout.ports import Answer, Clock, InvalidQueryError, Metrics, PortError
from modelrollout.rollout.observed import Evaluation, GuardResult
from modelrollout.rollout.plan import EvaluationRequest

_LOGGER = logging.getLogger(__name__)

AT_ONCE = 8
LONGEST_WAIT = timedelta(seconds=5)
SHORTEST_WAIT = timedelta(seconds=2)
"""A query may take as long as the interval between two evaluations, but within these."""

Outcome = Answer | Failure


async def evaluate(
    metrics: Metrics, guards: Sequence[Guard], context: Context, request: EvaluationRequest, clock: Clock
) -> Evaluation:
    """Evaluate every guard once, all at the same time; the result has one entry a guard, in order.

    Never raises but for cancellation: what goes wrong is in the results.
    """
    now = clock.now()
    asked: dict[str, tuple[Query, ...] | Failure] = {guard.name: _queries(guard, context, now) for guard in guards}
    questions = {
        query.question: query for queries in asked.values() if not isinstance(queries, Failure) for query in queries
    }
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
    return Evaluation(request.attempt, request.revision, now, tuple(results))


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
