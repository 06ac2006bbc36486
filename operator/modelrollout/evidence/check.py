"""The checks of guards that need no Prometheus: a guard that can never be judged is a spec error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from modelrollout.api.base import clean
from modelrollout.api.durations import format_duration
from modelrollout.api.guard import Guard
from modelrollout.api.modeldeployment import ModelDeployment
from modelrollout.api.observation import LABELS_TOO_LATE, Observation
from modelrollout.api.rolloutpolicy import SliDefinition
from modelrollout.evidence.context import Context
from modelrollout.evidence.promql import QueryError, compile_query
from modelrollout.evidence.queried import CatalogError, Part, QueryIndicator
from modelrollout.evidence.sequential import check_testable
from modelrollout.evidence.slis import Indicator, catalog, find
from modelrollout.rollout.plan import EvaluationRequest, Source
from modelrollout.rollout.strategies import Stage, course_of

EXAMPLE_HASH = "0123456789"
DEFAULT_PROFILE = "envoy-gateway"
LONGEST_OF_COUNTERS = timedelta(hours=1)

_WHY_COMPARED = "relativeTo and confidence weigh the counts of an arm's requests, and there are none of"

_NO_LABELS = "labelDelay is for SLIs of labels (accuracy, precision, recall, calibration-error), not {}: remove it"


def guards_problem(
    deployment: ModelDeployment,
    enforce_namespace: bool = True,
    profile: str = DEFAULT_PROFILE,
    definitions: tuple[SliDefinition, ...] = (),
) -> str | None:
    """The sentence that says which guard cannot be used and why; None where all can.

    ``definitions`` are SLIs of policies that the guards may use.
    """
    metadata = deployment.metadata
    example = f"{metadata.name}-{EXAMPLE_HASH}"
    stages = [stage for stage in course_of(deployment.spec.rollout).stages if stage.guarded]
    request = EvaluationRequest(1, example, example, 0, datetime(2000, 1, 1, tzinfo=UTC), timedelta(seconds=1))
    context = Context.of(deployment, request, profile, definitions, enforce_namespace)
    for guard in deployment.spec.rollout.guards:
        try:
            if guard.query is not None:
                compile_query(
                    guard.query, metadata.namespace, metadata.name, example, example, guard.window, enforce_namespace
                )
            else:
                _check_sli(guard, stages, deployment, context)
        except (QueryError, CatalogError) as error:
            return clean(f"guard {guard.name}: {error}", 500)
    return None


def _check_sli(guard: Guard, stages: Sequence[Stage], deployment: ModelDeployment, context: Context) -> None:
    """Refuse an SLI that is not known, that cannot be used so, or that a stage's requests cannot show."""
    watched = (
        stage for stage in stages if (guard.from_step or 0) <= stage.canary_step <= (guard.to_step or stage.canary_step)
    )
    for source in dict.fromkeys(stage.source for stage in watched) or (Source.WEIGHTED,):
        here = replace(context, source=source)
        entry = find(guard.sli or "", here)
        if isinstance(entry, QueryIndicator):
            _check_query(guard, entry, deployment.spec.observation, here)
            return
        _check_counters(guard, entry, here)


def _check_counters(guard: Guard, entry: Indicator, context: Context) -> None:
    check_testable(guard, entry)
    if guard.where:
        raise CatalogError(f"where means nothing to {guard.sli}, which counts all requests of the arm: remove it")
    if guard.label_delay:
        raise CatalogError(_NO_LABELS.format(guard.sli))
    if guard.window > LONGEST_OF_COUNTERS:
        raise CatalogError(
            f"the window of {guard.sli} is at most {format_duration(LONGEST_OF_COUNTERS)}: it is made of raw samples"
        )
    for protocol in context.protocols:
        catalog(context.profile).names(protocol, context)


def _check_query(guard: Guard, entry: QueryIndicator, observation: Observation | None, context: Context) -> None:
    if guard.relative_to is not None or guard.confidence is not None:
        raise CatalogError(f"{_WHY_COMPARED} {guard.sli}: remove them and give max or min")
    if guard.min_samples and entry.samples is None:
        raise CatalogError(f"minSamples needs the query `samples` in the definition of the SLI {guard.sli}")
    if guard.label_delay and not entry.quality and entry.origin != "policy":
        raise CatalogError(_NO_LABELS.format(guard.sli))
    lacking = [part for part in entry.requires if observation is None or not _has(observation, part)]
    if lacking:
        parts = " and ".join(f"spec.observation.{part}" for part in lacking)
        raise CatalogError(f"{guard.sli} needs {parts}: without it the observer counts nothing of it")
    if observation is not None and observation.label_is_late(guard.label_delay):
        raise CatalogError(LABELS_TOO_LATE)
    for text in entry.texts():
        entry.compiled(text, context, guard.window, guard.where)


def _has(observation: Observation, part: Part) -> bool:
    return getattr(observation, part) is not None
