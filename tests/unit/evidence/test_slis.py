"""The catalog: the one that ships is right, and a wrong one is refused when it is read."""

from __future__ import annotations

from importlib.resources import files

import promql_parser as promql
import pytest

from modelrollout.api.guard import Sli
from modelrollout.evidence.slis import CatalogError, Kind, catalog, read
from modelrollout.ports import Series
from modelrollout.settings import GatewayProfile
from tests.unit.evidence.envoy import GRPC, HTTP, context

TEXT = (files("modelrollout.evidence") / "catalog" / "envoy-gateway.yaml").read_text("utf-8")


@pytest.mark.parametrize("profile", list(GatewayProfile))
def test_every_profile_of_the_settings_has_every_sli(profile: GatewayProfile) -> None:
    found = catalog(str(profile))
    assert found.profile == profile
    assert set(found.slis) == set(Sli)
    for indicator in found.slis.values():
        for protocol in ("http", "grpc"):
            assert isinstance(promql.parse(indicator.source(protocol).query("a/b")), promql.VectorSelector)


def test_an_arm_is_its_cluster() -> None:
    found = catalog("envoy-gateway")
    assert found.cluster("http", context()) == HTTP
    assert found.cluster("grpc", context()) == GRPC


@pytest.mark.parametrize(
    ("protocol", "labels", "roles"),
    [
        ("http", {"__name__": "envoy_cluster_upstream_rq_xx", "envoy_response_code_class": "5"}, ("errors",)),
        ("http", {"__name__": "envoy_cluster_upstream_rq_xx", "envoy_response_code_class": "4"}, ()),
        ("http", {"__name__": "envoy_cluster_upstream_rq_total"}, ("sentinel",)),
        ("http", {"__name__": "envoy_cluster_upstream_rq_completed"}, ("total",)),
        ("grpc", {"__name__": "envoy_cluster_grpc_ModelInfer_13"}, ("errors",)),
        ("grpc", {"__name__": "envoy_cluster_upstream_rq_xx", "envoy_response_code_class": "5"}, ("errors",)),
        ("grpc", {"__name__": "envoy_cluster_grpc_ModelInfer_3"}, ()),
        ("grpc", {"__name__": "envoy_cluster_grpc_ModelInfer_0"}, ()),
        ("grpc", {"__name__": "envoy_cluster_grpc_ModelInfer_12"}, ()),
        ("grpc", {"__name__": "envoy_cluster_grpc_ModelInfer_total"}, ()),
    ],
)
def test_roles_of_series(protocol: str, labels: dict[str, str], roles: tuple[str, ...]) -> None:
    source = catalog("envoy-gateway").slis[Sli.ERROR_RATIO].source(protocol)
    assert source.roles_of(Series(labels, ())) == roles


def test_kinds() -> None:
    found = catalog("envoy-gateway").slis
    assert {sli: found[sli].kind for sli in (Sli.ERROR_RATIO, Sli.REQUEST_RATE)} == {
        Sli.ERROR_RATIO: Kind.RATIO,
        Sli.REQUEST_RATE: Kind.RATE,
    }
    assert [found[sli].quantile for sli in (Sli.LATENCY_P50, Sli.LATENCY_P95, Sli.LATENCY_P99)] == [0.5, 0.95, 0.99]
    assert found[Sli.LATENCY_P99].scale == 0.001


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("profile: envoy-gateway", "profile: x\nmore: y", "more"),
        ("target: [job, instance]", "target: []", "target"),
        ("rule/0/backend/$slot", "rule/0", "must be made of"),
        ('envoy_cluster_name=~"$cluster|"}', 'envoy_cluster_name=~"x"}', "must select by $cluster"),
        ("select: '{", "select: 'sum({", "unclosed left parenthesis"),
        ("select: '{", "select: '1 + {", "must be one vector selector"),
        ("quantile: 0.95", "quantile: 1.5", "quantile"),
        ("kind: rate", "kind: quantile", "quantile belongs to kind quantile"),
        ("errors: {__name__: envoy_cluster_upstream_rq_xx", "faults: {__name__: x", "needs the roles alive, errors"),
        ("sentinel: {__name__: envoy_cluster_upstream_rq_total}", "sentinel: {}", "would take every series"),
        ("scale: 0.001", "scale: 0", "scale"),
        ("  latency-p99:", "  latency-p98:", "latency-p98"),
        ("slis:", "slis: [", "parsing"),
    ],
)  # fmt: skip
def test_a_wrong_catalog_is_refused(old: str, new: str, sentence: str) -> None:
    assert old in TEXT
    with pytest.raises(CatalogError) as caught:
        read(TEXT.replace(old, new), "here.yaml")
    assert "here.yaml" in str(caught.value)
    assert sentence in str(caught.value)


def test_a_catalog_that_lacks_an_sli_is_refused() -> None:
    with pytest.raises(CatalogError, match="lacks the SLIs latency-p99"):
        read(TEXT[: TEXT.index("  latency-p99:")], "here.yaml")


@pytest.mark.parametrize("profile", ["istio", "../catalog/envoy-gateway", ""])
def test_an_unknown_profile(profile: str) -> None:
    with pytest.raises(CatalogError, match="no SLI catalog"):
        catalog(profile)
