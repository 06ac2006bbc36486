"""The checks of guards that need no Prometheus: a guard that can never be judged is a spec error."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from modelrollout.api.base import clean
from modelrollout.api.guard import Guard
from modelrollout.api.modeldeployment import ModelDeployment
from modelrollout.api.rolloutpolicy import SliDefinition
from modelrollout.evidence.context import Context
from modelrollout.evidence.promql import QueryError, compile_query
from modelrollout.evidence.queried import QueryIndicator
from modelrollout.evidence.slis import CatalogError, catalog, find
from modelrollout.rollout.plan import EvaluationRequest
from modelrollout.rollout.strategies import Stage, course_of

EXAMPLE_HASH = "0123456789"
DEFAULT_PROFILE = "envoy-gateway"


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
    for guard in deployment.spec.rollout.guards:
        try:
            if guard.query is None:
                _check_sources(guard, stages, deployment, example, profile, definitions)
            else:
                compile_query(
                    guard.query, metadata.namespace, metadata.name, example, example, guard.window, enforce_namespace
                )
        except (QueryError, CatalogError) as error:
            return clean(f"guard {guard.name}: {error}", 500)
    return None


def _check_sources(
    guard: Guard,
    stages: Sequence[Stage],
    deployment: ModelDeployment,
    example: str,
    profile: str,
    definitions: tuple[SliDefinition, ...],
) -> None:
    """Refuse an SLI that a stage of the strategy would judge by requests that cannot show it."""
    any_time = datetime(2000, 1, 1, tzinfo=UTC)
    watched = (
        stage for stage in stages if (guard.from_step or 0) <= stage.canary_step <= (guard.to_step or stage.canary_step)
    )
    for source in dict.fromkeys(stage.source for stage in watched):
        request = EvaluationRequest(1, example, example, 0, any_time, timedelta(seconds=1), source=source)
        context = Context.of(deployment, request, profile, definitions)
        if isinstance(find(guard.sli or "", context), QueryIndicator):
            return
        for protocol in context.protocols:
            catalog(context.profile).names(protocol, context)
