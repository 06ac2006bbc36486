"""Garbage and bombs: counted by outcome, answered at once, and the next request is counted as ever."""

import asyncio
import contextlib
import gzip
import tracemalloc
import zlib
from typing import Any

import aiohttp
import grpc.aio
import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from modelrollout.observer.decoding import from_grpc, from_rest
from modelrollout.observer.intake import Copy, Protocol
from modelrollout.observer.limits import MEBI, Limits
from modelrollout.observer.registry import Registry
from modelrollout.observer.rpc import INFER
from modelrollout.observer.tensors import MalformedError, from_json
from modelrollout.profile.making import Column, make
from tests.unit.observer.stage import (
    HOST,
    binary_body,
    grpc_request,
    json_body,
    observing,
    outcomes,
    post,
    until,
    wish,
)

PROFILE = make("digits", [Column("x", "X", (0,), np.linspace(0, 1, 100))], {})
GOOD = json_body({"X": ("FP32", [[0.5]])})


def entry(**changes: Any) -> bytes:
    return orjson.dumps({"inputs": [{"name": "X", "shape": [1, 1], "datatype": "FP32", "data": [0.5], **changes}]})


GARBAGE = {
    "nothing": b"",
    "no JSON": b"\x00\xff\xfe{",
    "deep JSON": b'{"inputs":' + b"[" * 500_000 + b"]" * 500_000 + b"}",
    "deep data": b'{"inputs":[{"name":"X","shape":[1,1],"datatype":"FP32","data":'
    + b"[" * 900
    + b"1"
    + b"]" * 900
    + b"}]}",
    "a number": b"7",
    "no inputs": b"{}",
    "inputs that are none": b'{"inputs": {"a": 1}}',
    "too many inputs": orjson.dumps({"inputs": [{"name": f"X{n}"} for n in range(10_000)]}),
    "huge shape, no data": entry(shape=[1 << 39, 1 << 39], data=[]),
    "huge empty shape": entry(shape=[0, 1 << 39, 1 << 39, 1 << 39], data=[]),
    "negative shape": entry(shape=[-1, 1]),
    "shape of words": entry(shape=["1", "1"]),
    "shape of booleans": entry(shape=[True, True]),
    "words as numbers": entry(data=["0.5"]),
    "booleans and words": entry(data=[True, "x"]),
    "objects as numbers": entry(data=[{"a": 1}]),
    "ragged": entry(shape=[2, 2], data=[[1, 2], [3]]),
    "unknown type": entry(datatype="FP128"),
    "type that is none": entry(datatype=["FP32"]),
    "name that is none": entry(name=7),
    "fraction as integer": entry(datatype="INT64", data=[0.5]),
    "integer out of range": entry(datatype="UINT8", data=[300]),
    "numbers as words": entry(datatype="BYTES", data=[1]),
    "parameters that are none": entry(parameters=[1]),
    "binary size that lies": entry(parameters={"binary_data_size": 1 << 50}),
    "binary size that is none": entry(parameters={"binary_data_size": "4"}),
    "id that is none": orjson.dumps(
        {"id": 7, "inputs": [{"name": "X", "shape": [1], "datatype": "FP32", "data": [1]}]}
    ),
}


@pytest.mark.parametrize("name", GARBAGE)
async def test_garbage_is_malformed_and_the_next_request_is_counted(name: str) -> None:
    async with observing(wish(), profile=PROFILE) as observer:
        assert await post(observer, GARBAGE[name]) == 202
        await until(lambda: outcomes(observer) == {("http", "malformed"): 1})
        assert await post(observer, GOOD) == 202
        await until(lambda: outcomes(observer).get(("http", "counted")) == 1)
        assert observer.registry.targets["digits"].features.sum() == 1


@pytest.mark.parametrize(
    ("inputs", "outcome"),
    [
        ({"X": ("BYTES", [["a"]])}, "wrong_type"),
        ({"X": ("FP32", [[[0.5]]])}, "wrong_type"),
        ({"Z": ("FP32", [[0.5]])}, "wrong_type"),
        ({"X": ("INT64", [[3]])}, "counted"),
        ({"X": ("FP32", [[0.5], [0.2]])}, "counted"),
    ],
)
async def test_tensors_of_another_kind_are_told_apart(inputs: dict[str, tuple[str, Any]], outcome: str) -> None:
    body, headers = binary_body(inputs)
    async with observing(wish(), profile=PROFILE) as observer:
        await post(observer, body, headers)
        await until(lambda: outcomes(observer) == {("http", outcome): 1})
        rows = len(next(iter(inputs.values()))[1])
        assert observer.registry.targets["digits"].features.sum() == (rows if outcome == "counted" else 0)


async def test_unknown_models_and_hosts() -> None:
    async with observing(wish(), wish(name="other"), profile=PROFILE) as observer:
        await post(observer, GOOD, model="nobody", host="nowhere.example.com")
        await post(observer, GOOD, model="nobody")
        await until(lambda: outcomes(observer) == {("http", "unknown_model"): 2})
        # Two have the model: without a host that is known nobody can tell which is meant.
        await post(observer, GOOD, host="nowhere.example.com")
        await until(lambda: outcomes(observer) == {("http", "unknown_model"): 3})
        await post(observer, GOOD, host="other.example.com-shadow")
        await until(lambda: observer.registry.targets["other"].features.sum() == 1)


async def test_bodies_that_are_too_large_are_refused_unread() -> None:
    async with observing(wish(), profile=PROFILE, limits=Limits(body=MEBI, json=MEBI // 2)) as observer:
        assert await post(observer, b"x" * (MEBI // 2 + 1)) == 413
        assert await post(observer, b"x" * (MEBI + 1), {"Inference-Header-Content-Length": "10"}) == 413
        assert await post(observer, b"x" * 100, {"Inference-Header-Content-Length": str(MEBI)}) == 413
        await until(lambda: outcomes(observer) == {("http", "too_large"): 3})

        # No Content-Length at all, and more than is good.
        async def endless() -> Any:
            for _ in range(64):
                yield b"x" * 65536

        # Whether the client reads the answer or meets the closed connection first is up to the kernel.
        with contextlib.suppress(aiohttp.ClientError):
            assert await post(observer, endless()) == 413  # type: ignore[arg-type]
        await until(lambda: outcomes(observer) == {("http", "too_large"): 4})
        assert observer.intake.budget._left == Limits().buffered


async def test_compressed_bombs_count_by_what_they_become() -> None:
    bomb = gzip.compress(b" " * (64 * MEBI))
    async with observing(wish(), profile=PROFILE) as observer:
        tracemalloc.start()
        await post(observer, bomb, {"Content-Encoding": "gzip"})
        await until(lambda: outcomes(observer) == {("http", "too_large"): 1})
        assert tracemalloc.get_traced_memory()[1] < 32 * MEBI
        tracemalloc.stop()
        assert await post(observer, gzip.compress(GOOD), {"Content-Encoding": "gzip"}) == 202
        await until(lambda: outcomes(observer).get(("http", "counted")) == 1)


@pytest.mark.parametrize(
    ("encoding", "body", "outcome"),
    [
        ("gzip", gzip.compress(GOOD), "counted"),
        ("X-GZIP", gzip.compress(GOOD[:10]) + gzip.compress(GOOD[10:]), "counted"),
        ("deflate", zlib.compress(GOOD), "counted"),
        ("deflate", zlib.compress(GOOD, wbits=-15), "counted"),
        ("identity", GOOD, "counted"),
        ("gzip", GOOD, "malformed"),
        ("gzip", gzip.compress(GOOD)[:-9], "malformed"),
        ("gzip", b"", "malformed"),
        ("gzip", gzip.compress(b"") * 100_000, "malformed"),
        ("br", GOOD, "malformed"),
        ("gzip, gzip", gzip.compress(gzip.compress(GOOD)), "malformed"),
        ("gzip", gzip.compress(b" " * (4 * MEBI) + GOOD), "too_large"),
        ("gzip", gzip.compress(b" " * (3 * MEBI)) * 30, "too_large"),
    ],
)
async def test_packed_bodies(encoding: str, body: bytes, outcome: str) -> None:
    async with observing(wish(), profile=PROFILE) as observer:
        assert await post(observer, body, {"Content-Encoding": encoding}) == (413 if outcome == "too_large" else 202)
        await until(lambda: outcomes(observer) == {("http", outcome): 1})
        # Every byte was given back.
        assert observer.intake.budget.take(observer.limits.buffered)


async def test_packed_tensors_and_labels() -> None:
    body, headers = binary_body({"X": ("FP32", [[0.5]])})
    async with observing(wish(per_second=1.0, window=60.0), profile=PROFILE) as observer:
        assert await post(observer, gzip.compress(body), {**headers, "Content-Encoding": "gzip"}) == 202
        await until(lambda: outcomes(observer) == {("http", "counted"): 1})
        url = f"http://127.0.0.1:{observer.labels.port}/v1/labels"
        async with aiohttp.ClientSession() as session:
            for data, status in (
                (gzip.compress(b'[{"id": "a", "label": 1}]'), 200),
                (b'[{"id": "a", "label": 1}]', 400),
                (gzip.compress(b" " * (5 * MEBI)), 413),
            ):
                async with session.post(url, data=data, headers={"Content-Encoding": "gzip"}) as response:
                    assert response.status == status


@pytest.mark.parametrize("word", ["NaN", "null"])
async def test_numbers_that_are_none_are_missing(word: str) -> None:
    async with observing(wish(), profile=PROFILE) as observer:
        await post(observer, GOOD.replace(b"0.5", word.encode()))
        await post(observer, GOOD.replace(b"0.5", b"-Infinity"))
        await post(observer, GOOD.replace(b"0.5", b"NaN]") + b"NaN")
        await until(lambda: outcomes(observer) == {("http", "counted"): 2, ("http", "malformed"): 1})
        features = observer.registry.targets["digits"].features
        assert (features[0], features[-1], features.sum()) == (1, 1, 2)


async def test_connections_of_grpc_are_bounded() -> None:
    async with observing(wish(), profile=PROFILE, limits=Limits(connections=5, first=0.3)) as observer:
        held = [await asyncio.open_connection("127.0.0.1", observer.grpc.port) for _ in range(12)]
        for reader, _ in held:
            # Those over the bound at once, those that say nothing after a while.
            await asyncio.wait_for(reader.read(), 60)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{observer.grpc.port}") as channel:
            request = grpc_request({"X": ("FP32", [[0.5]])}).SerializeToString()
            assert await channel.unary_unary(INFER)(request, wait_for_ready=True, timeout=60) == b""
        await until(lambda: outcomes(observer) == {("grpc", "counted"): 1})
        for _, writer in held:
            writer.close()


async def test_a_content_length_that_lies_is_given_up() -> None:
    async with observing(wish(), profile=PROFILE, limits=Limits(read=0.2, first=0.3)) as observer:
        reader, writer = await asyncio.open_connection("127.0.0.1", observer.http.port)
        head = f"POST /v2/models/digits/infer HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 1000\r\n\r\nabc"
        writer.write(head.encode())
        assert b"202" in await reader.readline()
        await until(lambda: outcomes(observer) == {("http", "malformed"): 1})
        writer.close()
        assert observer.intake.budget._left == Limits().buffered


async def is_closed(reader: asyncio.StreamReader) -> bool:
    """Whether the other side closes the connection within seconds, without a word."""
    try:
        return await asyncio.wait_for(reader.read(), 60) == b""
    except ConnectionResetError:
        return True


async def test_connections_that_never_ask_are_closed_and_bounded() -> None:
    async with observing(wish(), profile=PROFILE, limits=Limits(connections=3, first=0.3)) as observer:
        idle = [await asyncio.open_connection("127.0.0.1", observer.http.port) for _ in range(3)]
        idle[0][1].write(b"POST /v2/models/dig")
        reader, _ = await asyncio.open_connection("127.0.0.1", observer.http.port)
        assert await is_closed(reader)
        for each, _ in idle:
            assert await is_closed(each)
        assert await post(observer, GOOD) == 202
        await until(lambda: outcomes(observer) == {("http", "dropped"): 1, ("http", "counted"): 1})


async def test_a_full_queue_drops_and_counts() -> None:
    async with observing(wish(), profile=PROFILE, limits=Limits(queued=2)) as observer:
        copy = Copy(Protocol.HTTP, GOOD, 0.0, HOST, "digits")
        for _ in range(5):
            observer.intake.budget.take(len(GOOD))
            if not observer.intake.put(copy):
                observer.registry.outcome(Protocol.HTTP, "dropped", HOST, "digits")
        assert outcomes(observer) == {("http", "dropped"): 3}
        await until(lambda: outcomes(observer).get(("http", "counted")) == 2)
        assert observer.intake.budget._left == Limits().buffered


async def test_all_bodies_together_are_bounded() -> None:
    large = b" " * (400 * 1024) + GOOD
    async with observing(wish(), profile=PROFILE, limits=Limits(buffered=MEBI)) as observer:
        observer.intake.budget.take(MEBI - 1000)
        assert await post(observer, large) == 202
        await until(lambda: outcomes(observer) == {("http", "dropped"): 1})
        observer.intake.budget.give_back(MEBI - 1000)
        assert await post(observer, large) == 202
        await until(lambda: outcomes(observer).get(("http", "counted")) == 1)


async def test_grpc_garbage_and_bombs() -> None:
    good = grpc_request({"X": ("FP32", [[0.5]])})
    lies = grpc_request({"X": ("FP32", [[0.5]])})
    lies.inputs[0].shape[0] = 1 << 40
    async with observing(wish(), profile=PROFILE, limits=Limits(message=MEBI)) as observer:
        target = f"127.0.0.1:{observer.grpc.port}"
        async with grpc.aio.insecure_channel(target) as channel:
            call = channel.unary_unary(INFER)
            assert await call(b"\xff\xff\xff garbage") == b""
            assert await call(b"") == b""
            assert await call(lies.SerializeToString()) == b""
            await until(lambda: outcomes(observer) == {("grpc", "malformed"): 3})
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call(b"x" * (MEBI + 1))
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            await until(lambda: outcomes(observer).get(("grpc", "too_large")) == 1)
            with pytest.raises(grpc.aio.AioRpcError):
                await channel.unary_unary("/inference.GRPCInferenceService/ServerLive")(b"")
            assert await call(good.SerializeToString()) == b""
            await until(lambda: outcomes(observer).get(("grpc", "counted")) == 1)


async def test_what_is_no_inference_is_not_looked_at() -> None:
    async with observing(wish(), profile=PROFILE) as observer:
        url = f"http://127.0.0.1:{observer.http.port}"
        async with aiohttp.ClientSession() as session:
            for path in (
                "/v2/health/ready",
                "/v2/models/digits",
                "/v2/models/digits/versions/1/ready",
                "/",
                "/metrics",
            ):
                async with session.get(url + path) as response:
                    assert response.status == 202
            async with session.post(f"{url}/v2/models/digits/generate", data=b"x" * 100) as response:
                assert response.status == 202
            async with session.post(f"{url}/v2/models/digits/versions/3/infer", data=GOOD) as response:
                assert response.status == 202
        await until(lambda: outcomes(observer) == {("http", "counted"): 1, ("http", "unsupported"): 1})


def registry() -> Registry:
    made = Registry(lambda: 0.0, lambda: 0.0)
    made.follow({"digits": wish()})
    made.targets["digits"].use(PROFILE)
    return made


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
TENSOR = st.fixed_dictionaries(
    {},
    optional={
        "name": st.just("X") | JSON,
        "shape": st.lists(st.integers(-2, 4), max_size=4) | JSON,
        "datatype": st.sampled_from(["FP32", "FP64", "FP16", "BF16", "INT8", "UINT64", "BOOL", "BYTES"]) | JSON,
        "data": st.lists(st.floats(width=32), max_size=6) | JSON,
        "parameters": st.fixed_dictionaries({}, optional={"binary_data_size": st.integers(-3, 20) | JSON}) | JSON,
    },
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.fixed_dictionaries({}, optional={"id": JSON, "parameters": JSON, "inputs": st.lists(TENSOR, max_size=3) | JSON}),
    st.binary(max_size=24),
    st.none() | st.integers(-5, 300),
)
def test_any_rest_body_has_exactly_one_outcome(body: Any, tail: bytes, header: int | None) -> None:
    try:
        head = orjson.dumps(body)
    except TypeError:
        head = b"{}"
    length = None if header is None else len(head) if header > 250 else header
    made = registry()
    made.digest([Copy(Protocol.HTTP, head + tail, 0.0, HOST, "digits", "", length)])
    counted = {**made.stray, **made.targets["digits"].requests}
    assert sum(counted.values()) == 1


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([Protocol.HTTP, Protocol.GRPC]), st.none() | st.integers(0, 300))
def test_any_bytes_have_exactly_one_outcome(body: bytes, protocol: Protocol, length: int | None) -> None:
    made = registry()
    made.digest([Copy(protocol, body, 0.0, HOST, "digits", "", length)])
    assert sum({**made.stray, **made.targets["digits"].requests}.values()) == 1


CONTENTS = ("bool_contents", "int_contents", "int64_contents", "uint_contents", "fp32_contents", "fp64_contents")


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["FP32", "INT8", "BOOL", "BYTES", "UINT8", "FP16", "nonsense", ""]),
            st.lists(st.integers(-(2**40), 2**40) | st.integers(0, 3), max_size=3),
            st.lists(st.integers(0, 2), max_size=3),
        ),
        max_size=3,
    ),
    st.lists(st.binary(max_size=12), max_size=3),
)
def test_any_grpc_message_is_read_or_malformed(tensors: list[Any], raw: list[bytes]) -> None:
    message = service_pb2.ModelInferRequest(model_name="digits")
    for number, (datatype, shape, values) in enumerate(tensors):
        added = message.inputs.add(name=f"X{number}", datatype=datatype, shape=shape)
        for place in CONTENTS:
            getattr(added.contents, place).extend([bool(each) if place == "bool_contents" else each for each in values])
    message.raw_input_contents.extend(raw)
    try:
        found = from_grpc(message)
    except MalformedError:
        return
    assert all(tensor.size == int(np.prod(tensor.shape)) for tensor in found.inputs.values())


@pytest.mark.parametrize("word", [b"NaN", b"-Infinity"])
def test_a_body_with_a_number_that_is_none_may_be_as_large_as_any_other(word: bytes) -> None:
    numbers = b"0.123456789," * (4 * MEBI // 12 - 100)
    body = b'{"inputs":[{"name":"X","shape":[%d,1],"datatype":"FP32","data":[' % (numbers.count(b",") + 1)
    found = from_rest("digits", body + numbers + word + b"]}]}", None).inputs["X"]
    assert found.numbers is not None
    assert (~np.isfinite(found.numbers)).sum() == 1
    assert found.numbers.size > 340_000


def test_json_bombs_take_no_more_than_their_size_allows() -> None:
    """4 MiB of the costliest JSON there is: empty objects; then numbers. Bounded, and refused."""
    for unit in (b"{},", b"[],", b"1.5,"):
        body = b'{"inputs":[' + unit * (4 * MEBI // len(unit) - 10) + b"1]}"
        tracemalloc.start()
        with pytest.raises(MalformedError):
            from_rest("digits", body, None)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 256 * MEBI


async def test_health_while_bombs_fall() -> None:
    bombs = [GARBAGE["deep JSON"], b'{"inputs":[' + b"{}," * 900_000 + b"1]}"]
    async with observing(wish(), profile=PROFILE) as observer:
        await asyncio.gather(*(post(observer, bombs[number % 2]) for number in range(12)))
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{observer.metrics_port}/healthz") as response:
                assert response.status == 200
            async with session.get(f"http://127.0.0.1:{observer.metrics_port}/readyz") as response:
                assert response.status == 200
        await until(lambda: sum(outcomes(observer).values()) == 12)
        assert set(outcomes(observer)) == {("http", "malformed")}


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03secret",
        b"POST /v2/models/secret/infer HTTP/9.9\r\n\r\n",
        b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: digits.example.com\r\nContent-Length: secret\r\n\r\n",
        b"POST /" + b"secret" * 5000 + b" HTTP/1.1\r\n\r\n",
        b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: a\r\n" + b"X: secret\r\n" * 5000 + b"\r\n",
        b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nsecret\r\n",
    ],
)
async def test_what_is_no_http_is_counted_and_nothing_of_it_is_logged(sent: bytes, caplog: Any) -> None:
    caplog.set_level("DEBUG")
    async with observing(wish(), profile=PROFILE) as observer:
        reader, writer = await asyncio.open_connection("127.0.0.1", observer.http.port)
        with contextlib.suppress(ConnectionError):
            writer.write(sent)
            await asyncio.wait_for(reader.read(), 60)
        writer.close()
        await until(lambda: outcomes(observer) == {("http", "malformed"): 1})
        assert await post(observer, GOOD) == 202
        await until(lambda: outcomes(observer).get(("http", "counted")) == 1)
    assert "secret" not in caplog.text


async def test_a_mistake_of_ours_costs_a_batch_and_names_no_value(caplog: Any) -> None:
    async with observing(wish(), profile=PROFILE) as observer:
        whole = observer.registry.digest

        def broken(copies: Any) -> Any:
            observer.registry.digest = whole  # type: ignore[method-assign]
            raise KeyError("secret")

        observer.registry.digest = broken  # type: ignore[method-assign]
        await post(observer, GOOD)
        await until(lambda: "counting failed: KeyError" in caplog.text)
        await post(observer, GOOD)
        await until(lambda: outcomes(observer) == {("http", "counted"): 1})
    assert "secret" not in caplog.text


LONG = "y" * 20_000


@pytest.mark.parametrize(
    "data",
    [["x"] * 1000 + [LONG], [[["x"]] * 1000 + [[LONG]]], [1.0] * 1000 + [LONG]],
    ids=["flat", "nested", "after numbers"],
)
def test_words_in_a_tensor_of_numbers_are_refused_before_an_array_is_made(data: list[Any]) -> None:
    tracemalloc.start()
    with pytest.raises(MalformedError):
        from_json("X", "FP32", (1001,), data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MEBI
