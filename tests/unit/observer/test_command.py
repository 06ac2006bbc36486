"""`modelrollout observe` as a process: it runs without an API server, stops when asked, says what it cannot have."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from click.testing import CliRunner

from modelrollout import cli
from modelrollout.cli.observe import _until_stopped
from tests.ports import free_ports

NOWHERE = """
apiVersion: v1
kind: Config
current-context: c
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: c, user: {token: x}}]
contexts: [{name: c, context: {cluster: c, user: c}}]
"""
KINDS = ("http", "grpc", "labels", "metrics")


@contextlib.asynccontextmanager
async def observer(folder: Path, ports: list[int]) -> AsyncIterator[asyncio.subprocess.Process]:
    (folder / "config").write_text(NOWHERE)
    words = ["observe", "-n", "demo", "--kubeconfig", str(folder / "config"), "--bind", "127.0.0.1"]
    for kind, port in zip(KINDS, ports, strict=True):
        words += [f"--{kind}-port", str(port)]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "modelrollout",
        *words,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def answers(url: str, **request: Any) -> int:
    async with aiohttp.ClientSession() as session:
        async with asyncio.timeout(120):
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.request(request.pop("method", "GET"), url, **request) as response:
                        if response.status != 503:
                            return response.status
                await asyncio.sleep(0.05)


async def test_it_counts_without_an_api_server_and_stops_when_asked(tmp_path: Path) -> None:
    ports = free_ports(4)
    async with observer(tmp_path, ports) as process:
        assert await answers(f"http://127.0.0.1:{ports[3]}/readyz") == 200
        url = f"http://127.0.0.1:{ports[0]}/v2/models/digits/infer"
        async with aiohttp.ClientSession() as session, session.post(url, data=b"{}") as response:
            assert response.status == 202
        async with aiohttp.ClientSession() as session:
            async with asyncio.timeout(60):
                while True:
                    async with session.get(f"http://127.0.0.1:{ports[3]}/metrics") as response:
                        if 'protocol="http",outcome="malformed"' in (text := await response.text()):
                            break
        assert "process_resident_memory_bytes" in text
        process.send_signal(signal.SIGTERM)
        said, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, said.decode()
    assert b"observing namespace demo" in said
    assert b"going on with what is known" in said
    assert b"Traceback" not in said


async def test_a_port_that_is_taken_ends_it_with_the_reason(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = [taken.getsockname()[1], *free_ports(3)]
        async with observer(tmp_path, ports) as process:
            said, _ = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 1
    assert b"address already in use" in said
    assert b"Traceback" not in said


def test_outside_of_a_pod_it_wants_a_namespace() -> None:
    result = CliRunner().invoke(cli.main, ["observe"])
    assert result.exit_code == 2
    assert "this is no pod: give --namespace" in result.output


@pytest.mark.parametrize("option", ["--max-body=0", "--http-port=70000", "--log-level=loud"])
def test_bounds_of_the_options(option: str) -> None:
    assert CliRunner().invoke(cli.main, ["observe", "-n", "demo", option]).exit_code == 2


async def test_the_last_line_names_what_went_wrong(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        async def run(self) -> None:
            raise ExceptionGroup("unhandled errors", [ExceptionGroup("more", [OSError("no room")]), KeyError("k")])

    broken: Any = Broken()
    assert await _until_stopped(broken) == 1
    assert caplog.records[-1].message == "stopping: no room; KeyError: 'k'"
