"""The API server's audit log: who asked what and when. Exact, and no matter how busy the machine is."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
READS = frozenset({"get", "list"})


@dataclass(frozen=True)
class Request:
    """One request: ``received`` and ``done`` in unix seconds; ``resource`` has its subresource behind a slash."""

    user: str
    agent: str
    verb: str
    resource: str
    namespace: str
    name: str
    path: str
    code: int
    received: float
    done: float

    @property
    def is_lease(self) -> bool:
        """Whether it is about the leader's lease, which is renewed whether or not there is work."""
        return self.resource == "leases"


class AuditLog:
    """Reads what was written since it was opened. Bring it along before what is measured begins."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = path.stat().st_size if path.exists() else 0
        self._rest = b""

    def read(self, user: str) -> list[Request]:
        """The requests of ``user`` that were finished (watches: begun or finished) since the last reading."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            content = self._rest + file.read()
            self._offset = file.tell()
        lines = content.split(b"\n")
        self._rest = lines.pop()
        wanted = user.encode()
        return [found for line in lines if wanted in line and (found := _request(json.loads(line))).user == user]


def writes(requests: Iterable[Request], resource: str | None = None) -> list[Request]:
    """Those that write, the lease left out; of one resource only if asked."""
    return [
        each
        for each in requests
        if each.verb in WRITES and not each.is_lease and (resource is None or each.resource == resource)
    ]


def reads(requests: Iterable[Request]) -> list[Request]:
    """Those that get or list, the lease left out."""
    return [each for each in requests if each.verb in READS and not each.is_lease]


def by_kind(requests: Iterable[Request]) -> dict[str, int]:
    """How many of each verb and resource, most first."""
    counts: dict[str, int] = {}
    for each in requests:
        key = f"{each.verb} {each.resource or each.path}"
        counts[key] = counts.get(key, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def _request(event: dict[str, object]) -> Request:
    about = event.get("objectRef")
    reference: dict[str, str] = about if isinstance(about, dict) else {}
    answer, user = event.get("responseStatus"), event.get("user")
    resource = reference.get("resource", "")
    if subresource := reference.get("subresource"):
        resource += f"/{subresource}"
    return Request(
        user=str(user["username"]) if isinstance(user, dict) else "",
        agent=str(event.get("userAgent", "")),
        verb=str(event["verb"]),
        resource=resource,
        namespace=reference.get("namespace", ""),
        name=reference.get("name", ""),
        path=str(event.get("requestURI", "")),
        code=int(answer.get("code", 0)) if isinstance(answer, dict) else 0,
        received=_instant(event["requestReceivedTimestamp"]),
        done=_instant(event["stageTimestamp"]),
    )


def _instant(text: object) -> float:
    return datetime.fromisoformat(str(text)).timestamp()
