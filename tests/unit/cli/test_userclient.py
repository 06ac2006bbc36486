"""The person's way to the API server, against a small server of our own."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from typing_extensions import override

from modelrollout.adapters.userclient import UserClient, WatchExpired
from modelrollout.ports import ConflictError, DeniedError, TransientError


@dataclass
class Server:
    """Answers by (method, path) as told, and remembers what it was asked."""

    url: str = ""
    answers: dict[tuple[str, str], list[tuple[int, Any]]] = field(default_factory=dict)
    asked: list[tuple[str, str, dict[str, list[str]], dict[str, str], bytes]] = field(default_factory=list)
    date: str | None = None

    def tell(self, method: str, path: str, *answers: tuple[int, Any]) -> None:
        self.answers[method, path] = list(answers)


@pytest.fixture
def server() -> Iterator[Server]:
    told = Server()

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            split = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            told.asked.append((self.command, split.path, parse_qs(split.query), dict(self.headers), body))
            waiting = told.answers.get((self.command, split.path)) or [(404, "page not found")]
            code, answer = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            data = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
            self.send_response_only(code)
            self.send_header("Date", told.date or format_datetime(datetime.now(UTC), usegmt=True))
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = _serve  # noqa: N815 - the base class's names

        @override
        def log_message(self, *_: object) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    told.url = f"http://127.0.0.1:{listening.server_address[1]}"
    yield told
    listening.shutdown()
    listening.server_close()


def kubeconfig(folder: Path, url: str) -> str:
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "one",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": "secret"}}],
        "contexts": [
            {"name": "one", "context": {"cluster": "c", "user": "u", "namespace": "demo"}},
            {"name": "two", "context": {"cluster": "c", "user": "u"}},
        ],
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(content))
    return str(path)


@pytest.fixture
def client(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> UserClient:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    return UserClient(kubeconfig(tmp_path, server.url))


ROOT = "/apis/modelrollout.io/v1alpha1/namespaces/demo/modeldeployments"


def refusal(code: int, reason: str, message: str, **details: Any) -> tuple[int, Any]:
    return code, {"kind": "Status", "reason": reason, "message": message, "details": details}


def test_the_namespace_is_that_of_the_context(client: UserClient, server: Server, tmp_path: Path) -> None:
    assert client.namespace == "demo"
    assert UserClient(kubeconfig(tmp_path, server.url), "two").namespace == "default"


def test_a_context_or_a_file_that_is_not_there(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TransientError, match="has no context 'three'; it has one, two"):
        UserClient(kubeconfig(tmp_path, server.url), "three")
    with pytest.raises(TransientError, match="there is no kubeconfig at /nowhere"):
        UserClient("/nowhere")
    monkeypatch.setenv("KUBECONFIG", "/nowhere:/neither")
    with pytest.raises(TransientError, match=r"from \$KUBECONFIG"):
        UserClient()


@pytest.mark.parametrize("text", ["{", "[]", "a: b", "current-context: x"])
def test_a_broken_kubeconfig_is_one_sentence(text: str, tmp_path: Path) -> None:
    path = tmp_path / "broken"
    path.write_text(text)
    with pytest.raises(TransientError, match="cannot log in to a cluster"):
        UserClient(str(path))


def test_get(client: UserClient, server: Server) -> None:
    server.tell("GET", f"{ROOT}/digits", (200, {"metadata": {"name": "digits"}}))
    assert client.get("ModelDeployment", "demo", "digits") == {"metadata": {"name": "digits"}}
    assert server.asked[0][3]["authorization"] == "Bearer secret"
    server.tell("GET", f"{ROOT}/digits", refusal(404, "NotFound", "not found", name="digits"))
    assert client.get("ModelDeployment", "demo", "digits") is None


def test_without_its_crd_an_absence_means_nothing(client: UserClient) -> None:
    with pytest.raises(TransientError, match="is its CRD installed"):
        client.get("ModelDeployment", "demo", "digits")


def test_a_list_is_read_page_by_page(client: UserClient, server: Server) -> None:
    first = {"items": [{"a": 1}], "metadata": {"continue": "more", "resourceVersion": "7"}}
    server.tell("GET", "/api/v1/pods", (200, first), (200, {"items": [{"a": 2}], "metadata": {"resourceVersion": "7"}}))
    assert client.list_objects("Pod", None, "x=y") == ([{"a": 1}, {"a": 2}], "7")
    assert server.asked[0][2]["labelSelector"] == ["x=y"]
    assert server.asked[1][2]["continue"] == ["more"]


def test_what_is_not_allowed_names_the_verb(client: UserClient, server: Server) -> None:
    said = (
        'modeldeployments.modelrollout.io "digits" is forbidden: User "anna" cannot patch resource '
        '"modeldeployments" in API group "modelrollout.io" in the namespace "demo"'
    )
    server.tell("PATCH", f"{ROOT}/digits", refusal(403, "Forbidden", said))
    with pytest.raises(DeniedError, match=r"not allowed to patch modeldeployments\.modelrollout\.io in namespace demo"):
        client.merge_patch("ModelDeployment", "demo", "digits", {})
    server.tell("PATCH", f"{ROOT}/digits", refusal(401, "Unauthorized", "Unauthorized"))
    with pytest.raises(DeniedError, match="log in again"):
        client.merge_patch("ModelDeployment", "demo", "digits", {})
    server.tell("PATCH", f"{ROOT}/digits", refusal(404, "NotFound", "not found", name="digits"))
    with pytest.raises(ConflictError):
        client.merge_patch("ModelDeployment", "demo", "digits", {})


def test_a_merge_patch_is_one(client: UserClient, server: Server) -> None:
    server.tell("PATCH", f"{ROOT}/digits", (200, {"metadata": {}}))
    client.merge_patch("ModelDeployment", "demo", "digits", {"metadata": {"annotations": {"a": "b"}}})
    _, _, query, headers, body = server.asked[0]
    assert {key.lower(): value for key, value in headers.items()}["content-type"] == "application/merge-patch+json"
    assert query["fieldManager"] == ["modelrollout-command"]
    assert json.loads(body) == {"metadata": {"annotations": {"a": "b"}}}


def test_a_watch_yields_events_and_says_when_it_is_too_old(client: UserClient, server: Server) -> None:
    events = [{"type": "MODIFIED", "object": {"n": 1}}, {"type": "BOOKMARK", "object": {"n": 2}}]
    text = "\n".join(json.dumps(event) for event in events) + "\n"
    server.tell("GET", ROOT, (200, text))
    found = list(client.watch("ModelDeployment", "demo", "5", field="metadata.name=digits"))
    assert found == [("MODIFIED", {"n": 1}), ("BOOKMARK", {"n": 2})]
    assert server.asked[0][2]["resourceVersion"] == ["5"]
    gone = {"type": "ERROR", "object": {"code": 410, "message": "too old"}}
    for answer in ((200, json.dumps(gone) + "\n"), refusal(410, "Expired", "too old")):
        server.tell("GET", ROOT, answer)
        with pytest.raises(WatchExpired):
            list(client.watch("ModelDeployment", "demo", "5"))


def test_a_watch_that_sends_garbage_is_no_crash(client: UserClient, server: Server) -> None:
    server.tell("GET", ROOT, (200, "no json\n"))
    with pytest.raises(TransientError):
        list(client.watch("ModelDeployment", "demo", "5"))


def test_who_one_is(client: UserClient, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    server.tell("POST", path, (201, {"status": {"userInfo": {"username": "anna@example.com"}}}))
    assert client.whoami() == "anna@example.com"
    server.tell("POST", path, refusal(403, "Forbidden", "no"))
    monkeypatch.setenv("LOGNAME", "bert")
    assert client.whoami() == "bert"


def test_the_time_is_that_of_the_server(client: UserClient, server: Server) -> None:
    server.tell("GET", "/api/v1/pods", (200, {"items": []}))
    client.list_objects("Pod", None)
    assert abs(client.now() - datetime.now(UTC)) < timedelta(seconds=30)
    server.date = format_datetime(datetime.now(UTC) + timedelta(minutes=7), usegmt=True)
    client.list_objects("Pod", None)
    assert timedelta(minutes=6, seconds=30) < client.now() - datetime.now(UTC) < timedelta(minutes=7, seconds=30)


def test_nobody_there_is_one_sentence(tmp_path: Path) -> None:
    client = UserClient(kubeconfig(tmp_path, "http://127.0.0.1:9"))
    with pytest.raises(
        TransientError, match=r"cannot reach the API server at http://127\.0\.0\.1:9: connection refused"
    ):
        client.list_objects("Pod", "demo")


def test_something_else_there_is_one_sentence(client: UserClient, server: Server) -> None:
    server.tell("GET", "/api/v1/namespaces/demo/pods", (200, "<html>"))
    with pytest.raises(TransientError, match="does not answer like an API server"):
        client.list_objects("Pod", "demo")
