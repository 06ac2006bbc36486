"""The stable words of conditions and events, each with what it means and what it asks of a person.

docs/conditions-and-events.md is generated from here. Alerts match on the words: they never change.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class ConditionType(StrEnum):
    """Conditions of a ModelDeployment. All but DriftDetected are positive: True is the good state."""

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
            "The spec passes the schema but cannot be carried out: an unknown pool, policy or Prometheus, or a query "
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
        (
            "The gateway refused a route (RouteRejected) or says nothing of it (RouteUnanswered), or another "
            "ModelDeployment has a hostname (HostnameTaken); traffic stays as it is."
        ),
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
        "A guard is in breach (GuardBreached), or both arms break a bound (WorldMoved). The message names the guards.",
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
    WARM = (
        "Warm",
        "The candidate's pods were ready for the exact version and answered until their latency settled.",
        "The candidate's pods do not answer real inferences. It has no traffic.",
        "Read the message, then the log of the candidate's pods.",
    )
    CONTRACT_KEPT = (
        "ContractKept",
        "Inputs and outputs of the candidate fit those of the stable revision, or the MAJOR version is new.",
        (
            "The candidate has other inputs or outputs without a new MAJOR version: clients of the stable revision "
            "would break. It gets no traffic. The message is the difference."
        ),
        "Give the model a new MAJOR version and tell its clients, or restore the inputs and outputs.",
    )
    GOLDEN_SET_PASSED = (
        "GoldenSetPassed",
        "The candidate answered the stored requests as expected.",
        (
            "The candidate answers stored requests otherwise than expected (Failed), or the set cannot be used yet "
            "(Retrying). No traffic."
        ),
        (
            "Read the message: it names the requests and outputs, or what is wrong with the set. Failed: correct the "
            "model, or record the set anew. Retrying: mend the ConfigMap, and the rollout goes on by itself."
        ),
    )
    LOAD_TEST_PASSED = (
        "LoadTestPassed",
        "The candidate carried the burst within its bounds.",
        "The candidate was too slow or failed requests in the burst. It gets no traffic.",
        "Read the message; give the pods more resources or replicas, or look at the model.",
    )
    EVIDENCE_AVAILABLE = (
        "EvidenceAvailable",
        "Every series that SLIs of the catalogs need was found when the attempt began. Your own queries are not known.",
        "A series that a guard needs is not in Prometheus, or does not see all requests: it may hold the rollout.",
        "Read the message: it names guard and series, and what to look at. Mend that, or change the guard.",
    )
    WEIGHT_EFFECTIVE = (
        "WeightEffective",
        "Both arms get the share of the requests that the routes ask for.",
        "The arms do not get the shares that the routes ask for: evidence and exposure are not what the steps say.",
        (
            "Look whether every proxy of the gateway has the newest routes: one that lost the gateway's control plane "
            "goes on with old weights (restart it). Else something changes the weights on the way."
        ),
    )
    OBSERVED = (
        "Observed",
        "The observer of this namespace gets copies of the requests.",
        (
            "The spec asks for observation and nothing is counted, drift is not known: there is no observer here "
            "(ObserverMissing), something keeps copies from it (NotCopied), or it cannot use the profile "
            "(ProfileUnusable)."
        ),
        "Do what the event of that reason says (below), or what the message names.",
    )
    DRIFT_DETECTED = (
        "DriftDetected",
        "The distribution of an input or output is no longer that of the profile. True is the bad state.",
        "Nothing is known to drift.",
        "Look at the features in status.drift. A rollout holds meanwhile; retraining is for a person to decide.",
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
    STEP_HELD = (
        "StepHeld",
        "A step is held longer than asked because a guard has no data: too few requests, or no series.",
        (
            "Read the message and status.rollout.guards: is there traffic, and are the series scraped (condition "
            "EvidenceAvailable)? It goes on by itself with data; after noDataDeadline a person is asked."
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
        (
            "The rollout waits for a person: a step asks for it, a guard asked for a pause, or had no data for "
            "noDataDeadline."
        ),
        "Look at status.message and status.rollout.guards, then command promote or abort.",
    )
    CANDIDATE_UNAVAILABLE = (
        "CandidateUnavailable",
        "The candidate lost all its ready pods, in a gate or with traffic; what weight it had was taken away.",
        "Look at the candidate's pods: crashes, evictions, out of memory.",
    )
    SPEC_INVALID = (
        "SpecInvalid",
        "The spec cannot be carried out. What serves goes on serving.",
        "Correct the field that the message names.",
    )
    ROUTE_REJECTED = (
        "RouteRejected",
        "The gateway refused a route; traffic stays as it is.",
        (
            "Read the message (it is the gateway's own). Usual causes: the Gateway or its listener does not exist, the "
            "listener allows no routes from this namespace, or the hostname does not fit it."
        ),
    )
    ROUTE_UNANSWERED = (
        "RouteUnanswered",
        "No gateway says anything of the routes; traffic stays as it is.",
        "Look whether the Gateway of spec.traffic.gateway exists, and whether the gateway's controller runs.",
    )
    HOSTNAME_TAKEN = (
        "HostnameTaken",
        "Another ModelDeployment has one of the hostnames at this Gateway, and keeps it.",
        "Choose another hostname, or remove the ModelDeployment that the message names: this one goes on by itself.",
    )
    METRICS_UNREACHABLE = (
        "MetricsUnreachable",
        "Prometheus does not answer; the rollout holds: it neither goes on nor back.",
        "Bring Prometheus back, or check the address in the operator's settings. The rollout goes on by itself.",
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
    DRIFT_DETECTED = (
        "DriftDetected",
        (
            "Inputs or outputs no longer look like the profile: in a rollout under both arms, at rest under the stable "
            "revision. The world moved, not the candidate."
        ),
        (
            "Look at what status.drift names, at the data first: a broken field drifts too. If the world changed, "
            "train anew (command retrain, where the spec names a webhook)."
        ),
    )
    DRIFT_ENDED = (
        "DriftEnded",
        "Inputs and outputs look like the profile again.",
        "Nothing.",
    )
    RETRAINING_REQUESTED = (
        "RetrainingRequested",
        "The webhook for retraining was called.",
        "Nothing.",
    )
    RETRAINING_FAILED = (
        "RetrainingFailed",
        "The webhook for retraining could not be called.",
        "Read the message; command retrain once the webhook answers.",
    )
    GUARD_WARNED = (
        "GuardWarned",
        "A guard with onBreach Warn is in breach; the rollout goes on.",
        "Read the message: it has value and bound. Command abort if users shall not meet it.",
    )
    WORLD_MOVED = (
        "WorldMoved",
        "Both arms break the same bound at the same time: the step is held, the candidate is not blamed.",
        (
            "Look at what both revisions share: clients, data, dependencies, nodes. It goes on by itself once the "
            "guards pass."
        ),
    )
    WEIGHT_NOT_EFFECTIVE = (
        "WeightNotEffective",
        "The arms do not get the shares of the requests that the routes ask for: the step is held.",
        (
            "Look whether every proxy of the gateway has the newest routes: one that lost the gateway's control plane "
            "goes on with old weights (restart it). Else something changes the weights on the way."
        ),
    )
    SERIES_MISSING = (
        "SeriesMissing",
        "A series that a guard needs is not in Prometheus, or does not see all requests: it may hold the rollout.",
        "Read the message: it names guard and series, and what to look at. Mend that, or change the guard.",
    )
    OBSERVER_MISSING = (
        "ObserverMissing",
        "The spec asks for observation and this namespace has no observer: nothing is counted, drift is not known.",
        "Add the namespace to the Helm value observer.namespaces, or remove spec.observation. Users lose nothing.",
    )
    NOT_COPIED = (
        "NotCopied",
        "There is an observer and something keeps the copies of requests from it: nothing is counted.",
        (
            "Remove or rename what the message names (a Service of somebody else called `<name>--observer`), or grant "
            "the permission it names. Copies begin by themselves."
        ),
    )
    PROFILE_UNUSABLE = (
        "ProfileUnusable",
        "The observer gets copies and cannot use the profile: nothing is counted by it, drift is not known.",
        (
            "Mend what spec.observation.profile names; the log of deploy/modelrollout-observer says what is wrong with "
            "it. A ConfigMap is read again every minute."
        ),
    )
    GATE_WARNED = (
        "GateWarned",
        "A gate failed that only warns; the attempt goes on.",
        "Read the message.",
    )
    GATE_SKIPPED = (
        "GateSkipped",
        "A gate that the spec asks for could not be applied and was left out; the attempt goes on without it.",
        "Read the message. Load: record a golden set, whose requests are sent then.",
    )
    GATE_RETRYING = (
        "GateRetrying",
        "A gate cannot be passed yet: it is tried again until progressDeadline, and the candidate gets no traffic.",
        "Mend what the message names (a ConfigMap, a permission, a pod). The rollout goes on by itself.",
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


class AttemptReason(StrEnum):
    """Reasons of an attempt: why it ended, or what it waits for."""

    meaning: str
    action: str

    def __new__(cls, value: str, meaning: str, action: str = "Nothing.") -> Self:
        """A member is its word; the texts are attributes of it."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        member.action = action
        return member

    PROMOTED = "Promoted", "Every step and the bake passed."
    FIRST_DEPLOYMENT = "FirstDeployment", "Nothing served before: the revision got all traffic after its gates."
    GUARD_BREACHED = (
        "GuardBreached",
        (
            "A guard with onBreach Rollback was outside its bounds often enough. The message has value, threshold "
            "and samples."
        ),
        "Look at why the model is worse; `kubectl modelrollout explain` has the query.",
    )
    GATES_FAILED = (
        "GatesFailed",
        (
            "A gate could not be passed within progressDeadline: a pod did not answer, or a golden set in a ConfigMap "
            "was not there or could not be used. It never had traffic."
        ),
        "The message names the gate and what it waited for. Mend that, then command retry.",
    )
    CONTRACT_BROKEN = (
        "ContractBroken",
        "Inputs or outputs changed in a breaking way without a new MAJOR version. It never had traffic.",
        "Give the model a new MAJOR version, or restore the contract; the message is the difference.",
    )
    GOLDEN_SET_FAILED = (
        "GoldenSetFailed",
        (
            "The candidate answered stored requests otherwise than expected, or the set in its own config.pbtxt cannot "
            "be used. It never had traffic."
        ),
        "Correct the model, or record the set anew. A ConfigMap that was mended is read again after the command retry.",
    )
    LOAD_TEST_FAILED = (
        "LoadTestFailed",
        "The candidate was too slow or failed requests in the burst before its traffic.",
        "Give the pods more room, or look at the model.",
    )
    WORLD_MOVED = (
        "WorldMoved",
        "Both arms break the same bound: a person is waited for.",
        "Look at what both revisions share, then command promote or abort.",
    )
    WEIGHT_NOT_EFFECTIVE = (
        "WeightNotEffective",
        "The arms do not get the shares that the routes ask for: a person is waited for.",
        "See condition WeightEffective, then command promote or abort.",
    )
    PROGRESS_DEADLINE_EXCEEDED = (
        "ProgressDeadlineExceeded",
        "The candidate's pods got no nearer to ready for progressDeadline.",
        "The message names what stops them: an image, a volume, a download, no room on the pool, or the model itself.",
    )
    CANDIDATE_UNAVAILABLE = (
        "CandidateUnavailable",
        "The candidate lost all its ready pods too often (a gate may kill them), or in the bake.",
        "Look at its pods: crashes, evictions, out of memory.",
    )
    INTERRUPTED = (
        "Interrupted",
        (
            "Traffic that the attempt had was taken off without a stored reason: a rollback was cut off, or somebody "
            "edited a route."
        ),
        "If nobody edited the routes, command retry.",
    )
    GUARD_QUERY_INVALID = "GuardQueryInvalid", "The query of a guard can never be judged.", "Correct the query."
    SPEC_INVALID = (
        "SpecInvalid",
        "The spec became unusable during the attempt.",
        "Correct the field that the message names.",
    )
    SUPERSEDED = "Superseded", "Another revision was asked for during the attempt."
    ABORTED = "Aborted", "The spec went back to the revision that serves."
    SCALED_TO_ZERO = "ScaledToZero", "replicas became 0 during the attempt; it begins anew when there are pods again."
    SHADOW_OVER = "ShadowOver", "A shadow with then: End is over.", "Read its guards; apply another strategy, or retry."
    ABORT_COMMANDED = "AbortCommanded", "The command abort was given.", "Command retry for another attempt."
    ROLLBACK_COMMANDED = "RollbackCommanded", "The command rollback was given.", "Command retry to go back again."
    APPROVED = "Approved", "A person let the attempt go on."
    APPROVAL_STEP = "ApprovalStep", "The step waits for a person.", "Command promote or abort."
    GUARD_PAUSED = (
        "GuardPaused",
        "A guard with onBreach Pause is outside its bounds: a person is waited for.",
        "Look at status.rollout.guards, then command promote or abort.",
    )
    NO_DATA = (
        "NoData",
        "Guards had no data for noDataDeadline: a person is waited for.",
        "Find out why the series are missing, then command promote or abort.",
    )
    STEPS_LOWERED = (
        "StepsLowered",
        "The steps were edited to less than users have already: a person is waited for.",
        "Command promote to go on to all traffic, or abort.",
    )
