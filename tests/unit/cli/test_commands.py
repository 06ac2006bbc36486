"""The commands as they are called: names, help, completion, exit codes, and what they must not import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from modelrollout import cli
from modelrollout.cli import completion, reading
from modelrollout.cli.options import Place
from modelrollout.cli.view.snapshot import COMMAND
from modelrollout.ports import ConflictError, DeniedError, TransientError
from tests.unit.cli.cases import load

FOR_PEOPLE = [name for name, entry in cli.COMMANDS.items() if entry.section in cli.PluginGroup.sections]


class Cluster:
    """What stands in for a cluster: objects by kind, and an operator that handles every command at once."""

    namespace = "demo"
    server = "https://cluster"

    def __init__(self, operator: bool = True, denied: tuple[str, ...] = (), accepts: bool = True) -> None:
        content = load("canary-step")
        self.objects: dict[str, list[dict[str, Any]]] = {
            "ModelDeployment": [content["deployment"]],
            "ModelRevision": content["records"],
            "Deployment": content["workloads"],
            "Pod": content["pods"],
        }
        self.operator, self.denied, self.accepts = operator, denied, accepts
        self.now_text = content["now"]

    def now(self) -> Any:
        from datetime import datetime

        return datetime.fromisoformat(self.now_text)

    def get(self, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        found = self.objects[kind] if namespace == "demo" else []
        return next((item for item in found if item["metadata"]["name"] == name), None)

    def list_objects(self, kind: str, namespace: str | None, selector: str = "", field: str = "") -> Any:
        if kind in self.denied:
            raise DeniedError(f"not allowed to list {kind.lower()}s: grant it to anna")
        return ([] if namespace not in ("demo", None) else self.objects.get(kind, [])), "1"

    def merge_patch(self, kind: str, namespace: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
        found = self.get(kind, namespace, name)
        if found is None:
            raise ConflictError("gone")
        value = body["metadata"]["annotations"][COMMAND]
        found["metadata"].setdefault("annotations", {})[COMMAND] = value
        if self.operator:
            wish, _, rest = value.partition("/")
            record = {"command": wish, "by": rest.partition("@")[2], "accepted": self.accepts, "message": "so it is"}
            found["status"].update(handledCommand=value, commands=[record])
        return found

    def watch(self, *_: object, **__: object) -> Iterator[tuple[str, dict[str, Any]]]:
        yield from ()

    def whoami(self) -> str:
        return "anna"


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    found = Cluster()
    connect(monkeypatch, found)
    return found


def connect(monkeypatch: pytest.MonkeyPatch, found: Cluster) -> None:
    def connected(self: Place, timeout: float = 10.0) -> Cluster:
        if self.namespace:
            found.namespace = self.namespace
        return found

    monkeypatch.setattr(Place, "connect", connected)


def run(*words: str) -> Any:
    return CliRunner().invoke(cli.plugin, list(words), prog_name="kubectl modelrollout")


@pytest.mark.parametrize("name", FOR_PEOPLE)
def test_every_command_has_help_with_an_example(name: str) -> None:
    result = run(name, "--help")
    assert result.exit_code == 0
    if name != "validate":
        assert "Examples:" in result.output
        assert f"modelrollout {name}" in result.output


def test_the_plugin_leaves_out_what_runs_in_the_cluster() -> None:
    assert "fetch" not in run("--help").output
    assert "status" in run("--help").output
    assert CliRunner().invoke(cli.main, ["--help"]).output.count("\n  run ") == 1


def test_status(cluster: Cluster) -> None:
    result = run("status", "mdep/digits")
    assert result.exit_code == 0
    assert "▶ 25 % 5m" in result.output
    assert "\x1b" not in result.output


def test_status_as_a_document(cluster: Cluster) -> None:
    import json

    document = json.loads(run("status", "digits", "-o", "json").output)
    assert document["holdSecondsLeft"] == 170.0
    assert document["rollout"]["stops"][1] == {"label": "25 %", "holdSeconds": 300.0, "approval": False}
    assert document["revisions"][1]["pods"]["ready"] == 1
    assert document["end"] is None


def test_documents_are_yaml_too(cluster: Cluster) -> None:
    import yaml

    document = yaml.safe_load(run("history", "digits", "-o", "yaml").output)
    assert [attempt["seconds"] for attempt in document["attempts"]] == [211.0, 60.0]
    assert document["commands"][0]["by"] == "anna@example.com"


def test_a_name_that_is_not_there(cluster: Cluster) -> None:
    result = run("status", "digit")
    assert result.exit_code == 1
    assert "there is no ModelDeployment digit in namespace demo; did you mean digits?" in result.output
    other = run("status", "digits", "-n", "other")
    assert "there is one in namespace demo: add -n demo" in other.output


def test_another_kind_is_wrong_usage(cluster: Cluster) -> None:
    assert run("status", "pod/digits").exit_code == 2


def test_what_may_not_be_read_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, Cluster(denied=("Pod",)))
    result = run("status", "digits")
    assert result.exit_code == 0
    assert "not allowed to list pods" in result.output
    assert "? pods" in result.output


def test_no_cluster_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Place, timeout: float = 10.0) -> Cluster:
        raise TransientError("cannot reach the API server at https://x: connection refused")

    monkeypatch.setattr(Place, "connect", refused)
    for command in ("status", "history", "explain", "promote"):
        result = run(command, "digits")
        assert result.exit_code == 1
        assert result.output == "Error: cannot reach the API server at https://x: connection refused\n"


@pytest.mark.parametrize(
    ("words", "wish"),
    [
        (["promote"], "promote"),
        (["promote", "--full"], "promote:full"),
        (["skip-step"], "skip-step"),
        (["rollback"], "rollback"),
        (["rollback", "--to", "a15"], "rollback:digits-a15d15ce70"),
    ],
)
def test_a_command_is_written_and_its_result_told(cluster: Cluster, words: list[str], wish: str) -> None:
    result = run(words[0], "digits", *words[1:])
    assert result.exit_code == 0
    assert result.output == f"{wish}: so it is\n"
    written = cluster.objects["ModelDeployment"][0]["metadata"]["annotations"][COMMAND]
    assert written.startswith(f"{wish}/")
    assert written.endswith("@anna")


def test_each_command_has_a_word_of_its_own(cluster: Cluster) -> None:
    annotations = cluster.objects["ModelDeployment"][0]["metadata"]
    written = set()
    for _ in range(20):
        run("promote", "digits")
        written.add(annotations["annotations"][COMMAND])
    assert len(written) == 20


def test_a_refused_command_has_a_code_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, Cluster(accepts=False))
    result = run("abort", "digits")
    assert (result.exit_code, result.output) == (3, "abort was refused: so it is\n")


def test_without_an_operator_it_is_not_handled(monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, Cluster(operator=False))
    result = run("abort", "digits", "--wait", "200ms")
    assert result.exit_code == 5
    assert "is it running" in result.output
    second = run("promote", "digits", "--wait", "0")
    assert second.exit_code == 0
    assert "takes the place of abort/" in second.output


def test_a_revision_that_is_not_there_is_not_commanded(cluster: Cluster) -> None:
    result = run("rollback", "digits", "--to", "digits-a15d15ce77")
    assert result.exit_code == 2
    assert "did you mean digits-a15d15ce70" in result.output
    assert COMMAND not in cluster.objects["ModelDeployment"][0]["metadata"].get("annotations", {})


def test_a_plan_without_a_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    import yaml

    def refused(self: Place, timeout: float = 10.0) -> Cluster:
        raise TransientError("cannot log in to a cluster: there is no kubeconfig")

    monkeypatch.setattr(Place, "connect", refused)
    good, bad = load("canary-step")["deployment"], load("paused-invalid")["deployment"]
    for item in (good, bad):
        item.pop("status")
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump_all([good, {"kind": "Secret"}]))
    result = run("plan", "-f", str(path))
    assert result.exit_code == 0
    assert "FirstDeployment" in result.output
    assert "max(feature_psi{" in result.output
    assert '"$revision"' not in result.output
    path.write_text(yaml.safe_dump(bad))
    result = run("plan", "-f", str(path))
    assert result.exit_code == 6
    assert "write 1 percent as 0.01" in result.output
    path.write_text("a: [")
    assert run("plan", "-f", str(path)).exit_code == 6
    assert run("plan", "-f", str(tmp_path / "nowhere.yaml")).exit_code == 2


POLICIES = """
apiVersion: modelrollout.io/v1alpha1
kind: ClusterRolloutPolicy
metadata: {name: house}
spec:
  selector: {matchLabels: {}}
  guards:
  - {name: errors, sli: error-ratio, max: 0.2}
  - {name: rate, sli: request-rate, min: 1}
---
apiVersion: modelrollout.io/v1alpha1
kind: RolloutPolicy
metadata: {name: team}
spec:
  guards: [{name: rate, sli: request-rate, min: 5}]
"""


def test_a_plan_tells_whose_each_guard_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    import yaml

    def refused(self: Place, timeout: float = 10.0) -> Cluster:
        raise TransientError("cannot log in to a cluster: there is no kubeconfig")

    monkeypatch.setattr(Place, "connect", refused)
    deployment = load("canary-step")["deployment"]
    deployment.pop("status")
    own = {guard["name"] for guard in deployment["spec"]["rollout"]["guards"]}
    deployment["spec"]["rollout"]["policies"] = [{"name": "team"}, {"kind": "ClusterRolloutPolicy", "name": "far"}]
    path, policies = tmp_path / "plan.yaml", tmp_path / "policies.yaml"
    path.write_text(yaml.safe_dump(deployment))
    policies.write_text(POLICIES)
    result = run("plan", "-f", str(path), "-f", str(policies))
    assert result.exit_code == 0, result.output
    assert "of RolloutPolicy team, instead of that of ClusterRolloutPolicy house" in result.output
    assert "ClusterRolloutPolicy far is not known here: its guards are left out" in result.output
    (document,) = json.loads(run("plan", "-f", str(path), "-f", str(policies), "-o", "json").stdout)
    told = {guard["name"]: (guard["source"], guard["insteadOf"]) for guard in document["guards"]}
    assert told["rate"] == ("RolloutPolicy team", ["ClusterRolloutPolicy house"])
    assert told["errors"] == ("spec.rollout.guards", ["ClusterRolloutPolicy house"])
    assert set(told) == {*own, "rate"}


def test_a_plan_reads_the_policies_of_the_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    import yaml

    house, team = list(yaml.safe_load_all(POLICIES))
    for item in (house, team):
        item.pop("kind")
    team["metadata"]["namespace"] = "demo"
    cluster = Cluster()
    cluster.objects |= {"ClusterRolloutPolicy": [house], "RolloutPolicy": [team]}
    connect(monkeypatch, cluster)
    deployment = load("canary-step")["deployment"]
    deployment["spec"]["rollout"]["policies"] = [{"name": "team"}]
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(deployment))
    result = run("plan", "-f", str(path))
    assert "of RolloutPolicy team, instead of that of ClusterRolloutPolicy house" in result.output
    cluster.objects["RolloutPolicy"] = []
    result = run("plan", "-f", str(path))
    assert result.exit_code == 6
    assert "rollout.policies names RolloutPolicy team, which does not exist here" in result.output


def test_a_plan_tells_one_that_relies_on_selectors_and_gets_no_guard(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    import yaml

    house, _ = list(yaml.safe_load_all(POLICIES))
    house["spec"]["selector"] = {"matchLabels": {"tier": "gold"}}
    cluster = Cluster()
    cluster.objects["ClusterRolloutPolicy"] = [house]
    connect(monkeypatch, cluster)
    deployment = load("canary-step")["deployment"]
    deployment["spec"]["rollout"] |= {"guards": [], "selectedPolicies": True}
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(deployment))
    result = run("plan", "-f", str(path))
    assert result.exit_code == 6
    assert "In reach: ClusterRolloutPolicy house (tier=gold)" in result.output
    cluster.denied = ("RolloutPolicy",)
    result = run("plan", "-f", str(path))
    assert result.exit_code == 0, result.output
    assert "selectedPolicies relies: no policy that is known here gives any" in result.output
    deployment["metadata"].setdefault("labels", {})["tier"] = "gold"
    path.write_text(yaml.safe_dump(deployment))
    result = run("plan", "-f", str(path))
    assert "of ClusterRolloutPolicy house by its selector" in result.output
    assert "selectedPolicies relies" not in result.output


def test_status_knows_the_selected_guards_before_they_were_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    import yaml

    house, _ = list(yaml.safe_load_all(POLICIES))
    cluster = Cluster()
    cluster.objects["ClusterRolloutPolicy"] = [house]
    live = cluster.objects["ModelDeployment"][0]
    live["spec"]["rollout"] |= {"guards": [], "selectedPolicies": True}
    live["status"]["rollout"]["guards"] = []
    connect(monkeypatch, cluster)
    assert ">= 1    not recorded yet" in run("status", "digits").output


def test_status_and_explain_know_the_guards_of_policies(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guard that was judged and is not in the spec comes from a policy: its unit and effect are told too."""
    import yaml

    house, _ = list(
        yaml.safe_load_all(POLICIES.replace("name: rate, sli: request-rate", "name: tail, sli: latency-p99"))
    )
    house["spec"]["guards"][1] = {"name": "tail", "sli": "latency-p99", "max": 0.2, "window": "3m"}
    cluster = Cluster()
    cluster.objects["ClusterRolloutPolicy"] = [house]
    judged = {"name": "tail", "verdict": "Breach", "value": 0.7, "threshold": "<= 0.2", "samples": 100}
    cluster.objects["ModelDeployment"][0]["status"]["rollout"]["guards"].append(judged)
    connect(monkeypatch, cluster)
    assert "Guard tail (latency-p99 over 3m) was 0.7 s from 100 requests" in run("explain", "digits").output
    assert "0.7 s" in run("status", "digits").output
    cluster.denied = ("ClusterRolloutPolicy",)
    output = run("explain", "digits").output
    assert "Guard tail was 0.7" in output
    assert "guards of ClusterRolloutPolicies are not known: not allowed to list" in output


def test_validate_checks_policies_and_merges_them(tmp_path: Any) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(POLICIES)
    result = run("validate", "-f", str(good))
    assert result.exit_code == 0
    assert f"{good}: ClusterRolloutPolicy house is valid, 2 guards" in result.output
    bad.write_text(POLICIES.replace("min: 5", "min: 5, fromStep: 1"))
    result = run("validate", str(good), str(bad))
    assert result.exit_code == 1
    assert "fromStep and toStep count the steps of one canary: a policy's guards must not have them" in result.output
    bad.write_text(POLICIES.replace("sli: error-ratio, max: 0.2", "query: 'rate(x[1m]', max: 1"))
    assert "guard errors: the query does not parse" in run("validate", str(bad)).output
    bad.write_text(POLICIES.replace("sli: error-ratio", "sli: eror-ratio"))
    assert "did you mean error-ratio" in run("validate", str(bad)).output


def test_a_policy_of_slis_alone_is_valid(tmp_path: Any) -> None:
    path = tmp_path / "slis.yaml"
    path.write_text(
        "{apiVersion: modelrollout.io/v1alpha1, kind: ClusterRolloutPolicy, metadata: {name: slis}, "
        "spec: {slis: [{name: price, unit: eur, query: max(price)}]}}"
    )
    result = run("validate", str(path))
    assert (result.exit_code, result.output) == (0, f"{path}: ClusterRolloutPolicy slis is valid, 1 SLI\n")


def test_validate_takes_a_policy_without_a_namespace_for_one_of_that_of_its_user(tmp_path: Any) -> None:
    """As kubectl apply -n does; ``plan`` and ``backtest`` take it so too."""
    import yaml

    deployment = load("canary-step")["deployment"]
    deployment.pop("status")
    assert deployment["metadata"]["namespace"] == "demo"
    deployment["spec"]["rollout"] |= {"policies": [{"name": "team"}]}
    path, policies = tmp_path / "digits.yaml", tmp_path / "policies.yaml"
    path.write_text(yaml.safe_dump(deployment))
    policies.write_text(POLICIES)
    result = run("validate", str(path), str(policies))
    assert "guard rate: of RolloutPolicy team, instead of that of ClusterRolloutPolicy house" in result.output
    policies.write_text(POLICIES.replace("{name: team}", "{name: team, namespace: other}"))
    result = run("validate", str(path), str(policies))
    assert "not checked: RolloutPolicy team is not known here: its guards are left out" in result.output


def test_of_policies_with_one_name_in_the_files_the_last_counts_and_it_is_told(tmp_path: Any) -> None:
    import yaml

    deployment = load("canary-step")["deployment"]
    deployment.pop("status")
    deployment["spec"]["rollout"] |= {"guards": [], "selectedPolicies": True}
    path, policies = tmp_path / "digits.yaml", tmp_path / "policies.yaml"
    path.write_text(yaml.safe_dump(deployment))
    policies.write_text(f"{POLICIES}---{POLICIES.replace('name: errors', 'name: later')}")
    result = run("validate", str(path), str(policies))
    assert "guard later: of ClusterRolloutPolicy house by its selector" in result.output
    assert "guard errors" not in result.output
    assert "ClusterRolloutPolicy house is in these files 2 times: the last one counts" in result.output


def test_validate_tells_that_no_file_has_the_guards_that_are_relied_on(tmp_path: Any) -> None:
    import yaml

    deployment = load("canary-step")["deployment"]
    deployment.pop("status")
    deployment["spec"]["rollout"] |= {"guards": None, "selectedPolicies": True}
    path, policies = tmp_path / "digits.yaml", tmp_path / "policies.yaml"
    path.write_text(yaml.safe_dump(deployment))
    policies.write_text(POLICIES)
    result = run("validate", str(path))
    assert result.exit_code == 0, result.output
    assert "not checked: guards by its labels, on which selectedPolicies relies: no policy that is" in result.output
    result = run("validate", str(path), "-f", str(policies))
    assert "guard errors: of ClusterRolloutPolicy house by its selector" in result.output
    assert "not checked" not in result.output


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "has no ModelDeployment and no policy"),
        ("- kind: ModelDeployment", "has no ModelDeployment and no policy"),
        ("{apiVersion: v1, kind: ConfigMap}", "has no ModelDeployment and no policy"),
        ("kind: ModelDeploymnt", "has no ModelDeployment and no policy"),
        (f"{POLICIES}---\n{{apiVersion: modelrollout.io/v1alpha1, kind: RolloutPolcy}}", "kind RolloutPolcy of"),
        ("{kind: RolloutPolicy, metadata: house}", "metadata: should be a valid dictionary"),
        ("a: " + "[" * 20_000, "is nested too deeply to be read"),
        ("a: 2026-02-30", "is not YAML: day is out of range"),
    ],
)
def test_validate_passes_no_file_over(tmp_path: Any, text: str, sentence: str) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(f"{POLICIES}---\n{{apiVersion: v1, kind: ConfigMap}}")
    bad.write_text(text)
    result = run("validate", str(good), str(bad))
    assert result.exit_code == 1
    assert f"{bad}: {sentence}" in result.output
    assert f"{good}: ClusterRolloutPolicy house is valid" in result.output
    assert run("validate", str(good)).exit_code == 0


@pytest.mark.parametrize(
    ("words", "text", "code", "sentence"),
    [
        ((), "[", 6, "is not YAML"),
        ((), "a: " + "[" * 20_000, 6, "is nested too deeply to be read"),
        ((), "kind: ConfigMap", 6, "has neither policies nor ModelDeployments"),
        ((), "{kind: ModelDeployment, metadata: {name: digits}}", 6, "default/digits: spec: is required"),
        ((), POLICIES.replace("error-ratio", "eror-ratio").replace("sli: eror", "sle: eror"), 6, "unknown field"),
        (("--deployment", "a/b/c"), POLICIES, 2, "--deployment a/b/c: write NAMESPACE/NAME"),
        (("--prometheus", "localhost"), POLICIES, 2, "--prometheus localhost is not a base address"),
        ((), POLICIES, 1, "cannot log in"),
    ],
)
def test_a_backtest_checks_what_it_is_given_before_it_logs_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, words: tuple[str, ...], text: str, code: int, sentence: str
) -> None:
    def refused(self: Place, timeout: float = 10.0) -> Cluster:
        raise TransientError("cannot log in to a cluster: there is no kubeconfig")

    monkeypatch.setattr(Place, "connect", refused)
    file = tmp_path / "file.yaml"
    file.write_text(text)
    result = run("backtest", "--against", "3d", "-f", str(file), *words)
    assert (result.exit_code, sentence in result.output) == (code, True), result.output


def test_completion_of_commands_options_and_names(cluster: Cluster) -> None:
    assert completion.answers([], "prom") == [
        "promote\tGo on where a person is waited for; --full: to all traffic.",
        ":4",
    ]
    assert completion.answers(["status"], "") == ["digits", ":4"]
    assert "--watch\tDraw it anew whenever it changes, until Ctrl-C." in completion.answers(["status"], "--wa")
    assert completion.answers(["rollback", "digits", "--to"], "digits-a") == ["digits-a15d15ce70", ":4"]
    assert completion.answers(["status", "digits", "-o"], "") == ["json", "yaml", ":4"]


def test_completion_is_silent_without_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Place, timeout: float = 10.0) -> Cluster:
        raise TransientError("no")

    monkeypatch.setattr(Place, "connect", refused)
    assert completion.answers(["status"], "") == [":4"]


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_completion_scripts(shell: str) -> None:
    assert "_MODELROLLOUT_COMPLETE" in run("completion", shell).output


def test_a_person_never_loads_the_operator() -> None:
    code = (
        "import sys; from modelrollout.cli import main\n"
        "import modelrollout.cli.status, modelrollout.cli.steering\n"
        "import modelrollout.cli.history, modelrollout.cli.explain\n"
        "import modelrollout.cli.following, modelrollout.cli.view.tree, modelrollout.cli.live\n"
        "print([name for name in ('kopf', 'aiohttp', 'grpc', 'numpy', 'promql_parser') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ})
    assert found.stdout.strip() == "[]"


def test_children_that_may_not_be_read_do_not_hide_the_others() -> None:
    found: Any = Cluster(denied=("ModelRevision", "Deployment"))
    children = reading.children_of(found, "digits")
    assert children.records is None
    assert children.pods
    assert len(children.unreadable) == 2
