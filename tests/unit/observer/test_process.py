"""The observer as a whole: real servers, real clients, counters as Prometheus reads them."""

import asyncio
from typing import Any

import grpc.aio
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from modelrollout.observer.decoding import Inference
from modelrollout.observer.limits import MEBI, Limits
from modelrollout.observer.rpc import INFER, Askers
from modelrollout.observer.wishes import Arms
from modelrollout.profile.making import Column, make
from modelrollout.profile.model import Profile
from tests.unit.observer.stage import (
    Arm,
    answer,
    binary_body,
    grpc_request,
    json_body,
    observing,
    outcomes,
    post,
    scrape,
    serving,
    until,
    value,
    wish,
)

RANDOM = np.random.default_rng(7)
TRAINING = RANDOM.normal(size=(2000, 4))
CITIES = np.array(["bern", "basel", "chur", ""], dtype=object)[RANDOM.integers(0, 4, 2000)]


def profile(outputs: dict[str, Any] | None = None) -> Profile:
    columns = [Column(f"x{place}", "X", (place,), TRAINING[:, place]) for place in range(4)]
    columns.append(Column("city", "CITY", (0,), CITIES))
    return make("digits", columns, outputs or {})


def inputs(rows: int, seed: int = 0) -> dict[str, tuple[str, Any]]:
    random = np.random.default_rng(seed)
    cities = np.array([b"bern", b"basel", b"chur", b"", b"genf"], dtype=object)[random.integers(0, 5, (rows, 1))]
    return {"X": ("FP32", random.normal(0.3, 1.5, (rows, 4)).astype(np.float32)), "CITY": ("BYTES", cities)}


async def test_rest_json_binary_and_grpc_are_counted_alike() -> None:
    sent = inputs(50, seed=3)
    text = {"X": sent["X"], "CITY": ("BYTES", [[word.decode()] for word in sent["CITY"][1].ravel()])}
    async with observing(wish(), profile=profile()) as observer:
        assert await post(observer, json_body(text)) == 202
        body, headers = binary_body(sent)
        assert await post(observer, body, headers, host="digits.example.com-shadow:8080") == 202
        async with grpc.aio.insecure_channel(f"127.0.0.1:{observer.grpc.port}") as channel:
            assert await channel.unary_unary(INFER)(grpc_request(sent).SerializeToString()) == b""
        await until(lambda: sum(outcomes(observer).values()) == 3)
        samples = await scrape(observer)
    assert outcomes(observer) == {("http", "counted"): 2, ("grpc", "counted"): 1}
    assert value(samples, "requests_total", modeldeployment="digits", protocol="http", outcome="counted") == 2
    expected = profile().features
    for place in range(4):
        column = sent["X"][1][:, place].astype(np.float64)
        for edge in expected[place].edges:  # type: ignore[union-attr]
            at_or_below = 3 * int((column <= edge).sum())
            assert value(samples, "feature_bucket", feature=f"x{place}", le=repr(edge)) == at_or_below
        assert value(samples, "feature_bucket", feature=f"x{place}", le="+Inf") == 150
    words = sent["CITY"][1].ravel().tolist()
    for name in ("bern", "basel", "chur"):
        assert value(samples, "feature_total", feature="city", bin=name) == 3 * words.count(name.encode())
    assert value(samples, "feature_total", feature="city", bin="other") == 3 * words.count(b"genf")
    assert value(samples, "feature_total", feature="city", bin="missing") == 3 * words.count(b"")


async def test_population_stability_index_from_the_counters_is_that_of_a_direct_computation() -> None:
    from scipy import stats

    live = np.random.default_rng(11).normal(0.4, 1.2, (700, 4))
    live[::50, 2] = np.nan
    made = profile()
    async with observing(wish(), profile=made) as observer:
        for part in np.split(live, 7):
            body, headers = binary_body({"X": ("FP64", part), "CITY": ("BYTES", [[b"bern"]] * 100)})
            await post(observer, body, headers)
        await until(lambda: outcomes(observer).get(("http", "counted")) == 7)
        samples = await scrape(observer)
    for place in range(4):
        feature = made.features[place]
        shares, reference = [], []
        for name in feature.bins:
            shares.append(value(samples, "feature_total", feature=feature.name, bin=name) / 700)
            reference.append(value(samples, "feature_reference", feature=feature.name, bin=name))
        assert sum(reference) == pytest.approx(1.0, abs=1e-6)
        there = live[:, place][~np.isnan(live[:, place])]
        edges = np.array([-np.inf, *feature.edges, np.inf])  # type: ignore[union-attr]
        # numpy's bins are closed below: the negative turns them round
        direct = np.histogram(-there, bins=-edges[::-1])[0][::-1] / 700
        trained = np.histogram(-TRAINING[:, place], bins=-edges[::-1])[0][::-1] / 2000
        actual = np.maximum([*direct, np.isnan(live[:, place]).mean()], 1e-4)
        known = np.maximum([*trained, 0.0], 1e-4)
        counted, expected = np.maximum(shares, 1e-4), np.maximum(reference, 1e-4)
        psi = ((counted - expected) * np.log(counted / expected)).sum()
        assert psi == pytest.approx(((actual - known) * np.log(actual / known)).sum(), abs=1e-6)
        # scipy: a symmetrised relative entropy of the same shares, where no bin is empty
        assert psi == pytest.approx(
            stats.entropy(counted, expected) * counted.sum() + stats.entropy(expected, counted) * expected.sum(),
            abs=5e-3,
        )
        count = value(samples, "feature_bucket", feature=feature.name, le="+Inf")
        distances = [
            abs(
                value(samples, "feature_bucket", feature=feature.name, le=repr(edge)) / count
                - value(samples, "feature_reference_bucket", feature=feature.name, le=repr(edge))
            )
            for edge in feature.edges  # type: ignore[union-attr]
        ]
        direct_ks = [abs((there <= edge).mean() - (TRAINING[:, place] <= edge).mean()) for edge in feature.edges]  # type: ignore[union-attr]
        assert max(distances) == pytest.approx(max(direct_ks), abs=1e-6)


async def test_both_arms_are_asked_and_compared() -> None:
    stable = Arm(lambda request: answer({"P": ("FP32", [[0.9, 0.1]]), "Y": ("INT64", [0])}))
    candidate = Arm(lambda request: answer({"P": ("FP32", [[0.2, 0.8]]), "Y": ("INT64", [1])}))
    asked = wish(arms=Arms("digits-a", "digits-b"), per_second=500.0, window=60.0)
    predictions = {"P": np.array([[0.7, 0.3], [0.1, 0.9]])[RANDOM.integers(0, 2, 100)], "Y": RANDOM.integers(0, 2, 100)}
    training = make("digits", [Column("x", "X", (0,), TRAINING[:100, 0])], predictions)
    async with serving(stable) as one, serving(candidate) as other:
        addresses = {"digits-a": one, "digits-b": other}
        async with observing(asked, profile=training, addresses=addresses) as observer:
            target = observer.registry.targets["digits"]
            for number in range(20):
                await post(observer, json_body({"X": ("FP32", [[1.0, 2.0, 3.0, 4.0]])}, f"request-{number}"))
                await until(lambda number=number: target.asked["digits-b", "answered"] == number + 1)  # type: ignore[misc]
            samples = await scrape(observer)
    pair = {"revision": "digits-b", "stable": "digits-a"}
    assert value(samples, "compared_total", **pair) == 20
    assert value(samples, "differing_requests_total", **pair) == 20
    for output, differing in (("P", {"value": 20, "label": 0}), ("Y", {"value": 20, "label": 20})):
        assert value(samples, "differing_outputs_total", output=output, **pair) == 20
        for kind in ("value", "label", "shape"):
            assert value(samples, "differing_total", kind=kind, output=output, **pair) == differing.get(kind, 0)
    assert value(samples, "label_flips_total", **{**pair, "from": "0", "to": "1"}) == 20
    assert value(samples, "output_total", revision="digits-a", output="Y", bin="0") == 20
    assert value(samples, "output_total", revision="digits-b", output="Y", bin="1") == 20
    assert value(samples, "pending_labels") == 20
    got = np.frombuffer(stable.requests[0].raw_input_contents[0], "<f4")
    assert got.tolist() == [1.0, 2.0, 3.0, 4.0]


async def test_an_arm_that_fails_is_an_error_of_that_arm_only() -> None:
    stable = Arm(lambda request: answer({"Y": ("INT64", [0])}))
    asked = wish(arms=Arms("digits-a", "digits-b"), per_second=500.0)
    async with serving(stable) as one, observing(asked, addresses={"digits-a": one}) as observer:
        target = observer.registry.targets["digits"]
        await post(observer, json_body({"X": ("FP32", [[1.0]])}))
        await until(lambda: target.asked["digits-b", "failed"] == 1)
        samples = await scrape(observer)
    pair = {"revision": "digits-b", "stable": "digits-a"}
    assert value(samples, "compared_total", **pair) == 0
    assert value(samples, "differing_total", kind="error", **pair) == 1
    assert value(samples, "asked_total", revision="digits-a", outcome="answered") == 1


async def test_questions_are_bounded_by_the_rate() -> None:
    stable = Arm(lambda request: answer({"Y": ("INT64", [0])}))
    asked = wish(arms=Arms("digits-a"), per_second=0.01)
    async with serving(stable) as one, observing(asked, addresses={"digits-a": one}) as observer:
        await asyncio.gather(*(post(observer, json_body({"X": ("FP32", [[1.0]])})) for _ in range(30)))
        await until(lambda: outcomes(observer).get(("http", "counted")) == 30)
        await until(lambda: bool(stable.requests))
    assert len(stable.requests) == 1


def test_room_is_taken_for_the_answers_that_an_arm_gives() -> None:
    askers, arms = Askers(lambda namespace, revision: revision, Limits(asking_bytes=20 * MEBI)), Arms("a", "b")

    def places() -> int:
        taken: list[int] = []
        while (amount := askers.reserve("demo", arms, 100)) is not None:
            taken.append(amount)
        for each in taken:
            askers.release(each)
        return len(taken)

    assert places() == 2
    askers.answered("a", 100)
    askers.answered("b", 100)
    assert places() == 32
    askers.answered("b", 15 * MEBI)
    assert places() == 1
    askers.answered("a", 15 * MEBI)
    assert places() == 1
    for _ in range(200):
        askers.answered("a", 0)
        askers.answered("b", 0)
    assert places() == 32


@pytest.mark.parametrize("failure", ["an error", "late", "nobody there", "no protobuf", "no tensors"])
async def test_a_question_that_fails_does_not_tell_how_large_answers_are(failure: str) -> None:
    gate = asyncio.Event()

    class Failing(Arm):
        async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's names
            if failure == "late":
                await gate.wait()
            if failure == "an error":
                await context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
            return answer({"Y": ("INT64", [0])})

    async def raw(request: bytes, context: Any) -> bytes:
        if failure == "no protobuf":
            return b"\xff" * 100
        return bytes(service_pb2.ModelInferResponse(raw_output_contents=[b"x" * 1000]).SerializeToString())

    server = grpc.aio.server()
    if failure in ("no protobuf", "no tensors"):
        handler = grpc.unary_unary_rpc_method_handler(raw)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("inference.GRPCInferenceService", {"ModelInfer": handler}),)
        )
    else:
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Failing(lambda _: None), server)
    port = server.add_insecure_port("127.0.0.1:0") if failure != "nobody there" else 1
    await server.start()
    place = f"127.0.0.1:{port}"
    askers = Askers(lambda namespace, revision: place, Limits(answer=0.2 if failure == "late" else 5.0))
    asked = Inference("digits", "", {})
    alone = Arms("digits-a")
    before = reserved(askers, alone)
    askers.answered(place, 15 * MEBI)
    known = reserved(askers, alone)
    try:
        for _ in range(3):
            assert await askers.ask("demo", alone, asked) == {"digits-a": None}
    finally:
        gate.set()
        await askers.close()
        await server.stop(0)
    after = reserved(askers, alone)
    assert (before, known) == (4 * MEBI, 15 * MEBI)
    if failure in ("no protobuf", "no tensors"):
        assert after == 15 * MEBI * 9 // 10 * 9 // 10 * 9 // 10, "an answer came, and was small"
    else:
        assert after == known


def reserved(askers: Askers, arms: Arms) -> int:
    """What is taken for one answer of the arms."""
    amount = askers.reserve("demo", arms, 0)
    assert amount is not None
    askers.release(amount)
    return amount


@pytest.mark.parametrize(("limits", "most"), [(Limits(asking=3), 3), (Limits(asking_bytes=9 * MEBI), 2)])
async def test_questions_under_way_are_bounded_in_number_and_bytes(limits: Limits, most: int) -> None:
    gate = asyncio.Event()

    class Slow(Arm):
        async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's names
            self.requests.append(request)
            await gate.wait()
            return answer({"Y": ("INT64", [0])})

    stable, asked = Slow(lambda request: None), wish(arms=Arms("digits-a"), per_second=5000.0)
    async with serving(stable) as one, observing(asked, addresses={"digits-a": one}, limits=limits) as observer:
        body = json_body({"X": ("FP32", [[1.0]])})
        await asyncio.gather(*(post(observer, body) for _ in range(30)))
        await until(lambda: outcomes(observer).get(("http", "counted")) == 30)
        assert len(observer._asking) == most
        gate.set()
        await until(lambda: not observer._asking)
        assert len(stable.requests) == most
        await post(observer, body)
        await until(lambda: len(stable.requests) == most + 1)
