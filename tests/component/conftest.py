"""One API server for the whole tier, with our CRDs; a namespace of its own for each test."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.component.apiserver import REPOSITORY, ApiServer, eventually, programs, running
from tests.component.prometheus import Prometheus, prometheus

_numbers = itertools.count(1)
CRD_PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.component)


@pytest.fixture(scope="session")
def bare_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with running(programs(), tmp_path_factory.mktemp("apiserver")) as api:
        yield api


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus of the module's own."""
    with prometheus(programs(), tmp_path_factory.mktemp("prometheus")) as found:
        yield found


def install(api: ApiServer, file: Path) -> None:
    """Create the definitions in ``file`` and wait until they are served."""
    for definition in yaml.safe_load_all(file.read_text()):
        if definition and definition["kind"] == "CustomResourceDefinition":
            answer = api.request("POST", CRD_PATH, definition)
            assert answer.code == 201, answer.message
            name = definition["metadata"]["name"]
            eventually(lambda name=name: _established(api, name), f"{name} established")


def _established(api: ApiServer, name: str) -> bool:
    conditions = api.request("GET", f"{CRD_PATH}/{name}").body.get("status", {}).get("conditions")
    return any(each["type"] == "Established" and each["status"] == "True" for each in conditions or ())


@pytest.fixture(scope="session")
def api(bare_api: ApiServer) -> ApiServer:
    for file in sorted((REPOSITORY / "crds").glob("*.yaml")):
        install(bare_api, file)
    return bare_api


@pytest.fixture(scope="session")
def gateway_api(api: ApiServer) -> ApiServer:
    """The same with Gateway API's definitions, from the module of the gateway that the local cluster runs."""
    tools = REPOSITORY / "deploy" / "local" / "tools"
    listed = subprocess.run(
        ["go", "list", "-m", "-json", "github.com/envoyproxy/gateway"],
        cwd=tools,
        check=True,
        capture_output=True,
    )
    charts = Path(json.loads(listed.stdout)["Dir"]) / "charts"
    (file,) = charts.glob("gateway-helm/charts/crds/crds/gatewayapi-crds.yaml")
    install(api, file)
    return api


@pytest.fixture
def namespace(api: ApiServer) -> str:
    name = f"test-{next(_numbers)}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    answer = api.request("POST", "/api/v1/namespaces", body)
    assert answer.code == 201, answer.message
    return name
