"""Asks the metrics provider everything that an evaluation wants to know, at once, and has the answers judged."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TypeVar

from modelrollout.api.base import clean
from modelrollout.api.guard import Guard
from modelrollout.api.status import Verdict
from modelrollout.evidence.allocation import allocation_queries, read_allocation
from modelrollout.evidence.arms import arm_queries, read_arms
from modelrollout.evidence.compared import comparison_queries, read_comparison
from modelrollout.evidence.context import Context
from modelrollout.evidence.judge import Failure, judge_guard
from modelrollout.evidence.needs import missing, needed
from modelrollout.evidence.promql import QueryError, one_line
from modelrollout.evidence.queries import Query, guard_queries
from modelrollout.evidence.slis import CatalogError
from modelrollout.ports import Answer, Clock, InvalidQueryError, Metrics, PortError
from modelrollout.rollout.observed import Evaluation, GuardResult
from modelrollout.rollout.plan import EvaluationRequest, Source

_LOGGER = logging.getLogger(__name__)

AT_ONCE = 4
"""Questions of one evaluation; a Measurer bounds those of a namespace, so that nobody's slow queries hold up others."""

LONGEST_WAIT = timedelta(seconds=5)
SHORTEST_WAIT = timedelta(seconds=2)
"""A query may take as long as the interval between two evaluations, but within these."""

LONGEST_TEXT = 1000
"""Of the queries that a result names."""

Question = tuple[str, datetime, datetime | None, timedelta | None]
Outcome = Answer | Failure
Found = TypeVar("Found")


async def evaluate(
    metrics: Metrics,
    guards: Sequence[Guard],
    context: Context,
    request: EvaluationRequest,
    clock: Clock,
    *,
    with_arms: bool = True,
    provider: str = "",
    shared: asyncio.Semaphore | None = None,
) -> Evaluation:
    """Evaluate the guards that ``request`` names once, all at the same time; the result has one entry each, in order.

    Both arms of a running A/B test are measured besides, unless ``with_arms`` is False, and what else the request asks
    for; a trial looks for the series that the guards need in the Prometheus called ``provider``, a watch for those that
    say that nothing is counted. ``shared`` are the places that evaluations have together. Never raises but for
    cancellation: what goes wrong is in the results, and leaves the rest out.
    """
    now = clock.now()
    guards = requested(guards, request)
    asked: dict[str, tuple[Query, ...] | Failure] = {guard.name: _queries(guard, context, now) for guard in guards}
    extras = _Extras(context, now)
    arms = extras.want(arm_queries if with_arms and splits(request) else None)
    compared = extras.want(comparison_queries if request.compare and not request.trial else None)
    weighed = request.source is Source.WEIGHTED and bool(request.spans) and not request.trial and not request.watch
    allocated = extras.want((lambda *given: allocation_queries(guards, *given)) if weighed else None)
    needs = needed(guards, context, blind=request.watch) if request.trial or request.watch else ()
    lookups = tuple(need.question(now) for need in needs)
    questions = {
        query.question: query for queries in asked.values() if not isinstance(queries, Failure) for query in queries
    }
    # After the guards: what they find is urgent.
    for query in (*arms, *compared, *allocated, *lookups):
        questions.setdefault(query.question, query)
    wait = max(SHORTEST_WAIT, min(LONGEST_WAIT, context.interval)).total_seconds()
    own = asyncio.Semaphore(AT_ONCE)
    shared = shared or asyncio.Semaphore(AT_ONCE)
    outcomes = await asyncio.gather(*(_ask(metrics, query, wait, own, shared) for query in questions.values()))
    answers = dict(zip(questions, outcomes, strict=True))
    results = tuple(_result(guard, context, asked[guard.name], answers, now) for guard in guards)
    if request.trial:
        results = tuple(map(_untried, results))
    return Evaluation(
        request.attempt,
        request.revision,
        now,
        results,
        request.source,
        arms=extras.read(arms, answers, read_arms) or (),
        allocation=extras.read(allocated, answers, lambda *given: read_allocation(guards, *given)),
        comparison=extras.read(compared, answers, read_comparison),
        missing=missing(needs, {query.name: answers[query.question] for query in lookups}, provider),
        watch=request.watch,
        digest=request.digest,
        asked=guards,
        definitions=context.definitions,
    )


def requested(guards: Sequence[Guard], request: EvaluationRequest) -> tuple[Guard, ...]:
    """Those of ``guards`` that ``request`` names, in order."""
    return tuple(guard for guard in guards if guard.name in request.guards)


def splits(request: EvaluationRequest) -> bool:
    """Whether ``request`` is about an A/B test that is under way."""
    return request.source is Source.SPLIT and not request.trial


@dataclass(frozen=True)
class _Extras:
    """What is measured besides the guards: all of it or nothing, since half a result would look like one."""

    context: Context
    now: datetime
    _told: set[str] = field(default_factory=set)

    def want(self, queries: Callable[[Context, datetime], tuple[Query, ...]] | None) -> tuple[Query, ...]:
        """The questions; none where this gateway or source cannot answer them."""
        if queries is None:
            return ()
        try:
            return queries(self.context, self.now)
        except (CatalogError, QueryError) as error:
            _LOGGER.debug("not measured for %s/%s: %s", self.context.namespace, self.context.name, error)
            return ()

    def read(
        self,
        queries: tuple[Query, ...],
        answers: Mapping[Question, Outcome],
        reader: Callable[[Context, Mapping[str, Answer], datetime], Found],
    ) -> Found | None:
        """What the answers say; None without questions, or where one was not answered."""
        outcomes = {query.name: answers[query.question] for query in queries}
        given = {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, Answer)}
        if not outcomes or len(given) < len(outcomes):
            return None
        try:
            return reader(self.context, given, self.now)
        except Exception:
            _LOGGER.exception("measuring %s/%s failed", self.context.namespace, self.context.name)
            return None


def _queries(guard: Guard, context: Context, now: datetime) -> tuple[Query, ...] | Failure:
    try:
        return guard_queries(guard, context, now)
    except (QueryError, CatalogError) as error:
        return Failure(str(error), invalid=True)


async def _ask(
    metrics: Metrics, query: Query, wait: float, own: asyncio.Semaphore, shared: asyncio.Semaphore
) -> Outcome:
    try:
        async with own, shared, asyncio.timeout(wait):
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


def _result(
    guard: Guard,
    context: Context,
    asked: tuple[Query, ...] | Failure,
    answers: Mapping[Question, Outcome],
    now: datetime,
) -> GuardResult:
    if isinstance(asked, Failure):
        return _judge(guard, context, {"query": asked}, now)
    result = _judge(guard, context, {query.name: answers[query.question] for query in asked}, now)
    return replace(result, query=clean("; ".join(dict.fromkeys(one_line(query.text) for query in asked)), LONGEST_TEXT))


def _untried(result: GuardResult) -> GuardResult:
    """The same, but no breach of a candidate that had no traffic yet; what drifts does so for both arms."""
    if result.verdict is not Verdict.BREACH or result.drift:
        return result
    return replace(result, verdict=Verdict.NO_DATA, value=None, both=False, message="asked before the first traffic")


def _judge(guard: Guard, context: Context, answers: dict[str, Outcome], now: datetime) -> GuardResult:
    try:
        return judge_guard(guard, context, answers, now)
    except Exception:
        # Whatever an answer looked like, one guard must not keep the others from being judged.
        _LOGGER.exception("judging guard %s failed", guard.name)
        failed: dict[str, Outcome] = {"query": Failure("the answer could not be judged; the operator's log says why")}
        return judge_guard(guard, context, failed, now)
