"""``status --wait``: whether a pipeline may go on, and with which exit code."""

from __future__ import annotations

from dataclasses import dataclass

from modelrollout.api.reasons import ConditionType
from modelrollout.api.status import ConditionStatus, Outcome, Phase
from modelrollout.cli.exits import Exit
from modelrollout.cli.view.snapshot import Snapshot


@dataclass(frozen=True)
class End:
    """Why there is nothing more to wait for, as an exit code and a sentence."""

    code: Exit
    sentence: str


def ended(snapshot: Snapshot) -> End | None:
    """The end of what the spec (and the last command) asked for; None while it is under way."""
    status = snapshot.status
    if not snapshot.seen or snapshot.pending_command or snapshot.deleting:
        return None
    desired, stable = status.revisions.desired, status.revisions.stable
    if status.phase is Phase.INVALID or _is_false(snapshot, ConditionType.SPEC_VALID):
        return End(Exit.INVALID, f"the spec cannot be carried out: {status.message}")
    if status.phase is Phase.ROLLED_BACK:
        return End(Exit.TAKEN_BACK, status.message)
    if status.phase is Phase.AWAITING_APPROVAL:
        return End(Exit.WAITS, status.message)
    if snapshot.paused and snapshot.under_way is not None and status.phase is not Phase.ROLLING_BACK:
        return End(Exit.WAITS, f"the rollout is paused: {status.message}")
    if status.phase is not Phase.IDLE or stable is None:
        return None
    if desired == stable:
        if _is_false(snapshot, ConditionType.READY):
            return None
        return End(Exit.DONE, f"{stable} serves, as the spec asks")
    return _other_serves(snapshot, str(desired), stable)


def _other_serves(snapshot: Snapshot, desired: str, stable: str) -> End | None:
    """At rest, and another revision serves than the spec asks for."""
    attempt = snapshot.attempt
    if snapshot.spec is not None and snapshot.spec.replicas == 0:
        return End(Exit.WAITS, snapshot.status.message)
    if attempt is not None and attempt.instead_of == desired:
        return End(Exit.TAKEN_BACK, f"{stable} serves instead of {desired}, by the command rollback")
    if desired in snapshot.status.quarantined:
        return End(Exit.TAKEN_BACK, f"{desired} is quarantined; {stable} serves")
    if attempt is None or attempt.revision != desired:
        return None
    if attempt.outcome is Outcome.CONCLUDED:
        return End(Exit.DONE, f"the attempt with {desired} is over as the spec asks; {stable} serves")
    if attempt.outcome in (Outcome.ABORTED, Outcome.ROLLED_BACK):
        return End(Exit.TAKEN_BACK, f"{desired} was taken back: {attempt.message}; {stable} serves")
    return None


def _is_false(snapshot: Snapshot, kind: ConditionType) -> bool:
    return any(
        condition.type == kind and condition.status is ConditionStatus.FALSE for condition in snapshot.status.conditions
    )
