"""``modelrollout slis``: every SLI with what people need to choose it, and a document for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from modelrollout import cli
from modelrollout.cli.slis import PROFILES
from modelrollout.evidence.listing import listed
from modelrollout.evidence.queried import queried
from modelrollout.settings import GatewayProfile


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, ["slis", *arguments])


def test_the_profiles_are_those_of_the_settings() -> None:
    assert set(PROFILES) == set(GatewayProfile)


@pytest.mark.parametrize("profile", PROFILES)
def test_every_sli_has_a_line(profile: str) -> None:
    result = run("--gateway", profile)
    assert result.exit_code == 0
    for one in listed(profile):
        line = next(line for line in result.output.splitlines() if line.startswith(f"{one.name} "))
        if one.absent:
            assert f"not there: {one.absent}" in line
        else:
            assert line.split()[1:3] == [one.unit, one.worse]
            assert line.endswith(one.description)


def test_a_document_has_what_a_program_needs() -> None:
    found = {one["name"]: one for one in json.loads(run("-o", "json").output)}
    assert {"error-ratio", "latency-p99", *queried()} <= set(found)
    drift = found["input-psi"]
    assert (drift["unit"], drift["worse"], drift["scope"], drift["subject"]) == ("index", "higher", "inputs", "feature")
    assert [found[name]["scope"] for name in ("label-flips", "answer-differences")] == ["candidate"] * 2
    assert {found[name]["scope"] for name in ("output-psi", "accuracy", "error-ratio")} == {"arm"}
    assert drift["requires"] == ["spec.observation.profile"]
    assert drift["needs"] == ['modelrollout_observer_feature_total{modeldeployment="$name"}']
    assert drift["queries"]["value"] == queried()["input-psi"].query
    assert found["error-ratio"]["clusters"]["http"]["Weighted"] == ["httproute/$namespace/$name/rule/0/backend/$slot"]
    assert found["error-ratio"]["blind"]["grpc"]["Mirror"].startswith("Envoy does not count")


def test_one_sli_with_its_queries() -> None:
    result = run("--name", "triton-failure-ratio")
    assert result.exit_code == 0
    assert 'growth(nv_inference_request_failure{pod=~"$pods",$where})' in result.output
    assert "growth(x) is (last(x) - before(x) >= 0 or last(x))" in result.output
    wrong = run("--name", "triton-failures")
    assert wrong.exit_code == 2
    assert "did you mean triton-failure-ratio" in wrong.output


POLICIES = """
apiVersion: modelrollout.io/v1alpha1
kind: RolloutPolicy
metadata: {name: ours}
spec:
  slis:
  - {name: price, unit: eur, direction: LowerIsWorse, query: 'avg(price{$where})', samples: sum(n)}
  - {name: latency-p99, unit: s, query: max(slowest)}
"""


def test_slis_of_policies_go_before_those_of_the_catalogs(tmp_path: Path) -> None:
    path = tmp_path / "policies.yaml"
    path.write_text(POLICIES)
    found = {one["name"]: one for one in json.loads(run("-f", str(path), "-o", "json").output)}
    assert (found["price"]["origin"], found["price"]["worse"]) == ("RolloutPolicy ours", "lower")
    assert found["latency-p99"]["queries"] == {"value": "max(slowest)"}
    assert set(found) == {"price", *(one.name for one in listed(PROFILES[0]))}
    told = run("-f", str(path)).output
    assert told.startswith("RolloutPolicy ours\n")
    assert sum(line.startswith("latency-p99 ") for line in told.splitlines()) == 1
    assert "sum(n)" in run("-f", str(path), "--name", "price").output


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (POLICIES.replace("max(slowest)", "max(slowest"), "sli latency-p99: the query does not parse"),
        ("kind: ConfigMap", "no policy in it has an SLI"),
    ],
)
def test_policies_that_cannot_be_listed_are_told(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "policies.yaml"
    path.write_text(text)
    result = run("-f", str(path))
    assert (result.exit_code, says in result.output) == (6, True), result.output
