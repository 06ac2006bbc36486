"""Drift: what is asked of the stable revision between rollouts, what is known to drift now, and who is told."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

from modelrollout.api.guard import Guard
from modelrollout.api.observation import Approval, Drift, Observation
from modelrollout.api.reasons import ConditionType
from modelrollout.api.status import DRIFT_LIMIT, ConditionStatus, DriftStatus, Verdict
from modelrollout.rollout.judgement import current
from modelrollout.rollout.observed import Evaluation, GuardResult
from modelrollout.rollout.plan import EvaluationRequest, Notification
from modelrollout.rollout.situation import Situation

INPUT_PSI, OUTPUT_PSI = "input-psi", "output-psi"
DRIFT_SLIS = (INPUT_PSI, OUTPUT_PSI, "input-ks", "output-ks")
CLEAR = 0.8
"""Drift ends below this share of its bound: a value around the bound would else begin and end it all the time."""

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


def watch_guards(observation: Observation | None) -> tuple[Guard, ...]:
    """What is watched on the stable revision between rollouts; none without a profile or with drift disabled."""
    if observation is None or observation.profile is None or not observation.drift.enabled:
        return ()
    return _made(observation.drift, observation.comparison is not None)


@lru_cache(maxsize=256)
def _made(drift: Drift, outputs: bool) -> tuple[Guard, ...]:
    names = {"input-drift": INPUT_PSI, **({"output-drift": OUTPUT_PSI} if outputs else {})}
    return tuple(
        Guard(name=name, sli=sli, max=drift.max_psi, window=drift.window, min_samples=drift.min_samples)
        for name, sli in names.items()
    )


def watch_request(situation: Situation) -> EvaluationRequest | None:
    """What to ask while no attempt is under way; None where nothing is to be watched or nobody could know it."""
    stable, observation = situation.stable, situation.deployment.spec.observation
    guards = watch_guards(observation)
    nothing = situation.problem or not situation.observed.observer or situation.replicas == 0
    if stable is None or observation is None or not guards or nothing:
        return None
    return EvaluationRequest(
        attempt=situation.attempt.attempt,
        revision=stable,
        stable=stable,
        slot=situation.slot_of(stable),
        since=_ended_at(situation),
        interval=observation.drift.interval,
        guards=tuple(guard.name for guard in guards),
        watch=True,
    )


def _ended_at(situation: Situation) -> datetime:
    """What was told to drift and to do so no more is not told again: a window may be longer than a guard's."""
    for condition in situation.status.conditions:
        if condition.type == ConditionType.DRIFT_DETECTED and condition.status is ConditionStatus.FALSE:
            return condition.last_transition_time or _LONG_AGO
    return _LONG_AGO


def is_used(situation: Situation) -> bool:
    """Whether anything in the spec looks for drift."""
    watched = bool(watch_guards(situation.deployment.spec.observation))
    return watched or any(guard.sli in DRIFT_SLIS for guard in situation.spec.guards)


def drifting(situation: Situation, *, at_rest: bool) -> tuple[DriftStatus, ...]:
    """What drifts now, worst first: as told before, with what the newest evaluation adds or ends.

    In an attempt what both arms show; at rest what the stable revision shows. A candidate whose outputs alone move is
    bad, and no drift. What no guard asks about any more is no longer told: nobody could ever end it.
    """
    watched = watch_guards(situation.deployment.spec.observation)
    if not is_used(situation) or (at_rest and not watched):
        return ()
    asked = {guard.sli for guard in (*watched, *(() if at_rest else situation.spec.guards))}
    found = {(entry.sli, entry.subject): entry for entry in situation.status.drift if entry.sli in asked}
    blind = bool(uncounted(situation))
    for sli, results in _judged(situation).items():
        # By a profile that is gone nobody could ever end it.
        if _are_clear(results) or (blind and all(result.value is None for _, result in results)):
            found = {key: entry for key, entry in found.items() if key[0] != sli}
        for _, result in results:
            told = result.verdict is Verdict.BREACH and result.drift and (_of_watch(situation) or result.both)
            if told and sli in asked:
                found.setdefault((sli, result.drift), _entry(situation, sli, result))
    if tuple(found.values()) == situation.status.drift:
        return situation.status.drift
    worst_first = sorted(found.values(), key=lambda entry: -(entry.value or 0.0))
    return tuple(worst_first[:DRIFT_LIMIT])


def uncounted(situation: Situation) -> str | None:
    """What keeps the observer from counting at all, as the watch of the stable revision found; empty: nothing.

    None where nobody knows: there is no watch now, or it got no answer.
    """
    watch = _of_watch(situation)
    return None if watch is None or watch.missing is None else "; ".join(watch.missing)


def ended(situation: Situation) -> tuple[DriftStatus, ...]:
    """Of what is told to drift that which the newest evaluation found to do so no more."""
    judged = _judged(situation) if situation.status.drift else {}
    return tuple(entry for entry in situation.status.drift if entry.sli in judged and _are_clear(judged[entry.sli]))


_Judged = list[tuple[Guard, GuardResult]]


def _judged(situation: Situation) -> dict[str, _Judged]:
    """What the newest evaluation says about drift, by SLI."""
    watch = _of_watch(situation)
    evaluation = watch or current(situation)
    if evaluation is None:
        return {}
    asked = watch_guards(situation.deployment.spec.observation) if watch else situation.spec.guards
    guards = {guard.name: guard for guard in asked}
    judged: dict[str, _Judged] = {}
    for result in evaluation.results:
        guard = guards.get(result.name)
        if guard is not None and guard.sli is not None and (guard.sli in DRIFT_SLIS or result.drift):
            judged.setdefault(guard.sli, []).append((guard, result))
    return judged


def _are_clear(results: _Judged) -> bool:
    return all(_is_clear(guard, result) for guard, result in results)


def _of_watch(situation: Situation) -> Evaluation | None:
    evaluation = situation.observed.evaluation
    if evaluation is None or not evaluation.watch or evaluation.revision != situation.stable:
        return None
    return evaluation


def _is_clear(guard: Guard, result: GuardResult) -> bool:
    if result.verdict is not Verdict.PASS:
        return False
    return guard.max is None or result.value is None or result.value < CLEAR * guard.max


def _entry(situation: Situation, sli: str, result: GuardResult) -> DriftStatus:
    return DriftStatus(
        subject=result.drift, sli=sli, value=result.value, threshold=result.threshold, since=situation.now
    )


def subjects(drift: tuple[DriftStatus, ...]) -> str:
    """What drifts, by name."""
    return ", ".join(dict.fromkeys(entry.subject for entry in drift))


def drift_message(drift: tuple[DriftStatus, ...], observation: Observation | None) -> str:
    """One sentence with names and values, and what it asks of a person."""
    values = ", ".join(
        f"{entry.subject} ({entry.sli} {'no value' if entry.value is None else f'{entry.value:.3g}'}, "
        f"must be {entry.threshold})"
        for entry in drift
    )
    asked = observation.drift.retraining if observation is not None else None
    if asked is not None and asked.approval is Approval.AUTOMATIC:
        return (
            f"webhook {asked.webhook} is asked for retraining when drift begins: no longer as in the profile: {values}"
        )
    return f"retraining needs a person: no longer as in the profile: {values}"


def automatic(situation: Situation, drift: tuple[DriftStatus, ...]) -> Notification | None:
    """The call of the webhook that drift asks for by itself, when it begins."""
    begins = bool(drift) and not situation.status.drift
    found = retraining(situation, "modelrollout", drift)
    observation = situation.deployment.spec.observation
    asked = observation is not None and observation.drift.retraining
    return found if begins and asked and asked.approval is Approval.AUTOMATIC else None


def retraining(situation: Situation, by: str, drift: tuple[DriftStatus, ...]) -> Notification | None:
    """The call of the webhook of the spec; None where it names none, or nothing serves."""
    observation, stable = situation.deployment.spec.observation, situation.stable
    if observation is None or observation.drift.retraining is None or stable is None:
        return None
    return Notification(observation.drift.retraining.webhook, stable, drift, by)
