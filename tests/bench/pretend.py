"""An API server of our own with nobody behind it; where a benchmark needs pods and a gateway, it plays their part.

Hundreds of ModelDeployments fit on any machine so, and nothing else runs whose load could be taken for the operator's.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import yaml
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.bench.manifests import ACCOUNT, MODEL, Object, account, model_deployment
from tests.bench.operating import kubeconfig_with_token
from tests.component.apiserver import MERGE, REPOSITORY, ApiServer, programs, running
from tests.component.conftest import install

NAMESPACE = "bench"
POD_ADDRESS = "127.83.0.1"
"""All pretended pods are here: a loopback address that nothing else uses, with a pretended Triton on port 8001."""

_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}
_MDEPS = f"/apis/modelrollout.io/v1alpha1/namespaces/{NAMESPACE}/modeldeployments"
_DEPLOYMENTS = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
_ROUTES = f"/apis/gateway.networking.k8s.io/v1/namespaces/{NAMESPACE}/httproutes"
_PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"


class Alone:
    """The API server with our definitions, a namespace, and the operator's identity in it."""

    def __init__(self, api: ApiServer, folder: Path) -> None:
        self.api = api
        self.folder = folder
        self.audit_log = folder / "audit.log"
        self._create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        service_account, binding = account(NAMESPACE)
        accounts = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts"
        self._create(accounts, service_account)
        self._create(f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}/rolebindings", binding)
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        token = self._create(f"{accounts}/{ACCOUNT}/token", request)["status"]["token"]
        # Right after a definition was made the server may still say "storage is (re)initializing".
        served = [_MDEPS, _ROUTES]
        _wait(lambda: all(api.request("GET", path).code == 200 for path in served), "our kinds are served", 60)
        self.kubeconfig = kubeconfig_with_token(api.kubeconfig, token, folder / "kubeconfig-operator")

    def create(self, first: int, last: int) -> None:
        """ModelDeployments by number, ``last`` not among them."""
        for number in range(first, last):
            name = f"model-{number:04}"
            body = model_deployment(NAMESPACE, name, "1.0.0", f"{name}.example.com", progressDeadline="1h")
            self._create(_MDEPS, body)

    def wait_until_deployed(self, count: int, within: float = 300) -> None:
        """Wait until the operator has made ``count`` Deployments and said so in as many statuses."""

        def done() -> bool:
            statuses = [each for each in self.items(_MDEPS) if (each.get("status") or {}).get("phase")]
            return len(self.items(_DEPLOYMENTS)) >= count and len(statuses) >= count

        _wait(done, f"{count} Deployments made", within)

    def wait_until_idle(self, count: int, within: float = 300) -> None:
        """Play kubelet and gateway until ``count`` ModelDeployments are Idle."""

        def done() -> bool:
            self._make_pods()
            self._accept_routes()
            idle = [each for each in self.items(_MDEPS) if (each.get("status") or {}).get("phase") == "Idle"]
            return len(idle) >= count

        _wait(done, f"{count} ModelDeployments Idle", within)

    def items(self, path: str) -> list[Object]:
        """All objects of a kind."""
        answer = self.api.request("GET", path)
        assert answer.code == 200, answer.message
        found: list[Object] = answer.body["items"]
        return found

    def _make_pods(self) -> None:
        there = {pod["metadata"]["name"] for pod in self.items(_PODS)}
        for deployment in self.items(_DEPLOYMENTS):
            name = f"{deployment['metadata']['name']}-0"
            if name in there or not deployment["spec"]["replicas"]:
                continue
            template = deployment["spec"]["template"]
            metadata = {**template["metadata"], "name": name, "namespace": NAMESPACE}
            body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
            self._create(_PODS, body)
            conditions = [
                {"type": kind, "status": "True", "lastTransitionTime": _now()}
                for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")
            ]
            address = {"podIP": POD_ADDRESS, "podIPs": [{"ip": POD_ADDRESS}]}
            self._merge(f"{_PODS}/{name}/status", {"status": {"phase": "Running", "conditions": conditions, **address}})

    def _accept_routes(self) -> None:
        for route in self.items(_ROUTES):
            generation = route["metadata"]["generation"]
            parents = (route.get("status") or {}).get("parents") or [{"conditions": [{"observedGeneration": 0}]}]
            if parents[0]["conditions"][0].get("observedGeneration") == generation:
                continue
            conditions = [
                {
                    "type": kind,
                    "status": "True",
                    "reason": kind,
                    "message": "",
                    "observedGeneration": generation,
                    "lastTransitionTime": _now(),
                }
                for kind in ("Accepted", "ResolvedRefs")
            ]
            parent = {
                "parentRef": route["spec"]["parentRefs"][0],
                "controllerName": "modelrollout.io/bench",
                "conditions": conditions,
            }
            self._merge(f"{_ROUTES}/{route['metadata']['name']}/status", {"status": {"parents": [parent]}})

    def _create(self, path: str, body: Object) -> Object:
        answer = self.api.request("POST", path, body)
        assert answer.code == 201, answer.message
        return answer.body

    def _merge(self, path: str, body: Object) -> None:
        answer = self.api.request("PATCH", path, body, MERGE)
        # Meanwhile the operator may have written the same object; the next look finds what is still to do.
        assert answer.code in (200, 404, 409), answer.message


@contextmanager
def alone() -> Iterator[Alone]:
    """Start it, and end it with the block."""
    with tempfile.TemporaryDirectory(prefix="modelrollout-bench-") as name:
        folder = Path(name)
        policy = folder / "audit-policy.yaml"
        policy.write_text(yaml.safe_dump(_AUDIT_POLICY))
        flags = [
            f"--audit-policy-file={policy}",
            f"--audit-log-path={folder / 'audit.log'}",
            # The fixture's own range ends at 254 Services.
            "--service-cluster-ip-range=10.97.0.0/16",
        ]
        with running(programs(), folder / "server", *flags) as api:
            for file in sorted((REPOSITORY / "crds").glob("*.yaml")):
                install(api, file)
            install(api, _gateway_definitions())
            yield Alone(api, folder)


@contextmanager
def pretended_triton() -> Iterator[None]:
    """A Triton that has the model of the benchmarks and answers with what it was asked."""
    server = grpc.server(ThreadPoolExecutor(4))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(_Triton(), server)
    server.add_insecure_port(f"{POD_ADDRESS}:8001")
    server.start()
    try:
        yield
    finally:
        server.stop(0).wait()


class _Triton(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    def ServerLive(self, *_: object) -> Any:  # noqa: N802 - the names are those of the protocol
        return service_pb2.ServerLiveResponse(live=True)

    def ModelReady(self, *_: object) -> Any:  # noqa: N802
        return service_pb2.ModelReadyResponse(ready=True)

    def ModelMetadata(self, *_: object) -> Any:  # noqa: N802
        tensor = service_pb2.ModelMetadataResponse.TensorMetadata
        return service_pb2.ModelMetadataResponse(
            name=MODEL,
            versions=["1"],
            inputs=[tensor(name="IN", datatype="FP32", shape=[-1])],
            outputs=[tensor(name="OUT", datatype="FP32", shape=[-1])],
        )

    def ModelConfig(self, *_: object) -> Any:  # noqa: N802
        return service_pb2.ModelConfigResponse()

    def ModelInfer(self, request: Any, _: object) -> Any:  # noqa: N802
        return service_pb2.ModelInferResponse(model_name=MODEL, model_version="1", id=request.id)


def _gateway_definitions() -> Path:
    """Gateway API's definitions, from the module of the gateway that the local cluster runs."""
    listed = subprocess.run(
        ["go", "list", "-m", "-json", "github.com/envoyproxy/gateway"],
        cwd=REPOSITORY / "deploy" / "local" / "tools",
        check=True,
        capture_output=True,
    )
    return Path(json.loads(listed.stdout)["Dir"]) / "charts/gateway-helm/charts/crds/crds/gatewayapi-crds.yaml"


def _wait(holds: Any, what: str, within: float) -> None:
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline, f"not within {within:.0f} s: {what}"
        time.sleep(0.5)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
