"""The labelled scenarios: what each is, and whether a candidate in it is good or bad, and by how much.

A scenario draws a world from a seed: its load, base errors (0.1 to 0.5 %), latencies, proxies and scrapes differ with
each. Both arms share everything but what the scenario says.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from zlib import crc32

import numpy as np

from tests.bench.judgement.traffic import CANDIDATE, STABLE, Outage, Part, Parts, Restart, World
from tests.bench.judgement.verdicts import BEFORE, STEPS

Random = np.random.Generator
Answers = Callable[[int, float, float], Parts]

STEPPING = sum(hold for _, hold in STEPS)
CLASSES = (0.30, 0.20, 0.15, 0.10, 0.08, 0.06, 0.05, 0.03, 0.02, 0.01)
"""Shares of the classes that the reference, and every good model, predicts."""


class Label(StrEnum):
    """What the right end of a rollout is.

    ``small`` is worse by less than what the default policy cares about: both ends are right.
    """

    GOOD = "good"
    BAD = "bad"
    SMALL = "small"


@dataclass(frozen=True)
class Scenario:
    """A name, the truth, what is meant in words, and how a world of it is drawn."""

    name: str
    label: Label
    words: str
    draw: Callable[[Random], World]
    outage: bool = False

    def world(self, seed: int) -> World:
        """The world of this seed."""
        return self.draw(np.random.default_rng(self.key(seed)))

    def key(self, seed: int) -> list[int]:
        """What the random numbers of this scenario and seed come from."""
        return [seed, crc32(self.name.encode())]


# -- worlds -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Base:
    """What was drawn for one world. ``part`` is how both arms answer."""

    part: Part
    rate: float
    random: Random
    wander: tuple[tuple[float, float], ...]
    proxies: int
    scrape: float

    @classmethod
    def draw(cls, random: Random, rate: tuple[float, float] = (60, 300)) -> Base:
        part = Part(
            errors=float(random.uniform(0.001, 0.005)),
            median=float(np.exp(random.uniform(math.log(8), math.log(80)))),
            sigma=float(random.uniform(0.3, 0.8)),
        )
        # The mean of latencies wanders for both arms alike, by some percent within minutes.
        steps = np.cumsum(random.normal(0, 0.01, 120))
        wander = tuple((30.0 * number, float(0.05 * math.tanh(value / 0.05))) for number, value in enumerate(steps))
        return cls(
            part,
            float(np.exp(random.uniform(math.log(rate[0]), math.log(rate[1])))),
            random,
            wander,
            int(random.integers(1, 4)),
            float(random.choice([5.0, 10.0, 15.0])),
        )

    def now(self, now: float) -> Part:
        """How a good arm answers now."""
        _, slower = self.wander[min(int(now // 30), len(self.wander) - 1)]
        # A few hundred different medians, so that their distributions are worked out once.
        return self.part.like(slower=round(1 + slower, 2))

    def world(self, answers: Answers | None = None, **more: object) -> World:
        """A world where arms answer so; else both are good."""
        made = World(
            lambda now: self.rate, answers or (lambda arm, now, age: (self.now(now),)), self.proxies, self.scrape
        )
        return replace(made, **more)  # type: ignore[arg-type]

    def moment(self, start: float = 0.05, end: float = 0.9) -> float:
        """Some moment while weights rise."""
        return float(BEFORE + self.random.uniform(start, end) * STEPPING)


def _noise(random: Random) -> World:
    return Base.draw(random).world()


def _low(random: Random) -> World:
    return Base.draw(random, (1, 5)).world()


def _within(random: Random) -> World:
    base = Base.draw(random)
    return base.world(lambda arm, now, age: (base.now(now).like(0.0005, 1.03) if arm == CANDIDATE else base.now(now),))


def _diurnal(random: Random) -> World:
    """Load from a quarter to the whole and back in twenty minutes; both arms are slower under it."""
    base = Base.draw(random, (150, 400))
    period, phase = float(random.uniform(900, 1800)), float(random.uniform(0, 2 * math.pi))

    def level(now: float) -> float:
        return 0.625 + 0.375 * math.sin(2 * math.pi * now / period + phase)

    def answers(arm: int, now: float, age: float) -> Parts:
        return (base.now(now).like(slower=round(0.85 + 0.4 * level(now), 2)),)

    return base.world(answers, load=lambda now: base.rate * level(now))


def _bursts(random: Random) -> World:
    """Now and then a dependency fails for two seconds: a third of all requests of both arms."""
    base = Base.draw(random)
    moments = sorted(float(random.uniform(0, BEFORE + STEPPING + 600)) for _ in range(6))
    breaks = tuple(edge for moment in moments for edge in (moment, moment + 2))

    def answers(arm: int, now: float, age: float) -> Parts:
        failing = any(moment <= now < moment + 2 for moment in moments)
        return (base.now(now).like(0.33 if failing else 0.0),)

    return base.world(answers, breaks=breaks)


def _restarts(random: Random) -> World:
    """Proxies restart or are replaced; counters begin at 0 or under another name."""
    base = Base.draw(random)
    proxies = max(base.proxies, 2)
    restarts = tuple(
        Restart(base.moment(0, 1), int(random.integers(0, proxies)), bool(random.integers(0, 2))) for _ in range(4)
    )
    return base.world(proxies=proxies, restarts=restarts)


def _pod_restart(random: Random) -> World:
    """One of the candidate's four pods restarts: for a second its requests fail, and it is slow for ten."""
    base = Base.draw(random)
    moment = base.moment(0.3, 0.95)

    def answers(arm: int, now: float, age: float) -> Parts:
        good = base.now(now)
        if arm == STABLE or not moment <= now < moment + 11:
            return (good,)
        if now < moment + 1:
            return (good.like(share=0.75), good.like(1.0, share=0.25))
        return (good.like(share=0.75), good.like(slower=2.0, share=0.25))

    return base.world(answers, breaks=(moment, moment + 1, moment + 11))


def _cold(random: Random) -> World:
    """The first twenty seconds of the candidate are five times as slow."""
    base = Base.draw(random)

    def answers(arm: int, now: float, age: float) -> Parts:
        cold = arm == CANDIDATE and age < 20
        return (base.now(now).like(slower=5.0) if cold else base.now(now),)

    # Its age counts from its first traffic, which is known to some seconds only: the break is where it really is.
    return base.world(answers, breaks=tuple(BEFORE + 0.2 + step for step in range(0, 25, 5)))


def _caches(random: Random) -> World:
    """The first ninety seconds of the candidate are twice as slow, or three times as slow and less and less so."""
    base = Base.draw(random)
    falls = bool(random.integers(0, 2))

    def answers(arm: int, now: float, age: float) -> Parts:
        slower = round(1 + 2 * max(0.0, 1 - age / 90), 1) if falls else 2.0
        return (base.now(now).like(slower=slower if arm == CANDIDATE and age < 90 else 1.0),)

    return base.world(answers, breaks=tuple(BEFORE + 0.2 + step for step in range(0, 100, 5)))


def _narrow(random: Random) -> World:
    """Nearly all requests take the same time, anywhere between Envoy's edges; the candidate is 5 % slower."""
    base = Base.draw(random)
    base = replace(base, part=replace(base.part, sigma=float(random.uniform(0.1, 0.2))))
    return base.world(lambda arm, now, age: (base.now(now).like(slower=1.05 if arm == CANDIDATE else 1.0),))


def _minute(random: Random) -> World:
    """A dependency fails for a minute, about when the candidate gets all traffic or in the bake."""
    base = Base.draw(random)
    begin = BEFORE + STEPPING + float(random.choice([random.uniform(-8, 8), random.uniform(10, 500)]))
    rise, slower = float(random.choice([0.1, 0.3, 0.6, 1.0])), float(random.choice([1.0, 3.0, 10.0]))

    def answers(arm: int, now: float, age: float) -> Parts:
        return (base.now(now).like(rise, slower) if begin <= now < begin + 60 else base.now(now),)

    return base.world(answers, breaks=(begin, begin + 60))


def _outage(mode: str) -> Callable[[Random], World]:
    def draw(random: Random) -> World:
        base = Base.draw(random)
        begin, length = base.moment(0, 0.8), float(random.uniform(60, 240))
        return base.world(outages=(Outage(begin, begin + length, mode),))

    return draw


def _drift_errors(random: Random) -> World:
    """The errors of both arms rise by one to eight points, in a jump or slowly, while weights change."""
    base = Base.draw(random)
    begin, over = base.moment(), float(random.choice([1.0, 120.0, 400.0]))
    rise = float(random.uniform(0.01, 0.08))

    def answers(arm: int, now: float, age: float) -> Parts:
        part = min(max((now - begin) / over, 0.0), 1.0)
        return (base.now(now).like(rise * part),)

    return base.world(answers, breaks=(begin, begin + over))


def _drift_latency(random: Random) -> World:
    """Both arms get 20 to 150 percent slower, in a jump or slowly, while weights change."""
    base = Base.draw(random)
    begin, over = base.moment(), float(random.choice([1.0, 120.0, 400.0]))
    rise = float(random.uniform(0.2, 1.5))

    def answers(arm: int, now: float, age: float) -> Parts:
        part = min(max((now - begin) / over, 0.0), 1.0)
        return (base.now(now).like(slower=round(1 + rise * part, 2)),)

    return base.world(answers, breaks=(begin, begin + over))


def _drift_in_bake(random: Random) -> World:
    """The errors of the world rise by 1-8 points once the candidate has all traffic: nobody is left to compare."""
    base = Base.draw(random)
    begin, rise = BEFORE + STEPPING + float(random.uniform(20, 400)), float(random.uniform(0.01, 0.08))
    return base.world(lambda arm, now, age: (base.now(now).like(rise if now >= begin else 0.0),), breaks=(begin,))


def _simpson(random: Random) -> World:
    """Errors of both arms fall from high to low at the very moment of the second step (or the other way round)."""
    base = Base.draw(random)
    moment = BEFORE + STEPS[0][1] + float(random.uniform(-10, 10))
    first, then = (0.03, 0.0) if random.integers(0, 2) else (0.0, 0.03)
    return base.world(
        lambda arm, now, age: (
            base.now(now).like(first if now < moment else then, 1.0 + 10 * (first if now < moment else then)),
        ),
        breaks=(moment,),
    )


def _outputs_same(random: Random) -> World:
    return Base.draw(random).world(outputs=(CLASSES, CLASSES))


def _candidate(change: Callable[[Part, float], Parts]) -> Callable[[Random], World]:
    """Both arms are good but for what ``change`` makes of the candidate's answers at an age."""

    def draw(random: Random) -> World:
        base = Base.draw(random)

        def answers(arm: int, now: float, age: float) -> Parts:
            good = base.now(now)
            return change(good, age) if arm == CANDIDATE else (good,)

        return base.world(answers)

    return draw


def _worse(errors: float = 0.0, slower: float = 1.0) -> Callable[[Random], World]:
    return _candidate(lambda good, age: (good.like(errors, slower),))


def _leak(good: Part, age: float) -> Parts:
    """Five percent slower and a third of a point more errors every minute."""
    minutes = round(age / 60, 1)
    return (good.like(0.0033 * minutes, 1 + 0.05 * minutes),)


def _bad_pod_fails(good: Part, age: float) -> Parts:
    return (good.like(share=0.8), good.like(0.2, share=0.2))


def _bad_pod_slow(good: Part, age: float) -> Parts:
    return (good.like(share=0.8), good.like(slower=4.0, share=0.2))


def _bad_slice(good: Part, age: float) -> Parts:
    return (good.like(share=0.95), good.like(1.0, share=0.05))


def _hangs(good: Part, age: float) -> Parts:
    return (replace(good, hangs=0.03),)


def _long(worse: float) -> Callable[[Random], World]:
    """Answers go on for a minute or two, so hundreds are on their way, ever fewer of them stable's."""

    def draw(random: Random) -> World:
        base = Base.draw(random, (5, 40))
        base = replace(base, part=replace(base.part, streams=float(random.uniform(60, 120))))
        return base.world(lambda arm, now, age: (base.now(now).like(worse if arm == CANDIDATE else 0.0),))

    return draw


def _outputs_shifted(random: Random) -> World:
    """The candidate predicts other classes: three of ten answers move to the rarer ones (PSI 0.36)."""
    shifted = np.array(CLASSES) * 0.7 + np.array(CLASSES[::-1]) * 0.3
    return Base.draw(random).world(outputs=(CLASSES, tuple(float(share) for share in shifted / shifted.sum())))


GOOD, BAD, SMALL = Label.GOOD, Label.BAD, Label.SMALL
SCENARIOS = (
    Scenario("noise", GOOD, "the same model again, 60-300 requests/s", _noise),
    Scenario("within effect", GOOD, "0.05 points more errors and 3 % slower: not worth caring about", _within),
    Scenario("low traffic", GOOD, "1-5 requests/s", _low),
    Scenario("diurnal load", GOOD, "load and latency go up and down by the day (in 15-30 min)", _diurnal),
    Scenario("error bursts", GOOD, "six times a third of all requests fail for 2 s", _bursts),
    Scenario("proxy restarts", GOOD, "four times a proxy restarts or is replaced", _restarts),
    Scenario("pod restart", GOOD, "one of four pods of the candidate restarts", _pod_restart),
    Scenario("cold start", GOOD, "the candidate's first 20 s are five times as slow", _cold),
    Scenario("cold caches", GOOD, "the candidate's first 90 s are two to three times as slow", _caches),
    Scenario("narrow latencies", GOOD, "all requests take about as long, the candidate's 5 % longer", _narrow),
    Scenario("a minute in the bake", GOOD, "10-100 % fail for a minute at or after the promotion", _minute),
    Scenario("drift of errors", GOOD, "1-8 points more errors on both arms", _drift_errors),
    Scenario("drift of latency", GOOD, "20-150 % slower on both arms", _drift_latency),
    Scenario("drift at a step", GOOD, "errors of both arms jump as the weight does (Simpson)", _simpson),
    Scenario("drift in the bake", GOOD, "1-8 points more errors, after the promotion", _drift_in_bake),
    Scenario("long answers", GOOD, "answers are streamed for 1-2 min, 5-40 requests/s", _long(0.0)),
    Scenario("same outputs", GOOD, "the observer compares answers; they are alike", _outputs_same),
    *(
        Scenario(f"outage: {mode}", GOOD, f"Prometheus for 1-4 min: {words}", _outage(mode), outage=True)
        for mode, words in (
            ("refused", "refuses"),
            ("hung", "never answers"),
            ("empty", "answers nothing"),
            ("nan", "answers NaN"),
            ("gap", "scrapes nothing"),
            ("down", "is down"),
        )
    ),
    Scenario("errors +0.2", SMALL, "0.2 points more errors", _worse(0.002)),
    Scenario("errors +0.5", BAD, "0.5 points more errors", _worse(0.005)),
    Scenario("errors +1", BAD, "1 point more errors", _worse(0.01)),
    Scenario("errors +5", BAD, "5 points more errors", _worse(0.05)),
    Scenario("latency +10 %", SMALL, "10 % slower", _worse(slower=1.1)),
    Scenario("latency +20 %", BAD, "20 % slower", _worse(slower=1.2)),
    Scenario("latency +50 %", BAD, "50 % slower", _worse(slower=1.5)),
    Scenario("slow leak", BAD, "every minute 5 % slower and 0.33 points more errors", _candidate(_leak)),
    Scenario("bad pod: fails", BAD, "one pod of five fails 20 % of its requests", _candidate(_bad_pod_fails)),
    Scenario("bad pod: slow", BAD, "one pod of five is four times as slow", _candidate(_bad_pod_slow)),
    Scenario("bad slice", BAD, "5 % of the requests always fail", _candidate(_bad_slice)),
    Scenario("hangs", BAD, "3 % of the requests are never answered, clients give up", _candidate(_hangs)),
    Scenario("long answers, errors +5", BAD, "the same, and 5 points more errors", _long(0.05)),
    Scenario("output shift", BAD, "other classes (PSI 0.36), as fast and without errors", _outputs_shifted),
)
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
