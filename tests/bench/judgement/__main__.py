"""``python -m tests.bench.judgement``: the scenarios by name, seeds from a file, any policy; a table and JSON."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from tests.bench.judgement.ours import POLICY
from tests.bench.judgement.scenarios import BY_NAME, SCENARIOS
from tests.bench.judgement.suite import (
    JUDGES,
    OURS,
    TUNING,
    Case,
    carry_out_all,
    cases_of,
    seeds_of,
    summarise,
    table,
    wrong_end,
)
from tests.bench.judgement.verdicts import Found


def main() -> int:
    """Run what was asked for; 0 whatever was found: limits are for ``make bench``."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.judgement", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="scenario", help="default: all")
    parser.add_argument("--seeds", type=Path, default=TUNING, metavar="FILE", help="one seed a line")
    parser.add_argument("--limit", type=int, default=None, metavar="N", help="only the first N seeds")
    parser.add_argument("--judge", action="append", choices=JUDGES, help="default: all")
    parser.add_argument("--policy", type=Path, default=POLICY, metavar="FILE")
    parser.add_argument("--processes", type=int, default=1, metavar="N")
    parser.add_argument("--json", type=Path, default=None, metavar="FILE", help="every rollout")
    parser.add_argument(
        "--why", action="store_true", help="say of each of our rollouts with the wrong end what ended it"
    )
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in BY_NAME]
    if unknown:
        parser.error(f"no scenario {', '.join(unknown)}; there are {', '.join(BY_NAME)}")
    scenarios = [BY_NAME[name] for name in arguments.names] or list(SCENARIOS)
    seeds = seeds_of(arguments.seeds)[: arguments.limit]
    results: dict[Case, Found] = {}
    for scenario in scenarios:
        cases = cases_of([scenario], seeds, arguments.judge or JUDGES, arguments.policy)
        found = carry_out_all(cases, arguments.processes)
        results |= found
        print(table(summarise(found), heading=scenario is scenarios[0]), flush=True)
        for case, each in found.items():
            if arguments.why and case.judge == OURS and wrong_end(scenario, each):
                print(f"  seed {case.seed}: {each.ended}: {each.why}", flush=True)
    if arguments.json:
        content = [{"scenario": c.scenario, "seed": c.seed, "judge": c.judge, **asdict(f)} for c, f in results.items()]
        arguments.json.write_text(json.dumps(content, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
