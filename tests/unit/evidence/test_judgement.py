"""The default policy by the judgement suite (tests/bench/judgement): as many of its rollouts as fit a test.

`make bench` carries out a thousand good ones; of the seeds here no good one may be taken back, and no bad one kept.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from tests.bench.judgement.ours import POLICY
from tests.bench.judgement.scenarios import BY_NAME, SCENARIOS, Label
from tests.bench.judgement.suite import (
    JUDGES,
    OURS,
    TUNING,
    Case,
    carry_out_all,
    cases_of,
    exposure,
    seeds_of,
    wrong_end,
)
from tests.bench.judgement.verdicts import Ended, Found

GOOD = [scenario.name for scenario in SCENARIOS if scenario.label is Label.GOOD]
BAD = [scenario.name for scenario in SCENARIOS if scenario.label is Label.BAD]
SHORT_BAKE = 60.0


def carried_out(
    names: Sequence[str], seeds: int, judges: Sequence[str] = (OURS,), policy: Path = POLICY
) -> dict[Case, Found]:
    scenarios = [BY_NAME[name] for name in names]
    return carry_out_all(cases_of(scenarios, seeds_of(TUNING)[:seeds], judges, policy, SHORT_BAKE))


def wrong(results: dict[Case, Found]) -> list[str]:
    return [
        f"{case.scenario}, seed {case.seed}: {found.ended}: {found.why}"
        for case, found in results.items()
        if wrong_end(BY_NAME[case.scenario], found)
    ]


@pytest.mark.parametrize("name", GOOD)
def test_no_good_candidate_is_taken_back(name: str) -> None:
    results = carried_out([name], 2)
    assert not wrong(results)
    if name != "low traffic":
        assert {found.ended for found in results.values()} == {Ended.PROMOTED}, "and nobody had to be asked"


@pytest.mark.parametrize("name", BAD)
def test_every_bad_candidate_is_taken_back(name: str) -> None:
    assert not wrong(carried_out([name], 3))


@pytest.mark.parametrize("name", ["errors +5", "bad pod: fails", "bad slice", "slow leak"])
def test_users_meet_less_than_half_of_what_the_peers_show_them(name: str) -> None:
    results = carried_out([name], 3, JUDGES)
    exposed = {
        judge: statistics.median(exposure(found) for case, found in results.items() if case.judge == judge)
        for judge in JUDGES
    }
    assert exposed[OURS] <= 0.5 * min(number for judge, number in exposed.items() if judge != OURS), exposed


def policy(folder: Path, *guards: dict[str, object]) -> Path:
    file = folder / "policy.yaml"
    file.write_text(yaml.safe_dump({"spec": {"guards": list(guards)}}))
    return file


def test_a_policy_that_takes_noise_for_harm_is_found_out(tmp_path: Path) -> None:
    nervous = policy(tmp_path, {"name": "errors", "sli": "error-ratio", "max": 0.006, "window": "1m"})
    assert wrong(carried_out(["noise", "error bursts"], 3, policy=nervous))


def test_a_policy_that_sees_nothing_is_found_out(tmp_path: Path) -> None:
    blind = policy(tmp_path, {"name": "errors", "sli": "error-ratio", "max": 0.5, "window": "1m"})
    assert len(wrong(carried_out(["errors +5", "latency +50 %"], 2, policy=blind))) == 4
