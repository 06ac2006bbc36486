"""What is observed follows the cluster: wishes out of ModelDeployments, profiles out of ConfigMaps and models."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tritonclient.grpc import model_config_pb2, service_pb2

from modelrollout.observer import rpc
from modelrollout.observer.exposition import Exposition
from modelrollout.observer.following import Follower, Profiles
from modelrollout.observer.limits import Limits
from modelrollout.observer.registry import Registry
from modelrollout.observer.rpc import Askers
from modelrollout.observer.target import FLIP_LIMIT, OUTPUT_LIMIT
from modelrollout.observer.tensors import Tensor
from modelrollout.observer.wishes import Arms, Directory, wish_of
from modelrollout.ports import TransientError
from modelrollout.profile.making import Column, make
from modelrollout.profile.model import dump
from tests.unit.observer.stage import Arm, serving, until, wish

NUMBERS = np.linspace(0, 1, 100)
PROFILE = make("digits", [Column("x", "X", (0,), NUMBERS), Column("y", "Y", (0,), NUMBERS)], {"S": NUMBERS})


def manifest(name: str = "digits", **changes: Any) -> dict[str, Any]:
    observation = {
        "profile": {"configMap": {"name": "digits", "key": "profile.json"}},
        "comparison": {"maxPerSecond": 5.0, "tolerances": [{"output": "S", "absolute": 0.1}]},
        "labels": {"window": "10m", "maxPending": 7},
    }
    body: dict[str, Any] = {
        "apiVersion": "modelrollout.io/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name, "namespace": "demo"},
        "spec": {
            "model": {"version": "1.0.0", "source": {"uri": "pvc://models/digits"}},
            "traffic": {
                "gateway": {"name": "inference"},
                "http": {"hostnames": [f"{name}.example.com", "*.models.example.com"]},
                "grpc": {"hostnames": [f"{name}-grpc.example.com"]},
            },
            "rollout": {"unguarded": True},
            "observation": observation,
        },
    }
    body["spec"].update(changes.pop("spec", {}))
    return {**body, **changes}


def test_a_wish_is_read_out_of_the_object() -> None:
    found = wish_of(manifest())
    assert found is not None
    assert (found.name, found.namespace, found.model) == ("digits", "demo", "digits")
    assert found.hosts == {"digits.example.com", "*.models.example.com", "digits-grpc.example.com"}
    assert found.comparing is not None
    assert (found.comparing.per_second, found.comparing.tolerances[0].absolute) == (5.0, 0.1)
    assert found.labelling is not None
    assert (found.labelling.window, found.labelling.most) == (600.0, 7)
    without = manifest()
    del without["spec"]["observation"]
    assert wish_of(without) is None
    assert wish_of({}) is None


@pytest.mark.parametrize(
    ("phase", "revisions", "arms"),
    [
        ("Idle", {"stable": "a"}, Arms("a")),
        ("Preparing", {"stable": "a", "candidate": "b"}, Arms("a")),
        ("Verifying", {"stable": "a", "candidate": "b"}, Arms("a")),
        ("Arming", {"stable": "a", "candidate": "b"}, Arms("a", "b")),
        ("Progressing", {"stable": "a", "candidate": "b"}, Arms("a", "b")),
        ("AwaitingApproval", {"stable": "a", "candidate": "b"}, Arms("a", "b")),
        ("Baking", {"stable": "b", "lastGood": "a"}, Arms("a", "b")),
        ("Baking", {"stable": "b"}, Arms("b")),
        ("RollingBack", {"stable": "a", "candidate": "b"}, Arms("a")),
        ("Pending", {}, Arms()),
        ("nonsense", {"stable": "a"}, Arms("a")),
    ],
)
def test_both_arms_are_asked_while_both_can_answer(phase: str, revisions: dict[str, str], arms: Arms) -> None:
    found = wish_of(manifest(status={"phase": phase, "revisions": revisions}))
    assert found is not None
    assert found.arms == arms


@pytest.mark.parametrize(
    ("host", "model", "found"),
    [
        ("digits.example.com", "digits", ("digits", True)),
        ("Digits.Example.com:8080", "digits", ("digits", True)),
        ("digits.example.com-shadow", "digits", ("digits", True)),
        ("digits.example.com-shadow:80", "digits", ("digits", True)),
        ("a.b.models.example.com", "digits", ("digits", True)),
        ("models.example.com", "nobody", (None, False)),
        ("digits.example.com", "another", ("digits", False)),
        ("10.0.0.1:8000", "digits", ("digits", True)),
        ("", "digits", ("digits", True)),
        ("", "loans", (None, False)),
        ("[::1]:80", "nobody", (None, False)),
        (":" * 50, "nobody", (None, False)),
    ],
)
def test_whose_request_it_is(host: str, model: str, found: tuple[str | None, bool]) -> None:
    digits = wish_of(manifest())
    assert digits is not None
    twice = [wish(name="one", model="loans"), wish(name="two", model="loans")]
    assert Directory([digits, *twice]).find(host, model) == found


class Cluster:
    """What the API server would say; ``news`` are put in by the test, an exception is an outage."""

    def __init__(self, *items: dict[str, Any]) -> None:
        self.items = list(items)
        self.news: asyncio.Queue[tuple[str, dict[str, Any]] | Exception | None] = asyncio.Queue()
        self.config_maps: dict[str, dict[str, Any]] = {}
        self.down = False
        self.lists = 0

    async def list_deployments(self) -> tuple[list[dict[str, Any]], str]:
        self.lists += 1
        if self.down:
            raise TransientError("the API server is away")
        return list(self.items), "1"

    async def watch_deployments(self, version: str) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        while True:
            news = await self.news.get()
            if news is None:
                return
            if isinstance(news, Exception):
                raise news
            yield news

    async def config_map(self, name: str) -> dict[str, Any] | None:
        if self.down:
            raise TransientError("the API server is away")
        return self.config_maps.get(name)


async def test_changes_outages_and_expired_watches_are_survived(caplog: pytest.LogCaptureFixture) -> None:
    cluster, registry, pauses = Cluster(manifest()), Registry(lambda: 0.0, lambda: 0.0), []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await asyncio.sleep(0)

    task = asyncio.create_task(Follower(cluster, registry, sleep).run())
    await until(lambda: set(registry.targets) == {"digits"})
    registry.targets["digits"].requests["http", "counted"] = 3
    await cluster.news.put(("ADDED", manifest("loans")))
    await until(lambda: set(registry.targets) == {"digits", "loans"})
    # The watch has expired: what the next list says counts.
    cluster.items = [manifest("loans")]
    await cluster.news.put(None)
    await until(lambda: set(registry.targets) == {"loans"})
    kept = registry.targets["loans"]
    cluster.down = True
    await cluster.news.put(TransientError("broken off"))
    await until(lambda: len(pauses) > 8)
    assert registry.targets["loans"] is kept
    assert pauses[:8] == [1.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    cluster.down, cluster.items = False, [manifest("loans"), manifest("digits")]
    await until(lambda: set(registry.targets) == {"digits", "loans"})
    # Counts of one that was gone do not come back: Prometheus saw them.
    assert registry.targets["digits"].requests == {}
    # One that cannot be read stays as it was.
    broken = manifest("loans", spec={"replicas": -1})
    await cluster.news.put(("MODIFIED", broken))
    await until(lambda: any("loans cannot be read" in record.message for record in caplog.records))
    assert registry.targets["loans"] is kept
    await cluster.news.put(("DELETED", broken))
    await until(lambda: set(registry.targets) == {"digits"})
    task.cancel()
    assert sum("going on with what is known" in record.message for record in caplog.records) == 2


def config_map(text: str) -> dict[str, Any]:
    return {"data": {"profile.json": text}}


async def look(cluster: Cluster, registry: Registry, addresses: dict[str, str] | None = None) -> None:
    known = addresses or {}
    askers = Askers(lambda _, revision: known.get(revision, "127.0.0.1:1"), Limits(answer=1.0))
    await Profiles(cluster, registry, askers).look()
    await askers.close()


def following(**changes: Any) -> Registry:
    registry = Registry(lambda: 0.0, lambda: 0.0)
    found = wish_of(manifest(**changes))
    assert found is not None
    registry.follow({"digits": found})
    return registry


async def test_the_profile_comes_from_the_config_map_and_changes_with_it() -> None:
    cluster, registry = Cluster(), following()
    cluster.config_maps["digits"] = config_map(dump(PROFILE))
    target = registry.targets["digits"]
    await look(cluster, registry)
    first = target.plan
    assert first is not None
    target.features[0] = 5
    await look(cluster, registry)
    assert target.plan is first
    cluster.down = True
    await look(cluster, registry)
    assert (target.plan, target.features[0]) == (first, 5)
    cluster.down = False
    other = PROFILE.model_copy(update={"samples": 7})
    cluster.config_maps["digits"] = config_map(dump(other))
    await look(cluster, registry)
    assert target.plan is not first
    assert target.features.sum() == 0


@pytest.mark.parametrize(
    ("content", "reason", "words"),
    [
        (None, "missing", "ConfigMap digits does not exist"),
        ({"data": {"another": "x"}}, "missing", "has no key profile.json"),
        ({}, "missing", "has no key profile.json"),
        (config_map("{"), "invalid", "the profile is not valid"),
        (config_map(dump(PROFILE.model_copy(update={"model": "loans"}))), "model", "is about model loans, not digits"),
    ],
)
async def test_a_profile_that_cannot_be_used_is_named_and_counted_once(
    content: Any, reason: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    cluster, registry = Cluster(), following()
    if content is not None:
        cluster.config_maps["digits"] = content
    askers = Askers(lambda _, revision: "127.0.0.1:1", Limits())
    profiles = Profiles(cluster, registry, askers)
    for _ in range(3):
        await profiles.look()
    assert registry.targets["digits"].refused == {("profile", reason): 1}
    assert sum(words in record.message for record in caplog.records) == 1
    assert registry.targets["digits"].plan is None


@pytest.mark.parametrize("named", [False, True], ids=["no profile", "a profile that does not exist"])
async def test_labels_and_comparisons_need_no_profile_however_often_it_is_looked_for(named: bool) -> None:
    observation = manifest()["spec"]["observation"]
    if not named:
        del observation["profile"]
    status = {"phase": "Progressing", "revisions": {"stable": "digits-a", "candidate": "digits-b"}}
    cluster, registry = Cluster(), following(spec={"observation": observation}, status=status)
    target = registry.targets["digits"]
    profiles = Profiles(cluster, registry, Askers(lambda _, revision: "127.0.0.1:1", Limits()))
    exposition = Exposition(registry, "p", lambda: (0, 0.0))
    began: set[str] = set()
    for minute in range(4):
        answers = {name: labelled(7 + at) for at, name in enumerate(("digits-a", "digits-b"))}
        target.answered(f"r{minute}", answers, ("digits-a", "digits-b"), 0.0)
        began.update(line for line in exposition.text().splitlines() if "started_timestamp_seconds{" in line)
        await profiles.look()
        assert registry.label("digits", {"id": f"r{minute}", "label": 7}) is None
    assert target.joiner is not None
    assert target.joiner.joined["digits-a", "none", "7", "7", True] == 4
    # Nothing began anew: registry, target, two arms that are asked, one comparison, labels of two arms.
    last = [line for line in exposition.text().splitlines() if "started_timestamp_seconds{" in line]
    assert len(began | set(last)) == len(last) == 7


def labelled(label: int) -> dict[str, Tensor]:
    return {"S": Tensor("S", "INT64", (1,), np.array([label]))}


def test_flips_are_bounded_whatever_becomes_of_the_profile() -> None:
    registry = following(status={"phase": "Progressing", "revisions": {"stable": "digits-a", "candidate": "digits-b"}})
    target, arms = registry.targets["digits"], ("digits-a", "digits-b")
    for turn in range(8):
        target.use(PROFILE if turn % 2 else None)
        for label in range(40 * turn, 40 * turn + 40):
            target.answered("", {arms[0]: labelled(label), arms[1]: labelled(label + 500)}, arms, 0.0)
        compared = target.comparisons["digits-b", "digits-a"]
        assert sum(compared.flips.values()) == compared.differing == 40
        assert len({name for pair in compared.flips for name in pair}) == FLIP_LIMIT + 1


def answer_of(differing: set[int], outputs: int) -> dict[str, Tensor]:
    numbers = {f"O{place}": float(place in differing) for place in range(outputs)}
    return {name: Tensor(name, "FP32", (1,), np.array([number], dtype=np.float32)) for name, number in numbers.items()}


def test_outputs_that_differ_are_counted_by_name_and_bounded_and_a_request_once() -> None:
    registry = following(status={"phase": "Progressing", "revisions": {"stable": "digits-a", "candidate": "digits-b"}})
    target, arms, many = registry.targets["digits"], ("digits-a", "digits-b"), OUTPUT_LIMIT + 5
    candidate_only = {"X": Tensor("X", "FP32", (1,), np.zeros(1, dtype=np.float32))}
    for differing in ({1, 3}, {3}, set(range(OUTPUT_LIMIT, many)), set[int]()):
        given = {**answer_of(differing, many), **candidate_only}
        target.answered("", {arms[0]: answer_of(set(), many), arms[1]: given}, arms, 0.0)
    target.answered("", {arms[0]: answer_of(set(), many), arms[1]: None}, arms, 0.0)
    compared = target.comparisons["digits-b", "digits-a"]
    assert (compared.compared, compared.differing) == (4, 3)
    assert len(compared.outputs) == OUTPUT_LIMIT + 1
    told = {name: number for name, number in compared.outputs.items() if number}
    assert told == {"O1": 1, "O3": 2, "other": 1}, "five outputs beyond the bound, one request"
    text = Exposition(registry, "p", lambda: (0, 0.0)).text()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    names = {sample.labels["output"] for sample in families["modelrollout_observer_differing_outputs"].samples}
    assert len(names) == OUTPUT_LIMIT + 1, "also those that never differ"
    kinds = {
        (sample.labels["output"], sample.labels["kind"]): sample.value
        for sample in families["modelrollout_observer_differing"].samples
    }
    assert {key: number for key, number in kinds.items() if number} == {
        ("O1", "value"): 1,
        ("O3", "value"): 2,
        ("other", "value"): 1,
        ("", "error"): 1,
    }


def metadata(*inputs: str) -> Any:
    found = service_pb2.ModelMetadataResponse(name="digits")
    for name in inputs:
        found.inputs.add(name=name, datatype="FP32", shape=[-1, 1])
    found.outputs.add(name="S", datatype="FP32", shape=[-1, 1])
    return found


async def test_what_does_not_fit_the_model_is_left_out_and_the_rest_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    cluster = Cluster()
    cluster.config_maps["digits"] = config_map(dump(PROFILE))
    registry = following(status={"phase": "Idle", "revisions": {"stable": "digits-a"}})
    arm = Arm(lambda request: None, model_config_pb2.ModelConfig(max_batch_size=8), metadata("X", "Z"))
    async with serving(arm) as address:
        await look(cluster, registry, {"digits-a": address})
    target = registry.targets["digits"]
    assert target.plan is not None
    assert [part.name for part in target.plan.profile.features] == ["x"]
    assert target.refused == {("profile", "misfit"): 1}
    assert target.misfits == 1
    text = Exposition(registry, "p", lambda: (0, 0.0)).text()
    labels = f'modeldeployment="digits",process="p-1",profile="{target.plan.hash}"'
    assert f"modelrollout_observer_profile_misfits{{{labels}}} 1\n" in text
    assert "feature y the model has no input 'Y'" in caplog.text
    assert unusable(registry) == ("", 0.0)
    # While stable does not tell, what did not fit does not come back, and what is counted stays.
    before = target.plan
    target.features[0] = 5
    await look(cluster, registry)
    assert (target.plan, target.features[0]) == (before, 5)


def unusable(registry: Registry) -> tuple[str, float]:
    """Why the profile cannot be used, as a scrape has it."""
    (sample,) = (
        sample
        for family in text_string_to_metric_families(Exposition(registry, "p", lambda: (0, 0.0)).text())
        for sample in family.samples
        if sample.name == "modelrollout_observer_profile_unusable"
    )
    return sample.labels["reason"], sample.value


async def test_a_profile_that_cannot_be_used_shows_in_the_metrics_until_it_can() -> None:
    cluster, registry = Cluster(), following()
    assert unusable(registry) == ("", 0.0), "not looked for yet"
    await look(cluster, registry)
    assert unusable(registry) == ("missing", 1.0)
    cluster.config_maps["digits"] = config_map("{}")
    await look(cluster, registry)
    assert unusable(registry) == ("invalid", 1.0)
    cluster.down = True
    await look(cluster, registry)
    assert unusable(registry) == ("invalid", 1.0), "nobody knows better"
    cluster.down = False
    cluster.config_maps["digits"] = config_map(dump(PROFILE.model_copy(update={"model": "other"})))
    await look(cluster, registry)
    assert unusable(registry) == ("model", 1.0)
    cluster.config_maps["digits"] = config_map(dump(PROFILE))
    await look(cluster, registry)
    assert unusable(registry) == ("", 0.0)


class Telling:
    """Tells nothing: raises ``error``, or never answers."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error

    async def contract(self, namespace: str, revision: str, model: str) -> Any:
        if self.error is not None:
            raise self.error
        await asyncio.Event().wait()


@pytest.mark.parametrize("error", [asyncio.CancelledError(), RuntimeError("a value")])
async def test_a_question_that_is_broken_off_does_not_end_the_reading(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = Cluster()
    cluster.config_maps["digits"] = config_map(dump(PROFILE))
    registry = following(status={"phase": "Idle", "revisions": {"stable": "digits-a"}})
    askers: Any = Telling(error)
    await Profiles(cluster, registry, askers).look()
    assert "the profile cannot be read now" in caplog.text
    assert "a value" not in caplog.text
    askers.error = None
    looking = asyncio.create_task(Profiles(cluster, registry, askers).look())
    await asyncio.sleep(0)
    looking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await looking


async def test_a_channel_too_many_is_closed_once_its_calls_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc, "_CHANNELS", 1)
    asked, gate = asyncio.Event(), asyncio.Event()

    class Slow(Arm):
        async def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's names
            asked.set()
            await gate.wait()
            return metadata("X")

    async with serving(Slow(lambda request: None)) as slow, serving(Arm(lambda request: None)) as other:
        askers = Askers(lambda _, revision: slow if revision == "a" else other, Limits())
        waiting = asyncio.create_task(askers.contract("demo", "a", "digits"))
        await asked.wait()
        await askers.contract("demo", "b", "digits")
        gate.set()
        found, _ = await waiting
        await askers.close()
    assert set(found.inputs) == {"X"}


def test_a_scrape_during_which_the_profile_changes_has_no_bins_of_either() -> None:
    registry = following()
    target = registry.targets["digits"]
    target.use(PROFILE)
    target.misfits = 0
    exposition = Exposition(registry, "p", lambda: (0, 0.0))
    torn = exposition._target("digits", target)
    for name, _ in torn:
        if name == "profile_misfits":
            target.use(make("digits", [Column("x", "X", (0,), NUMBERS)], {}))
    assert "feature_total" not in {name for name, _ in torn}
    assert 'modelrollout_observer_feature_total{modeldeployment="digits"' in exposition.text()


async def test_the_profile_can_be_in_the_models_own_configuration() -> None:
    found = manifest(status={"phase": "Idle", "revisions": {"stable": "digits-a"}})
    found["spec"]["observation"]["profile"] = {"parameter": "profile"}
    registry = Registry(lambda: 0.0, lambda: 0.0)
    read = wish_of(found)
    assert read is not None
    registry.follow({"digits": read})
    await look(Cluster(), registry)
    assert registry.targets["digits"].plan is None
    config = model_config_pb2.ModelConfig(max_batch_size=8)
    config.parameters["profile"].string_value = json.dumps(PROFILE.model_dump(mode="json"))
    async with serving(Arm(lambda request: None, config, metadata("X", "Y"))) as address:
        await look(Cluster(), registry, {"digits-a": address})
    assert registry.targets["digits"].plan is not None
    assert registry.targets["digits"].plan.profile == PROFILE
