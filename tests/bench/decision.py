"""How long one decision takes on the biggest status that the API allows: CPU time of this process, no cluster.

The course of the spec's strategy is compiled by what comes before a decision in its turn (checking the guards), so it
is not in the figures.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import replace

from modelrollout.api.status import (
    CONDITION_LIMIT,
    DECISION_LIMIT,
    DRIFT_LIMIT,
    GATE_LIMIT,
    GUARD_LIMIT,
    HISTORY_LIMIT,
    QUARANTINE_LIMIT,
    SENTENCE_LIMIT,
    WORD_LIMIT,
    CommandRecord,
    ComparisonStatus,
    Condition,
    ConditionStatus,
    Decision,
    DriftStatus,
    GateStatus,
    GuardRecord,
    GuardStatus,
    HistoryEntry,
    Outcome,
    Phase,
    Verdict,
    status_to_dict,
)
from modelrollout.rollout.decide import decide
from modelrollout.rollout.observed import Evaluation, GuardResult
from tests.bench.result import Result
from tests.unit.rollout.given import V1, V2, WHOLE, Given, seconds

ROUNDS, QUICK_ROUNDS = 5000, 1000
LIMIT = 1.0
"""Milliseconds."""

RECORDS = 50
LONG, WORD = "x" * SENTENCE_LIMIT, "w" * WORD_LIMIT


def run(result: Result, quick: bool) -> None:
    """Measure."""
    rounds = QUICK_ROUNDS if quick else ROUNDS
    given = biggest()
    size = len(str(status_to_dict(given.status)))
    result.note("the status is", size / 1024, "KiB")
    result.note("guards in it", GUARD_LIMIT, "guards")
    cases: dict[str, Callable[[], Given]] = {
        "nothing to do": biggest,
        "approved": lambda: biggest(command="promote/1").having(phase=Phase.AWAITING_APPROVAL),
        "breach": lambda: biggest(Verdict.BREACH),
    }
    for what, make in cases.items():
        times = measured(make(), rounds)
        for share in (0.5, 0.99):
            value = times[int(share * (len(times) - 1))]
            result.at_most(f"{what}: p{share * 100:g}", value, "ms", LIMIT)
    noise = _noise()
    result.note("the same work of any kind: slowest 1 % / fastest (1: a quiet machine)", noise, "times")


def _noise() -> float:
    """How much longer a fixed piece of work takes at its p99 than at best: what other programs add to the figures."""
    times = []
    for _ in range(1000):
        begun = time.thread_time()
        sum(number * number for number in range(9000))
        times.append(time.thread_time() - begun)
    times.sort()
    return times[int(0.99 * (len(times) - 1))] / times[0]


def measured(given: Given, rounds: int) -> list[float]:
    """Milliseconds of CPU of each of ``rounds`` decisions, sorted; garbage collection included."""
    wish, status, observed, now = given.wish, given.status, given.observed, given.now
    for _ in range(50):
        decide(wish, status, observed, now)
    gc.collect()
    times = []
    for _ in range(rounds):
        begun = time.thread_time()
        decide(wish, status, observed, now)
        times.append(1000 * (time.thread_time() - begun))
    return sorted(times)


def biggest(verdict: Verdict = Verdict.PASS, command: str | None = None) -> Given:
    """Twenty guards, twenty steps, every list full and every text as long as it may be, in the middle of a canary."""
    guards = [{"name": f"g{n}", "sli": "error-ratio", "max": 0.05, "window": "30s"} for n in range(GUARD_LIMIT)]
    guards[-1]["sli"] = "input-psi"
    steps = [(4 * n + 1, "30s") for n in range(20)]
    given = Given(steps=steps, guards=guards, command=command).serving().trying(Phase.PROGRESSING, step=10, weight=37.0)
    given.route({V1: WHOLE - 370_000, V2: 370_000})
    at = given.now - seconds(1)
    found = tuple(
        GuardResult(
            f"g{n}",
            verdict,
            at,
            value=0.1,
            threshold="<= 0.05",
            samples=100.0,
            message=LONG[:200],
            confidence=0.5,
            baseline=0.1,
            query=LONG,
        )
        for n in range(GUARD_LIMIT)
    )
    names = tuple(f"digits-{n:010d}" for n in range(RECORDS))
    given.observed = replace(
        given.observed,
        evaluation=Evaluation(2, V2, at, found),
        records=names,
        known_good=frozenset(names),
        models=dict.fromkeys(names, ("digits", "1.0.0")),
    )
    told = tuple(
        GuardStatus(name=f"g{n}", verdict=verdict, message=LONG, threshold=WORD, at=at, value=1.0, query=LONG)
        for n in range(GUARD_LIMIT)
    )
    records = tuple(GuardRecord(name=f"g{n}", verdict=verdict, threshold=WORD, value=1.0) for n in range(GUARD_LIMIT))
    decisions = tuple(
        Decision(at=at - seconds(n), decision="Step", step=10, weight=37.0, message=LONG, guards=records)
        for n in range(DECISION_LIMIT)
    )
    gates = tuple(GateStatus(name=f"gate{n}", state="Passed", message=LONG, at=at) for n in range(GATE_LIMIT))
    drift = tuple(
        DriftStatus(subject=f"feature {n}", sli="input-psi", value=1.0, threshold=WORD, since=at)
        for n in range(DRIFT_LIMIT)
    )
    history = tuple(
        HistoryEntry(
            attempt=n,
            revision=names[n],
            version="1.0.0",
            strategy="Canary",
            outcome=Outcome.PROMOTED,
            reason=WORD,
            message=LONG,
            started_at=at,
            finished_at=at,
        )
        for n in range(HISTORY_LIMIT)
    )
    commands = tuple(
        CommandRecord(command=WORD, by=WORD, at=at, accepted=True, message=LONG) for _ in range(HISTORY_LIMIT)
    )
    conditions = tuple(
        Condition(type=f"T{n}", status=ConditionStatus.TRUE, reason=WORD, message=LONG, last_transition_time=at)
        for n in range(CONDITION_LIMIT)
    )
    given.having(
        history=history,
        commands=commands,
        conditions=conditions,
        quarantined=names[:QUARANTINE_LIMIT],
        message=LONG,
        drift=drift,
    )
    return given.having_attempt(
        guards=told,
        message=LONG,
        reason=WORD,
        decisions=decisions,
        gates=gates,
        comparison=ComparisonStatus(compared=1e6, differing=0.1, label_flips=0.1, at=at),
    )
