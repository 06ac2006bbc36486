"""Labelled scenarios through the real decision code: wrong rollbacks, missed bad models, requests exposed."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from modelrollout.api.guard import DEFAULT_CONFIDENCE
from tests.bench.judgement.looking import POWER, RATE, false_alarms, fixed_sample, requests_until_sure
from tests.bench.judgement.report import figures, keep, scenarios_table
from tests.bench.judgement.scenarios import SCENARIOS, Label
from tests.bench.judgement.suite import HELD_OUT, TUNING, Case, carried_out, cases_of, seeds_of, summarise
from tests.bench.judgement.verdicts import Found
from tests.bench.result import Result

FOLDER = Path(__file__).resolve().parents[3] / ".local" / "bench"
GOOD_SEEDS, BAD_SEEDS, QUICK_SEEDS = 46, 30, 3
BASE_ERRORS, LEAST_RISE = 0.003, 0.002


def run(result: Result, quick: bool) -> None:
    """Measure, with the seeds that the policy was tuned on and with those that nothing was tuned on."""
    processes = len(os.sched_getaffinity(0))
    for which, file in (("held-out seeds", HELD_OUT), ("tuning seeds", TUNING)):
        name = f"judgement.{file.stem}"
        found = _told(cases(file, quick), processes, FOLDER / f"{name}.jsonl")
        figures(result, found, which)
        keep(found, FOLDER / f"{name}.json")
        (FOLDER / f"{name}.md").write_text(scenarios_table(summarise(found)) + "\n")
    _look(result, 20 if quick else 200)


def _told(every: Sequence[Case], processes: int, file: Path) -> dict[Case, Found]:
    """Carry out all; each rollout is a line of the file as soon as it is done: who is interrupted has lost nothing."""
    found: dict[Case, Found] = {}
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as lines:
        for case, each in carried_out(every, processes):
            found[case] = each
            record = {"scenario": case.scenario, "seed": case.seed, "judge": case.judge, **asdict(each)}
            lines.write(json.dumps(record) + "\n")
            lines.flush()
            if len(found) % 100 == 0 or len(found) == len(every):
                print(f"{len(found)} of {len(every)} rollouts, now {case.scenario}", flush=True)
    return found


def _look(result: Result, trials: int) -> None:
    """The test of error ratios by itself: how often it cries wolf, and how soon it is sure."""
    confidence = 0.95
    for what, more in (("a rise of just minEffect", LEAST_RISE), ("equal arms", 0.0)):
        ours, naive = false_alarms(trials, BASE_ERRORS, more, LEAST_RISE, confidence, seed=20261121)
        figure = f"{what}, confidence 0.95, 72 looks: false alarms"
        result.at_most(figure, ours, "of all", 1 - confidence)
        result.note(f"{figure} of a z-test looked at as often", naive, "of all")
    for more in (0.005, 0.01, 0.05):
        mean, sure = requests_until_sure(trials // 4, BASE_ERRORS, more, LEAST_RISE, DEFAULT_CONFIDENCE, seed=20261122)
        what = f"rise of {100 * more:g} points at 0.999"
        result.note(f"{what}: candidate's requests until sure, mean", mean, "requests")
        result.note(f"{what}: sure within the steps, at {RATE:g} requests/s", sure, "of all")
        fixed = fixed_sample(BASE_ERRORS, more, LEAST_RISE, DEFAULT_CONFIDENCE, 0.25)
        result.note(f"{what}: a fixed-sample test with power {POWER:g} needs", fixed, "requests")


def cases(file: Path, quick: bool = False) -> list[Case]:
    """What the benchmark carries out with the seeds of a file."""
    seeds = seeds_of(file)
    good = [scenario for scenario in SCENARIOS if scenario.label is Label.GOOD]
    others = [scenario for scenario in SCENARIOS if scenario.label is not Label.GOOD]
    counts = (QUICK_SEEDS, QUICK_SEEDS) if quick else (GOOD_SEEDS, BAD_SEEDS)
    return [*cases_of(good, seeds[: counts[0]]), *cases_of(others, seeds[: counts[1]])]
