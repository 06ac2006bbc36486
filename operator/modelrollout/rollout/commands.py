"""Commands that people give by annotation: each acts once, and one that makes no sense now is refused with a reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from modelrollout.api.reasons import AttemptReason, EventReason
from modelrollout.api.status import CommandRecord, Outcome, Phase
from modelrollout.rollout.attempts import start
from modelrollout.rollout.draft import Draft, event
from modelrollout.rollout.drift import retraining, subjects
from modelrollout.rollout.holding import APPROVAL_STEP
from modelrollout.rollout.plan import EventPlan, Notification
from modelrollout.rollout.rollback import ABORT_COMMANDED, OUTCOMES, ROLLBACK_COMMANDED, end, roll_back
from modelrollout.rollout.situation import ACTIVE, Situation
from modelrollout.rollout.verifying import QUERY_INVALID


@dataclass(frozen=True)
class Command:
    """``<verb>[:<argument>]/<nonce>[@<who>]``."""

    verb: str
    argument: str
    nonce: str
    by: str

    @classmethod
    def parse(cls, text: str) -> Command:
        """Read the annotation; parts that are not there are empty."""
        wish, _, rest = text.partition("/")
        verb, _, argument = wish.partition(":")
        nonce, _, by = rest.partition("@")
        return cls(verb, argument, nonce, by)

    @property
    def wish(self) -> str:
        """What is to be done: the verb with its argument."""
        return f"{self.verb}:{self.argument}" if self.argument else self.verb


@dataclass(frozen=True)
class Obeyed:
    """The situation after the command, the state where the command itself decided it, and what to tell people."""

    situation: Situation
    state: Draft | None = None
    events: tuple[EventPlan, ...] = ()
    record: CommandRecord | None = None
    notify: Notification | None = None


def obey(situation: Situation) -> Obeyed:
    """Carry out the command of the annotation, if there is a new one."""
    if situation.command is None:
        return Obeyed(situation)
    command = Command.parse(situation.command)
    done = _carry_out(situation, command)
    by = command.by or situation.deployment.metadata.commanded_by
    whom = f" (by {by})" if by else ""
    kind = EventReason.COMMAND_ACCEPTED if done.accepted else EventReason.COMMAND_REFUSED
    record = CommandRecord(command=command.wish, by=by, at=situation.now, accepted=done.accepted, message=done.message)
    told = event(kind, f"{command.wish}: {done.message}{whom}", warning=not done.accepted)
    status = done.situation.status
    kept = status.model_copy(update={"commands": (record, *status.commands)})
    notify = done.notify if done.notify is None else replace(done.notify, by=by or "somebody")
    return Obeyed(replace(done.situation, status=kept), _remembering(done.state, record), (told,), record, notify)


def _remembering(state: Draft | None, record: CommandRecord) -> Draft | None:
    """An attempt that the command ended at once has it in its record too."""
    if state is None:
        return None
    records = {
        name: status.model_copy(
            update={
                "attempts": tuple(
                    each.model_copy(update={"commands": (record, *each.commands)}) for each in status.attempts
                )
            }
        )
        for name, status in state.revision_status.items()
    }
    return replace(state, revision_status=records)


@dataclass(frozen=True)
class _Done:
    accepted: bool
    message: str
    situation: Situation
    state: Draft | None = None
    notify: Notification | None = None


def _carry_out(situation: Situation, command: Command) -> _Done:
    verb = _VERBS.get(command.verb)
    if verb is None:
        return _refused(situation, f"unknown command, one of {', '.join(_VERBS)} is needed, like promote/1")
    if not command.nonce:
        return _refused(situation, f"a word of its own must follow, like {command.wish}/1, so that it acts once")
    if command.argument and command.verb != "rollback" and command.wish != "promote:full":
        return _refused(situation, f"{command.verb} takes no argument {command.argument!r}")
    return verb(situation, command.argument)


def _accepted(situation: Situation, message: str, state: Draft | None = None) -> _Done:
    return _Done(True, message, situation, state)


def _refused(situation: Situation, message: str) -> _Done:
    return _Done(False, message, situation)


def _changed(situation: Situation, **attempt: object) -> Situation:
    """The situation with fields of its attempt changed, and at work again if a person was waited for."""
    phase = situation.status.phase
    if phase is Phase.AWAITING_APPROVAL:
        phase = Phase.BAKING if situation.baking else Phase.PROGRESSING
    rollout = situation.attempt.model_copy(update=attempt)
    return replace(situation, status=situation.status.model_copy(update={"rollout": rollout, "phase": phase}))


def _frozen(situation: Situation) -> str:
    """When what was accepted comes, in a clause; empty for now."""
    return f", but not while it is paused ({situation.paused})" if situation.paused else ""


def _promote(situation: Situation, argument: str) -> _Done:
    revision = situation.attempt.revision
    if argument:
        if situation.status.phase not in ACTIVE or situation.baking:
            return _refused(situation, "no attempt is on its way to all traffic")
        waived = _changed(situation, full=True, waiting_since=None, reason=AttemptReason.APPROVED)
        return _accepted(waived, f"{revision} goes to all traffic without its remaining steps{_frozen(situation)}")
    if situation.status.phase is not Phase.AWAITING_APPROVAL:
        hint = "; skip-step ends a hold, promote:full all of them" if situation.status.phase in ACTIVE else ""
        return _refused(situation, f"nothing waits for approval{hint}")
    given = "skip" if situation.attempt.reason == APPROVAL_STEP else "approved"
    approved = _changed(situation, **{given: True}, waiting_since=None, reason=AttemptReason.APPROVED)
    return _accepted(approved, f"{revision} goes on by approval{_frozen(situation)}")


def _skip_step(situation: Situation, _: str) -> _Done:
    under_way = situation.baking or situation.position > 0
    if situation.status.phase not in (Phase.PROGRESSING, Phase.AWAITING_APPROVAL, Phase.BAKING) or not under_way:
        return _refused(situation, "no step is under way")
    what = "the bake" if situation.baking else f"step {situation.position}"
    return _accepted(
        _changed(situation, skip=True, waiting_since=None), f"{what} ends once every guard passes{_frozen(situation)}"
    )


def _abort(situation: Situation, _: str) -> _Done:
    return _take_back(situation, ABORT_COMMANDED, f"{situation.attempt.revision} was aborted by command")


def _take_back(situation: Situation, reason: str, message: str) -> _Done:
    if situation.status.phase is Phase.ROLLING_BACK:
        return _refused(situation, "a rollback is under way already")
    if situation.status.phase not in ACTIVE:
        return _refused(situation, "no attempt is under way")
    if situation.home is None:
        return _refused(situation, "there is no other revision to go back to; delete it or apply another spec")
    route = situation.observed.route
    met = route.weight_of(situation.attempt.revision) or route.mirror or route.split
    if not situation.baking and not met:
        return _accepted(situation, message, end(situation, OUTCOMES[reason], reason, message))
    kind = EventReason.ROLLED_BACK if reason == ROLLBACK_COMMANDED else EventReason.ROLLOUT_ABORTED
    return _accepted(situation, message, roll_back(situation, reason, message, kind=kind))


def _pause(situation: Situation, _: str) -> _Done:
    if situation.status.paused:
        return _refused(situation, "it is paused already; resume goes on")
    status = situation.status.model_copy(update={"paused": True})
    return _accepted(replace(situation, status=status), "steps are frozen until resume; guards stay on")


def _resume(situation: Situation, _: str) -> _Done:
    if not situation.status.paused:
        hint = ": the spec is, set rollout.paused to false" if situation.spec.paused else ""
        return _refused(situation, f"it is not paused by command{hint}")
    status = situation.status.model_copy(update={"paused": False})
    return _accepted(replace(situation, status=status), "steps go on")


def _retry(situation: Situation, _: str) -> _Done:
    desired, last = situation.desired, situation.status.rollout
    over = last is not None and last.revision == desired
    over = over and last is not None and (last.outcome is Outcome.CONCLUDED or last.reason == QUERY_INVALID)
    quarantined = desired in situation.status.quarantined
    if not quarantined and not over:
        return _refused(situation, f"{desired} is not quarantined")
    if situation.status.phase is Phase.ROLLING_BACK or situation.status.phase in ACTIVE:
        return _refused(situation, "the attempt under way is not over yet")
    obstacle = situation.problem or ("" if situation.replicas else "replicas is 0: scale up first")
    if obstacle and not quarantined:
        return _refused(situation, obstacle)
    left = tuple(name for name in situation.status.quarantined if name != desired)
    status = situation.status.model_copy(update={"quarantined": left})
    free = replace(situation, status=status)
    message = f"{desired} gets another attempt"
    if obstacle or desired == situation.stable:
        return _accepted(free, message)
    # Somebody took it back for a reason: what was once known good goes every step this time.
    return _accepted(free, message, start(free, fast_track=False))


def _rollback(situation: Situation, target: str) -> _Done:
    attempt = situation.attempt
    if situation.status.phase is Phase.ROLLING_BACK:
        return _refused(situation, "a rollback is under way already")
    if situation.status.phase in ACTIVE:
        if target and target != situation.home:
            return _refused(situation, f"an attempt of {attempt.revision} is under way: abort it first")
        message = f"{attempt.revision} was taken back by command"
        return _take_back(situation, ROLLBACK_COMMANDED, message)
    return _return_to(situation, target or _before(situation))


def _before(situation: Situation) -> str:
    """The newest revision that was promoted before the one that serves."""
    last = situation.last_good
    if last in situation.observed.known_good and last != situation.stable and last is not None:
        return last
    promoted = (entry.revision for entry in situation.status.history if entry.outcome is Outcome.PROMOTED)
    return next((name for name in promoted if name != situation.stable and name in situation.observed.known_good), "")


def _return_to(situation: Situation, target: str) -> _Done:
    stable = situation.stable
    known = sorted(name for name in situation.observed.known_good if name != stable)
    if stable is None:
        return _refused(situation, "nothing serves yet")
    if target == stable:
        return _refused(situation, f"{target} serves already")
    if target not in known:
        choice = f"one of {', '.join(known)}" if known else "there is none within the history"
        return _refused(situation, f"{target or 'no revision'} is not known good: {choice}")
    obstacle = situation.problem
    if obstacle or situation.replicas == 0:
        return _refused(situation, obstacle or "replicas is 0: scale up first")
    left = tuple(name for name in situation.status.quarantined if name != target)
    status = situation.status.model_copy(update={"quarantined": left})
    free = replace(situation, status=status)
    instead = situation.desired if situation.desired != target else ""
    state = start(free, target, fast_track=True, instead_of=instead, reason=ROLLBACK_COMMANDED)
    return _accepted(free, f"going back from {stable} to {target}{_frozen(situation)}", state)


def _retrain(situation: Situation, _: str) -> _Done:
    found = retraining(situation, "", situation.status.drift)
    if situation.stable is None:
        return _refused(situation, "nothing serves yet")
    if situation.problem:
        return _refused(situation, situation.problem)
    if found is None:
        return _refused(situation, "spec.observation.drift.retraining names no webhook")
    drift = f"drift of {subjects(found.drift)}" if found.drift else "nothing is known to drift"
    message = f"the webhook {found.webhook} is called for {found.revision} ({drift})"
    return _Done(True, message, situation, notify=found)


_VERBS: dict[str, Callable[[Situation, str], _Done]] = {
    "promote": _promote,
    "abort": _abort,
    "pause": _pause,
    "resume": _resume,
    "retry": _retry,
    "skip-step": _skip_step,
    "rollback": _rollback,
    "retrain": _retrain,
}
