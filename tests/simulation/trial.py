"""What the revision on trial may have, and when (I3, I4, I11): told from the writes themselves, not from the engine."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import TYPE_CHECKING, Any

from modelrollout.api.guard import Guard, OnBreach
from modelrollout.api.modeldeployment import ModelDeployment, parse_modeldeployment, revision_name
from modelrollout.api.reasons import AttemptReason
from modelrollout.api.status import (
    HistoryEntry,
    ModelDeploymentStatus,
    Outcome,
    Phase,
    RolloutStatus,
    Verdict,
    status_from,
)
from modelrollout.api.strategies import BlueGreen, Canary, Shadow, ShadowEnd, Strategy
from modelrollout.rollout.plan import ARMED, WHOLE
from tests.builders import NAME
from tests.simulation.kubelet import now
from tests.simulation.store import Write

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

ABORT_COMMANDED = "AbortCommanded"


class Trial:
    """Follows the attempts of one run. ``distrusted``: somebody damaged the status since the last one began."""

    def __init__(self, simulation: Simulation) -> None:
        self._world = simulation
        self.distrusted = False
        self.taken_back: set[str] = set()
        self.good: dict[str, bool] = {}
        """By revision: whether its last own end was a promotion."""
        self._desired: str | None = None
        self._granted: dict[str, int] = {}
        self._attempt: int = 0
        self._began: float = 0.0
        self._stage: tuple[Any, ...] = ()
        self._stage_since: float = 0.0
        self._ended: dict[int, tuple[str, Outcome]] = {}
        self._newest: HistoryEntry | None = None
        self._command = ""
        self._commands = 0
        self._answers = 0

    # -- people ---------------------------------------------------------------------------------------------------

    def spec_changed(self, wish: ModelDeployment) -> None:
        """A person wrote the spec or a command: another revision, or a retry, lifts I4."""
        desired = revision_name(NAME, wish.spec)
        if desired != self._desired:
            self.taken_back.clear()
        self._desired = desired
        command = wish.metadata.annotations.get("modelrollout.io/command", "")
        if command and command != self._command:
            self._commands += 1
        self._command = command
        if command.startswith("retry/"):
            self.taken_back.discard(desired)

    def damaged(self, status: ModelDeploymentStatus) -> None:
        """Somebody edited the status to this: what only it knew is lost."""
        self.distrusted = True
        self._attempt = status.rollout.attempt if status.rollout else -1
        self._ended.clear()
        self.taken_back.clear()
        self.good = dict.fromkeys(self.good, True)
        self._answers = -1  # a command whose nonce was forgotten acts again

    # -- writes ---------------------------------------------------------------------------------------------------

    def written(self, manifest: dict[str, Any]) -> Iterator[str]:
        """The operator wrote this status."""
        status = status_from(manifest.get("status"))
        rollout = status.rollout
        if rollout is None:
            return
        if rollout.attempt != self._attempt:
            if rollout.attempt < self._attempt and not self.distrusted:
                yield f"I11: attempt {rollout.attempt} after attempt {self._attempt}"
            yield from self._begins(rollout, status.revisions.stable is not None)
        if status.phase is Phase.ROLLING_BACK and rollout.reason == AttemptReason.GUARD_BREACHED:
            breaches = [guard for guard in rollout.guards if guard.verdict is Verdict.BREACH]
            if breaches and all(guard.both for guard in breaches) and not self.distrusted:
                yield f"I14: taken back for {', '.join(guard.name for guard in breaches)}, which both arms break"
        stage = (rollout.attempt, rollout.step, rollout.step_started_at, status.phase)
        if stage[:3] != self._stage[:3]:
            self._stage_since = now()
        self._stage = stage
        if rollout.outcome is not None:
            yield from self._ends(rollout)
        newest = status.history[0] if status.history else None
        news = newest is not None and newest != self._newest and not self.distrusted
        if news and newest is not None and newest.attempt in {entry.attempt for entry in status.history[1:]}:
            yield f"I11: attempt {newest.attempt} ended twice"
        self._newest = newest

    def _begins(self, rollout: RolloutStatus, beside: bool) -> Iterator[str]:
        if rollout.fast_track and not self.distrusted and not self.good.get(rollout.revision):
            yield f"I11: {rollout.revision} goes by the fast track and was not promoted last"
        self._attempt, self._began = rollout.attempt, now()
        self._granted.pop(rollout.revision, None)
        if rollout.outcome is None and (beside or rollout.attempt == 1):
            self.distrusted = False

    def _ends(self, rollout: RolloutStatus) -> Iterator[str]:
        if rollout.outcome is None or self._ended.get(rollout.attempt) == (rollout.revision, rollout.outcome):
            return
        if rollout.attempt in self._ended and not self.distrusted:
            yield f"I11: attempt {rollout.attempt} ends as {rollout.outcome} after {self._ended[rollout.attempt]}"
        self._ended[rollout.attempt] = (rollout.revision, rollout.outcome)
        commanded = rollout.outcome is Outcome.ABORTED and rollout.reason == ABORT_COMMANDED
        if rollout.outcome is Outcome.PROMOTED:
            self.good[rollout.revision] = True
            self.taken_back.discard(rollout.revision)
            if rollout.instead_of:
                self.taken_back.add(rollout.instead_of)
        elif rollout.outcome is Outcome.ROLLED_BACK or commanded:
            self.good[rollout.revision] = False
            self.taken_back.add(rollout.revision)

    def told(self, write: Write) -> Iterator[str]:
        """The operator told people something."""
        if write.name not in ("CommandAccepted", "CommandRefused"):
            return
        self._answers += 1
        if self._answers > self._commands and not self.distrusted:
            yield f"I11: {self._answers} answers to {self._commands} commands"

    def grant(self, weights: dict[str, int]) -> None:
        """The operator wrote these weights: what it takes away is to be earned again."""
        for revision in self._granted.keys() | weights.keys():
            self._granted[revision] = weights.get(revision, 0)

    # -- rising ---------------------------------------------------------------------------------------------------

    def is_of(self, revision: str) -> bool:
        """Whether ``revision`` is the one on trial, on its way up."""
        trial = self._world.status.rollout
        going = trial is not None and trial.outcome is None and trial.revision == revision
        return going and self._world.status.phase not in ("RollingBack", "Baking") and not self.distrusted

    def risen(self, revision: str, weight: int, before: int) -> Iterator[str]:
        """``revision`` rises from ``before`` to ``weight``."""
        if self.distrusted:
            return
        status = self._world.status
        if revision in self.taken_back and revision != status.revisions.stable:
            yield f"I4: {revision} was taken back and gets {weight} ppm"
        trial = status.rollout
        if trial is not None and trial.outcome is None and trial.revision == revision:
            granted = self._granted.get(revision, 0)
            if granted <= ARMED or granted < min(weight, WHOLE - ARMED):
                yield from self._evidence(revision, weight, status, trial)
        elif status.revisions.stable is None and before >= WHOLE // 2:
            return  # the status was lost: what has the traffic is taken for stable
        elif revision not in (status.revisions.stable, status.revisions.last_good):
            yield f"I3: {revision} gets {weight} ppm and is not on trial"

    def _evidence(
        self, revision: str, weight: int, status: ModelDeploymentStatus, trial: RolloutStatus
    ) -> Iterator[str]:
        # Pods are warmed right after the attempt began; its first status is written a moment later.
        warmed = self._world.triton.passed_at.get(revision, -inf) >= self._began - 1.0
        if self._granted.get(revision, 0) <= ARMED and not warmed:
            yield f"I3: {revision} gets its first {weight} ppm and was not warmed"
        if self._world.edited_lately() or self._is_let(status, trial):
            return
        wish = parse_modeldeployment(self._world.wish())
        needed = watched(wish, trial) if not trial.fast_track else ()
        if not needed:
            return
        evaluation = self._world.process.measurements.of(self._world.key).evaluation
        since = trial.step_started_at
        if evaluation is None or since is None or evaluation.at < since or evaluation.revision != revision:
            yield f"I3: {revision} rises to {weight} ppm without an evaluation since its step began"
            return
        good = {result.name for result in evaluation.results if result.verdict is Verdict.PASS}
        missing = [guard.name for guard in needed if guard.name not in good]
        if missing:
            yield f"I3: {revision} rises to {weight} ppm, and {', '.join(missing)} did not pass"
        if self._world.metrics.answered_at < self._stage_since - 0.1:
            yield f"I3: {revision} rises to {weight} ppm, and Prometheus has not answered since its step began"

    def _is_let(self, status: ModelDeploymentStatus, trial: RolloutStatus) -> bool:
        """Whether a person stands in for the guards, in the status or by a command of this very turn."""
        if trial.approved or trial.full or trial.skip:
            return True
        command = (self._world.wish()["metadata"].get("annotations") or {}).get("modelrollout.io/command", "")
        return command.partition("/")[0] in ("promote", "promote:full", "skip-step") and (
            command != status.handled_command
        )


def watched(wish: ModelDeployment, trial: RolloutStatus) -> tuple[Guard, ...]:
    """The guards that hold the stage ``trial`` is in; none where the candidate has nothing to be judged by."""
    rollout, stage = wish.spec.rollout, trial.step
    steps = (rollout.canary or Canary()).steps
    match rollout.strategy:
        case Strategy.CANARY:
            canary_step = stage
        case Strategy.SHADOW if (rollout.shadow or Shadow()).then is ShadowEnd.CANARY and stage > 1:
            canary_step = stage - 1
        case Strategy.SHADOW if (rollout.shadow or Shadow()).then is ShadowEnd.BLUE_GREEN and stage > 1:
            return _before_the_switch(wish, stage - 1)
        case Strategy.BLUE_GREEN:
            return _before_the_switch(wish, stage)
        case Strategy.RECREATE:
            return ()
        case _:
            canary_step = 0
    if stage == 0:
        return ()
    if canary_step and not any(step.weight is not None for step in steps[:canary_step]):
        return ()
    return tuple(guard for guard in rollout.guards if _holds(guard, canary_step))


def _before_the_switch(wish: ModelDeployment, stage: int) -> tuple[Guard, ...]:
    trial = (wish.spec.rollout.blue_green or BlueGreen()).pre_promotion
    return tuple(guard for guard in wish.spec.rollout.guards if _holds(guard, 0)) if stage and trial else ()


def _holds(guard: Guard, canary_step: int) -> bool:
    if guard.on_breach is OnBreach.WARN:
        return False
    return (guard.from_step or 0) <= canary_step <= (guard.to_step or 99)
