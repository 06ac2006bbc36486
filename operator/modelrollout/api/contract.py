"""The contract of a model as a status keeps it: what its clients rely on, whole or not at all."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from modelrollout.api.base import First, Line, StatusModel

TENSOR_LIMIT = 128
DIMENSION_LIMIT = 16
NAME_LIMIT = 128
DATATYPE_LIMIT = 32


class ContractTensor(StatusModel):
    """One input or output."""

    name: Annotated[str, Line(NAME_LIMIT)]
    """Its name."""
    datatype: Annotated[str, Line(DATATYPE_LIMIT)]
    """Its type, like FP32."""
    shape: Annotated[tuple[int, ...], First(DIMENSION_LIMIT)] = ()
    """Its dimensions, the batch first; -1 is open."""
    optional: bool = False
    """Whether a request may leave it out."""


class Contract(StatusModel):
    """Names, types and shapes of all inputs and outputs."""

    inputs: Annotated[tuple[ContractTensor, ...], First(TENSOR_LIMIT)] = ()
    """What a request has."""
    outputs: Annotated[tuple[ContractTensor, ...], First(TENSOR_LIMIT)] = ()
    """What an answer has."""
    max_batch_size: Annotated[int, Field(ge=0)] = 0
    """The largest batch of a request; 0: the server batches nothing."""
    decoupled: bool = False
    """Whether a request may have any number of answers."""
    sequences: bool = False
    """Whether requests belong together."""
