"""What a client of the stable revision would notice of the candidate: its inputs and outputs compared, in words.

A signature is also kept for later as a ``Contract``: whole or not at all, since half of one compared would be a lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from modelrollout.api.base import clean
from modelrollout.api.contract import (
    DATATYPE_LIMIT,
    DIMENSION_LIMIT,
    NAME_LIMIT,
    TENSOR_LIMIT,
    Contract,
    ContractTensor,
)
from modelrollout.ports import Signature, TensorSpec

LINES = 12
"""How many changes are told one by one."""


@dataclass(frozen=True)
class Difference:
    """Changes from stable to candidate, one clause each: those that break clients, and those that do not."""

    breaking: tuple[str, ...] = ()
    harmless: tuple[str, ...] = ()


def major(version: str) -> str:
    """The MAJOR number of a SemVer version."""
    return version.partition(".")[0]


def difference(stable: Signature, candidate: Signature) -> Difference:
    """Compare what clients rely on.

    Inputs may only accept more than before and outputs may only be more: gone or renamed tensors, other types, ranks
    and fixed dimensions, new required inputs and an input dimension or batch that is narrower break a client.
    """
    breaking: list[str] = []
    harmless: list[str] = []
    for kind, old, new in (("input", stable.inputs, candidate.inputs), ("output", stable.outputs, candidate.outputs)):
        bad, good = _tensors(kind, {each.name: each for each in old}, {each.name: each for each in new})
        breaking += bad
        harmless += good
    batch = _batch(stable, candidate)
    if batch:
        breaking.append(batch)
    for what, before, after in (
        ("decoupled answers", stable.decoupled, candidate.decoupled),
        ("sequences", stable.sequences, candidate.sequences),
    ):
        if before != after:
            breaking.append(f"{what}: {_yes(before)} -> {_yes(after)}")
    return Difference(tuple(breaking), tuple(harmless))


def to_keep(signature: Signature) -> Contract | None:
    """What a status keeps of ``signature``; None where it is more than may be kept."""
    if not all(map(_keepable, (signature.inputs, signature.outputs))):
        return None
    return Contract(
        inputs=tuple(map(_kept, signature.inputs)),
        outputs=tuple(map(_kept, signature.outputs)),
        max_batch_size=max(signature.max_batch_size, 0),
        decoupled=signature.decoupled,
        sequences=signature.sequences,
    )


def as_signature(contract: Contract) -> Signature:
    """What was kept, to be compared like what a pod tells."""

    def specs(tensors: Sequence[ContractTensor]) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(each.name, each.datatype, each.shape, each.optional) for each in tensors)

    return Signature(
        version="",
        inputs=specs(contract.inputs),
        outputs=specs(contract.outputs),
        max_batch_size=contract.max_batch_size,
        decoupled=contract.decoupled,
        sequences=contract.sequences,
    )


def _keepable(tensors: Sequence[TensorSpec]) -> bool:
    def fits(tensor: TensorSpec) -> bool:
        words = ((tensor.name, NAME_LIMIT), (tensor.datatype, DATATYPE_LIMIT))
        return all(word == clean(word, limit) for word, limit in words) and len(tensor.shape) <= DIMENSION_LIMIT

    return len(tensors) <= TENSOR_LIMIT and all(map(fits, tensors))


def _kept(tensor: TensorSpec) -> ContractTensor:
    return ContractTensor(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape, optional=tensor.optional)


def in_words(changes: Sequence[str]) -> str:
    """The first changes in one line, with how many more there are."""
    more = len(changes) - LINES
    return "; ".join((*changes[:LINES], *((f"and {more} more",) if more > 0 else ())))


def typed(tensor: TensorSpec) -> str:
    """Type and shape as people write it: ``FP32[?, 10]``, where ``?`` is open."""
    return f"{tensor.datatype}[{', '.join('?' if size < 0 else str(size) for size in tensor.shape)}]"


def _tensors(kind: str, old: dict[str, TensorSpec], new: dict[str, TensorSpec]) -> tuple[list[str], list[str]]:
    breaking: list[str] = []
    harmless: list[str] = []
    added = {name: tensor for name, tensor in new.items() if name not in old}
    for name, before in old.items():
        after = new.get(name)
        if after is not None:
            words, breaks = _one(kind, before, after)
            if words:
                (breaking if breaks else harmless).append(f"{kind} {name}: {words}")
            continue
        renamed = next((each for each in added.values() if typed(each) == typed(before)), None)
        if renamed is None:
            breaking.append(f"{kind} {name}: gone, it was {typed(before)}")
        else:
            del added[renamed.name]
            breaking.append(f"{kind} {name}: renamed to {renamed.name}")
    for name, tensor in added.items():
        if kind == "input" and not tensor.optional:
            breaking.append(f"input {name}: new and required, {typed(tensor)}")
        else:
            harmless.append(f"{kind} {name}: new{' and optional' if tensor.optional else ''}, {typed(tensor)}")
    return breaking, harmless


def _one(kind: str, before: TensorSpec, after: TensorSpec) -> tuple[str, bool]:
    """What changed of one tensor, and whether it breaks clients; empty where nothing did."""
    breaks = before.datatype != after.datatype or len(before.shape) != len(after.shape)
    if not breaks:
        breaks = any(_narrower(kind, *pair) for pair in zip(before.shape, after.shape, strict=True))
    words = [] if typed(before) == typed(after) else [f"{typed(before)} -> {typed(after)}"]
    if kind == "input" and before.optional != after.optional:
        words.append("optional -> required" if before.optional else "required -> optional")
        breaks = breaks or before.optional
    return ", ".join(words), breaks


def _narrower(kind: str, before: int, after: int) -> bool:
    if before < 0:
        # Who sends any size is refused by a fixed one; who takes answers of any size takes those of one.
        return kind == "input" and after >= 0
    return after >= 0 and after != before


def _batch(stable: Signature, candidate: Signature) -> str:
    """How the batch became smaller; empty where it did not, or where the shapes tell of it already."""
    before, after = _most(stable), candidate.max_batch_size or None
    if after is None or (before is not None and before <= after):
        return ""
    return f"batch: at most {'any number' if before is None else before} -> at most {after} a request"


def _most(signature: Signature) -> int | None:
    """The largest batch that clients can have sent; None for no bound.

    Where the server batches nothing, that is the first dimension of the inputs where those are fixed.
    """
    if signature.max_batch_size:
        return signature.max_batch_size
    first = [tensor.shape[0] for tensor in signature.inputs if tensor.shape]
    return max(first) if first and min(first) >= 0 else None


def _yes(state: bool) -> str:
    return "yes" if state else "no"
