"""What the operator reports on a ModelDeployment, and how it is read back without ever failing."""

from __future__ import annotations

import copy
from enum import StrEnum
from typing import Annotated, Any, TypeVar

from pydantic import Field, ValidationError

from modelrollout.api.base import First, Instant, Line, Number, StatusModel
from modelrollout.api.contract import Contract
from modelrollout.api.rules import ListKey

WORD_LIMIT = 253
Word = Annotated[str, Line(WORD_LIMIT)]
SENTENCE_LIMIT = 1024
Sentence = Annotated[str, Line(SENTENCE_LIMIT)]

HISTORY_LIMIT = 10
QUARANTINE_LIMIT = 20
GUARD_LIMIT = 20
CONDITION_LIMIT = 16
DECISION_LIMIT = 30
GATE_LIMIT = 8
DRIFT_LIMIT = 10


class Phase(StrEnum):
    """Where a ModelDeployment is."""

    PENDING = "Pending"
    IDLE = "Idle"
    PREPARING = "Preparing"
    VERIFYING = "Verifying"
    ARMING = "Arming"
    PROGRESSING = "Progressing"
    AWAITING_APPROVAL = "AwaitingApproval"
    PROMOTING = "Promoting"
    BAKING = "Baking"
    ROLLING_BACK = "RollingBack"
    ROLLED_BACK = "RolledBack"
    INVALID = "Invalid"


class Verdict(StrEnum):
    """What a guard says."""

    PASS = "Pass"  # noqa: S105 - a verdict
    BREACH = "Breach"
    NO_DATA = "NoData"
    PROVIDER_DOWN = "ProviderDown"


class Outcome(StrEnum):
    """How an attempt ended."""

    PROMOTED = "Promoted"
    ROLLED_BACK = "RolledBack"
    ABORTED = "Aborted"
    SUPERSEDED = "Superseded"
    CONCLUDED = "Concluded"


class ConditionStatus(StrEnum):
    """The three values of a Kubernetes condition."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(StatusModel):
    """One standard Kubernetes condition; all of ours but DriftDetected are positive."""

    type: Word
    """Which condition, like SpecValid, Ready, UpToDate, GuardsPassing or Progressing (see
    docs/conditions-and-events.md)."""
    status: ConditionStatus
    """True, False or Unknown. True is the good state of all but DriftDetected."""
    reason: Word = ""
    """One CamelCase word for programs."""
    message: Sentence = ""
    """One line for people."""
    observed_generation: int = 0
    """metadata.generation that this condition speaks of."""
    last_transition_time: Instant | None = None
    """When ``status`` last changed."""


class RevisionsStatus(StatusModel):
    """Which ModelRevision plays which part."""

    desired: Word | None = None
    """The revision that the spec asks for."""
    stable: Word | None = None
    """The revision that serves."""
    candidate: Word | None = None
    """The revision on trial, if any."""
    last_good: Word | None = None
    """The stable revision before the last promotion, kept warm through the bake."""


class TrafficStatus(StatusModel):
    """What one revision gets, as read back from the routes."""

    revision: Word
    """Name of the ModelRevision."""
    slot: int = Field(ge=0, le=1)
    """Its fixed place in the route, 0 or 1."""
    weight: float = 0.0
    """Percent of the traffic, 0 to 100."""


class GuardRecord(StatusModel):
    """What one guard said when a decision was taken."""

    name: Word
    """Name of the guard in spec.rollout.guards, or in a policy."""
    verdict: Verdict
    """Pass, Breach, NoData or ProviderDown."""
    value: Number = None
    """The value, in the unit of the SLI: ratio, requests per second or seconds. None where there is none."""
    threshold: Word = ""
    """The bound it was compared with, like ``<= 0.01``."""
    samples: Number = None
    """How many requests the value is made of, where that is known."""
    confidence: Number = None
    """How sure a breach is by the sequential test, 0 to 1, where the guard weighs counts."""
    query: Sentence = ""
    """The PromQL that was asked, cut to 1000 characters. Empty in an older decision: as in the next newer one that has
    this guard, or not kept any more."""


class GuardStatus(GuardRecord):
    """What one guard said at its last evaluation."""

    at: Instant | None = None
    """When it was evaluated."""
    message: Sentence = ""
    """One line that explains the verdict."""
    baseline: Number = None
    """The value of the stable revision at the same time, where it was measured."""
    both: bool = False
    """Whether the stable revision breaks the same bound: the world moved, not the candidate."""


class Decision(StatusModel):
    """One decision about an attempt, with the evidence it rests on."""

    at: Instant
    """When it was taken."""
    decision: Word
    """What: Step, Ramp (traffic follows the pods to the next step), Promote, Complete, RollBack, AwaitApproval, Hold,
    Restart (its pods or its way were lost) or Abort."""
    step: int = 0
    """The step under way, counted from 1."""
    weight: float = 0.0
    """Percent of the traffic that the candidate has by it."""
    message: Sentence = ""
    """One line of why."""
    guards: Annotated[tuple[GuardRecord, ...], First(GUARD_LIMIT)] = ()
    """What each guard said."""


class GateStatus(StatusModel):
    """What one gate said of the candidate before its first traffic."""

    name: Word
    """Warm, Contract, GoldenSet or Load."""
    state: Word = ""
    """Running, Passed, Retrying (not passed yet), Failed (for good), Warned or Skipped."""
    message: Sentence = ""
    """One line: what was measured, or what is wrong."""
    at: Instant | None = None
    """When it was found."""


class ComparisonStatus(StatusModel):
    """Answers of both arms to the same requests since the candidate was first asked."""

    compared: Number = None
    """Requests that both arms answered."""
    differing: Number = None
    """Share of them with a difference beyond the tolerances, 0 to 1."""
    label_flips: Number = None
    """Share of them where the greatest entry (the label) is another one, 0 to 1."""
    at: Instant | None = None
    """When it was measured."""


class DriftStatus(StatusModel):
    """One feature or output whose distribution is no longer that of the profile."""

    subject: Word
    """Which, like ``feature age`` or ``output scores``."""
    sli: Word = ""
    """By which measure."""
    value: Number = None
    """Its value when it was told."""
    threshold: Word = ""
    """The bound."""
    since: Instant | None = None
    """Since when."""


class ArmStatus(StatusModel):
    """What one arm of an A/B test did since the test began."""

    revision: Word
    """Name of the ModelRevision."""
    requests: Number = None
    """Requests that it answered."""
    error_ratio: Number = None
    """Share of them that failed, 0 to 1."""
    latency_p50: Number = None
    """Median latency in seconds."""
    latency_p99: Number = None
    """99th percentile of the latency in seconds."""
    at: Instant | None = None
    """When it was measured."""


class CommandRecord(StatusModel):
    """One command that a person gave, and what became of it."""

    command: Word
    """The verb with its argument, like ``rollback:digits-0a1b2c3d4e``."""
    by: Word = ""
    """Who, as the command itself says (kubectl modelrollout does), else the client that wrote the annotation."""
    at: Instant | None = None
    """When it was carried out or refused."""
    accepted: bool = False
    """Whether it was carried out."""
    message: Sentence = ""
    """One line of what it did, or why it was refused."""


class RolloutStatus(StatusModel):
    """The attempt that is under way, or the last one."""

    attempt: int = 0
    """Number of the attempt, counted from 1 over the life of the ModelDeployment."""
    revision: Word = ""
    """The revision on trial."""
    version: Word = ""
    """Version of its model."""
    strategy: Word = ""
    """The strategy by which it moves."""
    fast_track: bool = False
    """Whether the revision is known good and goes to all traffic in one step after its gates."""
    max_surge: Word = ""
    """The maxSurge that it began with where that is less than a whole fleet: its way back minds the pods left."""
    instead_of: Word = ""
    """The desired revision that a commanded rollback goes away from; empty where the spec asks for the attempt."""
    started_at: Instant | None = None
    """When the attempt began."""
    step: int = 0
    """The step under way, counted from 1; 0 before the first."""
    steps: int = 0
    """How many steps there are."""
    step_of: Word = ""
    """The step as people read it, like ``2/5``."""
    weight: float = 0.0
    """Percent of the traffic that the revision on trial gets."""
    ramp: float = 0.0
    """Percent of the traffic on the way to the next step, where that waits for pods or for the gateway; else 0."""
    step_started_at: Instant | None = None
    """When the gateway was seen to carry out this step; its hold counts from here."""
    step_ends_at: Instant | None = None
    """When the hold of this step (or the bake) is over; the step ends then if every guard passes."""
    waiting_since: Instant | None = None
    """Since when the step waits for data or for a person."""
    traffic_started_at: Instant | None = None
    """When the revision on trial got its first weight; its evidence counts from here."""
    approved: bool = False
    """Whether a person let the attempt go on although its guards hold this step."""
    full: bool = False
    """Whether a person told the attempt to go to all traffic without its remaining steps."""
    skip: bool = False
    """Whether a person told the attempt not to wait for the end of this step."""
    setbacks: int = 0
    """How often the candidate lost its pods and the attempt went back to preparing."""
    reason: Word = ""
    """One word for why the attempt is where it is."""
    message: Sentence = ""
    """One line for why the attempt is where it is."""
    outcome: Outcome | None = None
    """How it ended: Promoted, RolledBack, Aborted, Superseded or Concluded (a shadow that just ended). Empty while
    it is under way."""
    finished_at: Instant | None = None
    """When it ended."""
    guards: Annotated[tuple[GuardStatus, ...], First(GUARD_LIMIT), ListKey("name")] = ()
    """What each guard said last."""
    refused_guards: Word = ""
    """Digest of the guards of an attempt that ended because one can never be judged: others begin another attempt."""
    arms: Annotated[tuple[ArmStatus, ...], First(2)] = ()
    """The result of an A/B test so far, by arm."""
    gates: Annotated[tuple[GateStatus, ...], First(GATE_LIMIT), ListKey("name")] = ()
    """What the gates said."""
    contract: Contract | None = None
    """Inputs and outputs of the revision on trial as its pods told them, until the attempt ends: its ModelRevision
    keeps them then."""
    comparison: ComparisonStatus | None = None
    """How the answers of the candidate differ from those of stable, where the observer compares them."""
    decisions: Annotated[tuple[Decision, ...], First(DECISION_LIMIT)] = ()
    """The decisions so far with their evidence, newest first."""


class HistoryEntry(StatusModel):
    """One finished attempt."""

    attempt: int
    """Number of the attempt."""
    revision: Word
    """The revision that was tried."""
    version: Word = ""
    """Version of its model."""
    strategy: Word = ""
    """The strategy by which it moved."""
    outcome: Outcome
    """How it ended."""
    reason: Word = ""
    """One word for why."""
    message: Sentence = ""
    """One line for why."""
    started_at: Instant | None = None
    """When it began."""
    finished_at: Instant | None = None
    """When it ended."""


class ModelDeploymentStatus(StatusModel):
    """Status of a ModelDeployment; written by the operator only."""

    observed_generation: int = 0
    """metadata.generation of the spec that this status speaks of."""
    phase: Phase = Phase.PENDING
    """Where the ModelDeployment is."""
    message: Sentence = ""
    """One line that a person can act on."""
    conditions: Annotated[tuple[Condition, ...], First(CONDITION_LIMIT), ListKey("type")] = ()
    """Standard conditions."""
    revisions: RevisionsStatus = RevisionsStatus()
    """Desired against serving: which revision plays which part."""
    weight: float = 0.0
    """Percent of the traffic that the desired revision gets."""
    traffic: Annotated[tuple[TrafficStatus, ...], First(2)] = ()
    """Who gets how much, as read back from the routes."""
    rollout: RolloutStatus | None = None
    """The attempt that is under way, or the last one."""
    quarantined: Annotated[tuple[Word, ...], First(QUARANTINE_LIMIT)] = ()
    """Revisions that were rolled back and are not tried again without a command, newest first."""
    history: Annotated[tuple[HistoryEntry, ...], First(HISTORY_LIMIT)] = ()
    """The last attempts, newest first."""
    handled_command: Word | None = None
    """The last value of the annotation modelrollout.io/command that was acted upon."""
    paused: bool = False
    """Whether the command pause froze the steps; resume lifts it."""
    commands: Annotated[tuple[CommandRecord, ...], First(HISTORY_LIMIT)] = ()
    """The last commands, newest first."""
    drift: Annotated[tuple[DriftStatus, ...], First(DRIFT_LIMIT)] = ()
    """What drifts now, worst first; empty while nothing is known to."""


Status = TypeVar("Status", bound=StatusModel)


def status_to_dict(status: StatusModel) -> dict[str, Any]:
    """Plain JSON in camelCase, as the API server stores it: without empty optional fields."""
    written: dict[str, Any] = _without_none(status.model_dump(mode="json", by_alias=True))
    return written


def _without_none(value: Any) -> Any:
    # pydantic's exclude_none looks before a NaN becomes None, and the API server refuses null for a number
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_none(item) for item in value]
    return value


def status_from(raw: object) -> ModelDeploymentStatus:
    """Read a stored status; never raises. Parts that cannot be read (hand-edited) count as absent."""
    return read_tolerantly(ModelDeploymentStatus, raw)


def read_tolerantly(kind: type[Status], raw: object) -> Status:
    """Read ``raw`` as ``kind``, leaving out what does not fit; an empty ``kind`` where nothing does."""
    if not isinstance(raw, dict):
        return kind()
    data: dict[str, Any] = raw
    # Each round removes at least one part, so it ends; the limit keeps a monstrous status from taking long.
    for _ in range(20):
        try:
            return kind.model_validate(data)
        except ValidationError as error:
            unreadable = {_existing(data, entry["loc"]) for entry in error.errors(include_url=False)}
        # Only a damaged one is copied: nearly all are whole, and copying takes longer than reading.
        data = copy.deepcopy(raw) if data is raw else data
        for place in sorted(unreadable, key=_order, reverse=True):
            _remove(data, place)
    return kind()


Place = tuple[int | str, ...]


def _existing(data: Any, place: Place) -> Place:
    """The part of the way to ``place`` that exists: a missing required field takes its parent along."""
    node: Any = data
    for depth, part in enumerate(place):
        known = part in node if isinstance(node, dict) else isinstance(node, list) and part in range(len(node))
        if not known:
            return place[:depth]
        node = node[part]
    return place


def _order(place: Place) -> list[tuple[int, str]]:
    # highest index first, so that removing one item of a list does not move the others that are to go
    return [(part, "") if isinstance(part, int) else (0, part) for part in place]


def _remove(data: Any, place: Place) -> None:
    if not place:
        return
    node: Any = data
    for part in place[:-1]:
        node = node[part]
    del node[place[-1]]
