"""S3-compatible object stores through obstore: list and read, each failure as one sentence and a kind.

Only `modelrollout fetch` uses it, in the init container of a model's pods; the operator itself never does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

import obstore
from obstore.exceptions import BaseError, InvalidPathError, PreconditionError
from obstore.store import S3Store

from modelrollout.api.base import clean

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult

CHUNK_BYTES = 4 * 1024 * 1024


class Failure(StrEnum):
    """Why a fetch failed; the command line has an exit code for each."""

    DENIED = "denied"
    MISSING = "missing"
    EMPTY = "empty"
    NO_SPACE = "no space"
    UNSAFE = "unsafe"
    CHANGED = "changed"
    UNREACHABLE = "unreachable"
    REFUSED = "refused"


class FetchError(Exception):
    """A fetch failed; the message is one sentence. Only UNREACHABLE may go away by itself."""

    def __init__(self, failure: Failure, message: str) -> None:
        super().__init__(clean(message, 600))
        self.failure = failure


@dataclass(frozen=True)
class StoredObject:
    """One object of a listing; ``size`` in bytes, ``etag`` names this very content where the store gives one."""

    key: str
    size: int
    etag: str | None = None


class ObjectStore(Protocol):
    """What fetching needs of a store. Both raise FetchError."""

    def list(self, prefix: str) -> list[StoredObject]:
        """All objects below ``prefix`` (a whole path, without slashes at its ends)."""

    def read(self, stored: StoredObject, offset: int) -> Iterator[bytes]:
        """The content from byte ``offset`` on; fails with CHANGED if it is not the listed content any more."""


class S3ObjectStore:
    """One bucket. Without AWS_ACCESS_KEY_ID in ``credentials`` it is read anonymously."""

    def __init__(self, bucket: str, endpoint: str | None, region: str | None, credentials: Mapping[str, str]) -> None:
        self._bucket = bucket
        self._where = endpoint or "the store"
        config: dict[str, Any] = {
            "region": region or "us-east-1",
            "virtual_hosted_style_request": endpoint is None,
            # Nothing listens there in a pod, or worse, a cloud's metadata service does.
            "imdsv1_fallback": False,
        }
        if endpoint:
            config["endpoint"] = endpoint
        if credentials.get("AWS_ACCESS_KEY_ID"):
            config["access_key_id"] = credentials["AWS_ACCESS_KEY_ID"]
            config["secret_access_key"] = credentials.get("AWS_SECRET_ACCESS_KEY", "")
            if credentials.get("AWS_SESSION_TOKEN"):
                config["session_token"] = credentials["AWS_SESSION_TOKEN"]
        else:
            config["skip_signature"] = True
        self._signed = "access_key_id" in config
        with self._converted(f"use bucket {bucket}"):
            self._store = S3Store(
                bucket,
                **config,
                client_options={
                    "allow_http": (endpoint or "").startswith("http://"),
                    "connect_timeout": timedelta(seconds=10),
                    "read_timeout": timedelta(seconds=30),
                    # The default of 30 s is for the whole answer: it would cut every large file.
                    "timeout": timedelta(hours=24),
                },
                # Tries are counted and shown by the download, which also goes on where a read broke off.
                retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=1)},
            )

    def list(self, prefix: str) -> list[StoredObject]:
        """All objects below ``prefix``."""
        with self._converted(f"list {prefix}"):
            return [
                StoredObject(key=entry["path"], size=entry["size"], etag=entry["e_tag"])
                for page in obstore.list(self._store, prefix)
                for entry in page
            ]

    def read(self, stored: StoredObject, offset: int) -> Iterator[bytes]:
        """The content of ``stored`` from byte ``offset`` on, in chunks of some MiB."""
        with self._converted(f"read {stored.key}"):
            answer, skipped = self._opened(stored, offset)
            # Stores that know no If-Match answer with whatever is there now.
            if stored.etag and answer.meta["e_tag"] and _quoted(answer.meta["e_tag"]) != _quoted(stored.etag):
                raise FetchError(Failure.CHANGED, f"{stored.key} was changed while it was fetched")
            for chunk in answer.stream(min_chunk_size=CHUNK_BYTES):
                content = bytes(chunk)
                drop = min(skipped, len(content))
                skipped -= drop
                if len(content) > drop:
                    yield content[drop:]

    def _opened(self, stored: StoredObject, offset: int) -> tuple[GetResult, int]:
        """The answer, and how many of its first bytes are to be dropped."""
        options: GetOptions = {"if_match": _quoted(stored.etag)} if stored.etag else {}
        if not offset:
            return obstore.get(self._store, stored.key, options=options), 0
        try:
            ranged: GetOptions = {**options, "range": {"offset": offset}}
            return obstore.get(self._store, stored.key, options=ranged), 0
        except BaseError as error:
            # `rclone serve s3` is one that does not keep to ranges.
            if "non-partial response" not in str(error):
                raise
            return obstore.get(self._store, stored.key, options=options), offset

    @contextmanager
    def _converted(self, doing: str) -> Iterator[None]:
        try:
            yield
        except PreconditionError as error:
            raise FetchError(Failure.CHANGED, f"cannot {doing}: it was changed while it was fetched") from error
        except InvalidPathError as error:
            said = str(error).splitlines()[0]
            raise FetchError(Failure.UNSAFE, f"bucket {self._bucket} has a key that is no path: {said}") from error
        except FileNotFoundError as error:
            raise FetchError(Failure.CHANGED, f"cannot {doing}: it is not there any more") from error
        except (BaseError, ValueError, OSError) as error:
            raise self._explained(doing, str(error)) from error

    def _explained(self, doing: str, text: str) -> FetchError:
        """Read status and S3's own code out of the library's text: it has no fields for them."""
        status = re.search(r"status code: (\d{3})", text)
        code = re.search(r"<Code>([A-Za-z]{1,64})</Code>", text)
        said = code.group(1) if code else f"HTTP {status.group(1)}" if status else ""
        if said == "NoSuchBucket":
            return FetchError(Failure.MISSING, f"there is no bucket {self._bucket} at {self._where}")
        # Some stores answer an unsigned request with 400 where others say 403.
        denials = ("401", "403") if self._signed else ("400", "401", "403")
        if (status and status.group(1) in denials) or said in ("ExpiredToken", "InvalidToken"):
            how = "with these credentials" if self._signed else "anonymously (spec.model.source names no secretRef)"
            return FetchError(Failure.DENIED, f"{self._where} does not allow to {doing} {how}: {said}")
        if "without LOCATION" in text or said == "AuthorizationHeaderMalformed":
            return FetchError(Failure.REFUSED, f"cannot {doing}: bucket {self._bucket} is in another region")
        if status and status.group(1)[0] == "4" and status.group(1) not in ("408", "429"):
            return FetchError(Failure.REFUSED, f"{self._where} refuses to {doing}: {said}")
        reason = said or "no answer, or it broke off"
        return FetchError(Failure.UNREACHABLE, f"cannot {doing} at {self._where}: {reason}")


def _quoted(etag: str) -> str:
    """Listings of some stores leave the quotes out that If-Match must have."""
    return etag if etag.endswith('"') else f'"{etag}"'
