"""Which namespaces have an observer: a copy for a Service that does not exist would fail all users.

Kept from what the cache is given. Those who ask for observation are woken when it comes or goes: nobody polls.
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
        self._there: set[str] = set()
        self._asking: defaultdict[str, set[Key]] = defaultdict(set)

    def there(self, namespace: str) -> bool:
        """Whether the Service of an observer is there, with the ports that copies go to, and is not being deleted."""
        return namespace in self._there

    def kept(self, key: Key, manifest: Manifest) -> None:
        """Follow an object that is new or changed."""
        kind = manifest["kind"]
        if kind == "ModelDeployment":
            self._ask(key, bool(get(manifest, "spec", "observation")))
        elif kind == "Service" and key == namespace_key(key.namespace) and manifest["metadata"]["name"] == OBSERVER:
            ports = {port.get("port") for port in get(manifest, "spec", "ports") or ()}
            self._turn(key.namespace, ports >= _PORTS and not get(manifest, "metadata", "deletionTimestamp"))

    def lost(self, key: Key, kind: str, name: str) -> None:
        """Follow an object that is gone."""
        if kind == "ModelDeployment":
            self._ask(key, False)
        elif kind == "Service" and key == namespace_key(key.namespace) and name == OBSERVER:
            self._turn(key.namespace, False)

    def _ask(self, key: Key, asks: bool) -> None:
        if asks:
            self._asking[key.namespace].add(key)
            return
        asking = self._asking.get(key.namespace)
        if asking is not None:
            asking.discard(key)
            if not asking:
                del self._asking[key.namespace]

    def _turn(self, namespace: str, there: bool) -> None:
        if there is (namespace in self._there):
            return
        if there:
            self._there.add(namespace)
        else:
            self._there.discard(namespace)
        for key in sorted(self._asking.get(namespace, ())):
            self._wake(key)
