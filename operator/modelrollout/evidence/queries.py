"""What to ask of Prometheus for a guard."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from modelrollout.api.guard import Guard
from modelrollout.evidence.bounds import is_sequential, warmed_up
from modelrollout.evidence.context import Context
from modelrollout.evidence.promql import compile_query
from modelrollout.evidence.queried import CatalogError, QueryIndicator, Scope
from modelrollout.evidence.query_slis import questions
from modelrollout.evidence.question import Query, evaluation_times
from modelrollout.evidence.sequential import sequential_queries
from modelrollout.evidence.sides import both_selector
from modelrollout.evidence.slis import Indicator, Kind, catalog, find

__all__ = [
    "LOOKBACK",
    "OTHER",
    "Query",
    "compares",
    "counter_selectors",
    "evaluation_times",
    "guard_queries",
    "indicator",
    "selectors",
    "user_query",
]

OTHER = "stable "
"""Before the name of a question: it is about the stable revision."""

LOOKBACK = timedelta(minutes=5)
"""How far before the first window samples are asked for: old enough to tell a birth from a gap."""


def guard_queries(guard: Guard, context: Context, now: datetime) -> tuple[Query, ...]:
    """The questions for one evaluation of ``guard`` at ``now``; raises QueryError and CatalogError.

    An SLI of counters asks once a protocol for raw samples (a matrix), named by the protocol, of stable too where it is
    compared. A user's query is asked once for all evaluations that count, named ``query``; an SLI that Prometheus
    computes as ``query_slis`` says; either once more for stable, ``stable `` before the name. A guard with confidence
    asks for the counts of both arms instead, as ``counted`` says.
    """
    entry = None if guard.sli is None else find(guard.sli, context)
    if is_sequential(guard):
        return sequential_queries(guard, indicator(guard, context), context, now)
    own = warmed_up(guard, context)
    asked = _arm_queries(guard, entry, own, now)
    if not compares(guard, context) or isinstance(entry, Indicator):
        return asked
    others = _arm_queries(guard, entry, own.other, now)
    return (*asked, *(replace(query, name=f"{OTHER}{query.name}") for query in others))


def _arm_queries(
    guard: Guard, entry: Indicator | QueryIndicator | None, context: Context, now: datetime
) -> tuple[Query, ...]:
    if isinstance(entry, QueryIndicator):
        return questions(guard, context, now)
    times = evaluation_times(guard, context, now)
    if entry is None:
        return (Query("query", user_query(guard, context), now, times[-1], context.interval),)
    start = max(times[-1] - guard.window, min(context.since, now)) - LOOKBACK
    milliseconds = -((start - now) // timedelta(milliseconds=1))
    own = counter_selectors(entry, context)
    if compares(guard, context):
        known = catalog(context.profile)
        own = {name: both_selector(entry.counters(name), known, name, context) for name in own}
    return tuple(Query(protocol, f"{selector}[{milliseconds}ms]", now) for protocol, selector in own.items())


def compares(guard: Guard, context: Context) -> bool:
    """Whether stable is asked for too, to tell a bad candidate from a world that moved.

    Not where it has no traffic of its own, nor about a rate (it follows the weight), inputs (both arms get the same) or
    a query that names both arms or neither.
    """
    if context.watch or context.revision == context.stable or context.stable_is_out:
        return False
    if guard.query is not None:
        return "$stable" not in guard.query and ("$revision" in guard.query or "$pods" in guard.query)
    entry = find(guard.sli or "", context)
    if isinstance(entry, QueryIndicator):
        texts = " ".join(entry.texts())
        return entry.scope is Scope.ARM and "$stable" not in texts
    return entry.kind is not Kind.RATE


def user_query(guard: Guard, context: Context) -> str:
    """The query of the guard as it is sent; raises QueryError."""
    return compile_query(
        guard.query or "",
        context.namespace,
        context.name,
        context.revision,
        context.stable,
        guard.window,
        context.enforce_namespace,
    )


def selectors(guard: Guard, context: Context) -> dict[str, str]:
    """The selector of the SLI's counters by protocol; raises CatalogError."""
    return counter_selectors(indicator(guard, context), context)


def counter_selectors(entry: Indicator, context: Context) -> dict[str, str]:
    """The selector of the counters of ``entry`` by protocol, for the arm and source of ``context``."""
    known = catalog(context.profile)
    return {protocol: entry.counters(protocol).query(known.names(protocol, context)) for protocol in context.protocols}


def indicator(guard: Guard, context: Context) -> Indicator:
    """The entry of the guard's SLI, which must be one of counters.

    Raises CatalogError where it is none, or cannot be measured by the source of ``context``.
    """
    if guard.sli is None:
        raise ValueError(f"guard {guard.name} has no sli")
    entry = find(guard.sli, context)
    if isinstance(entry, QueryIndicator):
        raise CatalogError(
            f"{guard.sli} is computed by Prometheus: there are no counters of it to be sure of, so give max or min "
            "without confidence"
        )
    return entry
