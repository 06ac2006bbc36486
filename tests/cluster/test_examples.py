"""Every file of deploy/examples is taken by the API server; those of the strategies serve on the local cluster."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from pathlib import Path

import yaml
from deploy.demo.kube import Object
from deploy.demo.place import REPO, Place
from deploy.demo.store import open_store, upload
from deploy.demo.training import V2, Digits, train, write_repository

from tests.cluster.conftest import Staging
from tests.cluster.stage import Stage

EXAMPLES = sorted((REPO / "deploy" / "examples").glob("*.yaml"))
MODEL = "digits/1.1.0"
"""Where the examples that the local cluster can run look for their model."""

STARTED = ("Progressing", "AwaitingApproval", "Promoting", "Baking")
"""Phases that a new revision reaches only once its pods serve."""

AT_ONCE = 3
"""How many of them fit into the node side by side."""


def runnable() -> Iterator[Object]:
    """The ModelDeployments that need no more than the local cluster has."""
    for path in EXAMPLES:
        for body in yaml.safe_load_all(path.read_text()):
            source = body["spec"]["model"]["source"] if body["kind"] == "ModelDeployment" else {}
            if str(source.get("uri", "")).endswith(MODEL) and source.get("endpoint"):
                yield body


async def run(*command: str) -> str:
    """Run a command; its output is in the failure."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said = (await process.communicate())[0].decode()
    assert process.returncode == 0, f"{' '.join(command)}:\n{said}"
    return said


async def until(stage: Stage, name: str, *phases: str, within: float = 400) -> Object:
    """Wait for one of ``phases``; returns the status."""
    end = time.monotonic() + within
    while True:
        found = await stage.kube.get("ModelDeployment", stage.name, name)
        status: Object = (found or {}).get("status") or {}
        if status.get("phase") in phases:
            return status
        assert time.monotonic() < end, f"{name}: expected {phases}, is {status.get('phase')}: {status.get('message')}"
        await asyncio.sleep(0.5)


async def test_every_example_is_taken_as_it_is(staging: Staging, place: Place) -> None:
    async with staging(with_operator=False) as stage:
        kubectl = str(Path(place.helm).with_name("kubectl"))
        files = [argument for path in EXAMPLES for argument in ("-f", str(path))]
        options = ["--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-n", stage.name]
        said = await run(kubectl, "--kubeconfig", str(place.kubeconfig), "apply", *options, *files)
        documents = [body["kind"].lower() for path in EXAMPLES for body in yaml.safe_load_all(path.read_text())]
        for kind in ("modeldeployment", "rolloutpolicy", "clusterrolloutpolicy"):
            assert len(re.findall(f"^{kind}.modelrollout.io/", said, re.MULTILINE)) == documents.count(kind) > 0


async def test_the_examples_of_the_strategies_serve_and_try_the_next_version(
    staging: Staging, place: Place, digits: Digits, tmp_path: Path
) -> None:
    store = open_store(place.s3_here, place.s3_bucket, place.s3_access_key, place.s3_secret_key)
    upload(store, write_repository(train(V2, digits), tmp_path / "model"), MODEL)
    async with staging() as stage:
        bodies = list(runnable())
        strategies = {body["spec"]["rollout"]["strategy"] for body in bodies}
        assert strategies == {"Canary", "BlueGreen", "Shadow", "ABTest", "Recreate"}

        room = asyncio.Semaphore(AT_ONCE)

        async def bring(body: Object) -> str:
            async with room:
                name = await tried(body)
                await stage.kube.delete("ModelDeployment", stage.name, name)
                return name

        async def tried(body: Object) -> str:
            name = body["metadata"]["name"]
            await stage.kube.apply({**body, "metadata": {"name": name, "namespace": stage.name}})
            first = await until(stage, name, "Idle")
            body["spec"]["model"]["version"] = "1.1.1"
            await stage.kube.apply({**body, "metadata": {"name": name, "namespace": stage.name}})
            status = await until(stage, name, *STARTED)
            assert status["rollout"]["strategy"] == body["spec"]["rollout"]["strategy"]
            assert status["rollout"]["revision"] != first["revisions"]["stable"]
            return str(name)

        brought = await asyncio.gather(*(bring(body) for body in bodies))
        assert len(brought) == len(bodies)
