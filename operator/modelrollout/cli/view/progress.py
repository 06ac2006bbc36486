"""How far an attempt is: its stages with what is done, and the time until the one under way may end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from modelrollout.api.durations import format_duration
from modelrollout.api.reasons import ConditionType
from modelrollout.api.rolloutspec import Rollout
from modelrollout.api.status import ConditionStatus, Phase, RolloutStatus
from modelrollout.cli.view.snapshot import Snapshot
from modelrollout.cli.view.text import Line, Span, Tone, clock, percent, spoken
from modelrollout.rollout.strategies import Course, Ending, Stage, course_of
from modelrollout.rollout.weights import percent as percent_of

DONE, NOW, TO_COME, BROKEN = ("✔", Tone.GOOD), ("▶", Tone.BUSY), ("○", Tone.FAINT), ("✖", Tone.BAD)
BEFORE_STAGES = (Phase.PENDING, Phase.PREPARING, Phase.VERIFYING, Phase.ARMING)


@dataclass(frozen=True)
class Stop:
    """One stop on the way as a person reads it."""

    label: str
    hold: timedelta = timedelta(0)
    approval: bool = False


def course(snapshot: Snapshot, attempt: RolloutStatus) -> Course | None:
    """The way of the attempt by the spec as it is; None where the spec speaks of another one by now."""
    if snapshot.spec is None or (attempt.strategy and attempt.strategy != str(snapshot.spec.rollout.strategy)):
        return None
    found = course_of(snapshot.spec.rollout, fast_track=attempt.fast_track)
    return found if attempt.steps == len(found.stages) else None


def stops(way: Course, rollout: Rollout) -> tuple[Stop, ...]:
    """The stages, then all traffic and the bake, or the end of a way that promotes nothing."""
    found = [Stop(label(stage), stage.hold, bool(stage.approval)) for stage in way.stages]
    if way.ending is Ending.CONCLUDE:
        return (*found, Stop("end"))
    return (*found, Stop("100 %"), Stop("bake", rollout.bake))


def mirrored(snapshot: Snapshot, revision: str) -> float:
    """Percent of the users' requests that are copied to ``revision`` in the stage under way."""
    attempt = snapshot.under_way
    way = course(snapshot, attempt) if attempt is not None else None
    if attempt is None or way is None or attempt.revision != revision or not 0 < attempt.step <= len(way.stages):
        return 0.0
    beyond = snapshot.status.phase in (Phase.BAKING, Phase.ROLLING_BACK) or _in_bake(snapshot)
    return 0.0 if beyond else percent_of(way.stages[attempt.step - 1].mirror)


def label(stage: Stage) -> str:
    """The stage in a word or two."""
    if stage.approval:
        return "approval"
    if stage.split:
        return f"A/B {percent(percent_of(stage.weight))}"
    if stage.mirror:
        return f"mirror {percent(percent_of(stage.mirror))}"
    if stage.preview:
        return "preview"
    if stage.words.endswith("pods of"):
        return "1 pod" if stage.replicas == 1 else f"{stage.replicas} pods"
    return percent(percent_of(stage.weight))


def stops_line(snapshot: Snapshot) -> Line | None:
    """The stops of the last attempt, each with whether it is done; None where the spec has other ones by now.

    A first deployment has none: it goes to all traffic at once.
    """
    attempt, spec = snapshot.attempt, snapshot.spec
    way = course(snapshot, attempt) if attempt is not None else None
    if attempt is None or way is None or spec is None or snapshot.status.revisions.stable is None:
        return None
    found = stops(way, spec.rollout)
    here = _place(snapshot, attempt, len(found))
    spans: list[Span] = []
    for number, stop in enumerate(found, start=1):
        mark, tone = DONE if number < here else TO_COME
        if number == here:
            mark, tone = NOW if attempt.outcome is None else BROKEN
        hold = f" {format_duration(stop.hold)}" if stop.hold else ""
        spans += [Span(f"{mark} {stop.label}{hold}", tone), Span("   ")]
    return tuple(spans[:-1])


def _place(snapshot: Snapshot, attempt: RolloutStatus, count: int) -> int:
    """The number of the stop the attempt is at, or ended at; one more than there are when all are done."""
    if attempt.outcome in ("Promoted", "Concluded"):
        return count + 1
    if attempt.outcome is None and (snapshot.status.phase is Phase.BAKING or _in_bake(snapshot)):
        return count
    return attempt.step


def _in_bake(snapshot: Snapshot) -> bool:
    waits = snapshot.status.phase is Phase.AWAITING_APPROVAL
    return waits and snapshot.status.revisions.candidate is None


def hold_words(snapshot: Snapshot) -> Span | None:
    """The countdown of the step or bake under way, or what it waits for beyond its time; None where nothing runs."""
    attempt, now = snapshot.under_way, snapshot.now
    if attempt is None or attempt.step_ends_at is None or attempt.step_started_at is None:
        return None
    if snapshot.status.phase in (*BEFORE_STAGES, Phase.ROLLING_BACK):
        return None
    what = "bake" if snapshot.status.phase is Phase.BAKING or _in_bake(snapshot) else "hold"
    left = attempt.step_ends_at - now
    if left > timedelta(0):
        frozen = ", then paused" if snapshot.paused else ""
        tone = Tone.WARNING if snapshot.paused else Tone.BUSY
        return Span(f"{_counted(left)} left of the {what}, until {clock(attempt.step_ends_at, now)} UTC{frozen}", tone)
    over = (
        "" if attempt.step_ends_at == attempt.step_started_at else f", the {what} was over at {clock_of(attempt, now)}"
    )
    if snapshot.status.phase is Phase.AWAITING_APPROVAL:
        return Span(f"waits for a person{_since(snapshot)}", Tone.WARNING)
    if snapshot.paused:
        return Span(f"paused{over}", Tone.WARNING)
    if _silent(snapshot):
        return Span(f"held: Prometheus does not answer{over}", Tone.WARNING)
    if attempt.waiting_since is not None:
        why = snapshot.status.message.partition("; held: ")[2] or "no data"
        return Span(f"held for {spoken(now - attempt.waiting_since)}: {why}{over}", Tone.WARNING)
    return Span(f"the {what} is over since {spoken(-left)}: goes on when every guard passes", Tone.BUSY)


def _silent(snapshot: Snapshot) -> bool:
    kind, no = ConditionType.METRICS_REACHABLE, ConditionStatus.FALSE
    return any(condition.type == kind and condition.status is no for condition in snapshot.status.conditions)


def clock_of(attempt: RolloutStatus, now: datetime) -> str:
    """When the hold of the step ended."""
    return clock(attempt.step_ends_at, now)


def _since(snapshot: Snapshot) -> str:
    """For how long a person has been waited for: since the rollout stands still."""
    moment = next(
        (
            condition.last_transition_time
            for condition in snapshot.status.conditions
            if condition.type == ConditionType.PROGRESSING and condition.status is ConditionStatus.FALSE
        ),
        None,
    )
    return "" if moment is None else f", for {spoken(snapshot.now - moment)} by now"


def _counted(left: timedelta) -> str:
    """Whole seconds, rounded up: a countdown that says 0s is over."""
    return spoken(left + timedelta(microseconds=999_999))
