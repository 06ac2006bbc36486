"""Policies on a real API server, with a real operator process: watched, merged, taken away, forbidden."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.badspecs import good, merged
from tests.component.apiserver import APPLY, MERGE, ApiServer, Manifest, eventually
from tests.component.test_crds import GROUP_PATH, deployments
from tests.component.test_run import SETTINGS, _ports

GUARD: Manifest = {"name": "errors", "sli": "error-ratio", "max": 0.05}
CLUSTER = f"{GROUP_PATH}/clusterrolloutpolicies"


def policies(namespace: str) -> str:
    return f"{GROUP_PATH}/namespaces/{namespace}/rolloutpolicies"


def policy(name: str, *guards: Manifest, cluster: bool = False, selector: Manifest | None = None) -> Manifest:
    kind = "ClusterRolloutPolicy" if cluster else "RolloutPolicy"
    spec: Manifest = {"guards": list(guards) or [GUARD]}
    if selector is not None:
        spec["selector"] = {"matchLabels": selector}
    return {"apiVersion": "modelrollout.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def apply(api: ApiServer, path: str, body: Manifest) -> None:
    where = f"{path}/{body['metadata']['name']}"
    answer = api.request("PATCH", where, body, APPLY, fieldManager="platform", fieldValidation="Strict", force="true")
    assert answer.code in (200, 201), answer.message


def user(name: str, *references: Manifest, guards: list[Manifest] | None = None, **metadata: Any) -> Manifest:
    rollout: Manifest = {"policies": list(references), "guards": guards}
    traffic = {"http": {"hostnames": [f"{name}.example.com"]}}
    patch = {"metadata": {"name": name, **metadata}, "spec": {"rollout": rollout, "traffic": traffic}}
    return merged(good(), patch)


class Operator:
    """A process of ``modelrollout run``."""

    def __init__(self, api: ApiServer, namespace: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.api, self.namespace, self.process, self.log = api, namespace, process, log

    def says(self, name: str, words: str) -> None:
        """Wait until the status says so; an empty text is a spec that can be carried out."""

        def said() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            status = self.status(name)
            valid = [each for each in status.get("conditions", []) if each["type"] == "SpecValid"]
            if not valid:
                return False
            if not words:
                return bool(valid[0]["status"] == "True")
            return valid[0]["status"] == "False" and words in valid[0]["message"]

        try:
            eventually(said, f"{name}: {words or 'valid'}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.status(name)}\n{self.log.read_text()[-3000:]}") from error

    def status(self, name: str) -> Manifest:
        found: Manifest = self.api.request("GET", f"{deployments(self.namespace)}/{name}").body.get("status", {})
        return found

    def version(self, name: str) -> str:
        found = self.api.request("GET", f"{deployments(self.namespace)}/{name}").body["metadata"]["resourceVersion"]
        return str(found)


@contextmanager
def operating(api: ApiServer, namespace: str, folder: Path, kubeconfig: Path | None = None) -> Iterator[Operator]:
    settings = folder / "settings.yaml"
    settings.write_text(yaml.safe_dump({**SETTINGS, **_ports(), "lease": {"namespace": namespace}}))
    log = folder / "operator.log"
    command = [sys.executable, "-m", "modelrollout", "run", f"--settings={settings}", f"--namespace={namespace}"]
    command += [f"--kubeconfig={kubeconfig or api.kubeconfig}", "--bind=127.0.0.1"]
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process:
        try:
            yield Operator(api, namespace, process, log)
        finally:
            process.kill()


@pytest.fixture
def cluster_policies(api: ApiServer) -> Iterator[ApiServer]:
    """Cluster policies are of all tests: none is left."""
    yield api
    for each in api.request("GET", CLUSTER).body["items"]:
        api.request("DELETE", f"{CLUSTER}/{each['metadata']['name']}")


def test_a_policy_that_comes_changes_and_goes(cluster_policies: ApiServer, namespace: str, tmp_path: Path) -> None:
    api = cluster_policies
    named = user("named", {"kind": "ClusterRolloutPolicy", "name": "house"}, {"name": "team"})
    selected = user("selected", guards=[GUARD], labels={"tier": "gold"})
    bystander = user("bystander", guards=[GUARD])
    for body in (named, selected, bystander):
        assert api.request("POST", deployments(namespace), body, fieldValidation="Strict").code == 201
    with operating(api, namespace, tmp_path) as operator:
        operator.says("named", "rollout.policies names ClusterRolloutPolicy house, which does not exist")
        operator.says("selected", "")
        operator.says("bystander", "")
        apply(api, CLUSTER, policy("house", cluster=True))
        operator.says("named", "rollout.policies names RolloutPolicy team, which does not exist")
        apply(api, policies(namespace), policy("team", {**GUARD, "name": "drift"}))
        operator.says("named", "")

        before = {name: operator.version(name) for name in ("named", "selected", "bystander")}
        unlike: Manifest = {"name": "load", "query": 'rate(x{namespace="kube-system"}[1m])', "max": 1}
        apply(api, CLUSTER, policy("gold", unlike, cluster=True, selector={"tier": "gold"}))
        operator.says("selected", "guard load: a query may look at its own namespace only")
        operator.says("selected", "(the guard is of ClusterRolloutPolicy gold)")
        assert api.request("DELETE", f"{CLUSTER}/gold").code == 200
        operator.says("selected", "")
        # Neither a policy that is not theirs nor one that says the same again makes a write.
        apply(api, CLUSTER, merged(policy("house", cluster=True), {"metadata": {"labels": {"a": "b"}}}))
        apply(api, policies(namespace), policy("another", {**GUARD, "name": "other"}))
        assert api.request("DELETE", f"{CLUSTER}/house").code == 200
        operator.says("named", "ClusterRolloutPolicy house, which does not exist")
        assert operator.version("bystander") == before["bystander"]


def test_guards_by_selectors_alone(cluster_policies: ApiServer, namespace: str, tmp_path: Path) -> None:
    """Refused at apply unless asked for; then a wait for a policy that takes it, and again when it goes."""
    api = cluster_policies
    bare = user("digits", labels={"tier": "gold"})
    bare["spec"]["rollout"] = {}
    answer = api.request("POST", deployments(namespace), bare, fieldValidation="Strict")
    assert (answer.code, "selectedPolicies: true to rely on those of policies" in answer.message) == (422, True)
    bare["spec"]["rollout"] = {"selectedPolicies": True}
    both = merged(bare, {"spec": {"rollout": {"unguarded": True}}})
    answer = api.request("POST", deployments(namespace), both, fieldValidation="Strict")
    assert (answer.code, "so it contradicts selectedPolicies: true" in answer.message) == (422, True)
    assert api.request("POST", deployments(namespace), bare, fieldValidation="Strict").code == 201
    with operating(api, namespace, tmp_path) as operator:
        operator.says("digits", "no policy gives it a guard by its labels (tier=gold)")
        operator.says("digits", "In reach: no policy")
        apply(api, policies(namespace), policy("silver", selector={"tier": "silver"}))
        operator.says("digits", "In reach: RolloutPolicy silver (tier=silver)")
        apply(api, CLUSTER, policy("gold", cluster=True, selector={"tier": "gold"}))
        operator.says("digits", "")
        assert api.request("DELETE", f"{CLUSTER}/gold").code == 200
        operator.says("digits", "no policy gives it a guard by its labels (tier=gold)")
        labels = {"metadata": {"labels": {"tier": "silver"}}}
        assert api.request("PATCH", f"{deployments(namespace)}/digits", labels, MERGE).code == 200
        operator.says("digits", "")


def test_more_guards_than_are_judged_are_refused(cluster_policies: ApiServer, namespace: str, tmp_path: Path) -> None:
    api = cluster_policies
    apply(api, CLUSTER, policy("house", cluster=True, selector={}))
    body = user("digits", guards=[{**GUARD, "name": "own"}])
    assert api.request("POST", deployments(namespace), body).code == 201
    many = [{**GUARD, "name": f"g{number}"} for number in range(20)]
    with operating(api, namespace, tmp_path) as operator:
        operator.says("digits", "")
        apply(api, CLUSTER, policy("house", *many, cluster=True, selector={}))
        operator.says("digits", "policies and spec make 21 guards, at most 20 are judged")


def test_an_operator_that_may_not_read_cluster_policies_goes_on(
    cluster_policies: ApiServer, namespace: str, tmp_path: Path
) -> None:
    api = cluster_policies
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    everything = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}
    role = {"metadata": {"name": "operator"}, "rules": [everything]}
    binding = {
        "metadata": {"name": "operator"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "operator"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "stranger"}],
    }
    assert api.request("POST", f"{rbac}/roles", role).code == 201
    assert api.request("POST", f"{rbac}/rolebindings", binding).code == 201
    apply(api, CLUSTER, policy("house", cluster=True, selector={}))
    apply(api, policies(namespace), policy("team"))
    for body in (
        user("cluster", {"kind": "ClusterRolloutPolicy", "name": "house"}),
        user("team", {"kind": "RolloutPolicy", "name": "team"}),
    ):
        assert api.request("POST", deployments(namespace), body).code == 201
    with operating(api, namespace, tmp_path, api.kubeconfig_without_rights) as operator:
        operator.says("cluster", "ClusterRolloutPolicy house, and the operator may not read that kind: grant it")
        operator.says("team", "")
        assert "not allowed to list and watch clusterrolloutpolicies" in operator.log.read_text()
