"""From an evaluation of all guards to its one effect: pass, hold, pause or roll back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from modelrollout.api.modeldeployment import OnBreach
from modelrollout.api.status import Verdict
from modelrollout.rollout.observed import Evaluation, GuardResult
from modelrollout.rollout.situation import Situation

GRACE = timedelta(seconds=15)
"""How much older than three intervals an evaluation may be before it is evidence of nothing."""


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
    asked yet. ``warned`` names Warn guards in breach.
    """

    effect: Effect
    message: str = ""
    evidence: str = ""
    provider_down: bool | None = None
    warned: tuple[str, ...] = ()


def evidence_of(result: GuardResult) -> str:
    """Value, threshold, samples of one result, as a clause."""
    value = "no value" if result.value is None else f"{result.value:.4g}"
    samples = "" if result.samples is None else f" from {result.samples:.0f} samples"
    return f"{result.name} is {value}{samples}, must be {result.threshold}"


def of_attempt(situation: Situation) -> Evaluation | None:
    """The newest evaluation, if it was asked for this attempt; a trial before its traffic counts too."""
    evaluation, attempt = situation.observed.evaluation, situation.attempt
    if evaluation is None or (evaluation.attempt, evaluation.revision) != (attempt.attempt, attempt.revision):
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

    A breach counts from any evaluation of this attempt. A pass must be fresh: asked since the step began, no older
    than three intervals and a grace, and complete. Silence holds.
    """
    guards = situation.guards
    evaluation = current(situation)
    if not guards:
        return Judgement(Effect.PASS)
    if evaluation is None:
        return Judgement(Effect.HOLD, "no evaluation of the guards yet")
    on_breach = {guard.name: guard.on_breach for guard in guards}
    breaches = [r for r in evaluation.with_verdict(Verdict.BREACH) if r.name in on_breach]
    provider_down = bool(evaluation.with_verdict(Verdict.PROVIDER_DOWN))
    warned = tuple(r.name for r in breaches if on_breach[r.name] is OnBreach.WARN)
    for action, effect in ((OnBreach.ROLLBACK, Effect.ROLLBACK), (OnBreach.PAUSE, Effect.PAUSE)):
        hit = [r for r in breaches if on_breach[r.name] is action]
        if hit:
            names = ", ".join(r.name for r in hit)
            evidence = "; ".join(evidence_of(r) for r in hit)
            return Judgement(effect, f"guard {names} is in breach", evidence, provider_down, warned)
    hold = _reason_to_hold(situation, evaluation, set(on_breach))
    if hold:
        return Judgement(Effect.HOLD, hold, provider_down=provider_down, warned=warned)
    return Judgement(Effect.PASS, provider_down=provider_down, warned=warned)


def _reason_to_hold(situation: Situation, evaluation: Evaluation, names: set[str]) -> str:
    down = [r.name for r in evaluation.with_verdict(Verdict.PROVIDER_DOWN) if r.name in names]
    if down:
        return f"Prometheus does not answer (guards {', '.join(down)})"
    silent = [r for r in evaluation.with_verdict(Verdict.NO_DATA) if r.name in names]
    if silent:
        invalid = next((f": {r.invalid}" for r in silent if r.invalid), "")
        return f"no data for guards {', '.join(r.name for r in silent)}{invalid}"
    missing = names - {result.name for result in evaluation.results}
    if missing:
        return f"guards {', '.join(sorted(missing))} were not evaluated yet"
    step_started = situation.attempt.step_started_at
    too_old = situation.since(evaluation.at) > 3 * situation.spec.evaluation_interval + GRACE
    if too_old or (step_started is not None and evaluation.at < step_started):
        return "no fresh evaluation of the guards yet"
    return ""
