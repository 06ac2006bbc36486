"""Which guards and SLIs a ModelDeployment ends up with: its own and those of policies, merged by one rule.

Cluster policies by selector, then policies of the namespace by selector (each by name), then those that the rollout
names, in order, then its own guards. Of guards (and of SLIs) with one name the last counts, whole.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from modelrollout.api.base import clean
from modelrollout.api.errors import InvalidSpec
from modelrollout.api.guard import Guard
from modelrollout.api.modeldeployment import ModelDeployment
from modelrollout.api.rolloutpolicy import PolicySpec, Selector, SliDefinition, parse_policy
from modelrollout.api.rolloutspec import GUARDS_NEEDED, PolicyKind, PolicyReference
from modelrollout.api.status import GUARD_LIMIT

LONGEST_PROBLEM = 500
MOST_TOLD = 5
"""How many labels or policies a sentence lists."""
_READ = ("apiVersion", "kind", "metadata", "spec")
OWN = "spec.rollout.guards"
"""Where a guard comes from that no policy brought."""


@dataclass(frozen=True)
class KnownPolicy:
    """A policy as it was seen. ``namespace`` is empty for a ClusterRolloutPolicy.

    ``spec`` None: it cannot be used, and ``problem`` says why; its selector is kept where that much can be read.
    """

    kind: PolicyKind
    namespace: str
    name: str
    selector: Selector | None
    spec: PolicySpec | None
    problem: str = ""

    @property
    def title(self) -> str:
        """Like ``ClusterRolloutPolicy house-rules``."""
        return f"{self.kind} {self.name}"

    def reaches(self, namespace: str) -> bool:
        """Whether it may be used by ModelDeployments of ``namespace``."""
        return self.kind is PolicyKind.CLUSTER_ROLLOUT_POLICY or self.namespace == namespace

    def selects(self, namespace: str, labels: Mapping[str, str]) -> bool:
        """Whether it applies by itself to a ModelDeployment of ``namespace`` with these labels."""
        if self.selector is None or not self.reaches(namespace):
            return False
        return all(labels.get(name) == value for name, value in self.selector.match_labels.items())


@dataclass(frozen=True)
class Origin:
    """Where the guard of one name comes from: ``source`` is a policy's title or OWN.

    ``selected``: the policy applies by its selector. ``instead_of`` are the sources whose guards of that name it
    takes the place of, first to last. ``definer`` is the policy whose definition of the SLI counts; empty for one of a
    catalog and for a query.
    """

    guard: str
    source: str
    selected: bool = False
    instead_of: tuple[str, ...] = ()
    definer: str = ""


@dataclass(frozen=True)
class Resolution:
    """What comes out for one ModelDeployment.

    ``wish`` has the effective guards in ``spec.rollout.guards``; ``definitions`` are the policies' SLIs that these
    use, ``origins`` has one entry a guard, in order. ``problem`` is the sentence that says why it cannot be used; what
    could be merged is in the other fields all the same. ``guardless``: the only problem is that nothing gives a guard.
    """

    wish: ModelDeployment
    definitions: tuple[SliDefinition, ...] = ()
    origins: tuple[Origin, ...] = ()
    problem: str | None = None
    guardless: bool = False

    def whose(self, guard: str) -> str:
        """Which policies the guard and its SLI are of, in brackets; empty where none has to do with it."""
        for origin in self.origins:
            if origin.guard == guard:
                parts = [f"the guard is of {origin.source}"] if origin.source != OWN else []
                parts += [f"its SLI of {origin.definer}"] if origin.definer not in ("", origin.source) else []
                return f" ({', '.join(parts)})" if parts else ""
        return ""

    def explained(self, problem: str | None) -> str | None:
        """``problem`` of the effective wish, saying of a guard that a policy brought which policy that is."""
        for origin in self.origins:
            if problem and problem.startswith(f"guard {origin.guard}:"):
                return clean(f"{problem}{self.whose(origin.guard)}", LONGEST_PROBLEM)
        return problem


@dataclass
class _Merged:
    """Guards and SLIs so far, in the order in which they count."""

    guards: dict[str, tuple[Guard, Origin]] = field(default_factory=dict)
    definitions: dict[str, tuple[SliDefinition, str]] = field(default_factory=dict)

    def add(self, guards: Iterable[Guard], source: str, *, selected: bool = False) -> None:
        for guard in guards:
            before = self.guards.pop(guard.name, None)
            instead_of = () if before is None else (*before[1].instead_of, before[1].source)
            others = tuple(one for one in dict.fromkeys(instead_of) if one != source)
            self.guards[guard.name] = guard, Origin(guard.name, source, selected, others)

    def define(self, definitions: Iterable[SliDefinition], source: str) -> None:
        for definition in definitions:
            self.definitions[definition.name] = definition, source

    def definer(self, guard: Guard) -> str:
        """The policy that defines the guard's SLI; empty where none does."""
        return self.definitions[guard.sli][1] if guard.sli in self.definitions else ""


def read_policy(raw: Mapping[str, Any]) -> KnownPolicy:
    """A policy as the API server gives it; never raises: what cannot be read is in ``problem``."""
    metadata = raw.get("metadata") or {}
    cluster = raw.get("kind") == PolicyKind.CLUSTER_ROLLOUT_POLICY
    kind = PolicyKind.CLUSTER_ROLLOUT_POLICY if cluster else PolicyKind.ROLLOUT_POLICY
    namespace = "" if cluster else str(metadata.get("namespace") or "default")
    name = str(metadata.get("name") or "")
    try:
        spec = parse_policy({part: raw[part] for part in _READ if part in raw}).spec
    except InvalidSpec as error:
        return KnownPolicy(kind, namespace, name, _selector(raw), None, str(error))
    return KnownPolicy(kind, namespace, name, spec.selector, spec)


def _selector(raw: Mapping[str, Any]) -> Selector | None:
    """The selector of a policy that cannot be used, so that those whom it is for hear of it."""
    spec = raw.get("spec")
    try:
        return Selector.model_validate(spec["selector"]) if isinstance(spec, dict) and "selector" in spec else None
    except ValidationError:
        return None


def resolve(
    wish: ModelDeployment, policies: Iterable[KnownPolicy], denied: frozenset[PolicyKind] = frozenset()
) -> Resolution:
    """What ``wish`` asks for where there are these ``policies``; each may be there once. ``denied`` kinds are unknown.

    ``unguarded: true`` takes no guards at all, also none by selector: whoever writes it means it. A policy is a default
    that an owner may override by name, not a fence.
    """
    rollout, metadata = wish.spec.rollout, wish.metadata
    if rollout.unguarded:
        return Resolution(wish)
    reached = [policy for policy in policies if policy.reaches(metadata.namespace)]
    selected = sorted(
        (policy for policy in reached if policy.selects(metadata.namespace, metadata.labels)),
        key=lambda policy: (policy.kind is not PolicyKind.CLUSTER_ROLLOUT_POLICY, policy.name),
    )
    if not selected and not rollout.policies and rollout.guards:
        return Resolution(wish, origins=tuple(Origin(guard.name, OWN) for guard in rollout.guards))
    known = {(policy.kind, policy.name): policy for policy in reached}
    named = [(reference, known.get((reference.kind, reference.name))) for reference in rollout.policies]
    problems = [_missing(reference, denied, known) for reference, policy in named if policy is None]
    merged = _Merged()
    found = [policy for _, policy in named if policy is not None]
    for policy, by_selector in (*((policy, True) for policy in selected), *((policy, False) for policy in found)):
        if policy.spec is None:
            problems.append(f"{policy.title} cannot be used: {policy.problem}")
            continue
        merged.add(policy.spec.guards, policy.title, selected=by_selector)
        merged.define(policy.spec.slis, policy.title)
    merged.add(rollout.guards, OWN)
    guardless = not merged.guards and not problems
    if guardless and rollout.selected_policies:
        problems.append(_nothing_selected(wish, selected, reached, denied))
    elif guardless:
        problems.append(f"its policies have no guards: {GUARDS_NEEDED}")
    return replace(_resolution(wish, merged, problems), guardless=guardless)


def _nothing_selected(
    wish: ModelDeployment,
    selected: Sequence[KnownPolicy],
    reached: Sequence[KnownPolicy],
    denied: frozenset[PolicyKind],
) -> str:
    """What to do about a ModelDeployment that relies on selectors and gets no guard by them."""
    labels = _listed(f"{name}={value}" for name, value in sorted(wish.metadata.labels.items())) or "none"
    relies = f"rollout.selectedPolicies is true, and no policy gives it a guard by its labels ({labels})"
    unread = "".join(f"; the operator may not read {kind.removesuffix('y')}ies" for kind in sorted(denied))
    if selected:
        others = f"those that take it have none: {_listed(policy.title for policy in selected)}"
        return f"{relies}; {others}{unread}. Give one of them guards, or set rollout.guards"
    reached = sorted(reached, key=lambda policy: (policy.selector is None, policy.kind, policy.name))
    there = _listed(_takes(policy) for policy in reached) or "no policy"
    return (
        f"{relies}: give it labels that a policy's selector takes, name a policy in rollout.policies, or set "
        f"rollout.guards. In reach: {there}{unread}"
    )


def _takes(policy: KnownPolicy) -> str:
    """Whom a policy applies to by itself."""
    if policy.selector is None:
        return f"{policy.title} (no selector, by name only)"
    labels = _listed(f"{name}={value}" for name, value in sorted(policy.selector.match_labels.items()))
    return f"{policy.title} ({labels})"


def _listed(parts: Iterable[str]) -> str:
    """At most MOST_TOLD of them, and how many more there are."""
    everything = list(parts)
    more = f" and {len(everything) - MOST_TOLD} more" if len(everything) > MOST_TOLD else ""
    return f"{', '.join(everything[:MOST_TOLD])}{more}"


def _missing(reference: PolicyReference, denied: frozenset[PolicyKind], known: Iterable[tuple[PolicyKind, str]]) -> str:
    names = f"rollout.policies names {reference.kind} {reference.name}"
    if reference.kind in denied:
        return f"{names}, and the operator may not read that kind: grant it get, list and watch, and restart it"
    other = next((kind for kind, name in known if name == reference.name), None)
    if other is not None:
        return f"{names}, which does not exist here, but there is a {other} of that name: write kind: {other}"
    there = sorted(name for kind, name in known if kind is reference.kind)
    near = difflib.get_close_matches(reference.name, there, n=1)
    return f"{names}, which does not exist here{f'; did you mean {near[0]}?' if near else ''}"


def _resolution(wish: ModelDeployment, merged: _Merged, problems: Sequence[str]) -> Resolution:
    kept = list(merged.guards.values())
    used = {guard.sli for guard, _ in kept}
    problems = [*problems, *_misfits(merged)]
    if len(kept) > GUARD_LIMIT:
        counts = ", ".join(f"{count} of {source}" for source, count in _counts(kept).items())
        problems.append(f"policies and spec make {len(kept)} guards, at most {GUARD_LIMIT} are judged: {counts}")
        # The owner's own are the last, and go before those of policies.
        kept = kept[-GUARD_LIMIT:]
    guards = tuple(guard for guard, _ in kept)
    return Resolution(
        wish if guards == wish.spec.rollout.guards else _with_guards(wish, guards),
        tuple(definition for definition, _ in merged.definitions.values() if definition.name in used),
        tuple(replace(origin, definer=merged.definer(guard)) for guard, origin in kept),
        clean(problems[0], LONGEST_PROBLEM) if problems else None,
    )


def _misfits(merged: _Merged) -> Iterable[str]:
    """Guards that ask more of a policy's SLI than its query can tell."""
    for guard, _ in merged.guards.values():
        definition, source = merged.definitions.get(guard.sli or "", (None, ""))
        if definition is None:
            continue
        if guard.relative_to is not None or guard.confidence is not None:
            yield (
                f"guard {guard.name}: relativeTo and confidence need counts, and {source} defines {definition.name} by "
                "a query: use max or min"
            )
        if guard.min_samples and definition.samples is None:
            yield (
                f"guard {guard.name}: minSamples needs the query `samples`, which {definition.name} of {source} "
                "does not have: add it there, or remove minSamples"
            )


def _counts(kept: Iterable[tuple[Guard, Origin]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for _, origin in kept:
        counts[origin.source] = counts.get(origin.source, 0) + 1
    return counts


def _with_guards(wish: ModelDeployment, guards: tuple[Guard, ...]) -> ModelDeployment:
    rollout = wish.spec.rollout.model_copy(update={"guards": guards})
    return wish.model_copy(update={"spec": wish.spec.model_copy(update={"rollout": rollout})})
