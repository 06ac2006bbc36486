"""The checks of guards that need no Prometheus: a query that can never work is a spec error."""

from __future__ import annotations

from modelrollout.api.base import clean
from modelrollout.api.modeldeployment import ModelDeployment
from modelrollout.evidence.promql import QueryError, compile_query

EXAMPLE_HASH = "0123456789"


def guards_problem(deployment: ModelDeployment, enforce_namespace: bool = True) -> str | None:
    """The sentence that says which guard's query cannot be used and why; None where all can."""
    metadata = deployment.metadata
    example = f"{metadata.name}-{EXAMPLE_HASH}"
    for guard in deployment.spec.rollout.guards:
        if guard.query is None:
            continue
        try:
            compile_query(
                guard.query, metadata.namespace, metadata.name, example, example, guard.window, enforce_namespace
            )
        except QueryError as error:
            return clean(f"guard {guard.name}: {error}", 500)
    return None
