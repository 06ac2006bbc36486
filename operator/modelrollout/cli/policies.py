"""Policies as the commands find them, in files and in the cluster, and what a ModelDeployment gets of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from modelrollout.api.errors import InvalidSpec
from modelrollout.api.guard import Guard
from modelrollout.api.modeldeployment import ModelDeployment, parse_modeldeployment
from modelrollout.api.rolloutpolicy import Policy, Selector, SliDefinition, parse_policy
from modelrollout.api.rolloutspec import PolicyKind, PolicyReference
from modelrollout.evidence.check import guards_problem
from modelrollout.evidence.policies import KnownPolicy, Resolution, read_policy, resolve
from modelrollout.ports import PortError

if TYPE_CHECKING:
    from modelrollout.adapters.userclient import UserClient

KINDS = tuple(str(kind) for kind in PolicyKind)


@dataclass(frozen=True)
class Policies:
    """Those that are known, and sentences about what could not be read (``unread`` are the kinds of it)."""

    known: tuple[KnownPolicy, ...] = ()
    unread: frozenset[PolicyKind] = frozenset()
    notes: tuple[str, ...] = ()

    def over(self, others: Policies) -> Policies:
        """These, and of ``others`` those that are not among them: a file goes before the cluster."""
        mine = {(policy.kind, policy.namespace, policy.name) for policy in self.known}
        rest = [policy for policy in others.known if (policy.kind, policy.namespace, policy.name) not in mine]
        return Policies((*self.known, *rest), self.unread | others.unread, (*self.notes, *others.notes))


def is_policy(document: object) -> bool:
    """Whether a document of a file is a policy."""
    return isinstance(document, dict) and document.get("kind") in KINDS


def in_documents(documents: Iterable[object], namespace: str) -> Policies:
    """The policies of files; ``namespace`` is where those go that name none. Of those with one name the last counts."""
    found: dict[tuple[str, str, str], KnownPolicy] = {}
    for document in documents:
        if isinstance(document, dict) and is_policy(document):
            # Whether it is a mapping is checked with the rest of the policy.
            given = document.get("metadata")
            metadata = dict(given) if isinstance(given, dict) else {}
            policy = read_policy(
                {**document, "metadata": {**metadata, "namespace": metadata.get("namespace") or namespace}}
            )
            found[policy.kind, policy.namespace, policy.name] = policy
    return Policies(tuple(found.values()))


def in_cluster(client: UserClient, namespace: str) -> Policies:
    """The policies that reach ``namespace``, as far as this person may read them."""
    found: list[KnownPolicy] = []
    unread, notes = set(), []
    for kind, place in ((PolicyKind.CLUSTER_ROLLOUT_POLICY, None), (PolicyKind.ROLLOUT_POLICY, namespace)):
        try:
            items, _ = client.list_objects(str(kind), place)
        except PortError as error:
            unread.add(kind)
            notes.append(f"guards of {str(kind).removesuffix('y')}ies are not known: {error}")
            continue
        found += (read_policy({**item, "kind": str(kind)}) for item in items)
    return Policies(tuple(found), frozenset(unread), tuple(notes))


def applied(wish: ModelDeployment, policies: Policies) -> tuple[Resolution, tuple[str, ...]]:
    """What ``wish`` gets of ``policies``, and notes on those that it names and nobody could look up."""
    known = {(policy.kind, policy.name) for policy in policies.known if policy.reaches(wish.metadata.namespace)}
    rollout = wish.spec.rollout
    unknown = [
        reference
        for reference in rollout.policies
        if reference.kind in policies.unread and (reference.kind, reference.name) not in known
    ]
    kept = rollout.model_copy(update={"policies": tuple(each for each in rollout.policies if each not in unknown)})
    looked_up = wish.model_copy(update={"spec": wish.spec.model_copy(update={"rollout": kept})}) if unknown else wish
    resolution = resolve(looked_up, policies.known)
    notes = [f"{each.kind} {each.name} is not known here: its guards are left out" for each in unknown]
    if resolution.guardless and rollout.selected_policies and policies.unread:
        notes.append("guards by its labels, on which selectedPolicies relies: no policy that is known here gives any")
    if resolution.guardless and notes:
        resolution = replace(resolution, problem=None)
    return resolution, (*policies.notes, *notes)


def only_from(wish: ModelDeployment, policies: Policies) -> tuple[Resolution, tuple[str, ...]]:
    """What ``wish`` would get of these policies alone: without its own guards, and of those without a selector too."""
    reach = [policy for policy in policies.known if policy.reaches(wish.metadata.namespace)]
    named = tuple(PolicyReference(kind=policy.kind, name=policy.name) for policy in reach if policy.selector is None)
    rollout = wish.spec.rollout.model_copy(update={"guards": (), "policies": named, "unguarded": False})
    bare = wish.model_copy(update={"spec": wish.spec.model_copy(update={"rollout": rollout})})
    resolution = resolve(bare, reach)
    if resolution.wish.spec.rollout.guards:
        return resolution, ()
    return replace(resolution, problem=None), ("no policy of the files has a guard for it",)


def policy_problem(document: Mapping[str, Any]) -> tuple[Policy | None, str | None]:
    """The policy of a document and what is wrong with it: its spec, or a guard or SLI that can never be judged."""
    try:
        policy = parse_policy(document)
    except InvalidSpec as error:
        return None, str(error)
    spec = policy.spec
    for definition in spec.slis:
        problem = _sli_problem(definition.name, spec.slis)
        if problem is not None:
            return policy, problem
    # An SLI may be another policy's: whether it is known shows where both come together.
    judged = [guard for guard in spec.guards if guard.sli is None or _sli_problem(guard.sli, spec.slis) is None]
    example, kind = _example(judged), PolicyKind(policy.kind)
    known = KnownPolicy(kind, example.metadata.namespace, policy.metadata.name, Selector(), spec)
    whole = resolve(example, (known,))
    problem = None if whole.guardless else whole.problem
    return policy, problem or guards_problem(example, definitions=spec.slis)


def unknown_slis(policy: Policy) -> list[str]:
    """Sentences about SLIs of its guards that neither it nor a catalog has: another policy must bring them."""
    named = dict.fromkeys(guard.sli for guard in policy.spec.guards if guard.sli is not None)
    return [problem for name in named if (problem := _sli_problem(name, policy.spec.slis)) is not None]


def _sli_problem(name: str, definitions: tuple[SliDefinition, ...]) -> str | None:
    """Why no guard could use the SLI; None where one can."""
    problem = guards_problem(_example([Guard(name="trial", sli=name, min=0)]), definitions=definitions)
    if problem is None:
        return None
    return f"sli {name}: {problem.removeprefix('guard trial: ').removeprefix(f'the SLI {name} of a policy: ')}"


def _example(guards: Sequence[Guard]) -> ModelDeployment:
    """A ModelDeployment that any guard can be about: both protocols, a canary, observed."""
    wish = parse_modeldeployment(
        {
            "metadata": {"name": "example", "namespace": "example"},
            "spec": {
                "model": {"version": "1.0.0", "source": {"uri": "pvc://example/example"}},
                "traffic": {
                    "gateway": {"name": "example"},
                    "http": {"hostnames": ["example.example"]},
                    "grpc": {"hostnames": ["grpc.example"]},
                },
                "observation": {"profile": {"parameter": "profile"}, "comparison": {}, "labels": {}},
                "rollout": {"unguarded": True},
            },
        }
    )
    rollout = wish.spec.rollout.model_copy(update={"unguarded": False, "guards": tuple(guards)})
    return wish.model_copy(update={"spec": wish.spec.model_copy(update={"rollout": rollout})})
