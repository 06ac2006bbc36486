"""What to ask of Prometheus for a guard."""

from __future__ import annotations

from datetime import datetime, timedelta

from modelrollout.api.guard import Guard
from modelrollout.evidence.context import Context
from modelrollout.evidence.promql import compile_query
from modelrollout.evidence.queried import CatalogError, QueryIndicator
from modelrollout.evidence.query_slis import questions
from modelrollout.evidence.question import Query, evaluation_times
from modelrollout.evidence.slis import Indicator, catalog, find

__all__ = [
    "LOOKBACK",
    "Query",
    "counter_selectors",
    "evaluation_times",
    "guard_queries",
    "indicator",
    "selectors",
    "user_query",
]

LOOKBACK = timedelta(minutes=5)
"""How far before the first window samples are asked for: old enough to tell a birth from a gap."""


def guard_queries(guard: Guard, context: Context, now: datetime) -> tuple[Query, ...]:
    """The questions for one evaluation of ``guard`` at ``now``; raises QueryError and CatalogError.

    An SLI of counters asks once a protocol for raw samples (a matrix), named by the protocol; a user's query is asked
    once for all evaluations that count, named ``query``; an SLI that Prometheus computes as ``query_slis`` says.
    """
    if guard.sli is not None and isinstance(find(guard.sli, context), QueryIndicator):
        return questions(guard, context, now)
    times = evaluation_times(guard, context, now)
    if guard.query is not None:
        return (Query("query", user_query(guard, context), now, times[-1], context.interval),)
    start = max(times[-1] - guard.window, min(context.since, now)) - LOOKBACK
    milliseconds = -((start - now) // timedelta(milliseconds=1))
    return tuple(
        Query(protocol, f"{selector}[{milliseconds}ms]", now)
        for protocol, selector in selectors(guard, context).items()
    )


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
        raise CatalogError(f"{guard.sli} is computed by Prometheus: there are no counters of it")
    return entry
