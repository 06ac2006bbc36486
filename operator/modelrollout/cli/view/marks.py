"""The signs and colours of phases, verdicts, outcomes and conditions: the same in every command."""

from __future__ import annotations

from modelrollout.api.status import Outcome, Phase, Verdict
from modelrollout.cli.view.text import Span, Tone

PHASES = {
    Phase.PENDING: Tone.FAINT,
    Phase.IDLE: Tone.GOOD,
    Phase.PREPARING: Tone.BUSY,
    Phase.VERIFYING: Tone.BUSY,
    Phase.ARMING: Tone.BUSY,
    Phase.PROGRESSING: Tone.BUSY,
    Phase.AWAITING_APPROVAL: Tone.WARNING,
    Phase.PROMOTING: Tone.BUSY,
    Phase.BAKING: Tone.BUSY,
    Phase.ROLLING_BACK: Tone.BAD,
    Phase.ROLLED_BACK: Tone.BAD,
    Phase.INVALID: Tone.BAD,
}
_VERDICTS = {
    Verdict.PASS: ("✔", Tone.GOOD),
    Verdict.BREACH: ("✖", Tone.BAD),
    Verdict.NO_DATA: ("?", Tone.WARNING),
    Verdict.PROVIDER_DOWN: ("?", Tone.WARNING),
}
_OUTCOMES = {
    Outcome.PROMOTED: Tone.GOOD,
    Outcome.CONCLUDED: Tone.GOOD,
    Outcome.ROLLED_BACK: Tone.BAD,
    Outcome.ABORTED: Tone.WARNING,
    Outcome.SUPERSEDED: Tone.FAINT,
}


def phase(value: Phase) -> Span:
    """The phase in its colour."""
    return Span(str(value), PHASES[value])


def verdict_mark(value: Verdict) -> Span:
    """The sign of a verdict."""
    return Span(*_VERDICTS[value])


def verdict(value: Verdict) -> Span:
    """The verdict in its colour."""
    return Span(str(value), _VERDICTS[value][1])


def outcome(value: Outcome | None) -> Span:
    """The outcome of an attempt in its colour."""
    return Span("under way", Tone.BUSY) if value is None else Span(str(value), _OUTCOMES[value])
