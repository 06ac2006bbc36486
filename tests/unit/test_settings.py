"""The settings file: defaults, every kind of mistake with its path, and the page that describes it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from modelrollout.settings import Gateway, GatewayProfile, Settings, SettingsError, load, parse

ROOT = Path(__file__).parents[2]

FULL = """
operatorImage: registry.example.com/modelrollout:1
namespaces: [demo, chat]
enforceNamespace: false
pools:
  cpu: {image: registry.example.com/triton:1}
  gpu:
    image: registry.example.com/triton:2
    nodeSelector: {accelerator: l4}
    tolerations: [{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}]
    accelerator: {count: 2}
    resources: {limits: {memory: 4Gi}}
    runtimeClassName: nvidia
prometheus:
  default: {url: "http://prometheus.monitoring:9090/prefix", timeout: 500ms, bearerTokenFile: /var/token}
  other: {url: "https://[2001:db8::1]:9090", basicAuth: {username: me, passwordFile: /var/password}, caFile: /var/ca}
webhooks:
  retraining: {url: "https://pipelines.example.com/runs?x=1", bearerTokenFile: /var/token, timeout: 3s}
gateways:
- {namespace: gateways, name: inference, address: "inference.gateways:80", settle: 2s}
- {namespace: gateways, name: other, profile: envoy-gateway, grpcAddress: "[::1]:81"}
lease: {name: mine, namespace: ops, duration: 6s, renewDeadline: 4s, retryPeriod: 1s}
identity: me
metricsPort: 9200
healthPort: 9201
drain: 0s
exitTimeout: 1m
maxConcurrentReconciles: 4
logFormat: text
logLevel: debug
"""


def test_no_file_and_an_empty_file_give_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("# nothing yet\n")
    assert load(None) == load(tmp_path / "settings.yaml") == Settings()
    assert "cpu" in Settings().pools


def test_every_key_is_read() -> None:
    settings = parse(FULL)
    assert settings.pools["gpu"].accelerator is not None
    assert settings.pools["gpu"].accelerator.resource == "nvidia.com/gpu"
    assert settings.prometheus["default"].timeout == timedelta(milliseconds=500)
    assert settings.gateway("gateways", "inference").settle == timedelta(seconds=2)
    assert settings.gateway("gateways", "inference").probe_grpc_address == "inference.gateways:80"
    assert settings.gateway("gateways", "other").probe_grpc_address == "[::1]:81"
    assert settings.lease.renew_deadline == timedelta(seconds=4)
    defaults = Settings()
    for name in Settings.model_fields:
        assert getattr(settings, name) != getattr(defaults, name), f"FULL does not set {name}"


def test_a_gateway_that_is_not_listed_gets_the_defaults() -> None:
    found = parse(FULL).gateway("elsewhere", "inference")
    assert found == Gateway(namespace="elsewhere", name="inference")
    assert (found.profile, found.address) == (GatewayProfile.ENVOY_GATEWAY, None)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("poolz: {}", "poolz: unknown key; did you mean pools?"),
        ("pools: {cpu: {imagee: x}}", "pools.cpu.imagee: unknown key; did you mean image?"),
        (
            "pools: {cpu: {tolerations: [{key: a}, {efect: NoSchedule}]}}",
            "pools.cpu.tolerations[1].efect: unknown key; did you mean effect?",
        ),
        (
            "lease: {zzz: 1}",
            "lease.zzz: unknown key; known here: duration, name, namespace, renewDeadline, retryPeriod",
        ),
        ("prometheus: {default: {}}", "prometheus.default.url: must be given"),
        ("webhooks: {a: {url: 'http://user:word@x'}}", "webhooks.a.url: "),
        ("webhooks: {a: {url: 'http://x', timeout: 2m}}", "webhooks.a.timeout: must be longer than 0s and at most 1m"),
        ("prometheus: {default: {url: 'ftp://x'}}", "prometheus.default.url: "),
        ("prometheus: {default: {url: 'http://user:word@x'}}", "prometheus.default.url: "),
        ("prometheus: {default: {url: 'http://x?y=z'}}", "prometheus.default.url: "),
        ("prometheus: {default: {url: 'http://x', timeout: 0s}}", "prometheus.default: timeout must be longer"),
        (
            "prometheus: {a: {url: 'http://x', bearerTokenFile: /t, basicAuth: {username: u, passwordFile: /p}}}",
            "prometheus.a: give bearerTokenFile or basicAuth, not both",
        ),
        ("pools: {CPU: {}}", "pools.CPU"),
        ("pools: {cpu: {accelerator: {resource: gpu}}}", "pools.cpu.accelerator.resource: "),
        ("pools: {cpu: {sharedMemory: much}}", "pools.cpu.sharedMemory: must be a quantity"),
        ("pools: {cpu: {resources: {limits: {memory: -1}}}}", "pools.cpu.resources.limits: must be quantities"),
        ("gateways: [{name: x}]", "gateways[0].namespace: must be given"),
        ("gateways: [{namespace: a, name: x, address: 'http://x:80'}]", "gateways[0].address: "),
        ("gateways: [{namespace: a, name: x}, {namespace: a, name: x}]", "gateways: gateway a/x is listed twice"),
        ("lease: {duration: 5s}", "lease: must hold 0s < retryPeriod < renewDeadline < duration"),
        ("drain: 500ms", "drain: must be whole seconds"),
        ("exitTimeout: 2h", "exitTimeout: must be whole seconds, at most 1h"),
        ("drain: 3", "drain: must be a duration"),
        ("metricsPort: 0", "metricsPort: "),
        ("maxConcurrentReconciles: 0", "maxConcurrentReconciles: "),
        ("logFormat: xml", "logFormat: "),
        ("namespaces: demo", "namespaces: "),
        ("[]", "must be a mapping of settings, not list"),
        ("pools: {a: {}, a: {}}", "is not YAML: the key 'a' is written twice"),
        ("a: [", "is not YAML: "),
        ("!!python/object/apply:os.system [id]", "is not YAML: "),
    ],
)
def test_every_mistake_is_told_with_its_path(text: str, sentence: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse(text, "settings.yaml")
    assert str(caught.value).startswith(f"settings.yaml: {sentence}")


def test_all_mistakes_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        parse("metricsPort: x\ndrain: y\nzzz: 1")
    assert len(str(caught.value).splitlines()) == 3


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.yaml: cannot be read"):
        load(tmp_path / "none.yaml")


def test_every_key_is_described_and_the_page_names_it() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert f"| `{field.alias}` |" in page
