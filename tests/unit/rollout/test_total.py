"""decide answers to everything: any status that the API server can hold, whatever is observed, by every strategy."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from modelrollout.api.modeldeployment import ModelDeployment
from modelrollout.api.status import Outcome, Phase, Verdict, status_from, status_to_dict
from modelrollout.api.strategies import Strategy
from modelrollout.rollout.decide import decide
from modelrollout.rollout.observed import (
    Backend,
    Evaluation,
    Gate,
    GateState,
    GuardResult,
    Observed,
    Probe,
    Route,
    Workload,
)
from modelrollout.rollout.plan import ARMED, WHOLE, Source
from modelrollout.rollout.record import guards_digest
from modelrollout.rollout.situation import Situation
from tests.builders import ERRORS, START, modeldeployment, name_of
from tests.unit.rollout.courses import COURSES

NAMES = (name_of("1.0.0"), name_of("2.0.0"), name_of("3.0.0"), "nonsense", "")
NOW = START + timedelta(hours=1)

names = st.sampled_from(NAMES)
numbers = st.one_of(
    st.sampled_from([0, 0.0, -1, 5, 10.0, 25, 50, 99.9, 100, 250, 1e308, -1e308, 1e-12]), st.floats(0, 100)
)
counts = st.one_of(st.integers(-3, 25), st.sampled_from([99, -99, 2**63, -(2**63)]))
moments = st.one_of(
    st.sampled_from(["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00", "yesterday", 7]),
    st.datetimes(datetime(2025, 12, 31), datetime(2026, 1, 2), timezones=st.just(UTC)).map(lambda at: at.isoformat()),
)
flags = st.booleans()
words = st.sampled_from(["", "GuardPaused", "NoData", "ApprovalStep", "StepsLowered", "Superseded", "x" * 2000, "\n"])

attempts = st.fixed_dictionaries(
    {"attempt": counts, "revision": names},
    optional={
        "strategy": st.sampled_from([*map(str, Strategy), "", "Dance"]),
        "fastTrack": flags,
        "insteadOf": names,
        "startedAt": moments,
        "step": counts,
        "steps": counts,
        "weight": numbers,
        "ramp": numbers,
        "stepStartedAt": moments,
        "stepEndsAt": moments,
        "waitingSince": moments,
        "trafficStartedAt": moments,
        "approved": flags,
        "full": flags,
        "skip": flags,
        "setbacks": counts,
        "reason": words,
        "message": words,
        "outcome": st.sampled_from([*map(str, Outcome), "Lost"]),
        "guards": st.just([{"name": "errors", "verdict": "Pass"}]),
    },
)
traffic = st.lists(
    st.fixed_dictionaries({"revision": names, "slot": st.integers(-1, 2), "weight": numbers}), max_size=3
)
statuses = st.fixed_dictionaries(
    {},
    optional={
        "observedGeneration": counts,
        "phase": st.sampled_from([*map(str, Phase), "Dancing", 3]),
        "message": words,
        "revisions": st.fixed_dictionaries(
            {}, optional={"desired": names, "stable": names, "candidate": names, "lastGood": names}
        ),
        "traffic": traffic,
        "rollout": st.one_of(attempts, st.just("none")),
        "quarantined": st.lists(names, max_size=25),
        "history": st.lists(
            st.fixed_dictionaries(
                {"attempt": counts, "revision": names, "outcome": st.sampled_from([*map(str, Outcome)])}
            ),
            max_size=12,
        ),
        "handledCommand": st.sampled_from(["promote/1", "x"]),
        "paused": flags,
        "commands": st.just([{"command": "pause", "at": "2026-01-01T00:00:00Z"}]),
    },
)


@st.composite
def wishes(draw: st.DrawFn) -> ModelDeployment:
    spec = dict(draw(st.sampled_from(list(COURSES.values()))))
    spec["replicas"] = draw(st.sampled_from([spec.get("replicas", 2), 0, 3]))
    verbs = (
        "promote",
        "promote:full",
        "abort",
        "pause",
        "resume",
        "retry",
        "skip-step",
        "rollback",
        "dance",
        "",
        ":/@",
    )
    command = draw(st.one_of(st.none(), st.sampled_from(verbs).map(lambda verb: f"{verb}/7@anna")))
    on_breach = draw(st.sampled_from(["Rollback", "Pause", "Warn"]))
    if "guards" not in spec:
        spec["guards"] = ({**ERRORS, "onBreach": on_breach},)
    return modeldeployment(draw(st.sampled_from(["1.0.0", "2.0.0", "3.0.0"])), **spec, command=command)


@st.composite
def sights(draw: st.DrawFn) -> Observed:
    known = NAMES[:3]
    workloads = {
        name: Workload(
            name, draw(st.one_of(st.none(), st.integers(0, 4))), draw(st.integers(0, 4)), addressed=draw(flags)
        )
        for name in draw(st.sets(st.sampled_from(known)))
    }
    route = Route()
    if draw(flags):
        pair = [draw(st.sampled_from(known)), draw(st.sampled_from(known))]
        weight = draw(st.sampled_from([0, ARMED, 100_000, 250_000, WHOLE - ARMED, WHOLE]))
        shares = {pair[0]: WHOLE - weight}
        shares[pair[1]] = shares.get(pair[1], 0) + weight
        backends = (Backend(pair[0], WHOLE - weight), Backend(pair[1], weight))
        accepted = draw(flags)
        route = Route(
            backends if draw(st.integers(0, 5)) else None,
            shares,
            dict.fromkeys(shares, 0) if draw(st.integers(0, 4)) == 0 else shares,
            "token",
            accepted,
            accepted_since=NOW - timedelta(seconds=draw(st.integers(-3, 3))) if accepted else None,
            mirror=(pair[1], 100_000) if draw(st.integers(0, 3)) == 0 else None,
            split=pair[1] if draw(st.integers(0, 3)) == 0 else None,
            probed=draw(flags),
        )
    revision = draw(names)
    at = NOW - timedelta(seconds=draw(st.integers(-5, 300)))
    result = GuardResult("errors", draw(st.sampled_from(list(Verdict))), at, draw(st.floats()), "<= 1")
    evaluation = Evaluation(draw(st.integers(0, 3)), revision, at, (result,), draw(st.sampled_from(list(Source))))
    return Observed(
        workloads=workloads,
        route=route,
        probe=Probe("token", frozenset(draw(st.sets(names)))),
        gates={name: Gate(name, draw(st.sampled_from(list(GateState))), "", NOW) for name in known},
        evaluation=evaluation if draw(flags) else None,
        problem="no pool" if draw(st.integers(0, 9)) == 0 else None,
        records=tuple(draw(st.lists(st.sampled_from(known), unique=True))),
        known_good=frozenset(draw(st.sets(st.sampled_from(known)))),
        models={name: ("digits", f"{number}.0.0") for number, name in enumerate(known, start=1)},
    )


@settings(max_examples=200, deadline=None)
@given(wish=wishes(), raw=statuses, observed=sights(), trial=flags)
def test_every_decision_is_an_answer(
    wish: ModelDeployment, raw: dict[str, Any], observed: Observed, trial: bool
) -> None:
    if trial and observed.evaluation is not None:
        digest = guards_digest(Situation(wish, "", status_from(raw), observed, NOW))
        observed = replace(observed, evaluation=replace(observed.evaluation, digest=digest))
    plan = decide(wish, status_from(raw), observed, NOW)
    written = status_to_dict(plan.status)
    assert status_from(written) == status_from(status_to_dict(status_from(written)))
    if plan.route is not None:
        assert sum(slot.weight for slot in plan.route.slots) == WHOLE
        assert all(slot.weight >= 0 for slot in plan.route.slots)
        assert all(slot.weight == 0 for slot in plan.route.slots if slot.revision is None)
    assert all(each.replicas >= 0 for each in plan.workloads)
    assert not {each.revision for each in plan.workloads} & set(plan.retire)
