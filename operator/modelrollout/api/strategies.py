"""The strategies by which a change moves, each with its own block of the spec."""

from __future__ import annotations

import re
from datetime import timedelta
from enum import StrEnum
from itertools import pairwise
from math import ceil
from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field, WithJsonSchema

from modelrollout.api.base import Duration, SpecModel, StrictBool, StrictFloat, StrictInt
from modelrollout.api.durations import between
from modelrollout.api.hosts import Hosts, apart, meet, names_of
from modelrollout.api.rules import Rule, matches

# No minimum in the schema: for an integer the API server cuts the fraction off 0.001, and would take 0.
Percent = Annotated[
    StrictFloat,
    Rule(
        "self >= 0.001 && self <= 100.0",
        "must be a percentage from 0.001 to 100",
        lambda value: 0.001 <= value <= 100,
    ),
]


class Strategy(StrEnum):
    """How traffic moves to a new revision."""

    CANARY = "Canary"
    BLUE_GREEN = "BlueGreen"
    SHADOW = "Shadow"
    AB_TEST = "ABTest"
    RECREATE = "Recreate"


class Pause(SpecModel):
    """Wait for the command promote."""


class Step(SpecModel):
    """One step of a canary: a weight, a number of pods, or a wait for a person."""

    weight: Percent | None = None
    """Percent of the traffic for the candidate, 0.001 to 100, fractions too. Exactly one of weight, replicas and
    pause."""
    replicas: Annotated[StrictInt, Field(ge=1, le=1000)] | None = None
    """Pods of the candidate from this step on, without more traffic; a later weight that needs more gets more. At
    most spec.replicas count. Exactly one of weight, replicas and pause."""
    pause: Pause | None = None
    """``{}`` waits for the command promote; guards stay on. Exactly one of weight, replicas and pause."""
    hold: Annotated[Duration, between("0s", "168h")] = timedelta(0)
    """How long the step lasts at least, counted from when it is in force, 0s to 168h. It ends only when every
    guard passes."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "[has(self.weight), has(self.replicas), has(self.pause)].filter(given, given).size() == 1",
            "set exactly one of weight, replicas and pause",
            lambda self: [self.weight, self.replicas, self.pause].count(None) == 2,
        ),
        Rule(
            "!has(self.pause) || !has(self.hold) || duration(self.hold) == duration('0s')",
            "a pause lasts until a person promotes: remove hold, or hold a step of its own",
            lambda self: self.pause is None or self.hold == timedelta(0),
        ),
    )


def _rising(steps: tuple[Step, ...]) -> bool:
    weights = [step.weight for step in steps if step.weight is not None]
    return all(before < after for before, after in pairwise(weights))


_SURGE = "^(0|[1-9][0-9]{0,3}|0%|[1-9][0-9]?%|100%)$"

MaxSurge = Annotated[
    str,
    BeforeValidator(lambda value: str(value) if isinstance(value, int) and not isinstance(value, bool) else value),
    WithJsonSchema({"x-kubernetes-int-or-string": True, "maxLength": 8}),
    Rule(
        f"string(self).matches('{_SURGE}')",
        "must be a number of pods from 0 to 9999, or a percentage from 0% to 100%, without leading zeros",
        re.compile(_SURGE).fullmatch,
    ),
]


class Canary(SpecModel):
    """The steps of a canary, and the room it may take."""

    steps: Annotated[
        tuple[Step, ...],
        Field(min_length=1, max_length=20),
        Rule(
            "self.filter(step, has(step.weight)).map(step, step.weight).isSorted() && "
            "self.all(step, !has(step.weight) || "
            "self.exists_one(other, has(other.weight) && other.weight == step.weight))",
            "weights must rise from step to step: put the steps in order and give each a greater weight "
            "than the one before",
            _rising,
        ),
        Rule(
            "self.exists(step, has(step.weight))",
            "a canary needs a step with a weight: add one, or set strategy: BlueGreen to switch all at once",
            lambda steps: any(step.weight is not None for step in steps),
        ),
    ] = (
        Step(weight=5, hold=timedelta(minutes=2)),
        Step(weight=25, hold=timedelta(minutes=5)),
        Step(weight=50, hold=timedelta(minutes=5)),
    )
    """1 to 20 steps with rising weights. After the last one the candidate is promoted to 100 percent.
    Default: 5 percent for 2m, 25 for 5m, 50 for 5m."""
    max_surge: MaxSurge = "100%"
    """Pods that both revisions may have together beyond spec.replicas: a number or a percentage (rounded up). 100%
    makes the candidate's whole fleet before its first traffic. Less keeps capacity in step with weight: pods
    first, then traffic. 0 drains one pod, then starts one."""

    def surge(self, replicas: int) -> int:
        """``max_surge`` as a number of pods, at most ``replicas``."""
        text = self.max_surge
        pods = ceil(replicas * int(text[:-1]) / 100) if text.endswith("%") else int(text)
        return min(pods, replicas)


class PreviewHosts(SpecModel):
    """Names under which only the candidate is reached (the stable revision while there is none)."""

    http: Hosts | None = None
    """Names for REST, different from those of spec.traffic and of grpc. At least one of http and grpc."""
    grpc: Hosts | None = None
    """Names for gRPC, different from those of spec.traffic and of http. At least one of http and grpc."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.http) || has(self.grpc)",
            "set http, grpc or both: a preview without hostnames reaches nothing",
            lambda self: self.http is not None or self.grpc is not None,
        ),
        Rule(
            apart("self.http", "self.grpc"),
            "http and grpc of a preview must not share a hostname (wildcards included): give grpc a name of its own",
            lambda self: not meet(names_of(self.http), names_of(self.grpc)),
        ),
    )


class PrePromotionSource(StrEnum):
    """What the guards are fed with before users meet the candidate."""

    MIRROR = "Mirror"
    PREVIEW = "Preview"


class PrePromotion(SpecModel):
    """Guards before the switch."""

    source: PrePromotionSource = PrePromotionSource.MIRROR
    """Mirror: a share of the users' requests is copied to the candidate, its answers are thrown away. Preview: the
    requests that testers or a job send with the header x-model-revision."""
    percent: Percent | None = None
    """Percent of the users' requests that are copied, 0.001 to 100. Only with Mirror. Default: 10."""
    hold: Annotated[Duration, between("0s", "168h")] = timedelta(minutes=2)
    """How long at least, 0s to 168h. It ends only when every guard passes."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.percent) || self.source == 'Mirror'",
            "percent does something with source Mirror only: remove it",
            lambda self: self.percent is None or self.source is PrePromotionSource.MIRROR,
        ),
    )


class BlueGreen(SpecModel):
    """The new revision at full size beside the old one, then a switch in one write."""

    preview: PreviewHosts | None = None
    """Names under which testers reach the candidate before users do, besides the header x-model-revision."""
    pre_promotion: PrePromotion | None = None
    """Guards that must pass before the switch. Default: none, guards watch the bake only."""
    approval: StrictBool = False
    """True waits for the command promote before the switch."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.preview) || has(self.prePromotion) || self.approval",
            "a preview leads to the candidate before the switch only: give it time by prePromotion or approval: true",
            lambda self: self.preview is None or self.pre_promotion is not None or self.approval,
        ),
    )


class ShadowEnd(StrEnum):
    """What follows a shadow."""

    APPROVAL = "Approval"
    CANARY = "Canary"
    BLUE_GREEN = "BlueGreen"
    END = "End"


class Shadow(SpecModel):
    """A share of the requests is copied to the candidate; no user sees its answers."""

    percent: Percent = 10
    """Percent of the users' requests that are copied, 0.001 to 100, fractions too."""
    hold: Annotated[Duration, between("0s", "168h")] = timedelta(minutes=10)
    """How long at least, 0s to 168h. It ends only when every guard passes."""
    then: ShadowEnd = ShadowEnd.APPROVAL
    """Approval (wait for the command promote, then switch), Canary (the steps of rollout.canary), BlueGreen (as
    rollout.blueGreen says) or End (the candidate goes, the stable revision stays)."""


MatchValue = Annotated[
    str,
    Field(min_length=1, max_length=128),
    matches("^[A-Za-z0-9._~@+:/-]+$", "must hold only letters, digits and . _ ~ @ + : / -"),
]

CookieName = Annotated[
    str,
    Field(min_length=1, max_length=64),
    matches("^[A-Za-z0-9_-]+$", "must be a cookie name: letters, digits, dashes and underscores"),
]


class HeaderMatch(SpecModel):
    """A header that must have exactly this value."""

    name: Annotated[
        str,
        Field(min_length=1, max_length=64),
        matches("^[A-Za-z0-9-]+$", "must be a header name: letters, digits and dashes (gateways drop underscores)"),
    ]
    """Name of the header, 1 to 64 characters, in whatever case."""
    value: MatchValue
    """Its exact value, 1 to 128 characters."""


class CookieMatch(SpecModel):
    """A cookie that must have exactly this value."""

    name: CookieName
    """Name of the cookie, 1 to 64 characters."""
    value: MatchValue
    """Its exact value, 1 to 128 characters."""


class ArmMatch(SpecModel):
    """One rule that sends a request to the candidate."""

    header: HeaderMatch | None = None
    """A request header. Exactly one of header and cookie."""
    cookie: CookieMatch | None = None
    """A cookie. Exactly one of header and cookie."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.header) != has(self.cookie)",
            "set exactly one of header and cookie",
            lambda self: (self.header is None) != (self.cookie is None),
        ),
        Rule(
            "!has(self.header) || self.header.name.lowerAscii() != 'x-model-revision'",
            "x-model-revision is the operator's own header and leads to the revision that it names: use another one",
            lambda self: self.header is None or self.header.name.lower() != "x-model-revision",
        ),
        Rule(
            "!has(self.header) || !(self.header.name.lowerAscii() in ['cookie', 'host'])",
            "cookie and host cannot be matched as headers: match a cookie by cookie, a host by spec.traffic",
            lambda self: self.header is None or self.header.name.lower() not in ("cookie", "host"),
        ),
    )


class Decider(StrEnum):
    """Who ends an A/B test."""

    APPROVAL = "Approval"
    GUARDS = "Guards"


class ABTest(SpecModel):
    """Two arms beside each other, each client on one of them."""

    weight: Annotated[
        StrictFloat,
        Rule(
            "self == 0.0 || (self >= 0.001 && self <= 99.9)",
            "must be 0, or a percentage from 0.001 to 99.9",
            lambda value: value == 0 or 0.001 <= value <= 99.9,
        ),
    ] = 50
    """Percent of the clients without a match that get the candidate: 0, or 0.001 to 99.9."""
    match: Annotated[tuple[ArmMatch, ...], Field(max_length=6)] = ()
    """Requests that always get the candidate: those that fit one of these. At most 6."""
    sticky_cookie: CookieName = "model-revision"
    """Name of the cookie that keeps a client on its arm, set by the gateway. Clients without cookies send the header
    x-model-revision of their first answer again."""
    sticky_for: Annotated[Duration, between("1s", "8760h")] = timedelta(hours=24)
    """How long a client keeps its arm, counted from its first answer, 1s to 8760h."""
    hold: Annotated[Duration, between("0s", "8760h")] = timedelta(hours=24)
    """How long the test lasts at least, 0s to 8760h."""
    samples: Annotated[StrictInt, Field(ge=1, le=1_000_000_000)] | None = None
    """How many requests each arm must have answered besides, 1 to 1000000000. Default: the time alone."""
    decide: Decider = Decider.APPROVAL
    """Who decides at the end: Approval (a person, by the command promote or abort) or Guards (promoted when all of
    rollout.guards pass)."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.weight > 0.0 || (has(self.match) && size(self.match) > 0)",
            "with weight 0 nobody gets the candidate: give a weight or a match",
            lambda self: self.weight > 0 or len(self.match) > 0,
        ),
        Rule(
            "!has(self.match) || self.match.all(arm, !has(arm.cookie) || arm.cookie.name != self.stickyCookie)",
            "stickyCookie is the gateway's own: match a cookie with another name, or rename stickyCookie",
            lambda self: all(arm.cookie is None or arm.cookie.name != self.sticky_cookie for arm in self.match),
        ),
    )
