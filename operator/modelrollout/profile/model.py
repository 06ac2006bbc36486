"""The profile file: shares of the reference data's values in bins, strictly checked and bounded.

It holds shares and edges only, never a value; ``parse`` tells everything that is wrong with one at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

MISSING, OTHER, TOP = "missing", "other", "+Inf"
"""Bins that every feature has: no value; a category that the profile does not name; above the last edge."""

FEATURE_LIMIT = 1024
OUTPUT_LIMIT = 256
EDGE_LIMIT = 63
CATEGORY_LIMIT = 32
CLASS_LIMIT = 64
BIN_LIMIT = 16_384
"""All bins of a profile together: each one is a series, twice."""
LARGEST_FILE = 4 * 1024 * 1024

_CLOSE = 1e-6

Name = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")]
Category = Annotated[str, StringConstraints(max_length=128)]
Share = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Edge = Annotated[float, Field(allow_inf_nan=False)]
Index = Annotated[tuple[Annotated[int, Field(ge=0, lt=1 << 24)], ...], Field(max_length=8)]


class ProfileError(ValueError):
    """The profile cannot be used; one line a problem."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Numeric(_Part):
    """Numbers in bins: ``shares[i]`` is the share with ``edges[i-1] < value <= edges[i]``, the last one is above."""

    kind: Literal["numeric"] = "numeric"
    edges: Annotated[tuple[Edge, ...], Field(min_length=1, max_length=EDGE_LIMIT)]
    shares: tuple[Share, ...]
    missing: Share = 0.0

    @model_validator(mode="after")
    def _fit(self) -> Self:
        if any(low >= high for low, high in zip(self.edges, self.edges[1:], strict=False)):
            raise ValueError("edges must ascend")
        if len(self.shares) != len(self.edges) + 1:
            raise ValueError(
                f"{len(self.edges)} edges make {len(self.edges) + 1} bins: {len(self.shares)} shares given"
            )
        _whole(self.shares, self.missing)
        return self

    @property
    def bins(self) -> tuple[str, ...]:
        """Names of the bins, ``missing`` last."""
        return (*(text(edge) for edge in self.edges), TOP, MISSING)

    @property
    def reference(self) -> tuple[float, ...]:
        """Share of each bin."""
        return (*self.shares, self.missing)


class Categorical(_Part):
    """Words, or numbers that stand for them: the share of each, of all others, and of none."""

    kind: Literal["categorical"]
    categories: Annotated[dict[Category, Share], Field(max_length=CATEGORY_LIMIT)]
    other: Share = 0.0
    missing: Share = 0.0

    @model_validator(mode="after")
    def _fit(self) -> Self:
        _named(self.categories)
        _whole(self.categories.values(), self.other, self.missing)
        return self

    @property
    def bins(self) -> tuple[str, ...]:
        """Names of the bins, ``missing`` last."""
        return (*self.categories, OTHER, MISSING)

    @property
    def reference(self) -> tuple[float, ...]:
        """Share of each bin."""
        return (*self.categories.values(), self.other, self.missing)


class Classes(_Part):
    """What the model says: the place of the greatest number of the last dimension, or the word or integer itself."""

    kind: Literal["label"]
    classes: Annotated[dict[Category, Share], Field(max_length=CLASS_LIMIT)]
    other: Share = 0.0
    missing: Share = 0.0

    @model_validator(mode="after")
    def _fit(self) -> Self:
        _named(self.classes)
        _whole(self.classes.values(), self.other, self.missing)
        return self

    @property
    def bins(self) -> tuple[str, ...]:
        """Names of the bins, ``missing`` last."""
        return (*self.classes, OTHER, MISSING)

    @property
    def reference(self) -> tuple[float, ...]:
        """Share of each bin."""
        return (*self.classes.values(), self.other, self.missing)


class _Input(_Part):
    name: Name
    input: Name
    index: Index = ()


class _Output(_Part):
    name: Name
    output: Name


class NumericFeature(Numeric, _Input):
    """One number of an input: ``index`` is its place in one row of the tensor (without the batch)."""


class CategoricalFeature(Categorical, _Input):
    """One category of an input."""


class NumericOutput(Numeric, _Output):
    """One number of an output."""

    index: Index = ()


class LabelOutput(Classes, _Output):
    """The label that an output stands for."""


Feature = Annotated[NumericFeature | CategoricalFeature, Field(discriminator="kind")]
Output = Annotated[NumericOutput | LabelOutput, Field(discriminator="kind")]
Binned = Numeric | Categorical | Classes


class Profile(_Part):
    """The reference of one model."""

    version: Literal[1]
    model: Name
    samples: Annotated[int, Field(ge=1)]
    features: Annotated[tuple[Feature, ...], Field(max_length=FEATURE_LIMIT)] = ()
    outputs: Annotated[tuple[Output, ...], Field(max_length=OUTPUT_LIMIT)] = ()

    @model_validator(mode="after")
    def _fit(self) -> Self:
        if not self.features and not self.outputs:
            raise ValueError("has neither features nor outputs")
        for what, parts in (("feature", self.features), ("output", self.outputs)):
            names = [part.name for part in parts]
            twice = (
                next((name for name in names if names.count(name) > 1), None) if len({*names}) < len(names) else None
            )
            if twice is not None:
                raise ValueError(f"{what} {twice!r} is there twice")
        depths: dict[str, int] = {}
        for feature in self.features:
            if depths.setdefault(feature.input, len(feature.index)) != len(feature.index):
                raise ValueError(f"features of input {feature.input!r} have indexes of different lengths")
        total = sum(len(part.bins) for part in (*self.features, *self.outputs))
        if total > BIN_LIMIT:
            raise ValueError(f"has {total} bins in all, more than {BIN_LIMIT}: make fewer bins a feature")
        return self


def parse(data: bytes | str) -> Profile:
    """Read a profile file. Raises ProfileError with one line a problem, at most 20."""
    if len(data) > LARGEST_FILE:
        raise ProfileError(f"the profile is larger than {LARGEST_FILE // 1024 // 1024} MiB")
    try:
        return Profile.model_validate_json(data)
    except ValidationError as error:
        raise refusal(error) from None


def refusal(error: ValidationError, where: str = "") -> ProfileError:
    """What pydantic found, one line a problem, at most 20."""
    problems = error.errors(include_url=False, include_input=False)
    return ProfileError("\n".join(f"{where}{_sentence(problem)}" for problem in problems[:20]))


def dump(profile: Profile) -> str:
    """The file's text: JSON, a feature a line, so that changes show in a review."""
    import json

    body = profile.model_dump(mode="json")
    lines = [f' "{key}": {json.dumps(body[key])}' for key in ("version", "model", "samples")]
    for key in ("features", "outputs"):
        rows = ",\n".join(f"  {json.dumps(part, ensure_ascii=False)}" for part in body[key])
        lines.append(f' "{key}": [\n{rows}\n ]' if rows else f' "{key}": []')
    return "{\n" + ",\n".join(lines) + "\n}\n"


def text(number: float) -> str:
    """A number as it stands in a label, as short as it can be read back; Prometheus' ``le`` convention."""
    if math.isinf(number):
        return TOP if number > 0 else "-Inf"
    return repr(float(number))


def _named(names: Iterable[str]) -> None:
    for name in names:
        if name in (OTHER, MISSING):
            raise ValueError(f"{name!r} is a bin of its own: give its share as {name}")


def _whole(shares: Iterable[float], *more: float) -> None:
    total = math.fsum((*shares, *more))
    if abs(total - 1.0) > _CLOSE:
        raise ValueError(f"shares sum to {total:.6g}, not 1")


def _sentence(problem: Any) -> str:
    places: Sequence[int | str] = problem["loc"]
    kinds = {"numeric", "categorical", "label"}
    where = ""
    for place in places:
        if isinstance(place, int):
            where += f"[{place}]"
        elif place not in kinds:
            where += f".{place}" if where else place
    said = str(problem["msg"]).removeprefix("Value error, ")
    said = " ".join(said.split())[:300]
    return f"{where}: {said}" if where else said
