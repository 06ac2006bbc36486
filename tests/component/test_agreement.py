"""API server and operator agree on every text, also on those nobody thought of; and on the largest objects."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from modelrollout.api.contract import Contract, ContractTensor
from modelrollout.api.guard import Guard, Sli
from modelrollout.api.modeldeployment import InvalidSpec, parse_modeldeployment
from modelrollout.api.status import (
    ArmStatus,
    CommandRecord,
    Condition,
    ConditionStatus,
    GuardStatus,
    HistoryEntry,
    ModelDeploymentStatus,
    Outcome,
    RolloutStatus,
    Verdict,
    status_to_dict,
)
from modelrollout.evidence.policies import read_policy
from tests.badspecs import Manifest, good, good_policy, merged
from tests.component.apiserver import MERGE, ApiServer
from tests.component.test_crds import EXAMPLE_PATHS, deployments, post


def ab_test(**block: Any) -> Manifest:
    return {"rollout": {"strategy": "ABTest", "abTest": block}}


FIELDS: dict[str, Any] = {
    "version": lambda value: {"model": {"version": value}},
    "model name": lambda value: {"model": {"name": value}},
    "s3": lambda value: {"model": {"source": {"uri": f"s3://{value}"}}},
    "pvc": lambda value: {"model": {"source": {"uri": f"pvc://{value}", "endpoint": None, "secretRef": None}}},
    "scheme": lambda value: {"model": {"source": {"uri": f"{value}//models/digits"}}},
    "endpoint": lambda value: {"model": {"source": {"endpoint": f"http://{value}"}}},
    "region": lambda value: {"model": {"source": {"region": value}}},
    "secret": lambda value: {"model": {"source": {"secretRef": {"name": value}}}},
    "lineage key": lambda value: {"model": {"lineage": {value: "x"}}},
    "lineage value": lambda value: {"model": {"lineage": {"x": value}}},
    "image": lambda value: {"runtime": {"image": value}},
    "argument": lambda value: {"runtime": {"args": [f"--{value}"]}},
    "variable": lambda value: {"runtime": {"env": [{"name": value, "value": value}]}},
    "resource": lambda value: {"runtime": {"resources": {"limits": {value: 1}}}},
    "amount": lambda value: {"runtime": {"resources": {"limits": {"memory": value}}}},
    "request": lambda value: {"runtime": {"resources": {"requests": {"cpu": value}, "limits": {"cpu": "1100m"}}}},
    "surge": lambda value: {"rollout": {"canary": {"maxSurge": value}}},
    "header": lambda value: ab_test(match=[{"header": {"name": value, "value": "b"}}]),
    "header value": lambda value: ab_test(match=[{"header": {"name": "x-group", "value": value}}]),
    "cookie": lambda value: ab_test(match=[{"cookie": {"name": value, "value": "b"}}]),
    "cookie value": lambda value: ab_test(match=[{"cookie": {"name": "group", "value": value}}]),
    "sticky cookie": lambda value: ab_test(stickyCookie=value),
    "sticky for": lambda value: ab_test(stickyFor=value),
    "preview": lambda value: {
        "rollout": {
            "strategy": "BlueGreen",
            "blueGreen": {"approval": True, "preview": {"http": {"hostnames": [value]}}},
        }
    },
    "pool": lambda value: {"pool": value},
    "gateway": lambda value: {"traffic": {"gateway": {"name": value}}},
    "hostname": lambda value: {"traffic": {"http": {"hostnames": [value]}}},
    "grpc hostname": lambda value: {"traffic": {"grpc": {"hostnames": [f"{value}.example.com"]}}},
    "bake": lambda value: {"rollout": {"bake": value}},
    "interval": lambda value: {"rollout": {"evaluationInterval": value}},
    "guard name": lambda value: {"rollout": {"guards": [{"name": value, "sli": "error-ratio", "max": 0.1}]}},
    "query": lambda value: {"rollout": {"guards": [{"name": "a", "query": value, "max": 0.1}]}},
    "sli": lambda value: {"rollout": {"guards": [{"name": "a", "sli": value, "min": 0.1}]}},
    "where": lambda value: {
        "rollout": {"guards": [{"name": "a", "sli": "input-psi", "max": 1, "where": {value: "x"}}]}
    },
    "warm-up": lambda value: {
        "rollout": {"guards": [{"name": "a", "sli": "error-ratio", "max": 0.1, "warmUp": value}]}
    },
    "policy": lambda value: {"rollout": {"policies": [{"name": value}]}},
    "parameter": lambda value: {"rollout": {"gates": {"goldenSet": {"parameter": value}}}},
    "config map": lambda value: {"observation": {"profile": {"configMap": {"name": value, "key": value}}}},
    "webhook": lambda value: {"observation": {"drift": {"retraining": {"webhook": value}}}},
    "name": lambda value: value,
}
# fmt: off
PIECES = (
    "", "a", "A", "1", "0", "m", "s", "h", "ms", "Mi", "k", "E", "e3", "-", "_", ".", "..", "*.", "/", "//", ":", "@",
    "+", "=", "~", ",", "[", "]", "$", "%", "?", "#", " ", "\n", "\x00", "\xe9", "\u0665", "\U0001f600", "x" * 30,
)
# fmt: on
LABELS = ("digits", "a-1", "x" * 63)
NAMES = (*LABELS, "a.b-c.d", "x" * 253)
GOOD = {
    "version": ("1.2.3", "2.0.0-rc.1+build.7", "0.0.0-0a.1"),
    "model name": ("digits", "Digits_v1.0"),
    "s3": ("models/digits/1.2.3", "models.eu/a/"),
    "pvc": ("models/digits/1.2.3", "models", "models/"),
    "scheme": ("s3:", "pvc:"),
    "endpoint": ("s3.example.com:9000/path", "[::1]:80", "localhost"),
    "region": ("eu-central-1",),
    "secret": NAMES,
    "lineage key": ("git", "a/b.c", "x" * 63),
    "lineage value": ("3f2c1aa", "x" * 253),
    "image": ("registry.example.com:5000/a/b@sha256:0", "triton:24.05"),
    "argument": ("http-port", "log-verbose=1", "model-repository=/x"),
    "variable": ("AWS_X", "OMP_NUM_THREADS", "MODELROLLOUT_A"),
    "resource": ("nvidia.com/gpu", "hugepages-2Mi", "cpu"),
    "amount": ("500m", "1.5Gi", "1e3", "7"),
    "request": ("500m", "1100m", "1.1", "1101m", "11e2"),
    "surge": ("0", "1", "9999", "0%", "25%", "100%"),
    "header": ("x-group", "X-Model-Revision", "Host", "a" * 64),
    "header value": ("b", "a.b~c@d", "x" * 128),
    "cookie": ("group", "my_group-1", "model-revision"),
    "cookie value": ("b", "a:b/c+d"),
    "sticky cookie": ("group", "my_group-1", "x" * 64),
    "sticky for": ("24h", "8760h", "1s", "999ms"),
    "preview": ("preview.example.com", "digits.example.com", "*.example.com"),
    "pool": LABELS,
    "gateway": NAMES,
    "hostname": (*NAMES, "*.example.com", "10.0.0.1"),
    "grpc hostname": ("digits-grpc", "digits", "*"),
    "bake": ("1h30m", "168h", "168h1ms", "0s", "500ms"),
    "interval": ("10s", "10m", "999ms", "1s"),
    "guard name": LABELS,
    "query": ("rate(up[5m])",),
    "sli": ("error-ratio", "input-psi", "a0-", "x" * 63),
    "where": ("feature", "_a1", "x" * 63),
    "warm-up": ("0s", "1h", "30s", "3601s"),
    "policy": NAMES,
    "parameter": ("golden_set", "x" * 63),
    "config map": NAMES,
    "webhook": LABELS,
    "name": ("digits", "a-1", "x" * 52),
}


@st.composite
def cases(draw: st.DrawFn) -> tuple[str, str]:
    """A field and a text that is good for it, with none or few things done to it."""
    field = draw(st.sampled_from(sorted(FIELDS)))
    text = draw(st.sampled_from(GOOD[field]))
    for _ in range(draw(st.integers(0, 2))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, min(len(text), start + 3)))
        text = text[:start] + draw(st.sampled_from(PIECES)) + text[end:]
    return field, text


def manifest_with(field: str, text: str) -> Manifest:
    if field == "name":
        return merged(good(), {"metadata": {"name": text}})
    return merged(good(), {"spec": FIELDS[field](text)})


def operator_takes(manifest: Manifest) -> bool:
    try:
        parse_modeldeployment(manifest)
    except InvalidSpec as refusal:
        said = str(refusal)
    else:
        return True
    assert len(said) <= 1024
    assert said.isprintable()
    return False


def test_on_any_text(api: ApiServer) -> None:
    @settings(max_examples=500, deadline=None, derandomize=True, database=None)
    @given(cases())
    @example(("version", "1.2.3\n"))
    @example(("bake", "\u0665m"))
    @example(("amount", "1."))
    def agree(case: tuple[str, str]) -> None:
        manifest = manifest_with(*case)
        answer = post(api, "default", manifest, dryRun="All")
        assert answer.code in (201, 400, 422), answer.message
        assert (answer.code == 201) == operator_takes(manifest), answer.message

    agree()


def chosen(values: Sequence[Any]) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Manifest]:
    """An object with any of these fields."""
    return st.fixed_dictionaries({}, optional=fields)


PERCENTS = chosen((*(0.5, 5, 0.001, 1, 50, 99.9, 25) * 3, 0, 0.0009, 99.95, 100, 100.5, -1))
HOLDS = chosen((*("0s", "1m", "0m", "168h") * 4, "169h"))
HOSTNAMES = chosen(
    ("digits.example.com", "a.example.com", "b.example.com", "*.example.com", "c.a.example.com", "*.a.example.com")
)
HOSTS = st.fixed_dictionaries({"hostnames": st.lists(HOSTNAMES, min_size=1, max_size=2, unique=True)})
STEP = some(weight=PERCENTS, replicas=chosen((1, 2, 0, 1000)), pause=st.just({}), hold=HOLDS)
GOOD_STEP: st.SearchStrategy[Manifest] = (
    st.fixed_dictionaries({"weight": chosen((0.001, 0.5, 1, 5, 25, 50, 100))}, optional={"hold": chosen(("0s", "1m"))})
    | st.just({"pause": {}})
    | st.just({"replicas": 2})
)
RISING = chosen(([0.5, 5, 50], [1], [1, 2.5], [100])).map(lambda weights: [{"weight": weight} for weight in weights])
ODD_SURGES = ("00", "05%", "", "%", -1, 10_000, 10**19, True)
SURGES = chosen((*(0, "0", "0%", 1, "1", "25%", "100%", 2, 9999) * 3, *ODD_SURGES))
BLOCKS = {
    "canary": some(
        steps=st.lists(STEP, max_size=3) | st.lists(GOOD_STEP, min_size=1, max_size=4) | RISING | RISING,
        maxSurge=SURGES,
    ),
    "blueGreen": some(
        preview=some(http=HOSTS, grpc=HOSTS),
        prePromotion=some(source=chosen(("Mirror", "Preview")), percent=PERCENTS, hold=HOLDS),
        approval=st.booleans(),
    ),
    "shadow": some(percent=PERCENTS, hold=HOLDS, then=chosen(("Approval", "Canary", "BlueGreen", "End"))),
    "abTest": some(
        weight=PERCENTS,
        match=st.lists(
            some(
                header=st.fixed_dictionaries(
                    {"name": chosen(("x-group", "X-MODEL-REVISION", "a_b")), "value": st.just("b")}
                ),
                cookie=st.fixed_dictionaries(
                    {"name": chosen(("x-group", "model-revision", "a_b")), "value": st.just("b")}
                ),
            ),
            max_size=2,
        ),
        stickyCookie=chosen(("model-revision", "x-group", "a_b")),
        hold=HOLDS,
        samples=chosen((0, 1, 10**9, 10**9 + 1)),
        decide=chosen(("Approval", "Guards")),
    ),
}
STEPS_OF_GUARDS = chosen((*(None,) * 12, 1, 2, 3, 4, 21))


@st.composite
def rollouts(draw: st.DrawFn) -> Manifest:
    """A rollout and its traffic, of blocks that mostly belong together."""
    strategy = draw(chosen(("Canary", "BlueGreen", "Shadow", "ABTest", "Recreate")))
    own = {"Canary": "canary", "BlueGreen": "blueGreen", "Shadow": "shadow", "ABTest": "abTest"}.get(strategy)
    names = {own} if own is not None and draw(st.booleans()) else set()
    names |= draw(st.sets(chosen(sorted(BLOCKS)), max_size=2)) if draw(chosen((False, False, False, True))) else set()
    rollout: Manifest = {"strategy": strategy, **{name: draw(BLOCKS[name]) for name in sorted(names)}}
    kind = draw(chosen(("sli", "query", "query", "none")))
    if kind == "none":
        rollout |= {"guards": None} | draw(some(unguarded=st.booleans(), selectedPolicies=st.booleans()))
    else:
        guard = {"name": "a", kind: {"sli": "error-ratio", "query": "up"}[kind], "max": 0.1}
        steps = {"fromStep": draw(STEPS_OF_GUARDS), "toStep": draw(STEPS_OF_GUARDS)}
        rollout["guards"] = [guard | {name: step for name, step in steps.items() if step is not None}]
    traffic: Manifest = {"grpc": draw(st.none() | HOSTS)}
    if draw(chosen((False, False, False, False, True))):
        traffic |= {"service": {}, "gateway": None, "http": None} | draw(some(grpc=st.none(), http=HOSTS))
    return {"replicas": draw(chosen((0, 1, 2, 1000))), "traffic": traffic, "rollout": rollout}


def test_on_any_rollout(api: ApiServer) -> None:
    answers: Counter[bool] = Counter()

    @settings(max_examples=1000, deadline=None, derandomize=True, database=None)
    @given(rollouts())
    def agree(spec: Manifest) -> None:
        manifest = merged(good(), {"spec": spec})
        answer = post(api, "default", manifest, dryRun="All")
        assert answer.code in (201, 400, 422), answer.message
        taken = answer.code == 201
        assert taken == operator_takes(manifest), answer.message or manifest
        answers[taken] += 1

    agree()
    # The cases must not all fail for the same dull reason.
    assert min(answers[True], answers[False]) > 250, answers


NUMBERS = chosen((0.01, 0, 0.5, 1, 0.2, 2, -1, 60, 61, 0.999, 10, 11))
SLIS = ("request-rate", "input-psi", "accuracy", "latency-queue", "a")
GUARD = some(
    sli=chosen((*("error-ratio", "latency-p99", "latency-p50") * 3, *SLIS)),
    query=st.just("up"),
    max=NUMBERS,
    min=NUMBERS,
    relativeTo=st.just("stable"),
    confidence=chosen((0.999, 0.95, 0.5, 1, 0.51)),
    minEffect=NUMBERS,
    where=chosen(({}, {"feature": "age"}, {"a-b": "x"}, {"feature": ""}, {str("abcde"[n]): "x" for n in range(5)})),
    window=chosen((*("1m", "1h") * 3, "61m", "720h", "721h", "0s")),
    minSamples=chosen((0, 100)),
    breaches=chosen((1, 3)),
    of=chosen((1, 3)),
    warmUp=chosen(("0s", "1h", "61m")),
    labelDelay=chosen(("0s", "720h", "721h")),
    whenBothBreach=chosen(("Hold", "Rollback", "Warn")),
)


@st.composite
def guards(draw: st.DrawFn) -> Manifest:
    """A guard that is good by its kind, with none or few other fields."""
    base = draw(
        chosen(
            (
                {"sli": "error-ratio", "max": 0.01},
                {"sli": "error-ratio", "relativeTo": "stable"},
                {"sli": "latency-p99", "max": 0.5, "confidence": 0.999},
                {"sli": "latency-p95", "relativeTo": "stable", "minEffect": 0.1},
                {"sli": "input-psi", "max": 0.2, "window": "6h"},
                {"query": "up", "min": 1},
            )
        )
    )
    over = draw(GUARD)
    keep = draw(st.sets(chosen(sorted(over)), max_size=2)) if over else set()
    return {"name": "a", **base, **{name: over[name] for name in keep}}


def test_on_any_guard(api: ApiServer) -> None:
    """In a ModelDeployment and in a policy alike."""
    answers: Counter[bool] = Counter()

    @settings(max_examples=800, deadline=None, derandomize=True, database=None)
    @given(guards())
    def agree(guard: Manifest) -> None:
        manifest = merged(good(), {"spec": {"rollout": {"guards": [guard]}}})
        answer = post(api, "default", manifest, dryRun="All")
        assert answer.code in (201, 400, 422), answer.message
        taken = answer.code == 201
        assert taken == operator_takes(manifest), answer.message or manifest
        policy = merged(good_policy("ClusterRolloutPolicy"), {"spec": {"guards": [guard]}})
        other = api.request(
            "POST", EXAMPLE_PATHS["ClusterRolloutPolicy"], policy, fieldValidation="Strict", dryRun="All"
        )
        assert (other.code == 201) == taken, other.message or manifest
        assert (read_policy(policy).spec is not None) == taken
        answers[taken] += 1

    agree()
    assert min(answers[True], answers[False]) > 150, answers


TOLERANCES = st.lists(
    some(
        output=chosen(("a", "b")),
        absolute=NUMBERS,
        relative=NUMBERS,
        topK=chosen((0, 1, 100, 101)),
        ignore=st.booleans(),
    ),
    max_size=2,
)
PLACE = some(configMap=st.just({"name": "a", "key": "b"}), parameter=st.just("a"))
TIMEOUTS = chosen(("1s", "30m", "31m", "0s"))
GATES = some(
    contract=some(mode=chosen(("Enforce", "Warn", "Disabled", "Off")), timeout=TIMEOUTS),
    goldenSet=st.tuples(PLACE, some(tolerances=TOLERANCES, maxFailures=chosen((0, 3, -1)), timeout=TIMEOUTS)).map(
        lambda parts: parts[0] | parts[1]
    ),
    load=some(
        duration=chosen(("1s", "1m", "61s")),
        rate=chosen((1, 2000, 0, 2001, 0.5)),
        maxLatencyP99=NUMBERS,
        maxErrorRatio=NUMBERS,
        timeout=TIMEOUTS,
    ),
)
OBSERVATION = some(
    percent=PERCENTS,
    profile=PLACE,
    comparison=some(maxPerSecond=chosen((1, 500, 501, 0)), tolerances=TOLERANCES),
    labels=some(window=chosen(("1s", "720h", "0s")), maxPending=chosen((1, 10**6, 0))),
    drift=some(
        enabled=st.booleans(),
        maxPsi=NUMBERS,
        window=chosen(("1m", "168h", "59s")),
        minSamples=chosen((1, 0)),
        interval=chosen(("5s", "1h", "4s")),
        retraining=some(webhook=st.just("a"), approval=chosen(("Required", "Automatic", "Never"))),
    ),
)


def test_on_any_gates_and_observation(api: ApiServer) -> None:
    answers: Counter[bool] = Counter()

    @settings(max_examples=600, deadline=None, derandomize=True, database=None)
    @given(GATES, OBSERVATION)
    def agree(gates: Manifest, observation: Manifest) -> None:
        manifest = merged(good(), {"spec": {"rollout": {"gates": gates}, "observation": observation}})
        answer = post(api, "default", manifest, dryRun="All")
        assert answer.code in (201, 400, 422), answer.message
        taken = answer.code == 201
        assert taken == operator_takes(manifest), answer.message or manifest
        answers[taken] += 1

    agree()
    assert answers[True] > 20, answers
    assert answers[False] > 100, answers


@pytest.mark.parametrize(
    ("canary", "pods"),
    [({"maxSurge": 1}, 1), ({"maxSurge": "1"}, 1), ({"maxSurge": "25%"}, 2), ({"maxSurge": 0}, 0), ({}, 7)],
    ids=json.dumps,
)
def test_a_surge_is_a_number_or_a_percentage(api: ApiServer, canary: Manifest, pods: int) -> None:
    manifest = merged(good(), {"spec": {"replicas": 7, "rollout": {"canary": canary}}})
    answer = post(api, "default", manifest, dryRun="All")
    assert answer.code == 201, answer.message
    for read in (manifest, answer.body):
        spec = parse_modeldeployment(read).spec
        assert spec.rollout.canary is not None
        assert spec.rollout.canary.surge(spec.replicas) == pods


def test_what_the_api_server_fills_in_means_the_same(api: ApiServer) -> None:
    for name, strategy in {
        "canary": "Canary",
        "blueGreen": "BlueGreen",
        "shadow": "Shadow",
        "abTest": "ABTest",
    }.items():
        manifest = merged(good(), {"spec": {"rollout": {"strategy": strategy, name: {}}}})
        answer = post(api, "default", manifest, dryRun="All")
        assert answer.code == 201, answer.message
        assert parse_modeldeployment(answer.body).spec == parse_modeldeployment(manifest).spec


def largest() -> Manifest:
    label = partial("{}-{:02d}".format, "x" * 60)
    guards = [
        {"name": label(number), "query": "q" * 4096, "max": 1, "min": 0, "window": "59m59s", "warmUp": "59m59s"}
        for number in range(10)
    ]
    where = {f"{letter}{'l' * 62}": "v" * 128 for letter in "abcd"}
    guards += [
        {"name": label(number), "sli": "s" * 63, "max": 1, "min": 0, "window": "719h59m59s", "where": where}
        for number in range(10, 20)
    ]
    tolerances = [{"output": f"{number:02d}" + "o" * 126, "absolute": 0.1} for number in range(64)]
    place = {"configMap": {"name": "c" * 253, "key": "k" * 253}}
    domain = ".".join(["y" * 40] * 6)
    return {
        **good(),
        "metadata": {"name": "n" * 52},
        "spec": {
            "model": {
                "name": "m" * 128,
                "version": "1.2.3-" + "a" * 58,
                "source": {
                    "uri": "s3://models/" + "p/" * 500 + "p",
                    "endpoint": "https://" + "e" * 400,
                    "secretRef": {"name": "s" * 253},
                },
                "lineage": {f"{number:02d}{'k' * 61}": "v" * 253 for number in range(16)},
            },
            "runtime": {
                "image": "i" * 512,
                "args": ["--" + "a" * 1022] * 64,
                "env": [{"name": f"E{number:02d}" + "E" * 125, "value": "v" * 4096} for number in range(64)],
                "resources": {
                    part: {f"example.com/{number:02d}{'r' * 61}": "1" * 31 for number in range(16)}
                    for part in ("requests", "limits")
                },
            },
            "traffic": {
                "gateway": {"name": "g" * 253, "namespace": "n" * 63},
                "http": {"hostnames": [f"*.h{number:02d}.{domain}" for number in range(16)]},
                "grpc": {"hostnames": [f"*.g{number:02d}.{domain}" for number in range(16)]},
            },
            "rollout": {
                "canary": {"steps": [{"weight": number, "hold": "167h59m59s999ms"} for number in range(1, 21)]},
                "guards": guards,
                "policies": [{"kind": "ClusterRolloutPolicy", "name": f"{number}" + "p" * 252} for number in range(10)],
                "gates": {"goldenSet": {**place, "tolerances": tolerances}, "load": {"rate": 1999.5}},
            },
            "observation": {
                "profile": place,
                "comparison": {"tolerances": tolerances},
                "labels": {},
                "drift": {"retraining": {"webhook": "w" * 63}},
            },
        },
    }


def test_the_largest_policy_is_within_the_cost_of_the_rules(api: ApiServer) -> None:
    policy = good_policy("ClusterRolloutPolicy")
    slis = [
        {
            "name": f"s{number:02d}" + "s" * 60,
            "description": "d" * 256,
            "unit": "u" * 32,
            "query": "q" * 4096,
            "samples": "q" * 4096,
        }
        for number in range(50)
    ]
    labels = {f"k{number:02d}": "v" * 63 for number in range(16)}
    policy["spec"] = {
        "selector": {"matchLabels": labels},
        "slis": slis,
        "guards": largest()["spec"]["rollout"]["guards"],
    }
    assert read_policy(policy).problem == ""
    answer = api.request("POST", EXAMPLE_PATHS["ClusterRolloutPolicy"], policy, fieldValidation="Strict", dryRun="All")
    assert answer.code == 201, answer.message


def largest_preview() -> Manifest:
    domain = ".".join(["z" * 40] * 6)
    return {
        part: {"hostnames": [f"*.{letter}{number:02d}.{domain}" for number in range(16)]}
        for part, letter in (("http", "h"), ("grpc", "g"))
    }


LARGEST_BLOCKS: list[Manifest] = [
    {},
    {
        "strategy": "BlueGreen",
        "canary": None,
        "blueGreen": {"preview": largest_preview(), "prePromotion": {"percent": 99.999}, "approval": True},
    },
    {
        "strategy": "ABTest",
        "canary": None,
        "abTest": {
            "match": [{"cookie": {"name": f"{number}" + "c" * 63, "value": "v" * 128}} for number in range(6)],
            "stickyCookie": "s" * 64,
        },
    },
]


@pytest.mark.parametrize("block", LARGEST_BLOCKS, ids=lambda block: block.get("strategy", "Canary"))
def test_the_largest_spec_is_within_the_cost_of_the_rules(api: ApiServer, block: Manifest) -> None:
    manifest = merged(largest(), {"spec": {"rollout": block}})
    parse_modeldeployment(manifest)
    answer = post(api, "default", manifest, dryRun="All")
    assert answer.code == 201, answer.message


def test_the_largest_status_is_taken(api: ApiServer, namespace: str) -> None:
    long = "ä\x00\n" * 4000
    guards = tuple(
        GuardStatus(name=f"g{number}", verdict=Verdict.BREACH, value=float("nan"), threshold=long, message=long)
        for number in range(30)
    )
    tensors = tuple(
        ContractTensor(name="ä" * 128, datatype=long, shape=(2**63 - 1,) * 20, optional=True) for _ in range(200)
    )
    status = ModelDeploymentStatus(
        message=long,
        conditions=tuple(
            Condition(type=f"C{number}", status=ConditionStatus.UNKNOWN, reason=long, message=long)
            for number in range(30)
        ),
        rollout=RolloutStatus(
            attempt=1,
            revision=long,
            strategy=long,
            instead_of=long,
            guards=guards,
            message=long,
            arms=tuple(ArmStatus(revision=long, requests=float("inf"), error_ratio=0.5) for _ in range(3)),
            contract=Contract(inputs=tensors, outputs=tensors, max_batch_size=2**31 - 1),
        ),
        commands=tuple(CommandRecord(command=long, by=long, accepted=True, message=long) for _ in range(30)),
        quarantined=tuple(f"r{number}" for number in range(50)),
        history=tuple(
            HistoryEntry(attempt=number, revision=long, strategy=long, outcome=Outcome.ABORTED, message=long)
            for number in range(50)
        ),
        handled_command=long,
    )
    assert post(api, namespace, good()).code == 201
    path = f"{deployments(namespace)}/digits/status"
    answer = api.request("PATCH", path, {"status": status_to_dict(status)}, MERGE, fieldValidation="Strict")
    assert answer.code == 200, answer.message[-500:]
    assert answer.body["status"]["phase"] == "Pending"


def test_every_sli_is_known_to_both(api: ApiServer) -> None:
    for sli in Sli:
        guard = {"name": "a", "sli": sli.value, "max": 0.5}
        Guard.model_validate(guard)
        answer = post(api, "default", merged(good(), {"spec": {"rollout": {"guards": [guard]}}}), dryRun="All")
        assert answer.code == 201, answer.message
