from __future__ import annotations

import json
from pathlib import Path

import pytest
from deploy.demo import demo, manifests, place
from deploy.demo.install import image_value, values
from deploy.demo.place import Place, UnusableError, existing_place, local_place
from deploy.demo.preflight import address_of

from modelrollout.api.modeldeployment import parse_modeldeployment
from modelrollout.settings import Settings


def environment(kubeconfig: Path) -> dict[str, str]:
    kubeconfig.write_text("")
    return {
        "KUBECONFIG": str(kubeconfig),
        "GATEWAY": "infra/public",
        "PROMETHEUS_URL": "http://prometheus.monitoring:9090/",
        "S3_ENDPOINT": "http://s3.storage:9000",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "IMAGE_OPERATOR": "registry.example:5000/modelrollout:1",
        "IMAGE_TRITON": "registry.example:5000/triton:1",
    }


@pytest.fixture
def existing(tmp_path: Path) -> Place:
    return existing_place(environment(tmp_path / "kubeconfig"))


def test_every_missing_variable_is_named_at_once() -> None:
    with pytest.raises(UnusableError) as refused:
        existing_place({})
    assert all(name in str(refused.value) for name in place.REQUIRED)


@pytest.mark.parametrize("name", sorted(place.REQUIRED))
def test_one_missing_variable_is_named(name: str, tmp_path: Path) -> None:
    given = environment(tmp_path / "kubeconfig")
    del given[name]
    with pytest.raises(UnusableError) as refused:
        existing_place(given)
    assert str(refused.value).startswith(f"{name} is not set")
    assert len(str(refused.value).splitlines()) == 1


def test_a_gateway_needs_its_namespace_and_a_kubeconfig_must_exist(tmp_path: Path) -> None:
    given = environment(tmp_path / "kubeconfig") | {"GATEWAY": "public", "KUBECONFIG": "/nowhere/at/all"}
    with pytest.raises(UnusableError) as refused:
        existing_place(given)
    assert "write namespace/name" in str(refused.value)
    assert "/nowhere/at/all: there is no such file" in str(refused.value)


def test_addresses_from_here_default_to_those_inside(existing: Place, tmp_path: Path) -> None:
    assert existing.prometheus_here == existing.prometheus_inside == "http://prometheus.monitoring:9090"
    assert existing.s3_here == existing.s3_inside
    here = existing_place(environment(tmp_path / "other") | {"PROMETHEUS_HERE": "http://127.0.0.1:9"})
    assert here.prometheus_here == "http://127.0.0.1:9"
    assert here.audit_log is None


def test_the_operator_is_not_sent_to_a_loopback_address(tmp_path: Path) -> None:
    given = environment(tmp_path / "kubeconfig") | {"GATEWAY_ADDRESS": "127.0.0.1:30080"}
    assert "address" not in values(existing_place(given))["settings"]["gateways"][0]
    probed = values(existing_place(given | {"GATEWAY_PROBE": "envoy.infra:80"}))
    assert probed["settings"]["gateways"][0]["address"] == "envoy.infra:80"


def test_every_variable_is_documented() -> None:
    assert all(name in place.VARIABLES for name in place.REQUIRED)


def test_the_local_cluster_is_read_from_its_files(tmp_path: Path) -> None:
    with pytest.raises(UnusableError, match="make cluster"):
        local_place(tmp_path)
    names = ("kubeconfig", "gateway", "prometheus", "prometheusInCluster", "s3", "s3InCluster", "s3AccessKey")
    addresses = {name: name for name in (*names, "s3SecretKey", "auditLog", "binaries")}
    (tmp_path / "cluster.json").write_text(json.dumps(addresses))
    (tmp_path / "images.json").write_text(json.dumps({"operator": "o:1", "triton": "t:1"}))
    found = local_place(tmp_path)
    assert (found.local, found.image_triton, found.helm) == (True, "t:1", "binaries/helm")


def test_a_kubeconfig_alone_does_not_touch_the_users_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "mine"))
    monkeypatch.delenv("CLUSTER", raising=False)
    asked = []

    def refuse() -> None:
        asked.append("local")
        raise UnusableError("not here")

    monkeypatch.setattr(place, "bring_up_local", refuse)
    monkeypatch.setattr(place, "existing_place", lambda environment: pytest.fail("the user's cluster was used"))
    assert demo.main([]) == 2
    assert asked == ["local"]
    assert "left alone" in capsys.readouterr().out


def test_an_existing_cluster_never_builds_a_local_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CLUSTER", "existing")
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setattr(place, "bring_up_local", lambda: pytest.fail("a local cluster was built"))
    assert demo.main([]) == 2
    assert "KUBECONFIG is not set" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("reference", "repository", "tag", "digest"),
    [
        ("localhost/modelrollout/operator:abc", "localhost/modelrollout/operator", "abc", ""),
        ("registry.example:5000/operator", "registry.example:5000/operator", "", ""),
        ("registry.example:5000/operator:1", "registry.example:5000/operator", "1", ""),
        ("r.example/operator@sha256:12", "r.example/operator", "", "sha256:12"),
        ("operator", "operator", "", ""),
    ],
)
def test_image_references(reference: str, repository: str, tag: str, digest: str) -> None:
    assert image_value(reference) == {
        "repository": repository,
        "tag": tag,
        "digest": digest,
        "pullPolicy": "IfNotPresent",
    }


def test_the_settings_are_what_the_operator_reads(existing: Place, tmp_path: Path) -> None:
    given = environment(tmp_path / "more") | {"GATEWAY_ADDRESS": "10.0.0.1:80"}
    settings = Settings.model_validate(values(existing_place(given))["settings"])
    assert settings.gateway("infra", "public").address == "10.0.0.1:80"
    assert settings.pools["cpu"].image == existing.image_triton


def test_the_applied_spec_is_valid(existing: Place) -> None:
    body = manifests.model_deployment(
        existing, "demo", "1.0.0", "models/digits/1.0.0", "digits.example", "grpc.example"
    )
    spec = parse_modeldeployment(body).spec
    assert spec.model.source.uri == "s3://models/models/digits/1.0.0"
    assert [guard.name for guard in spec.rollout.guards] == ["errors", "latency"]


def test_a_gateways_address() -> None:
    listeners = [{"protocol": "HTTPS", "port": 443}, {"protocol": "HTTP", "port": 8080}]
    gateway = {"spec": {"listeners": listeners}, "status": {"addresses": [{"value": "10.1.1.1"}]}}
    assert address_of(gateway) == "10.1.1.1:8080"
    assert address_of({"spec": {"listeners": listeners}}) == ""
