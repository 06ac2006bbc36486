"""What live routes say: their weights, and whether the gateways took them. Also re-exports ``differs``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from modelrollout.api.base import clean
from modelrollout.render import names
from modelrollout.render.difference import differs
from modelrollout.render.reading import SENTENCE_LIMIT, Live, get, holds
from modelrollout.rollout.observed import Backend, Route
from modelrollout.rollout.plan import WHOLE

__all__ = ["RouteState", "backends_of", "differs", "observe_routes", "route_state"]


@dataclass(frozen=True)
class RouteState:
    """What the gateways say of one route's current generation."""

    accepted: bool
    rejection: str | None = None


def observe_routes(routes: Sequence[Live | None]) -> Route:
    """All routes of a ModelDeployment as one; an entry is None where a route that shall be is not there.

    Backends are None where a route is missing, is not in our shape, or the routes differ.
    """
    present = [route for route in routes if route]
    backends = {backends_of(route) for route in present}
    complete = bool(present) and len(present) == len(routes)
    states = [route_state(route) for route in present]
    sums = [_sums(pair) for pair in backends if pair]
    revisions = {revision for each in sums for revision in each}
    return Route(
        weights={revision: max(each.get(revision, 0) for each in sums) for revision in revisions},
        lowest={revision: min(each.get(revision, 0) for each in sums) for revision in revisions},
        backends=backends.pop() if complete and len(backends) == 1 else None,
        token=" ".join(_token(route) for route in present),
        accepted=complete and all(state.accepted for state in states),
        rejection=next((state.rejection for state in states if state.rejection), None),
    )


def _sums(pair: tuple[Backend, Backend]) -> dict[str, int]:
    # Weights are relative: 1 and 1, written by a person, is half the traffic each and nobody's armed weight.
    whole = sum(backend.weight for backend in pair) or WHOLE
    sums: dict[str, int] = {}
    for backend in pair:
        sums[backend.revision] = sums.get(backend.revision, 0) + round(backend.weight * WHOLE / whole)
    return sums


def backends_of(route: Live) -> tuple[Backend, Backend] | None:
    """The two slots of the weighted rule, in order; None where the rule is not as we write it.

    An empty slot reads as the stable revision with weight 0, which is how it is written.
    """
    rules = get(route, "spec", "rules") or [{}]
    references = rules[0].get("backendRefs") or []
    if len(references) != 2 or any((match or {}).get("headers") for match in rules[0].get("matches") or ()):
        return None
    first, second = (_backend(reference) for reference in references)
    return (first, second) if first and second else None


def _backend(reference: Live) -> Backend | None:
    """The backend, if its Service and its header filter name the same revision."""
    headers = [
        header.get("value")
        for entry in reference.get("filters") or ()
        for header in get(entry, "responseHeaderModifier", "set") or ()
        if str(header.get("name", "")).lower() == names.REVISION_HEADER
    ]
    name = reference.get("name")
    if not name or headers != [name]:
        return None
    return Backend(revision=str(name), weight=int(reference.get("weight", 1)))


def route_state(route: Live) -> RouteState:
    """Whether each of the route's own parents accepted and resolved this generation.

    A condition on an older generation counts as no word yet, neither acceptance nor rejection.
    """
    namespace = get(route, "metadata", "namespace")
    parents = [_parent_key(parent, namespace) for parent in get(route, "spec", "parentRefs") or ()]
    answers = get(route, "status", "parents") or ()
    generation = get(route, "metadata", "generation") or 0
    accepted = bool(parents)
    for parent in parents:
        entries = [entry for entry in answers if _parent_key(entry.get("parentRef") or {}, namespace) == parent]
        for entry in entries:
            rejection = _rejection(route, entry, generation)
            if rejection:
                return RouteState(accepted=False, rejection=rejection)
        accepted = accepted and any(_accepts(entry, generation) for entry in entries)
    return RouteState(accepted=accepted)


def _current(entry: Live, generation: int) -> Iterator[Live]:
    for condition in entry.get("conditions") or ():
        observed = condition.get("observedGeneration") or 0
        if condition.get("type") in ("Accepted", "ResolvedRefs") and observed >= generation:
            yield condition


def _accepts(entry: Live, generation: int) -> bool:
    found = {str(condition.get("type")) for condition in _current(entry, generation) if holds(condition, "True")}
    return found == {"Accepted", "ResolvedRefs"}


def _rejection(route: Live, entry: Live, generation: int) -> str | None:
    for condition in _current(entry, generation):
        if holds(condition, "False"):
            parent = get(entry, "parentRef", "name") or "?"
            said = f"{condition.get('reason', '')}: {condition.get('message', '')}"
            return clean(f"Gateway {parent} refuses the {route.get('kind', 'route')}: {said}", SENTENCE_LIMIT)
    return None


def _parent_key(parent: Live, namespace: str | None) -> tuple[Any, ...]:
    return (
        parent.get("kind") or "Gateway",
        parent.get("namespace") or namespace,
        parent.get("name"),
        parent.get("sectionName"),
        parent.get("port"),
    )


def _token(route: Live) -> str:
    return f"{route.get('kind')}/{get(route, 'metadata', 'uid')}@{get(route, 'metadata', 'generation')}"
