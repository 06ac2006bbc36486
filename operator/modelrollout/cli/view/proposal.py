"""What applying a ModelDeployment would do, told from the file, the live object and its revisions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from modelrollout.api.guard import Guard
from modelrollout.api.modeldeployment import ModelDeployment, ModelDeploymentSpec, revision_name
from modelrollout.api.rolloutspec import Rollout
from modelrollout.api.status import Outcome, Phase
from modelrollout.cli.view.progress import Stop, stops
from modelrollout.cli.view.snapshot import Revision, Snapshot
from modelrollout.rollout.strategies import course_of
from modelrollout.rollout.timing import Leg, timetable

LONGEST_VALUE = 80
NO_VERDICT = (None, Outcome.SUPERSEDED, Outcome.ABORTED, Outcome.CONCLUDED)


class Effect(StrEnum):
    """What becomes of the rollout."""

    FIRST = "FirstDeployment"
    NONE = "NoRollout"
    GOES_ON = "GoesOn"
    BACK = "Aborts"
    ROLLOUT = "Rollout"
    FAST_TRACK = "FastTrack"
    QUARANTINED = "Quarantined"
    WAITS = "ScaledToZero"


TRIED = (Effect.ROLLOUT, Effect.GOES_ON)
"""Effects in which the revision goes all steps beside what serves."""


@dataclass(frozen=True)
class Planned:
    """One stop, and the earliest times at which it begins and ends, counted from the first.

    ``waits_for`` is the guard that makes it longer than its hold.
    """

    stop: Stop
    begins: timedelta
    ends: timedelta
    waits_for: Guard | None = None


@dataclass(frozen=True)
class Proposal:
    """What would happen. ``extra`` is the number of pods that are needed besides those that run."""

    revision: str
    effect: Effect
    sentences: tuple[str, ...]
    changes: tuple[tuple[str, str, str], ...]
    way: tuple[Planned, ...]
    takes: timedelta
    extra: int


def propose(wish: ModelDeployment, live: Snapshot | None, rollout: Rollout | None = None) -> Proposal:
    """What applying ``wish`` would do where the live object is ``live`` (None: there is none).

    ``rollout`` is that of ``wish`` with the guards of policies merged in; None where there are none.
    """
    spec, name = wish.spec, revision_name(wish.metadata.name, wish.spec)
    effect, sentences = _effect(name, spec, live)
    way: tuple[Planned, ...] = ()
    takes = timedelta(0)
    if effect in (Effect.FIRST, Effect.ROLLOUT, Effect.FAST_TRACK, Effect.GOES_ON):
        way = _way(rollout or spec.rollout, fast_track=effect is Effect.FAST_TRACK)
        takes = way[-1].ends
    before = live.spec if live is not None else None
    return Proposal(name, effect, tuple(sentences), _changes(before, spec), way, takes, _extra(effect, spec, live))


def _effect(name: str, spec: ModelDeploymentSpec, live: Snapshot | None) -> tuple[Effect, list[str]]:
    stable = live.status.revisions.stable if live is not None else None
    if live is None or stable is None:
        return Effect.FIRST, [
            f"Nothing serves yet: {name} gets all traffic once its pods are ready and its gates pass, without steps."
        ]
    attempt, parts = live.under_way, live.status.revisions
    if attempt is not None and attempt.revision == name and parts.candidate == name:
        return Effect.GOES_ON, [
            f"{name} is on trial already: attempt {attempt.attempt} goes on by the spec as it is then."
        ]
    home = parts.last_good if live.status.phase is Phase.BAKING and parts.last_good else stable
    sentences = []
    if attempt is not None and live.status.phase is not Phase.ROLLING_BACK and name != stable:
        sentences.append(f"The attempt under way with {attempt.revision} ends first: all traffic goes back to {home}.")
    if name == stable:
        if attempt is not None and parts.candidate:
            return Effect.BACK, [f"{name} serves already: the attempt under way with {parts.candidate} is aborted."]
        return Effect.NONE, [f"{name} serves already: no rollout, the pods stay as they are."]
    if spec.replicas == 0:
        return Effect.WAITS, [*sentences, f"replicas is 0: {name} is tried when there are pods again."]
    if name in live.status.quarantined:
        return Effect.QUARANTINED, [
            *sentences,
            f"{name} was taken back before and is quarantined: no attempt begins until the command retry.",
        ]
    found = live.revision(name)
    if found is not None and _known_good(found):
        return Effect.FAST_TRACK, [
            *sentences,
            f"{name} is in the history and known good: after its gates it gets all traffic in one step, then the bake.",
        ]
    known = "is a new revision" if found is None or not found.recorded else "was made before, but never promoted"
    return Effect.ROLLOUT, [*sentences, f"{name} {known}: it goes beside {home} by strategy {spec.rollout.strategy}."]


def _known_good(revision: Revision) -> bool:
    """Whether its last attempt with an end of its own was promoted, as the operator has it."""
    ends = [attempt.outcome for attempt in revision.status.attempts] or [revision.status.outcome]
    return next((end for end in ends if end not in NO_VERDICT), None) is Outcome.PROMOTED


def _way(rollout: Rollout, *, fast_track: bool) -> tuple[Planned, ...]:
    course = course_of(rollout, fast_track=fast_track)
    found, legs, count = stops(course, rollout), timetable(course, rollout), len(course.stages)
    # The switch to all traffic, or the end of a way that promotes nothing, takes no time.
    over = legs[count - 1].ends if count else timedelta(0)
    legs = (*legs[:count], Leg(None, over, over), *legs[count:])
    return tuple(Planned(stop, leg.begins, leg.ends, leg.waits_for) for stop, leg in zip(found, legs, strict=True))


def _extra(effect: Effect, spec: ModelDeploymentSpec, live: Snapshot | None) -> int:
    """Pods at the peak of the rollout besides those that are asked for now."""
    asked = _asked(live)
    if effect in (Effect.FIRST, Effect.NONE, Effect.WAITS, Effect.QUARANTINED, Effect.BACK):
        return max(spec.replicas - asked, 0)
    course = course_of(spec.rollout, fast_track=effect is Effect.FAST_TRACK)
    if not course.beside:
        return max(spec.replicas - asked, 0)
    surge = spec.replicas if course.room is None else course.room.surge(spec.replicas)
    return max(spec.replicas + surge - asked, 0)


def _asked(live: Snapshot | None) -> int:
    """Pods that are asked for now; where they may not be read, those that the spec asks for."""
    if live is None:
        return 0
    if all(revision.pods.known for revision in live.revisions):
        return sum(revision.pods.desired for revision in live.revisions)
    return 0 if live.spec is None or live.status.revisions.stable is None else live.spec.replicas


def _changes(before: ModelDeploymentSpec | None, after: ModelDeploymentSpec) -> tuple[tuple[str, str, str], ...]:
    """(path, old, new) of every field that differs; nothing where there is no old spec."""
    if before is None:
        return ()
    old, new = (spec.model_dump(mode="json", by_alias=True, exclude_defaults=True) for spec in (before, after))
    return tuple(_differences(old, new))


def _differences(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, str, str]]:
    """Field by field where both sides have it, as a whole where one side lacks it (or has its default)."""
    olds, news = _parts(old), _parts(new)
    if old == new:
        return
    if olds is None or news is None:
        yield path, _spoken(old), _spoken(new)
        return
    for key in dict.fromkeys([*news, *olds]):
        below = f"{path}{key}" if key.startswith("[") or not path else f"{path}.{key}"
        yield from _differences(olds.get(key), news.get(key), below)


def _parts(value: Any) -> dict[str, Any] | None:
    """What the value is made of, by key; items of a list by their name or place; None for what has no parts."""
    if isinstance(value, dict):
        return value
    if isinstance(value, list):
        named = [item.get("name") if isinstance(item, dict) else None for item in value]
        return {f"[{name or place}]": item for place, (name, item) in enumerate(zip(named, value, strict=True))}
    return None


def _spoken(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."
