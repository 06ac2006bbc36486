"""Which policies there are, and whom a change of one concerns.

Kept from what the cache is given: policies lie in it under the key of their namespace (a ClusterRolloutPolicy under
that of none). Who uses a policy is woken when it comes, changes or goes: nobody polls.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from modelrollout.api.modeldeployment import ModelDeployment
from modelrollout.api.rolloutspec import PolicyKind
from modelrollout.controller.cache import Key
from modelrollout.evidence.policies import KnownPolicy, Resolution, read_policy, resolve
from modelrollout.ports import Manifest

_LOGGER = logging.getLogger(__name__)
_KINDS = frozenset(str(kind) for kind in PolicyKind)

_Name = tuple[str, str]
"""Kind and name of a policy."""


@dataclass(frozen=True)
class _User:
    """What makes a ModelDeployment use a policy."""

    labels: Mapping[str, str]
    named: frozenset[_Name]


class Policies:
    """Follows the cache. ``wake`` is called with those whose guards may change."""

    def __init__(self, wake: Callable[[Key], None] = lambda key: None) -> None:
        self._wake = wake
        self._known: defaultdict[str, dict[_Name, KnownPolicy]] = defaultdict(dict)
        self._users: dict[Key, _User] = {}
        self._denied: frozenset[PolicyKind] = frozenset()

    def deny(self, kind: PolicyKind) -> None:
        """The operator may not read policies of this kind: whoever names one is told so."""
        self._denied |= {kind}

    def resolve(self, wish: ModelDeployment) -> Resolution:
        """The guards and SLIs that ``wish`` ends up with."""
        known = [policy for place in ("", wish.metadata.namespace) for policy in self._known.get(place, {}).values()]
        return resolve(wish, known, self._denied)

    def kept(self, key: Key, manifest: Manifest) -> None:
        """Follow an object that is new or changed."""
        kind = manifest["kind"]
        if kind == "ModelDeployment":
            self._users[key] = _User(manifest["metadata"].get("labels") or {}, frozenset(_named(manifest)))
        elif kind in _KINDS:
            policy = read_policy(manifest)
            self._turn(key.namespace, (kind, manifest["metadata"]["name"]), policy)

    def lost(self, key: Key, kind: str, name: str) -> None:
        """Follow an object that is gone."""
        if kind == "ModelDeployment":
            self._users.pop(key, None)
        elif kind in _KINDS:
            self._turn(key.namespace, (kind, name), None)

    def _turn(self, place: str, name: _Name, policy: KnownPolicy | None) -> None:
        there = self._known[place]
        before = there.get(name)
        if policy == before:
            return
        if policy is None:
            del there[name]
            if not there:
                del self._known[place]
        else:
            there[name] = policy
            if policy.spec is None:
                where = f"{place}/" if place else ""
                _LOGGER.warning("%s %s%s cannot be used: %s", name[0], where, name[1], policy.problem)
        versions = [version for version in (before, policy) if version is not None]
        for key in sorted(self._users):
            if any(_concerns(version, name, key, self._users[key]) for version in versions):
                self._wake(key)


def _concerns(policy: KnownPolicy, name: _Name, key: Key, user: _User) -> bool:
    return policy.reaches(key.namespace) and (name in user.named or policy.selects(key.namespace, user.labels))


def _named(manifest: Manifest) -> list[_Name]:
    spec = manifest.get("spec")
    rollout = spec.get("rollout") if isinstance(spec, dict) else None
    named = rollout.get("policies") if isinstance(rollout, dict) else None
    return [
        (str(each.get("kind") or PolicyKind.ROLLOUT_POLICY), str(each.get("name")))
        for each in (named if isinstance(named, list) else ())
        if isinstance(each, dict)
    ]
