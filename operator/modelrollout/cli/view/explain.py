"""``explain``: why a ModelDeployment is where it is, in sentences, with the evidence of the decision."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from modelrollout.api.durations import format_duration
from modelrollout.api.guard import Guard, OnBreach, WhenBothBreach
from modelrollout.api.reasons import ConditionType, EventReason
from modelrollout.api.status import Condition, ConditionStatus, GuardStatus, Outcome, Phase, RolloutStatus, Verdict
from modelrollout.api.strategies import Strategy
from modelrollout.cli.view import marks
from modelrollout.cli.view.evidence import (
    compared,
    decision_sentences,
    drift_sentences,
    gate_sentences,
    is_bad,
    weighed,
)
from modelrollout.cli.view.meanings import PHASES, REASONS
from modelrollout.cli.view.progress import course, hold_words, stops
from modelrollout.cli.view.snapshot import Revision, Snapshot
from modelrollout.cli.view.text import Line, Span, Tone, amount, clock, line, paragraph, percent, spoken
from modelrollout.evidence.bounds import is_sequential

UNITS = {
    "latency-p50": " s",
    "latency-p95": " s",
    "latency-p99": " s",
    "request-rate": " requests/s",
    "triton-queue-time": " s",
    "triton-compute-time": " s",
}
TELLING = (Verdict.BREACH, Verdict.NO_DATA, Verdict.PROVIDER_DOWN, Verdict.PASS)

Section = tuple[str, list[str]]


def explain(snapshot: Snapshot, width: int | None = None) -> list[Line]:
    """Title, then sections of sentences."""
    name = Span(f"{snapshot.namespace}/{snapshot.name}", Tone.STRONG)
    lines = [line("ModelDeployment ", name, "  ", marks.phase(snapshot.status.phase))]
    for title, sentences in sections(snapshot):
        lines += [line(""), line(Span(title, Tone.STRONG))]
        for sentence in sentences:
            lines += paragraph(sentence, width, "  ")
    return lines


def sections(snapshot: Snapshot) -> list[Section]:
    """What serves, why it is so, the evidence, what else is wrong, what comes next and what one can do."""
    found: list[Section] = [
        ("What serves", _serving(snapshot)),
        ("Why", _why(snapshot)),
        ("Evidence", _evidence(snapshot)),
        ("Drift", drift_sentences(snapshot.status.drift, snapshot.retraining, snapshot.now)),
        ("The record", _decisions(snapshot)),
        ("Not as it should be", _conditions(snapshot)),
        ("What comes next", _next(snapshot)),
        ("What you can do", _advice(snapshot)),
    ]
    return [(title, sentences) for title, sentences in found if sentences]


def _serving(snapshot: Snapshot) -> list[str]:
    parts = snapshot.status.revisions
    if not parts.stable:
        return ["No revision serves yet."]
    shares = [
        f"{_named(snapshot, entry.revision)} {percent(entry.weight)}"
        for entry in snapshot.status.traffic
        if entry.weight
    ]
    stable = snapshot.revision(parts.stable)
    pods = ""
    if stable is not None and stable.pods.known:
        trouble = f": {_sentence(stable.pods.trouble)}" if stable.pods.trouble else "."
        pods = f" {_pods(stable)}{trouble}"
    words = f"Users get {' and '.join(shares)}." if len(shares) > 1 else f"{_named(snapshot, parts.stable)} serves."
    same = "It is what the spec asks for." if parts.desired == parts.stable else ""
    other = f"The spec asks for {_named(snapshot, parts.desired)}." if parts.desired and not same else ""
    return [f"{words}{pods}", same or other]


def _pods(revision: Revision) -> str:
    return f"{revision.name} has {revision.pods.ready} of {revision.pods.desired} pods ready"


def _named(snapshot: Snapshot, name: str | None) -> str:
    version = snapshot.version_of(name)
    return f"{name} (version {version})" if version else str(name)


def _words(snapshot: Snapshot) -> dict[str, str]:
    parts, attempt = snapshot.status.revisions, snapshot.attempt
    rollout = snapshot.spec.rollout if snapshot.spec else None
    return {
        "revision": _named(snapshot, attempt.revision if attempt and attempt.revision else parts.desired),
        "desired": _named(snapshot, parts.desired),
        "stable": _named(snapshot, parts.stable),
        "last_good": _named(snapshot, parts.last_good) if parts.last_good else "the revision before",
        "progress_deadline": format_duration(rollout.progress_deadline) if rollout else "the time the spec gives",
        "no_data_deadline": format_duration(rollout.no_data_deadline) if rollout else "the time the spec gives",
    }


def _why(snapshot: Snapshot) -> list[str]:
    status, attempt = snapshot.status, snapshot.attempt
    words = _words(snapshot)
    if not status.observed_generation:
        return ["The operator has not looked at it yet."]
    sentences = [PHASES[status.phase][0].format(**words)]
    if status.message:
        sentences.append(f"The operator says: {_sentence(status.message)}")
    if attempt is not None and attempt.revision:
        sentences += _of_attempt(snapshot, attempt, words)
    if not snapshot.seen:
        sentences.append("The spec was changed since, and the operator has not seen that yet.")
    if snapshot.problem:
        sentences.append(f"The spec is not valid: {_sentence(snapshot.problem)}")
    return sentences


def _of_attempt(snapshot: Snapshot, attempt: RolloutStatus, words: Mapping[str, str]) -> list[str]:
    """How the attempt came to where it is (or was)."""
    quiet = attempt.outcome is not None and snapshot.status.phase not in (Phase.ROLLED_BACK, Phase.INVALID)
    named = _named(snapshot, attempt.revision)
    how = f" by {attempt.strategy}" if attempt.strategy else ""
    how = ", known good, on the fast track" if attempt.fast_track else how
    instead = (
        f" instead of {_named(snapshot, attempt.instead_of)}, by the command rollback" if attempt.instead_of else ""
    )
    began = f" at {clock(attempt.started_at, snapshot.now)} UTC" if attempt.started_at else ""
    sentences = [f"Attempt {attempt.attempt} began{began}: {named}{how}{instead}."]
    if attempt.outcome is not None:
        took = spoken(attempt.finished_at - attempt.started_at) if attempt.finished_at and attempt.started_at else ""
        after = f" after {took}" if took else ""
        ended = f", at {clock(attempt.finished_at, snapshot.now)} UTC" if attempt.finished_at else ""
        sentences.append(f"It ended {attempt.outcome}{after}{ended}.")
    if attempt.reason in REASONS:
        sentences.append(REASONS[attempt.reason].format(**words))
    elif attempt.reason:
        sentences.append(f"Its reason is {attempt.reason}.")
    if attempt.message and not quiet and attempt.message not in snapshot.status.message:
        sentences.append(_sentence(attempt.message))
    if attempt.setbacks and attempt.outcome is None:
        times = "once" if attempt.setbacks == 1 else f"{attempt.setbacks} times"
        sentences.append(f"It has lost its ready pods {times} and started anew.")
    return [*sentences, *_who(snapshot, attempt)]


def _who(snapshot: Snapshot, attempt: RolloutStatus) -> list[str]:
    """The commands that people gave during the attempt."""
    since = attempt.started_at
    return [
        f"{command.by or 'Somebody'} commanded {command.command} at {clock(command.at, snapshot.now)} UTC "
        f"({'accepted' if command.accepted else 'refused'}): {_sentence(command.message)}"
        for command in reversed(snapshot.status.commands)
        if command.at is not None and since is not None and command.at >= since
    ]


def _evidence(snapshot: Snapshot) -> list[str]:
    """Every guard of the decision, the telling ones first."""
    attempt = snapshot.attempt
    if attempt is None or (attempt.outcome is Outcome.PROMOTED and not attempt.guards):
        return []
    sentences = gate_sentences(attempt.gates)
    if attempt.comparison is not None:
        at = clock(attempt.comparison.at, snapshot.now)
        sentences.append(f"The observer compared the answers: {compared(attempt.comparison)} (at {at} UTC).")
    told = list(attempt.guards) or _recorded(snapshot, attempt)
    told.sort(key=lambda guard: TELLING.index(guard.verdict))
    wished = {guard.name: guard for guard in snapshot.spec.rollout.guards} if snapshot.spec else {}
    sentences += [_judged(snapshot, guard, wished.get(guard.name)) for guard in told]
    silent = [name for name in wished if name not in {guard.name for guard in told}]
    if silent and attempt.outcome is None:
        sentences.append(
            f"No value is recorded yet of: {', '.join(silent)} (values are recorded when something changes)."
        )
    if snapshot.spec is not None and snapshot.spec.rollout.unguarded:
        sentences.append("The rollout is unguarded: it moves by time alone.")
    for arm in attempt.arms:
        ratio = f"{percent(round(arm.error_ratio * 100, 3))} of them failed" if arm.error_ratio is not None else ""
        latency = f"p99 {amount(arm.latency_p99)} s" if arm.latency_p99 is not None else ""
        facts = ", ".join(part for part in (f"{amount(arm.requests, 9)} requests", ratio, latency) if part)
        sentences.append(f"Arm {_named(snapshot, arm.revision)}: {facts}.")
    return sentences


def _decisions(snapshot: Snapshot) -> list[str]:
    """Every decision about the attempt with what the guards said, as its ModelRevision has them once it is over."""
    attempt = snapshot.attempt
    if attempt is None:
        return []
    revision = snapshot.revision(attempt.revision)
    tries = revision.status.attempts if revision else ()
    kept = next((found.decisions for found in tries if found.attempt == attempt.attempt and found.decisions), ())
    return decision_sentences(kept if attempt.outcome is not None and kept else attempt.decisions, snapshot.now)


def _recorded(snapshot: Snapshot, attempt: RolloutStatus) -> list[GuardStatus]:
    """What the ModelRevision keeps of the attempt."""
    revision = snapshot.revision(attempt.revision)
    tries = revision.status.attempts if revision else ()
    return [guard for kept in tries if kept.attempt == attempt.attempt for guard in kept.guards]


def _judged(snapshot: Snapshot, told: GuardStatus, wished: Guard | None) -> str:
    subject, unit = f"Guard {told.name}", ""
    if wished is not None and wished.sli is not None:
        over = "since the first traffic" if is_sequential(wished) else f"over {format_duration(wished.window)}"
        subject += f" ({wished.sli} {over})"
        unit = UNITS.get(str(wished.sli), "")
    elif wished is not None:
        # What was asked, where it is known: the spec may have another query by now.
        subject += f" (query {told.query or wished.query})"
    when = f" at {clock(told.at, snapshot.now)} UTC" if told.at else ""
    made_of = f" from {amount(told.samples, 9)} requests" if told.samples is not None else ""
    must = f"; it must be {told.threshold}" if told.threshold else ""
    if told.value is None:
        why = f": {told.message}" if told.message else ""
        return f"{subject} had no value{when}{why}{must}. Verdict {told.verdict}."
    return (
        f"{subject} was {amount(told.value)}{unit}{made_of}{when}{must}{weighed(told)}. "
        f"Verdict {told.verdict}{_effect(told, wished)}."
    )


def _effect(told: GuardStatus, wished: Guard | None) -> str:
    if told.verdict is not Verdict.BREACH or wished is None:
        return ""
    if told.both and wished.when_both_breach is WhenBothBreach.HOLD:
        return ", which holds the step"
    often = f" in {wished.breaches} of the last {wished.of} evaluations" if wished.of > 1 else ""
    does = {OnBreach.ROLLBACK: "takes it back", OnBreach.PAUSE: "waits for a person", OnBreach.WARN: "only tells"}
    return f", which{often} {does[wished.on_breach]}"


def _conditions(snapshot: Snapshot) -> list[str]:
    """Conditions that are False, each with what it asks of a person; those that only repeat the phase are left out."""
    sentences = []
    for condition in snapshot.status.conditions:
        expected = (
            condition.type in (ConditionType.UP_TO_DATE, ConditionType.PROGRESSING) and condition.reason != "Stuck"
        )
        if not is_bad(condition) or expected:
            continue
        since = (
            f" for {spoken(snapshot.now - condition.last_transition_time)}" if condition.last_transition_time else ""
        )
        action = _action(condition)
        sentences.append(f"{condition.type} is {condition.status}{since}: {_sentence(condition.message)}{action}")
    sentences += [
        f"{_pods(revision)}: {_sentence(revision.pods.trouble)}"
        for revision in snapshot.revisions
        if revision.pods.trouble and revision.name != snapshot.status.revisions.stable
    ]
    if snapshot.pending_command:
        sentences.append(f"The command {snapshot.pending_command} is not handled yet: does the operator run?")
    sentences += [f"Not read: {_sentence(text)}" for text in snapshot.unreadable]
    return sentences


def _action(condition: Condition) -> str:
    """What the condition asks of a person: by its reason where that is a word of its own, else by its type."""
    types = {kind.value: kind.action for kind in ConditionType}
    reasons = {kind.value: kind.action for kind in EventReason}
    action = types.get(condition.type, "")
    if condition.status is ConditionStatus.FALSE:
        action = reasons.get(condition.reason, action)
    return f" {action}" if action else ""


def _next(snapshot: Snapshot) -> list[str]:
    attempt, spec = snapshot.under_way, snapshot.spec
    if attempt is None or spec is None or snapshot.status.phase is Phase.ROLLING_BACK:
        return []
    sentences = []
    hold = hold_words(snapshot)
    if hold is not None and snapshot.status.phase is not Phase.AWAITING_APPROVAL:
        sentences.append(_sentence(hold.text))
    if snapshot.paused:
        lifts = "the command resume" if snapshot.status.paused else "spec.rollout.paused: false"
        sentences.append(f"The steps are frozen; {lifts} lets them go on. Guards stay on.")
    way = course(snapshot, attempt)
    if snapshot.status.revisions.stable is None:
        sentences.append("Nothing serves yet, so it gets all traffic once its gates pass.")
    elif way is not None and snapshot.status.phase is not Phase.BAKING:
        left = stops(way, spec.rollout)[attempt.step :]
        sentences.append(f"Still to come: {', '.join(f'{stop.label}{_hold(stop.hold)}' for stop in left)}.")
    if spec.rollout.strategy is Strategy.RECREATE:
        sentences.append("Strategy Recreate: the old pods go before the new ones come, nobody is answered in between.")
    return sentences


def _hold(hold: timedelta) -> str:
    return f" for {format_duration(hold)}" if hold else ""


def _advice(snapshot: Snapshot) -> list[str]:
    advice = PHASES[snapshot.status.phase][1].format(**_words(snapshot))
    at, name = f"-n {snapshot.namespace}", snapshot.name
    commands = {
        Phase.AWAITING_APPROVAL: ("promote", "abort"),
        Phase.PROGRESSING: ("skip-step", "abort"),
        Phase.BAKING: ("skip-step", "rollback"),
        Phase.ROLLED_BACK: ("retry",),
    }.get(snapshot.status.phase, ())
    if snapshot.status.phase is Phase.IDLE and snapshot.status.drift:
        advice = "Look at what drifts; where the model is to be trained anew, apply that version with its own profile."
        commands = () if snapshot.retraining is None else ("retrain",)
    return [advice, *(f"kubectl modelrollout {verb} {name} {at}" for verb in commands)]


def _sentence(text: str) -> str:
    """The text with a capital letter (unless it begins with a name) and a full stop."""
    stripped = text.strip()
    return stripped if stripped.endswith((".", "!", "?")) else f"{stripped}."
