"""The gates' side of the Triton adapter against a real Triton: signatures, answers, bursts and golden sets."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from deploy.demo.kube import Kube, Object
from deploy.demo.manifests import namespace
from deploy.demo.place import Place

from modelrollout.adapters.triton import TritonModelServer
from modelrollout.cli import main
from modelrollout.evidence.answers import compare
from modelrollout.evidence.contract import difference
from modelrollout.evidence.golden import misfit, read_golden
from modelrollout.ports import Burst, ModelError, PodTarget, Tensor, TensorSpec, TransientError

GOLDEN = {
    "version": 1,
    "requests": [
        {
            "name": "two rows",
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3, 4]}],
            "outputs": [
                {"name": "score", "datatype": "FP32", "shape": [2, 1], "data": [0.3, 0.7]},
                {"name": "label", "datatype": "BYTES", "shape": [2, 1], "data": ["low", "high"]},
            ],
        }
    ],
}

GATE_CONFIG = f"""
name: "gate"
backend: "python"
max_batch_size: 8
input [
  {{ name: "x" data_type: TYPE_FP32 dims: [ 2 ] }},
  {{ name: "hint" data_type: TYPE_STRING dims: [ 1 ] optional: true }}
]
output [
  {{ name: "score" data_type: TYPE_FP32 dims: [ 1 ] }},
  {{ name: "label" data_type: TYPE_STRING dims: [ 1 ] }}
]
parameters {{ key: "golden" value: {{ string_value: {json.dumps(json.dumps(GOLDEN))} }} }}
"""

GATE_MODEL = """
import numpy as np
import triton_python_backend_utils as pb

class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            x = pb.get_input_tensor_by_name(request, "x").as_numpy()
            if (x < 0).any():
                answers.append(pb.InferenceResponse(error=pb.TritonError("x must not be negative")))
                continue
            score = (x.sum(axis=1, keepdims=True) / 10).astype(np.float32)
            label = np.where(score < 0.5, b"low", b"high").astype(object)
            answers.append(pb.InferenceResponse([pb.Tensor("score", score), pb.Tensor("label", label)]))
        return answers
"""

TALKER_CONFIG = """
name: "talker"
backend: "python"
max_batch_size: 0
input [ { name: "x" data_type: TYPE_FP32 dims: [ 2 ] } ]
output [ { name: "score" data_type: TYPE_FP32 dims: [ 1 ] } ]
model_transaction_policy { decoupled: true }
"""

TALKER_MODEL = """
class TritonPythonModel:
    def execute(self, requests):
        return None
"""


def pod(image: str, name: str) -> list[dict[str, Any]]:
    files = {"gate.pbtxt": GATE_CONFIG, "gate.py": GATE_MODEL, "talker.pbtxt": TALKER_CONFIG, "talker.py": TALKER_MODEL}
    items = [
        {"key": f"{model}.{end}", "path": f"{model}/{path}"}
        for model in ("gate", "talker")
        for end, path in (("pbtxt", "config.pbtxt"), ("py", "1/model.py"))
    ]
    metadata = {"name": "triton", "namespace": name}
    container = {
        "name": "server",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["tritonserver"],
        "args": ["--model-repository=/models", "--allow-metrics=false"],
        "env": [{"name": "HOME", "value": "/tmp"}],
        "readinessProbe": {"httpGet": {"path": "/v2/health/ready", "port": 8000}, "periodSeconds": 1},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [
            # One by one: Triton would take the ConfigMap's own hidden folders for models.
            *({"name": "models", "mountPath": f"/models/{each}", "subPath": each} for each in ("gate", "talker")),
            {"name": "shm", "mountPath": "/dev/shm"},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
    volumes = [
        {"name": "models", "configMap": {"name": "triton", "items": items}},
        {"name": "shm", "emptyDir": {"medium": "Memory"}},
        {"name": "tmp", "emptyDir": {}},
    ]
    spec = {"containers": [container], "volumes": volumes, "terminationGracePeriodSeconds": 1}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": files},
        {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec},
    ]


@pytest.fixture(scope="module")
def server(place: Place) -> Iterator[PodTarget]:
    """A real Triton with the models above, asked at its pod's address."""
    name = f"mr-gates-{uuid.uuid4().hex[:6]}"

    async def up() -> str:
        async with Kube.connect(place.kubeconfig) as kube:
            for body in (namespace(name), *pod(place.image_triton, name)):
                await kube.apply(body)
            found = await kube.wait("Pod", name, "triton", _ready, "Triton is ready", within=240)
            return str(found["status"]["podIP"])

    async def down() -> None:
        async with Kube.connect(place.kubeconfig) as kube:
            await kube.delete("Namespace", None, name)

    try:
        yield PodTarget("triton", asyncio.run(up()), 8001, "gate")
    finally:
        asyncio.run(down())


def _ready(found: Object | None) -> bool:
    conditions = ((found or {}).get("status") or {}).get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


TRITON = TritonModelServer()
ROWS = (Tensor("x", "FP32", (2, 2), (1.0, 2.0, 3.0, 4.0)),)


async def test_the_signature_is_what_config_and_metadata_say(server: PodTarget) -> None:
    found = await TRITON.signature(server)
    assert found.version == "1"
    assert found.inputs == (TensorSpec("x", "FP32", (-1, 2)), TensorSpec("hint", "BYTES", (-1, 1), optional=True))
    assert found.outputs == (TensorSpec("score", "FP32", (-1, 1)), TensorSpec("label", "BYTES", (-1, 1)))
    assert (found.max_batch_size, found.decoupled, found.sequences) == (8, False, False)
    assert json.loads(found.parameters["golden"]) == GOLDEN
    talker = await TRITON.signature(replace(server, model="talker"))
    assert talker.decoupled
    assert difference(found, found).breaking == ()
    assert "input x: FP32[?, 2] -> FP32[2]" in difference(found, talker).breaking


async def test_a_golden_set_in_the_models_own_config_is_met(server: PodTarget) -> None:
    signature = await TRITON.signature(server)
    (request,) = read_golden(signature.parameters["golden"])
    assert misfit((request,), signature) is None
    answer = await TRITON.infer(server, request.inputs, ["score", "label"])
    assert compare(request.outputs, answer, {}).sentences == ()
    assert answer[1] == Tensor("label", "BYTES", (2, 1), ("low", "high"))
    other = replace(request.outputs[0], data=(0.3, 0.8))
    (sentence,) = compare((other,), answer, {}).sentences
    assert "expected 0.8 at [1, 0], got 0.7" in sentence


async def test_texts_go_both_ways(server: PodTarget) -> None:
    hint = Tensor("hint", "BYTES", (2, 1), ("ünï", ""))
    (answer,) = await TRITON.infer(server, (*ROWS, hint), ["score"])
    assert answer.shape == (2, 1)


@pytest.mark.parametrize(
    ("inputs", "outputs", "sentence"),
    [
        ((replace(ROWS[0], data=(-1.0, 2.0, 3.0, 4.0)),), ["score"], "x must not be negative"),
        ((replace(ROWS[0], shape=(1, 4)),), ["score"], "unexpected shape for input 'x'"),
        ((replace(ROWS[0], datatype="FP64"),), ["score"], "FP64"),
        ((), ["score"], "inputs"),
        (ROWS, ["scores"], "scores"),
    ],
)
async def test_what_triton_refuses_is_its_sentence(
    server: PodTarget, inputs: tuple[Tensor, ...], outputs: list[str], sentence: str
) -> None:
    with pytest.raises(ModelError, match=sentence):
        await TRITON.infer(server, inputs, outputs)


async def test_nobody_there_may_be_asked_again(server: PodTarget) -> None:
    nobody = replace(server, port=9)
    with pytest.raises(TransientError):
        await TRITON.signature(nobody)
    report = await TRITON.burst([nobody], Burst(10, 1, (ROWS,)))
    assert report.failed == report.sent > 0
    assert "UNAVAILABLE" in report.problem


async def test_a_burst_keeps_its_schedule_and_counts_failures(server: PodTarget) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    report = await TRITON.burst([server], Burst(100, 2.0, (ROWS,)))
    assert loop.time() - began >= 1.9, "no faster than asked"
    assert (report.sent, report.failed) == (200, 0)
    assert report.p50 is not None
    assert report.p95 is not None
    assert report.p99 is not None
    assert 0 < report.p50 <= report.p95 <= report.p99
    bad = (replace(ROWS[0], data=(-1.0, 2.0, 3.0, 4.0)),)
    mixed = await TRITON.burst([server], Burst(50, 1.0, (ROWS, bad)))
    assert (mixed.sent, mixed.failed) == (50, 25)
    assert "x must not be negative" in mixed.problem


async def test_a_burst_makes_its_requests_up_where_none_are_given(server: PodTarget) -> None:
    report = await TRITON.burst([server], Burst(20, 1.0))
    assert (report.sent, report.failed, report.unsent) == (20, 0, "")
    talker = await TRITON.burst([replace(server, model="talker")], Burst(20, 1.0))
    assert "decoupled" in talker.unsent


async def test_a_hopeless_burst_ends_early(server: PodTarget) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    bad = (replace(ROWS[0], data=(-1.0, 2.0, 3.0, 4.0)),)
    report = await TRITON.burst([server], Burst(200, 20.0, (bad,)))
    assert loop.time() - began < 15, "of 20 s"
    assert report.failed == report.sent < 2000, "of 4000"
    assert report.p50 is None


def test_a_set_recorded_by_command_is_met_by_both_protocols(server: PodTarget, tmp_path: Path) -> None:
    def call(*words: object) -> Result:
        return CliRunner().invoke(main, ["golden", *(str(word) for word in words), "--model", "gate"])

    grpc, rest = f"{server.address}:8001", f"http://{server.address}:8000"
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    for url, file in ((grpc, first), (rest, second)):
        found = call("record", "--made-up", 5, "--url", url, "-o", file)
        assert found.exit_code == 0, found.output
    assert first.read_text() == second.read_text()
    for url in (grpc, rest):
        assert call("check", first, "--url", url).exit_code == 0
    first.write_text(first.read_text().replace('["low"]', '["high"]'))
    wrong = call("check", first, "--url", grpc)
    assert wrong.exit_code == 1
    assert 'made up 0, output label: expected "high", got "low"' in wrong.output
