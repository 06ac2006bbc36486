"""Checks of what a person gives on the command line, before anything is asked or written."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from modelrollout.cli.exits import Exit
from modelrollout.cli.failing import Complaint

_NAME = re.compile(r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?")
_LONGEST_NAME = 253


def check_name(option: str, name: str) -> None:
    """Raise Complaint unless Kubernetes takes it as the name of an object."""
    if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
        raise Complaint(
            f"{option} {name!r}: give a name as Kubernetes takes it: small letters, digits, '-' and '.'", Exit.USAGE
        )


def check_address(option: str, url: str) -> None:
    """Raise Complaint unless it is an address of HTTP."""
    if not url.startswith(("http://", "https://")):
        raise Complaint(f"{option} {url}: must begin with http:// or https://", Exit.USAGE)
    try:
        parts = urlsplit(url)
        found = bool(parts.hostname) and parts.port != 0 and not re.search(r"[\x00-\x20\x7f]", url)
    except ValueError:
        found = False
    if not found:
        raise Complaint(f"{option} {url!r} is no address: give one like http://127.0.0.1:8080", Exit.USAGE)
