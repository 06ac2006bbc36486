"""What is true of every plan, whatever was asked for and seen."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

from modelrollout.api.modeldeployment import ModelDeployment, OnBreach
from modelrollout.api.status import ModelDeploymentStatus, Phase, Verdict
from modelrollout.api.strategies import Strategy
from modelrollout.rollout.observed import GateState, Observed
from modelrollout.rollout.plan import ARMED, WHOLE, Plan, RoutePlan

SILENT = (Verdict.NO_DATA, Verdict.PROVIDER_DOWN)


def broken(
    wish: ModelDeployment, status: ModelDeploymentStatus, seen: Observed, plan: Plan, verdict: Verdict = Verdict.PASS
) -> list[str]:
    """The sentences that ``plan`` does not keep; ``verdict`` is what all guards say."""
    return [*_about_route(wish, status, seen, plan, verdict), *_about_pods(wish, status, seen, plan)]


def weights(route: RoutePlan) -> dict[str, int]:
    """Parts per million by revision."""
    found: dict[str, int] = {}
    for slot in route.slots:
        name = slot.revision or route.stable
        found[name] = found.get(name, 0) + slot.weight
    return found


def _about_route(
    wish: ModelDeployment, status: ModelDeploymentStatus, seen: Observed, plan: Plan, verdict: Verdict
) -> Iterator[str]:
    route, live = plan.route, seen.route
    if route is None:
        return
    new = weights(route)
    if sum(slot.weight for slot in route.slots) != WHOLE or min(slot.weight for slot in route.slots) < 0:
        yield f"the weights of {route.slots} do not sum to the whole"
    if any(slot.weight for slot in route.slots if slot.revision is None):
        yield "an empty slot has weight"
    if route.mirror is not None and new.get(route.mirror.revision, 0) > ARMED:
        yield f"{route.mirror.revision} gets copies and users"
    nobody = wish.spec.replicas == 0 or not any(pods.ready for pods in seen.workloads.values())
    gap = _recreating(wish, status)
    trial = status.rollout.revision if status.rollout is not None else None
    for name, weight in new.items():
        before = live.weight_of(name)
        pods = seen.workload(name)
        if weight <= before + ARMED or live.backends is None:
            continue
        if pods.ready == 0 and not (nobody or gap):
            yield f"{name} rises to {weight} without ready pods"
        if before == 0 and live.weights:
            yield f"{name} rises from nothing to {weight}"
        if name != trial or status.phase is Phase.ROLLING_BACK or plan.status.phase is Phase.ROLLING_BACK:
            continue
        yield from _risen(wish, status, seen, plan, verdict, name, weight)
    yield from _fallen(seen, route, exempt=nobody or gap)


def _fallen(seen: Observed, route: RoutePlan, *, exempt: bool) -> Iterator[str]:
    """A revision loses all its users, or its place while it has some."""
    live, new = seen.route, weights(route)
    for name, before in live.weights.items():
        if before > ARMED and new.get(name, 0) == 0 and seen.workload(name).ready and not exempt:
            yield f"{name} falls from {before} to nothing"
    if live.backends is not None:
        for slot, backend in zip(route.slots, live.backends, strict=True):
            if backend.weight > ARMED and (slot.revision or route.stable) != backend.revision:
                yield f"{backend.revision} loses its slot with {backend.weight}"


def _risen(
    wish: ModelDeployment,
    status: ModelDeploymentStatus,
    seen: Observed,
    plan: Plan,
    verdict: Verdict,
    name: str,
    weight: int,
) -> Iterator[str]:
    """The revision on trial gets more users."""
    gate = seen.gates.get(name)
    attempt = plan.status.rollout
    if status.revisions.stable is None or attempt is None:
        return
    if gate is None or gate.state is not GateState.PASSED:
        yield f"{name} gets users without its gates"
    if seen.route.probed and (seen.probe is None or name not in seen.probe.seen):
        yield f"{name} gets users before the gateway knows it"
    if seen.workload(name).ready < _need(wish, weight):
        yield f"{name} rises to {weight} with {seen.workload(name).ready} ready pods of {wish.spec.replicas}"
    let_go = attempt.approved or attempt.full or not wish.spec.rollout.guards
    first = seen.route.weight_of(name) <= ARMED and status.phase in (Phase.VERIFYING, Phase.ARMING)
    told = seen.evaluation is None or any(each.verdict in SILENT for each in seen.evaluation.results)
    if verdict in SILENT and told and not let_go and not (first and verdict is Verdict.NO_DATA):
        known = [guard for guard in wish.spec.rollout.guards if guard.on_breach is not OnBreach.WARN]
        if known and all(guard.from_step is None and guard.to_step is None for guard in known) and _judged(status):
            yield f"{name} rises to {weight} although the guards say {verdict}"


def _judged(status: ModelDeploymentStatus) -> bool:
    """Whether the stage in force has requests to judge by (steps of pods alone have none)."""
    return status.rollout is not None and status.rollout.traffic_started_at is not None


def _about_pods(wish: ModelDeployment, status: ModelDeploymentStatus, seen: Observed, plan: Plan) -> Iterator[str]:
    if wish.spec.replicas == 0:
        yield from (f"{each.revision} has pods with replicas 0" for each in plan.workloads if each.replicas)
        return
    sizes = {each.revision: each.replicas for each in plan.workloads}
    if set(sizes) & set(plan.retire):
        yield "a revision is kept and retired"
    for name in plan.retire:
        if seen.route.weight_of(name):
            yield f"{name} is retired with {seen.route.weight_of(name)}"
    exempt = {status.revisions.stable, status.revisions.last_good} if _recreating(wish, status) else set()
    if status.rollout is not None and _recreating(wish, status):
        exempt.add(status.rollout.revision)
    for name, pods in sizes.items():
        old, weight = seen.workload(name).desired or 0, seen.route.weight_of(name)
        # A pod for a place that is only armed is kept too, but by what the plan says, not by its share.
        if pods < min(old, _need(wish, weight) if weight else 0) and name not in exempt:
            yield f"{name} shrinks to {pods} with {weight}"
        if pods < 0 or pods > wish.spec.replicas:
            yield f"{name} has {pods} pods of {wish.spec.replicas}"


def _need(wish: ModelDeployment, weight: int) -> int:
    replicas, rollout = wish.spec.replicas, wish.spec.rollout
    tight = rollout.canary is not None and rollout.canary.surge(max(replicas, 1)) == 0
    return max(ceil(replicas * (weight - 1) / WHOLE) - tight, 0)


def _recreating(wish: ModelDeployment, status: ModelDeploymentStatus) -> bool:
    by = status.rollout.strategy if status.rollout is not None else ""
    return Strategy.RECREATE in (wish.spec.rollout.strategy, by)
