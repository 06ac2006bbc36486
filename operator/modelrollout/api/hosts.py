"""Hostnames: the list of one protocol, and when two names can mean the same host, in Python and in CEL."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field

from modelrollout.api.base import SpecModel
from modelrollout.api.rules import ListKey
from modelrollout.api.scalars import Hostname


class Hosts(SpecModel):
    """The names under which one protocol is served."""

    hostnames: Annotated[tuple[Hostname, ...], Field(min_length=1, max_length=16), ListKey()]
    """1 to 16 lower-case DNS names, like ``digits.example.com`` or ``*.digits.example.com``."""


def names_of(hosts: Hosts | None) -> tuple[str, ...]:
    """Its hostnames; none where there are no hosts."""
    return hosts.hostnames if hosts is not None else ()


def meet(ones: Iterable[str], others: Iterable[str]) -> bool:
    """Whether two of the names, each perhaps with a wildcard, can mean the same host."""
    known = tuple(others)
    return any(_meet(one, other) for one in ones for other in known)


def _meet(one: str, other: str) -> bool:
    return (
        one == other
        or (one.startswith("*.") and other.endswith(one[1:]))
        or (other.startswith("*.") and one.endswith(other[1:]))
    )


def apart(one: str, other: str) -> str:
    """CEL: the hosts at these two paths, where both are given, do not ``meet``."""
    return (
        f"(!has({one}) || !has({other}) || !{one}.hostnames.exists(one, {other}.hostnames.exists(other, "
        "one == other || (one.startsWith('*.') && other.endsWith(one.substring(1))) || "
        "(other.startsWith('*.') && one.endsWith(other.substring(1))))))"
    )


def different(one: str, other: str) -> str:
    """CEL: the hosts at these two paths, where both are given, have no name in common."""
    return f"(!has({one}) || !has({other}) || !{one}.hostnames.exists(name, name in {other}.hostnames))"
