"""What a plan needs of the outside besides the object: the operator's settings, the nodes, today's values."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from modelrollout.api.guard import Guard
from modelrollout.api.modeldeployment import ModelDeployment, revision_name
from modelrollout.api.modelrevision import revision_spec
from modelrollout.api.status import GuardStatus
from modelrollout.cli.failing import Complaint
from modelrollout.cli.view.capacity import Room, room
from modelrollout.cli.view.plan import Checked
from modelrollout.evidence.check import DEFAULT_PROFILE, guards_problem
from modelrollout.evidence.context import Context
from modelrollout.evidence.policies import Resolution
from modelrollout.evidence.resolve import resolve_guards
from modelrollout.ports import PortError
from modelrollout.render import workload
from modelrollout.render.revision import Revision, materials
from modelrollout.rollout.draft import evaluation_request
from modelrollout.rollout.observed import GuardResult, Observed, statuses_of
from modelrollout.rollout.plan import EvaluationRequest
from modelrollout.rollout.situation import Situation
from modelrollout.settings import Pool, Prometheus, Settings, SettingsError, load, parse

if TYPE_CHECKING:
    from modelrollout.adapters.userclient import UserClient
    from modelrollout.cli.view.snapshot import Snapshot

OPERATOR = "app.kubernetes.io/component=operator"
SETTINGS_KEY = "settings.yaml"
LONG_AGO = timedelta(hours=2)
"""Since when, at least, what serves has had its traffic; longer ago for guards that look further back."""


@dataclass(frozen=True)
class Known:
    """The operator's settings, or the sentence that says why they are not known."""

    settings: Settings | None
    note: str = ""


def operator_settings(client: UserClient | None, namespace: str, path: Path | None) -> Known:
    """From the file, else from the ConfigMap of the operator that looks after ``namespace``."""
    if path is not None:
        try:
            return Known(load(path))
        except SettingsError as error:
            raise Complaint(str(error)) from error
    if client is None:
        return Known(None, "the operator's settings are not known without a cluster: give --settings")
    try:
        found, _ = client.list_objects("ConfigMap", None, OPERATOR)
    except PortError as error:
        return Known(None, f"the operator's settings cannot be read ({error}): give --settings")
    for item in found:
        text = (item.get("data") or {}).get(SETTINGS_KEY)
        if not text:
            continue
        try:
            settings = parse(text, f"ConfigMap {item['metadata']['namespace']}/{item['metadata']['name']}")
        except SettingsError as error:
            return Known(None, f"the operator's settings cannot be used: {error}")
        if not settings.namespaces or namespace in settings.namespaces:
            return Known(settings)
    return Known(None, "no ConfigMap of an operator that looks after this namespace was found: give --settings")


def guards_problem_of(resolution: Resolution, settings: Settings | None) -> str | None:
    """Why a guard can never be judged by an operator with these settings (None: the defaults); None where all can."""
    profile = profile_of(resolution.wish, settings) or DEFAULT_PROFILE
    problem = guards_problem(resolution.wish, enforces(settings), profile, resolution.definitions)
    return resolution.explained(problem)


def enforces(settings: Settings | None) -> bool:
    """Whether queries are kept inside their namespace."""
    return settings is None or settings.enforce_namespace


def free_room(
    client: UserClient | None, wish: ModelDeployment, settings: Settings | None, extra: int
) -> tuple[Room | None, str]:
    """The room on the pool's nodes, or why it is not known; both where it is known in part."""
    if client is None:
        return None, "free room is not known without a cluster"
    name, metadata = revision_name(wish.metadata.name, wish.spec), wish.metadata
    spec = revision_spec(metadata.name, wish.spec)
    revision = Revision(name, metadata.namespace, "", metadata.name, spec)
    made_with = materials(revision, settings or Settings(pools={wish.spec.pool: Pool()}))
    note = (
        "" if settings is not None else "the pool is not known: nodes are taken without its labels, taints and requests"
    )
    if made_with is None:
        return None, f"the operator's settings have no pool {wish.spec.pool}"
    if not (spec.runtime.image or made_with.pool.image):
        # Which image it is does not matter for the room; that it is missing is said elsewhere.
        made_with = replace(made_with, pool=made_with.pool.model_copy(update={"image": "unknown"}))
    if not made_with.operator_image:
        made_with = replace(made_with, operator_image="unknown")
    pod = workload.pod(revision, made_with)
    try:
        nodes, _ = client.list_objects("Node", None)
        pods, _ = client.list_objects("Pod", None, field="status.phase!=Succeeded,status.phase!=Failed")
    except PortError as error:
        return None, f"free room cannot be read: {error}"
    return room(pod, extra, nodes, pods), note


def checked_guards(
    resolution: Resolution,
    live: Snapshot | None,
    settings: Settings | None,
    url: str | None,
    now: datetime,
) -> tuple[tuple[Checked, ...], str]:
    """Every guard with its queries, and today's values of what serves where a Prometheus answers."""
    wish = resolution.wish
    rollout = wish.spec.rollout
    if not rollout.guards:
        return (), "unguarded: traffic moves by time alone" if rollout.unguarded else "no guard is known here"
    origins = {origin.guard: origin for origin in resolution.origins}
    request = _request(wish, live, now)
    profile = profile_of(wish, settings)
    trial = Context.of(wish, request, profile, resolution.definitions, enforces(settings))
    resolved = tuple(found for guard in rollout.guards for found in resolve_guards((guard,), _aged(trial, guard), now))
    stable = live.status.revisions.stable if live is not None else None
    prometheus, note = prometheus_of(rollout.prometheus, settings, url)
    if prometheus is None:
        return tuple(Checked(each, None, origins.get(each.guard.name)) for each in resolved), note
    served = trial.other if stable else trial
    asked: dict[Context, list[Guard]] = {}
    for guard in rollout.guards:
        asked.setdefault(_aged(served, guard), []).append(guard)
    results = asyncio.run(_ask(asked, request, prometheus, now))
    values = {result.name: result for result in results}
    told = (
        f"today's values are those of {stable}, which serves"
        if stable
        else "nothing serves yet: values come with traffic"
    )
    told = f"{told}; asked {prometheus.url}"
    return tuple(Checked(each, values.get(each.guard.name), origins.get(each.guard.name)) for each in resolved), told


def live_guards(snapshot: Snapshot, url: str) -> tuple[GuardStatus, ...]:
    """What the guards of the attempt under way say now, asked as the operator asks; empty where it asks nothing."""
    request = _as_the_operator(snapshot)
    if snapshot.wish is None or request is None:
        return ()
    prometheus, _ = prometheus_of("", None, url)
    if prometheus is None:
        return ()
    context = Context.of(snapshot.wish, request, profile_of(snapshot.wish, None), snapshot.definitions)
    asked = {context: snapshot.wish.spec.rollout.guards}
    results = asyncio.run(_ask(asked, request, prometheus, snapshot.now))
    return statuses_of(results)


def _as_the_operator(snapshot: Snapshot) -> EvaluationRequest | None:
    attempt, desired = snapshot.under_way, snapshot.status.revisions.desired
    if snapshot.wish is None or attempt is None or attempt.traffic_started_at is None or desired is None:
        return None
    return evaluation_request(Situation(snapshot.wish, desired, snapshot.status, Observed(), snapshot.now))


def _request(wish: ModelDeployment, live: Snapshot | None, now: datetime) -> EvaluationRequest:
    """The question about the revision that would be tried, in the slot that what serves leaves it."""
    name = revision_name(wish.metadata.name, wish.spec)
    stable = live.status.revisions.stable if live is not None else None
    places = {entry.revision: entry.slot for entry in live.status.traffic} if live is not None else {}
    return EvaluationRequest(
        attempt=0,
        revision=name,
        stable=stable or name,
        slot=1 - places.get(stable, 0) if stable else 0,
        since=now - LONG_AGO,
        interval=wish.spec.rollout.evaluation_interval,
        guards=tuple(guard.name for guard in wish.spec.rollout.guards),
    )


def profile_of(wish: ModelDeployment, settings: Settings | None) -> str | None:
    """The SLI catalog of its gateway; None where it has no gateway."""
    gateway = wish.spec.traffic.gateway
    if gateway is None:
        return None
    return str((settings or Settings()).gateway(gateway.namespace or wish.metadata.namespace, gateway.name).profile)


def prometheus_of(name: str, settings: Settings | None, url: str | None) -> tuple[Prometheus | None, str]:
    """The one at ``url``, else the one of that name in the settings; None and why where there is none."""
    if url is not None:
        try:
            return Prometheus(url=url), ""
        except ValueError:
            raise Complaint(f"--prometheus {url} is not a base address like http://localhost:9090", 2) from None
    if settings is None or name not in settings.prometheus:
        return None, "no Prometheus is known: give --prometheus URL to see today's values"
    return settings.prometheus[name], ""


def _aged(context: Context, guard: Guard) -> Context:
    """As if traffic had begun so long ago that all evaluations of ``guard`` have their whole window."""
    needed = guard.window + guard.silent_for + guard.of * context.interval
    return replace(context, since=min(context.since, context.since + LONG_AGO - needed))


async def _ask(
    asked: Mapping[Context, Sequence[Guard]], request: EvaluationRequest, settings: Prometheus, now: datetime
) -> tuple[GuardResult, ...]:
    """The results of the guards, each asked in its context."""
    from modelrollout.adapters.prometheus import PrometheusMetrics
    from modelrollout.controller.evaluation import evaluate

    metrics = PrometheusMetrics(settings)
    try:
        found = [
            await evaluate(metrics, guards, context, request, _At(now), with_arms=False)
            for context, guards in asked.items()
        ]
    finally:
        await metrics.close()
    return tuple(result for evaluation in found for result in evaluation.results)


class _At:
    """A clock that stands still: the API server's time, as a laptop's may be off."""

    def __init__(self, now: datetime) -> None:
        self._now = now

    def now(self) -> datetime:
        """The time of the question."""
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Nobody waits for this clock."""
        await asyncio.sleep(seconds)
