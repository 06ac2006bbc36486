"""Labelled scenarios through the real decision code: wrong rollbacks, missed bad models, requests exposed."""

from __future__ import annotations

import os
from pathlib import Path

from tests.bench.judgement.report import figures, keep, scenarios_table
from tests.bench.judgement.scenarios import SCENARIOS, Label
from tests.bench.judgement.suite import HELD_OUT, TUNING, Case, carry_out_all, cases_of, seeds_of, summarise
from tests.bench.result import Result

FOLDER = Path(__file__).resolve().parents[3] / ".local" / "bench"
GOOD_SEEDS, BAD_SEEDS, QUICK_SEEDS = 60, 30, 3


def run(result: Result, quick: bool) -> None:
    """Measure, with the seeds that the policy was tuned on and with those that nothing was tuned on."""
    processes = len(os.sched_getaffinity(0))
    for which, file in (("tuning seeds", TUNING), ("held-out seeds", HELD_OUT)):
        found = carry_out_all(cases(file, quick), processes)
        figures(result, found, which)
        name = f"judgement.{file.stem}"
        keep(found, FOLDER / f"{name}.json")
        (FOLDER / f"{name}.md").write_text(scenarios_table(summarise(found)) + "\n")


def cases(file: Path, quick: bool = False) -> list[Case]:
    """What the benchmark carries out with the seeds of a file."""
    seeds = seeds_of(file)
    good = [scenario for scenario in SCENARIOS if scenario.label is Label.GOOD]
    others = [scenario for scenario in SCENARIOS if scenario.label is not Label.GOOD]
    counts = (QUICK_SEEDS, QUICK_SEEDS) if quick else (GOOD_SEEDS, BAD_SEEDS)
    return [*cases_of(good, seeds[: counts[0]]), *cases_of(others, seeds[: counts[1]])]
