"""What the gates said of a candidate, as status and conditions, and when a failure of one ends the attempt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from modelrollout.api.gates import ContractMode, Gates
from modelrollout.api.reasons import AttemptReason, ConditionType, EventReason
from modelrollout.api.status import GateStatus, ModelDeploymentStatus, Outcome, RolloutStatus
from modelrollout.api.strategies import Strategy
from modelrollout.rollout.observed import Check, Gate, GateName, GateState
from modelrollout.rollout.plan import EventPlan
from modelrollout.rollout.situation import Situation


class _Kind(NamedTuple):
    """What there is to know of one kind of gate: all that a new one adds here."""

    words: str
    condition: ConditionType
    reason: AttemptReason
    """Of an attempt that it ends for good."""
    asked: Callable[[Gates], bool]


_KINDS = {
    GateName.WARM: _Kind("warm gate", ConditionType.WARM, AttemptReason.GATES_FAILED, lambda _: True),
    GateName.CONTRACT: _Kind(
        "contract gate",
        ConditionType.CONTRACT_KEPT,
        AttemptReason.CONTRACT_BROKEN,
        lambda gates: gates.contract.mode is not ContractMode.DISABLED,
    ),
    GateName.GOLDEN_SET: _Kind(
        "golden set gate",
        ConditionType.GOLDEN_SET_PASSED,
        AttemptReason.GOLDEN_SET_FAILED,
        lambda gates: gates.golden_set is not None,
    ),
    GateName.LOAD: _Kind(
        "load gate",
        ConditionType.LOAD_TEST_PASSED,
        AttemptReason.LOAD_TEST_FAILED,
        lambda gates: gates.load is not None,
    ),
}
GATES = frozenset(kind.condition for kind in _KINDS.values())
"""The conditions of gates."""
_CONDITIONAL = (GateState.PASSED, GateState.RETRYING, GateState.FAILED, GateState.WARNED)
_ANNOUNCED = {
    GateState.RETRYING: EventReason.GATE_RETRYING,
    GateState.WARNED: EventReason.GATE_WARNED,
    GateState.SKIPPED: EventReason.GATE_SKIPPED,
}
_TEARING = (Strategy.CANARY, Strategy.AB_TEST, Strategy.SHADOW)
_TORN = (
    "it serves sequences, and strategy {} leads each request to one of two revisions, or copies some of a sequence: "
    "requests whose sequence began on the other are refused (400, no error for guards); use BlueGreen or Recreate, or "
    "let clients keep to a revision (cookie, x-model-revision)"
)
_DONE = (GateState.PASSED, GateState.WARNED, GateState.SKIPPED)


def of_candidate(situation: Situation) -> Gate | None:
    """What the gates say of the revision on trial."""
    return situation.observed.gates.get(situation.attempt.revision)


def with_gates(situation: Situation) -> Situation:
    """The attempt with what its gates said so far; where nothing was said now, what was told stays."""
    gate, attempt = of_candidate(situation), situation.attempt
    told = () if gate is None else _with_sequences(situation, gate, _statuses(gate.checks))
    if situation.status.rollout is None:
        return situation
    # A new operator passes them again one by one: what was told of the others stays meanwhile, if they are asked for.
    others = set(asked(situation.spec.gates)) - {each.name for each in told}
    told = (*told, *(each for each in attempt.gates if each.name in others))
    contract = attempt.contract if gate is None or gate.contract is None else gate.contract
    if (told, contract) == (attempt.gates, attempt.contract):
        return situation
    rollout = attempt.model_copy(update={"gates": told, "contract": contract})
    return replace(situation, status=situation.status.model_copy(update={"rollout": rollout}))


def asked(gates: Gates) -> tuple[GateName, ...]:
    """The gates that the spec asks for, in the order in which they are passed."""
    return tuple(name for name in GateName if _KINDS[name].asked(gates))


def _with_sequences(situation: Situation, gate: Gate, told: tuple[GateStatus, ...]) -> tuple[GateStatus, ...]:
    """Say of a contract that is kept what weights do to a model of sequences: no error that a guard sees."""
    attempt, strategy = situation.attempt, situation.spec.strategy
    torn = gate.contract is not None and gate.contract.sequences and strategy in _TEARING
    if not torn or situation.stable is None or attempt.fast_track:
        return told
    return tuple(
        each.model_copy(update={"state": GateState.WARNED, "message": f"{_TORN.format(strategy)}; {each.message}"})
        if each.name == GateName.CONTRACT and each.state == GateState.PASSED
        else each
        for each in told
    )


@lru_cache(maxsize=64)
def _statuses(checks: tuple[Check, ...]) -> tuple[GateStatus, ...]:
    return tuple(
        GateStatus(name=check.name, state=_told(check), message=check.message, at=check.at)
        for check in checks
        if check.state is not GateState.RUNNING
    )


def _told(check: Check) -> GateState:
    return GateState.RETRYING if check.state is GateState.FAILED and not check.final else check.state


def given_up(gates: tuple[GateStatus, ...], outcome: Outcome = Outcome.ROLLED_BACK) -> tuple[GateStatus, ...]:
    """The gates of an attempt that is over: what could not be passed is not tried any more.

    Who was promoted was past them: what a new operator could not try again before users came failed nobody.
    """
    if outcome in (Outcome.PROMOTED, Outcome.CONCLUDED):
        return tuple(each for each in gates if each.state != GateState.RETRYING)
    return tuple(
        each.model_copy(update={"state": GateState.FAILED}) if each.state == GateState.RETRYING else each
        for each in gates
    )


def gate_conditions(attempt: RolloutStatus | None) -> tuple[tuple[ConditionType, bool, str, str], ...]:
    """One condition (type, state, reason, message) for each gate that applied to the last attempt and was decided."""
    known = {str(name): kind.condition for name, kind in _KINDS.items()}
    return tuple(
        (known[gate.name], gate.state == GateState.PASSED, gate.state, gate.message)
        for gate in (attempt.gates if attempt is not None else ())
        if gate.name in known and gate.state in _CONDITIONAL
    )


def gate_events(old: ModelDeploymentStatus, new: ModelDeploymentStatus) -> tuple[EventPlan, ...]:
    """One event for each gate of which the new status is the first to tell a warning, or that it is not passed yet.

    Also for one that was left out, unless that is as it must be: of a first deployment, and of one that goes back.
    """
    if new is old or new.rollout is None:
        return ()
    attempt = new.rollout
    same = old.rollout is not None and old.rollout.attempt == attempt.attempt
    told = {(gate.name, gate.state) for gate in old.rollout.gates} if same and old.rollout else ()
    expected = old.revisions.stable is None or attempt.fast_track or attempt.instead_of
    return tuple(
        EventPlan(
            _ANNOUNCED[GateState(gate.state)],
            f"gate {gate.name}: {gate.message}",
            warning=gate.state != GateState.SKIPPED,
        )
        for gate in attempt.gates
        if gate.state in _ANNOUNCED
        and (gate.name, gate.state) not in told
        and not (gate.state == GateState.SKIPPED and expected)
    )


def refusal(gate: Gate | None) -> tuple[AttemptReason, str] | None:
    """Why the candidate gets no traffic whatever is tried: reason and sentence; None while it may pass yet."""
    for check in () if gate is None else gate.checks:
        if check.final and check.state is GateState.FAILED:
            return _KINDS[check.name].reason, check.message
    return None


def under_load(gate: Gate | None) -> bool:
    """Whether the burst is going on: pods that die of it are its result."""
    last = gate.checks[-1] if gate is not None and gate.checks else None
    return last is not None and last.name is GateName.LOAD and last.state is GateState.RUNNING


def why_pending(gate: Gate | None) -> tuple[str, bool]:
    """What the gates wait for, and whether one of them fails meanwhile."""
    last = gate.checks[-1] if gate is not None and gate.checks else None
    name = _KINDS[last.name if last is not None else GateName.WARM].words
    if gate is None or gate.state is GateState.RUNNING:
        return f"the {name} has not finished", False
    return f"the {name} fails: {gate.message}", True


def where_pending(gate: Gate | None) -> str:
    """In which gate the candidate is, as words behind what happened to it."""
    last = gate.checks[-1] if gate is not None and gate.checks and gate.state is not GateState.PASSED else None
    return " before it got traffic" if last is None else f" in the {_KINDS[last.name].words}"


def passed_at(gate: Gate | None) -> tuple[datetime, ...]:
    """When gates were passed: each is progress."""
    return tuple(check.at for check in (gate.checks if gate is not None else ()) if check.at and check.state in _DONE)
