"""Which series guards need to exist, looked up at the trial of an attempt: what is not scraped is said early.

Only series that are there without any request are asked for: silence is no missing series.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from modelrollout.api.base import clean
from modelrollout.api.guard import Guard
from modelrollout.evidence.context import Context
from modelrollout.evidence.promql import QueryError, one_line
from modelrollout.evidence.queried import CatalogError, QueryIndicator, Scope
from modelrollout.evidence.question import Query
from modelrollout.evidence.slis import catalog, find
from modelrollout.ports import Answer

LONGEST_SENTENCE = 300

_HINTS = {
    "observer": "is the observer scraped, and could it read the profile (its log says)?",
    "triton": "are the pods of Triton scraped, with the labels namespace and pod?",
}
_ANY_WINDOW = timedelta(minutes=1)


@dataclass(frozen=True)
class Need:
    """Series that must exist: the guards that need them, the selector as it is sent, and what to look at.

    ``fault`` turns it round: no such series may be above 0, and the hint says what it means that one is.
    """

    guards: tuple[str, ...]
    selector: str
    hint: str
    fault: bool = False

    def question(self, now: datetime) -> Query:
        """The instant query that answers nothing where no series is there (or none above 0); named by the selector."""
        return Query(self.selector, f"count({self.selector}{' > 0' if self.fault else ''})", now)

    def unmet(self, answer: object) -> bool:
        """Whether the answer to the question says that this is not as it must be; no answer says nothing."""
        if not isinstance(answer, Answer):
            return False
        return any(series.samples for series in answer.series) is self.fault

    def sentence(self, provider: str) -> str:
        """What is missing in the Prometheus of this name."""
        who = f"guard{'s' if len(self.guards) > 1 else ''} {', '.join(self.guards)}"
        if self.fault:
            return clean(f"{who}: {self.hint}", LONGEST_SENTENCE)
        verb = "need" if len(self.guards) > 1 else "needs"
        return clean(
            f"{who} {verb} {self.selector}, which Prometheus {provider} does not have: {self.hint}", LONGEST_SENTENCE
        )


def needed(guards: Iterable[Guard], context: Context, *, blind: bool = False) -> tuple[Need, ...]:
    """What the SLIs of ``guards`` need, each series once. A guard that can never be judged needs nothing.

    Of an arm's own series those of the stable one are asked for: it has pods before the candidate has. ``blind``: only
    what says that nothing at all is counted.
    """
    found: dict[tuple[str, str, bool], list[str]] = {}
    for guard in guards:
        if guard.sli is not None:
            for need in _needs(guard.sli, context, blind):
                found.setdefault(need, []).append(guard.name)
    return tuple(Need(tuple(names), *need) for need, names in found.items())


def missing(needs: Sequence[Need], answers: Mapping[str, object], provider: str) -> tuple[str, ...] | None:
    """A sentence for each need that is not met; ``answers`` to the questions by selector.

    None where nothing is known to be missing, and not every question was answered.
    """
    found = tuple(need.sentence(provider) for need in needs if need.unmet(answers.get(need.selector)))
    answered = all(isinstance(answers.get(need.selector), Answer) for need in needs)
    return found if found or answered else None


def _needs(sli: str, context: Context, blind: bool) -> list[tuple[str, str, bool]]:
    try:
        entry = find(sli, context)
        if isinstance(entry, QueryIndicator):
            arm = context.other if entry.scope is Scope.ARM else context
            hint = _HINTS.get(entry.origin, "is it scraped?")
            wanted = [] if blind else [(text, hint, False) for text in entry.needs]
            faults = entry.blind if blind else {**entry.faults, **entry.blind}
            wanted += [(text, meaning, True) for text, meaning in faults.items()]
            return [
                (one_line(entry.compiled(text, arm, _ANY_WINDOW, {})), meaning, fault)
                for text, meaning, fault in wanted
            ]
        hint = catalog(context.profile).hint
        if blind:
            return []
        return [(need, hint, False) for need in dict.fromkeys(entry.needs(protocol) for protocol in context.protocols)]
    except (CatalogError, QueryError):
        return []
