"""What both views tell of evidence: gates, compared answers, drift, decisions; and which conditions are bad."""

from __future__ import annotations

from datetime import datetime
from typing import TypeGuard

from modelrollout.api.observation import Approval, Retraining
from modelrollout.api.reasons import ConditionType
from modelrollout.api.status import (
    ComparisonStatus,
    Condition,
    ConditionStatus,
    Decision,
    DriftStatus,
    GateStatus,
    GuardRecord,
    GuardStatus,
    Verdict,
)
from modelrollout.cli.view.text import Row, Span, Tone, ago, amount, clock, percent

DONE = {"Step": "went on", "Promote": "was promoted", "Complete": "was completed", "RollBack": "was taken back"}
DONE |= {"AwaitApproval": "waited for a person", "Hold": "was held", "Abort": "was given up"}
DONE |= {"Ramp": "got the first traffic of its next step", "Restart": "began its steps anew"}
"""What a decision did, as people say it."""

_GATE_TONES = {"Passed": Tone.GOOD, "Failed": Tone.BAD, "Warned": Tone.WARNING, "Retrying": Tone.WARNING}
_GATE_MARKS = {"Passed": "✔", "Failed": "✖", "Warned": "✖", "Retrying": "✖", "Skipped": "○", "Running": "▶"}


def is_bad(condition: Condition) -> bool:
    """Whether the condition is in its bad state: False, or True for DriftDetected."""
    bad = ConditionStatus.TRUE if condition.type == ConditionType.DRIFT_DETECTED else ConditionStatus.FALSE
    return condition.status is bad


def is_good(condition: Condition) -> bool:
    """Whether the condition is in its good state."""
    good = ConditionStatus.FALSE if condition.type == ConditionType.DRIFT_DETECTED else ConditionStatus.TRUE
    return condition.status is good


def share(value: float | None) -> str:
    """A share of 0 to 1 as percent; a dash where it is not known."""
    return "-" if value is None else percent(float(f"{value * 100:.3g}"))


def gate_rows(gates: tuple[GateStatus, ...]) -> list[Row]:
    """One row a gate."""
    return [
        Row(
            (Span(_GATE_MARKS.get(gate.state, "?"), _GATE_TONES.get(gate.state, Tone.FAINT)), f"gate {gate.name}"),
            f"{gate.state}: {gate.message}" if gate.message else gate.state,
        )
        for gate in gates
    ]


def gate_sentences(gates: tuple[GateStatus, ...]) -> list[str]:
    """The gates before the traffic, one sentence each."""
    told = {
        "Passed": "passed",
        "Failed": "failed",
        "Warned": "failed, and only warns",
        "Retrying": "is not passed yet and is tried again",
        "Skipped": "was left out",
        "Running": "has not finished",
    }
    return [
        f"Gate {gate.name} {told.get(gate.state, gate.state)}{f': {gate.message}' if gate.message else ''}".rstrip(".")
        + "."
        for gate in gates
    ]


def compared(found: ComparisonStatus) -> str:
    """How the answers of both arms differ, as a clause."""
    flips = f"{share(found.label_flips)} with another label, " if found.label_flips is not None else ""
    return f"{amount(found.compared, 9)} requests asked of both arms: {flips}{share(found.differing)} differ"


def comparison_cell(found: ComparisonStatus, now: datetime) -> Span:
    """The same for a row of facts."""
    return Span(f"{compared(found)}, {ago(found.at, now)}", Tone.WARNING if found.label_flips else Tone.PLAIN)


def drift_cell(drift: tuple[DriftStatus, ...], retraining: Retraining | None, now: datetime) -> Span:
    """What drifts, for a row of facts."""
    who = "needs a person" if not _automatic(retraining) else f"is asked of webhook {retraining.webhook}"
    return Span(
        "; ".join(f"{_drifts(entry)}, told {ago(entry.since, now)}" for entry in drift) + f": retraining {who}",
        Tone.WARNING,
    )


def drift_sentences(drift: tuple[DriftStatus, ...], retraining: Retraining | None, now: datetime) -> list[str]:
    """What drifts, one sentence each, and who decides about training anew."""
    if not drift:
        return []
    found = [f"Since {clock(entry.since, now)} UTC {_drifts(entry)}." for entry in drift]
    if retraining is None:
        return [*found, "Whether to train anew is for a person to decide; the spec names no webhook for it."]
    if _automatic(retraining):
        asked = f"Webhook {retraining.webhook} is asked for retraining once each time drift begins (approval Automatic)"
        return [*found, f"{asked}; the command retrain asks it again."]
    return [*found, f"Whether to train anew is for a person to decide; the command retrain asks {retraining.webhook}."]


def _automatic(retraining: Retraining | None) -> TypeGuard[Retraining]:
    return retraining is not None and retraining.approval is Approval.AUTOMATIC


def _drifts(entry: DriftStatus) -> str:
    bound = f", must be {entry.threshold}" if entry.threshold else ""
    return f"{entry.subject} is not as in the profile ({entry.sli} {amount(entry.value)}{bound})"


def weighed(told: GuardStatus) -> str:
    """How sure the verdict is and what stable has, as clauses after the value; empty where neither is known."""
    parts = []
    if told.baseline is not None:
        parts.append(f"stable has {amount(told.baseline)}")
    if told.confidence is not None:
        parts.append(f"a breach is {_sure(told.confidence)} sure")
    if told.both and told.verdict is Verdict.BREACH:
        parts.append("both arms break it, so the world moved")
    return f" ({'; '.join(parts)})" if parts else ""


def _sure(confidence: float) -> str:
    """How sure, in percent: 100 is what no evidence is."""
    return percent(min(float(f"{confidence * 100:.6g}"), 99.9999))


def decision_sentences(decisions: tuple[Decision, ...], now: datetime) -> list[str]:
    """The record, oldest first."""
    return [_decision(entry, now) for entry in reversed(decisions)]


def _decision(entry: Decision, now: datetime) -> str:
    with_weight = f" with {percent(entry.weight)}" if entry.weight else ""
    did = DONE.get(entry.decision, f"had the decision {entry.decision}")
    because = ", ".join(_record(record) for record in entry.guards)
    guards = f" Guards: {because}." if because else ""
    why = entry.message.rstrip(".")
    return f"{clock(entry.at, now)} UTC it {did}{with_weight}: {why}.{guards}"


def _record(record: GuardRecord) -> str:
    value = "" if record.value is None else f" {amount(record.value)}"
    samples = "" if record.samples is None else f" of {amount(record.samples, 9)}"
    sure = "" if record.confidence is None else f", {_sure(record.confidence)} sure of a breach"
    return f"{record.name}{value}{samples} {record.verdict}{sure}"
