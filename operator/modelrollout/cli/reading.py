"""Reads a ModelDeployment with all that belongs to it; what a person may not read is said, not fatal."""

from __future__ import annotations

import difflib
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from modelrollout.cli.failing import Complaint
from modelrollout.cli.view.snapshot import Children, Snapshot, snapshot
from modelrollout.ports import DeniedError, Manifest, PortError
from modelrollout.render.names import LABEL_DEPLOYMENT

if TYPE_CHECKING:
    from modelrollout.adapters.userclient import UserClient
    from modelrollout.cli.policies import Policies

POLICIES_FOR = 30.0
"""Seconds after which policies are read again while somebody looks on."""

CHILD_KINDS = {"ModelRevision": "its revisions", "Deployment": "its workloads", "Pod": "its pods"}


def selector(name: str) -> str:
    """The label selector that finds the children of a ModelDeployment."""
    return f"{LABEL_DEPLOYMENT}={name}"


def find(client: UserClient, name: str) -> Manifest:
    """The ModelDeployment; raises a Complaint that lists near names where there is none."""
    found = client.get("ModelDeployment", client.namespace, name)
    if found is None:
        raise Complaint(_missing(client, name))
    return found


def look(client: UserClient, name: str) -> Snapshot:
    """The ModelDeployment with all that belongs to it."""
    deployment = find(client, name)
    return PolicyReader(client).applied(snapshot(deployment, children_of(client, name), client.now()))


class PolicyReader:
    """Gives a snapshot the guards that policies bring, where any do; they are read again after a while."""

    def __init__(self, client: UserClient) -> None:
        self._client = client
        self._policies: Policies | None = None
        self._read = 0.0

    def applied(self, found: Snapshot) -> Snapshot:
        """The snapshot with the effective guards, as far as the policies can be read."""
        wish = found.wish
        if wish is None or not _uses_policies(found):
            return found
        # Only here: whoever uses no policies does not wait for the parser of queries to be loaded.
        from modelrollout.cli.policies import applied, in_cluster

        now = time.monotonic()
        if self._policies is None or now - self._read > POLICIES_FOR:
            self._policies, self._read = in_cluster(self._client, found.namespace), now
        resolution, notes = applied(wish, self._policies)
        return replace(
            found,
            wish=resolution.wish,
            definitions=resolution.definitions,
            unreadable=(*found.unreadable, *notes),
        )


def _uses_policies(found: Snapshot) -> bool:
    """Whether it names policies or relies on selectors, or other guards than its own were judged (one takes it)."""
    if found.wish is None:
        return False
    rollout = found.wish.spec.rollout
    own = {guard.name for guard in rollout.guards}
    attempt = found.status.rollout
    judged = attempt.guards if attempt else ()
    return bool(rollout.policies) or rollout.selected_policies or any(guard.name not in own for guard in judged)


def children_of(client: UserClient, name: str) -> Children:
    """What belongs to the ModelDeployment, as far as the person may read it."""
    found: dict[str, list[Manifest] | None] = {}
    unreadable: list[str] = []
    for kind, words in CHILD_KINDS.items():
        try:
            found[kind], _ = client.list_objects(kind, client.namespace, selector(name))
        except DeniedError as error:
            found[kind] = None
            unreadable.append(f"{words}: {error}")
    return Children(found["ModelRevision"], found["Deployment"], found["Pod"], tuple(unreadable))


def _missing(client: UserClient, name: str) -> str:
    """What is there instead: near names here, or the very name in another namespace."""
    sentence = f"there is no ModelDeployment {name} in namespace {client.namespace}"
    try:
        here = sorted(_name(item) for item in client.list_objects("ModelDeployment", client.namespace)[0])
    except PortError:
        return sentence
    if near := difflib.get_close_matches(name, here, n=3, cutoff=0.5):
        return f"{sentence}; did you mean {' or '.join(near)}?"
    try:
        everywhere = client.list_objects("ModelDeployment", None)[0]
    except PortError:
        everywhere = []
    places = sorted(str(item["metadata"]["namespace"]) for item in everywhere if _name(item) == name)
    if places:
        return f"{sentence}; there is one in namespace {' and '.join(places)}: add -n {places[0]}"
    return f"{sentence}; it has {', '.join(here[:10])}" if here else f"{sentence}, which has none at all"


def _name(item: Manifest) -> str:
    return str(item["metadata"]["name"])
