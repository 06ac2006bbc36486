"""What an answer of the API server means: codes and sentences become the errors of ``ports.py``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelrollout.ports import (
    ConflictError,
    DeniedError,
    PortError,
    RejectedError,
    TerminatingError,
    TransientError,
)

_LONGEST = 300
_LONGEST_WAIT = 300.0
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_NOT_ALLOWED = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>\S+) resource "(?P<resource>[^"]*)"'
    r' in API group "(?P<group>[^"]*)"(?: in the namespace "(?P<namespace>[^"]*)")?'
)


@dataclass(frozen=True)
class Call:
    """One request, as people speak of it: ``verb`` is apply, create, delete, get, update."""

    verb: str
    kind: str
    namespace: str
    name: str

    @property
    def what(self) -> str:
        """Such as ``apply Service demo/digits-0123456789``."""
        return f"{self.verb} {self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True)
class Failure:
    """An answer that is not 2xx. ``status`` is the decoded Status object; empty when the body was no JSON."""

    code: int
    status: Mapping[str, Any]
    text: str
    retry_after: float | None

    @classmethod
    def read(cls, code: int, body: bytes, headers: Mapping[str, str]) -> Failure:
        """Make one of an answer; any body at all is taken."""
        text = body[:65536].decode("utf-8", "replace")
        try:
            decoded = json.loads(text)
        except ValueError:
            decoded = None
        status = decoded if isinstance(decoded, dict) and decoded.get("kind") == "Status" else {}
        wait = _seconds(headers.get("Retry-After"))
        if wait is None:
            wait = _seconds(_details(status).get("retryAfterSeconds"))
        message = status.get("message")
        return cls(code, status, message if isinstance(message, str) and message else text, wait)

    @property
    def reason(self) -> str:
        """The Status's machine-readable reason, such as ``Conflict``; may be empty."""
        return str(self.status.get("reason") or "")

    def causes(self) -> list[tuple[str, str]]:
        """Pairs (type or reason, field) of the Status's causes."""
        causes = _details(self.status).get("causes")
        if not isinstance(causes, list):
            return []
        return [
            (str(cause.get("type") or cause.get("reason") or ""), str(cause.get("field") or ""))
            for cause in causes
            if isinstance(cause, dict)
        ]


def one_line(text: str, longest: int = _LONGEST) -> str:
    """Make foreign text safe for a status or an event: one line, no control characters, bounded."""
    line = " ".join(_UNPRINTABLE.sub(" ", text).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def convert(call: Call, failure: Failure) -> PortError:
    """Return the port's error for a failed call."""
    said = one_line(failure.text) or f"HTTP {failure.code}"
    match failure.code:
        case 401:
            return TransientError(f"{call.what}: the API server refuses our credentials, newly read ones too")
        case 403:
            return _forbidden(call, failure, said)
        case 404:
            return _not_found(call, failure)
        case 409:
            return ConflictError(f"{call.what}: {said}")
        case 422 if any(field == "metadata.uid" for _, field in failure.causes()):
            # The precondition on the uid, as server-side apply words it for an object that exists.
            return ConflictError(f"{call.what}: another object has taken this name since it was read")
        case 400 | 413 | 415 | 422:
            return RejectedError(f"{call.what}: refused: {said}")
        case 429:
            return TransientError(f"{call.what}: the API server is busy: {said}", failure.retry_after or 1.0)
        case code if code >= 500 or code == 408:
            return TransientError(f"{call.what}: HTTP {code}: {said}", failure.retry_after)
        case code:
            return TransientError(f"{call.what}: unexpected HTTP {code}: {said}")


def _forbidden(call: Call, failure: Failure, said: str) -> PortError:
    if any(kind == "NamespaceTerminating" for kind, _ in failure.causes()):
        return TerminatingError(f"{call.what}: namespace {call.namespace} is being deleted")
    if match := _NOT_ALLOWED.search(failure.text):
        what = f"{match['verb']} {match['resource']}" + (f".{match['group']}" if match["group"] else "")
        where = f" in namespace {match['namespace']}" if match["namespace"] else ""
        return DeniedError(one_line(f"not allowed to {what}{where}: grant it to {match['user']}"))
    # Admission (a policy, a quota, Pod Security) has the same code; only its own words say what to change.
    return DeniedError(f"{call.what}: denied: {said}")


def _not_found(call: Call, failure: Failure) -> PortError:
    if failure.reason == "NotFound" and _details(failure.status).get("name"):
        return ConflictError(f"{call.what}: not there any more: {one_line(failure.text)}")
    # Plain text instead of a Status: the path itself is unknown, so the kind is not served.
    return TransientError(f"{call.what}: the API server does not know {call.kind}: is its CRD installed?", 5.0)


def _details(status: Mapping[str, Any]) -> Mapping[str, Any]:
    details = status.get("details")
    return details if isinstance(details, dict) else {}


def _seconds(value: object) -> float | None:
    """Read a Retry-After; dates and nonsense count as not given, absurd waits are cut."""
    try:
        seconds = float(str(value))
    except ValueError:
        return None
    return min(seconds, _LONGEST_WAIT) if seconds >= 0 else None
