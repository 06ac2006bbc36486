"""What to ask of Prometheus for a guard."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from modelrollout.api.guard import Guard, Sli
from modelrollout.evidence.context import Context
from modelrollout.evidence.promql import compile_query
from modelrollout.evidence.slis import Indicator, catalog

LOOKBACK = timedelta(minutes=5)
"""How far before the first window samples are asked for: old enough to tell a birth from a gap."""


@dataclass(frozen=True)
class Query:
    """One question. ``start`` and ``step`` None: an instant query at ``end``; else a range query.

    Two equal questions of different guards need to be asked once only; ``name`` does not count.
    """

    name: str
    text: str
    end: datetime
    start: datetime | None = None
    step: timedelta | None = None

    @property
    def question(self) -> tuple[str, datetime, datetime | None, timedelta | None]:
        """What makes two questions the same."""
        return self.text, self.end, self.start, self.step


def guard_queries(guard: Guard, context: Context, now: datetime) -> tuple[Query, ...]:
    """The questions for one evaluation of ``guard`` at ``now``; raises QueryError and CatalogError.

    An SLI asks once a protocol for raw samples (a matrix), named by the protocol; a user's query is asked once for
    all evaluations that count, named ``query``.
    """
    times = evaluation_times(guard, context, now)
    if guard.query is not None:
        return (Query("query", user_query(guard, context), now, times[-1], context.interval),)
    start = max(times[-1] - guard.window, min(context.since, now)) - LOOKBACK
    milliseconds = -((start - now) // timedelta(milliseconds=1))
    return tuple(
        Query(protocol, f"{selector}[{milliseconds}ms]", now)
        for protocol, selector in selectors(guard, context).items()
    )


def evaluation_times(guard: Guard, context: Context, now: datetime) -> tuple[datetime, ...]:
    """When the last ``of`` evaluations were, newest first: an interval apart, none before the arm had weight."""
    times = [now - count * context.interval for count in range(guard.of)]
    return tuple(at for at in times if at == now or at > context.since)


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
    """The catalog's entry for the guard's SLI; raises CatalogError where the source of ``context`` has none."""
    if guard.sli is None:
        raise ValueError(f"guard {guard.name} has no sli")
    return catalog(context.profile).indicator(Sli(guard.sli), context)
