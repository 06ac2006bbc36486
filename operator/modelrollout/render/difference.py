"""Whether a live object already has everything a rendered one asks for, so that a quiet system makes no writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelrollout.api.scalars import quantity

_KEYS: dict[str, tuple[str, ...]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "volumes": ("name",),
    "env": ("name",),
    "imagePullSecrets": ("name",),
    "ownerReferences": ("uid",),
    "volumeMounts": ("mountPath",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "ports": ("name",),
}
"""Lists that server-side apply merges by these keys: others may have added items of their own there."""

_AMOUNTS = ("requests", "limits")
_WHOLE = ("selector",)
"""Maps that are replaced as a whole: one key more finds other pods."""
_OWNED = ("filters", "matches", "headers", "add", "remove", "method")
"""Parts of a route's rules that change what the rule does and that no API server adds by default."""

_SERVER_OWNED = ("resourceVersion", "managedFields", "generation", "creationTimestamp", "status")
_EMPTY: tuple[Any, ...] = (None, "", False, 0, {}, [], ())


def differs(desired: Mapping[str, Any], live: Mapping[str, Any] | None) -> bool:
    """Whether any field of ``desired`` is missing or has another value in ``live``.

    Fields and keyed items only in ``live`` (defaults of the API server, additions of others) do not count, except where
    they change who gets the traffic: a filter or match added to a route, a label added to a selector. What is empty in
    ``desired`` may be absent. Amounts are compared as amounts: ``1000m`` is ``1``.
    """
    if live is None:
        return True
    skipped = {"apiVersion", "kind", "status"}  # items of a list come without the first two
    return any(_differ(value, live.get(key), key) for key, value in desired.items() if key not in skipped)


def _differ(desired: Any, live: Any, key: str) -> bool:
    if key == "rules" and _added(desired, live):
        return True
    if isinstance(desired, Mapping) and isinstance(live, Mapping):
        if key in _WHOLE and len(desired) != len(live):
            return True
        if key in _AMOUNTS:
            return any(_amounts_differ(value, live.get(name)) for name, value in desired.items())
        return any(
            _differ(value, live.get(name), name)
            for name, value in desired.items()
            if not (key == "metadata" and name in _SERVER_OWNED)
        )
    if _is_list(desired) and _is_list(live):
        return _keyed_differ(desired, live, key) if key in _KEYS else _listed_differ(desired, live)
    if key == "sizeLimit":
        return _amounts_differ(desired, live)
    if live is None:
        return not _is_empty(desired)
    return type(desired) is not type(live) or bool(desired != live)


def _added(desired: Any, live: Any) -> bool:
    """Whether a rule in ``live`` does something that ``desired`` does not ask for."""
    if isinstance(desired, Mapping) and isinstance(live, Mapping):
        return any(live.get(name) and not desired.get(name) for name in _OWNED) or any(
            _added(value, live.get(name)) for name, value in desired.items()
        )
    return _is_list(desired) and _is_list(live) and any(map(_added, desired, live))


def _listed_differ(desired: Sequence[Any], live: Sequence[Any]) -> bool:
    return len(desired) != len(live) or any(_differ(one, other, "") for one, other in zip(desired, live, strict=True))


def _keyed_differ(desired: Sequence[Any], live: Sequence[Any], key: str) -> bool:
    def identity(item: Any) -> tuple[Any, ...]:
        return tuple(item.get(part) for part in _KEYS[key])

    found = {identity(item): item for item in live}
    return any(_differ(item, found.get(identity(item)), "") for item in desired)


def _amounts_differ(desired: Any, live: Any) -> bool:
    if desired is None or live is None:
        return desired is not live
    try:
        return quantity(str(desired)) != quantity(str(live))
    except (ValueError, ArithmeticError):
        return str(desired) != str(live)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _is_empty(value: Any) -> bool:
    return any(value is empty or (type(value) is type(empty) and value == empty) for empty in _EMPTY)
