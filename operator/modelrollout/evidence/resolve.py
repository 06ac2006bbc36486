"""What a guard asks of Prometheus, in words for people: the texts that are sent, or why none can be."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from modelrollout.api.guard import Guard
from modelrollout.evidence.context import Context
from modelrollout.evidence.promql import QueryError, one_line
from modelrollout.evidence.queries import guard_queries
from modelrollout.evidence.slis import CatalogError


@dataclass(frozen=True)
class Resolved:
    """The questions of one guard: PromQL by name, each in one line, or what is wrong with the guard.

    Names are ``query`` for the guard's own, the protocols for an SLI of counters, ``value`` and ``samples`` for one
    that Prometheus computes; those about the stable revision begin with ``stable``.
    """

    guard: Guard
    queries: dict[str, str]
    problem: str | None = None


def resolve_guards(guards: Iterable[Guard], context: Context, now: datetime) -> tuple[Resolved, ...]:
    """Every guard with its queries as they are sent at ``now``; never raises."""
    return tuple(_resolve(guard, context, now) for guard in guards)


def _resolve(guard: Guard, context: Context, now: datetime) -> Resolved:
    try:
        return Resolved(guard, {query.name: one_line(query.text) for query in guard_queries(guard, context, now)})
    except (QueryError, CatalogError) as error:
        return Resolved(guard, {}, str(error))
