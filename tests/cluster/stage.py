"""One namespace with its models, its ModelDeployment, its traffic and what was seen of them."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from deploy.demo.chronicle import Chronicle, outcome_of
from deploy.demo.kube import Kube, Object
from deploy.demo.manifests import model_deployment, namespace, secret
from deploy.demo.place import Place
from deploy.demo.recording import Recording, failed_by_traffic
from deploy.demo.traffic import rest_traffic
from deploy.demo.training import MODEL_NAME, Digits

from tests.cluster.operating import OperatorProcess
from tests.cluster.timeline import Timeline

RATE = 50.0


def rollout(*weights: int, hold: str = "5s", bake: str = "5s", **changes: Any) -> dict[str, Any]:
    """A canary that fits in a test: short steps, looked at every second."""
    guards = [
        {"name": "errors", "sli": "error-ratio", "max": 0.02, "window": "10s", "minSamples": 10},
        {"name": "latency", "sli": "latency-p99", "max": 2, "window": "10s", "minSamples": 10},
    ]
    steps = [{"weight": weight, "hold": hold} for weight in weights or (25, 50)]
    return {
        "canary": {"steps": steps},
        "bake": bake,
        "evaluationInterval": "1s",
        "progressDeadline": "3m",
        "guards": guards,
        **changes,
    }


class Version(Protocol):
    """A recipe of any model family."""

    @property
    def version(self) -> str:
        """Version of the model; its repository lies under the prefix of this name."""


@dataclass
class Stage:
    """What a test acts on and looks at."""

    place: Place
    kube: Kube
    digits: Digits
    prefix: str
    name: str
    hostname: str
    chronicle: Chronicle
    operator: OperatorProcess | None
    model: str = MODEL_NAME
    recording: Recording = field(default_factory=Recording)
    timeline: Timeline | None = None

    def wish(self, recipe: Version, grpc: str | None = None, **changes: Any) -> Object:
        """The ModelDeployment with this version; ``spec`` goes over the rest of its spec."""
        prefix = changes.pop("prefix", f"{self.prefix}/{recipe.version}")
        plan = changes.pop("rollout", None) or rollout()
        gateway, spec, labels = changes.pop("gateway", None), changes.pop("spec", {}), changes.pop("labels", {})
        hostname, name = changes.pop("hostname", self.hostname), changes.pop("name", self.model)
        body = model_deployment(
            self.place,
            self.name,
            recipe.version,
            prefix,
            hostname,
            grpc,
            name,
            rollout=plan,
            model=self.model,
            **changes,
        )
        if gateway is not None:
            body["spec"]["traffic"]["gateway"] = gateway
        body["spec"] |= spec
        body["metadata"]["labels"] = labels
        return body

    async def apply(self, recipe: Version, grpc: str | None = None, **changes: Any) -> str:
        """Apply the ModelDeployment with this version; returns the name of the revision it asks for."""
        generation = (await self.kube.apply(self.wish(recipe, grpc, **changes)))["metadata"]["generation"]
        status = await self.chronicle.until(
            lambda status: status.get("observedGeneration", 0) >= generation, "the operator saw the spec", 90
        )
        revision: str = status["revisions"]["desired"]
        if self.timeline is not None:
            self.timeline.mark(f"{recipe.version} is applied")
        return revision

    async def command(self, *arguments: str) -> str:
        """A command of the kubectl plugin (``promote``, ``rollback``, ...); returns what it said. It must be obeyed."""
        if self.timeline is not None:
            self.timeline.mark(f"kubectl modelrollout {' '.join(arguments)}")
        plugin = Path(sys.executable).with_name("kubectl-modelrollout")
        where = ["-n", self.name, "--kubeconfig", str(self.place.kubeconfig)]
        process = await asyncio.create_subprocess_exec(
            str(plugin),
            arguments[0],
            self.model,
            *arguments[1:],
            *where,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said = (await process.communicate())[0].decode()
        assert process.returncode == 0, f"{arguments}: exit code {process.returncode}: {said}"
        return said

    async def until_phase(self, *phases: str, within: float = 180) -> dict[str, Any]:
        """Wait for one of ``phases``."""
        return await self.chronicle.until(
            lambda status: status.get("phase") in phases, f"phase {' or '.join(phases)}", within
        )

    async def until_serves(self, revision: str, within: float = 240) -> None:
        """Wait until ``revision`` serves and nothing is under way."""

        def settled(status: dict[str, Any]) -> bool:
            return status.get("phase") == "Idle" and status["revisions"].get("stable") == revision

        await self.chronicle.until(settled, f"{revision} serves, phase Idle", within)

    async def until_outcome(self, revision: str, outcome: str, within: float = 240) -> None:
        """Wait until the last attempt of ``revision`` ended with ``outcome``."""
        await self.chronicle.until(
            lambda status: outcome_of(status, revision) == outcome, f"{revision} {outcome}", within
        )

    async def until_weight(self, revision: str, percent: float, within: float = 180) -> float:
        """Wait until the route gives ``revision`` at least ``percent``; returns when that was seen."""
        return await self.chronicle.until_weights(
            lambda weights: weights.get(revision, 0.0) >= percent, f"{revision} has {percent:g} %", within
        )

    async def until_recorded(self, revision: str, met: Callable[[Object], object], expected: str) -> Object:
        """Wait until the status of a ModelRevision is as told: it is written beside that of the ModelDeployment."""
        found = await self.kube.wait(
            "ModelRevision", self.name, revision, lambda now: bool(met((now or {}).get("status") or {})), expected
        )
        assert found is not None
        status: Object = found["status"]
        return status

    @contextlib.asynccontextmanager
    async def traffic(self, rate: float = RATE) -> AsyncIterator[Recording]:
        """Held-out images by REST inside the block."""
        images, labels = self.digits.held_out_images, self.digits.held_out_labels
        async with rest_traffic(images, labels, self.place.gateway_here, self.hostname, rate).flowing() as recording:
            self.recording = recording
            yield recording

    @contextlib.asynccontextmanager
    async def drawn(self, name: str) -> AsyncIterator[Timeline]:
        """What happens inside the block is kept for a picture (see ``timeline``), together with the traffic in it."""
        timeline = self.timeline = Timeline(self.name, self.model)
        async with timeline.following(self.kube):
            yield timeline
            await asyncio.sleep(0.2)
        self.timeline = None
        timeline.write(name, self.recording)

    async def gone(self, *kinds: str, within: float = 120) -> None:
        """Wait until no object of these kinds is left in the namespace."""
        end = time.monotonic() + within
        while True:
            left = [
                f"{kind}/{one['metadata']['name']}" for kind in kinds for one in await self.kube.list(kind, self.name)
            ]
            if not left:
                return
            assert time.monotonic() < end, f"still there after {within:g} s: {left}"
            await asyncio.sleep(0.5)

    def errors(self) -> list[str]:
        """Lines of the operator's log that tell of errors of its own."""
        log = self.operator.log.read_text().splitlines() if self.operator is not None else []
        # kopf calls it an error that the API server asks it to come again, as for a CRD that was installed just now.
        log = [line for line in log if "; will retry: " not in line]
        return [line for line in log if " ERROR " in line or "Traceback" in line]

    def weights_of(self, revision: str) -> list[float]:
        """The percent that the route gave ``revision``, each time it changed; armed is 0, all but the armed 100."""
        seen = [float(round(weights.percent.get(revision, 0.0))) for weights in self.chronicle.weights]
        return [now for before, now in zip([None, *seen], seen, strict=False) if now != before]


def lost(recording: Recording, *faulty: str) -> list[Any]:
    """Requests that failed and were not failed by the code of a faulty model."""
    return list(failed_by_traffic(recording.answers, set(faulty)))


@contextlib.asynccontextmanager
async def staged(
    place: Place,
    digits: Digits,
    prefix: str,
    folder: Path,
    *,
    with_operator: bool = True,
    model: str = MODEL_NAME,
    **settings: Any,
) -> AsyncIterator[Stage]:
    """A stage in a fresh namespace, taken away afterwards; ``settings`` are those of its OperatorProcess."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    async with Kube.connect(place.kubeconfig) as kube:
        await kube.apply(namespace(name))
        await kube.apply(secret(name, place))
        operator = OperatorProcess(place, name, folder, **settings) if with_operator else None
        chronicle = Chronicle(name, model)
        stage = Stage(place, kube, digits, prefix, name, f"{name}.example.com", chronicle, operator, model)
        try:
            async with chronicle.following(kube):
                if operator is not None:
                    await operator.start()
                yield stage
                bad = stage.errors()
                assert not bad, f"a story that went well, but the operator's log: {bad[:5]}"
        except BaseException:
            if operator is not None:
                print(operator.log.read_text()[-6000:])
            raise
        finally:
            if operator is not None:
                operator.stop()
            await kube.delete("Namespace", None, name)
