"""What the story promises, checked one by one against what was seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deploy.demo.chronicle import Chronicle, outcome_of
from deploy.demo.kube import Object
from deploy.demo.recording import Answer, Recording, failed_by_traffic, made_by_model
from deploy.demo.report import Expectation
from deploy.demo.training import RECIPES

V1, V2, V3 = (recipe.version for recipe in RECIPES)


@dataclass(frozen=True)
class Facts:
    """What there is to judge: ``revisions`` by version, ``tail`` are the last seconds' answers, ``look`` how to."""

    revisions: dict[str, str]
    chronicle: Chronicle
    recording: Recording
    tail: Sequence[Answer]
    look: str


def judged(facts: Facts) -> tuple[Expectation, ...]:
    """Every promise of the story with its verdict."""
    return (
        *(_outcome(facts, version, wanted) for version, wanted in ((V1, "Promoted"), (V2, "Promoted"))),
        _outcome(facts, V3, "RolledBack"),
        _by_itself(facts),
        _better(facts),
        _quarantined(facts),
        _still_serves(facts),
        _nothing_lost(facts),
    )


def _outcome(facts: Facts, version: str, wanted: str) -> Expectation:
    revision = facts.revisions.get(version)
    seen = outcome_of(facts.chronicle.status, revision) if revision else None
    look = f"{facts.look} get mdep {facts.chronicle.name} -o yaml"
    return Expectation(f"{version} is {wanted}", seen == wanted, wanted, seen or "it did not get so far", look)


def _by_itself(facts: Facts) -> Expectation:
    history: list[Object] = facts.chronicle.status.get("history", [])
    nothing: Object = {}
    entry = next((one for one in history if one.get("revision") == facts.revisions.get(V3, "")), nothing)
    reason = entry.get("reason", "")
    return Expectation(
        f"{V3} was taken back because a guard said so",
        reason == "GuardBreached",
        "reason GuardBreached of its attempt",
        f"{reason or 'no such attempt'}: {entry.get('message', '')}",
        f"{facts.look} get mrev -o yaml",
    )


def _better(facts: Facts) -> Expectation:
    old, new = (facts.recording.accuracy(facts.revisions.get(version, "")) for version in (V1, V2))
    shown = " and ".join("none" if one is None else f"{one:.1%}" for one in (old, new))
    met = old is not None and new is not None and new > old
    return Expectation(f"{V2} answers better than {V1}", met, "a higher accuracy on live answers", shown)


def _quarantined(facts: Facts) -> Expectation:
    quarantined, revision = facts.chronicle.status.get("quarantined", []), facts.revisions.get(V3)
    shown = ", ".join(quarantined) or "nothing"
    look = f"{facts.look} get mdep {facts.chronicle.name} -o jsonpath={{.status.quarantined}}"
    return Expectation(f"{V3} is quarantined", revision in quarantined, str(revision), shown, look)


def _still_serves(facts: Facts) -> Expectation:
    revision = facts.revisions.get(V2)
    wrong = sorted({f"{a.status} of {a.revision}" for a in facts.tail if not a.good or a.revision != revision})
    met = bool(facts.tail) and not wrong
    seen = ", ".join(wrong[:3]) or (f"{len(facts.tail)} answers, all of it" if met else "no answers")
    return Expectation(
        f"{V2} serves alone at the end", met, "every one of the last answers", seen, f"{facts.look} get httproute"
    )


def _nothing_lost(facts: Facts) -> Expectation:
    lost = lost_answers(facts.recording, facts.revisions)
    kinds = sorted({f"{a.status} of {a.revision}: {a.text[:60]}" for a in lost})
    seen = f"{len(lost)} of {len(facts.recording.answers)}" + "".join(f"; {kind}" for kind in kinds[:3])
    return Expectation("no request was lost by moving traffic", not lost and bool(facts.recording.answers), "0", seen)


def lost_answers(recording: Recording, revisions: dict[str, str]) -> list[Answer]:
    """Failures that are not the bad version's own: those count as made by moving traffic."""
    return failed_by_traffic(recording.answers, {revisions.get(V3, "")})


def model_errors(recording: Recording, revision: str) -> int:
    """How many errors a version's own code made."""
    return sum(not a.good and made_by_model(a) for a in recording.answers if a.revision == revision)
