"""The same traffic by gRPC: every answer carries a gRPC code, and the revision comes in the initial metadata.

Triton's own asynchronous client hides the initial metadata, so its generated stub is used.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
from deploy.demo.recording import Answer
from deploy.demo.traffic import LOOK, REVISION_HEADER, TIMEOUT, Traffic
from deploy.demo.training import MODEL_NAME, Floats, Labels
from tritonclient.grpc import service_pb2, service_pb2_grpc


class GrpcSender:
    """Triton's gRPC protocol to ``address`` (``host:port``), with ``hostname`` as its authority."""

    def __init__(
        self,
        images: Floats,
        labels: Labels,
        address: str,
        hostname: str,
        metadata: dict[str, str] | None = None,
    ) -> None:
        self._address = address
        self._hostname = hostname
        self._metadata = tuple((metadata or {}).items())
        self._truths = [int(label) for label in labels]
        self._bodies = [grpc_body(image) for image in images]
        self._stub: Any = None

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Hold one channel, with gRPC's own retries off."""
        options = [("grpc.default_authority", self._hostname), ("grpc.enable_retries", 0)]
        async with grpc.aio.insecure_channel(self._address, options=options) as channel:
            self._stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            yield

    async def send(self, index: int) -> Answer:
        """Send one image; nothing is tried twice."""
        truth, sent = self._truths[index], time.time()
        call = self._stub.ModelInfer(self._bodies[index], metadata=self._metadata, timeout=TIMEOUT)
        try:
            revision = revision_in(await call.initial_metadata())
            answer = await call
        except grpc.aio.AioRpcError as error:
            revision = revision_in(error.initial_metadata()) or revision_in(error.trailing_metadata())
            code = error.code().name
            return Answer(sent, time.time(), code, revision, truth, None, str(error.details())[:LOOK])
        label = int(np.frombuffer(answer.raw_output_contents[0], dtype=np.int64)[0])
        return Answer(sent, time.time(), "OK", revision, truth, label)


def grpc_traffic(images: Floats, labels: Labels, address: str, hostname: str, rate: float = 100.0) -> Traffic:
    """Steady gRPC traffic of these images."""
    return Traffic(GrpcSender(images, labels, address, hostname), len(images), rate)


def revision_in(metadata: Any) -> str | None:
    """The revision header in some metadata, if any."""
    return next((str(value) for key, value in metadata or () if key == REVISION_HEADER), None)


def grpc_body(image: Floats) -> Any:
    """The request for one image, by Triton's gRPC protocol."""
    request = service_pb2.ModelInferRequest(model_name=MODEL_NAME)
    request.inputs.add(name="IMAGE", datatype="FP32", shape=[1, 8, 8])
    request.outputs.add(name="LABEL")
    request.raw_input_contents.append(np.asarray(image, dtype=np.float32).tobytes())
    return request
