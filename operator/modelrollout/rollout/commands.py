"""Commands that people give by annotation: each acts once, and one that makes no sense now is refused with a reason."""

from __future__ import annotations

from dataclasses import dataclass, replace

from modelrollout.api.reasons import EventReason
from modelrollout.api.status import Outcome, Phase
from modelrollout.rollout.draft import Draft, event
from modelrollout.rollout.plan import EventPlan
from modelrollout.rollout.rollback import ABORT_COMMANDED, end, roll_back
from modelrollout.rollout.situation import ACTIVE, Situation


@dataclass(frozen=True)
class Obeyed:
    """The situation after the command, the state where the command itself decided it, and what to tell people."""

    situation: Situation
    state: Draft | None = None
    events: tuple[EventPlan, ...] = ()
    done: bool = False


def obey(situation: Situation) -> Obeyed:
    """Carry out the command of the annotation, if there is a new one."""
    if situation.command is None:
        return Obeyed(situation)
    verb, _ = situation.command
    match verb:
        case "promote":
            return _promote(situation)
        case "abort":
            return _abort(situation)
        case "retry":
            return _retry(situation)
        case _:
            return _refused(situation, f"unknown command {verb!r}: promote, abort and retry are known")


def _accepted(situation: Situation, message: str, state: Draft | None = None) -> Obeyed:
    return Obeyed(situation, state, (event(EventReason.COMMAND_ACCEPTED, message),), done=True)


def _refused(situation: Situation, message: str) -> Obeyed:
    return Obeyed(situation, None, (event(EventReason.COMMAND_REFUSED, message, warning=True),), done=True)


def _promote(situation: Situation) -> Obeyed:
    if situation.status.phase is not Phase.AWAITING_APPROVAL:
        return _refused(situation, "promote: nothing waits for approval")
    attempt = situation.attempt.model_copy(update={"approved": True, "waiting_since": None, "reason": "Approved"})
    phase = Phase.BAKING if situation.baking else Phase.PROGRESSING
    status = situation.status.model_copy(update={"rollout": attempt, "phase": phase})
    return _accepted(replace(situation, status=status), f"promote: {attempt.revision} goes on by approval")


def _abort(situation: Situation) -> Obeyed:
    home = situation.last_good if situation.baking else situation.stable
    if situation.status.phase not in ACTIVE:
        return _refused(situation, "abort: no attempt is under way")
    if home is None:
        return _refused(situation, "abort: there is no other revision to go back to; delete it or apply another spec")
    message = f"{situation.attempt.revision} was aborted by command"
    if situation.observed.route.weight_of(situation.attempt.revision) == 0:
        return _accepted(situation, message, end(situation, Outcome.ABORTED, ABORT_COMMANDED, message))
    state = roll_back(situation, ABORT_COMMANDED, message, kind=EventReason.ROLLOUT_ABORTED)
    return _accepted(situation, message, state)


def _retry(situation: Situation) -> Obeyed:
    if situation.desired not in situation.status.quarantined:
        return _refused(situation, f"retry: {situation.desired} is not quarantined")
    if situation.status.phase is Phase.ROLLING_BACK:
        return _refused(situation, "retry: the rollback is not over yet")
    left = tuple(name for name in situation.status.quarantined if name != situation.desired)
    status = situation.status.model_copy(update={"quarantined": left})
    return _accepted(replace(situation, status=status), f"retry: {situation.desired} gets another attempt")
