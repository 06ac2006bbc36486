"""One question to Prometheus, and the times that an evaluation asks about."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from modelrollout.api.guard import Guard
from modelrollout.evidence.context import Context


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


def evaluation_times(guard: Guard, context: Context, now: datetime) -> tuple[datetime, ...]:
    """When the last ``of`` evaluations were, newest first: an interval apart, none before the arm had weight."""
    times = [now - count * context.interval for count in range(guard.of)]
    return tuple(at for at in times if at == now or at > context.since)
