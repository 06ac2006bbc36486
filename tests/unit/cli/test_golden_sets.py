"""Golden sets by command: recorded from a model server that speaks REST, checked, embedded; what goes wrong is said."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from modelrollout.adapters.rest import LENGTH
from modelrollout.cli import main
from modelrollout.cli.pbtxt import PbtxtError, with_parameter
from modelrollout.evidence.golden import read_golden

METADATA = {
    "name": "digits",
    "versions": ["1"],
    "inputs": [
        {"name": "x", "datatype": "FP32", "shape": [-1, 2]},
        {"name": "hint", "datatype": "BYTES", "shape": [-1, 1]},
    ],
    "outputs": [{"name": "sum", "datatype": "FP32", "shape": [-1, 1]}],
}
CONFIG = {"max_batch_size": 8, "input": [{"name": "x"}, {"name": "hint", "optional": True}], "parameters": {}}


class Model:
    """A model server: adds its inputs up, or does what ``answers`` says."""

    def __init__(self) -> None:
        self.config: Any = CONFIG
        self.answers: dict[str, tuple[int, Any]] = {}
        self.asked: list[Any] = []
        self.drift = 0.0
        self.blob = self.reply = b""
        """What comes and goes behind the JSON."""

    def answer(self, path: str, body: Any) -> tuple[int, Any]:
        what = path.removeprefix("/v2/models/digits")
        if what in self.answers:
            return self.answers[what]
        if not path.startswith("/v2/models/digits"):
            return 404, {"error": "Request for unknown model"}
        if what == "/config":
            return (200, self.config) if self.config is not None else (404, {"error": "no"})
        if what != "/infer":
            return 200, METADATA
        self.asked.append(body)
        total = sum(body["inputs"][0]["data"]) + self.drift * len(self.asked)
        return 200, {"outputs": [{"name": "sum", "datatype": "FP32", "shape": [1, 1], "data": [total]}]}


@pytest.fixture
def served() -> Iterator[tuple[Model, str]]:
    model = Model()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(None)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            length = int(self.headers.get(LENGTH, len(body)))
            model.blob = body[length:]
            self._answer(json.loads(body[:length]))

        def _answer(self, body: Any) -> None:
            status, found = model.answer(self.path, body)
            data = found if isinstance(found, bytes) else json.dumps(found).encode()
            self.send_response(status)
            if model.reply:
                self.send_header(LENGTH, str(len(data)))
                data += model.reply
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: Any) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield model, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


ECHO = {
    "name": "digits",
    "versions": ["1"],
    "inputs": [{"name": "x", "datatype": "BYTES", "shape": [-1]}, {"name": "h", "datatype": "FP16", "shape": [-1]}],
    "outputs": [{"name": "y", "datatype": "BYTES", "shape": [-1]}, {"name": "z", "datatype": "BF16", "shape": [-1]}],
}


def echoing(model: Model, sizes: tuple[int, int] = (10, 4)) -> None:
    """A server with binary tensors, whose answers are the text a, the byte ff, and BF16 1 and NaN."""
    model.config = {"max_batch_size": 0}
    model.answers[""] = (200, ECHO)
    y, z = ({"binary_data_size": size} for size in sizes)
    outputs = [
        {"name": "y", "datatype": "BYTES", "shape": [2], "parameters": y},
        {"name": "z", "datatype": "BF16", "shape": [2], "parameters": z},
    ]
    model.answers["/infer"] = (200, {"outputs": outputs})
    model.answers["/v2"] = (200, {"name": "triton", "extensions": ["classification", "binary_tensor_data"]})
    model.reply = b"\x01\0\0\0a\x01\0\0\0\xff\x80?\xc0\x7f"


REQUEST = [
    {"name": "x", "datatype": "BYTES", "shape": [2], "data": ["ü", {"b64": "/9j/"}]},
    {"name": "h", "datatype": "FP16", "shape": [2], "data": [1, math.inf]},
]


def test_bytes_and_half_floats_go_as_binary_tensors_over_rest(served: tuple[Model, str], tmp_path: Path) -> None:
    model, url = served
    echoing(model)
    requests, file = tmp_path / "requests.json", tmp_path / "golden.json"
    requests.write_text(json.dumps([{"inputs": REQUEST}]))
    found = call("record", requests, "--url", url, "--model", "digits", "-o", file)
    assert found.exit_code == 0, found.output
    assert model.blob == b"\x02\0\0\0\xc3\xbc\x03\0\0\0\xff\xd8\xff" + b"\x00<\x00|"
    y, z = json.loads(file.read_text())["requests"][0]["outputs"]
    assert (y["data"], z["data"][0], math.isnan(z["data"][1])) == (["a", {"b64": "/w=="}], 1.0, True)
    assert call("check", file, "--url", url, "--model", "digits").exit_code == 0
    model.reply = model.reply.replace(b"\xff", b"\xfe", 1)
    wrong = call("check", file, "--url", url, "--model", "digits")
    assert "output y: expected 1 bytes ff at [1], got 1 bytes fe" in wrong.output


@pytest.mark.parametrize("sizes", [(11, 4), (10, 5), (10, -1), (3, 4), (10, 2), (2**70, 4)])
def test_binary_answers_that_lie_about_their_size_are_named(
    served: tuple[Model, str], tmp_path: Path, sizes: tuple[int, int]
) -> None:
    model, url = served
    echoing(model, sizes)
    requests = tmp_path / "requests.json"
    requests.write_text(json.dumps([{"inputs": REQUEST}]))
    found = call("record", requests, "--url", url, "--model", "digits", "-o", tmp_path / "golden.json")
    assert found.exit_code != 0
    assert "answers with outputs that cannot be read" in found.output


def test_bytes_cannot_be_asked_of_a_server_without_binary_tensors(served: tuple[Model, str], tmp_path: Path) -> None:
    model, url = served
    echoing(model)
    del model.answers["/v2"]
    requests = tmp_path / "requests.json"
    requests.write_text(json.dumps([{"inputs": REQUEST}]))
    found = call("record", requests, "--url", url, "--model", "digits", "-o", tmp_path / "golden.json")
    assert found.exit_code != 0
    assert "input x has bytes that are no text, and the server takes no binary tensors over REST" in found.output
    assert "ask it by gRPC" in found.output


def call(*words: object) -> Result:
    return CliRunner().invoke(main, ["golden", *(str(word) for word in words)])


def test_recorded_answers_are_met_until_the_model_answers_otherwise(served: tuple[Model, str], tmp_path: Path) -> None:
    model, url = served
    file = tmp_path / "golden.json"
    found = call("record", "--made-up", 3, "--url", url, "--model", "digits", "-o", file)
    assert found.exit_code == 0, found.output
    requests = read_golden(file.read_text())
    assert len(requests) == 3
    assert [tensor.name for tensor in requests[0].inputs] == ["x"]
    assert len({request.inputs for request in requests}) == 3
    assert call("check", file, "--url", url, "--model", "digits").exit_code == 0
    model.drift = 0.5
    wrong = call("check", file, "--url", url, "--model", "digits")
    assert wrong.exit_code == 1
    assert "made up 0, output sum: expected" in wrong.output
    assert "3 of 3 requests were answered otherwise than expected" in wrong.output
    loose = ("check", file, "--url", url, "--model", "digits", "--absolute", "sum=9")
    assert call(*loose).exit_code == 0
    assert [tensor["name"] for tensor in model.asked[-1]["outputs"]] == ["sum"]
    assert call(*loose[:-2], "--ignore", "sum").exit_code == 0
    assert model.asked[-1]["outputs"] == []
    assert "tolerances names output som" in call(*loose[:-2], "--ignore", "som").output


def test_an_output_that_is_never_the_same_is_told(served: tuple[Model, str], tmp_path: Path) -> None:
    model, url = served
    model.drift = 0.5
    found = call("record", "--made-up", 1, "--url", url, "--model", "digits", "-o", tmp_path / "g.json")
    assert "output sum differs when asked twice" in found.output


def test_requests_of_the_protocol_become_a_config_map_and_a_parameter(
    served: tuple[Model, str], tmp_path: Path
) -> None:
    _, url = served
    requests, config, target = tmp_path / "requests.json", tmp_path / "config.pbtxt", tmp_path / "golden.yaml"
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [[1, 2]]}
    requests.write_text(json.dumps([{"id": "a", "inputs": [tensor]}]))
    config.write_text('name: "digits"\n')
    words = ("record", requests, "--url", url, "--model", "digits", "-o", target)
    found = call(*words, "--configmap", "digits-golden", "--embed", config)
    assert found.exit_code == 0, found.output
    body = yaml.safe_load(target.read_text())
    assert (body["kind"], body["metadata"]["name"]) == ("ConfigMap", "digits-golden")
    (request,) = read_golden(body["data"]["golden.json"])
    assert (request.name, request.outputs[0].data) == ("a", (3.0,))
    parsed = text_format.Parse(config.read_text(), model_config_pb2.ModelConfig())
    assert parsed.parameters["golden_set"].string_value == body["data"]["golden.json"]


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("record",), 2, "give a file of requests, or --made-up N"),
        (("record", "--made-up", 1, "--output", "scores"), 2, "digits has no output scores: it has sum"),
        (("record", "--made-up", 1, "--model", "letters"), 1, "HTTP 404: Request for unknown model"),
        (("record", "--made-up", 1, "--url", "127.0.0.1"), 2, "write host:port for gRPC, or http://host:port"),
        (("record", "--made-up", 1, "--url", "ftp://127.0.0.1:1"), 2, "write host:port for gRPC"),
        (("record", "--made-up", 1, "--url", "http://127.0.0.1:9"), 1, "http://127.0.0.1:9 cannot be asked"),
        (("record", "--made-up", 1, "--url", "127.0.0.1:9"), 1, "UNAVAILABLE"),
        (("record", "BAD"), 6, "line 1, column 2"),
        (("check", "BAD"), 6, "line 1, column 2"),
        (("check", "BAD", "--relative", "sum"), 2, "--relative sum: write OUTPUT=NUMBER"),
        (("check", "BAD", "--absolute", "sum=-1"), 2, "must not be negative"),
    ],
)
def test_what_goes_wrong_is_a_sentence(
    served: tuple[Model, str], tmp_path: Path, words: tuple[Any, ...], code: int, sentence: str
) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text("[}")
    given = [bad if word == "BAD" else word for word in words]
    if "--model" not in given:
        given += ["--model", "digits"]
    if "--url" not in given:
        given += ["--url", served[1]]
    if words[0] == "record":
        given += ["-o", tmp_path / "g.json"]
    found = call(*given)
    assert (found.exit_code, sentence in found.output) == (code, True), found.output
    assert not (tmp_path / "g.json").exists()


@pytest.mark.parametrize(
    ("what", "answer", "sentence"),
    [
        ("/infer", (400, {"error": "x\nmust be positive"}), "made up 0 is refused (HTTP 400: x must be positive)"),
        ("/infer", (200, b"hello"), "does not answer with JSON: is it a model server?"),
        ("/infer", (200, {"outputs": [{"name": "sum"}]}), "outputs that cannot be read"),
        ("/infer", (200, b"[" * 100_000), "does not answer with JSON"),
        ("", (200, {"inputs": [3]}), "metadata that cannot be read"),
        ("", (502, b"<html>"), "HTTP 502: <html>"),
        ("/config", (200, {**CONFIG, "model_transaction_policy": {"decoupled": True}}), "decoupled"),
    ],
)
def test_a_server_that_answers_oddly(
    served: tuple[Model, str], tmp_path: Path, what: str, answer: tuple[int, Any], sentence: str
) -> None:
    model, url = served
    model.answers[what] = answer
    found = call("record", "--made-up", 1, "--url", url, "--model", "digits", "-o", tmp_path / "g.json")
    assert found.exit_code in (1, 6)
    assert sentence in found.output, found.output
    assert not isinstance(found.exception, Exception) or isinstance(found.exception, SystemExit)


def test_a_server_without_triton_s_config_is_asked_all_the_same(served: tuple[Model, str], tmp_path: Path) -> None:
    model, url = served
    model.config = None
    found = call("record", "--made-up", 1, "--url", url, "--model", "digits", "-o", tmp_path / "g.json")
    assert found.exit_code == 0, found.output
    assert [tensor["name"] for tensor in model.asked[0]["inputs"]] == ["x", "hint"]


@pytest.mark.parametrize(
    "before",
    [
        "",
        'name: "a"',
        'parameters { key: "golden_set" value: { string_value: "old } \\" #" } }\nmax_batch_size: 4\n',
        'parameters: {\n  key: "other"\n  value: { string_value: "x" }\n}\n# parameters { key: "golden_set" }\n',
        'input [ { name: "parameters" dims: [ 2 ] data_type: TYPE_FP32 } ]\n',
    ],
)
def test_a_parameter_is_written_or_replaced_and_nothing_else(before: str) -> None:
    value = '{"a": "\\u00fc \\"quoted\\""}\nü'
    once = with_parameter(before, "golden_set", value)
    was = text_format.Parse(before, model_config_pb2.ModelConfig())
    now = text_format.Parse(once, model_config_pb2.ModelConfig())
    assert now.parameters["golden_set"].string_value == value
    for found in (was, now):
        found.parameters.pop("golden_set", None)
    assert now == was
    assert with_parameter(once, "golden_set", value) == once
    assert before.count("#") == once.count("#") or "old }" in before


@pytest.mark.parametrize("text", ["a {", "a }", 'parameters [ { key: "golden_set" } ]'])
def test_what_cannot_be_changed_safely_is_left_alone(text: str, tmp_path: Path) -> None:
    with pytest.raises(PbtxtError):
        with_parameter(text, "golden_set", "x")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["-o", "/nonexistent/g.json"], 1, "/nonexistent/g.json: cannot be written: No such file or directory"),
        (["-o", "g.json", "--configmap", "A_B"], 2, "--configmap 'A_B': give a name as Kubernetes takes it"),
        (["-o", "g.json", "--url", "http://"], 2, "--url 'http://' is no address"),
        (["-o", "g.json", "--url", "http://127.0.0.1:99999"], 2, "is no address"),
        (["-o", "g.json", "--url", "http://[::1"], 2, "is no address"),
    ],
)
def test_places_that_cannot_be_written_or_asked(
    served: tuple[Model, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = call("record", "--made-up", "1", "--url", served[1], "--model", "digits", *words)
    assert (result.exit_code, said in result.output) == (code, True), result.output


def test_a_tolerance_that_makes_no_sense_names_its_output(tmp_path: Path) -> None:
    (tmp_path / "g.json").write_text("{}")
    for words in (["--relative", "sum=-1"], ["--absolute", "sum=nan"], ["--top-k", "sum=0"]):
        result = call("check", str(tmp_path / "g.json"), "--url", "127.0.0.1:1", "--model", "digits", *words)
        assert (result.exit_code, "the tolerance of output 'sum': " in result.output) == (2, True), result.output
        assert "Value error" not in result.output
