"""Replays the guards of one ModelDeployment over its past: asks Prometheus in bounded parts and counts the verdicts."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from modelrollout.api.base import clean
from modelrollout.api.guard import Guard
from modelrollout.api.status import Verdict
from modelrollout.cli.view.past import Past
from modelrollout.evidence.backtest import (
    Fetch,
    History,
    Tally,
    Trial,
    can_be_replayed,
    needed,
    replay,
    resolution_of,
)
from modelrollout.evidence.promql import QueryError
from modelrollout.evidence.slis import CatalogError
from modelrollout.ports import InvalidQueryError, Metrics, PortError, Series

POINTS = 720
"""A question asks for so many points of each series at most: some MB where there are many buckets and pods."""

AT_ONCE = 4
LOOKS_OF_RECORDED = 60
FINEST_LOOK = timedelta(seconds=1)


@dataclass
class Replayed:
    """What one guard would have said: of what served as if it were on trial, and of each rollout on record.

    ``problem`` says why it can never be judged, ``why`` what went wrong where history could not be read.
    """

    guard: Guard
    served: Tally = field(default_factory=Tally)
    recorded: list[tuple[Trial, Tally]] = field(default_factory=list)
    problem: str | None = None
    why: str = ""

    @property
    def unread(self) -> str:
        """Why nothing at all could be read; empty where something could."""
        tallies = [self.served, *(tally for _, tally in self.recorded)]
        looks = sum(tally.looks for tally in tallies)
        return self.why if looks and looks == sum(tally.unread for tally in tallies) else ""


@dataclass(frozen=True)
class _Batch:
    """Trials that follow each other and are answered from one fetch."""

    trials: tuple[Trial, ...]
    step: timedelta
    resolution: timedelta


class Replayer:
    """Asks ``metrics``; ``asked`` is called after each question, for a line of progress."""

    def __init__(self, metrics: Metrics, asked: Callable[[], None] = lambda: None) -> None:
        self._metrics = metrics
        self._asked = asked
        self._places = asyncio.Semaphore(AT_ONCE)

    async def run(self, past: Past, guards: Sequence[Guard]) -> list[Replayed]:
        """Every guard, in order."""
        found = {guard.name: Replayed(guard, problem=_problem(guard, past)) for guard in guards}
        for batch in batches(past, guards):
            judged = [guard for guard in guards if found[guard.name].problem is None]
            history = await self._history(_wishes(judged, batch))
            for guard in judged:
                for trial in batch.trials:
                    if can_be_replayed(guard, trial):
                        results = replay(guard, trial, history, batch.step, batch.resolution)
                        _tally(found[guard.name], trial).add(guard, results)
                        down = next((each.message for each in results if each.verdict is Verdict.PROVIDER_DOWN), "")
                        found[guard.name].why = found[guard.name].why or down
        return list(found.values())

    async def _history(self, wishes: Sequence[Fetch]) -> History:
        answers = await asyncio.gather(*(self._fetch(wish) for wish in wishes))
        fetched: dict[str, list[Series]] = {}
        missing = {}
        for wish, answer in zip(wishes, answers, strict=True):
            if isinstance(answer, str):
                missing[wish.text] = answer
            else:
                fetched[wish.text] = answer
        return History(fetched, missing)

    async def _fetch(self, wish: Fetch) -> list[Series] | str:
        """The series of ``wish``, part by part, or why there are none."""
        found: list[Series] = []
        for part in _parts(wish):
            try:
                async with self._places:
                    found += await self._ask(part)
            except PortError as error:
                return clean(str(error), 200)
        return found

    async def _ask(self, part: Fetch) -> list[Series]:
        """One part; in two halves where the answer is too much for one."""
        try:
            answer = await self._metrics.query_range(part.text, part.start, part.end, part.step)
        except InvalidQueryError:
            raise
        except PortError:
            halves = part.halves()
            if halves is None or (part.end - part.start) / part.step < POINTS / 4:
                raise
            return [series for half in halves for series in await self._ask(half)]
        finally:
            self._asked()
        return list(answer.series)


def questions(past: Past, guards: Sequence[Guard]) -> int:
    """How many questions a replay asks, if none has to be cut in two."""
    judged = [guard for guard in guards if _problem(guard, past) is None]
    return sum(len(list(_parts(wish))) for batch in batches(past, judged) for wish in _wishes(judged, batch))


def batches(past: Past, guards: Sequence[Guard]) -> Iterator[_Batch]:
    """What served, cut where a fetch would get too long; then each rollout on record for itself."""
    resolution = resolution_of(guards, past.step)
    together: list[Trial] = []
    for trial in past.pretended() if any(guard.relative_to is None for guard in guards) else ():
        if together and (trial.end - together[0].begin > POINTS * resolution or trial.begin != together[-1].end):
            yield _Batch(tuple(together), past.step, resolution)
            together = []
        together.append(trial)
    if together:
        yield _Batch(tuple(together), past.step, resolution)
    for trial in past.recorded():
        # As often as a rollout is looked at, while that is not too often.
        seconds = max((trial.end - trial.begin).total_seconds() / LOOKS_OF_RECORDED, FINEST_LOOK.total_seconds())
        step = timedelta(seconds=math.ceil(seconds))
        tried = replace(trial, context=replace(trial.context, interval=step))
        yield _Batch((tried,), step, resolution_of(guards, step))


def _problem(guard: Guard, past: Past) -> str | None:
    """Why the guard can never be judged here; None where it can, or where there is nothing to replay."""
    trials = past.pretended()[:1] or past.recorded()[:1]
    try:
        needed(guard, trials, past.step, resolution_of([guard], past.step))
    except (QueryError, CatalogError) as error:
        return clean(str(error), 300)
    return None


def _wishes(guards: Sequence[Guard], batch: _Batch) -> list[Fetch]:
    """What all guards need for the trials of the batch; none twice."""
    found: dict[str, Fetch] = {}
    for guard in guards:
        trials = [trial for trial in batch.trials if can_be_replayed(guard, trial)]
        for wish in needed(guard, trials, batch.step, batch.resolution):
            before = found.get(wish.text, wish)
            found[wish.text] = replace(wish, start=min(wish.start, before.start), end=max(wish.end, before.end))
    return list(found.values())


def _parts(wish: Fetch) -> Iterator[Fetch]:
    start, width = wish.start, POINTS * wish.step
    while start <= wish.end:
        yield replace(wish, start=start, end=min(start + width - wish.step, wish.end))
        start += width


def _tally(found: Replayed, trial: Trial) -> Tally:
    if not trial.title:
        return found.served
    found.recorded.append((trial, Tally()))
    return found.recorded[-1][1]
