"""``modelrollout backtest`` on a real API server and a real Prometheus with two days of history."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from modelrollout.api.base import format_instant
from modelrollout.api.modeldeployment import parse_modeldeployment, revision_name
from modelrollout.render.names import LABEL_DEPLOYMENT
from tests.badspecs import good, merged
from tests.component.apiserver import MERGE, ApiServer, Manifest, programs
from tests.component.prometheus import Prometheus, prometheus
from tests.component.test_crds import deployments, revisions

SCRAPE = 15


class Past:
    """The moments of the history, which ends when the first test of this module begins: not when it was collected."""

    def __init__(self) -> None:
        self.now = now = datetime.now(UTC).replace(second=0, microsecond=0)
        self.begin = now - timedelta(hours=48)
        self.incident = now - timedelta(hours=30), now - timedelta(hours=30) + timedelta(minutes=10)
        self.second = now - timedelta(hours=24)
        """When version 1.1.0 got its first traffic; it was promoted."""
        self.third = now - timedelta(hours=6)
        """When version 1.2.0 got its first traffic; it failed one of ten requests and was rolled back."""
        self.rough = now - timedelta(hours=30)
        self.gaps = (
            (now - timedelta(hours=20), now - timedelta(hours=18)),
            (now - timedelta(hours=9), now - timedelta(hours=9) + timedelta(minutes=10)),
        )
        self.restarts = (now - timedelta(hours=12), now - timedelta(hours=9) + timedelta(minutes=5))
        """When Envoy began anew: once between two scrapes, once unseen in a gap."""
        self.guest = now - timedelta(hours=6), now - timedelta(hours=5)
        """When a second Envoy took half of the requests."""


@cache
def past() -> Past:
    return Past()


STEPS = ((0, 5), (2, 25), (7, 50))
"""Minutes after the first traffic, and percent."""

POLICIES = """
apiVersion: modelrollout.io/v1alpha1
kind: ClusterRolloutPolicy
metadata: {name: house}
spec:
  guards:
  - {name: errors, sli: error-ratio, max: 0.05, minSamples: 20}
  - {name: sure, sli: error-ratio, max: 0.05, confidence: 0.999, minSamples: 20}
  - {name: more-errors, sli: error-ratio, relativeTo: stable}
  - {name: latency, sli: latency-p99, max: 0.5}
  - {name: business, query: 'sum(orders_total{revision="$revision"})', min: 1, onBreach: Pause}
"""


@dataclass
class Arm:
    """The counters of one slot at one Envoy."""

    cluster: str
    counts: dict[tuple[tuple[str, str], ...], float] = field(default_factory=dict)

    def serve(self, requests: float, failed: float) -> None:
        for name, count, more in (
            ("upstream_rq_total", requests, {}),
            ("upstream_rq_completed", requests, {}),
            ("upstream_rq_xx", failed, {"envoy_response_code_class": "5"}),
            ("upstream_rq_time_bucket", 0.98 * requests, {"le": "25"}),
            ("upstream_rq_time_bucket", requests, {"le": "100"}),
            ("upstream_rq_time_bucket", requests, {"le": "+Inf"}),
        ):
            labels = {"__name__": f"envoy_cluster_{name}", "envoy_cluster_name": self.cluster, **more}
            key = tuple(sorted(labels.items()))
            self.counts[key] = self.counts.get(key, 0.0) + count


def history(namespace: str) -> dict[tuple[tuple[str, str], ...], list[tuple[float, float]]]:
    """Envoy's counters of 100 requests a second, as they were scraped."""
    place = (("instance", "10.0.0.1:19001"), ("job", "gateway"))
    arms = [Arm(f"httproute/{namespace}/digits/rule/0/backend/{slot}") for slot in (0, 1)]
    found: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
    for number in range(int((past().now - past().begin).total_seconds()) // SCRAPE + 1):
        at = past().begin + timedelta(seconds=number * SCRAPE)
        world = 0.08 if past().incident[0] <= at < past().incident[1] else 0.001
        share = shares(at)
        for slot, arm in enumerate(arms):
            ill = 0.1 if slot == 0 and at >= past().third else world
            if share[slot]:
                arm.serve(100 * SCRAPE * share[slot], 100 * SCRAPE * share[slot] * ill)
        uptime: tuple[tuple[str, str], ...] = (("__name__", "envoy_server_uptime"),)
        samples = {uptime: float(number * SCRAPE)}
        samples |= {key: value for arm in arms for key, value in arm.counts.items()}
        for key, value in samples.items():
            found.setdefault((*key, *place), []).append((at.timestamp(), value))
    return found


def shares(at: datetime) -> tuple[float, float]:
    """What each slot gets: 1.0.0 has slot 0, 1.1.0 slot 1, and 1.2.0 slot 0 again."""
    for begin, new in ((past().third, 0), (past().second, 1)):
        minutes = (at - begin).total_seconds() / 60
        if minutes < 0:
            continue
        if new == 0 and minutes >= 6:
            return (0.0, 1.0)
        given = 1.0 if minutes >= 12 else max(percent for since, percent in STEPS if since <= minutes) / 100
        return (given, 1 - given) if new == 0 else (1 - given, given)
    return (1.0, 0.0)


@dataclass
class Bench:
    api: ApiServer
    namespace: str
    server: Prometheus
    folder: Path

    def run(self, *arguments: str, where: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "modelrollout", "backtest", f"--kubeconfig={self.api.kubeconfig}"]
        command += [f"--deployment={where or self.namespace}/digits", f"--prometheus={self.server.url}", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)


def decisions(begin: datetime, steps: tuple[tuple[int, int], ...], end: str, minutes: int) -> list[Manifest]:
    entries = [
        {"at": format_instant(begin + timedelta(minutes=since)), "decision": "Step", "weight": weight}
        for since, weight in steps
    ]
    entries.append({"at": format_instant(begin + timedelta(minutes=minutes)), "decision": end, "weight": 100})
    return entries[::-1]


def record(api: ApiServer, namespace: str, version: str, slot: int, attempt: Manifest) -> str:
    """A ModelRevision with one attempt."""
    spec = merged(good(), {"spec": {"model": {"version": version}}})
    name = revision_name("digits", parse_modeldeployment(spec).spec)
    body = {
        "apiVersion": "modelrollout.io/v1alpha1",
        "kind": "ModelRevision",
        "metadata": {"name": name, "labels": {LABEL_DEPLOYMENT: "digits"}},
        "spec": {
            "modelDeployment": "digits",
            "version": version,
            "model": merged(spec["spec"]["model"], {"name": "digits"}),
        },
    }
    made = api.request("POST", revisions(namespace), body, fieldValidation="Strict")
    assert made.code == 201, made.message
    status = {"status": {"outcome": attempt["outcome"], "slot": slot, "attempts": [attempt]}}
    done = api.request("PATCH", f"{revisions(namespace)}/{name}/status", status, MERGE, fieldValidation="Strict")
    assert done.code == 200, done.message
    return name


@pytest.fixture(scope="module")
def bench(api: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder, namespace = tmp_path_factory.mktemp("backtest"), "test-backtest"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    assert api.request("POST", "/api/v1/namespaces", body).code == 201
    current = merged(good(), {"spec": {"model": {"version": "1.1.0"}}})
    assert api.request("POST", deployments(namespace), current).code == 201
    first = {
        "attempt": 1,
        "outcome": "Promoted",
        "reason": "FirstDeployment",
        "finishedAt": format_instant(past().begin),
    }
    record(api, namespace, "1.0.0", 0, first)
    promoted = past().second + timedelta(minutes=22)
    second = {"attempt": 2, "outcome": "Promoted", "reason": "Promoted", "finishedAt": format_instant(promoted)}
    serving = record(
        api, namespace, "1.1.0", 1, {**second, "decisions": decisions(past().second, STEPS, "Promote", 12)}
    )
    third = {"attempt": 3, "outcome": "RolledBack", "reason": "GuardBreached"}
    third |= {"finishedAt": format_instant(past().third + timedelta(minutes=6))}
    record(api, namespace, "1.2.0", 0, {**third, "decisions": decisions(past().third, STEPS[:2], "RollBack", 6)})
    status = {"revisions": {"desired": serving, "stable": serving}, "phase": "Idle"}
    path = f"{deployments(namespace)}/digits/status"
    assert api.request("PATCH", path, {"status": status}, MERGE).code == 200
    with prometheus(programs(), folder) as server:
        samples = history(namespace)
        for start in range(0, len(next(iter(samples.values()))), 4000):
            server.write((dict(key), one[start : start + 4000]) for key, one in samples.items())
        (folder / "policies.yaml").write_text(POLICIES)
        yield Bench(api, namespace, server, folder)


def test_two_days_are_replayed(bench: Bench) -> None:
    done = bench.run("--against=48h", "-f", str(bench.folder / "policies.yaml"), "-o", "json")
    assert done.returncode == 3, done.stderr
    (report,) = json.loads(done.stdout)
    found: dict[str, Any] = {guard["name"]: guard for guard in report["guards"]}
    assert report["rolloutSeconds"] == 22 * 60

    errors = found["errors"]["served"]
    assert errors["rollouts"] >= 120
    assert errors["fired"] in (1, 2), "the incident lies in one rollout, or in two"
    assert past().incident[0] < moment(errors["first"]) <= past().incident[0] + timedelta(minutes=2)
    assert abs(moment(errors["last"]) - past().incident[1]) <= timedelta(minutes=1)
    assert errors["worst"]["value"] == pytest.approx(0.08, abs=0.01)
    assert errors["breaches"] == pytest.approx(10, abs=1)
    assert errors["noDataShare"] < 0.02
    assert found["sure"]["served"]["fired"] in (1, 2)
    assert found["latency"]["served"]["fired"] == 0
    assert found["latency"]["served"]["worst"]["value"] <= 0.1
    assert found["business"]["served"]["noDataShare"] == 1
    assert found["more-errors"]["served"] is None

    verdicts = {
        name: {rollout["rollout"].rpartition(": ")[2]: bool(rollout["fired"]) for rollout in guard["recorded"]}
        for name, guard in found.items()
    }
    for name in ("errors", "sure", "more-errors"):
        assert verdicts[name] == {"Promoted": False, "RolledBack": True}, name
    assert verdicts["latency"] == {"Promoted": False, "RolledBack": False}


def moment(document: Manifest) -> datetime:
    return datetime.fromisoformat(document["at"])


def test_it_is_told_in_words(bench: Bench) -> None:
    done = bench.run("--against=1d", "--step=5m", "-f", str(bench.folder / "policies.yaml"))
    assert done.returncode == 0, done.stderr + done.stdout
    assert "errors  error-ratio over 1m  <= 0.05  Rollback  of ClusterRolloutPolicy house" in done.stdout
    assert "fires in none of" in done.stdout
    assert "compares two revisions: replayed in the rollouts on record only" in done.stdout
    assert "attempt 3: RolledBack: fires" in done.stdout


def test_the_guards_that_it_has_are_replayed_where_no_file_is_given(bench: Bench) -> None:
    done = bench.run("--against=40h", "-o", "json")
    assert done.returncode == 3, done.stderr
    (report,) = json.loads(done.stdout)
    assert [(guard["name"], guard["threshold"]) for guard in report["guards"]] == [("errors", "<= 0.01")]


def test_wrong_usage_and_what_cannot_be_asked(bench: Bench) -> None:
    policies = str(bench.folder / "policies.yaml")
    bad = bench.folder / "bad.yaml"
    bad.write_text(POLICIES.replace("max: 0.5}", "max: 500}"))
    for arguments, code, words in (
        (("--against=14days",), 2, "give a time like 14d, 1d12h or 90m"),
        (("--against=-14d",), 2, "give a time like 14d, 1d12h or 90m"),
        (("--against=1d12",), 2, "give a time like 14d, 1d12h or 90m"),
        (("--against=2m",), 2, "--against 2m: must be at least 10 times --step"),
        (("--against=2000d", "--step=10s"), 2, "that would be 17280000 evaluations of each guard, at most 50000 are"),
        (("--against=40h", "--step=1s"), 2, "--step must be from 5s to 1h"),
        (("--against=40h", "-f", str(bad)), 6, "ClusterRolloutPolicy house: spec.guards[3]: the max of a latency"),
        (("--against=40h", "-f", policies, "--prometheus=http://127.0.0.1:9"), 1, "Prometheus cannot be reached"),
        (("--against=40h", "--deployment=nowhere/x"), 1, "there is no ModelDeployment nowhere/x"),
    ):
        done = bench.run(*arguments)
        assert (done.returncode, words in done.stderr) == (code, True), done.stderr


def rough(namespace: str) -> dict[tuple[tuple[str, str], ...], list[tuple[float, float]]]:
    """Counters of a good model with 0.1 % errors, at ten requests a second, on a rough road."""
    cluster = f"httproute/{namespace}/digits/rule/0/backend/0"
    envoys = {"10.0.1.1:19001": Arm(cluster), "10.0.1.2:19001": Arm(cluster)}
    born = dict.fromkeys(envoys, past().rough)
    found: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
    for number in range(int((past().now - past().rough).total_seconds()) // SCRAPE + 1):
        at = past().rough + timedelta(seconds=number * SCRAPE)
        guest = past().guest[0] <= at < past().guest[1]
        if at in past().restarts:
            envoys["10.0.1.1:19001"], born["10.0.1.1:19001"] = Arm(cluster), at
        if at == past().guest[0]:
            born["10.0.1.2:19001"] = at
        for instance in [*envoys][: 2 if guest else 1]:
            arm, share = envoys[instance], 0.5 if guest else 1
            arm.serve(10 * SCRAPE * share, 10 * SCRAPE * share * 0.001)
            if any(begin <= at < end for begin, end in past().gaps) or number % 37 == 0:
                continue
            samples = {(("__name__", "envoy_server_uptime"),): (at - born[instance]).total_seconds()} | arm.counts
            for key, value in samples.items():
                labels = (*key, ("instance", instance), ("job", "gateway"))
                found.setdefault(labels, []).append((at.timestamp(), value))
    return found


def test_gaps_and_restarts_take_no_good_model_back(bench: Bench) -> None:
    """Of a month with 30 hours of history: the time before it and the gaps are no data, and nothing fires."""
    namespace = "test-backtest-rough"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    assert bench.api.request("POST", "/api/v1/namespaces", body).code == 201
    assert bench.api.request("POST", deployments(namespace), good()).code == 201
    first = {
        "attempt": 1,
        "outcome": "Promoted",
        "reason": "FirstDeployment",
        "finishedAt": format_instant(past().begin),
    }
    name = record(bench.api, namespace, "1.4.0", 0, first)
    path = f"{deployments(namespace)}/digits/status"
    status = {"revisions": {"desired": name, "stable": name}, "phase": "Idle"}
    assert bench.api.request("PATCH", path, {"status": status}, MERGE).code == 200
    bench.server.write((dict(key), one) for key, one in rough(namespace).items())
    done = bench.run("--against=30d", "-f", str(bench.folder / "policies.yaml"), "-o", "json", where=namespace)
    assert done.returncode == 0, done.stderr + done.stdout
    (report,) = json.loads(done.stdout)
    found = {guard["name"]: guard["served"] for guard in report["guards"]}
    (note,) = report["notes"]
    assert note.startswith("who served before")
    # The tests before this one took their time.
    since = datetime.now(UTC) - past().now
    silent = (past().rough - past().begin + sum((end - begin for begin, end in past().gaps), since)) / (
        past().now + since - past().begin
    )
    whole = (past().now + since - past().begin) // timedelta(minutes=22)
    for guard in ("errors", "sure", "latency"):
        assert found[guard]["fired"] == 0
        assert whole - 1 <= found[guard]["rollouts"] <= whole
        assert (found[guard]["noDataShare"], found[guard]["unreadShare"]) == (pytest.approx(silent, abs=0.01), 0)
    for guard, most in (("errors", 0.0015), ("latency", 0.1)):
        assert 0 < found[guard]["worst"]["value"] < most


def test_one_that_cannot_be_replayed_is_told_beside_the_others(bench: Bench) -> None:
    """By its own namespace: two ModelDeployments of one name, and policies that name none."""
    namespace = "test-backtest-other"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    assert bench.api.request("POST", "/api/v1/namespaces", body).code == 201
    lost = merged(good(), {"spec": {"rollout": {"selectedPolicies": True, "guards": None}}})
    assert bench.api.request("POST", deployments(namespace), lost).code == 201
    both = bench.run("--against=40h", "--step=10m", f"--deployment={namespace}/digits")
    assert both.returncode == 6, both.stderr
    assert f"ModelDeployment {namespace}/digits" in both.stdout
    assert "✖  rollout.selectedPolicies is true, and no policy gives it a guard by its labels" in both.stdout
    assert "errors  error-ratio over 1m  <= 0.01  Rollback" in both.stdout

    team = bench.folder / "team.yaml"
    team.write_text(POLICIES.replace("ClusterRolloutPolicy", "RolloutPolicy").replace("name: errors", "name: team"))
    done = bench.run("--against=40h", "--step=10m", "-f", str(team))
    assert "of RolloutPolicy house" in done.stdout, done.stderr
    done = bench.run("--against=40h", "--step=10m", "-f", str(team), f"--namespace={namespace}")
    assert "no policy of the files has a guard for it" in done.stdout, done.stderr

    wished = bench.folder / "wished.yaml"
    places = {"test-backtest": 0.3, namespace: 0.4}
    wished.write_text(
        yaml.safe_dump_all(
            merged(
                good(),
                {
                    "metadata": {"namespace": place},
                    "spec": {"rollout": {"guards": [{"name": "e", "sli": "error-ratio", "max": most}]}},
                },
            )
            for place, most in places.items()
        )
    )
    done = bench.run("--against=40h", "--step=10m", "-f", str(wished), "-o", "json", f"--deployment={namespace}/digits")
    told = {report["namespace"]: report["guards"][0]["threshold"] for report in json.loads(done.stdout)}
    assert told == {"test-backtest": "<= 0.3", namespace: "<= 0.4"}
