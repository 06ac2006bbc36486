"""What the observer reads of its namespace, on a real API server: lists, watches, one ConfigMap; outages and 410."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
import pytest_asyncio

from modelrollout.adapters.apiserver import ApiServer as Server
from modelrollout.adapters.login import Login
from modelrollout.adapters.observed import ObservedNamespace
from modelrollout.observer.following import Follower
from modelrollout.observer.registry import Registry
from modelrollout.ports import TransientError
from tests.component.apiserver import ApiServer, Manifest

KIND = "modeldeployments"


def manifest(name: str, namespace: str, percent: float = 10.0) -> Manifest:
    return {
        "apiVersion": "modelrollout.io/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "model": {"version": "1.0.0", "source": {"uri": "pvc://models/digits"}},
            "traffic": {"gateway": {"name": "inference"}, "http": {"hostnames": [f"{name}.example.com"]}},
            "rollout": {"unguarded": True},
            "observation": {"percent": percent, "comparison": {"maxPerSecond": percent}},
        },
    }


def apply(api: ApiServer, body: Manifest) -> None:
    path = (
        f"/apis/modelrollout.io/v1alpha1/namespaces/{body['metadata']['namespace']}/{KIND}/{body['metadata']['name']}"
    )
    answer = api.request("PATCH", path, body, "application/apply-patch+yaml", fieldManager="test", force="true")
    assert answer.code in (200, 201), answer.message


def delete(api: ApiServer, namespace: str, name: str) -> None:
    answer = api.request("DELETE", f"/apis/modelrollout.io/v1alpha1/namespaces/{namespace}/{KIND}/{name}")
    assert answer.code == 200, answer.message


@pytest_asyncio.fixture
async def server(api: ApiServer) -> AsyncIterator[Server]:
    made = Server(Login(api.kubeconfig), timeout=30.0)
    yield made
    await made.close()


async def test_changes_arrive_as_they_happen(api: ApiServer, namespace: str, server: Server) -> None:
    source, registry = ObservedNamespace(server, namespace), Registry(lambda: 0.0, lambda: 0.0)
    apply(api, manifest("one", namespace))
    follower = Follower(source, registry, asyncio.sleep)
    task = asyncio.create_task(follower.run())

    def rates() -> dict[str, float]:
        wishes = {name: target.wish.comparing for name, target in registry.targets.items()}
        return {name: comparing.per_second for name, comparing in wishes.items() if comparing is not None}

    async def until(expected: dict[str, float]) -> None:
        async with asyncio.timeout(60):
            while rates() != expected:  # noqa: ASYNC110 - the registry has no event
                await asyncio.sleep(0.01)

    await until({"one": 10.0})
    apply(api, manifest("two", namespace))
    await until({"one": 10.0, "two": 10.0})
    apply(api, manifest("two", namespace, 99.0))
    await until({"one": 10.0, "two": 99.0})
    delete(api, namespace, "one")
    await until({"two": 99.0})
    task.cancel()


async def test_a_watch_that_the_server_has_forgotten_ends(namespace: str, server: Server) -> None:
    source = ObservedNamespace(server, namespace)
    async with aclosing(source.watch_deployments("1")) as events:
        async with asyncio.timeout(60):
            assert [event async for event in events] == []


async def test_a_config_map_and_one_that_is_not_there(api: ApiServer, namespace: str, server: Server) -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "p"}, "data": {"profile.json": "{}"}}
    assert api.request("POST", f"/api/v1/namespaces/{namespace}/configmaps", body).code == 201
    source = ObservedNamespace(server, namespace)
    found = await source.config_map("p")
    assert found is not None
    assert found["data"] == {"profile.json": "{}"}
    assert await source.config_map("gone") is None


async def test_an_api_server_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "config").write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n"
        "clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]\n"
        "users: [{name: c, user: {token: x}}]\ncontexts: [{name: c, context: {cluster: c, user: c}}]\n"
    )
    server = Server(Login(tmp_path / "config"), timeout=2.0)
    source = ObservedNamespace(server, "default")
    with pytest.raises(TransientError):
        await source.list_deployments()
    with pytest.raises(TransientError):
        async for _ in source.watch_deployments("1"):
            pass
    with pytest.raises(TransientError):
        await source.config_map("p")
    await server.close()
