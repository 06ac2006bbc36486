"""What live routes say: weights, mirror, split, and whether the gateways took them. Also re-exports ``differs``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from modelrollout.api.base import clean
from modelrollout.api.modeldeployment import ModelDeployment
from modelrollout.render import names
from modelrollout.render.difference import differs
from modelrollout.render.reading import SENTENCE_LIMIT, Live, get, holds
from modelrollout.render.route import preview_kinds, route_kinds
from modelrollout.render.traffic_service import SERVICE, observe_service
from modelrollout.rollout.observed import Backend, Route
from modelrollout.rollout.plan import WHOLE

__all__ = [
    "RouteState",
    "backends_of",
    "differs",
    "mirror_of",
    "observe_routes",
    "observe_traffic",
    "observed_share",
    "route_state",
    "split_of",
]


@dataclass(frozen=True)
class RouteState:
    """What the gateways say of one route's current generation."""

    accepted: bool
    rejection: str | None = None


def observe_traffic(deployment: ModelDeployment, find: Callable[[str, str], Live | None]) -> Route:
    """Who gets the requests of ``deployment``; ``find(kind, name)`` gives a live object of its namespace.

    Objects that are not its own count as not there. A preview that a gateway refuses is told as a rejection, but it
    keeps nothing from being accepted: users are not sent there.
    """

    def own(kind: str, name: str) -> Live | None:
        live = find(kind, name)
        return live if live is not None and names.is_ours(live, deployment.metadata.uid) else None

    name = deployment.metadata.name
    if deployment.spec.traffic.gateway is None:
        return observe_service(own(SERVICE, name))
    route = observe_routes([own(kind, name) for kind in route_kinds(deployment)])
    previews = (own(kind, names.preview(name)) for kind in preview_kinds(deployment))
    refused = (route_state(preview).rejection for preview in previews if preview is not None)
    return replace(route, rejection=route.rejection or next((sentence for sentence in refused if sentence), None))


def observe_routes(routes: Sequence[Live | None]) -> Route:
    """All routes of a ModelDeployment as one; an entry is None where a route that shall be is not there.

    Backends are None where a route is missing, is not in our shape, or the routes differ, also in mirror or split.
    """
    present = [route for route in routes if route]
    backends = {backends_of(route) for route in present}
    mirrors, splits = {mirror_of(route) for route in present}, {split_of(route) for route in present}
    complete = bool(present) and len(present) == len(routes)
    alike = complete and len(backends) == len(mirrors) == len(splits) == 1
    states = [route_state(route) for route in present]
    sums = [_sums(pair) for pair in backends if pair]
    revisions = {revision for each in sums for revision in each}
    return Route(
        weights={revision: max(each.get(revision, 0) for each in sums) for revision in revisions},
        lowest={revision: min(each.get(revision, 0) for each in sums) for revision in revisions},
        backends=backends.pop() if alike else None,
        token=" ".join(_token(route) for route in present),
        accepted=complete and all(state.accepted for state in states),
        rejection=next((state.rejection for state in states if state.rejection), None),
        mirror=max((mirror for mirror in mirrors if mirror), key=lambda mirror: mirror[1], default=None),
        split=next((split for split in splits if split), None),
        observe=max((observed_share(route) for route in present), default=0),
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


def mirror_of(route: Live) -> tuple[str, int] | None:
    """Who gets copies of how many parts per million of the weighted rule's requests; the greatest of several.

    The observer's copies do not count: they are nobody's trial.
    """
    found = [mirror for mirror in _mirrors(route) if not names.leads_to_observer(mirror[0])]
    return max(found, key=lambda mirror: mirror[1], default=None)


def observed_share(route: Live) -> int:
    """Parts per million of the weighted rule's requests that are copied to the observer."""
    return max((share for name, share in _mirrors(route) if names.leads_to_observer(name)), default=0)


def _mirrors(route: Live) -> list[tuple[str, int]]:
    rules = get(route, "spec", "rules") or [{}]
    return [
        (str(get(mirror, "backendRef", "name")), _share(mirror))
        for mirror in (entry.get("requestMirror") for entry in rules[0].get("filters") or ())
        if mirror
    ]


def _share(mirror: Live) -> int:
    fraction = mirror.get("fraction")
    if fraction:
        return round(int(fraction.get("numerator") or 0) * WHOLE / int(fraction.get("denominator") or 100))
    return round(int(mirror.get("percent", 100)) * WHOLE / 100)


def split_of(route: Live) -> str | None:
    """The arm that the rules of an A/B test lead to; None unless every answer of both arms sets its cookie."""
    arm = get(route, "metadata", "annotations", names.ANNOTATION_SPLIT)
    rules = get(route, "spec", "rules") or [{}]
    references = rules[0].get("backendRefs") or []
    kept = all(_sets_cookie(reference) for reference in references)
    return str(arm) if arm and kept and any(reference.get("name") == arm for reference in references) else None


def _sets_cookie(reference: Live) -> bool:
    return any(
        str(header.get("name", "")).lower() == "set-cookie" and f"={reference.get('name')};" in header.get("value", "")
        for entry in reference.get("filters") or ()
        for header in get(entry, "responseHeaderModifier", "add") or ()
    )


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
