"""The golden set gate: the set is read from a ConfigMap or the model's own config, and replayed on one pod."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from modelrollout.api.gates import GoldenSet, OutputTolerance
from modelrollout.controller.cache import Cache, Key
from modelrollout.controller.candidate import Candidate, pods_of
from modelrollout.evidence.answers import compare
from modelrollout.evidence.golden import GoldenError, GoldenRequest, misfit, read_golden
from modelrollout.ports import (
    Cluster,
    DeniedError,
    ModelError,
    ModelServer,
    ObjectReference,
    PodTarget,
    PortError,
    Signature,
    Tensor,
)
from modelrollout.rollout.observed import Check, GateName, GateState

Found = TypeVar("Found")

LARGE = 64 * 1024
"""Characters from which on a set is read, and answers are compared, beside the event loop."""
NAMED = 3
"""How many wrong answers are told one by one."""


class _MissingError(PortError):
    """There is no such ConfigMap, or no such key in it, or it may not be read: somebody has to mend that."""


class GoldenGate:
    """Replays golden sets."""

    def __init__(self, cache: Cache, servers: ModelServer, cluster: Cluster) -> None:
        self._cache = cache
        self._servers = servers
        self._cluster = cluster

    async def check(self, key: Key, candidate: Candidate, sent: list[tuple[Tensor, ...]]) -> Check:
        """Replay the set on one ready pod (all are made of the same); the caller bounds the time.

        What is answered otherwise is final. A pod that does not answer is tried again, and so is a ConfigMap that is
        not there, cannot be read or does not fit the model: that is not the candidate's fault, and it is read anew at
        each try. The model's own config.pbtxt stays as it is; and where stable was stopped to make room, users wait for
        the set that is to be mended. What the model answered goes to ``sent``, for the load gate.
        """
        wanted, targets = candidate.gates.golden_set, pods_of(key, candidate.model, self._cache)
        if wanted is None:
            return _check(GateState.SKIPPED, "there is no golden set")
        if not targets:
            return _check(GateState.FAILED, "no ready pod to ask")
        try:
            signature = await self._servers.signature(targets[0])
            requests = await self._requests(key, wanted, signature)
            problem = misfit(requests, signature, wanted.tolerances)
            if problem:
                raise GoldenError(problem)
            return await self._replayed(targets[0], requests, wanted, sent)
        except GoldenError as error:
            return _unusable(wanted, error, alone=candidate.alone)
        except _MissingError as error:
            return _waiting(str(error), alone=candidate.alone)
        except PortError as error:
            return _check(GateState.FAILED, str(error))

    async def _requests(self, key: Key, wanted: GoldenSet, signature: Signature) -> tuple[GoldenRequest, ...]:
        text = await self._text(key, wanted, signature)
        return await _beside(len(text), lambda: read_golden(text))

    async def _text(self, key: Key, wanted: GoldenSet, signature: Signature) -> str:
        if wanted.config_map is None:
            found = signature.parameters.get(wanted.parameter or "")
            if not found:
                raise GoldenError("there is no such parameter with a string_value")
            return found
        name, entry = wanted.config_map.name, wanted.config_map.key
        try:
            config_map = await self._cluster.read(ObjectReference("ConfigMap", key.namespace, name))
        except DeniedError as error:
            raise _MissingError(f"the golden set cannot be fetched: {error}") from error
        if config_map is None:
            raise _MissingError(f"ConfigMap {name} of the golden set is not there: apply it, or correct configMap.name")
        text = (config_map.get("data") or {}).get(entry)
        if not isinstance(text, str):
            binary = " (it is binary data there)" if entry in (config_map.get("binaryData") or {}) else ""
            raise _MissingError(
                f"ConfigMap {name} has no key {entry} with text{binary}: add it, or correct configMap.key"
            )
        return text

    async def _replayed(
        self,
        target: PodTarget,
        requests: Sequence[GoldenRequest],
        wanted: GoldenSet,
        sent: list[tuple[Tensor, ...]],
    ) -> Check:
        tolerances = {each.output: each for each in wanted.tolerances}
        wrong: list[str] = []
        worst = 0.0
        sent.clear()
        for request in requests:
            names = [tensor.name for tensor in request.outputs if not _ignored(tolerances.get(tensor.name))]
            try:
                answered = await self._servers.infer(target, request.inputs, names)
            except ModelError as error:
                wrong.append(f"{request.name}: {error}")
                continue
            sent.append(request.inputs)
            size = sum(len(tensor.data) for tensor in answered)
            found = await _beside(size, lambda r=request, a=answered: compare(r.outputs, a, tolerances))  # type: ignore[misc]
            worst = max(worst, found.worst)
            if found.sentences:
                wrong.append(f"{request.name}, {'; '.join(found.sentences)}")
        told = _named(wrong)
        if len(wrong) > wanted.max_failures:
            allowed = f" (at most {wanted.max_failures} may be)" if wanted.max_failures else ""
            message = f"{len(wrong)} of {len(requests)} golden requests answered otherwise than expected{allowed}"
            return _refused(f"{message}: {told}")
        told = f"but for {len(wrong)}: {told}" if wrong else f"the greatest difference is {worst:.3g}"
        return _check(
            GateState.PASSED, f"{len(requests)} golden requests answered as expected, {told}, on pod {target.pod}"
        )


def _ignored(tolerance: OutputTolerance | None) -> bool:
    return tolerance is not None and tolerance.ignore


def _named(wrong: Sequence[str]) -> str:
    more = f"; and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
    return f"{'; '.join(wrong[:NAMED])}{more}"


def _unusable(wanted: GoldenSet, error: GoldenError, *, alone: bool) -> Check:
    if wanted.config_map is None:
        return _refused(
            f"the golden set in parameter {wanted.parameter} of the model's config.pbtxt cannot be used: {error}; "
            "it is part of the revision, so it takes another one to mend it"
        )
    where = f"ConfigMap {wanted.config_map.name}, key {wanted.config_map.key}"
    return _waiting(f"the golden set ({where}) cannot be used: {error}", alone=alone)


def _waiting(message: str, *, alone: bool) -> Check:
    """Until somebody mends the ConfigMap; but not at the cost of users whom nobody answers meanwhile."""
    if alone:
        return _refused(f"{message}; nobody answers meanwhile (strategy Recreate): mend it, then command retry")
    return _check(GateState.FAILED, f"{message}; it is read again at each try")


def _refused(message: str) -> Check:
    return Check(GateName.GOLDEN_SET, GateState.FAILED, message, final=True)


def _check(state: GateState, message: str) -> Check:
    return Check(GateName.GOLDEN_SET, state, message)


async def _beside(size: int, act: Callable[[], Found]) -> Found:
    """``act``, in a thread where it would keep all other ModelDeployments waiting."""
    return await asyncio.to_thread(act) if size > LARGE else act()
