"""The contract gate: the candidate's inputs and outputs against those of stable, as their pods tell them."""

from __future__ import annotations

import asyncio

from modelrollout.api.gates import ContractMode
from modelrollout.controller.cache import Cache, Key
from modelrollout.controller.candidate import Candidate, Model, pods_of
from modelrollout.evidence.contract import difference, in_words, major
from modelrollout.ports import ModelServer, PortError, Signature
from modelrollout.rollout.observed import Check, GateName, GateState


async def check_contract(key: Key, candidate: Candidate, cache: Cache, servers: ModelServer) -> Check:
    """Compare, where stable can be asked; the caller bounds the time.

    Where nothing serves there is no client to break. A stable revision that has ready pods and does not answer is
    asked again until progressDeadline: what is not known must not break anybody.
    """
    stable = candidate.stable
    if stable is None:
        return _check(GateState.SKIPPED, "first deployment: there is no contract to keep")
    if not pods_of(key, stable, cache):
        return _check(GateState.SKIPPED, f"{stable.revision} has no ready pod that could be asked for its contract")
    try:
        before, after = await asyncio.gather(
            _signature(key, stable, cache, servers), _signature(key, candidate.model, cache, servers)
        )
    except PortError as error:
        return _check(GateState.FAILED, str(error))
    return _judged(candidate, stable, before, after)


def _judged(candidate: Candidate, stable: Model, before: Signature, after: Signature) -> Check:
    found = difference(before, after)
    versions = f"{stable.version} -> {candidate.model.version}"
    also = f"; also {in_words(found.harmless)}" if found.harmless else ""
    if not found.breaking:
        kept = f"{len(after.inputs)} inputs and {len(after.outputs)} outputs fit those of {stable.revision}"
        return _check(GateState.PASSED, f"{kept}{also}")
    broken = in_words(found.breaking)
    if major(stable.version) != major(candidate.model.version):
        return _check(GateState.PASSED, f"new MAJOR version ({versions}); clients must change: {broken}{also}")
    message = f"the contract is broken without a new MAJOR version ({versions}): {broken}{also}"
    if candidate.gates.contract.mode is ContractMode.WARN:
        return _check(GateState.WARNED, message)
    return Check(GateName.CONTRACT, GateState.FAILED, message, final=True)


async def _signature(key: Key, model: Model, cache: Cache, servers: ModelServer) -> Signature:
    targets = pods_of(key, model, cache)
    if not targets:
        raise PortError(f"{model.revision} has no ready pod to ask")
    try:
        return await servers.signature(targets[0])
    except PortError as error:
        raise PortError(f"{model.revision} does not tell its inputs and outputs: {error}") from error


def _check(state: GateState, message: str) -> Check:
    return Check(GateName.CONTRACT, state, message)
