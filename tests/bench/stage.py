"""One namespace of the local cluster for one benchmark: its models, its identity, and what the watches show of it."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from deploy.demo.install import CHART
from deploy.demo.install import NAMESPACE as INSTALLED
from deploy.demo.kube import Kube, KubeError, WaitError, describe
from deploy.demo.manifests import namespace as restricted_namespace
from deploy.demo.place import LOCAL, Place, local_place

from tests.bench.audit import AuditLog
from tests.bench.manifests import ACCOUNT, MODELS, Object, account, model_volume, user_of
from tests.bench.operating import Operator, kubeconfig_with_token

Status = dict[str, Any]

_PROBE = "refused-by-the-policy"
_POLICIES = "apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
_BINDINGS = "apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"
_APPLY = "fieldManager=bench&force=true"


@dataclass(frozen=True)
class Weights:
    """The weighted rule as a watch saw it at ``at`` (unix seconds): parts per million by revision."""

    at: float
    parts: dict[str, int]


@dataclass
class Stage:
    """What a benchmark acts on and looks at."""

    place: Place
    kube: Kube
    namespace: str
    folder: Path
    kubeconfig: Path
    audit: AuditLog
    deployments: dict[str, Object] = field(default_factory=dict)
    weights: dict[str, list[Weights]] = field(default_factory=dict)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def user(self) -> str:
        """The operator's name in the audit log."""
        return user_of(self.namespace)

    def hostname(self, name: str) -> str:
        """The hostname of a ModelDeployment."""
        return f"{name}.{self.namespace}.example.com"

    def operator(self, prometheus: dict[str, str]) -> Operator:
        """The operator under test; ``prometheus`` are addresses by name."""
        settings = {
            "pools": {"cpu": {"image": self.place.image_triton}},
            "prometheus": {name: {"url": url} for name, url in prometheus.items()},
            "gateways": [
                {
                    "namespace": self.place.gateway_namespace,
                    "name": self.place.gateway_name,
                    "address": self.place.gateway_here,
                }
            ],
        }
        return Operator(self.folder, self.namespace, self.kubeconfig, settings)

    async def apply(self, body: Object) -> str:
        """Apply a ModelDeployment and wait until the operator saw it; returns the revision it asks for."""
        name = body["metadata"]["name"]
        generation = (await self.kube.apply(body, "bench"))["metadata"]["generation"]
        status = await self.until(
            name, lambda status: status.get("observedGeneration", 0) >= generation, "the operator saw the spec", 60
        )
        revision: str = status["revisions"]["desired"]
        return revision

    async def until(self, name: str, met: Callable[[Status], bool], expected: str, within: float) -> Status:
        """Wait until ``met`` holds for the status of a ModelDeployment, and return it; raises WaitError."""

        def status() -> Status:
            return (self.deployments.get(name) or {}).get("status") or {}

        try:
            async with asyncio.timeout(within), self.changed:
                await self.changed.wait_for(lambda: met(status()))
        except TimeoutError:
            seen = describe(self.deployments.get(name))
            raise WaitError(f"{name}: expected within {within:.0f} s: {expected}; is: {seen}") from None
        return status()

    async def command(self, name: str, text: str) -> Status:
        """Give a command by its annotation, and wait until it was handled; returns the status."""
        value = f"{text}/{uuid.uuid4().hex[:8]}@bench"
        body = {"metadata": {"annotations": {"modelrollout.io/command": value}}}
        await self.kube.patch("ModelDeployment", self.namespace, name, body)
        return await self.until(name, lambda status: status.get("handledCommand") == value, f"{text} handled", 30)

    async def until_idle(self, name: str, revision: str, within: float = 180) -> None:
        """Wait until ``revision`` serves and nothing is under way."""

        def met(status: Status) -> bool:
            return status.get("phase") == "Idle" and status["revisions"].get("stable") == revision

        await self.until(name, met, f"{revision} serves, phase Idle", within)

    async def until_rolled_back(self, name: str, revision: str, within: float = 120) -> None:
        """Wait until ``revision`` was taken back and the rollback is over."""

        def met(status: Status) -> bool:
            return status.get("phase") == "RolledBack" and outcome_of(status, revision) == "RolledBack"

        await self.until(name, met, f"{revision} RolledBack", within)

    async def until_weight(self, name: str, revision: str, parts: int, within: float = 120) -> float:
        """Wait until the route gives ``revision`` at least ``parts`` per million; returns when that was seen."""

        def met() -> bool:
            seen = self.weights.get(name)
            return bool(seen) and seen[-1].parts.get(revision, 0) >= parts

        try:
            async with asyncio.timeout(within), self.changed:
                await self.changed.wait_for(met)
        except TimeoutError:
            seen = describe(self.deployments.get(name))
            raise WaitError(f"{name}: expected {parts} ppm on {revision} within {within:.0f} s; is: {seen}") from None
        return self.weights[name][-1].at

    def see(self, kind: str, item: Object) -> None:
        """Take note of an object that a watch showed."""
        name = item["metadata"]["name"]
        if kind == "ModelDeployment":
            self.deployments[name] = item
            return
        parts: dict[str, int] = {}
        for backend in item["spec"]["rules"][0]["backendRefs"]:
            parts[backend["name"]] = parts.get(backend["name"], 0) + backend.get("weight", 1)
        history = self.weights.setdefault(name, [])
        if not history or history[-1].parts != parts:
            history.append(Weights(time.time(), parts))


@contextlib.asynccontextmanager
async def staged(benchmark: str) -> AsyncIterator[Stage]:
    """A stage in a namespace of its own, which is taken away afterwards with all that is in it."""
    place = local_place()
    folder = LOCAL / "bench" / "runs" / benchmark
    shutil.rmtree(folder, ignore_errors=True)
    models = folder / "models"
    shutil.copytree(MODELS, models)
    for path in (models, *models.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    name = f"bench-{benchmark}-{uuid.uuid4().hex[:6]}"
    assert place.audit_log is not None
    async with Kube.connect(place.kubeconfig) as kube:
        await _install_definitions(kube)
        try:
            await kube.apply(restricted_namespace(name), "bench")
            await _keep_others_out(kube, name)
            for body in [*account(name), *model_volume(name, models)]:
                await kube.apply(body, "bench")
            kubeconfig = kubeconfig_with_token(place.kubeconfig, await _token(kube, name), folder / "kubeconfig")
            stage = Stage(place, kube, name, folder, kubeconfig, AuditLog(place.audit_log))
            async with _following(stage):
                yield stage
        finally:
            await _clean_up(kube, name)


@contextlib.asynccontextmanager
async def _following(stage: Stage) -> AsyncIterator[None]:
    async def follow(kind: str) -> None:
        async for change, item in stage.kube.watch(kind, stage.namespace):
            if change != "DELETED":
                async with stage.changed:
                    stage.see(kind, item)
                    stage.changed.notify_all()

    tasks = [asyncio.create_task(follow(kind)) for kind in ("ModelDeployment", "HTTPRoute")]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _install_definitions(kube: Kube) -> None:
    for path in sorted((CHART / "crds").glob("*.yaml")):
        for body in yaml.safe_load_all(path.read_text()):
            await kube.apply(body)


async def _token(kube: Kube, namespace: str) -> str:
    path = f"api/v1/namespaces/{namespace}/serviceaccounts/{ACCOUNT}/token"
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 7200}}
    answer = await kube.request("POST", path, body)
    token: str = (await answer.json())["status"]["token"]
    return token


async def _keep_others_out(kube: Kube, namespace: str) -> None:
    """An operator that somebody starts meanwhile for all namespaces may write nothing here."""
    operations = ["CREATE", "UPDATE"]
    rule = {"apiGroups": ["*"], "apiVersions": ["*"], "operations": operations, "resources": ["*/*"]}
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": namespace},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "resourceRules": [rule],
            },
            "validations": [
                {
                    "expression": f"!request.userInfo.username.startsWith('system:serviceaccount:{INSTALLED}:')"
                    f" && !(has(request.name) && request.name == '{_PROBE}')",
                    "message": f"{namespace} has an operator of its own",
                }
            ],
        },
    }
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": namespace},
        "spec": {"policyName": namespace, "validationActions": ["Deny"]},
    }
    for path, body in ((_POLICIES, policy), (_BINDINGS, binding)):
        await kube.request("PATCH", f"{path}/{namespace}?{_APPLY}", body, "application/apply-patch+yaml")
    probe = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": _PROBE, "namespace": namespace}}
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            path = f"api/v1/namespaces/{namespace}/configmaps/{_PROBE}?dryRun=All&{_APPLY}"
            await kube.request("PATCH", path, probe, "application/apply-patch+yaml")
        except KubeError as error:
            if "has an operator of its own" in error.message:
                return
        await asyncio.sleep(0.2)
    raise WaitError("the policy that keeps other operators out did not come into force within 60 s")


async def _clean_up(kube: Kube, namespace: str) -> None:
    await kube.delete("Namespace", None, namespace)
    await kube.delete("PersistentVolume", None, f"{namespace}-models")
    with contextlib.suppress(WaitError):
        await kube.wait_gone("Namespace", None, namespace, within=90)
    for path in (_BINDINGS, _POLICIES):
        with contextlib.suppress(KubeError):
            await kube.request("DELETE", f"{path}/{namespace}")


def outcome_of(status: Status, revision: str) -> str | None:
    """How the newest finished attempt of ``revision`` ended; None while none has."""
    for entry in status.get("history", []):
        if entry.get("revision") == revision:
            outcome: str | None = entry.get("outcome")
            return outcome
    return None
