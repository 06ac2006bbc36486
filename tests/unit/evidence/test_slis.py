"""The catalog: the one that ships is right, and a wrong one is refused when it is read."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib.resources import files

import promql_parser as promql
import pytest

from modelrollout.api.guard import Sli
from modelrollout.api.rolloutpolicy import SliDefinition
from modelrollout.evidence.context import Context
from modelrollout.evidence.queried import QueryIndicator
from modelrollout.evidence.slis import CatalogError, Indicator, Kind, catalog, find, read
from modelrollout.ports import Series
from modelrollout.rollout.plan import Source
from modelrollout.settings import GatewayProfile
from tests.unit.evidence.envoy import context

TEXT = (files("modelrollout.evidence") / "catalog" / "envoy-gateway.yaml").read_text("utf-8")


@pytest.mark.parametrize("profile", list(GatewayProfile))
def test_every_profile_of_the_settings_has_every_sli_or_says_why_not(profile: GatewayProfile) -> None:
    found = catalog(str(profile))
    assert found.profile == profile
    assert {*found.slis, *found.absent} == set(Sli)
    assert Sli.ERROR_RATIO in found.slis
    for indicator in found.slis.values():
        for protocol in ("http", "grpc"):
            assert isinstance(promql.parse(indicator.counters(protocol).query(("a/b",))), promql.VectorSelector)


@pytest.mark.parametrize(
    ("source", "names"),
    [
        (Source.WEIGHTED, ("m/rule/0/backend/1",)),
        (Source.MIRROR, ("m/rule/0-mirror-0",)),
        (Source.PREVIEW, ("m/rule/2/backend/0", "m--preview/rule/0/backend/0")),
        (Source.SPLIT, ("m/rule/0/backend/1", "m/rule/2/backend/0")),
    ],
)
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_source_is_its_clusters(protocol: str, source: Source, names: tuple[str, ...]) -> None:
    """As Envoy Gateway 1.8 was seen to name them."""
    where = replace(context(), name="m", source=source)
    expected = tuple(f"{protocol}route/demo/{name}" for name in names)
    assert catalog("envoy-gateway").names(protocol, where) == expected


def test_the_other_arm_has_the_other_slot() -> None:
    where = replace(context(), source=Source.SPLIT).other
    assert (where.revision, where.stable, where.slot) == ("digits-old", "digits-new", 0)
    assert catalog("envoy-gateway").names("http", where) == (
        "httproute/demo/digits/rule/0/backend/0",
        "httproute/demo/digits/rule/1/backend/0",
    )


def test_a_selector_takes_all_clusters_of_a_source_and_no_other() -> None:
    found = catalog("envoy-gateway")
    where = replace(context(), source=Source.SPLIT)
    selector = promql.parse(found.slis[Sli.REQUEST_RATE].http.query(found.names("http", where)))
    assert isinstance(selector, promql.VectorSelector)
    pattern = next(m.value for m in selector.matchers.matchers if m.name == "envoy_cluster_name")
    for name in ("", *found.names("http", where)):
        assert re.fullmatch(pattern, name)
    for name in ("httproute/demo/digits/rule/0/backend/0", "httproute/demo/digits/rule/2/backend/01", "x"):
        assert not re.fullmatch(pattern, name)


def test_the_grpc_errors_of_copies_cannot_be_measured() -> None:
    found = catalog("envoy-gateway")
    for http in (False, True):
        where = replace(context(grpc=True, http=http), source=Source.MIRROR)
        with pytest.raises(CatalogError, match="error-ratio of grpc cannot be measured by the source Mirror: Envoy"):
            found.indicator(Sli.ERROR_RATIO, where)
        assert found.indicator(Sli.LATENCY_P99, where).quantile == 0.99
    assert found.indicator(Sli.ERROR_RATIO, replace(context(), source=Source.MIRROR)).kind is Kind.RATIO


def test_a_source_without_counters_is_said() -> None:
    text = "\n".join(line for line in TEXT.splitlines() if not line.startswith("    Mirror: "))
    with pytest.raises(CatalogError, match="has no counters for the source Mirror: give the guard a query"):
        read(text, "here").names("http", replace(context(), source=Source.MIRROR))


@pytest.mark.parametrize(
    ("protocol", "labels", "roles"),
    [
        ("http", {"__name__": "envoy_cluster_upstream_rq_xx", "envoy_response_code_class": "5"}, ("errors",)),
        ("http", {"__name__": "envoy_cluster_upstream_rq_xx", "envoy_response_code_class": "4"}, ()),
        ("http", {"__name__": "envoy_cluster_upstream_rq_total"}, ("sentinel", "sent")),
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
    counters = catalog("envoy-gateway").slis[Sli.ERROR_RATIO].counters(protocol)
    assert counters.roles_of(Series(labels, ())) == roles


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
        ("Split: [httproute/$namespace/$name/rule/0/backend/$slot", "Split: [$namespace/$name", "must name the arm"),
        ("0-mirror-0]", "0-mirror-$place]", "Mirror must be made of"),
        ("    Weighted: [httproute/$namespace/$name/rule/0/backend/$slot]\n", "", "lacks the source Weighted"),
        ('envoy_cluster_name=~"$cluster|"}', 'envoy_cluster_name="$cluster"}', "must select by =~ $cluster"),
        ('envoy_cluster_name=~"$cluster|"}', 'envoy_cluster_name=~"x"}', "must select by =~ $cluster"),
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


@pytest.mark.parametrize("profile", ["haproxy", "../catalog/envoy-gateway", ""])
def test_an_unknown_profile(profile: str) -> None:
    with pytest.raises(CatalogError, match="no SLI catalog"):
        catalog(profile)


def arm(profile: str, **more: object) -> Context:
    return replace(context(grpc=True), profile=profile, revision="digits-0123456789", **more)  # type: ignore[arg-type]


ISTIO = {"reporter": "source", "destination_service": "digits-0123456789.demo.svc.cluster.local"}
TRAEFIK = "httproute-demo-digits-gw-gateways-inference-ep-web-0-af329269dd38-svc-demo-digits-0123456789-1"
GRPC = "grpcroute-demo-digits-gw-gateways-inference-ep-web-0-af329269dd38-svc-demo-digits-0123456789-1"


@pytest.mark.parametrize(
    ("profile", "protocol", "sli", "labels", "roles"),
    [
        ("istio", "http", "error-ratio", {**ISTIO, "request_protocol": "http", "response_code": "503"}, "te"),
        ("istio", "http", "error-ratio", {**ISTIO, "request_protocol": "http", "response_code": "404"}, "t"),
        ("istio", "http", "error-ratio", {**ISTIO, "request_protocol": "grpc", "response_code": "200"}, ""),
        ("istio", "grpc", "error-ratio", {**ISTIO, "request_protocol": "grpc", "grpc_response_status": "13"}, "te"),
        ("istio", "grpc", "error-ratio", {**ISTIO, "request_protocol": "grpc", "grpc_response_status": "3"}, "t"),
        ("traefik", "http", "error-ratio", {"service": TRAEFIK, "protocol": "http", "code": "502"}, "te"),
        ("traefik", "grpc", "error-ratio", {"service": GRPC, "protocol": "grpc", "code": "14"}, "te"),
        ("traefik", "grpc", "error-ratio", {"service": GRPC, "protocol": "grpc", "code": "5"}, "t"),
        ("nginx-gateway-fabric", "http", "error-ratio", {"nginx_status_range": "5xx"}, "te"),
        ("nginx-gateway-fabric", "http", "error-ratio", {"nginx_status_range": "2xx"}, "t"),
    ],
)
def test_a_series_of_another_gateway_has_its_roles(
    profile: str, protocol: str, sli: Sli, labels: dict[str, str], roles: str
) -> None:
    counters = catalog(profile).slis[Sli(sli)].counters(protocol)
    name = counters.series["total"]["__name__"]
    found = counters.roles_of(Series({"__name__": name, **labels}, ()))
    assert set(found) - {"sentinel"} == {"t": {"total"}, "te": {"total", "errors"}, "": set()}[roles]


@pytest.mark.parametrize(
    ("service", "taken"),
    [
        (f"{TRAEFIK}@kubernetesgateway", True),
        ("demo-digits-0123456789-http-8000@kubernetesgateway", True),
        ("demo-digits-0123456789-8000@kubernetesgateway", True),
        ("", True),
        ("demo-digits-0123456780-http-8000@kubernetesgateway", False),
        (f"{TRAEFIK.rpartition('-svc-')[0]}-wrr@kubernetesgateway", False),
        ("other-demo-digits-0123456789-http-8000@kubernetesgateway", False),
    ],
)
def test_services_of_traefik_before_and_since_3_7_6(service: str, taken: bool) -> None:
    where = arm("traefik")
    found = catalog("traefik")
    selector = promql.parse(found.slis[Sli.ERROR_RATIO].http.query(found.names("http", where)))
    assert isinstance(selector, promql.VectorSelector)
    pattern = next(m.value for m in selector.matchers.matchers if m.name == "service")
    assert bool(re.fullmatch(pattern, service)) is taken


def test_what_a_gateway_does_not_count_is_said() -> None:
    with pytest.raises(CatalogError, match="nginx-gateway-fabric has no latency-p99: NGINX exports an average"):
        find("latency-p99", arm("nginx-gateway-fabric"))
    with pytest.raises(CatalogError, match="NGINX does not count the status of gRPC"):
        find("error-ratio", arm("nginx-gateway-fabric"))
    assert isinstance(find("error-ratio", arm("nginx-gateway-fabric", grpc=False)), Indicator)
    for profile in ("istio", "traefik", "nginx-gateway-fabric"):
        with pytest.raises(CatalogError, match="by the source Mirror"):
            find("error-ratio", arm(profile, grpc=False, source=Source.MIRROR))
    assert catalog("nginx-gateway-fabric").names("http", arm("nginx-gateway-fabric")) == (
        "demo_digits-0123456789_8000",
    )


def test_a_name_that_no_sli_has_is_told_the_nearest() -> None:
    with pytest.raises(CatalogError, match=r"there is no SLI .error-rate.; did you mean .*error-ratio"):
        find("error-rate", context())
    with pytest.raises(CatalogError, match="did you mean inp-drift"):
        find("inp-drfit", replace(context(), definitions=(SliDefinition(name="inp-drift", unit="x", query="a"),)))
    with pytest.raises(CatalogError, match="`modelrollout slis` lists them"):
        find("zzzz", context())


def test_the_sli_of_a_policy_goes_before_one_of_a_catalog() -> None:
    own = SliDefinition(name="error-ratio", unit="ratio", query='sum(errors{pod=~"$pods",$where})')
    found = find("error-ratio", replace(context(), definitions=(own,), profile=None))
    assert isinstance(found, QueryIndicator)
    assert (found.origin, found.where) == ("policy", None)
    assert isinstance(find("error-ratio", context()), Indicator)
    with pytest.raises(CatalogError, match="the SLI bad of a policy: the query answers a range of samples"):
        find("bad", replace(context(), definitions=(SliDefinition(name="bad", unit="x", query="x[5m]"),)))
