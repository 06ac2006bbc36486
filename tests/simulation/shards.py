"""Runs of the simulation in other processes: parts of the state machine by seed, and plays of a scenario."""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.simulation.machine import FAILED, Rollouts
from tests.simulation.reducing import Failure, reduced
from tests.simulation.simulation import TOTALS


@dataclass(frozen=True)
class Report:
    """What one part did; ``failure`` is the smallest script found for what failed, and what it says."""

    number: int
    totals: Counter[str]
    failure: Failure | None = None
    error: str = ""


def pool() -> ProcessPoolExecutor:
    """One process a core, each with a memory of its own."""
    return ProcessPoolExecutor(max(len(os.sched_getaffinity(0)), 2), mp_context=get_context("spawn"))


def shard(number: int, examples: int, steps: int, tries: int = 200) -> Report:
    """The runs that ``number`` stands for: always the same."""
    TOTALS.clear()
    FAILED.clear()
    part = seed(number)(type("Part", (Rollouts,), {}))
    profile = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        print_blob=False,
    )
    error = ""
    try:
        run_state_machine_as_test(part, settings=profile)
    except Exception as problem:
        error = repr(problem)[:2000]
    done = Counter(TOTALS)
    failure = reduced(Failure(*FAILED[0]), tries) if FAILED else None
    return Report(number, done, failure, error)
