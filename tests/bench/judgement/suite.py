"""Scenarios times seeds times judges: each rollout in a process of its own making, and what they come to together."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from tests.bench.judgement.ours import POLICY, roll_out
from tests.bench.judgement.peers import RULES
from tests.bench.judgement.scenarios import BY_NAME, Label, Scenario
from tests.bench.judgement.verdicts import BAKE, Ended, Found

HERE = Path(__file__).parent
TUNING, HELD_OUT = HERE / "seeds.txt", HERE / "held_out.txt"
OURS = "modelrollout"
JUDGES = (OURS, *RULES)


@dataclass(frozen=True)
class Case:
    """One rollout to carry out."""

    scenario: str
    seed: int
    judge: str
    policy: Path = POLICY
    bake: float = BAKE


def seeds_of(file: Path) -> list[int]:
    """The seeds in a file, one a line; what follows ``#`` is a remark."""
    lines = (line.partition("#")[0].strip() for line in file.read_text().splitlines())
    return [int(line) for line in lines if line]


def carry_out(case: Case) -> Found:
    """One rollout."""
    scenario = BY_NAME[case.scenario]
    world, key = scenario.world(case.seed), [*scenario.key(case.seed), 1]
    if case.judge == OURS:
        return roll_out(world, key, case.policy, case.bake)
    return RULES[case.judge].roll_out(world, key)


def carried_out(cases: Sequence[Case], processes: int = 1) -> Iterator[tuple[Case, Found]]:
    """Each of them, in this many processes, as it is done."""
    if processes <= 1:
        yield from ((case, carry_out(case)) for case in cases)
        return
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        yield from zip(cases, pool.map(carry_out, cases, chunksize=8), strict=True)


def carry_out_all(cases: Sequence[Case], processes: int = 1) -> dict[Case, Found]:
    """All of them, in this many processes."""
    return dict(carried_out(cases, processes))


def cases_of(
    scenarios: Iterable[Scenario],
    seeds: Sequence[int],
    judges: Iterable[str] = JUDGES,
    policy: Path = POLICY,
    bake: float = BAKE,
) -> list[Case]:
    """Every scenario with every seed before every judge."""
    return [Case(each.name, seed, judge, policy, bake) for each in scenarios for judge in judges for seed in seeds]


@dataclass(frozen=True)
class Summary:
    """One scenario before one judge. ``exposed`` are requests: median and 95th percentile.

    They count until the rollback's write; a candidate that was not taken back counts until its promotion, or until
    the end where it was held.
    """

    scenario: str
    judge: str
    rollouts: int
    rolled_back: int
    promoted: int
    waiting: int
    asked: int
    exposed: float
    exposed_p95: float
    seconds: float
    wrong: tuple[int, ...]
    """Seeds with the wrong end."""


def wrong_end(scenario: Scenario, found: Found) -> bool:
    """Whether a rollout ended as it must not: a good one taken back, a bad one promoted."""
    if scenario.label is Label.GOOD:
        return found.ended is Ended.ROLLED_BACK
    return scenario.label is Label.BAD and found.ended is not Ended.ROLLED_BACK


def exposure(found: Found) -> int:
    """Requests that the candidate answered until it was taken back, or until its promotion where it never was."""
    if found.ended is Ended.PROMOTED and found.promoted is not None:
        return found.promoted
    return found.exposed


def summarise(results: dict[Case, Found]) -> list[Summary]:
    """One row a scenario and judge, in the order of the cases."""
    groups: dict[tuple[str, str], list[tuple[int, Found]]] = {}
    for case, found in results.items():
        groups.setdefault((case.scenario, case.judge), []).append((case.seed, found))
    rows = []
    for (name, judge), members in groups.items():
        exposed = sorted(exposure(found) for _, found in members)
        ends = [found.ended for _, found in members]
        rows.append(
            Summary(
                name,
                judge,
                len(members),
                ends.count(Ended.ROLLED_BACK),
                ends.count(Ended.PROMOTED),
                ends.count(Ended.AWAITING) + ends.count(Ended.HELD),
                sum(found.asked for _, found in members),
                statistics.median(exposed),
                exposed[min(int(0.95 * len(exposed)), len(exposed) - 1)],
                statistics.median(found.seconds for _, found in members),
                tuple(seed for seed, found in members if wrong_end(BY_NAME[name], found)),
            )
        )
    return rows


HEADING = ("scenario", "judge", "n", "back", "promoted", "waiting", "asked", "exposed", "p95", "seconds")
WIDTHS = (18, 25, 5, 5, 8, 7, 5, 9, 9, 7)


def table(rows: Iterable[Summary], *, heading: bool = True) -> str:
    """The rows as text, in columns of fixed width."""
    lines = [HEADING] if heading else []
    for row in rows:
        numbers = (row.rollouts, row.rolled_back, row.promoted, row.waiting, row.asked)
        sizes = (row.exposed, row.exposed_p95, row.seconds)
        texts = (*(str(number) for number in numbers), *(f"{size:.0f}" for size in sizes))
        lines.append((row.scenario, row.judge, *texts))  # type: ignore[arg-type]
    return "\n".join(
        "  ".join(
            f"{text:<{width}}" if column < 2 else f"{text:>{width}}"
            for column, (text, width) in enumerate(zip(line, WIDTHS, strict=True))
        ).rstrip()
        for line in lines
    )
