"""How the answers of both arms to the same requests differ, as the observer counted them since the arm has traffic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from modelrollout.api.guard import Guard
from modelrollout.evidence.context import Context
from modelrollout.evidence.measure import Reading
from modelrollout.evidence.query_slis import questions, readings
from modelrollout.evidence.question import Query
from modelrollout.ports import Answer
from modelrollout.rollout.observed import Comparison

SLIS = ("answer-differences", "label-flips")
LONGEST = timedelta(hours=720)
# The window of an arm is cut to its own time.
_GUARDS = {sli: Guard(name="comparison", sli=sli, min=0.0, window=LONGEST) for sli in SLIS}


def comparison_queries(context: Context, now: datetime) -> tuple[Query, ...]:
    """The questions about both shares and the count they are made of; raises CatalogError and QueryError."""
    return tuple(
        replace(query, name=f"{sli} {query.name}")
        for sli, guard in _GUARDS.items()
        for query in questions(guard, context, now)
    )


def read_comparison(context: Context, answers: Mapping[str, Answer], now: datetime) -> Comparison | None:
    """What the observer compared; None where it compared nothing."""
    found: dict[str, Reading] = {}
    for sli, guard in _GUARDS.items():
        own = {name.removeprefix(f"{sli} "): answer for name, answer in answers.items() if name.startswith(f"{sli} ")}
        read = readings(guard, context, own, now)
        if isinstance(read, str):
            return None
        found[sli] = read[0]
    differing, flips = found["answer-differences"], found["label-flips"]
    compared = max(differing.samples or 0.0, flips.samples or 0.0)
    return Comparison(compared, differing.value, flips.value) if compared > 0 else None
