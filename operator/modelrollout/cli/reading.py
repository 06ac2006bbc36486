"""Reads a ModelDeployment with all that belongs to it; what a person may not read is said, not fatal."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from modelrollout.cli.failing import Complaint
from modelrollout.cli.view.snapshot import Children, Snapshot, snapshot
from modelrollout.ports import DeniedError, Manifest, PortError
from modelrollout.render.names import LABEL_DEPLOYMENT

if TYPE_CHECKING:
    from modelrollout.adapters.userclient import UserClient

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
    return snapshot(deployment, children_of(client, name), client.now())


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
