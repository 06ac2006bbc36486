"""The contract gate: the candidate's inputs and outputs against those of stable, as pods tell them or as was kept."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from pydantic import ValidationError

from modelrollout.api.contract import Contract
from modelrollout.api.gates import ContractMode
from modelrollout.controller.cache import Cache, Key
from modelrollout.controller.candidate import Candidate, Model, pods_of
from modelrollout.evidence.contract import as_signature, difference, in_words, major, to_keep
from modelrollout.ports import ModelServer, PortError, Signature
from modelrollout.rollout.observed import Check, GateName, GateState

DETOUR = 5.0
"""Seconds for what the gate can do without: asking pods of stable whose contract is kept, or asking for one to keep."""
PODS = 3
"""How many pods of a revision are asked, one after the other, until one tells."""


async def check_contract(key: Key, candidate: Candidate, cache: Cache, servers: ModelServer) -> Check:
    """Compare the candidate with stable; the caller bounds the time.

    What stable's pods cannot tell (gone to make room, all broken) is read from its ModelRevision. Stable with ready
    pods that do not answer, of which nothing was kept, is asked again until progressDeadline: what is not known must
    not break anybody. What the candidate tells goes along with the result, to be kept for the next one.
    """
    bound = min(DETOUR, candidate.gates.contract.timeout.total_seconds() / 2)
    stable = candidate.stable
    kept = None if stable is None else _kept(key, stable, cache)
    if stable is None or (kept is None and not pods_of(key, stable, cache)):
        return await _alone(key, candidate, cache, servers, bound)
    try:
        (before, origin), after = await asyncio.gather(
            _of_stable(key, stable, cache, servers, kept, bound), _signature(key, candidate.model, cache, servers)
        )
    except PortError as error:
        return _check(GateState.FAILED, str(error))
    return replace(_judged(candidate, stable, before, after, origin), contract=to_keep(after))


async def _alone(key: Key, candidate: Candidate, cache: Cache, servers: ModelServer, bound: float) -> Check:
    """Nobody can be compared with: the candidate's contract is kept for the next one."""
    if candidate.stable is None:
        why = "first deployment: there is no contract to keep"
    else:
        name = candidate.stable.revision
        why = f"{name} has no ready pod that could be asked for its contract, and its ModelRevision has none"
    try:
        async with asyncio.timeout(bound):
            after = await _signature(key, candidate.model, cache, servers)
    except (PortError, TimeoutError) as error:
        unknown = str(error) or f"not told within {bound:g} s"
        return _check(GateState.SKIPPED, f"{why}; that of the candidate is not known for the next one ({unknown})")
    return replace(_check(GateState.SKIPPED, why), contract=to_keep(after))


async def _of_stable(
    key: Key, stable: Model, cache: Cache, servers: ModelServer, kept: Contract | None, bound: float
) -> tuple[Signature, str]:
    """The signature of stable, and where it is from if not from its pods."""
    if kept is None:
        return await _signature(key, stable, cache, servers), ""
    try:
        async with asyncio.timeout(bound):
            return await _signature(key, stable, cache, servers), ""
    except (PortError, TimeoutError):
        return as_signature(kept), ", as its ModelRevision keeps them: no pod of it tells them now"


def _kept(key: Key, model: Model, cache: Cache) -> Contract | None:
    """The contract in the record of a revision. One that cannot be read whole is none."""
    raw = ((cache.get(key, "ModelRevision", model.revision) or {}).get("status") or {}).get("contract")
    try:
        return None if raw is None else Contract.model_validate(raw)
    except ValidationError:
        return None


def _judged(candidate: Candidate, stable: Model, before: Signature, after: Signature, origin: str) -> Check:
    found = difference(before, after)
    versions = f"{stable.version} -> {candidate.model.version}"
    also = f"; also {in_words(found.harmless)}" if found.harmless else ""
    if not found.breaking:
        kept = f"{len(after.inputs)} inputs and {len(after.outputs)} outputs fit those of {stable.revision}"
        return _check(GateState.PASSED, f"{kept}{origin}{also}")
    broken = in_words(found.breaking)
    if major(stable.version) != major(candidate.model.version):
        return _check(GateState.PASSED, f"new MAJOR version ({versions}); clients must change: {broken}{also}")
    against = f" against {stable.revision}{origin}" if origin else ""
    message = f"the contract is broken without a new MAJOR version ({versions}): {broken}{also}{against}"
    if candidate.gates.contract.mode is ContractMode.WARN:
        return _check(GateState.WARNED, message)
    return Check(GateName.CONTRACT, GateState.FAILED, message, final=True)


async def _signature(key: Key, model: Model, cache: Cache, servers: ModelServer) -> Signature:
    """What the first of the ready pods that answers tells."""
    targets = pods_of(key, model, cache)
    if not targets:
        raise PortError(f"{model.revision} has no ready pod to ask")
    told = ""
    for target in targets[:PODS]:
        try:
            return await servers.signature(target)
        except PortError as error:
            told = told or str(error)
    raise PortError(f"{model.revision} does not tell its inputs and outputs: {told}")


def _check(state: GateState, message: str) -> Check:
    return Check(GateName.CONTRACT, state, message)
