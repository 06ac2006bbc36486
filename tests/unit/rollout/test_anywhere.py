"""Whatever happens wherever an attempt is: every plan keeps the truths, and the end is the one people expect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from modelrollout.api.status import Outcome, Phase, Verdict
from modelrollout.rollout.plan import WHOLE
from tests.builders import name_of
from tests.unit.rollout.courses import COURSES
from tests.unit.rollout.walk import Walk

V1, V2, V3 = (name_of(version) for version in ("1.0.0", "2.0.0", "3.0.0"))
AT_REST = (Phase.IDLE, Phase.ROLLED_BACK)


@cache
def places(course: str) -> tuple[Walk, ...]:
    """The attempt of V2 beside V1, once in every phase and step on its way; pods and gateway take their time."""
    spec = COURSES[course]
    walk = Walk("1.0.0", lagging=True, **spec).rest().apply("2.0.0", **spec)
    walk.turn()
    known: set[Any] = set()
    found: list[Walk] = []
    for approvals in range(500):
        rollout = walk.status.rollout
        assert rollout is not None
        place = (walk.status.phase, rollout.step, rollout.ramp > 0)
        going_home = walk.status.phase is Phase.ROLLING_BACK
        if rollout.outcome is None and not going_home and place not in known:
            known.add(place)
            found.append(walk.fork())
        if not walk.turn():
            if walk.status.phase is not Phase.AWAITING_APPROVAL:
                return tuple(found)
            walk.command(f"promote/{approvals}")
    raise AssertionError("never ends")


def at_peace(walk: Walk) -> Walk:
    """At rest one revision serves, with all pods and all weight, and no other has any."""
    assert walk.status.phase in AT_REST, walk.status.message
    stable = walk.status.revisions.stable
    assert walk.observed.route.weights == {stable: WHOLE}
    pods = {name: each.desired for name, each in walk.observed.workloads.items() if each.desired}
    assert pods == {stable: walk.wish.spec.replicas}
    assert walk.status.revisions.candidate is None
    return walk


def ended(walk: Walk) -> tuple[str | None, Outcome]:
    """Who serves, and how the newest attempt ended."""
    return at_peace(walk).status.revisions.stable, walk.status.history[0].outcome


def everywhere(course: str, happens: Callable[[Walk], object]) -> list[Walk]:
    """The worlds after ``happens`` at every place of ``course``."""
    worlds = []
    for place in places(course):
        walk = place.fork()
        happens(walk)
        worlds.append(walk)
    assert worlds
    return worlds


def going_on(walk: Walk) -> Walk:
    """To the end of the way, with a person who approves."""
    for number in range(30):
        walk.rest()
        if walk.status.phase is not Phase.AWAITING_APPROVAL:
            return walk
        walk.command(f"promote/on{number}")
    raise AssertionError(walk.status.message)


def last(course: str) -> tuple[str, Outcome]:
    """How an attempt of this course ends when nothing happens to it."""
    return (V1, Outcome.CONCLUDED) if course == "shadow, then end" else (V2, Outcome.PROMOTED)


courses = pytest.mark.parametrize("course", COURSES)


@courses
def test_nothing_happens(course: str) -> None:
    for walk in everywhere(course, going_on):
        assert ended(walk) == last(course)


@courses
def test_a_breach_takes_it_back(course: str) -> None:
    for walk in everywhere(course, lambda walk: going_on(walk.breach(V2))):
        assert ended(walk) == (V1, Outcome.ROLLED_BACK)
        assert walk.status.quarantined == (V2,)
        assert walk.events.count("RolledBack") == 1


@courses
@pytest.mark.parametrize("verdict", [Verdict.NO_DATA, Verdict.PROVIDER_DOWN])
def test_silence_never_promotes_and_never_takes_back(course: str, verdict: Verdict) -> None:
    def falls_silent(walk: Walk) -> None:
        walk.verdict = verdict
        for _ in range(150):
            walk.turn()
        assert "RolledBack" not in walk.events
        walk.verdict = Verdict.PASS
        going_on(walk)

    for walk in everywhere(course, falls_silent):
        assert ended(walk) == last(course)


@courses
@pytest.mark.parametrize("who", [(V1,), (V2,), (V1, V2)], ids=["stable", "candidate", "both"])
def test_lost_pods_that_return(course: str, who: tuple[str, ...]) -> None:
    def lose(walk: Walk) -> None:
        walk.kill(*who)
        for _ in range(6):
            walk.turn()
        going_on(walk.heal())

    for walk in everywhere(course, lose):
        stable, outcome = ended(walk)
        # In the bake lost pods are a reason to go back, before it to begin anew.
        assert (stable, outcome) in (last(course), (V1, Outcome.ROLLED_BACK))
        assert (stable, outcome) == last(course) or V2 in who


@courses
def test_a_candidate_whose_pods_never_return_is_taken_back(course: str) -> None:
    for walk in everywhere(course, lambda walk: walk.kill(V2).rest()):
        assert ended(walk) == (V1, Outcome.ROLLED_BACK)


@courses
def test_a_breach_while_home_has_no_pods_waits_for_them(course: str) -> None:
    def happens(walk: Walk) -> None:
        walk.kill(V1).breach(V2)
        for _ in range(10):
            walk.turn()
        going_on(walk.heal())

    for walk in everywhere(course, happens):
        assert ended(walk) == (V1, Outcome.ROLLED_BACK)


@courses
def test_the_spec_goes_back(course: str) -> None:
    for walk in everywhere(course, lambda walk: walk.apply("1.0.0", **COURSES[course]).rest()):
        assert ended(walk) == (V1, Outcome.ABORTED)
        assert walk.status.quarantined == ()
        assert walk.status.phase is Phase.IDLE


@courses
def test_a_third_version(course: str) -> None:
    for walk in everywhere(course, lambda walk: going_on(walk.apply("3.0.0", **COURSES[course]))):
        stable, outcome = ended(walk)
        assert (stable, outcome) == (V3 if last(course)[0] == V2 else V1, last(course)[1])
        assert [entry.outcome for entry in walk.status.history][1] is Outcome.SUPERSEDED


@courses
@pytest.mark.parametrize("other", ["canary", "blue-green", "shadow, then approval", "A/B", "recreate"])
def test_another_strategy(course: str, other: str) -> None:
    if course.startswith("service") and other not in ("blue-green", "recreate"):
        pytest.skip("a Service has two strategies only")
    kept = {key: value for key, value in COURSES[course].items() if key in ("service", "guards", "replicas")}
    spec = {**kept, **COURSES[other]}
    for walk in everywhere(course, lambda walk: going_on(walk.apply("2.0.0", **spec))):
        assert ended(walk) == (V2, Outcome.PROMOTED)
        anew = 3 if any(entry.outcome is Outcome.SUPERSEDED for entry in walk.status.history) else 2
        assert len(walk.status.history) == anew, "the same attempt, begun anew; another one where home is short of pods"


@courses
def test_scaled_to_zero_and_back(course: str) -> None:
    spec = COURSES[course]

    def happens(walk: Walk) -> None:
        walk.apply("2.0.0", **{**spec, "replicas": 0}).rest()
        assert not any(each.desired for each in walk.observed.workloads.values())
        going_on(walk.apply("2.0.0", **spec))

    for walk in everywhere(course, happens):
        assert ended(walk) == last(course)


@courses
@pytest.mark.parametrize("replicas", [7, 2])
def test_other_replicas(course: str, replicas: int) -> None:
    spec = {**COURSES[course], "replicas": replicas}
    for walk in everywhere(course, lambda walk: going_on(walk.apply("2.0.0", **spec))):
        assert ended(walk) == last(course)


@courses
@pytest.mark.parametrize(("verb", "outcome"), [("abort", Outcome.ABORTED), ("rollback", Outcome.ROLLED_BACK)])
def test_taken_back_by_command(course: str, verb: str, outcome: Outcome) -> None:
    for walk in everywhere(course, lambda walk: walk.command(f"{verb}/1@anna").rest()):
        assert ended(walk) == (V1, outcome)
        assert walk.status.quarantined == (V2,)
        given = walk.status.commands[0]
        assert (given.command, given.by, given.accepted) == (verb, "anna", True)


@courses
def test_all_traffic_by_command(course: str) -> None:
    def happens(walk: Walk) -> None:
        walk.command("promote:full/1").rest()

    for walk in everywhere(course, happens):
        assert ended(walk) == (V2, Outcome.PROMOTED)


@courses
def test_paused_and_resumed(course: str) -> None:
    def happens(walk: Walk) -> None:
        before = walk.status.rollout
        walk.command("pause/1").rest()
        rollout = walk.status.rollout
        assert before is not None
        assert rollout is not None
        assert rollout.outcome is None
        assert rollout.step <= before.step + 1
        walk.command("resume/2").rest()
        assert "paused" not in walk.status.message
        going_on(walk)

    for walk in everywhere(course, happens):
        assert ended(walk) == last(course)


@courses
def test_paused_it_is_taken_back_all_the_same(course: str) -> None:
    """Before its first users nothing is found out about it: there it stays where it is."""

    def happens(walk: Walk) -> None:
        walk.command("pause/1").breach(V2).rest()

    for place, walk in zip(places(course), everywhere(course, happens), strict=True):
        rollout = place.status.rollout
        assert rollout is not None
        if rollout.traffic_started_at is not None:
            assert ended(walk) == (V1, Outcome.ROLLED_BACK)


@courses
def test_a_spec_that_cannot_be_carried_out_for_a_while(course: str) -> None:
    def happens(walk: Walk) -> None:
        walk.observed = replace(walk.observed, problem="there is no pool gpu")
        walk.rest()
        assert walk.status.phase in (Phase.INVALID, Phase.BAKING)
        walk.observed = replace(walk.observed, problem=None)
        going_on(walk)

    for walk in everywhere(course, happens):
        assert ended(walk) == last(course)
