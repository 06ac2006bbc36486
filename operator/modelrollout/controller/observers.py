"""Which namespaces have an observer, and which pods it has, kept from what the cache is given.

Those who ask for observation are woken when it comes, changes or goes: nobody polls.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from modelrollout.controller.cache import Key, namespace_key
from modelrollout.ports import Manifest
from modelrollout.render.names import GRPC_PORT, HTTP_PORT, OBSERVER
from modelrollout.render.reading import get

_PORTS = {HTTP_PORT, GRPC_PORT}


class Observers:
    """Follows the cache. ``wake`` is called with those whose routes have to change."""

    def __init__(self, wake: Callable[[Key], None] = lambda key: None) -> None:
        self._wake = wake
        self._there: dict[str, Manifest] = {}
        self._asking: defaultdict[str, set[Key]] = defaultdict(set)

    def there(self, namespace: str) -> Manifest | None:
        """The Service of the observer (its ``spec``), unless it is being deleted, selects no pods or lacks a port."""
        return self._there.get(namespace)

    def kept(self, key: Key, manifest: Manifest) -> None:
        """Follow an object that is new or changed."""
        kind = manifest["kind"]
        if kind == "ModelDeployment":
            self._ask(key, bool(get(manifest, "spec", "observation")))
        elif kind == "Service" and key == namespace_key(key.namespace) and manifest["metadata"]["name"] == OBSERVER:
            ports = {port.get("port") for port in get(manifest, "spec", "ports") or ()}
            usable = ports >= _PORTS and bool(get(manifest, "spec", "selector"))
            going = bool(get(manifest, "metadata", "deletionTimestamp"))
            self._turn(key.namespace, {"spec": manifest["spec"]} if usable and not going else None)

    def lost(self, key: Key, kind: str, name: str) -> None:
        """Follow an object that is gone."""
        if kind == "ModelDeployment":
            self._ask(key, False)
        elif kind == "Service" and key == namespace_key(key.namespace) and name == OBSERVER:
            self._turn(key.namespace, None)

    def _ask(self, key: Key, asks: bool) -> None:
        if asks:
            self._asking[key.namespace].add(key)
            return
        asking = self._asking.get(key.namespace)
        if asking is not None:
            asking.discard(key)
            if not asking:
                del self._asking[key.namespace]

    def _turn(self, namespace: str, found: Manifest | None) -> None:
        if found == self._there.get(namespace):
            return
        if found is None:
            del self._there[namespace]
        else:
            self._there[namespace] = found
        for key in sorted(self._asking.get(namespace, ())):
            self._wake(key)
