"""Triton: warms after a while, or says why not."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from modelrollout.ports import WarmReport, PodTarget
from modelrollout.render.names import LABEL_REVISION
from tests.simulation.kubelet import Behaviours, Kubelet, is_ready, now


@dataclass
class TritonModel:
    """``ports.ModelServer``. ``passed_at`` is when a revision last passed, by its name."""

    kubelet: Kubelet
    behaviours: Behaviours
    passed_at: dict[str, float] = field(default_factory=dict)

    async def warm(self, target: PodTarget) -> WarmReport:
        await asyncio.sleep(0.4)
        pod = self.kubelet.store.get("Pod", target.pod)
        if pod is None or not is_ready(pod):
            return WarmReport(target.pod, False, "nobody answers")
        revision = pod["metadata"]["labels"][LABEL_REVISION]
        record = self.kubelet.store.get("ModelRevision", revision)
        served = record["spec"]["model"]["name"] if record else None
        if served != target.model:
            return WarmReport(target.pod, False, f"the model {target.model} is not known here, only {served}")
        if not self.behaviours[revision].warm:
            return WarmReport(target.pod, False, "the model answers with an error")
        self.passed_at[revision] = now()
        return WarmReport(target.pod, True, "settled at 3 ms")
