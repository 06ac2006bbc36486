"""Does a profile fit what the model takes and gives? Names, kinds and places, before anything is counted."""

from __future__ import annotations

from dataclasses import dataclass

from modelrollout.profile.bins import code
from modelrollout.profile.model import (
    Categorical,
    CategoricalFeature,
    LabelOutput,
    NumericFeature,
    NumericOutput,
    Profile,
)

WORDS = "BYTES"


@dataclass(frozen=True)
class Tensor:
    """One input or output as the model declares it; -1 is an open dimension. ``batched``: the first is the batch."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    batched: bool = True


@dataclass(frozen=True)
class Contract:
    """All inputs and outputs of a model, by name."""

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


def misfits(profile: Profile, contract: Contract) -> dict[str, str]:
    """What does not fit: a sentence for each feature (``feature <name>``) and output (``output <name>``)."""
    found: dict[str, str] = {}
    for feature in profile.features:
        if why := _misfit(feature, feature.input, contract.inputs, "input"):
            found[f"feature {feature.name}"] = why
    for output in profile.outputs:
        if why := _misfit(output, output.output, contract.outputs, "output"):
            found[f"output {output.name}"] = why
    return found


def _misfit(
    part: NumericFeature | CategoricalFeature | NumericOutput | LabelOutput,
    name: str,
    known: dict[str, Tensor],
    what: str,
) -> str | None:
    tensor = known.get(name)
    if tensor is None:
        return f"the model has no {what} {name!r}: it has {', '.join(sorted(known)) or 'none'}"
    if isinstance(part, LabelOutput):
        return None
    if isinstance(part, NumericFeature | NumericOutput) and tensor.datatype == WORDS:
        return f"is numeric, and {what} {name!r} has words ({WORDS})"
    if (
        isinstance(part, Categorical)
        and tensor.datatype != WORDS
        and all(code(name) is None for name in part.categories)
    ):
        return f"has words as categories, and {what} {name!r} has numbers ({tensor.datatype})"
    row = tensor.shape[1:] if tensor.batched else tensor.shape
    if not tensor.batched and len(part.index) == len(tensor.shape) - 1:
        row = tensor.shape[1:]
    if part.index == (0,) and not row:
        return None
    if len(part.index) != len(row):
        return f"has an index of {len(part.index)} places, and a row of {what} {name!r} has {len(row)} dimensions"
    for place, size in zip(part.index, row, strict=True):
        if 0 <= size <= place:
            return f"index {list(part.index)} is out of range: a row of {what} {name!r} has the shape {list(row)}"
    return None
