"""Triton: warms after a while, or says why not; its contract, answers and speed are what the run says they are."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from modelrollout.ports import (
    Burst,
    BurstReport,
    ModelError,
    PodTarget,
    Signature,
    Tensor,
    TensorSpec,
    TransientError,
    WarmReport,
)
from modelrollout.render.names import LABEL_REVISION
from tests.simulation.kubelet import Behaviours, Kubelet, is_ready, now

SIGNATURE = Signature("1", (TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("score", "FP32", (-1, 1)),), 8)


@dataclass
class TritonModel:
    """``ports.ModelServer``. ``passed_at`` is when a revision was last warm, by its name.

    By revision too: ``signatures`` of those that are not the usual one, ``scores`` that they answer with (0.5), the
    ``bursts`` that they report, those that are ``silent`` (warm, and then nothing), and after how many seconds the pods
    come back of those to which every request is ``deadly``.
    """

    kubelet: Kubelet
    behaviours: Behaviours
    passed_at: dict[str, float] = field(default_factory=dict)
    signatures: dict[str, Signature] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    bursts: dict[str, BurstReport] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    deadly: dict[str, float] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)

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

    async def signature(self, target: PodTarget) -> Signature:
        revision = await self._answering("signature", target)
        return self.signatures.get(revision, SIGNATURE)

    async def infer(self, target: PodTarget, inputs: Sequence[Tensor], outputs: Sequence[str]) -> tuple[Tensor, ...]:
        revision = await self._answering("infer", target)
        if revision in self.deadly:
            self.kubelet.crash(revision, self.deadly[revision])
            raise TransientError(f"pod {target.pod} hung up")
        if not self.behaviours[revision].warm:
            raise ModelError("INTERNAL", "the model answers with an error")
        score = self.scores.get(revision, 0.5)
        return tuple(Tensor(name, "FP32", (1, 1), (score,)) for name in outputs)

    async def burst(self, targets: Sequence[PodTarget], burst: Burst) -> BurstReport:
        try:
            revision = await self._answering("burst", targets[0])
        except TransientError as error:
            # Inputs are made up from what a pod says of its model.
            return BurstReport(1, 1, problem=str(error)) if burst.requests else BurstReport(again=str(error))
        await asyncio.sleep(burst.seconds)
        sent = max(1, round(burst.rate * burst.seconds))
        return self.bursts.get(revision, BurstReport(sent, 0, 0.003, 0.004, 0.005))

    async def _answering(self, what: str, target: PodTarget) -> str:
        await asyncio.sleep(0.002)
        pod = self.kubelet.store.get("Pod", target.pod)
        revision = "" if pod is None else pod["metadata"]["labels"][LABEL_REVISION]
        if pod is None or not is_ready(pod) or revision in self.silent:
            raise TransientError(f"pod {target.pod} does not answer")
        self.asked.append((what, revision))
        return str(revision)
