"""A real Prometheus for the component tier: samples of any time are written to it, and it is asked.

It scrapes nothing. Samples come by remote write, whose messages are small enough to be made here by hand.
"""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import requests

from modelrollout.ports import Answer, Series
from tests.component.apiserver import eventually, process_of
from tests.ports import free_ports

Samples = Sequence[tuple[float, float]]
"""Unix seconds and value, oldest first."""

STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]
"""The value that says a series ended, as a scrape writes it for a target that is gone."""


class Prometheus:
    """The running server."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session = requests.Session()
        self._session.trust_env = False

    def write(self, series: Iterable[tuple[Mapping[str, str], Samples]]) -> None:
        """Write samples of series; a later call goes on with them."""
        message = b"".join(_field(1, _series(labels, samples)) for labels, samples in series)
        headers = {
            "Content-Encoding": "snappy",
            "Content-Type": "application/x-protobuf",
            "X-Prometheus-Remote-Write-Version": "0.1.0",
        }
        answer = self._session.post(f"{self.url}/api/v1/write", _snappy(message), headers=headers, timeout=180)
        assert answer.status_code in (200, 204), answer.text

    def query(self, query: str, at: datetime) -> Answer:
        """An instant query; AssertionError with Prometheus' complaint where it refuses."""
        return self._ask("query", {"query": query, "time": str(at.timestamp())})

    def query_range(self, query: str, start: datetime, end: datetime, step: float) -> Answer:
        """A range query, ``step`` in seconds."""
        given = {"query": query, "start": str(start.timestamp()), "end": str(end.timestamp()), "step": str(step)}
        return self._ask("query_range", given)

    def _ask(self, what: str, given: Mapping[str, str]) -> Answer:
        answer = self._session.post(f"{self.url}/api/v1/{what}", data=given, timeout=180)
        assert answer.status_code == 200, answer.text
        data = answer.json()["data"]
        return Answer(
            data["resultType"],
            tuple(
                Series(
                    one["metric"],
                    tuple((float(when), float(value)) for when, value in one.get("values") or [one["value"]]),
                )
                for one in data["result"]
            ),
        )


@contextmanager
def prometheus(programs: Path, folder: Path, rules: str = "") -> Iterator[Prometheus]:
    """Run one inside the block, with its data in ``folder``; ``rules`` are groups of rules, checked as it starts."""
    (port,) = free_ports(1)
    config = folder / "prometheus.yml"
    rule_file = folder / "rules.yml"
    rule_file.write_text(rules)
    config.write_text(f"rule_files: ['{rule_file}']\nstorage: {{tsdb: {{out_of_order_time_window: 2000d}}}}\n")
    command = [
        str(programs / "prometheus"),
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--storage.tsdb.retention.time=100y",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.enable-remote-write-receiver",
        "--log.level=warn",
    ]
    log = folder / "prometheus.log"
    with process_of(command, log) as process:
        server = Prometheus(f"http://127.0.0.1:{port}")
        eventually(lambda: _ready(server.url, process, log), "Prometheus ready")
        yield server


def _ready(url: str, process: subprocess.Popen[bytes], log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    try:
        return requests.get(f"{url}/-/ready", timeout=5, proxies={"http": ""}).status_code == 200
    except requests.RequestException:
        return False


def _series(labels: Mapping[str, str], samples: Samples) -> bytes:
    """A TimeSeries message: labels in order, then samples."""
    pairs = (_field(1, name.encode()) + _field(2, value.encode()) for name, value in sorted(labels.items()) if value)
    return b"".join(_field(1, pair) for pair in pairs) + b"".join(_field(2, _sample(*one)) for one in samples)


def _sample(at: float, value: float) -> bytes:
    return b"\x09" + struct.pack("<d", value) + b"\x10" + _varint(round(at * 1000))


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


def _snappy(content: bytes) -> bytes:
    """Snappy's format with literals only: nothing is made smaller."""
    found = bytearray(_varint(len(content)))
    for start in range(0, len(content), 65536):
        part = content[start : start + 65536]
        found += b"\xf4" + struct.pack("<H", len(part) - 1) + part
    return bytes(found)
