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
    """What makes a ModelDeployment use a policy. ``relies``: its guards must come by selectors."""

    labels: Mapping[str, str]
    named: frozenset[_Name]
    relies: bool


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
        return resolve(wish, self._in_reach(wish.metadata.namespace), self._denied)

    def kept(self, key: Key, manifest: Manifest) -> None:
        """Follow an object that is new or changed."""
        kind = manifest["kind"]
        if kind == "ModelDeployment":
            self._users[key] = _user(manifest)
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
            user = self._users[key]
            if any(_concerns(version, name, key, user) for version in versions) or self._told_of(policy or before, key):
                self._wake(key)

    def _told_of(self, policy: KnownPolicy | None, key: Key) -> bool:
        """Whether the sentence of one that relies on selectors, and is taken by none, lists the policy."""
        if policy is None or not self._users[key].relies or not policy.reaches(key.namespace):
            return False
        labels = self._users[key].labels
        return not any(known.selects(key.namespace, labels) for known in self._in_reach(key.namespace))

    def _in_reach(self, namespace: str) -> list[KnownPolicy]:
        return [policy for place in ("", namespace) for policy in self._known.get(place, {}).values()]


def _concerns(policy: KnownPolicy, name: _Name, key: Key, user: _User) -> bool:
    # Of whichever kind: one that names the other kind is told that there is this one.
    named = any(each == name[1] for _, each in user.named)
    return policy.reaches(key.namespace) and (named or policy.selects(key.namespace, user.labels))


def _user(manifest: Manifest) -> _User:
    spec = manifest.get("spec")
    rollout = spec.get("rollout") if isinstance(spec, dict) else None
    rollout = rollout if isinstance(rollout, dict) else {}
    named = rollout.get("policies")
    references = (
        (str(each.get("kind") or PolicyKind.ROLLOUT_POLICY), str(each.get("name")))
        for each in (named if isinstance(named, list) else ())
        if isinstance(each, dict)
    )
    labels = manifest["metadata"].get("labels") or {}
    return _User(labels, frozenset(references), rollout.get("selectedPolicies") is True)
