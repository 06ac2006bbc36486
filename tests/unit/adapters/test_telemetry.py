"""The operator's own metrics, as Prometheus reads them, and its health."""

from __future__ import annotations

import asyncio
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from modelrollout.adapters.clock import SystemClock
from modelrollout.api.guard import Guard
from modelrollout.api.status import (
    Condition,
    ConditionStatus,
    DriftStatus,
    GuardStatus,
    ModelDeploymentStatus,
    Phase,
    RolloutStatus,
    TrafficStatus,
    Verdict,
)
from modelrollout.rollout.observed import Evaluation, GuardResult
from modelrollout.telemetry import Telemetry

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def series(telemetry: Telemetry, name: str) -> dict[tuple[str, ...], float]:
    """Label values (in the order of their names) to value, of one metric."""
    text = generate_latest(telemetry.registry).decode()
    return {
        tuple(sample.labels[key] for key in sorted(sample.labels)): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


def status(phase: Phase, *weights: tuple[str, float], reason: str = "") -> ModelDeploymentStatus:
    traffic = tuple(
        TrafficStatus(revision=revision, slot=slot, weight=weight) for slot, (revision, weight) in enumerate(weights)
    )
    return ModelDeploymentStatus(phase=phase, traffic=traffic, rollout=RolloutStatus(reason=reason))


def test_series_of_a_modeldeployment_follow_what_is_observed() -> None:
    telemetry = Telemetry()
    telemetry.observe("demo", "digits", status(Phase.PROGRESSING, ("digits-a", 95.0), ("digits-b", 5.0)))
    assert series(telemetry, "modelrollout_phase") == {("digits", "demo", "Progressing"): 1}
    assert series(telemetry, "modelrollout_weight") == {
        ("digits", "demo", "digits-a"): 0.95,
        ("digits", "demo", "digits-b"): 0.05,
    }
    telemetry.observe("demo", "digits", status(Phase.IDLE, ("digits-b", 100.0), ("digits-b", 0.0)))
    assert series(telemetry, "modelrollout_phase") == {("digits", "demo", "Idle"): 1}
    assert series(telemetry, "modelrollout_weight") == {("digits", "demo", "digits-b"): 1.0}


def test_conditions_are_one_or_zero_by_their_reason_and_gone_with_the_condition() -> None:
    telemetry = Telemetry()
    conditions = (
        Condition(type="Observed", status=ConditionStatus.FALSE, reason="NotCopied"),
        Condition(type="Ready", status=ConditionStatus.TRUE, reason="AllPodsReady"),
        Condition(type="Odd", status=ConditionStatus.UNKNOWN, reason="Nobody"),
    )
    telemetry.observe("demo", "digits", status(Phase.IDLE).model_copy(update={"conditions": conditions}))
    assert series(telemetry, "modelrollout_condition") == {
        ("Observed", "digits", "demo", "NotCopied"): 0,
        ("Ready", "digits", "demo", "AllPodsReady"): 1,
    }
    telemetry.observe("demo", "digits", status(Phase.IDLE))
    assert series(telemetry, "modelrollout_condition") == {}


def test_guards_come_from_the_evaluation_and_else_from_the_status() -> None:
    telemetry = Telemetry()
    results = (
        GuardResult("errors", Verdict.BREACH, NOW, value=0.25),
        GuardResult("drift", Verdict.NO_DATA, NOW),
    )
    telemetry.observe("demo", "digits", status(Phase.PROGRESSING), Evaluation(1, "digits-b", NOW, results))
    assert series(telemetry, "modelrollout_guard_value") == {("errors", "digits", "demo"): 0.25}
    assert series(telemetry, "modelrollout_guard_verdict") == {
        ("errors", "digits", "demo", "Breach"): 1,
        ("drift", "digits", "demo", "NoData"): 1,
    }
    kept = GuardStatus(name="errors", verdict=Verdict.PASS, value=0.0)
    telemetry.observe(
        "demo", "digits", ModelDeploymentStatus(phase=Phase.PROGRESSING, rollout=RolloutStatus(guards=(kept,)))
    )
    assert series(telemetry, "modelrollout_guard_verdict") == {("errors", "digits", "demo", "Pass"): 1}


def test_a_deleted_modeldeployment_leaves_no_series() -> None:
    telemetry = Telemetry()
    before = generate_latest(telemetry.registry).decode().count("\n")
    for number in range(50):
        telemetry.observe("demo", f"m{number}", status(Phase.IDLE, (f"m{number}-a", 100.0)))
    assert len(series(telemetry, "modelrollout_phase")) == 50
    for number in range(50):
        telemetry.forget("demo", f"m{number}")
    telemetry.forget("demo", "never seen")
    assert generate_latest(telemetry.registry).decode().count("\n") == before


def test_a_rollback_is_counted_once_and_not_again_after_a_restart() -> None:
    telemetry = Telemetry()
    telemetry.observe("demo", "seen-in-the-middle", status(Phase.ROLLING_BACK, reason="GuardBreached"))
    for phase in (Phase.PROGRESSING, Phase.ROLLING_BACK, Phase.ROLLING_BACK, Phase.ROLLED_BACK):
        telemetry.observe("demo", "digits", status(phase, reason="GuardBreached"))
    assert series(telemetry, "modelrollout_rollbacks_total") == {("GuardBreached",): 1}


def test_counters_and_timings() -> None:
    telemetry = Telemetry()
    telemetry.api_request("apply", "Service", "200")
    telemetry.reconcile_failed("Conflict")
    telemetry.provider_failed("default")
    telemetry.queue_depth(3)
    telemetry.queue_wait(0.2)
    telemetry.leading()
    with pytest.raises(RuntimeError), telemetry.reconciling():
        raise RuntimeError
    assert series(telemetry, "modelrollout_api_requests_total") == {("200", "Service", "apply"): 1}
    assert series(telemetry, "modelrollout_reconcile_errors_total") == {("Conflict",): 1}
    assert series(telemetry, "modelrollout_provider_errors_total") == {("default",): 1}
    assert series(telemetry, "modelrollout_queue_depth") == {(): 3}
    assert series(telemetry, "modelrollout_queue_wait_seconds_sum") == {(): 0.2}
    assert series(telemetry, "modelrollout_reconcile_seconds_count") == {(): 1}
    assert series(telemetry, "modelrollout_leader") == {(): 1}
    assert series(telemetry, "modelrollout_last_reconcile_timestamp_seconds")[()] > 0


class Seconds:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
def telemetry(seconds: Seconds) -> Iterator[Telemetry]:
    telemetry = Telemetry(stuck_after=30.0, monotonic=seconds)
    telemetry.serve("127.0.0.1", 0, 0)
    yield telemetry
    telemetry.close()


def get(port: int, path: str) -> tuple[int, str, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return answer.status, answer.read().decode(), answer.headers["Content-Type"]
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), ""


def test_pages(telemetry: Telemetry) -> None:
    (port,) = telemetry.ports
    code, text, content_type = get(port, "/metrics")
    assert code == 200
    assert content_type.startswith("text/plain")
    assert "modelrollout_build_info" in text
    assert get(port, "/secret")[0] == 404


def test_ready_once_the_watches_run(telemetry: Telemetry) -> None:
    (port,) = telemetry.ports
    assert get(port, "/readyz")[:2] == (503, "the watches do not run yet\n")
    telemetry.ready()
    assert get(port, "/readyz")[0] == 200


async def test_health_fails_when_the_event_loop_is_stuck(telemetry: Telemetry, seconds: Seconds) -> None:
    (port,) = telemetry.ports
    telemetry.ready()
    seconds.now = 31.0
    assert get(port, "/healthz")[:2] == (503, "the event loop has not turned for 31 s\n")
    assert get(port, "/readyz")[0] == 503
    beating = asyncio.create_task(telemetry.beat(SystemClock()))
    await asyncio.sleep(0)
    assert get(port, "/healthz")[0] == 200
    beating.cancel()


def test_separate_ports_serve_separate_pages() -> None:
    telemetry = Telemetry()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        health = taken.getsockname()[1]
    telemetry.serve("127.0.0.1", 0, health)
    metrics = telemetry.ports[0]
    assert get(metrics, "/healthz")[0] == 404
    assert get(health, "/healthz")[0] == 200
    assert get(health, "/metrics")[0] == 404
    telemetry.close()
    with pytest.raises(urllib.error.URLError):
        get(health, "/healthz")


def test_an_address_in_use_is_an_error(telemetry: Telemetry) -> None:
    with pytest.raises(OSError, match="in use"):
        Telemetry().serve("127.0.0.1", telemetry.ports[0], telemetry.ports[0])


def test_bounds_samples_confidence_and_drift_are_series() -> None:
    telemetry = Telemetry()
    guards = (
        Guard(name="errors", sli="error-ratio", max=0.05),
        Guard(name="rate", sli="request-rate", min=1.0, max=9.0),
        Guard(name="unseen", sli="error-ratio", max=0.5),
    )
    results = (
        GuardResult("errors", Verdict.PASS, NOW, value=0.01, samples=900.0, confidence=0.25, baseline=0.02),
        GuardResult("rate", Verdict.NO_DATA, NOW),
    )
    drift = (DriftStatus(subject="feature age", sli="input-psi", value=0.31),)
    drifts = Condition(type="DriftDetected", status=ConditionStatus.TRUE)
    seen = status(Phase.IDLE).model_copy(update={"drift": drift, "conditions": (drifts,)})
    telemetry.observe("demo", "digits", seen, Evaluation(1, "digits-b", NOW, results), guards)
    assert series(telemetry, "modelrollout_guard_threshold") == {
        ("max", "errors", "digits", "demo"): 0.05,
        ("min", "rate", "digits", "demo"): 1.0,
        ("max", "rate", "digits", "demo"): 9.0,
    }
    assert series(telemetry, "modelrollout_guard_samples") == {("errors", "digits", "demo"): 900.0}
    assert series(telemetry, "modelrollout_guard_confidence") == {("errors", "digits", "demo"): 0.25}
    assert series(telemetry, "modelrollout_guard_baseline") == {("errors", "digits", "demo"): 0.02}
    assert series(telemetry, "modelrollout_drift") == {("digits", "demo", "input-psi", "feature age"): 0.31}
    assert series(telemetry, "modelrollout_drift_detected") == {("digits", "demo"): 1.0}
    quiet = seen.model_copy(update={"drift": (), "conditions": (drifts.model_copy(update={"status": "False"}),)})
    telemetry.observe("demo", "digits", quiet)
    assert series(telemetry, "modelrollout_drift") == {}
    assert series(telemetry, "modelrollout_drift_detected") == {("digits", "demo"): 0.0}
    telemetry.observe("demo", "digits", status(Phase.IDLE))
    assert series(telemetry, "modelrollout_drift_detected") == {}
