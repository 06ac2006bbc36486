"""The Helm chart on a real API server: what it makes is accepted, and its rights are the ones used and no others."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from modelrollout.api.reasons import ConditionType, EventReason
from modelrollout.api.status import Phase
from modelrollout.observer.exposition import Exposition
from modelrollout.observer.registry import Registry
from modelrollout.render.names import is_observer
from modelrollout.settings import parse
from modelrollout.telemetry import Telemetry
from tests.component.apiserver import REPOSITORY, ApiServer, Manifest, programs
from tests.component.prometheus import prometheus

CHART = REPOSITORY / "charts" / "modelrollout"
VALUES: dict[str, Any] = {
    "image": {"repository": "registry.example.com/modelrollout", "tag": "1"},
    "settings": {"pools": {"cpu": {"image": "registry.example.com/triton:1"}}, "metricsPort": 9200},
}


@cache
def rendered(namespace: str, values: str = "{}") -> list[Manifest]:
    """The chart's objects for VALUES with ``values`` (JSON) over them."""
    done = template(namespace, json.loads(values))
    assert done.returncode == 0, done.stderr
    return [body for body in yaml.safe_load_all(done.stdout) if body]


def template(namespace: str, values: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    merged = {**VALUES, **values, "settings": {**VALUES["settings"], **values.get("settings", {})}}
    command = [programs() / "helm", "template", "modelrollout", CHART, "--namespace", namespace, "--values", "-"]
    return subprocess.run(
        [*command, "--kube-version", "1.35.0"], input=json.dumps(merged), capture_output=True, text=True, check=False
    )


def one(bodies: list[Manifest], kind: str) -> Manifest:
    (found,) = [body for body in bodies if body["kind"] == kind]
    return found


def plural(kind: str) -> str:
    return kind.lower()[:-1] + "ies" if kind.endswith("y") else f"{kind.lower()}s"


def create(api: ApiServer, body: Manifest) -> None:
    group = body["apiVersion"]
    root = "/apis" if "/" in group else "/api"
    where = f"/namespaces/{body['metadata']['namespace']}" if "namespace" in body["metadata"] else ""
    path = f"{root}/{group}{where}/{plural(body['kind'])}/{body['metadata']['name']}"
    answer = api.request(
        "PATCH", path, body, "application/apply-patch+yaml", fieldManager="helm", fieldValidation="Strict"
    )
    assert answer.code in (200, 201), answer.message


def allowed(api: ApiServer, account: str, namespace: str, verb: str, resource: str, name: str = "") -> bool:
    group, _, rest = resource.rpartition("/") if resource.count("/") == 1 else ("", "", resource)
    kind, _, subresource = rest.partition(":")
    attributes = {
        "namespace": namespace,
        "verb": verb,
        "group": group,
        "resource": kind,
        "subresource": subresource,
        "name": name,
    }
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": account, "resourceAttributes": attributes},
    }
    answer = api.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", body)
    assert answer.code == 201, answer.message
    return bool(answer.body["status"]["allowed"])


CHILDREN = {"list", "watch", "get", "create", "patch"}
RIGHTS: dict[str, set[str]] = {
    "modelrollout.io/modeldeployments": {"list", "watch"},
    "modelrollout.io/modeldeployments:status": {"patch"},
    "modelrollout.io/rolloutpolicies": {"list", "watch"},
    "modelrollout.io/clusterrolloutpolicies": {"list", "watch"},
    "modelrollout.io/modelrevisions": CHILDREN | {"delete"},
    "modelrollout.io/modelrevisions:status": {"patch"},
    "apps/deployments": CHILDREN,
    "services": CHILDREN | {"delete"},
    "policy/poddisruptionbudgets": CHILDREN,
    "gateway.networking.k8s.io/httproutes": CHILDREN | {"delete"},
    "gateway.networking.k8s.io/grpcroutes": CHILDREN | {"delete"},
    "gateway.networking.k8s.io/gateways": set(),
    "pods": {"list", "watch"},
    "pods:exec": set(),
    "pods:log": set(),
    "events.k8s.io/events": {"create"},
    "secrets": set(),
    "configmaps": {"get"},
    "namespaces": set(),
    "nodes": set(),
    "serviceaccounts": set(),
    "apps/replicasets": set(),
    "rbac.authorization.k8s.io/roles": set(),
    "apiextensions.k8s.io/customresourcedefinitions": set(),
}
CLUSTER_POLICIES = "modelrollout.io/clusterrolloutpolicies"
VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")


def install(api: ApiServer, namespace: str, values: dict[str, Any]) -> str:
    for body in rendered(namespace, json.dumps(values)):
        create(api, body)
    return f"system:serviceaccount:{namespace}:modelrollout"


def check_rights(api: ApiServer, account: str, namespace: str, rights: dict[str, set[str]]) -> None:
    found = {
        resource: {verb for verb in VERBS if allowed(api, account, namespace, verb, resource)} for resource in rights
    }
    assert found == rights


def test_the_rights_are_those_used_and_no_others(api: ApiServer, namespace: str) -> None:
    account = install(api, namespace, {"networkPolicy": {"enabled": True}})
    check_rights(api, account, "default", RIGHTS)
    for verb, granted in (("get", True), ("update", True), ("patch", False), ("delete", False), ("list", False)):
        assert allowed(api, account, namespace, verb, "coordination.k8s.io/leases", "modelrollout") is granted
        assert not allowed(api, account, namespace, verb, "coordination.k8s.io/leases", "another")
    assert allowed(api, account, namespace, "create", "coordination.k8s.io/leases")
    assert not allowed(api, account, "default", "get", "coordination.k8s.io/leases", "modelrollout")
    made = api.request("GET", "/apis/modelrollout.io/v1alpha1/clusterrolloutpolicies").body["items"]
    assert {policy["metadata"]["name"] for policy in made} == {"default", "answers"}
    api.kubectl("delete", "clusterrole,clusterrolebinding", "modelrollout", "modelrollout-policies")
    api.kubectl("delete", "clusterrolloutpolicy", "default", "answers")


def test_with_namespaces_there_are_no_rights_elsewhere(api: ApiServer, namespace: str) -> None:
    values = {"settings": {"namespaces": [namespace]}}
    assert not any(body["kind"].startswith("Cluster") for body in rendered(namespace, json.dumps(values)))
    account = install(api, namespace, values)
    check_rights(api, account, namespace, RIGHTS | {CLUSTER_POLICIES: set()})
    check_rights(api, account, "default", {resource: set() for resource in RIGHTS})


def test_with_namespaces_cluster_policies_may_be_read_where_that_is_wished(api: ApiServer, namespace: str) -> None:
    account = install(api, namespace, {"settings": {"namespaces": [namespace]}, "policies": {"cluster": True}})
    check_rights(api, account, namespace, RIGHTS)
    check_rights(
        api, account, "default", {resource: set() for resource in RIGHTS} | {CLUSTER_POLICIES: {"list", "watch"}}
    )
    api.kubectl("delete", "clusterrole,clusterrolebinding", "modelrollout-policies")


def test_the_operators_pod_is_admitted_where_restricted_is_enforced(api: ApiServer, namespace: str) -> None:
    label = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    api.request("PATCH", f"/api/v1/namespaces/{namespace}", label, "application/merge-patch+json")
    template = one(rendered(namespace), "Deployment")["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": template["spec"]}
    answer = api.request("POST", f"/api/v1/namespaces/{namespace}/pods", pod, dryRun="All", fieldValidation="Strict")
    assert answer.code == 201, answer.message
    (container,) = pod["spec"]["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_the_settings_file_is_the_values_with_the_image() -> None:
    bodies = rendered("ops")
    settings = parse(one(bodies, "ConfigMap")["data"]["settings.yaml"])
    assert settings.operator_image == "registry.example.com/modelrollout:1"
    assert settings.pools["cpu"].image == "registry.example.com/triton:1"
    (container,) = one(bodies, "Deployment")["spec"]["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"metrics": settings.metrics_port, "health": settings.health_port}
    assert container["image"] == settings.operator_image


def test_changed_settings_restart_the_operator() -> None:
    def sums(values: dict[str, Any]) -> str:
        deployment = one(rendered("ops", json.dumps(values)), "Deployment")
        return str(deployment["spec"]["template"]["metadata"]["annotations"]["checksum/settings"])

    assert sums({}) != sums({"settings": {"drain": "20s"}})


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"imagee": {}}, "'imagee' not allowed"),
        ({"settings": {"poolz": {}}}, "'poolz' not allowed"),
        ({"settings": {"gateways": [{"name": "x"}]}}, "missing property 'namespace'"),
        ({"image": {}}, "image.repository must be given"),
        ({"observer": {"namespace": "one"}}, "'namespace' not allowed"),
        ({"observer": {"namespaces": [""]}}, "at '/observer/namespaces/0'"),
        ({"settings": {"namespaces": ["One"]}}, "at '/settings/namespaces/0'"),
        ({"settings": {"namespaces": ["one", "one"]}}, "items at 0 and 1 are equal"),
        ({"metrics": {"serviceMonitor": {"interval": "15"}}}, "at '/metrics/serviceMonitor/interval'"),
    ],
)
def test_wrong_values_are_refused_before_anything_is_installed(values: dict[str, Any], words: str) -> None:
    done = template("ops", values)
    assert done.returncode != 0
    assert words in done.stderr


def test_lint() -> None:
    command = [programs() / "helm", "lint", "--strict", CHART, "--values", "-"]
    done = subprocess.run(command, input=json.dumps(VALUES), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_generated_files_are_up_to_date() -> None:
    script = Path(REPOSITORY / "charts" / "generate.py")
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


OBSERVED: dict[str, Any] = {"observer": {"namespaces": ["one", "two"]}, "networkPolicy": {"enabled": True}}
OBSERVERS_RIGHTS = {resource: set[str]() for resource in RIGHTS} | {
    "modelrollout.io/modeldeployments": {"get", "list", "watch"},
    "configmaps": {"get"},
}


def of_observers(values: dict[str, Any]) -> list[Manifest]:
    label = "app.kubernetes.io/component"
    bodies = rendered("ops", json.dumps(values))
    return [body for body in bodies if body["metadata"].get("labels", {}).get(label) == "observer"]


def test_there_is_no_observer_unless_a_namespace_asks_for_one() -> None:
    assert of_observers({}) == []
    found = of_observers(OBSERVED)
    kinds = {(body["kind"], body["metadata"]["namespace"]) for body in found}
    parts = ("Deployment", "Service", "ServiceAccount", "Role", "RoleBinding", "NetworkPolicy")
    assert kinds == {(kind, namespace) for kind in parts for namespace in ("one", "two")}
    assert {body["metadata"]["name"] for body in found} == {"modelrollout-observer"}


def test_the_operator_knows_the_observers_service_and_its_pods_are_what_it_selects() -> None:
    found = of_observers(OBSERVED)
    service = next(body for body in found if body["kind"] == "Service")
    workload = next(body for body in found if body["kind"] == "Deployment")
    # Helm takes app.kubernetes.io/managed-by of what it installs for itself.
    installed = {**service["metadata"]["labels"], "app.kubernetes.io/managed-by": "Helm"}
    assert is_observer({**service, "metadata": {**service["metadata"], "labels": installed}})
    assert {(port["name"], port["port"]) for port in service["spec"]["ports"]} == {
        ("http", 8000),
        ("grpc", 8001),
        ("labels", 8080),
        ("metrics", 9100),
    }
    template = workload["spec"]["template"]
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    assert workload["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    (container,) = template["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": 8000, "grpc": 8001, "labels": 8080, "metrics": 9100}
    assert template["metadata"]["annotations"]["prometheus.io/port"] == "9100"


def test_the_image_of_the_observer_is_the_operators_unless_it_has_its_own() -> None:
    def image(own: dict[str, str]) -> str:
        found = of_observers({"observer": {"namespaces": ["one"], "image": own}})
        workload = next(body for body in found if body["kind"] == "Deployment")
        return str(workload["spec"]["template"]["spec"]["containers"][0]["image"])

    assert image({}) == "registry.example.com/modelrollout:1"
    assert image({"repository": "registry.example.com/observer", "tag": "2"}) == "registry.example.com/observer:2"


def test_the_observers_rights_are_those_used_and_its_pod_is_restricted(api: ApiServer, namespace: str) -> None:
    label = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    api.request("PATCH", f"/api/v1/namespaces/{namespace}", label, "application/merge-patch+json")
    found = of_observers({"observer": {"namespaces": [namespace]}, "networkPolicy": {"enabled": True}})
    for body in found:
        create(api, body)
    account = f"system:serviceaccount:{namespace}:modelrollout-observer"
    check_rights(api, account, namespace, OBSERVERS_RIGHTS)
    check_rights(api, account, "default", {resource: set() for resource in RIGHTS})
    template = next(body for body in found if body["kind"] == "Deployment")["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": template["spec"]}
    answer = api.request("POST", f"/api/v1/namespaces/{namespace}/pods", pod, dryRun="All", fieldValidation="Strict")
    assert answer.code == 201, answer.message


@pytest.mark.parametrize("peers", [[], [{"podSelector": {"matchLabels": {"app": "truth"}}}]])
def test_labels_are_taken_from_those_who_may_send_them(peers: list[Any]) -> None:
    found = of_observers({"observer": {"namespaces": ["one"], "labelsFrom": peers}, "networkPolicy": {"enabled": True}})
    policy = next(body for body in found if body["kind"] == "NetworkPolicy")
    rules = [rule for rule in policy["spec"]["ingress"] if {"port": "labels", "protocol": "TCP"} in rule["ports"]]
    assert [rule["from"] for rule in rules] == ([peers] if peers else [])


def test_prometheus_finds_the_observers_by_service_monitors() -> None:
    assert "ServiceMonitor" not in {body["kind"] for body in of_observers(OBSERVED)}
    found = of_observers({**OBSERVED, "metrics": {"serviceMonitor": {"enabled": True, "labels": {"release": "p"}}}})
    monitors = [body for body in found if body["kind"] == "ServiceMonitor"]
    assert {body["metadata"]["namespace"] for body in monitors} == {"one", "two"}
    service = next(body for body in found if body["kind"] == "Service")
    for monitor in monitors:
        assert monitor["metadata"]["labels"]["release"] == "p"
        assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        (endpoint,) = monitor["spec"]["endpoints"]
        assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}


def test_the_namespace_of_a_modeldeployment_survives_the_scrape_of_the_operator() -> None:
    values = json.dumps({"metrics": {"serviceMonitor": {"enabled": True}}})
    (endpoint,) = one(rendered("ops", values), "ServiceMonitor")["spec"]["endpoints"]
    assert endpoint["honorLabels"] is True


def alerts(**rule: Any) -> list[Manifest]:
    values = json.dumps({"metrics": {"prometheusRule": {"enabled": True, **rule}}})
    rules: list[Manifest] = one(rendered("ops", values), "PrometheusRule")["spec"]["groups"][0]["rules"]
    return rules


def test_the_alerts_ask_for_series_that_the_operator_has() -> None:
    rules = alerts()
    telemetry = Telemetry()
    known = {family.name for family in telemetry.registry.collect()}
    observed = Exposition(Registry(time.monotonic, time.time), "p", lambda: (0, 0.0)).text()
    known |= {family.name for family in text_string_to_metric_families(observed)}
    for rule in rules:
        promql_parser.parse(rule["expr"])
        asked = set(re.findall(r"\bmodelrollout_\w+", rule["expr"]))
        assert asked
        assert {name.removesuffix("_total") for name in asked} <= known
        for phases in re.findall(r'phase=~?"([\w|]+)"', rule["expr"]):
            assert set(phases.split("|")) <= set(Phase)
        for kind in re.findall(r'condition="(\w+)"', rule["expr"]):
            assert kind in set(ConditionType)
        for words in re.findall(r'reason!?[=~]+"([\w|]+)"', rule["expr"]):
            assert set(words.split("|")) <= {*EventReason, "NothingServes", "Recreating", "Stuck"}
        for outcome in re.findall(r'outcome="(\w+)"', rule["expr"]):
            assert f'outcome="{outcome}"' in observed
    assert not [body for body in rendered("ops") if body["kind"] == "PrometheusRule"]


def test_every_alert_says_what_it_is_and_has_a_section_of_the_runbook() -> None:
    sections = re.findall(r"^### (\w+)$", (REPOSITORY / "docs" / "runbook.md").read_text(), re.MULTILINE)
    names = [rule["alert"] for rule in alerts()]
    assert len(set(names)) == len(names)
    assert sorted(sections) == sorted(names)
    for rule in alerts():
        assert set(rule["annotations"]) == {"summary", "description"}, "no address is made up"
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
    base = "https://runbooks.example.com/modelrollout/runbook.md"
    for rule in alerts(runbookUrl=base):
        assert rule["annotations"]["runbook_url"] == f"{base}#{rule['alert'].lower()}"
    refused = template("ops", {"metrics": {"prometheusRule": {"runbookUrl": "docs/runbook.md"}}})
    assert refused.returncode != 0
    assert "runbookUrl" in refused.stderr


CASES: list[tuple[str, str, str, float, set[str]]] = [
    ("Observed", "ObserverMissing", "Idle", 0, {"ModelNotObserved"}),
    ("Observed", "Copied", "Idle", 1, set()),
    ("EvidenceAvailable", "SeriesMissing", "Progressing", 0, {"ModelEvidenceMissing"}),
    ("EvidenceAvailable", "SeriesMissing", "Idle", 0, set()),
    ("EvidenceAvailable", "Found", "Progressing", 1, set()),
    ("Ready", "NoPodsReady", "Idle", 0, {"ModelNotReady"}),
    ("Ready", "NothingServes", "Preparing", 0, set()),
    ("Ready", "Recreating", "Preparing", 0, set()),
    ("RouteAccepted", "HostnameTaken", "Invalid", 0, {"ModelRouteNotAccepted"}),
    ("SpecValid", "SpecInvalid", "Invalid", 0, {"ModelSpecInvalid"}),
    ("Progressing", "Stuck", "Preparing", 0, {"ModelRolloutObstructed"}),
    ("Progressing", "AwaitingApproval", "AwaitingApproval", 0, {"ModelRolloutWaitsForAPerson"}),
    ("WeightEffective", "WeightNotEffective", "Progressing", 0, {"ModelWeightNotEffective"}),
    ("GuardsPassing", "WorldMoved", "Progressing", 0, {"ModelWorldMoved"}),
    ("GuardsPassing", "WorldMoved", "Idle", 0, set()),
    ("GuardsPassing", "GuardBreached", "Progressing", 0, set()),
]


def test_alerts_on_conditions_fire_for_what_they_are_about_and_for_nothing_else(tmp_path: Path) -> None:
    """Prometheus itself checks the rules and their texts as it starts."""
    rules = alerts(runbookUrl="https://runbooks.example.com/runbook.md")
    groups = yaml.safe_dump({"groups": [{"name": "modelrollout", "rules": rules}]})
    now = datetime(2026, 11, 1, tzinfo=UTC)
    with prometheus(programs(), tmp_path, groups) as server:
        for place, (kind, reason, phase, value, _) in enumerate(CASES):
            of = {"namespace": "demo", "name": f"m{place}"}
            named = {"__name__": "modelrollout_condition", "condition": kind, "reason": reason}
            other = {"__name__": "modelrollout_phase", "phase": phase}
            server.write([({**of, **named}, [(now.timestamp(), value)]), ({**of, **other}, [(now.timestamp(), 1.0)])])
        fired: dict[str, set[str]] = {}
        for rule in rules:
            for series in server.query(rule["expr"], now).series:
                fired.setdefault(series.labels.get("name", ""), set()).add(rule["alert"])
        # Two operators of two namespaces each have a leader of their own.
        leaders = ({"__name__": "modelrollout_leader", "namespace": of} for of in ("ops", "ops-b"))
        server.write([(labels, [(now.timestamp(), 1.0)]) for labels in leaders])
        (expression,) = [rule["expr"] for rule in rules if rule["alert"] == "ModelRolloutNobodyLeads"]
        assert server.query(expression, now).series == ()
    assert fired.pop("") == {"ModelRolloutNobodyLeads"}, "absent"
    assert {name: fired.get(name, set()) for name in (f"m{place}" for place in range(len(CASES)))} == {
        f"m{place}": expected for place, (*_, expected) in enumerate(CASES)
    }


def test_an_operator_is_stuck_only_while_it_leads_has_work_and_ends_no_turn(tmp_path: Path) -> None:
    rules = alerts()
    (expression,) = [rule["expr"] for rule in rules if rule["alert"] == "ModelRolloutStuck"]
    now = datetime(2026, 11, 1, tzinfo=UTC)
    at = now.timestamp()
    # Leads, how many wait, when the last turn ended.
    pods = {
        "stuck": (1.0, 3.0, at - 600),
        "never": (1.0, 3.0, 0.0),
        "idle": (1.0, 0.0, at - 86_400),
        "busy": (1.0, 9.0, at - 2),
        "standby": (0.0, 3.0, 0.0),
    }
    names = ("leader", "queue_depth", "last_reconcile_timestamp_seconds")
    with prometheus(programs(), tmp_path) as server:
        server.write(
            ({"__name__": f"modelrollout_{name}", "namespace": "ops", "pod": pod}, [(at, number)])
            for pod, numbers in pods.items()
            for name, number in zip(names, numbers, strict=True)
        )
        found = server.query(expression, now)
    assert {one.labels["pod"] for one in found.series} == {"stuck", "never"}
