"""Follows a ModelDeployment and what belongs to it by watches, one thread a kind; the views are made of it."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from modelrollout.adapters.userclient import WatchExpired
from modelrollout.cli.reading import CHILD_KINDS, PolicyReader, find, selector
from modelrollout.cli.view.snapshot import Children, Snapshot, snapshot
from modelrollout.ports import DeniedError, Manifest, PortError

if TYPE_CHECKING:
    from modelrollout.adapters.userclient import UserClient

SETTLE = 0.05
"""Seconds in which further changes join the first one: one write of the operator shows as several events."""

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 5.0

MAIN = "ModelDeployment"


class Deleted(Exception):  # noqa: N818 - news, not a failure
    """The ModelDeployment is gone."""


class Following:
    """The state of one ModelDeployment, kept up to date from the moment of its making.

    Raises a Complaint where the ModelDeployment does not exist; later troubles of the connection are in ``trouble``.
    """

    def __init__(self, client: UserClient, name: str) -> None:
        self._client = client
        self._name = name
        self._policies = PolicyReader(client)
        self._main: Manifest | None = find(client, name)
        self._lists: dict[str, dict[str, Manifest] | None] = dict.fromkeys(CHILD_KINDS)
        self._denied: dict[str, str] = {}
        self._troubles: dict[str, str] = {}
        self._read: set[str] = set()
        self._news: queue.SimpleQueue[tuple[str, str, object]] = queue.SimpleQueue()
        for kind in (MAIN, *CHILD_KINDS):
            threading.Thread(target=self._follow, args=(kind,), name=f"watch {kind}", daemon=True).start()
        self.settle()

    @property
    def trouble(self) -> str:
        """What keeps the state from being up to date; empty where nothing does."""
        return next(iter(self._troubles.values()), "")

    def settle(self, within: float = 3.0) -> None:
        """Wait until every kind was read once."""
        until = time.monotonic() + within
        while len(self._read) < 1 + len(CHILD_KINDS) and time.monotonic() < until and not self._troubles:
            self.changed(0.2)

    def changed(self, within: float) -> bool:
        """Wait for news, at most ``within`` seconds, and take in all there are; whether there were any."""
        try:
            self._take(*self._news.get(timeout=max(within, 0.0)))
        except queue.Empty:
            return False
        until = time.monotonic() + SETTLE
        while (left := until - time.monotonic()) > 0:
            try:
                self._take(*self._news.get(timeout=left))
            except queue.Empty:
                break
        return True

    def look(self) -> Snapshot:
        """The state now. Raises Deleted."""
        if self._main is None:
            raise Deleted
        lists = {kind: None if found is None else list(found.values()) for kind, found in self._lists.items()}
        unreadable = tuple(f"{CHILD_KINDS[kind]}: {why}" for kind, why in self._denied.items())
        children = Children(lists["ModelRevision"], lists["Deployment"], lists["Pod"], unreadable)
        return self._policies.applied(snapshot(self._main, children, self._client.now()))

    def _take(self, kind: str, what: str, body: object) -> None:
        if what == "trouble":
            self._troubles[kind] = str(body)
            return
        if what == "denied":
            self._denied[kind] = str(body)
            self._read.add(kind)
            return
        self._troubles.pop(kind, None)
        self._read.add(kind)
        if what == "list" and isinstance(body, list):
            self._put_all(kind, body)
        elif isinstance(body, dict):
            self._put(kind, what, body)

    def _put_all(self, kind: str, items: list[Manifest]) -> None:
        if kind == MAIN:
            self._main = items[0] if items else None
        else:
            self._lists[kind] = {item["metadata"]["name"]: item for item in items}

    def _put(self, kind: str, what: str, item: Manifest) -> None:
        if kind == MAIN:
            self._main = None if what == "DELETED" else item
            return
        known = self._lists[kind]
        known = {} if known is None else known
        if what == "DELETED":
            known.pop(item["metadata"]["name"], None)
        else:
            known[item["metadata"]["name"]] = item
        self._lists[kind] = known

    def _follow(self, kind: str) -> None:
        """List, watch, and again after a pause when either fails; ends with the process."""
        pause = FIRST_PAUSE
        while True:
            try:
                for what, body in self._events(kind):
                    self._news.put((kind, what, body))
                    pause = FIRST_PAUSE
            except WatchExpired:
                time.sleep(FIRST_PAUSE)
            except DeniedError as error:
                self._news.put((kind, "denied", error))
                return
            except PortError as error:
                self._news.put((kind, "trouble", error))
                time.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)

    def _events(self, kind: str) -> Iterator[tuple[str, object]]:
        labels = "" if kind == MAIN else selector(self._name)
        field = f"metadata.name={self._name}" if kind == MAIN else ""
        namespace = self._client.namespace
        items, version = self._client.list_objects(kind, namespace, labels, field)
        yield "list", items
        while True:
            for what, body in self._client.watch(kind, namespace, version, labels, field):
                version = str((body.get("metadata") or {}).get("resourceVersion") or version)
                if what != "BOOKMARK":
                    yield what, body
