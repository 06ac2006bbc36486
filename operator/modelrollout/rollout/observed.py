"""What the controller saw, frozen: the only thing besides spec, status and time that a decision may use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import Any

from modelrollout.api.contract import Contract
from modelrollout.api.guard import Guard
from modelrollout.api.rolloutpolicy import SliDefinition
from modelrollout.api.status import GuardRecord, GuardStatus, Verdict
from modelrollout.rollout.plan import Source


@dataclass(frozen=True)
class Workload:
    """The pods of one revision.

    ``desired`` is the Deployment's ``spec.replicas`` (None: there is no Deployment), ``ready`` counts pods whose
    model is ready, ``progressed_at`` is when a pod last came a step nearer to ready (scheduled, fetched, started
    for the first time), ``trouble`` is one sentence naming what stops them, if anything does. ``addressed`` says
    that the Service of its name is ours: a route to anybody else's would give users away. ``present`` counts all pods
    that there are, also those that are on their way out.
    """

    revision: str
    desired: int | None = None
    ready: int = 0
    progressed_at: datetime | None = None
    trouble: str | None = None
    addressed: bool = True
    present: int = 0


@dataclass(frozen=True)
class Backend:
    """One entry of the weighted rule: the revision its Service belongs to and its weight in parts per million."""

    revision: str
    weight: int


@dataclass(frozen=True)
class Route:
    """The routes of a ModelDeployment, read back together.

    ``backends`` has one entry a slot (None: no route yet, or the routes differ); ``weights`` has the highest weight
    that any of the routes gives a revision, also while they differ, ``lowest`` the lowest, both in parts per million
    whatever unit somebody else wrote. ``token`` names this very state of all routes (uids and generations);
    ``accepted`` says every gateway accepted and resolved this generation; ``rejection`` is the gateway's own sentence
    when one did not. ``accepted_since`` is when this process first saw ``token`` accepted. ``mirror`` is who gets
    copies of how many parts per million, ``split`` the arm of an A/B test that matches lead to. ``probed`` False: there
    is no gateway that could be asked whether it knows a revision (a Service switches by its selector). ``observe``
    are the parts per million that are copied to the observer.
    """

    backends: tuple[Backend, Backend] | None = None
    weights: Mapping[str, int] = field(default_factory=dict)
    lowest: Mapping[str, int] = field(default_factory=dict)
    token: str = ""
    accepted: bool = False
    rejection: str | None = None
    accepted_since: datetime | None = None
    mirror: tuple[str, int] | None = None
    split: str | None = None
    probed: bool = True
    observe: int = 0

    def weight_of(self, revision: str | None) -> int:
        """Parts per million that reach ``revision`` by the weighted rule."""
        return 0 if revision is None else self.weights.get(revision, 0)

    def taken_off(self, revision: str, armed: int) -> bool:
        """Whether at least one of the routes read back gives ``revision`` no more than the armed weight."""
        return bool(self.weights) and self.lowest.get(revision, 0) <= armed


@dataclass(frozen=True)
class Probe:
    """Which revisions the data plane answered with, asked by the pinned header while the routes were ``token``."""

    token: str
    seen: frozenset[str]
    message: str = ""


class GateState(StrEnum):
    """How far a gate is. Warned: it failed, and is told only: the spec asks for that, or it goes back.

    Retrying is for people: a failure that is not final.
    """

    RUNNING = "Running"
    PASSED = "Passed"
    RETRYING = "Retrying"
    FAILED = "Failed"
    WARNED = "Warned"
    SKIPPED = "Skipped"


class GateName(StrEnum):
    """The gates, in the order in which they are passed."""

    WARM = "Warm"
    CONTRACT = "Contract"
    GOLDEN_SET = "GoldenSet"
    LOAD = "Load"


@dataclass(frozen=True)
class Check:
    """What one gate says.

    ``message`` is what was measured, or what is wrong. ``final`` True with FAILED: trying again cannot help (a broken
    contract, other answers), so the attempt ends; else it is tried again until progressDeadline. ``contract`` is the
    candidate's, where the gate asked for it.
    """

    name: GateName
    state: GateState
    message: str = ""
    at: datetime | None = None
    final: bool = False
    contract: Contract | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Gate:
    """The gates of one revision together: ``message`` says what was measured, or why they have not passed yet.

    ``checks`` are those that were begun, in order; ``state`` is PASSED once every one is PASSED, WARNED or SKIPPED.
    """

    revision: str
    state: GateState
    message: str = ""
    finished_at: datetime | None = None
    checks: tuple[Check, ...] = ()

    @property
    def contract(self) -> Contract | None:
        """Inputs and outputs of the candidate; None where they are not known."""
        return next((check.contract for check in self.checks if check.contract is not None), None)

    @property
    def final(self) -> bool:
        """Whether a gate failed for good."""
        return any(check.final and check.state is GateState.FAILED for check in self.checks)


@dataclass(frozen=True)
class GuardResult:
    """One guard, evaluated once.

    ``value`` is in the unit of the SLI (ratio, requests per second, seconds); ``invalid`` is the sentence that says
    why the query can never work (does not parse, many series, wrong type): a spec error, not a verdict.

    ``confidence`` is how sure the sequential test is of a breach (0 to 1; None: no test). ``baseline`` is the stable
    arm's value. ``both`` with BREACH: the stable revision breaks the same bound, or the SLI is about inputs that both
    arms get; ``drift`` names then what drifts (``feature age``), empty for an SLI that is not about drift.
    ``waits_until`` with NO_DATA: silence is as expected until then (warm-up, labelDelay) and spends no deadline.
    ``query`` is what was asked, one line.
    """

    name: str
    verdict: Verdict
    at: datetime
    value: float | None = None
    threshold: str = ""
    samples: float | None = None
    message: str = ""
    invalid: str | None = None
    confidence: float | None = None
    baseline: float | None = None
    both: bool = False
    drift: str = ""
    waits_until: datetime | None = None
    query: str = ""


def statuses_of(results: tuple[GuardResult, ...]) -> tuple[GuardStatus, ...]:
    """Results of guards as the status keeps them."""
    return tuple(
        GuardStatus(
            **_recorded(result),
            at=result.at,
            message=result.invalid or result.message,
            baseline=result.baseline,
            both=result.both,
        )
        for result in results
    )


def _recorded(result: GuardResult) -> dict[str, Any]:
    """The fields of a GuardRecord."""
    return {
        "name": result.name,
        "verdict": result.verdict,
        "value": result.value,
        "threshold": result.threshold,
        "samples": result.samples,
        "confidence": result.confidence,
        "query": result.query,
    }


@dataclass(frozen=True)
class Allocation:
    """Whether the arms get the weights that the routes ask for: requests counted against the shares.

    ``expected`` and ``observed`` are the candidate's shares (0 to 1) over the counted requests; ``effective`` False: by
    the sequential test they differ beyond what matters.
    """

    expected: float
    observed: float
    samples: float
    effective: bool = True
    message: str = ""


@dataclass(frozen=True)
class Comparison:
    """Answers of both arms to the same requests: how many, and which shares differ or have another label."""

    compared: float
    differing: float | None = None
    label_flips: float | None = None


@dataclass(frozen=True)
class Arm:
    """One arm of an A/B test since it began. Latencies in seconds; None where it is not known."""

    revision: str
    requests: float | None = None
    error_ratio: float | None = None
    latency_p50: float | None = None
    latency_p99: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """All guards of one attempt, asked at the same time ``at``; ``source`` is what they were judged by.

    ``missing`` names series that a trial looked for and did not find, each with the guards that need it, as sentences;
    of a watch what keeps the observer from counting at all. None: it is not known, for somebody did not answer.
    ``watch`` True: this is about the stable revision between rollouts, not about an attempt. ``digest`` is that of the
    request: a trial of other guards, mended since, is no answer. ``asked`` and ``definitions`` are the guards as they
    were asked, and the SLIs of policies that they used.
    """

    attempt: int
    revision: str
    at: datetime
    results: tuple[GuardResult, ...]
    source: Source = Source.WEIGHTED
    arms: tuple[Arm, ...] = ()
    allocation: Allocation | None = None
    comparison: Comparison | None = None
    missing: tuple[str, ...] | None = ()
    watch: bool = False
    digest: str = ""
    asked: tuple[Guard, ...] = ()
    definitions: tuple[SliDefinition, ...] = ()

    @cached_property
    def statuses(self) -> tuple[GuardStatus, ...]:
        """The results as a status keeps them."""
        # One decision asks for them up to three times, and making twenty takes longer than all the rest of it.
        return statuses_of(self.results)

    @cached_property
    def records(self) -> tuple[GuardRecord, ...]:
        """The results as the record of a decision keeps them."""
        return tuple(GuardRecord(**_recorded(result)) for result in self.results)

    def with_verdict(self, verdict: Verdict) -> tuple[GuardResult, ...]:
        """The results that say ``verdict``."""
        return tuple(result for result in self.results if result.verdict is verdict)


@dataclass(frozen=True)
class Observed:
    """Everything a decision may look at.

    ``problem`` is the sentence that makes the spec unusable here (unknown pool, unknown Prometheus, a query that
    does not parse), ``foreign`` names an object that has our name and is not ours, ``denied`` a missing permission.
    ``settle`` is how long the gateway's proxies may lag behind a confirmed route, ``records`` are the names of all
    ModelRevisions, oldest first. ``silent_since`` is when the routes as they are now were first seen without any
    word of their gateways; None where there was one. ``known_good`` are revisions whose last attempt with an end of
    its own was promoted. ``models`` are Triton's name and the version of the model, by revision. ``claimed`` is the
    sentence that names an older ModelDeployment with one of our hostnames at our gateway. ``observer`` False: the spec
    asks for observation and there is no observer in this namespace (a mirror to nothing fails all users); ``uncopied``
    says what keeps copies from one that is there. ``definitions`` are the SLIs of policies that the guards use.
    ``rested`` is the evaluation that was known when this process last gave a revision more traffic.
    """

    workloads: dict[str, Workload] = field(default_factory=dict)
    route: Route = field(default_factory=Route)
    probe: Probe | None = None
    gates: dict[str, Gate] = field(default_factory=dict)
    evaluation: Evaluation | None = None
    rested: Evaluation | None = None
    problem: str | None = None
    foreign: str | None = None
    denied: str | None = None
    uncopied: str | None = None
    settle: timedelta = timedelta(seconds=1)
    records: tuple[str, ...] = ()
    known_good: frozenset[str] = frozenset()
    models: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    definitions: tuple[SliDefinition, ...] = ()
    claimed: str | None = None
    silent_since: datetime | None = None
    observer: bool = True

    def workload(self, revision: str | None) -> Workload:
        """The pods of ``revision``; an empty record where there are none."""
        if revision is None:
            return Workload("")
        return self.workloads.get(revision, Workload(revision))
