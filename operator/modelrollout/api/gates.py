"""Gates: what a candidate must show before any user meets it: contract, golden answers, speed under load."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from modelrollout.api.base import Duration, SpecModel, StrictBool, StrictFloat, StrictInt
from modelrollout.api.durations import between
from modelrollout.api.rules import ListKey, Rule, matches
from modelrollout.api.scalars import ObjectName

TensorName = Annotated[str, Field(min_length=1, max_length=128)]
Timeout = Annotated[Duration, between("1s", "30m")]


class ContractMode(StrEnum):
    """What a broken contract does."""

    ENFORCE = "Enforce"
    WARN = "Warn"
    DISABLED = "Disabled"


class ConfigMapKey(SpecModel):
    """One key of a ConfigMap of the same namespace."""

    name: ObjectName
    """Name of the ConfigMap."""
    key: Annotated[
        str,
        Field(min_length=1, max_length=253),
        matches(
            "^[-._a-zA-Z0-9]+$",
            "must hold only letters, digits, dashes, dots and underscores, as keys of a ConfigMap do",
        ),
    ]
    """The key whose value is the file."""


class ContractGate(SpecModel):
    """Names, types and shapes of the candidate's inputs and outputs against those of stable."""

    mode: ContractMode = ContractMode.ENFORCE
    """Enforce (a breaking change is refused unless the model has a new MAJOR version), Warn (only tell) or
    Disabled (not asked)."""
    timeout: Timeout = timedelta(minutes=1)
    """How long the metadata of both revisions may take, 1s to 30m."""


class OutputTolerance(SpecModel):
    """How exactly one output must be met."""

    output: TensorName
    """Name of the output."""
    absolute: StrictFloat = 0.0
    """Greatest good difference of a number."""
    relative: StrictFloat = 0.0
    """Greatest good difference as a share of the expected number."""
    top_k: Annotated[StrictInt, Field(ge=1, le=100)] | None = None
    """Compare only which the k greatest entries of the last dimension are, in order. 1 to 100."""
    ignore: StrictBool = False
    """Do not compare this output."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.absolute >= 0.0 && self.relative >= 0.0",
            "absolute and relative must not be negative",
            lambda self: self.absolute >= 0 and self.relative >= 0,
        ),
        Rule(
            "!self.ignore || (!has(self.topK) && self.absolute == 0.0 && self.relative == 0.0)",
            "an output is either ignored or compared: with ignore, remove topK, absolute and relative",
            lambda self: not self.ignore or (self.top_k is None and not self.absolute and not self.relative),
        ),
        Rule(
            "!has(self.topK) || (self.absolute == 0.0 && self.relative == 0.0)",
            "topK compares places and not numbers: remove absolute and relative, or topK",
            lambda self: self.top_k is None or not (self.absolute or self.relative),
        ),
    )


class GoldenSet(SpecModel):
    """Stored requests with the answers that are expected, replayed on the candidate before any traffic."""

    config_map: ConfigMapKey | None = None
    """A ConfigMap that holds the set (``modelrollout golden record`` writes it). Exactly one of configMap and
    parameter."""
    parameter: (
        Annotated[
            str,
            Field(min_length=1, max_length=63),
            matches("^[!-~]+$", "must be the key of a parameter: visible characters without spaces"),
        ]
        | None
    ) = None
    """The parameter of the model's config.pbtxt that holds the set: it is then versioned in the model's own
    repository. Exactly one of configMap and parameter."""
    tolerances: Annotated[tuple[OutputTolerance, ...], Field(max_length=64), ListKey("output")] = ()
    """How exactly each output must be met; one that is not named must be met exactly (numbers to 1 part in
    100,000). At most 64."""
    max_failures: Annotated[StrictInt, Field(ge=0, le=10_000)] = 0
    """How many of the requests may be answered otherwise, 0 to 10000."""
    timeout: Timeout = timedelta(minutes=2)
    """How long the replay may take, 1s to 30m."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.configMap) != has(self.parameter)",
            "set exactly one of configMap and parameter",
            lambda self: (self.config_map is None) != (self.parameter is None),
        ),
    )


class LoadTest(SpecModel):
    """A short bounded burst on the candidate's pods, read before users meet them."""

    duration: Annotated[Duration, between("1s", "1m")] = timedelta(seconds=10)
    """How long, 1s to 1m."""
    rate: StrictFloat | None = None
    """Requests per second for all pods together, above 0 and at most 2000. Default: the rate that stable was last
    seen to answer at the gateway, at least 0.5; 5 where that is not known. A request that is not answered within 10 s
    is a failed one."""
    max_latency_p99: StrictFloat | None = None
    """Greatest good 99th percentile of the latency in seconds, above 0 and at most 60; none: the latency is only
    told."""
    max_error_ratio: StrictFloat = 0.0
    """Greatest good share of failed requests, 0 to 1."""
    timeout: Timeout = timedelta(minutes=2)
    """How long the whole gate may take, 1s to 30m; never less than two bursts need, 2 x duration + 40s."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.rate) || (self.rate > 0.0 && self.rate <= 2000.0)",
            "rate must be above 0 and at most 2000 requests per second",
            lambda self: self.rate is None or 0 < self.rate <= 2000,
        ),
        Rule(
            "!has(self.maxLatencyP99) || (self.maxLatencyP99 > 0.0 && self.maxLatencyP99 <= 60.0)",
            "maxLatencyP99 is in seconds, above 0 and at most 60: write 500 ms as 0.5",
            lambda self: self.max_latency_p99 is None or 0 < self.max_latency_p99 <= 60,
        ),
        Rule(
            "self.maxErrorRatio >= 0.0 && self.maxErrorRatio <= 1.0",
            "maxErrorRatio is a share from 0 to 1: write 1 percent as 0.01",
            lambda self: 0 <= self.max_error_ratio <= 1,
        ),
    )


class Gates(SpecModel):
    """What is checked on the candidate's own pods before any traffic, after they are warm."""

    contract: ContractGate = ContractGate()
    """Inputs and outputs against stable. On by default."""
    golden_set: GoldenSet | None = None
    """Stored requests and expected answers."""
    load: LoadTest | None = None
    """A burst at stable's rate."""
