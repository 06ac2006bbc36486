"""What a plan warns of by today's values: bounds that what serves does not keep, guards that would see too little."""

from __future__ import annotations

from collections.abc import Sequence

from modelrollout.api.durations import format_duration
from modelrollout.api.guard import Guard, OnBreach
from modelrollout.api.modeldeployment import ModelDeployment
from modelrollout.api.status import Verdict
from modelrollout.cli.view.plan import Checked
from modelrollout.cli.view.progress import label
from modelrollout.cli.view.snapshot import Snapshot
from modelrollout.cli.view.text import amount
from modelrollout.rollout.observed import GuardResult
from modelrollout.rollout.plan import WHOLE
from modelrollout.rollout.strategies import Stage, course_of

_OBSERVER = "modelrollout_observer_"
DOES = {
    OnBreach.ROLLBACK: "would be taken back",
    OnBreach.PAUSE: "would wait for a person",
    OnBreach.WARN: "would be warned of",
}


def cautions(wish: ModelDeployment, live: Snapshot | None, checked: Sequence[Checked]) -> tuple[str, ...]:
    """One sentence a finding, for a rollout beside what serves in ``live``."""
    share = _share(live)
    if share <= 0:
        return ()
    stages = [stage for stage in course_of(wish.spec.rollout).stages if stage.weight or stage.mirror]
    found = []
    for each in checked:
        if each.result is None:
            continue
        found += _breach(each.resolved.guard, each.result)
        found += _silence(wish, each, each.result, share, stages)
    return tuple(found)


def _share(live: Snapshot | None) -> float:
    """The share of the requests that what serves gets now, by whose count today's values are."""
    if live is None:
        return 0.0
    stable = live.status.revisions.stable
    return next((entry.weight / 100 for entry in live.status.traffic if entry.revision == stable), 0.0)


def _breach(guard: Guard, result: GuardResult) -> list[str]:
    if result.verdict is not Verdict.BREACH:
        return []
    value = f"{amount(result.value)}, must be {result.threshold}"
    then = f"an equal candidate {DOES[guard.on_breach]}"
    return [f"guard {guard.name}: what serves now is outside its bound ({value}): {then}"]


def _silence(
    wish: ModelDeployment, each: Checked, result: GuardResult, share: float, stages: Sequence[Stage]
) -> list[str]:
    """The steps in which the guard would get fewer requests than it needs, at today's rate."""
    guard = each.resolved.guard
    if not guard.min_samples or result.samples is None:
        return []
    deadline = format_duration(wish.spec.rollout.no_data_deadline)
    needs = f"guard {guard.name} needs {guard.min_samples} requests in {format_duration(guard.window)}"
    ends = f"no data, and after {deadline} the step waits for a person"
    if any(_OBSERVER in query for query in each.resolved.queries.values()):
        # The observer gets copies of all requests and asks both arms, whatever their weights.
        few = result.samples < guard.min_samples
        return [f"{needs}; the observer gives it about {result.samples:.0f}, at any weight: {ends}"] if few else []
    whole = result.samples / share
    short = [
        stage
        for stage in stages
        if (guard.from_step or 0) <= stage.canary_step <= (guard.to_step or stage.canary_step)
        and whole * (stage.weight or stage.mirror) / WHOLE < guard.min_samples
    ]
    if not short:
        return []
    least = short[0]
    expected = whole * (least.weight or least.mirror) / WHOLE
    sees = f"at {label(least)} it would see about {amount(expected, 2)} of today's {whole:.0f}"
    return [f"{needs}; {sees}: {ends}"]
