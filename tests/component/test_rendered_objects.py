"""Rendered objects on a real API server: accepted, restricted, and equal to themselves once they are stored."""

from __future__ import annotations

import pytest
import yaml

from modelrollout.adapters.kubernetes import KINDS
from modelrollout.ports import Manifest
from modelrollout.render.difference import differs
from modelrollout.render.readback import observe_traffic
from modelrollout.render.trim import trim
from modelrollout.rollout.plan import WHOLE, RoutePlan, Slot
from tests.component.apiserver import APPLY, ApiServer
from tests.unit.render.cases import CASES, GOLDEN, Case, load_case


def outputs(name: str, namespace: str) -> list[Manifest]:
    bodies = list(yaml.safe_load_all((GOLDEN / "output" / f"{name}.yaml").read_text()))
    for body in bodies:
        body["metadata"]["namespace"] = namespace
    return bodies


def path_of(body: Manifest) -> str:
    return KINDS[body["kind"]].path(body["metadata"]["namespace"], body["metadata"]["name"])


def apply(api: ApiServer, body: Manifest) -> Manifest:
    answer = api.request("PATCH", path_of(body), body, APPLY, fieldManager="modelrollout", force="true")
    assert answer.code in (200, 201), answer.message
    return answer.body


@pytest.mark.parametrize("name", CASES)
def test_a_stored_object_does_not_differ_from_what_was_rendered(
    gateway_api: ApiServer, namespace: str, name: str
) -> None:
    kept = {}
    for body in outputs(name, namespace):
        stored = apply(gateway_api, body)
        assert not differs(body, stored), body["kind"]
        assert not differs(body, trim(body["kind"], stored)), body["kind"]
        again = apply(gateway_api, body)
        assert again["metadata"]["resourceVersion"] == stored["metadata"]["resourceVersion"]
        kept[body["kind"], body["metadata"]["name"]] = trim(body["kind"], stored)
    case = load_case(name)
    read = observe_traffic(case.wish, lambda kind, name: kept.get((kind, name)))
    assert read.backends is not None
    assert sum(backend.weight for backend in read.backends) == WHOLE
    assert read.mirror == (case.plan.mirror and (case.plan.mirror.revision, case.plan.mirror.weight))
    assert read.split == case.plan.split


def test_a_change_by_another_is_seen_and_put_right(gateway_api: ApiServer, namespace: str) -> None:
    for body in outputs("canary-s3", namespace):
        if body["kind"] == "ModelRevision":
            continue  # immutable
        stored = apply(gateway_api, body)
        labels = {"app.kubernetes.io/name": "stolen", "team": "theirs"}
        change = {"metadata": {"labels": labels}}
        answer = gateway_api.request("PATCH", path_of(body), change, "application/merge-patch+json")
        assert answer.code == 200, answer.message
        assert differs(body, answer.body)
        again = apply(gateway_api, {**body, "metadata": {**body["metadata"], "uid": stored["metadata"]["uid"]}})
        assert not differs(body, again)
        assert again["metadata"]["labels"]["team"] == "theirs"


@pytest.mark.parametrize("name", CASES)
def test_pods_are_admitted_where_restricted_is_enforced(api: ApiServer, namespace: str, name: str) -> None:
    label = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    assert api.request("PATCH", f"/api/v1/namespaces/{namespace}", label, "application/merge-patch+json").code == 200
    (deployment,) = [body for body in outputs(name, namespace) if body["kind"] == "Deployment"]
    spec = deployment["spec"]["template"]["spec"]
    for key in ("runtimeClassName", "priorityClassName"):
        spec.pop(key, None)  # of the platform, and not there
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}
    path = f"/api/v1/namespaces/{namespace}/pods"
    answer = api.request("POST", path, pod, dryRun="All", fieldValidation="Strict")
    assert answer.code == 201, answer.message
    spec["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    assert "violates PodSecurity" in api.request("POST", path, pod, dryRun="All").message


@pytest.mark.parametrize("name", ["abtest-split", "shadow-mirror", "service-bluegreen"])
def test_what_a_plan_does_not_ask_for_any_more_is_gone_after_one_write(
    gateway_api: ApiServer, namespace: str, name: str
) -> None:
    """Copies, rules, cookies and their annotation: users of a test that ended are home in the same write."""
    case = load_case(name)
    home = Case(case.wish, case.settings, RoutePlan((Slot(case.plan.stable, WHOLE), Slot(None, 0)), case.plan.stable))
    for during, after in zip(case.traffic(), home.traffic(), strict=True):
        for body in (during, after):
            body["metadata"]["namespace"] = namespace
        assert differs(after, apply(gateway_api, during))
        stored = apply(gateway_api, after)
        assert not differs(after, stored)
        assert differs(during, stored)
        text = str({key: stored[key] for key in ("spec",)} | stored["metadata"].get("annotations", {}))
        assert "ookie" not in text
        assert "RequestMirror" not in text
        assert case.revision_name not in text
