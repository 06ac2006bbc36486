"""The harness itself: figures are judged and kept as promised, and requests are told apart."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.bench.audit import AuditLog, reads, writes
from tests.bench.prometheus import Mode, StubPrometheus
from tests.bench.result import Result, document, table


def test_a_figure_over_its_limit_is_not_ok_and_fails_the_benchmark(tmp_path: Path) -> None:
    result = Result("some")
    result.at_most("lost", 0, "requests", 0)
    result.note("seen", 7, "requests")
    assert result.ok
    result.at_most("slow", 1.31, "s", 1.3)
    assert not result.ok
    result.write(tmp_path)
    content = json.loads((tmp_path / "some.json").read_text())
    assert list(content) == ["name", "rows"]
    assert content["rows"][2] == {"figure": "slow", "value": 1.31, "unit": "s", "limit": 1.3, "ok": False}
    assert content["rows"][1]["limit"] is None
    assert "NO" in table([result])


def test_too_little_is_not_ok_where_a_figure_has_to_be_large() -> None:
    result = Result("some")
    result.at_least("rate", 199.0, "requests/s", 200)
    assert not result.ok


def test_nothing_measured_is_not_ok() -> None:
    assert not Result("some").ok
    result = Result("some")
    result.failed("no cluster")
    assert not result.ok


def test_the_document_gets_the_rows_between_its_marks(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    file.write_text("before\n<!-- some -->\nold\n<!-- end of some -->\nafter\n")
    result = Result("some")
    result.at_most("lost", 0, "requests", 0)
    document(result, file)
    text = file.read_text()
    assert "old" not in text
    assert "| lost | 0 | requests | 0 | yes |" in text
    assert text.startswith("before\n<!-- some -->")
    assert text.endswith("<!-- end of some -->\nafter\n")


def test_requests_are_told_apart_by_user_verb_and_lease(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    log.write_text(_line("old", "patch", "httproutes"))
    audit = AuditLog(log)
    lines = [
        _line("operator", "patch", "httproutes"),
        _line("operator", "update", "leases"),
        _line("operator", "list", "pods"),
        _line("operator", "watch", "pods"),
        _line("somebody", "patch", "httproutes"),
    ]
    half = _line("operator", "create", "events")
    with log.open("a") as file:
        file.write("".join(lines) + half[:40])
    found = audit.read("operator")
    assert [each.resource for each in writes(found)] == ["httproutes"]
    assert [each.resource for each in reads(found)] == ["pods"]
    with log.open("a") as file:
        file.write(half[40:])
    assert [each.verb for each in audit.read("operator")] == ["create"]


def test_a_value_turns_when_told_and_not_before() -> None:
    with StubPrometheus().serving() as stub:
        turned = stub.turn("echo-1", 1.0)
        assert _values(stub, "echo-1", turned - 1) == [0.0]
        assert stub.first_answer("echo-1", 1.0) is None
        assert _values(stub, "echo-1", turned) == [1.0]
        assert _values(stub, "echo-2", turned) == [0.0]
        assert (stub.first_answer("echo-1", 1.0) or 0) >= turned


def test_it_breaks_and_comes_back_at_the_same_address() -> None:
    with StubPrometheus().serving() as stub:
        url = stub.url
        stub.become(Mode.REFUSED)
        with pytest.raises(urllib.error.URLError):
            _values(stub, "echo-1", time.time())
        stub.become(Mode.ERROR)
        with pytest.raises(urllib.error.HTTPError):
            _values(stub, "echo-1", time.time())
        stub.become(Mode.EMPTY)
        assert _values(stub, "echo-1", time.time()) == []
        stub.become(Mode.GOOD)
        assert stub.url == url
        assert _values(stub, "echo-1", time.time()) == [0.0]


def _values(stub: StubPrometheus, revision: str, at: float) -> list[float]:
    query = {"query": f'max(x{{revision="{revision}"}})', "start": at, "end": at, "step": 1}
    url = f"{stub.url}/api/v1/query_range?{urlencode(query)}"
    with urllib.request.urlopen(url, timeout=5) as page:  # noqa: S310 - our own server
        answer = json.load(page)
    return [float(value) for series in answer["data"]["result"] for _, value in series["values"]]


def _line(user: str, verb: str, resource: str) -> str:
    event = {
        "verb": verb,
        "user": {"username": user},
        "userAgent": "modelrollout/0",
        "objectRef": {"resource": resource, "namespace": "bench", "name": "one"},
        "requestURI": "/",
        "responseStatus": {"code": 200},
        "requestReceivedTimestamp": "2026-01-01T00:00:00.000001Z",
        "stageTimestamp": "2026-01-01T00:00:00.020001Z",
    }
    return json.dumps(event) + "\n"
