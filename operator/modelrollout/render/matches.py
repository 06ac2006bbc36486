"""Which requests a pinned rule takes: by the revision's name, and in an A/B test by rule of the spec and by cookie.

Strongest first: the header x-model-revision, a rule of the spec, the cookie of an earlier answer, the weights. Gateway
API prefers the longer path, then the greater number of headers, whatever the order of the rules. So the cookie is
matched on any path, a rule of the spec on the inference protocol's, and the header also together with each of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from modelrollout.api.strategies import ABTest, ArmMatch
from modelrollout.render import names

Header = tuple[str, str, str]
"""Type (Exact, RegularExpression), name and value, as Gateway API has them."""

_PROTOCOL_PATH = "/v2"
_PROTOCOL_SERVICE = "inference.GRPCInferenceService"
_COOKIE = "Cookie"
_ANY_COOKIE: Header = ("RegularExpression", _COOKIE, ".*")


@dataclass(frozen=True)
class Match:
    """Requests that have all of ``headers``; with ``inference`` only those of the inference protocol."""

    headers: tuple[Header, ...] = ()
    inference: bool = False


EVERY_REQUEST = Match()


def pinned(revision: str, test: ABTest | None, *, leads_to: bool = False) -> tuple[Match, ...]:
    """The requests for ``revision`` alone; in an A/B test ``leads_to`` is the arm that the rules of the spec choose."""
    own: Header = ("Exact", names.REVISION_HEADER, revision)
    if test is None:
        return (Match((own,)),)
    rules = [_rule(match) for match in test.match]
    return (
        Match((own,)),
        Match((_cookie(test.sticky_cookie, revision),)),
        Match((own, _ANY_COOKIE), inference=True),
        *(Match((rule,), inference=True) for rule in rules if leads_to),
        *(Match((own, rule), inference=True) for rule in rules if not leads_to and rule[1] != _COOKIE),
    )


def cookie_for(revision: str, test: ABTest) -> str:
    """The Set-Cookie that keeps a client on ``revision``."""
    return f"{test.sticky_cookie}={revision}; Max-Age={int(test.sticky_for.total_seconds())}; Path=/"


def http_matches(matches: Iterable[Match]) -> list[dict[str, Any]]:
    """As a rule of an HTTPRoute has them."""
    found = []
    for match in matches:
        path = _PROTOCOL_PATH if match.inference else "/"
        found.append({"path": {"type": "PathPrefix", "value": path}, **_headers(match)})
    return found


def grpc_matches(matches: Iterable[Match]) -> list[dict[str, Any]]:
    """As a rule of a GRPCRoute has them: headers are metadata; a client's cookies too, if it sends any (gRPC-Web)."""
    found = []
    for match in matches:
        method = {"method": {"type": "Exact", "service": _PROTOCOL_SERVICE}} if match.inference else {}
        found.append({**method, **_headers(match)})
    return [entry for entry in found if entry]


def _headers(match: Match) -> dict[str, Any]:
    if not match.headers:
        return {}
    return {"headers": [{"type": kind, "name": name, "value": value} for kind, name, value in match.headers]}


def _rule(match: ArmMatch) -> Header:
    if match.header is not None:
        return "Exact", match.header.name, match.header.value
    if match.cookie is not None:
        return _cookie(match.cookie.name, match.cookie.value)
    raise ValueError("a match has neither header nor cookie")


def _cookie(name: str, value: str) -> Header:
    # The anchors are for gateways that search; Envoy compares the whole header.
    pattern = rf"^(.*;\s*)?{re.escape(name)}={re.escape(value)}(\s*;.*)?$"
    return "RegularExpression", _COOKIE, pattern
