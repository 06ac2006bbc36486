"""What a ModelDeployment's past offers for a replay: who served when, and the rollouts that are on record."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from modelrollout.api.modeldeployment import ModelDeployment
from modelrollout.api.modelrevision import RevisionAttempt
from modelrollout.api.reasons import AttemptReason
from modelrollout.api.rolloutpolicy import SliDefinition
from modelrollout.api.status import Outcome, RolloutStatus
from modelrollout.cli.view.progress import stops
from modelrollout.cli.view.snapshot import Snapshot
from modelrollout.evidence.backtest import Trial
from modelrollout.evidence.context import Context
from modelrollout.rollout.plan import EvaluationRequest, Source
from modelrollout.rollout.record import WEIGHING, Kind, spans
from modelrollout.rollout.strategies import course_of

SHORTEST, LONGEST = timedelta(minutes=10), timedelta(hours=24)
"""Bounds of a replayed rollout."""

_EVER = datetime(1970, 1, 2, tzinfo=UTC), datetime(8999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Reign:
    """A time in which one revision served, from its place ``slot`` in the route."""

    revision: str
    slot: int
    begin: datetime
    end: datetime


@dataclass(frozen=True)
class Past:
    """The past of one ModelDeployment between two times, replayed every ``step`` by the guards of ``wish``."""

    snapshot: Snapshot
    wish: ModelDeployment
    since: datetime
    until: datetime
    step: timedelta
    profile: str | None
    definitions: tuple[SliDefinition, ...] = ()
    enforce_namespace: bool = True

    @property
    def length(self) -> timedelta:
        """How long a rollout takes by the spec, bake included."""
        rollout = self.wish.spec.rollout
        takes = sum((stop.hold for stop in stops(course_of(rollout), rollout)), timedelta(0))
        return max(SHORTEST, min(takes, LONGEST), 2 * self.step)

    def reigns(self) -> list[Reign]:
        """Who served when, oldest first, as far as the ModelRevisions say."""
        return [reign for reign in self._reigns(self.since, self.until) if reign.begin < reign.end]

    def pretended(self) -> list[Trial]:
        """Rollouts, one after the other, in which what served is judged as if it were on trial again."""
        found = []
        for reign in self.reigns():
            begin = reign.begin
            while begin + self.length <= reign.end:
                request = EvaluationRequest(0, reign.revision, reign.revision, reign.slot, begin, self.step)
                found.append(Trial(self._context(request), begin, begin + self.length))
                begin += self.length
        return found

    def recorded(self) -> list[Trial]:
        """The rollouts with traffic that the ModelRevisions remember, oldest first."""
        found = [
            trial
            for revision in self.snapshot.revisions
            for attempt in revision.status.attempts
            if (trial := self._recorded(revision.name, attempt)) is not None
        ]
        return sorted(found, key=lambda trial: trial.begin)

    def _recorded(self, revision: str, attempt: RevisionAttempt) -> Trial | None:
        slot, end = self._slot(revision), attempt.finished_at
        given = [entry.at for entry in attempt.decisions if entry.decision in WEIGHING and entry.weight > 0]
        if slot is None or end is None or not given or attempt.reason == AttemptReason.FIRST_DEPLOYMENT:
            return None
        begin = min(given)
        if begin < self.since or end > self.until or end <= begin:
            return None
        before = [
            reign.revision for reign in self._reigns(*_EVER) if reign.begin < begin and reign.revision != revision
        ]
        request = EvaluationRequest(
            attempt=attempt.attempt,
            revision=revision,
            stable=before[-1] if before else f"{self.snapshot.name}-unknown",
            slot=slot,
            since=begin,
            interval=self.step,
            source=Source.SPLIT if attempt.strategy == "ABTest" else Source.WEIGHTED,
            spans=spans(RolloutStatus(decisions=attempt.decisions), begin, 0),
        )
        return Trial(self._context(request), begin, end, f"{revision}, attempt {attempt.attempt}: {attempt.outcome}")

    def _reigns(self, since: datetime, until: datetime) -> list[Reign]:
        begins = [
            (at, revision.name)
            for revision in self.snapshot.revisions
            for attempt in revision.status.attempts
            if (at := _promoted_at(attempt)) is not None
        ]
        stable = self.snapshot.revision(self.snapshot.status.revisions.stable)
        if stable is not None and all(name != stable.name for _, name in begins):
            begins.append((stable.created or since, stable.name))
        begins.sort()
        ends = [*(at for at, _ in begins[1:]), until][: len(begins)]
        found = []
        for (at, name), end in zip(begins, ends, strict=True):
            slot = self._slot(name)
            if slot is not None:
                found.append(Reign(name, slot, max(at, since), min(end, until)))
        return found

    def _slot(self, name: str) -> int | None:
        found = self.snapshot.revision(name)
        if found is None:
            return None
        return found.slot if found.slot is not None else found.status.slot

    def _context(self, request: EvaluationRequest) -> Context:
        return Context.of(self.wish, request, self.profile, self.definitions, self.enforce_namespace)


def _promoted_at(attempt: RevisionAttempt) -> datetime | None:
    """When the attempt gave its revision all traffic."""
    if attempt.outcome is not Outcome.PROMOTED:
        return None
    given = [entry.at for entry in attempt.decisions if entry.decision == Kind.PROMOTE]
    return max(given) if given else attempt.finished_at
