"""Packed bodies (Content-Encoding), taken apart within a bound: a bomb costs no more than a body of that size."""

from __future__ import annotations

import zlib

_PLAIN = frozenset(("", "identity"))
# Either head is understood: clients write zlib's and gzip's under both names.
_ANY_HEAD, _NO_HEAD = 47, -15
_MOST_MEMBERS = 64


class PackedError(ValueError):
    """The body cannot be taken apart: another encoding than gzip and deflate, or broken."""


class TooLargeError(ValueError):
    """More comes out than is allowed."""


def is_packed(encoding: str) -> bool:
    """Whether a body with this Content-Encoding is packed."""
    return encoding.strip().lower() not in _PLAIN


def unpacked(body: bytes, encoding: str, most: int) -> bytes:
    """What a body holds. Raises PackedError, and TooLargeError where that is more than ``most`` bytes."""
    kind = encoding.strip().lower()
    if kind in _PLAIN:
        return body
    if kind not in ("gzip", "x-gzip", "deflate"):
        raise PackedError("encoding")
    try:
        return _members(body, _ANY_HEAD, most)
    except PackedError:
        if kind != "deflate":
            raise
        return _members(body, _NO_HEAD, most)


def _members(body: bytes, head: int, most: int) -> bytes:
    made, rest = bytearray(), body
    for _ in range(_MOST_MEMBERS):
        member = zlib.decompressobj(head)
        try:
            made += member.decompress(rest, most - len(made) + 1)
        except zlib.error as error:
            raise PackedError("broken") from error
        if len(made) > most:
            raise TooLargeError
        if not member.eof:
            raise PackedError("broken")
        rest = member.unused_data
        if not rest:
            return bytes(made)
    raise PackedError("members")
