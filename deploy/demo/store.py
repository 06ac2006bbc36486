"""Uploads model repositories to an S3-compatible store."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from obstore.store import S3Store


def open_store(endpoint: str, bucket: str, access_key: str, secret_key: str, region: str = "us-east-1") -> S3Store:
    """The bucket at an endpoint (``http://host:port``), addressed by path."""
    return S3Store(
        bucket,
        endpoint=endpoint,
        access_key_id=access_key,
        secret_access_key=secret_key,
        region=region,
        virtual_hosted_style_request=False,
        client_options={"allow_http": endpoint.startswith("http://"), "timeout": "30s"},
        retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=30)},
    )


def upload(store: S3Store, folder: Path, prefix: str) -> int:
    """Put every file of ``folder`` under ``prefix`` and return how many bytes that were."""
    total = 0
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            store.put(f"{prefix}/{path.relative_to(folder).as_posix()}", content)
            total += len(content)
    return total
