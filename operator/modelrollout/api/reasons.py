"""The stable words of conditions and events, each with what it means and what it asks of a person.

docs/conditions-and-events.md is generated from here. Alerts match on the words: they never change.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class ConditionType(StrEnum):
    """Conditions of a ModelDeployment. All are positive: True is the good state."""

    when_true: str
    when_false: str
    action: str

    def __new__(cls, value: str, when_true: str, when_false: str, action: str) -> Self:
        """A member is its word; the texts are attributes of it."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.when_true = when_true
        member.when_false = when_false
        member.action = action
        return member

    SPEC_VALID = (
        "SpecValid",
        "The spec can be carried out here.",
        (
            "The spec passes the schema but cannot be carried out: an unknown pool or Prometheus, or a query "
            "that can never work. What serves goes on serving; nothing new is created."
        ),
        (
            "Read the message: it names the field. Correct the spec, or have the platform team add the "
            "pool or Prometheus to the operator's settings."
        ),
    )
    READY = (
        "Ready",
        "The stable revision has ready pods. The message says how many of how many.",
        "There is no stable revision yet, or it has no ready pods: users see it.",
        (
            "Look at the pods of the revision in status.revisions.stable (label modelrollout.io/revision) "
            "and their events. If it never had any, look at those of status.revisions.candidate."
        ),
    )
    UP_TO_DATE = (
        "UpToDate",
        "The revision that the spec asks for is the one that serves.",
        (
            "The spec asks for another revision than the one that serves: a rollout is under way, waits, "
            "or was rolled back."
        ),
        (
            "Nothing while a rollout is under way. After a rollback: correct the model and apply a new "
            "version, or retry."
        ),
    )
    ROUTE_ACCEPTED = (
        "RouteAccepted",
        "The gateway accepted the routes and resolved their backends.",
        "The gateway refused a route or has not answered yet; traffic stays as it is.",
        (
            "Read the message (it is the gateway's own). Usual causes: the Gateway does not exist, its "
            "listener allows no routes from this namespace, or the hostname does not fit the listener."
        ),
    )
    METRICS_REACHABLE = (
        "MetricsReachable",
        "Prometheus answers the guards' queries.",
        ("Prometheus is down, slow or answers garbage. The rollout holds its step: it neither goes on nor back."),
        ("Bring Prometheus back, or check the address in the operator's settings. The rollout goes on by itself."),
    )
    GUARDS_PASSING = (
        "GuardsPassing",
        "No guard is in breach. Guards without data show in status.rollout.guards and hold the step.",
        "A guard is in breach.",
        (
            "Read status.rollout.guards: verdict, value, threshold, samples and time of each. What happens "
            "next is the guard's onBreach."
        ),
    )
    PROGRESSING = (
        "Progressing",
        "A rollout is under way and gets nearer to its end, or there is nothing to do.",
        (
            "The rollout stands still: it waits for a person, was rolled back, or something stops it (pods "
            "that get no nearer to ready, an object of somebody else with our name, a missing permission)."
        ),
        (
            "Read the message: it names what stands in the way. Where a person is waited for, promote, "
            "or abort with the command annotation."
        ),
    )


class EventReason(StrEnum):
    """Reasons of the events on a ModelDeployment."""

    meaning: str
    action: str

    def __new__(cls, value: str, meaning: str, action: str) -> Self:
        """A member is its word; the texts are attributes of it."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        member.action = action
        return member

    ROLLOUT_STARTED = (
        "RolloutStarted",
        "A new attempt began: pods of the candidate are being made. It has no traffic yet.",
        "Nothing.",
    )
    GATES_FAILED = (
        "GatesFailed",
        "A gate did not pass: the candidate could not answer real inferences. It never had traffic.",
        "Read the message, then the log of the candidate's pods.",
    )
    STEP_HELD = (
        "StepHeld",
        "A step is held longer than asked because a guard has no data or Prometheus does not answer.",
        "See conditions GuardsPassing and MetricsReachable.",
    )
    GUARD_BREACHED = (
        "GuardBreached",
        (
            "A guard was outside its bounds often enough. The message has query or SLI, value, threshold, "
            "samples and time."
        ),
        (
            "Depends on its onBreach: after Rollback look at why the model is worse; after Pause decide; "
            "Warn only tells."
        ),
    )
    PROMOTED = (
        "Promoted",
        "The candidate has all the traffic and is the stable revision now; the bake begins.",
        "Nothing.",
    )
    ROLLOUT_COMPLETED = (
        "RolloutCompleted",
        "The bake is over; the pods of the last good revision are being removed.",
        "Nothing.",
    )
    ROLLED_BACK = (
        "RolledBack",
        "The stable revision has all the traffic again; the candidate is quarantined.",
        ("Correct the model and apply a new version. The same spec is not tried again unless you command a retry."),
    )
    ROLLOUT_SUPERSEDED = (
        "RolloutSuperseded",
        ("The spec changed during an attempt: traffic goes back to stable first, then the new revision is tried."),
        "Nothing.",
    )
    ROLLOUT_CONCLUDED = (
        "RolloutConcluded",
        "A shadow with then: End is over; the stable revision goes on serving, the candidate's pods go.",
        "Read status.rollout.guards; apply another strategy, or command retry for another shadow.",
    )
    ROLLOUT_ABORTED = (
        "RolloutAborted",
        "The spec went back to the stable revision, or an abort was commanded: the attempt ended.",
        "Nothing.",
    )
    AWAITING_APPROVAL = (
        "AwaitingApproval",
        "The rollout waits for a person: a guard asked for a pause, or had no data for noDataDeadline.",
        "Look at status.rollout.guards, then command promote or abort.",
    )
    CANDIDATE_UNAVAILABLE = (
        "CandidateUnavailable",
        "The candidate lost its ready pods while it had traffic; its weight was taken away.",
        "Look at the candidate's pods: crashes, evictions, out of memory.",
    )
    PROGRESS_DEADLINE_EXCEEDED = (
        "ProgressDeadlineExceeded",
        "The candidate's pods got no nearer to ready for progressDeadline. The attempt ended.",
        (
            "The message names what stops them: an image, a volume, a download, no room on the pool, or the "
            "model itself."
        ),
    )
    SPEC_INVALID = (
        "SpecInvalid",
        "The spec cannot be carried out. What serves goes on serving.",
        "Correct the field that the message names.",
    )
    ROUTE_REJECTED = (
        "RouteRejected",
        "The gateway refused a route; traffic stays as it is.",
        "See condition RouteAccepted.",
    )
    METRICS_UNREACHABLE = (
        "MetricsUnreachable",
        "Prometheus does not answer; the rollout holds.",
        "See condition MetricsReachable.",
    )
    FOREIGN_OBJECT = (
        "ForeignObject",
        ("An object with a name that the operator needs exists and belongs to somebody else. It is left alone."),
        "Rename the ModelDeployment, or remove the object that the message names.",
    )
    PERMISSION_DENIED = (
        "PermissionDenied",
        "The API server does not let the operator do what it needs.",
        "Grant what the message names to the operator's service account (the Helm chart does).",
    )
    COMMAND_ACCEPTED = (
        "CommandAccepted",
        "A command given by annotation was carried out.",
        "Nothing.",
    )
    COMMAND_REFUSED = (
        "CommandRefused",
        "A command given by annotation makes no sense now or is not known.",
        "Read the message; give the command again with a new nonce when it applies.",
    )
