"""From an evaluation of all guards to its one effect: pass, hold, pause or roll back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from modelrollout.api.guard import Guard, OnBreach, WhenBothBreach
from modelrollout.api.reasons import AttemptReason, ConditionType
from modelrollout.api.status import ConditionStatus, Verdict
from modelrollout.rollout.observed import Evaluation, GuardResult
from modelrollout.rollout.situation import Situation
from modelrollout.rollout.timing import holds

GRACE = timedelta(seconds=15)
"""How much older than three intervals an evaluation may be before it is evidence of nothing."""


NO_DATA_FOR = "no data for guards "
NONE_YET = "no evaluation of the guards yet"
NOT_FRESH = "no fresh evaluation of the guards yet"
NOT_ALL = "not every guard was evaluated yet"


class Effect(StrEnum):
    """What the guards ask for, strongest last."""

    PASS = "Pass"  # noqa: S105
    HOLD = "Hold"
    PAUSE = "Pause"
    ROLLBACK = "Rollback"


@dataclass(frozen=True)
class Judgement:
    """What the guards ask for, and why.

    ``message`` is one clause without numbers that change, ``evidence`` has them. ``provider_down`` None: nobody
    asked yet. ``warned`` names Warn guards in breach, ``moved`` those that both arms break (the world is not the
    candidate's fault), ``own`` all others. ``reason`` is what a person is told who is asked because of a hold,
    ``waits_until`` when what is waited for can be there at the soonest: that wait spends no deadline.
    """

    effect: Effect
    message: str = ""
    evidence: str = ""
    provider_down: bool | None = None
    warned: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    reason: AttemptReason = AttemptReason.NO_DATA
    waits_until: datetime | None = None


def evidence_of(result: GuardResult) -> str:
    """What was measured and its bound, as a clause: the guard's own words, for they name the SLI and what is worst."""
    if result.message:
        return result.message
    value = "no value" if result.value is None else f"{result.value:.4g}"
    samples = "" if result.samples is None else f" from {result.samples:.0f} samples"
    return f"{result.name} is {value}{samples}, must be {result.threshold}"


def of_attempt(situation: Situation) -> Evaluation | None:
    """The newest evaluation, if it was asked for this attempt; a trial before its traffic counts too."""
    evaluation, attempt = situation.observed.evaluation, situation.attempt
    if evaluation is None or evaluation.watch:
        return None
    if (evaluation.attempt, evaluation.revision) != (attempt.attempt, attempt.revision):
        return None
    return evaluation


def current(situation: Situation) -> Evaluation | None:
    """The evaluation that belongs to this attempt and its traffic; None where there is none."""
    evaluation, started = of_attempt(situation), situation.attempt.traffic_started_at
    if evaluation is None or started is None or evaluation.at < started or evaluation.source is not situation.source:
        return None
    return evaluation


def judge(situation: Situation) -> Judgement:
    """The effect of the guards now.

    A breach counts from any evaluation of this attempt; one that both arms show holds, unless its guard says
    otherwise. A pass must be fresh: asked since the step began, no older than three intervals and a grace, and
    complete. Silence holds, but that of a guard that would only warn.
    """
    guards = {guard.name: guard for guard in situation.guards}
    evaluation = current(situation)
    if not guards:
        return Judgement(Effect.PASS)
    if evaluation is None:
        return Judgement(Effect.HOLD, NONE_YET)
    moved = tuple(r.name for r in evaluation.with_verdict(Verdict.BREACH) if _is_worlds(guards.get(r.name), r))
    breaches = [result for result in evaluation.with_verdict(Verdict.BREACH) if result.name in guards]
    found = Judgement(
        Effect.PASS,
        provider_down=bool(evaluation.with_verdict(Verdict.PROVIDER_DOWN)),
        warned=tuple(r.name for r in breaches if not holds(guards[r.name])),
        moved=moved,
        own=tuple(r.name for r in breaches if r.name not in moved),
    )
    own = [r for r in breaches if guards[r.name].on_breach is OnBreach.ROLLBACK and r.name in found.own]
    if own:
        return replace(found, effect=Effect.ROLLBACK, message=_in_breach(own), evidence=evidence_of_all(own))
    paused = [r for r in breaches if guards[r.name].on_breach is OnBreach.PAUSE]
    if paused:
        return replace(found, effect=Effect.PAUSE, message=_in_breach(paused), evidence=evidence_of_all(paused))
    held = [r for r in breaches if r.name in found.moved and r.name not in found.warned]
    if held:
        message = f"both arms break {', '.join(r.name for r in held)}: the world moved"
        worlds = AttemptReason.WORLD_MOVED
        return replace(found, effect=Effect.HOLD, message=message, evidence=evidence_of_all(held), reason=worlds)
    if _is_misled(situation, evaluation):
        message = f"{evaluation.revision} does not get the share of the requests that the routes ask for"
        return replace(found, effect=Effect.HOLD, message=message, reason=AttemptReason.WEIGHT_NOT_EFFECTIVE)
    hold, until = _reason_to_hold(situation, evaluation, guards)
    return replace(found, effect=Effect.HOLD, message=hold, waits_until=until) if hold else found


def answered_by(situation: Situation, moment: datetime) -> datetime:
    """When an evaluation that was asked at ``moment`` or later is there: the one under way asks about the time before.

    Two intervals: the wait for the next, and as long as its answers may take.
    """
    return moment + 2 * situation.spec.evaluation_interval


def gravity(message: str) -> int:
    """How much the reason of a hold says: 0 for no evaluation, 1 for guards without data, 2 for what was measured."""
    if message in (NONE_YET, NOT_FRESH, NOT_ALL):
        return 0
    return 1 if message.startswith(NO_DATA_FOR) else 2


def _is_misled(situation: Situation, evaluation: Evaluation) -> bool:
    """Whether the arms do not get their shares; where an evaluation cannot say, what was told before still holds."""
    if evaluation.allocation is not None:
        return not evaluation.allocation.effective
    told = (each for each in situation.status.conditions if each.type == ConditionType.WEIGHT_EFFECTIVE)
    return situation.stage is not None and any(each.status is ConditionStatus.FALSE for each in told)


def _is_worlds(guard: Guard | None, result: GuardResult) -> bool:
    return guard is not None and result.both and guard.when_both_breach is WhenBothBreach.HOLD


def in_breach(names: Sequence[str]) -> str:
    """The clause that names guards in breach."""
    return f"guard{'s' if len(names) > 1 else ''} {', '.join(names)} {'are' if len(names) > 1 else 'is'} in breach"


def _in_breach(results: list[GuardResult]) -> str:
    both = " under both arms" if all(result.both for result in results) else ""
    return f"{in_breach([result.name for result in results])}{both}"


def evidence_of_all(results: list[GuardResult]) -> str:
    """What each of them measured."""
    if len(results) == 1:
        return evidence_of(results[0])
    return "; ".join(f"{result.name}: {evidence_of(result)}" for result in results)


def _reason_to_hold(
    situation: Situation, evaluation: Evaluation, guards: Mapping[str, Guard]
) -> tuple[str, datetime | None]:
    """Why the step is held, empty for nothing; and until when it is held as expected.

    A guard that only warns holds nothing by its silence, as it would not by a breach.
    """
    down = [r.name for r in evaluation.with_verdict(Verdict.PROVIDER_DOWN) if r.name in guards]
    if down:
        return "Prometheus does not answer", None
    holding = {name for name, guard in guards.items() if holds(guard)}
    silent = [r for r in evaluation.with_verdict(Verdict.NO_DATA) if r.name in holding]
    early = [r for r in silent if r.waits_until is not None and situation.now < answered_by(situation, r.waits_until)]
    silent = [r for r in silent if r not in early]
    if silent:
        invalid = [r for r in silent if r.invalid]
        why = f": {invalid[0].invalid}" if invalid else ""
        return f"{NO_DATA_FOR}{', '.join(r.name for r in invalid or silent)}{why}", None
    if guards.keys() - {result.name for result in evaluation.results}:
        return NOT_ALL, None
    step_started = situation.attempt.step_started_at
    too_old = situation.since(evaluation.at) > 3 * situation.spec.evaluation_interval + GRACE
    if too_old or (step_started is not None and evaluation.at < step_started):
        return NOT_FRESH, None
    until = max((r.waits_until for r in early if r.waits_until is not None), default=None)
    if until is not None:
        when = until.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
        return f"guards {', '.join(r.name for r in early)} can say nothing before {when} UTC", until
    return "", None
