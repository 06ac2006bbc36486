"""What each phase and each reason of an attempt means, and what a person can do: one place for ``explain``."""

from __future__ import annotations

from modelrollout.api.status import Phase

PHASES = {
    Phase.PENDING: ("The operator has not begun with it.", "If it stays so, see whether the operator runs."),
    Phase.IDLE: ("Nothing is under way.", "Nothing. Apply another version to start a rollout."),
    Phase.PREPARING: (
        (
            "The pods of {revision} are being made; users do not meet it yet. They must get nearer to ready at least "
            "every {progress_deadline}, or the attempt is given up."
        ),
        "Nothing, unless a pod is in trouble.",
    ),
    Phase.VERIFYING: (
        (
            "The pods of {revision} are ready. Before users meet it, it must pass the warm gate (real inferences at "
            "each of its pods until their latency settles), and Prometheus must answer every guard once."
        ),
        "Nothing, unless the message names a gate or Prometheus.",
    ),
    Phase.ARMING: (
        (
            "{revision} passed its gates. The gateway was told of it, and traffic waits until the gateway answers "
            "with it: a request that comes before would be lost."
        ),
        "Nothing. If it lasts, see condition RouteAccepted and whether the gateway's proxies are well.",
    ),
    Phase.PROGRESSING: (
        (
            "{revision} is on trial. A step ends when its time is over, every guard passes and the pods for the next "
            "step are ready."
        ),
        "Nothing. skip-step ends the hold, promote --full all steps, pause freezes them, abort takes it back.",
    ),
    Phase.AWAITING_APPROVAL: (
        "The rollout waits for a person. Traffic stays as it is; guards stay on and still take {revision} back.",
        "promote lets it go on, abort takes it back; applying another spec does too.",
    ),
    Phase.PROMOTING: (
        "{revision} was given all traffic, and the gateway has not confirmed it yet.",
        "Nothing. If it lasts, see condition RouteAccepted and whether the gateway's proxies are well.",
    ),
    Phase.BAKING: (
        (
            "{revision} has all traffic. {last_good} is kept warm and the guards stay on until the bake is over; a "
            "breach goes back at once."
        ),
        "Nothing. skip-step ends the bake early, rollback goes back to {last_good}.",
    ),
    Phase.ROLLING_BACK: (
        "{revision} is being taken back: all traffic goes to {stable}; its pods go once the gateway confirmed that.",
        "Nothing. If it lasts, the message says what it waits for.",
    ),
    Phase.ROLLED_BACK: (
        "The revision that the spec asks for, {desired}, is quarantined: it gets no traffic until somebody says so.",
        "Apply a corrected version, apply the version that serves, or command retry to try the same one again.",
    ),
    Phase.INVALID: (
        "The spec cannot be carried out as it is. What serves goes on serving, nothing new is begun.",
        "Correct what the message names, or have the platform team add it to the operator's settings.",
    ),
}
"""What the phase means, and what to do."""

REASONS = {
    "GuardBreached": (
        "A guard with onBreach Rollback was in breach: outside its bound in as many of the last evaluations as it "
        "takes, or, with relativeTo or confidence, by counts that leave no more doubt than it allows. So the traffic "
        "was taken off in one write by the evaluation that showed it."
    ),
    "CandidateUnavailable": "It lost all its ready pods while users had it, so its traffic was taken off.",
    "ProgressDeadlineExceeded": (
        "Its pods got no nearer to ready for progressDeadline ({progress_deadline}). Users never met it, or were "
        "taken off it before."
    ),
    "GatesFailed": (
        "It did not pass one of its gates within progressDeadline ({progress_deadline}), and might have later: a pod "
        "did not answer, or a ConfigMap was not there or could not be used. Users never met it."
    ),
    "ContractBroken": (
        "Its inputs or outputs are not those of the revision that serves, and the version of the model has no new "
        "MAJOR number: clients would have broken. Users never met it."
    ),
    "GoldenSetFailed": "It answered stored requests otherwise than expected. Users never met it.",
    "LoadTestFailed": "It was too slow, or failed requests, in the burst before its traffic. Users never met it.",
    "WorldMoved": (
        "Both arms break the same bound at the same time, so it is not the candidate alone: the step is held and a "
        "person is asked."
    ),
    "WeightNotEffective": (
        "The requests do not reach the arms by the shares that the routes ask for, so neither the evidence nor how "
        "many users met it is what the steps say: a person is asked."
    ),
    "Interrupted": (
        "The routes had less traffic for it than the status says: either the operator was stopped in the middle of a "
        "rollback, or somebody edited the routes. A revision that may have been found bad gets no traffic again."
    ),
    "Superseded": "The spec changed while it was on trial, so another revision is tried instead.",
    "Aborted": "The spec went back to the revision that serves while it was on trial.",
    "AbortCommanded": "A person gave the command abort.",
    "RollbackCommanded": "A person gave the command rollback.",
    "SpecInvalid": "The spec became unusable while it was on trial.",
    "ScaledToZero": "The spec was scaled to 0 replicas while it was on trial; it is tried again when there are pods.",
    "ShadowOver": "It got copies of the users' requests for as long as the spec asks, and that is all it was to get.",
    "GuardQueryInvalid": "A guard's query can never give one number, so no traffic would ever be judged by it.",
    "GuardPaused": "A guard with onBreach Pause was outside its bound.",
    "NoData": (
        "A guard had no data for noDataDeadline ({no_data_deadline}). Silence is no evidence, for it or against it."
    ),
    "StepsLowered": "The steps were edited to less than users already have: whoever wants less may not want the rest.",
    "ApprovalStep": "The strategy asks for a person here.",
    "Approved": "A person let it go on.",
    "Promoted": "It passed every step and the bake.",
    "FirstDeployment": "Nothing served before, so there was nothing to compare it with: it got all "
    "traffic after its gates.",
}
"""What the reason of an attempt means."""
