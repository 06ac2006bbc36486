from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from deploy.demo.evidence import ArmCounters, Bound, Samples, increase, quantile, route_writes, write_seen_at

ERRORS = Bound("error-ratio", 0.02, 20, 50)


@pytest.mark.parametrize(
    ("samples", "start", "end", "grown"),
    [
        ([(1, 5.0), (2, 8.0), (3, 9.0)], 1, 3, 4.0),
        ([(1, 5.0), (2, 8.0), (3, 9.0)], 0, 2, 8.0),  # born inside: starts at 0
        ([(1, 5.0), (2, 2.0), (3, 4.0)], 1, 3, 4.0),  # a reset starts again at 0
        ([(1, 5.0)], 1, 3, 0.0),
        ([], 0, 3, 0.0),
    ],
)
def test_increase(samples: list[tuple[float, float]], start: float, end: float, grown: float) -> None:
    assert increase(samples, start, end) == grown


def test_quantile_interpolates_and_stops_at_the_last_finite_bound() -> None:
    infinity = float("inf")
    assert quantile(0.5, [(0.1, 0.0), (0.2, 10.0), (infinity, 10.0)]) == pytest.approx(0.15)
    assert quantile(0.99, [(0.1, 1.0), (0.2, 1.0), (infinity, 10.0)]) == 0.2
    assert quantile(0.99, [(0.1, 0.0), (infinity, 0.0)]) is None
    assert quantile(0.5, []) is None


def counters(errors_from: int) -> ArmCounters:
    """Ten requests a second; from ``errors_from`` on, one of them fails."""
    good = [(float(t), 10.0 * t - max(0, t - errors_from)) for t in range(1, 61)]
    bad = [(float(t), float(t - errors_from)) for t in range(errors_from + 1, 61)]
    return ArmCounters({"2": [good], "5": [bad]}, {})


def test_the_first_breach_needs_enough_samples() -> None:
    assert counters(0).first_breach(ERRORS, 0) == 5.0  # 50 requests, 10 % errors
    assert counters(0).first_breach(Bound("error-ratio", 0.02, 20, 100), 0) == 10.0


def test_the_first_breach_is_where_the_window_crosses_the_bound() -> None:
    # In a window of 20 s with 200 requests, 4 errors are 0.02 (allowed), 5 are more.
    assert counters(30).first_breach(ERRORS, 0) == 35.0
    assert counters(60).first_breach(ERRORS, 0) is None


def test_nothing_before_the_arm_had_weight_counts() -> None:
    value, samples = counters(0).value(ERRORS, 40, 44)
    assert value == pytest.approx(0.1)
    assert samples == 40
    assert counters(0).first_breach(ERRORS, 40) == 45.0


def test_latency_is_judged_by_its_buckets() -> None:
    bound = Bound("latency-p99", 0.25, 20, 10)
    answers: list[Samples] = [[(float(t), 10.0 * t) for t in range(1, 20)]]
    slow: dict[float, list[Samples]] = {
        0.25: [[(float(t), 9.0 * t) for t in range(1, 20)]],
        0.5: answers,
        float("inf"): answers,
    }
    assert ArmCounters({"2": answers}, slow).first_breach(bound, 0) == 1.0
    fast = {0.25: answers, 0.5: answers, float("inf"): answers}
    assert ArmCounters({"2": answers}, fast).first_breach(bound, 0) is None


def test_counters_of_several_proxies_are_added() -> None:
    one = [(float(t), 1.0 * t) for t in range(1, 21)]
    both = ArmCounters({"2": [one, one]}, {})
    assert both.value(ERRORS, 0, 10) == (0.0, 20.0)


def entry(second: int, agent: str = "modelrollout/0.1.0", **changes: Any) -> str:
    stamp = f"2026-11-21T10:00:{second:02d}.100000Z"
    done = f"2026-11-21T10:00:{second:02d}.130000Z"
    where = {"resource": "httproutes", "namespace": "demo", "name": "digits"} | changes.pop("where", {})
    record = {"stage": "ResponseComplete", "verb": "patch", "userAgent": agent, "objectRef": where}
    record |= {"responseStatus": {"code": 200}, "requestReceivedTimestamp": stamp, "stageTimestamp": done}
    return json.dumps(record | changes)


BASE = 1795255200.0  # 2026-11-21T10:00:00Z


def test_the_operators_writes_are_found_in_the_audit_log() -> None:
    lines = [
        entry(1),
        entry(2, agent="envoy-gateway/1"),
        entry(3, where={"name": "other"}),
        entry(4, where={"subresource": "status"}),
        entry(5, verb="get"),
        entry(6, responseStatus={"code": 409}),
        entry(7, stage="RequestReceived"),
        entry(8),
        '{"kind": "Event", "objectRef": {"resource": "httproutes"}, "userAgent": "modelrollout/',
    ]
    found = [round(write.done - BASE, 2) for write in route_writes(lines, "demo", "digits")]
    assert found == [1.13, 8.13]


def test_the_write_belonging_to_what_a_watch_saw(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    log.write_text("\n".join([entry(1), entry(8), entry(12)]) + "\n")
    assert write_seen_at(log, "demo", "digits", BASE + 8.2) == pytest.approx(BASE + 8.13)
    assert write_seen_at(log, "demo", "digits", BASE + 8.12) == pytest.approx(BASE + 8.12)
    assert write_seen_at(None, "demo", "digits", BASE + 8.2) == BASE + 8.2
    log.write_text("")
    assert write_seen_at(log, "demo", "digits", BASE + 8.2) == BASE + 8.2
