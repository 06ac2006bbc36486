"""The warm-up against a real gRPC server that speaks Triton's protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
import pytest
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from modelrollout.adapters.triton import TritonModelServer, WarmLimits
from modelrollout.adapters.triton_tensors import from_bytes, to_array, to_message
from modelrollout.ports import Burst, ModelError, PodTarget, Tensor, TransientError, WarmReport

QUICK = WarmLimits(seconds=5.0, poll_seconds=0.01)


@dataclass
class FakeTriton(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """One model; ``verdicts`` are the statuses of its answers to inferences, the last one for good."""

    inputs: list[tuple[str, str, list[int]]] = field(default_factory=lambda: [("x", "FP32", [-1, 4])])
    versions: list[str] = field(default_factory=lambda: ["1"])
    decoupled: bool = False
    sequence: bool = False
    optional: set[str] = field(default_factory=set)
    ready_after: int = 0
    verdicts: list[tuple[grpc.StatusCode, str]] = field(default_factory=list)
    hang: bool = False
    asked: list[Any] = field(default_factory=list)
    looks: int = 0
    answer: Any = None

    async def ServerLive(self, request: Any, context: Any) -> Any:  # noqa: N802
        return service_pb2.ServerLiveResponse(live=True)

    async def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.looks += 1
        return service_pb2.ModelReadyResponse(ready=self.looks > self.ready_after)

    async def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        if request.name != "digits":
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no model {request.name}")
        tensors = [
            service_pb2.ModelMetadataResponse.TensorMetadata(name=name, datatype=kind, shape=shape)
            for name, kind, shape in self.inputs
        ]
        return service_pb2.ModelMetadataResponse(name="digits", versions=self.versions, inputs=tensors)

    async def ModelConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        config = model_config_pb2.ModelConfig(name="digits")
        config.model_transaction_policy.decoupled = self.decoupled
        if self.sequence:
            config.sequence_batching.max_sequence_idle_microseconds = 1
        for name, _, _ in self.inputs:
            config.input.add(name=name, optional=name in self.optional)
        return service_pb2.ModelConfigResponse(config=config)

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.asked.append(request)
        if self.answer is not None:
            return self.answer
        if self.hang:
            await asyncio.Event().wait()
        if self.verdicts:
            code, text = self.verdicts.pop(0) if len(self.verdicts) > 1 else self.verdicts[0]
            if code is not grpc.StatusCode.OK:
                await context.abort(code, text)
        return service_pb2.ModelInferResponse(model_name="digits")


@asynccontextmanager
async def serving(triton: FakeTriton) -> AsyncIterator[PodTarget]:
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(triton, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield PodTarget("digits-0", "127.0.0.1", port, "digits")
    finally:
        await server.stop(None)


def timer(*latencies: float) -> Any:
    """A stop-watch that shows these latencies one by one, the last for good."""

    def ticks() -> Iterator[float]:
        now = 0.0
        rest = list(latencies)
        while True:
            yield now
            now += rest.pop(0) if len(rest) > 1 else rest[0]
            yield now

    clock = ticks()
    return lambda: next(clock)


async def warm(triton: FakeTriton, limits: WarmLimits = QUICK, stopwatch: Any = None) -> WarmReport:
    async with serving(triton) as target:
        return await TritonModelServer(limits, stopwatch or timer(0.01)).warm(target)


async def test_steady_latency_passes_after_two_windows() -> None:
    triton = FakeTriton(versions=["9", "10", "2"])
    report = await warm(triton)
    assert report.passed, report.message
    assert len(report.latencies) == 10
    assert report.pod == "digits-0"
    assert "version 10: 10 inferences" in report.message
    assert {(request.model_version, request.id) for request in triton.asked} == {("10", "modelrollout-warm")}
    assert list(triton.asked[0].inputs[0].shape) == [1, 4]
    assert triton.asked[0].raw_input_contents[0] == b"\x00" * 16


async def test_falling_latency_is_waited_for() -> None:
    report = await warm(FakeTriton(), stopwatch=timer(2.0, 1.8, 1.5, 1.2, 1.0, 0.8, 0.6, 0.4, 0.3, 0.2, 0.1))
    assert report.passed
    assert 15 <= len(report.latencies) <= 20
    assert "now 100.0 ms" in report.message


async def test_latency_that_never_settles_is_bounded_and_said() -> None:
    report = await warm(FakeTriton(), stopwatch=timer(*[1.1**number for number in range(60)]))
    assert report.passed
    assert len(report.latencies) == 50
    assert "not settled" in report.message


@pytest.mark.parametrize(
    "datatype",
    [
        *(f"{kind}{bits}" for kind in ("INT", "UINT") for bits in (8, 16, 32, 64)),
        "FP16",
        "FP32",
        "FP64",
        "BF16",
        "BOOL",
        "BYTES",
    ],
)
async def test_inputs_of_every_type(datatype: str) -> None:
    triton = FakeTriton(inputs=[("a", datatype, [-1, 3, -1]), ("b", "INT64", [1])])
    report = await warm(triton)
    assert report.passed, report.message
    assert [(list(each.shape), each.datatype) for each in triton.asked[0].inputs] == [
        ([1, 3, 1], datatype),
        ([1], "INT64"),
    ]


async def test_optional_inputs_are_left_out() -> None:
    triton = FakeTriton(inputs=[("a", "FP32", [1]), ("b", "FP32", [1])], optional={"b"})
    assert (await warm(triton)).passed
    assert [each.name for each in triton.asked[0].inputs] == ["a"]


async def test_another_input_is_tried_when_zeros_break_the_model() -> None:
    triton = FakeTriton(verdicts=[(grpc.StatusCode.INTERNAL, "division by zero"), (grpc.StatusCode.OK, "")])
    report = await warm(triton)
    assert report.passed, report.message
    assert triton.asked[0].raw_input_contents != triton.asked[1].raw_input_contents
    assert triton.asked[1].raw_input_contents == triton.asked[2].raw_input_contents


async def test_a_model_that_refuses_our_input_answers() -> None:
    report = await warm(FakeTriton(verdicts=[(grpc.StatusCode.INVALID_ARGUMENT, "not\na picture\x07")]))
    assert report.passed
    assert "takes no made-up input (not a picture)" in report.message


@pytest.mark.parametrize("code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNKNOWN])
async def test_a_model_that_breaks_on_every_input_fails_with_its_sentence(code: grpc.StatusCode) -> None:
    report = await warm(FakeTriton(verdicts=[(code, "no module named sklearn")]))
    assert not report.passed
    assert f"{code.name}: no module named sklearn" in report.message
    assert "\n" not in report.message


async def test_a_model_that_breaks_after_a_while_fails() -> None:
    good, bad = (grpc.StatusCode.OK, ""), (grpc.StatusCode.INTERNAL, "out of memory")
    report = await warm(FakeTriton(verdicts=[good, good, good, bad]))
    assert not report.passed
    assert "out of memory" in report.message
    assert len(report.latencies) == 3


async def test_a_model_that_loads_is_waited_for() -> None:
    triton = FakeTriton(ready_after=3)
    assert (await warm(triton)).passed
    assert triton.looks >= 4


async def test_a_model_that_never_loads_fails_in_time() -> None:
    report = await warm(FakeTriton(ready_after=10**9), WarmLimits(seconds=0.3, poll_seconds=0.01))
    assert not report.passed
    assert "nothing within 0.3 s, waited for: the model to be ready" in report.message


async def test_a_model_that_hangs_fails_in_time() -> None:
    report = await warm(FakeTriton(hang=True), WarmLimits(seconds=0.5, poll_seconds=0.01))
    assert not report.passed
    assert report.latencies == ()
    assert "waited for: an answer of version 1" in report.message


@pytest.mark.parametrize(("flags", "word"), [({"decoupled": True}, "decoupled"), ({"sequence": True}, "sequences")])
async def test_models_that_need_a_dialogue_are_only_asked_for_readiness(flags: dict[str, bool], word: str) -> None:
    triton = FakeTriton(**flags)  # type: ignore[arg-type]
    report = await warm(triton)
    assert report.passed
    assert word in report.message
    assert triton.asked == []


async def test_an_input_too_large_to_make_up_is_not_sent() -> None:
    triton = FakeTriton(inputs=[("x", "FP64", [-1, 4096, 4096])])
    report = await warm(triton)
    assert report.passed
    assert "too large" in report.message
    assert triton.asked == []


async def test_an_unknown_model_fails_with_the_servers_sentence() -> None:
    async with serving(FakeTriton()) as target:
        other = PodTarget(target.pod, target.address, target.port, "letters")
        report = await TritonModelServer(QUICK, timer(0.01)).warm(other)
    assert not report.passed
    assert "no model letters" in report.message


async def test_nobody_listens() -> None:
    limits = WarmLimits(seconds=0.5, poll_seconds=0.01)
    report = await TritonModelServer(limits, timer(0.01)).warm(PodTarget("p", "127.0.0.1", 9, "digits"))
    assert not report.passed
    assert "waited for: the server (UNAVAILABLE: " in report.message


ROW = Tensor("x", "FP32", (1, 4), (1.0, 2.0, 3.0, 4.0))


def answering(datatype: str, shape: list[int], raw: bytes) -> FakeTriton:
    answer = service_pb2.ModelInferResponse(model_name="digits", raw_output_contents=[raw])
    answer.outputs.add(name="y", datatype=datatype, shape=shape)
    return FakeTriton(answer=answer)


async def infer(triton: FakeTriton, *inputs: Tensor) -> tuple[Tensor, ...]:
    async with serving(triton) as target:
        return await TritonModelServer().infer(target, inputs or (ROW,), ["y"])


@pytest.mark.parametrize(
    ("datatype", "raw", "data"),
    [
        ("FP32", b"\x00\x00\x80?\x00\x00\xc0\x7f", "(1.0, nan)"),
        ("FP16", b"\x00<\x00|", "(1.0, inf)"),
        ("BF16", b"\x80?\x00@", "(1.0, 2.0)"),
        ("INT8", b"\xff\x01", "(-1, 1)"),
        ("BOOL", b"\x00\x01", "(False, True)"),
        ("BYTES", b"\x01\x00\x00\x00a\x02\x00\x00\x00\xff\xc3", r"('a', b'\xff\xc3')"),
    ],
)
async def test_answers_of_every_kind(datatype: str, raw: bytes, data: str) -> None:
    (found,) = await infer(answering(datatype, [2], raw))
    assert (found.name, found.datatype, found.shape, str(found.data)) == ("y", datatype, (2,), data)


@pytest.mark.parametrize(
    ("datatype", "shape", "raw", "code", "sentence"),
    [
        ("FP32", [3], b"\x00" * 4, "DATA_LOSS", "cannot be read"),
        ("FP32", [1], b"\x00" * 3, "DATA_LOSS", "cannot be read"),
        ("FP32", [2000, 1000], b"\x00" * 8_000_000, "OUT_OF_RANGE", "output y has 2000000 entries, at most 1000000"),
        ("FP32", [2**62, 2**62], b"", "OUT_OF_RANGE", "at most 1000000 are read"),
        ("BYTES", [1], b"\x00" * 40_000_000, "OUT_OF_RANGE", "output y has 10000000 entries"),
        ("BYTES", [1], b"\xff\xff\xff\x7f", "DATA_LOSS", "cannot be read"),
    ],
)
async def test_answers_that_are_bombs_or_lies_are_sentences(
    datatype: str, shape: list[int], raw: bytes, code: str, sentence: str
) -> None:
    with pytest.raises(ModelError) as caught:
        await infer(answering(datatype, shape, raw))
    assert (caught.value.code, sentence in caught.value.said) == (code, True), caught.value


async def test_a_refusal_is_an_answer_and_silence_is_none() -> None:
    with pytest.raises(ModelError, match="not a picture"):
        await infer(FakeTriton(verdicts=[(grpc.StatusCode.INVALID_ARGUMENT, "not a picture")]))
    with pytest.raises(TransientError, match="busy"):
        await infer(FakeTriton(verdicts=[(grpc.StatusCode.UNAVAILABLE, "busy")]))


@pytest.mark.parametrize("datatype", ["FP16", "BF16", "FP64", "INT64", "UINT8", "BOOL", "BYTES"])
async def test_inputs_of_a_golden_set_of_every_type(datatype: str) -> None:
    data: tuple[Any, ...] = ("ü", b"\xff\x00") if datatype == "BYTES" else (1, 0)
    tensor = Tensor("x", datatype, (2,), data)
    triton = FakeTriton(answer=service_pb2.ModelInferResponse(model_name="digits"))
    assert await infer(triton, tensor) == ()
    assert [(list(each.shape), each.datatype) for each in triton.asked[0].inputs] == [([2], datatype)]
    (raw,) = triton.asked[0].raw_input_contents
    # what a burst sends is the same, and both are what the tensor says
    assert service_pb2.ModelInferRequest.FromString(to_message("m", [to_array(tensor)])).raw_input_contents == [raw]
    assert from_bytes("x", datatype, (2,), raw) == tensor


async def test_a_burst_counts_every_error() -> None:
    good, bad = (grpc.StatusCode.OK, ""), (grpc.StatusCode.INTERNAL, "out of memory")
    async with serving(FakeTriton(verdicts=[good, bad, good, bad, good])) as target:
        report = await TritonModelServer().burst([target], Burst(100.0, 0.2, ((ROW,),)))
    assert (report.sent, report.failed, report.problem) == (20, 2, "INTERNAL: out of memory")


async def test_a_burst_whose_inputs_cannot_be_asked_for_sent_nothing() -> None:
    nobody = PodTarget("digits-b-0", "127.0.0.1", 9, "digits")
    report = await TritonModelServer().burst([nobody], Burst(10.0, 0.2))
    assert (report.sent, report.failed, report.unsent) == (0, 0, "")
    assert "UNAVAILABLE" in report.again


async def test_a_burst_never_exceeds_its_bounds_and_ends_when_nobody_answers() -> None:
    triton = FakeTriton(hang=True)
    async with serving(triton) as target:
        task = asyncio.create_task(TritonModelServer().burst([target], Burst(1e9, 1e9, ((ROW,),))))
        async with asyncio.timeout(60):
            while len(triton.asked) < 16:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.5)
        assert len(triton.asked) <= 128
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
