"""From all rollouts of the suite to the figures with limits, and to a table of every scenario."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from tests.bench.judgement.peers import RULES
from tests.bench.judgement.scenarios import BY_NAME, SCENARIOS, Label
from tests.bench.judgement.suite import OURS, Case, Summary, summarise
from tests.bench.judgement.verdicts import Ended, Found
from tests.bench.result import Result

WRONG_PER_THOUSAND = 1.0
MOST_EXPOSED = 0.5
"""Of the requests that the better of the rule sets exposes."""


def figures(result: Result, results: Mapping[Case, Found], which: str) -> None:
    """Hold the rollouts against the limits; ``which`` names their seeds."""
    ours = {case: found for case, found in results.items() if case.judge == OURS}
    good = {case: found for case, found in ours.items() if BY_NAME[case.scenario].label is Label.GOOD}
    wrong = sum(found.ended is Ended.ROLLED_BACK for found in good.values())
    result.note(f"{which}: good rollouts", len(good), "rollouts")
    result.at_most(f"{which}: good ones rolled back", 1000 * wrong / len(good), "of 1,000", WRONG_PER_THOUSAND)
    outages = {case: found for case, found in good.items() if BY_NAME[case.scenario].outage}
    lost = sum(found.ended is Ended.ROLLED_BACK for found in outages.values())
    result.at_most(f"{which}: rolled back by an outage of metrics, of {len(outages)}", lost, "rollouts", 0)
    asked = sum(found.asked for found in good.values())
    result.note(f"{which}: good ones about which a person was asked", 1000 * asked / len(good), "of 1,000")
    usual = [found.asked for case, found in good.items() if case.scenario != "low traffic"]
    result.note(f"{which}: the same without low traffic", 1000 * sum(usual) / max(len(usual), 1), "of 1,000")
    for judge in RULES:
        theirs = [f for c, f in results.items() if c.judge == judge and BY_NAME[c.scenario].label is Label.GOOD]
        taken = sum(found.ended is Ended.ROLLED_BACK for found in theirs)
        if theirs:
            result.note(f"{which}: good ones rolled back by {judge}", 1000 * taken / len(theirs), "of 1,000")
    bad = {case: found for case, found in ours.items() if BY_NAME[case.scenario].label is Label.BAD}
    missed = sum(found.ended is not Ended.ROLLED_BACK for found in bad.values())
    promoted = sum(found.ended is Ended.PROMOTED for found in bad.values())
    result.at_most(f"{which}: bad ones promoted, of {len(bad)}", promoted, "rollouts", 0)
    result.at_most(f"{which}: bad ones not rolled back, of {len(bad)}", missed, "rollouts", 0)
    ratios = exposure_ratios(summarise(dict(results)))
    for name, (ratio, caught) in ratios.items():
        said = "" if caught else " (they never catch it)"
        result.note(f"{which}: {name}: exposed requests, ours to the better rule set's{said}", ratio, "times")
    caught_too = [ratio for ratio, caught in ratios.values() if caught]
    if caught_too:
        median = statistics.median(caught_too)
        result.at_most(f"{which}: the same, median of those that they catch too", median, "times", MOST_EXPOSED)


def exposure_ratios(rows: Sequence[Summary]) -> dict[str, tuple[float, bool]]:
    """By bad scenario: our median of exposed requests over the least of the rule sets, and whether one catches it.

    A rule set catches a scenario where it takes back at least half of the rollouts.
    """
    found = {}
    for scenario in SCENARIOS:
        mine = [row for row in rows if row.scenario == scenario.name and row.judge == OURS]
        theirs = [row for row in rows if row.scenario == scenario.name and row.judge != OURS]
        if scenario.label is Label.BAD and mine and theirs:
            least = min(row.exposed for row in theirs)
            caught = any(2 * row.rolled_back >= row.rollouts for row in theirs)
            found[scenario.name] = (mine[0].exposed / max(least, 1.0), caught)
    return found


def scenarios_table(rows: Sequence[Summary]) -> str:
    """Every scenario before every judge, in Markdown: taken back / waiting of all, and requests exposed."""
    judges = list(dict.fromkeys(row.judge for row in rows))
    heading = ["scenario", "truth", *judges]
    lines = ["| " + " | ".join(heading) + " |", "|" + "---|" * len(heading)]
    for scenario in SCENARIOS:
        cells = []
        for judge in judges:
            row = next((row for row in rows if (row.scenario, row.judge) == (scenario.name, judge)), None)
            cells.append("" if row is None else _cell(row, scenario.label))
        if any(cells):
            lines.append("| " + " | ".join([f"{scenario.name}: {scenario.words}", str(scenario.label), *cells]) + " |")
    return "\n".join(lines)


def _cell(row: Summary, label: Label) -> str:
    waiting = f", {row.waiting} wait" if row.waiting else ""
    asked = f", {row.asked} asked" if row.asked else ""
    back = f"{row.rolled_back} of {row.rollouts} back{waiting}{asked}"
    return back if label is Label.GOOD else f"{back}; {row.exposed:,.0f} ({row.exposed_p95:,.0f})"


def keep(results: Mapping[Case, Found], file: Path) -> None:
    """Every scenario before every judge as JSON."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps([asdict(row) for row in summarise(dict(results))], indent=1) + "\n")
